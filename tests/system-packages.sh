#!/usr/bin/env bash
# Sees to the system packages that some tests need, and is silent when they are there. `make test` runs it first.
#
# Where it can (root and apt) it installs what is missing, else it says by name what that is. It never fails: the tests
# that need a missing package say so themselves, as skips, or as failures where LOGSTREAM_TEST_REQUIRE=all.
#
# Usage: tests/system-packages.sh
#        tests/system-packages.sh --install PACKAGE...   install these now, fail if that fails
set -euo pipefail

# A command that each package brings.
declare -A command_of=(
    [bindfs]=bindfs      # a FUSE file system that the tests put under a log file, to hang and kill it
    [chromium]=chromium  # the browser in which the tests open the page
    [fuse3]=fusermount3  # unmounts it
    [curl]=curl          # runs the commands that docs/rest.md shows
    [nginx-light]=nginx  # stands between the server and clients, as an ingress does
    [man-db]=man         # shows the manual page
    [mandoc]=mandoc      # finds mistakes in it
    [nodejs]=node        # runs the clients in JavaScript that docs/protocol.md and docs/rest.md show
    [zsh]=zsh            # completes our commands
)

install() {
    # Lists on a fresh machine are absent or old: fetch them only when they turn out to be.
    apt-get install -qq --yes --no-install-recommends "$@" 2>/dev/null ||
        { apt-get update -qq && apt-get install -qq --yes --no-install-recommends "$@"; }
}

export DEBIAN_FRONTEND=noninteractive
if [ "${1:-}" = --install ]; then
    shift
    install "$@" >/dev/null
    exit
fi

missing=()
for package in "${!command_of[@]}"; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${command_of[$package]}" >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "tests: installing ${missing[*]}" >&2
    if install "${missing[@]}" >/dev/null; then
        exit 0
    fi
fi
echo "tests: some tests need these system packages, which are not installed: ${missing[*]}" >&2
echo "tests: as root: apt-get install ${missing[*]}" >&2
