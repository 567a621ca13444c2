"""Images: built with buildah from Dockerfiles, imported into the node's containerd.

buildah's storage is below STATE, so no image outlives the cluster; what is costly and the same each time, the images of
pause and of the ingress controller, is kept in the cache as an archive.
"""

from __future__ import annotations

import configparser
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from testcluster import rootfs, settings
from testcluster.commands import Argument, run, say

PAUSE = "localhost/pause:1"
BASE = "localhost/python-base:1"
"""Stands in for the public Python image. Also a handy image for tests: it has a Python and a shell."""

SERVER = "localhost/logstream-server:dev"
OPERATOR = "localhost/logstream-operator:dev"
"""What `make cluster-images` builds; the tests have tags of their own."""

BUILDS = settings.STATE / "buildah"
TEMPORARY = settings.STATE / "tmp"


def import_base(cache: settings.Cache) -> None:
    """Makes BASE known to buildah, for `FROM`, and to the cluster."""
    root, archive = rootfs.ensure(cache, "python", rootfs.PYTHON), _base_archive(cache)
    if not archive.exists() or archive.stat().st_mtime < root.stat().st_mtime:
        with scratch() as folder:
            shutil.copy(root, folder / "rootfs.tar")
            (folder / "Dockerfile").write_text('FROM scratch\nADD rootfs.tar /\nCMD ["python3"]\n')
            build(BASE, folder / "Dockerfile", folder)
            save(BASE, archive)
    import_archive(archive)


def import_pause(cache: settings.Cache, program: Path) -> None:
    """Makes PAUSE known to the cluster: the container that holds each pod's network open."""
    archive = cache.images / f"{program.parent.parent.name}-image.tar"
    if not archive.exists():
        with scratch() as folder:
            shutil.copy(program, folder / "pause")
            (folder / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nUSER 65535\nENTRYPOINT ["/pause"]\n')
            build(PAUSE, folder / "Dockerfile", folder)
            save(PAUSE, archive)
    import_archive(archive)


def build_project(cache: settings.Cache, tag: str = "dev") -> dict[str, str]:
    """Builds the project's own images from their Dockerfiles, as anybody would, and imports them into the cluster.

    pip in the build gets the machine's own configuration, mounted: nothing of it stays in the image.

    Returns:
        Their names, by `server` and `operator`.
    """
    if BASE not in _known_to_buildah():
        buildah("pull", "--quiet", f"docker-archive:{_base_archive(cache)}")
    names = {part: f"localhost/logstream-{part}:{tag}" for part in ("server", "operator")}
    for part, name in names.items():
        say(f"building {name} from {part}/Dockerfile")
        with scratch() as folder:
            build(
                name,
                settings.REPOSITORY / part / "Dockerfile",
                settings.REPOSITORY,
                arguments={"BASE_IMAGE": BASE},
                volumes=_pip_configuration(folder),
            )
            save(name, folder / "image.tar")
            import_archive(folder / "image.tar")
    return names


def build(
    name: str,
    dockerfile: Path,
    context: Path,
    *,
    arguments: Mapping[str, str] | None = None,
    volumes: Mapping[Path, str] | None = None,
) -> None:
    """Builds an image with buildah. `volumes` are mounted read-only while commands run."""
    buildah(
        "build",
        "--quiet",
        "--layers",
        "--isolation=chroot",  # needs no container runtime of its own
        "--pull=never",
        "--format=docker",
        *(f"--build-arg={key}={value}" for key, value in (arguments or {}).items()),
        *(f"--volume={source}:{target}:ro" for source, target in (volumes or {}).items()),
        f"--tag={name}",
        f"--file={dockerfile}",
        context,
    )


def save(name: str, archive: Path) -> None:
    """Writes an image to a file, which appears whole or not at all."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    part = archive.with_name(f"{archive.stem}.part-{os.getpid()}.tar")
    part.unlink(missing_ok=True)  # buildah does not write over an archive
    buildah("push", "--quiet", "--format=v2s2", name, f"docker-archive:{part}:{name}")
    part.rename(archive)


def import_archive(archive: Path) -> None:
    """Makes the image of an archive known to the node."""
    run(["ctr", "--address", settings.CONTAINERD_SOCKET, "--namespace", "k8s.io", "images", "import", archive])


def buildah(*words: Argument) -> str:
    """Runs buildah on the cluster's own storage."""
    BUILDS.mkdir(parents=True, exist_ok=True)
    TEMPORARY.mkdir(parents=True, exist_ok=True)
    env = {"TMPDIR": str(TEMPORARY), "REGISTRIES_CONFIG_PATH": "/dev/null"}
    storage = [f"--root={BUILDS / 'root'}", f"--runroot={BUILDS / 'run'}", "--storage-driver=overlay"]
    return run(["buildah", *storage, *words], env=env)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of our own, for as long as it is needed."""
    TEMPORARY.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=TEMPORARY) as folder:
        yield Path(folder)


def _base_archive(cache: settings.Cache) -> Path:
    return cache.images / f"{rootfs.ensure(cache, 'python', rootfs.PYTHON).stem}-image.tar"


def _known_to_buildah() -> set[str]:
    return set(buildah("images", "--format", "{{.Name}}:{{.Tag}}").split())


def _pip_configuration(folder: Path) -> dict[Path, str]:
    """What pip on this machine was told, by file and by variable, as one file, with the files and folders it names.

    Returns:
        What to mount, and where.
    """
    mounts: dict[Path, str] = {}
    config = configparser.ConfigParser(interpolation=None)
    for name, value in _pip_settings().items():
        section, _, option = name.partition(".")
        section = "global" if section in {"", ":env:"} else section
        if not config.has_section(section):
            config.add_section(section)
        path = Path(value)
        if path.is_absolute() and path.exists():
            mounts[path] = f"/run/pip/{option}-{path.name}"
        config.set(section, option, mounts.get(path, value))
    file = folder / "pip.conf"
    with file.open("w") as out:
        config.write(out)
    return {**mounts, file: "/etc/pip.conf"}


def _pip_settings() -> dict[str, str]:
    """By `SECTION.OPTION`, what `pip config` knows; variables come last, since they win."""
    lines = run([sys.executable, "-m", "pip", "config", "list"]).splitlines()
    listed = sorted((line for line in lines if "=" in line), key=lambda line: line.startswith(":env:"))
    found = {name: value.strip("'") for name, _, value in (line.partition("=") for line in listed)}
    return {name: value for name, value in found.items() if name.partition(".")[2] != "config-file"}
