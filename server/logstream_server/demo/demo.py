"""`logstream demo`: writes a lively log in a temporary folder and serves it, until Ctrl-C; then all of it is gone."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from logstream_server.commandline.forms import NamedPath
from logstream_server.settings import LogLevel, Settings

from .demooptions import DemoOptions
from .lively import event

_GREETING: Final = """\
logstream demo: writing {log}, {rate} events a second
  open the address below in a browser, or follow it from another terminal:
    logstream tail {address}
  Ctrl-C ends the demo
"""
_FIRST_EVENTS: Final = 30
"""What the first viewer finds there already."""


def run_demo(options: DemoOptions) -> int:
    """Run `logstream demo` to its exit status; raises LogstreamError, OSError."""
    folder = Path(tempfile.mkdtemp(prefix="logstream-demo-"))
    stop = threading.Event()
    writer = threading.Thread(target=write_lively, args=(folder / "app.log", options, stop), daemon=True)
    try:
        from logstream_server.server import run  # noqa: PLC0415 - what serves takes half a second to load; `--help` does not need it

        settings = Settings(paths=(NamedPath(str(folder / "app.log")),), port=options.port, log_level=LogLevel.WARNING)
        writer.start()
        return run(settings, greet=partial(_greet, folder / "app.log", options.rate))
    finally:
        stop.set()
        if writer.is_alive():
            writer.join()
        if options.keep:
            sys.stderr.write(f"logstream: the log is in {folder}\n")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _greet(log: Path, rate: int, address: str) -> None:
    """Say what to do, once there is an address: a port that is taken has none, and port 0 is known only now."""
    sys.stderr.write(_GREETING.format(log=log, rate=rate, address=address))


def write_lively(path: Path, options: DemoOptions, stop: threading.Event) -> None:
    """Append events at an even rate, and rotate now and then, until told to stop."""
    chance = Random()  # noqa: S311 - what is in the log of a demo
    start, count = time.monotonic(), 0
    file = path.open("a")
    try:
        while not stop.wait(max(0.0, start + (count - _FIRST_EVENTS) / options.rate - time.monotonic())):
            file.write(event(chance, datetime.now().astimezone()))
            file.flush()
            count += 1
            if count % options.rotate_after == 0:
                file.close()
                path.replace(path.with_name(path.name + ".1"))
                file = path.open("a")
    finally:
        file.close()
