"""What the operator can be told, as one frozen value: flags beat variables, which beat defaults.

`__main__` builds it once from the environment and the arguments that it is given, and passes it down; nothing else
reads either. A variable is named like its flag: `--server-image` is LOGSTREAM_OPERATOR_SERVER_IMAGE. The chart sets the
variables, and a test compares the names. All problems are reported at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Final

from .errors import Problem, SettingsError
from .resolve import Rules
from .roots import DEFAULT_ROOTS, Root, parse_roots
from .workload import DEFAULT_RESOURCES, Access, Defaults, Resources

PREFIX: Final = "LOGSTREAM_OPERATOR_"
Read = Callable[[str], Any]
_OPTION: Final = "logstream.option"
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Option:
    """How a field is given: `read` raises ValueError, `allowed` completes "must be ..."."""

    read: Read
    allowed: str
    purpose: str


def option(read: Read, allowed: str, purpose: str, default: Any = None) -> Any:
    """Declare a field."""
    # A factory, since a dict is no default that Python takes; nobody changes it.
    return field(default_factory=lambda: default, metadata={_OPTION: Option(read, allowed, purpose)})


def flag_of(name: str) -> str:
    """`server_image` is given by --server-image; a unit at the end is not spelt."""
    return "--" + name.removesuffix("_s").replace("_", "-")


def variable_of(name: str) -> str:
    """`server_image` is given by LOGSTREAM_OPERATOR_SERVER_IMAGE."""
    return PREFIX + flag_of(name)[2:].upper().replace("-", "_")


def _text(given: str) -> str:
    if not given.strip():
        raise ValueError(given)
    return given.strip()


def _names(given: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in given.split(",") if part.strip())
    if not all(map(_NAME.fullmatch, found)):
        raise ValueError(given)
    return found


def _yes_no(given: str) -> bool:
    return {"yes": True, "true": True, "no": False, "false": False}[given.lower()]


def _whole(lowest: int, highest: int) -> Read:
    def read(given: str) -> int:
        if not given.isascii() or not given.isdigit() or not lowest <= int(given) <= highest:
            raise ValueError(given)
        return int(given)

    return read


def _seconds(lowest: float, highest: float) -> Read:
    def read(given: str) -> float:
        value = float(given.removesuffix("s"))
        if not lowest <= value <= highest:
            raise ValueError(given)
        return value

    return read


def _one_of(*words: str) -> Read:
    def read(given: str) -> str:
        if given not in words:
            raise ValueError(given)
        return given

    return read


def _resources(given: str) -> Resources:
    found = json.loads(given)
    if not isinstance(found, dict) or not found.keys() <= {"requests", "limits"}:
        raise ValueError(given)
    if not all(isinstance(part, dict) for part in found.values()):
        raise ValueError(given)
    return found


def _access(given: str) -> Access:
    found = json.loads(given)
    if not isinstance(found, dict) or not found.keys() <= {"from", "metricsFrom"}:
        raise ValueError(given)
    peers = {name: found.get(name, []) for name in ("from", "metricsFrom")}
    if not all(isinstance(part, list) and all(isinstance(peer, dict) for peer in part) for part in peers.values()):
        raise ValueError(given)
    if not peers["metricsFrom"]:  # in a NetworkPolicy that would mean everybody, and here it would be a slip
        raise ValueError(given)
    return Access(tuple(peers["metricsFrom"]), tuple(peers["from"]))


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the operator can be told. Built directly (in tests), nothing is checked; `from_env` checks."""

    server_image: str = option(_text, "an image", "image of the servers; no default", "")
    server_pull_policy: str = option(
        _one_of("Always", "IfNotPresent", "Never"),
        "one of Always, IfNotPresent, Never",
        "when nodes pull it",
        "IfNotPresent",
    )
    server_pull_secrets: tuple[str, ...] = option(
        _names, "names with commas between them", "Secrets for pulling it, in each LogStream's namespace", ()
    )
    server_resources: Resources = option(
        _resources,
        "JSON with requests and limits",
        "CPU and memory of a server whose LogStream says nothing about them",
        DEFAULT_RESOURCES,
    )
    server_network_policy: Access | None = option(
        _access,
        'JSON with lists of NetworkPolicy peers, as {"from": [], "metricsFrom": [{"namespaceSelector": {}}]}',
        "a NetworkPolicy for all servers: who reaches them (from: [] is everybody), and who their metrics",
    )
    allowed_roots: tuple[Root, ...] = option(
        parse_roots,
        'JSON such as [{"path": "/minikube-host", "namespaces": [], "groups": []}]',
        "folders of nodes that LogStreams may name",
        DEFAULT_ROOTS,
    )
    require_auth: bool = option(_yes_no, "yes or no", "accept no LogStream without authSecretRef", False)
    namespaces: tuple[str, ...] = option(
        _names, "names with commas between them", "look after these namespaces only; empty: all", ()
    )
    resync_interval_s: float = option(
        _seconds(1, 3600), "a time from 1 to 3600 seconds, as 30s", "how often to look at everything", 30.0
    )
    workers: int = option(_whole(1, 64), "a whole number from 1 to 64", "LogStreams worked on at one time", 4)
    port: int = option(_whole(0, 65535), "a whole number from 0 to 65535", "health and metrics; 0: any free", 8080)
    log_format: str = option(_one_of("text", "json"), "text or json", "how the log is written", "text")
    log_level: str = option(
        _one_of("debug", "info", "warning", "error"),
        "one of debug, info, warning, error",
        "the least that it mentions",
        "info",
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str], argv: Sequence[str]) -> Settings:
        """Read `--flag VALUE` and `--flag=VALUE`, then the variables; SettingsError names all faults."""
        options: dict[str, Option] = {each.name: each.metadata[_OPTION] for each in fields(cls)}
        given, problems = _read_flags(options, argv)
        values: dict[str, Any] = {}
        for name, declared in options.items():
            source, text = given.get(name, (variable_of(name), environ.get(variable_of(name), "")))
            if not text and name not in given:
                continue  # an empty variable counts as not set
            try:
                values[name] = declared.read(text)
            except (ValueError, KeyError) as error:
                detail = f" ({error})" if declared.read is parse_roots else ""
                problems.append(Problem(source, text, f"must be {declared.allowed}{detail}"))
        if not values.get("server_image") and not any("image" in problem.name.lower() for problem in problems):
            problems.append(Problem(variable_of("server_image"), None, "must be set: which image do the servers run?"))
        if problems:
            raise SettingsError(tuple(problems))
        return cls(**values)

    @property
    def defaults(self) -> Defaults:
        """What every server gets."""
        return Defaults(
            self.server_image,
            self.server_pull_policy,
            self.server_pull_secrets,
            self.server_resources,
            self.server_network_policy,
        )

    @property
    def rules(self) -> Rules:
        """What every LogStream must keep to."""
        return Rules(self.allowed_roots, self.require_auth)


