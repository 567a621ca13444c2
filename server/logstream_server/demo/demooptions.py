"""What `logstream demo` can be told, as one frozen value; see `settings`, which does the same for `serve`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from logstream_server.commandline.forms import whole
from logstream_server.commandline.options import option, read_arguments, switch


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Everything that `demo` can be told."""

    port: int = option("-p, --port", whole("PORT", 0, 65535), 8080, "port to listen on; 0: any that is free")
    rate: int = option("--rate", whole("N", 1, 10_000), 5, "events a second; some have several lines")
    rotate_after: int = option(
        "--rotate-after",
        whole("N", 1, 1_000_000),
        300,
        "rotate the log after so many events: app.log becomes app.log.1",
    )
    keep: bool = switch("--keep", "leave the log where it is at the end, and say where")

    @classmethod
    def from_argv(cls, argv: Sequence[str]) -> DemoOptions:
        """Read the arguments; SettingsError names all faults."""
        return read_arguments(cls, argv)
