"""The server's certificate and its key, as they stand in files that certbot, cert-manager and others renew.

The files are looked at again and again (`renewed`); a pair that cannot be used is named in the log, and the one before
goes on. A new one is for connections that come from then on: those that are there keep what they were opened with.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from logstream_server.errors import SettingsError

from .renewed import File, Renewed

log = logging.getLogger(__name__)

CERT_FLAG: Final = "--tls-cert"
KEY_FLAG: Final = "--tls-key"
KEPT: Final = "the certificate before goes on being used"

_CERTIFICATE: Final = (b"-----BEGIN CERTIFICATE-----", b"-----BEGIN TRUSTED CERTIFICATE-----")
_KEY: Final = b"PRIVATE KEY-----"
_MISMATCH: Final = frozenset({"KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED", "KEY_TYPE_MISMATCH"})
"""OpenSSL's words for a key that is not the certificate's: of the same kind, or of another one."""


class _EncryptedKey(Exception):
    """OpenSSL asks for a passphrase: of us, since it would ask the terminal otherwise."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What handshakes are made with. `names`: whom it certifies; `expires_s`: when it ends, in seconds since 1970;
    `doubt`: why clients will refuse it, as OpenSSL says it, and then the other two are not known."""

    context: ssl.SSLContext
    names: tuple[str, ...] = ()
    expires_s: float = 0.0
    doubt: str = ""

    def __str__(self) -> str:
        end = datetime.fromtimestamp(self.expires_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"for {', '.join(self.names) or 'no name'}, until {end}"


class CertificateFiles:
    """The certificate with its chain, and the key, which may stand in the same file. Raises SettingsError when it is
    made. `look` is called as `Renewed.look` is; `certificate` is the newest that could be made."""

    def __init__(self, cert_path: str, key_path: str | None) -> None:
        self._cert = File(CERT_FLAG, cert_path)
        self._key = self._cert if key_path is None else File(KEY_FLAG, key_path)
        for file in (self._cert, self._key):
            if _is_pipe(file.path):  # the content is needed twice, by us and by OpenSSL
                raise file.problem("is a pipe; it must be a file that can be read again")
        self._renewed = Renewed((self._cert, self._key), self._make, KEPT)

    @property
    def certificate(self) -> Certificate:
        """For the next handshake."""
        return self._renewed.value

    def look(self) -> bool:
        """Read the files again; True when there is a new certificate."""
        is_new = self._renewed.look()
        if is_new:
            log.info("%s %s: a new certificate is used from now on", self._cert.flag, self._cert.path)
            self.tell()
        return is_new

    def tell(self) -> None:
        """Mention in the log what the certificate is, and what is unwise about it and the files."""
        certificate = self.certificate
        if certificate.doubt:
            log.warning("%s %s: clients will refuse it: %s", self._cert.flag, self._cert.path, certificate.doubt)
        else:
            log.info("%s %s: a certificate %s", self._cert.flag, self._cert.path, certificate)
        self._renewed.warn_if_open()

    def _make(self, contents: Sequence[bytes]) -> Certificate:
        cert, key = contents
        if not any(word in cert for word in _CERTIFICATE):
            raise self._cert.problem("holds no certificate in PEM form")
        if _KEY not in key:
            if self._key is self._cert:
                raise self._cert.problem(f"holds no private key; name the file that does with {KEY_FLAG}")
            raise self._key.problem("holds no private key in PEM form")
        context = _new_context()
        try:
            context.load_cert_chain(self._cert.path, self._key.path, _no_passphrase)
        except _EncryptedKey:
            advice = "is encrypted; `openssl pkey -in FILE -out NEW` writes the key without its passphrase"
            raise self._key.problem(advice) from None
        except ssl.SSLError as error:
            raise self._explain(error, cert) from error
        except OSError as error:  # it was there a moment ago
            raise self._cert.problem(f"cannot be read: {error.strerror or error}") from error
        return _try(context, cert)

    def _explain(self, error: ssl.SSLError, cert: bytes) -> SettingsError:
        """OpenSSL says what is wrong, but seldom with which file."""
        if error.reason in _MISMATCH:
            return self._key.problem(f"is not the key of the certificate in {self._cert.path}")
        if error.reason:
            return self._cert.problem(f"cannot be used: {error.reason.lower().replace('_', ' ')}")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=cert.decode("ascii", "replace"))
        except ssl.SSLError:
            return self._cert.problem("holds a certificate that is damaged")
        return self._key.problem("holds a private key that is damaged")


def _try(context: ssl.SSLContext, cert: bytes) -> Certificate:
    """Shake hands with a client that trusts this very certificate: what the client makes of it, clients will."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(cadata=cert.decode("ascii", "replace"))
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(back, there)
    server = context.wrap_bio(there, back, server_side=True)
    try:
        for side in (client, server, client):  # hello, hello and certificate, verdict
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return Certificate(context, doubt=error.verify_message)
    known: Any = client.getpeercert()
    names = tuple(name for _, name in known.get("subjectAltName", ()))
    return Certificate(context, names, ssl.cert_time_to_seconds(known["notAfter"]))


def _new_context() -> ssl.SSLContext:
    """Python's own choice of what is secure for a server, and its words for it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # it costs the server more than who asks for it, and nobody needs it
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_passphrase() -> NoReturn:
    raise _EncryptedKey


def _is_pipe(path: str) -> bool:
    try:
        return stat.S_ISFIFO(Path(path).stat().st_mode)
    except OSError:
        return False  # what it is, is said by who reads it
