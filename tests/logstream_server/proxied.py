"""NGINX, in front of what a test serves."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .scenarios.harness import free_port

CONFIG = """
daemon off; pid {folder}/nginx.pid; error_log stderr warn; events {{}}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  {before}
  server {{ listen 127.0.0.1:{port}; {server} }}
}}
"""


@contextmanager
def nginx(folder: Path, server: str, before: str = "") -> Iterator[int]:
    """Runs it with what stands in its `server` block, and `before` that; gives the port."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("NGINX is not installed (package nginx)")
    port, config = free_port(), folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, server=server, before=before))
    with (folder / "nginx.err").open("wb") as errors:
        process = subprocess.Popen([program, "-c", str(config), "-p", str(folder)], stderr=errors)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()
