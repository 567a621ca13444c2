"""The files that `serve` takes its tokens and its certificate from, opened together: what is wrong with any of them is
told at once."""

from __future__ import annotations

from dataclasses import dataclass

from logstream_server.errors import Problem, kept_in, refuse
from logstream_server.settings import Settings

from .certificate import CertificateFiles
from .tokens import TokenFiles


@dataclass(frozen=True, slots=True)
class Credentials:
    """`certificate` is None where nothing is encrypted."""

    tokens: TokenFiles
    certificate: CertificateFiles | None


def open_credentials(settings: Settings) -> Credentials:
    """Read the files that the settings name. Raises SettingsError, with all that are of no use."""
    problems: list[Problem] = []
    certificate = None
    with kept_in(problems):
        tokens = TokenFiles(settings.token_files)
    with kept_in(problems):
        if settings.tls_cert is not None:
            certificate = CertificateFiles(settings.tls_cert, settings.tls_key)
    refuse(problems)
    return Credentials(tokens, certificate)
