"""Root file systems for images, made from Debian's packages with the machine's own apt sources.

They stand in for the public base images, which the machine may be unable to reach: the project's Dockerfiles take their
base as an argument. Kept in the cache as archives, since making one takes a minute.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from testcluster import settings
from testcluster.commands import run, say

DAYS = 30  # then everything is made anew, with the updates of the packages

PYTHON = ("python3", "python3-venv", "ca-certificates", "libstdc++6")
"""What Dockerfiles of Python programs expect of their base; the public Python images have these too."""

NGINX = (
    "nginx",
    "libnginx-mod-http-lua",
    "libnginx-mod-http-ndk",
    "libnginx-mod-http-headers-more-filter",
    "libnginx-mod-stream",
    "lua-resty-core",
    "lua-resty-lrucache",
    "lua-cjson",
    "ca-certificates",
)
"""NGINX with the modules that the configuration of the ingress controller uses."""


def prepare(cache: settings.Cache) -> None:
    """Makes all that the cache lacks; takes minutes the first time, and nothing afterwards. Removes what is old."""
    for path in cache.images.glob("*.tar"):
        if time.time() - path.stat().st_mtime > DAYS * 86400:
            path.unlink()
    ensure(cache, "python", PYTHON)
    ensure(cache, "nginx", NGINX)


def ensure(cache: settings.Cache, name: str, packages: Sequence[str]) -> Path:
    """Returns an archive of a minimal Debian 12 with these packages; makes it where the cache has none."""
    key = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:16]
    path = cache.images / f"rootfs-{name}-{key}.tar"
    if path.exists():
        return path
    cache.images.mkdir(parents=True, exist_ok=True)
    say(f"making the {name} root file system from Debian packages, once a month; this takes a minute")
    part = path.with_name(f"{path.stem}.part-{os.getpid()}.tar")
    run(
        ["mmdebstrap", "--mode=root", "--variant=essential", f"--include={','.join(packages)}"]
        + [f"--aptopt={option}" for option in _apt_options()]
        + ["bookworm", str(part), *_apt_sources()]
    )
    part.rename(path)
    return path


def _apt_sources() -> list[str]:
    """The machine's own source files that name this release; others, of third parties, are none of ours."""
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))]
    files += sorted((folder / "sources.list.d").glob("*.sources"))
    return [str(path) for path in files if path.is_file() and "bookworm" in path.read_text() and _is_debian(path)]


def _is_debian(path: Path) -> bool:
    return "debian" in path.read_text().lower()


def _apt_options() -> list[str]:
    """How the machine reaches its mirror: proxies, certificates and what it accepts, as apt.conf(5) has it."""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
    dumped = run(["apt-config", "dump", "--no-empty", "--format", "%F %v%n", "Acquire"]).splitlines()
    options = (line.partition(" ") for line in dumped)
    return [f'{name} "{value}"' for name, _, value in options if name.startswith(wanted) and value]