def _read_flags(options: Mapping[str, Option], argv: Sequence[str]) -> tuple[dict[str, tuple[str, str]], list[Problem]]:
    """Field name to the flag and its text, and what no field takes."""
    flags = {flag_of(name): name for name in options}
    given: dict[str, tuple[str, str]] = {}
    problems: list[Problem] = []
    words = list(argv)
    while words:
        flag, equals, text = words.pop(0).partition("=")
        if flag not in flags:
            close = get_close_matches(flag, flags, n=1)
            problems.append(Problem(flag, None, "no such option" + (f"; did you mean {close[0]}?" if close else "")))
        elif not equals and not words:
            problems.append(Problem(flag, None, f"needs a value: {options[flags[flag]].allowed}"))
        else:
            given[flags[flag]] = (flag, text if equals else words.pop(0))
    return given, problems


def options_of() -> dict[str, tuple[Option, str]]:
    """Each field's declaration and its default as a variable would hold it, "" for none."""
    defaults = Settings()
    return {each.name: (each.metadata[_OPTION], _show(getattr(defaults, each.name))) for each in fields(Settings)}


def _show(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}s"
    if isinstance(value, tuple):
        return json.dumps([{"path": root.path} for root in value]) if value else ""
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


def render_help() -> str:
    """The help page."""
    lines = ["Usage: python -m logstream_operator [--OPTION VALUE]...", ""]
    for name, (declared, default) in options_of().items():
        facts = [variable_of(name), *([f"default {default}"] if default else [])]
        lines.append(f"  {flag_of(name)}  {declared.purpose} [{', '.join(facts)}]")
        lines.append(f"      {declared.allowed}")
    return "\n".join(lines) + "\n"
