"""Builds Kubernetes and its neighbours, once, with the machine's Go.

Each folder of tests/cluster/tools is a Go module whose `tool` directives name the programs to build from the modules it
pins. What comes out goes to the cache, in a folder named by a hash of go.mod, go.sum, the way of building and Go's
version: a change of one builds that one anew. Go's own caches, which grow to some 9 GB, are in our cache too and are
removed once everything is built.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testcluster import settings
from testcluster.commands import run, say
from testcluster.errors import CommandFailed, Unsuitable

TOOLS = settings.FOLDER / "tools"
RECIPE = "1"
"""Raised when this module builds or copies differently, so that caches of before are not taken."""


@dataclass(frozen=True, slots=True)
class Group:
    """The programs of one go.mod.

    Attributes:
        folder: its folder below tests/cluster/tools.
        renamed: programs whose package is not called like the program.
        version_of: the required module whose version the programs report.
        version_in: the variables that the linker sets to that version.
        linked: further variables that the linker sets.
        kept: files of that module that are needed beside the programs.
    """

    folder: str
    version_of: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    version_in: tuple[str, ...] = ()
    linked: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()


GROUPS = (
    Group(
        "kubernetes",
        version_of="k8s.io/kubernetes",
        # Without them the API server says that it is v0.0.0, and clients compare versions.
        version_in=("k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"),
        linked={
            f"k8s.io/{package}.{variable}": value
            for package in ("component-base/version", "client-go/pkg/version")
            for variable, value in (("gitMajor", "1"), ("gitMinor", "34"))
        },
    ),
    Group(
        "etcd",
        version_of="go.etcd.io/etcd/server/v3",
        renamed={"go.etcd.io/etcd/server/v3": "etcd"},
    ),
    Group(
        "metrics-server",
        version_of="sigs.k8s.io/metrics-server",
        version_in=("k8s.io/component-base/version.gitVersion",),
        kept=("manifests/base",),
    ),
    Group(
        "ingress-nginx",
        version_of="k8s.io/ingress-nginx",
        renamed={"k8s.io/ingress-nginx/cmd/nginx": "nginx-ingress-controller"},
        version_in=("k8s.io/ingress-nginx/version.RELEASE",),
        kept=("rootfs/etc/nginx", "deploy/static/provider/kind"),
    ),
    Group(
        "helm3",
        version_of="helm.sh/helm/v3",
        renamed={"helm.sh/helm/v3/cmd/helm": "helm3"},
        version_in=("helm.sh/helm/v3/internal/version.version",),
        # What `helm template` takes for the cluster's version where there is no cluster.
        linked={"helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor": "34"},
    ),
    Group(
        "helm4",
        version_of="helm.sh/helm/v4",
        renamed={"helm.sh/helm/v4/cmd/helm": "helm4"},
        version_in=("helm.sh/helm/v4/internal/version.version",),
    ),
    Group("kubeconform", version_of="github.com/yannh/kubeconform"),
    Group("pause", version_of=""),
)


CLIENTS = tuple(group for group in GROUPS if group.folder in {"helm3", "helm4", "kubeconform"})
"""What tests need on top of kubectl where they run on a cluster that is already there."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where each built program is."""

    programs: Mapping[str, Path]
    modules: Mapping[str, Path]
    """The kept files of a group's module, by the group's folder."""

    def __getitem__(self, name: str) -> Path:
        return self.programs[name]

    def link(self, folder: Path) -> None:
        """Makes a folder of links to all programs, to be put on PATH; `helm` is version 3."""
        folder.mkdir(parents=True, exist_ok=True)
        helm = {"helm": self.programs["helm3"]} if "helm3" in self.programs else {}
        for name, path in {**self.programs, **helm}.items():
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(path)


def ensure(cache: settings.Cache, groups: Sequence[Group] = GROUPS) -> Binaries:
    """Builds what the cache does not have, and returns where everything is. Reports as it goes.

    Raises:
        Unsuitable: there is no Go, or too old a one.
        CommandFailed: a build failed; the end of what Go said is in it.
    """
    go = _go_version()
    folders = {group.folder: cache.tools / f"{group.folder}-{_key(group, go)}" for group in groups}
    missing = [group for group in groups if not (folders[group.folder] / "done").exists()]
    if missing:
        _build_all(cache, folders, missing)
    programs = {path.name: path for folder in folders.values() for path in (folder / "bin").iterdir()}
    return Binaries(programs, {group: folder / "module" for group, folder in folders.items()})


