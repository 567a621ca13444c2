"""`python -m logstream_operator`: reads the settings, sets the log up, runs the operator."""

from __future__ import annotations

import asyncio
import os
import sys

from .errors import CannotStart, SettingsError
from .journal import configure_log
from .lifecycle import run_operator
from .settings import Settings, render_help

USAGE_STATUS = 2


def main() -> None:
    """The program."""
    argv = sys.argv[1:]
    if "-h" in argv or "--help" in argv:
        sys.stdout.write(render_help())
        return
    try:
        settings = Settings.from_env(os.environ, argv)
    except SettingsError as error:
        sys.stderr.write(f"logstream-operator cannot start:\n{error}\n")
        sys.exit(USAGE_STATUS)
    configure_log(settings.log_format, settings.log_level)
    try:
        asyncio.run(run_operator(settings))
    except CannotStart as error:
        sys.exit(f"logstream-operator cannot start: {error}")


if __name__ == "__main__":
    main()
