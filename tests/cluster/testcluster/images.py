"""Images: built with buildah from Dockerfiles, imported into the node's containerd.

buildah's storage is below STATE, so no image outlives the cluster; what is costly and the same each time, the images of
pause and of the ingress controller, is kept in the cache as an archive.
"""

from __future__ import annotations

import configparser
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from testcluster import rootfs, settings
from testcluster.commands import Argument, run, say

PAUSE = "localhost/pause:1"
BASE = "localhost/python-base:1"
"""Stands in for the public Python image. Also a handy image for tests: it has a Python and a shell."""

SERVER = "localhost/logstream-server:dev"
OPERATOR = "localhost/logstream-operator:dev"
DOCKERFILES = {SERVER: "server/Dockerfile", OPERATOR: "operator/Dockerfile"}

BUILDS = settings.STATE / "buildah"


def import_base(cache: settings.Cache) -> None:
    """Makes BASE known to buildah, for `FROM`, and to the cluster."""
    archive = cache.images / f"{rootfs.ensure(cache, 'python', rootfs.PYTHON).stem}-image.tar"
    if not archive.exists():
        folder = _empty(settings.STATE / "base")
        shutil.copy(rootfs.ensure(cache, "python", rootfs.PYTHON), folder / "rootfs.tar")
        (folder / "Dockerfile").write_text('FROM scratch\nADD rootfs.tar /\nCMD ["python3"]\n')
        build(BASE, folder / "Dockerfile", folder)
        save(BASE, archive)
        shutil.rmtree(folder)
    import_archive(archive)


def import_pause(cache: settings.Cache, program: Path) -> None:
    """Makes PAUSE known to the cluster: the container that holds each pod's network open."""
    archive = cache.images / f"{program.parent.parent.name}-image.tar"
    if not archive.exists():
        folder = _empty(settings.STATE / "pause")
        shutil.copy(program, folder / "pause")
        (folder / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nUSER 65535\nENTRYPOINT ["/pause"]\n')
        build(PAUSE, folder / "Dockerfile", folder)
        save(PAUSE, archive)
        shutil.rmtree(folder)
    import_archive(archive)


def build_project(cache: settings.Cache, names: Sequence[str] = tuple(DOCKERFILES)) -> None:
    """Builds the project's own images from their Dockerfiles, as anybody would, and imports them into the cluster.

    pip in the build gets the machine's own configuration, mounted: nothing of it stays in the image.
    """
    if BASE not in _known_to_buildah():
        folder = _empty(settings.STATE / "base")
        archive = cache.images / f"{rootfs.ensure(cache, 'python', rootfs.PYTHON).stem}-image.tar"
        buildah("pull", "--quiet", f"docker-archive:{archive}")
        shutil.rmtree(folder)
    for name in names:
        say(f"building {name} from {DOCKERFILES[name]}")
        build(
            name,
            settings.REPOSITORY / DOCKERFILES[name],
            settings.REPOSITORY,
            arguments={"BASE_IMAGE": BASE},
            volumes=_pip_configuration(_empty(settings.STATE / "pip")),
        )
        archive = settings.STATE / "image.tar"
        save(name, archive)
        import_archive(archive)
        archive.unlink()


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
    env = {"TMPDIR": str(_made(settings.STATE / "tmp")), "REGISTRIES_CONFIG_PATH": "/dev/null"}
    storage = [f"--root={BUILDS / 'root'}", f"--runroot={BUILDS / 'run'}", "--storage-driver=overlay"]
    return run(["buildah", *storage, *words], env=env)


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


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return _made(folder)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
