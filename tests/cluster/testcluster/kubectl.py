"""kubectl, as the rest of this package and the tests call it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testcluster.commands import environment, run, wait_for
from testcluster.errors import CommandFailed

Manifest = Mapping[str, Any]
"""A Kubernetes object as kubectl reads it from JSON."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """A program and the cluster that it speaks to."""

    program: Path | str
    kubeconfig: Path

    def __call__(self, *words: str | Path, stdin: str | None = None, timeout_s: float = 240) -> str:
        """Runs `kubectl WORDS` and returns what it printed.

        Raises:
            CommandFailed: it refused, or the cluster did.
        """
        command = [self.program, f"--kubeconfig={self.kubeconfig}", *words]
        return run(command, stdin=stdin, timeout_s=timeout_s)

    def apply(self, *manifests: Manifest, namespace: str | None = None) -> None:
        """`kubectl apply` of objects."""
        where = [f"--namespace={namespace}"] if namespace else []
        self("apply", *where, "--filename=-", stdin=as_list(manifests))

    def get(self, *words: str) -> Any:
        """`kubectl get WORDS`, read."""
        return json.loads(self("get", *words, "--output=json"))

    @contextmanager
    def watch(self, *words: str, field: str) -> Iterator[Callable[[], list[str]]]:
        """Every value that a field of an object has meanwhile: the API server tells of each, no look comes too late.

        Args:
            words: as for `get`.
            field: as for `--output=jsonpath`.

        Yields:
            What returns the values so far. It raises CommandFailed where kubectl has ended before its time.
        """
        output = f'--output=jsonpath={field}{{"\\n"}}'
        command = [str(self.program), f"--kubeconfig={self.kubeconfig}", "get", *words, "--watch", output]
        with tempfile.NamedTemporaryFile() as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment())
            ended = False

            def values() -> list[str]:
                said = Path(out.name).read_text()
                if not ended and process.poll() is not None:
                    raise CommandFailed(command, process.returncode, said)
                return said.splitlines()

            try:
                yield values
            finally:
                ended = True
                process.kill()
                process.wait()

    def read(self, file: Path) -> list[dict[str, Any]]:
        """The objects of a YAML file."""
        # One JSON document for each object, one after the other.
        text = self("create", "--dry-run=client", "--output=json", f"--filename={file}")
        objects: list[dict[str, Any]] = []
        decoder, at = json.JSONDecoder(), 0
        while at < len(text):
            found, at = decoder.raw_decode(text, at)
            objects += found["items"] if found["kind"] == "List" else [found]
            at += len(text[at:]) - len(text[at:].lstrip())
        return objects

    def wait_ready(self, what: str, *, namespace: str, selector: str, timeout_s: float) -> None:
        """Waits until pods of that label are there and all are ready."""

        def ready() -> bool:
            pods = self.get("pods", f"--namespace={namespace}", f"--selector={selector}")["items"]
            return bool(pods) and all(is_ready(pod) for pod in pods)

        hint = f"kubectl describe pods --namespace={namespace} --selector={selector}"
        wait_for(f"{what} ready", ready, timeout_s=timeout_s, hint=hint, every_s=0.5)


def as_list(manifests: Iterable[Manifest]) -> str:
    """Several objects as the one JSON document that kubectl takes."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})


def is_ready(resource: Manifest) -> bool:
    """Whether a node or pod says that it is ready."""
    conditions = resource.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
