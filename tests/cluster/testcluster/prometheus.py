"""A Prometheus of the machine that scrapes the cluster's pods by their annotations, as most are set up to.

Debian's, of which only the program is taken: the package as a whole would start a service of its own. It is built
without the discovery of pods, so that is done here, by the rules that everybody copies.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from typing import Any

import yaml

from testcluster import settings
from testcluster.commands import run, say, wait_for
from testcluster.errors import CommandFailed

SCRAPE_EVERY = "2s"
ANNOTATION = "prometheus.io/"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs, by its HTTP API (prometheus.io/docs/prometheus/latest/querying/api)."""

    url: str
    targets: Path
    """The file that names what it scrapes."""

    def discover(self, pods: list[Any]) -> None:
        """Scrape those of these pods that ask for it, and no others, from now on."""
        found = [target for pod in pods if (target := _target(pod))]
        part = self.targets.with_suffix(".part")
        part.write_text(json.dumps(found))
        part.rename(self.targets)

    def get(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer. Raises OSError, with the server's words for a bad query."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:  # noqa: S310 - loopback
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise OSError(f"{parameters}: {error.read().decode()}") from error

    def ask(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series that an expression gives now."""
        found = self.get("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]


@contextmanager
def prometheus(cache: settings.Cache, rules: list[Any]) -> Iterator[Prometheus]:
    """Scrapes what it is told to, and keeps `rules` in mind, until the block ends."""
    program = _program(cache)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "logstream", "rules": rules}]}))
        (folder / "prometheus.yml").write_text(yaml.safe_dump(_config(folder)))
        words = [str(program), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        with (folder / "log").open("w") as log:
            process = Popen([*words, f"--web.listen-address={address}"], stdin=DEVNULL, stdout=log, stderr=STDOUT)
        try:
            running = Prometheus(f"http://{address}", folder / "targets.json")
            said = (folder / "log").read_text
            wait_for("Prometheus", lambda: _is_there(process, running, said()), timeout_s=30)
            yield running
        finally:
            process.kill()
            process.wait()


def _is_there(process: Popen[bytes], running: Prometheus, said: str) -> bool:
    assert process.poll() is None, said
    return bool(running.get("status/runtimeinfo"))


def _config(folder: Path) -> dict[str, Any]:
    job = {"job_name": "pods", "file_sd_configs": [{"files": [str(folder / "targets.json")], "refresh_interval": "1s"}]}
    every = {"scrape_interval": SCRAPE_EVERY, "scrape_timeout": SCRAPE_EVERY, "evaluation_interval": SCRAPE_EVERY}
    return {"global": every, "rule_files": [str(folder / "rules.yml")], "scrape_configs": [job]}


def _target(pod: Any) -> dict[str, Any] | None:
    """Where a pod says that its metrics are, with the labels that its series get; None where it does not want to."""
    metadata, address = pod["metadata"], pod["status"].get("podIP")
    annotations = metadata.get("annotations") or {}
    if annotations.get(f"{ANNOTATION}scrape") != "true" or not address:
        return None
    labels = {
        "__metrics_path__": annotations[f"{ANNOTATION}path"],
        "namespace": metadata["namespace"],
        "pod": metadata["name"],
    }
    return {"targets": [f"{address}:{annotations[f'{ANNOTATION}port']}"], "labels": labels}


def _program(cache: settings.Cache) -> Path:
    folder = cache.tools / "prometheus-debian12"
    program = folder / "usr" / "bin" / "prometheus"
    if program.exists():
        return program
    say("fetching Debian's Prometheus")
    cache.tools.mkdir(parents=True, exist_ok=True)
    made = folder.with_name(f"{folder.name}.part-{os.getpid()}")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    _download("prometheus", made)
    run(["dpkg-deb", "--extract", *made.glob("*.deb"), made])
    with suppress(OSError):  # another run was quicker
        made.rename(folder)
    return program


def _download(package: str, folder: Path) -> None:
    command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]
    try:
        run(command, cwd=folder)
    except CommandFailed:  # the lists are absent or old
        run(["apt-get", "-qq", "update"])
        run(command, cwd=folder)
