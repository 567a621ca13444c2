"""Certificates, made with the openssl command: by an authority of the test's own, or signed by themselves."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)  # noqa: S607 - wherever it is


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def make_certificate(folder: Path) -> Path:
    """Of 127.0.0.1, signed by itself; with its key in the same file."""
    path = folder / "both.pem"
    names = ("-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1")
    _openssl("req", "-x509", *_KEY, "-keyout", path, "-out", f"{path}.crt", "-days", "2", *names)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


class Authority:
    """Whom clients trust (`file`), and who has all certificates signed by another one below it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._issued = 0
        self.file = folder / "root.pem"
        self._make("root", "signed by itself")
        self._make("middle", "root")

    def _make(self, name: str, by: str) -> None:
        """`name.pem` and `name.key`."""
        file, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        words: tuple[str | Path, ...] = ("-addext", "basicConstraints=critical,CA:TRUE")
        if name not in ("root", "middle"):
            words = ("-addext", "basicConstraints=CA:FALSE", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        if name != "root":
            words += ("-CA", self._folder / f"{by}.pem", "-CAkey", self._folder / f"{by}.key")
        subject = ("-subj", f"/CN={name}", "-days", "2")
        _openssl("req", "-x509", *_KEY, "-keyout", key, "-out", file, *subject, *words)

    def issue(self) -> tuple[Path, Path]:
        """A new certificate of 127.0.0.1, with what stands between it and the root, and its key."""
        self._issued += 1
        name = f"server {self._issued}"
        self._make(name, "middle")
        chain, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        chain.write_text(chain.read_text() + (self._folder / "middle.pem").read_text())
        key.chmod(0o600)
        return chain, key

    @property
    def trust(self) -> ssl.SSLContext:
        """For a client."""
        return ssl.create_default_context(cafile=self.file)