def _build_all(cache: settings.Cache, folders: Mapping[str, Path], missing: list[Group]) -> None:
    started = time.monotonic()
    names = ", ".join(group.folder for group in missing)
    say(f"building with Go, once for all clusters to come: {names}")
    if any(group.folder == "kubernetes" for group in missing):
        say("this takes a quarter of an hour of two processors, and 9 GB of disk while it lasts")
    cache.tools.mkdir(parents=True, exist_ok=True)
    for number, group in enumerate(missing, start=1):
        begun = time.monotonic()
        with _heartbeat(f"building {group.folder} ({number} of {len(missing)})"):
            _build(cache, group, folders[group.folder])
        say(f"built {group.folder} in {time.monotonic() - begun:.0f} s")
    for name, folder in folders.items():
        _remove_older(cache, name, folder)
    _remove_go_caches(cache)
    say(f"everything is built, after {time.monotonic() - started:.0f} s")


def _build(cache: settings.Cache, group: Group, folder: Path) -> None:
    """Builds into a folder beside the final one, which appears whole or not at all."""
    made = folder.with_name(f"{folder.name}.part-{os.getpid()}")
    shutil.rmtree(made, ignore_errors=True)
    (made / "bin").mkdir(parents=True)
    env = {
        "GOCACHE": str(cache.go_build),
        "GOMODCACHE": str(cache.go_modules),
        "CGO_ENABLED": "0",
        # Files of the module cache are read-only otherwise, and removing it fails.
        "GOFLAGS": f"{_go_env('GOFLAGS')} -modcacherw".strip(),
    }
    source = TOOLS / group.folder
    module = json.loads(run(["go", "mod", "edit", "-json"], cwd=source))
    build = ["go", "build", "-trimpath", "-ldflags", _linker_flags(group, module)]
    packages = [tool["Path"] for tool in module.get("Tool") or []] or ["."]
    plain = [package for package in packages if package not in group.renamed]
    if plain:
        run([*build, "-o", f"{made / 'bin'}/", *plain], cwd=source, env=env)
    for package, name in group.renamed.items():
        run([*build, "-o", made / "bin" / name, package], cwd=source, env=env)
    for kept in group.kept:
        there = Path(run(["go", "list", "-m", "-f", "{{.Dir}}", group.version_of], cwd=source, env=env).strip())
        shutil.copytree(there / kept, made / "module" / kept)
    (made / "done").touch()
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)


def _linker_flags(group: Group, module: Mapping[str, object]) -> str:
    variables = dict(group.linked)
    if group.version_in:
        required = module["Require"]
        assert isinstance(required, list)
        version = next(each["Version"] for each in required if each["Path"] == group.version_of)
        variables |= dict.fromkeys(group.version_in, version)
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in variables.items())])


def _key(group: Group, go_version: str) -> str:
    digest = hashlib.sha256(f"{RECIPE} {go_version} {group!r}".encode())
    for path in sorted((TOOLS / group.folder).iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _go_version() -> str:
    try:
        return run(["go", "env", "GOVERSION"]).strip()
    except CommandFailed as error:
        raise Unsuitable(
            "Go is not installed, which builds the cluster's programs: install Go 1.26 or newer (https://go.dev/dl/)"
        ) from error


def _go_env(name: str) -> str:
    return run(["go", "env", name]).strip()


def _remove_older(cache: settings.Cache, name: str, current: Path) -> None:
    """What was built from another go.mod and not used for a month: two checkouts may want different ones."""
    now = time.time()
    (current / "done").touch()
    for folder in cache.tools.glob(f"{name}-*"):
        mark = folder / "done"
        if folder != current and (not mark.exists() or now - mark.stat().st_mtime > 30 * 86400):
            shutil.rmtree(folder, ignore_errors=True)


def _remove_go_caches(cache: settings.Cache) -> None:
    shutil.rmtree(cache.go_build, ignore_errors=True)
    shutil.rmtree(cache.go_modules, ignore_errors=True)
    if cache.go_modules.exists():  # made read-only by a Go that was not told otherwise
        run(["go", "clean", "-modcache"], env={"GOMODCACHE": str(cache.go_modules)})


@contextmanager
def _heartbeat(what: str) -> Iterator[None]:
    """Says once a minute that something still goes on: whoever waits, or a CI that watches output, must see it."""
    done = threading.Event()
    started = time.monotonic()

    def tell() -> None:
        while not done.wait(60):
            say(f"{what}: {time.monotonic() - started:.0f} s so far")

    say(what)
    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
