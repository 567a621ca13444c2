"""What `logstream serve` can be told, as one frozen value.

`cli` builds it once, from the environment and the arguments that it is given, and passes them down; nothing else
reads either. A field's help text is its documentation, with its unit; a cross-check between fields stands in
`_conflicts`. What is not here: the mechanics of options (`options`), and anything that needs the machine: whether a
path exists, whether a port is free.

A variable is named like its flag: `--ring-bytes` is LOGSTREAM_RING_BYTES. The chart sets the same names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address, ip_address

from .commandline.forms import (
    BASE_PATH,
    HOST,
    NAMED_PATH,
    NETWORK,
    ORIGIN,
    NamedPath,
    Network,
    one_of,
    or_off,
    seconds,
    show_size,
    size,
    text,
    whole,
)
from .commandline.options import Collected, arguments, option, read_options, repeatable, switch
from .errors import Problem

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
MAX_TAIL_LINES = 1_000_000
"""The most last lines that anyone may ask for: a reader that wants more begins at the start."""


class Watch(StrEnum):
    """How the server learns that a file has grown: AUTO asks the file system's type."""

    AUTO = "auto"
    NOTIFY = "notify"
    POLL = "poll"


class LogFormat(StrEnum):
    """How the server writes its own log, on standard error."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least that the server's own log mentions."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that `serve` can be told. Built directly (in tests), nothing is checked; `from_env` checks all."""

    paths: tuple[NamedPath, ...] = arguments(
        NAMED_PATH,
        "LOGSTREAM_PATHS",
        "files, folders or quoted globs to follow; NAME=PATH gives a stream its name",
        section="Files",
    )
    roots: tuple[str, ...] = repeatable(
        "--root", text("DIR", "a folder"), "serve nothing outside this folder, not even through a symlink"
    )
    ignore: tuple[str, ...] = repeatable(
        "--ignore", text("GLOB", "a glob such as *.bak"), "leave out what matches, in folders and globs"
    )
    watch: Watch = option(
        "--watch", one_of(Watch), Watch.AUTO, "how to see that a file grew; auto: notify on local file systems only"
    )
    poll_interval_s: float = option(
        "--poll-interval", seconds(0.01, 60), 0.25, "how often to look at a file that is polled"
    )
    partial_after_s: float = option(
        "--partial-after", seconds(0, 3600), 5.0, "send a last line without newline after this silence; 0: never"
    )
    rotate_wait_s: float = option(
        "--rotate-wait", seconds(0, 3600), 5.0, "how long a rotated file is still read after its end"
    )
    tail_lines: int = option(
        "--tail", whole("N", 0, MAX_TAIL_LINES), 10, "how many last lines a client gets that does not say"
    )

    host: str = option(
        "--host", HOST, "127.0.0.1", "address to listen on; :: for all, IPv6 and IPv4", section="Listening"
    )
    port: int = option("--port", whole("PORT", 0, 65535), 8080, "port to listen on; 0: any that is free")
    metrics_port: int | None = option(
        "--metrics-port", or_off(whole("PORT", 0, 65535)), None, "serve health and metrics there and not on --port"
    )
    base_path: str = option("--base-path", BASE_PATH, "", "serve everything below this path, for a shared host name")
    tls_cert: str | None = option(
        "--tls-cert",
        or_off(text("FILE", "a file")),
        None,
        "speak TLS on --port, with this certificate and its chain (PEM); renewed files are seen",
    )
    tls_key: str | None = option(
        "--tls-key",
        or_off(text("FILE", "a file")),
        None,
        "the certificate's private key, if it is not in the same file",
    )

    token_files: tuple[str, ...] = repeatable(
        "--token-file", text("FILE", "a file"), "clients need one of the tokens in these files", section="Access"
    )
    allowed_origins: tuple[str, ...] = repeatable(
        "--allowed-origin", ORIGIN, "also let web pages from this origin in; * for any"
    )
    insecure_open: bool = switch("--insecure-open", "serve other machines without a token")
    session_s: float = option(
        "--session", seconds(60, 30 * 24 * 3600), 12 * 3600.0, "how long a browser that has logged in stays so"
    )
    trusted_proxies: tuple[Network, ...] = repeatable(
        "--trusted-proxy", NETWORK, "believe what this proxy says about whom it forwards (X-Forwarded-For)"
    )

    max_line_bytes: int = option(
        "--max-line-bytes", size(64, 64 * MIB), 1 * MIB, "a longer line is cut and marked", section="Limits"
    )
    ring_bytes: int = option("--ring-bytes", size(4 * KIB, 4 * GIB), 4 * MIB, "memory per stream for its newest lines")
    max_clients: int = option("--max-clients", whole("N", 1, 1_000_000), 10_000, "connections at one time")
    max_clients_per_address: int | None = option(
        "--max-clients-per-address",
        or_off(whole("N", 1, 1_000_000)),
        None,
        "connections of one address, or IPv6 network of 64 bits",
    )
    max_handshakes: int = option(
        "--max-handshakes", whole("N", 1, 100_000), 1000, "connections being opened at one time"
    )
    ping_interval_s: float = option("--ping-interval", seconds(0.05, 3600), 20.0, "how often to ping a client")
    ping_timeout_s: float = option(
        "--ping-timeout",
        seconds(0.05, 3600),
        20.0,
        "abort a client that sends no request, or neither answers nor reads, for this long",
    )
    drain_s: float = option(
        "--drain", seconds(0, 3600), 10.0, "at the end, how long clients are asked to leave before they are cut off"
    )

    log_format: LogFormat = option(
        "--log-format", one_of(LogFormat), LogFormat.TEXT, "how it is written", section="The server's own log"
    )
    log_level: LogLevel = option("--log-level", one_of(LogLevel), LogLevel.INFO, "the least that it mentions")

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str],
        argv: Sequence[str],
        use: Callable[[Settings], object] = lambda _: None,
    ) -> Settings:
        """Read the flags in `argv` (after the command), then the variables; SettingsError names all faults, also those
        that `use` meets (`options.read_options`)."""
        return read_options(cls, environ, argv, _conflicts, use)

    @property
    def only_this_machine(self) -> bool:
        """Whether nobody can reach `host` from another machine."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address is the machine's own, by its form alone; a name is only where it must be (RFC 6761, 6.3)."""
    try:
        address = ip_address(host)
    except ValueError:
        name = host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _conflicts(settings: Settings, given: Collected) -> Iterator[Problem]:
    """What is wrong with values that are each well written, or with what is missing."""
    if not settings.paths and not any(problem.name in ("PATH", "LOGSTREAM_PATHS") for problem in given.problems):
        yield Problem("PATH", None, "give at least one file, folder or glob, or set LOGSTREAM_PATHS")
    names = Counter(path.name for path in settings.paths if path.name is not None)
    for name in (name for name, times in names.items() if times > 1):
        yield Problem("PATH", name, "names more than one path; a stream's name must be its own")
    if not (settings.only_this_machine or settings.token_files or settings.insecure_open):
        advice = "other machines can reach this: add --token-file FILE, or --insecure-open to do without a token"
        yield Problem(given.sources.get("host", "--host"), settings.host, advice)
    if settings.tls_key is not None and settings.tls_cert is None:
        advice = "needs --tls-cert, the certificate that it belongs to"
        yield Problem(given.sources.get("tls_key", "--tls-key"), settings.tls_key, advice)
    if settings.ring_bytes < settings.max_line_bytes:
        advice = f"must be at least --max-line-bytes, {show_size(settings.max_line_bytes)}"
        yield Problem(given.sources.get("ring_bytes", "--ring-bytes"), show_size(settings.ring_bytes), advice)
    if settings.metrics_port is not None and settings.metrics_port == settings.port != 0:
        source = given.sources.get("metrics_port", "--metrics-port")
        yield Problem(source, str(settings.metrics_port), "must differ from --port")
