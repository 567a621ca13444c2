"""What `logstream bench` can be told, as one frozen value; see `settings`, which does the same for `serve`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from logstream_server.client.addresses import SCHEMES, display_url, fault_of
from logstream_server.commandline.forms import Form, one_of, read_header, seconds, text, whole
from logstream_server.commandline.options import Collected, argument, option, read_arguments, repeatable, switch
from logstream_server.encoding.view import Format
from logstream_server.errors import Problem

from .stamps import MIN_LINE_BYTES

_NETWORK: Final = Form("ADDRESS", "an address of this machine, or a network such as 127.0.0.0/8", ip_network)
_HEADER: Final = Form("HEADER", "a header such as 'X-Team: logs'", read_header)


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Everything that `bench` can be told."""

    target: str = argument(text("URL", "a server's address"), "", "the server, such as http://127.0.0.1:8080")
    clients: int = option("-c, --clients", whole("N", 1, 1_000_000), 100, "how many clients", section="Load")
    duration_s: float = option("-d, --duration", seconds(0.1, 86_400), 10.0, "how long, once all are connected")
    ramp_s: float = option(
        "--ramp", seconds(0, 3600), 0.0, "connect them over this time; 0: as fast as they are let in"
    )
    format: Format | None = option("--format", one_of(Format), None, "which mode they ask for [default text]")
    stream: str | None = option("--stream", text("NAME", "a stream's name"), None, "which of the server's streams")
    reconnect_s: float | None = option(
        "--reconnect",
        seconds(0.1, 3600),
        None,
        "each client drops its connection about this often, and goes on at its cursor; needs (and takes) --format json",
    )
    sources: tuple[IPv4Network | IPv6Network, ...] = repeatable(
        "--source-address", _NETWORK, "connect from these; as many of a network as ports are needed"
    )

    write: str | None = option(
        "--write",
        text("FILE", "a file"),
        None,
        "append lines to this file, which the server follows; without it, whatever comes is listened to",
        section="The log",
    )
    rate: int = option("--rate", whole("N", 1, 1_000_000), 100, "lines a second")
    line_bytes: int = option("--size", whole("BYTES", MIN_LINE_BYTES, 1 << 20), 200, "how long each line is")
    settle_s: float = option(
        "--settle", seconds(0, 600), 5.0, "at the end, wait for what is on its way, until nothing has come for so long"
    )

    token_file: str | None = option("--token-file", text("FILE", "a file"), None, "the token for it", "The server")
    headers: tuple[tuple[str, str], ...] = repeatable("--header", _HEADER, "send this header, too")
    ca_file: str | None = option("--ca-file", text("FILE", "a file"), None, "trust the authorities in it (PEM)")
    insecure: bool = switch("--insecure", "accept any certificate")

    json: bool = switch("--json", "print the result as JSON")

    @classmethod
    def from_argv(cls, argv: Sequence[str], use: Callable[[BenchOptions], object] = lambda _: None) -> BenchOptions:
        """Read the arguments; SettingsError names all faults, also those that `use` meets (`options.read_options`)."""
        return read_arguments(cls, argv, _conflicts, use)

    @property
    def mode(self) -> Format:
        """The format that the clients ask for."""
        return self.format or (Format.TEXT if self.reconnect_s is None else Format.JSON)

    @property
    def shown_target(self) -> str:
        """The target without what may be secret."""
        return display_url(self.target)


def _conflicts(options: BenchOptions, given: Collected) -> Iterator[Problem]:
    if not options.target:
        yield Problem("URL", None, "say which server, such as http://127.0.0.1:8080")
    elif options.target.partition("://")[0].lower() not in SCHEMES:
        yield Problem(
            "URL", options.shown_target, f"must begin with one of {', '.join(f'{each}://' for each in SCHEMES)}"
        )
    elif (fault := fault_of(options.target)) is not None:
        yield Problem("URL", options.shown_target, fault)
    if options.reconnect_s is not None and options.mode is not Format.JSON:
        yield Problem("--reconnect", None, f"needs --format json: with {options.mode} a client learns no cursor")
    for name in ("rate", "line_bytes"):
        if options.write is None and name in given.sources:
            yield Problem(given.sources[name], None, "says how to write; say where with --write FILE")
