"""Whom a client of ours trusts, and how it shows who it is: certificates, tokens and further headers."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from logstream_server.access.tokens import read_tokens
from logstream_server.errors import Problem, SettingsError, kept_in, refuse

from .addresses import is_encrypted


@dataclass(frozen=True, slots=True)
class Access:
    """What a client brings along: `headers` of its requests, and for TLS whom to trust (None: no TLS)."""

    headers: dict[str, str]
    tls: ssl.SSLContext | None


def open_access(
    urls: Sequence[str],
    token_file: str | None,
    ca_file: str | None,
    insecure: bool,
    headers: Sequence[tuple[str, str]] = (),
) -> dict[str, Access]:
    """For each URL. Reads the files that the options name once, since they may be pipes. Raises SettingsError, with all
    that are of no use."""
    problems: list[Problem] = []
    encrypted = {url for url in urls if is_encrypted(url)}
    tls, shown = None, {}
    with kept_in(problems):
        shown = authorization(token_file) | dict(headers)
    with kept_in(problems):
        if encrypted or ca_file is not None:
            tls = tls_context(ca_file, insecure)
    refuse(problems)
    return {url: Access(shown, tls if url in encrypted else None) for url in urls}


def authorization(token_file: str | None) -> dict[str, str]:
    """The header that carries the first token of the file: its bytes, a character for each, as libraries write them."""
    return {} if token_file is None else {"Authorization": f"Bearer {read_tokens((token_file,))[0].decode('latin-1')}"}


def tls_context(ca_file: str | None, insecure: bool) -> ssl.SSLContext:
    """Trusts the system's authorities, or those in the file; with `insecure` everybody."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        advice = "holds no certificate in PEM form"
        raise SettingsError((Problem("--ca-file", ca_file, advice),)) from error
    except OSError as error:
        raise SettingsError((Problem("--ca-file", ca_file, f"cannot be read: {error.strerror}"),)) from error
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
