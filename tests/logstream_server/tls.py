"""A certificate, and TLS before a server that has none itself, as a proxy or an ingress brings it."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def make_certificate(folder: Path) -> Path:
    """Of 127.0.0.1, signed by itself; with its key in the same file."""
    path = folder / "both.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", path, "-out", f"{path}.crt"]
    rest = ["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*words, *rest], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@contextmanager
def terminating(certificate: Path, port: int) -> Iterator[int]:
    """TLS before a server: each connection is decrypted and passed on. Gives its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    opened: list[socket.socket] = []

    def copy(read: Callable[[int], bytes], write: Callable[[bytes], None]) -> None:
        try:
            while data := read(65536):
                write(data)
        except OSError:
            pass

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
                outside = context.wrap_socket(plain, server_side=True)
            except ssl.SSLError:
                continue
            except OSError:
                return
            inside = socket.create_connection(("127.0.0.1", port))
            opened.extend((outside, inside))
            for ends in ((outside.recv, inside.sendall), (inside.recv, outside.sendall)):
                threading.Thread(target=copy, args=ends, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    for each in opened:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
