"""certificate: pairs that can be used, pairs that cannot and are named, and pairs that are renewed."""

from __future__ import annotations

import logging
import os
import re
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from logstream_server.access.certificate import KEPT, CertificateFiles
from logstream_server.errors import Problem, SettingsError

from ..tls import Authority, make_certificate


class Pair:
    """A certificate's file and its key's."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.authority = authority
        self.cert, self.key = folder / "tls.crt", folder / "tls.key"
        self.renew()

    def renew(self) -> None:
        """Another certificate, with another key."""
        chain, key = self.authority.issue()
        self.cert.write_bytes(chain.read_bytes())
        self.key.write_bytes(key.read_bytes())
        self.key.chmod(0o600)

    def files(self) -> CertificateFiles:
        return CertificateFiles(str(self.cert), str(self.key))


@pytest.fixture
def pair(tmp_path: Path, authority: Authority) -> Pair:
    return Pair(tmp_path, authority)


def served(files: CertificateFiles, trust: ssl.SSLContext) -> bytes:
    """The certificate that a client meets; in memory, without a network."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(back, there, server_hostname="127.0.0.1")
    server = files.certificate.context.wrap_bio(there, back, server_side=True)
    waiting = [client, server]
    while waiting:
        for each in list(waiting):
            try:
                each.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(each)
    found = client.getpeercert(binary_form=True)
    assert found is not None
    return found


def der(file: Path) -> bytes:
    """The first certificate in a file."""
    return ssl.PEM_cert_to_DER_cert(file.read_text().partition("-----END CERTIFICATE-----")[0] + _END)


_END = "-----END CERTIFICATE-----"


def test_a_chain_is_served_whole(pair: Pair) -> None:
    """The client knows the root alone."""
    assert served(pair.files(), pair.authority.trust) == der(pair.cert)


def test_the_key_may_stand_in_the_same_file(tmp_path: Path) -> None:
    both = make_certificate(tmp_path)
    context = ssl.create_default_context(cafile=both)
    certificate = both.read_text()[both.read_text().index("-----BEGIN CERTIFICATE") :]
    assert served(CertificateFiles(str(both), None), context) == ssl.PEM_cert_to_DER_cert(certificate)


def test_old_versions_and_renegotiation_are_refused(pair: Pair) -> None:
    context = pair.files().certificate.context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)  # noqa: S607 - wherever it is


def encrypt(pair: Pair) -> None:
    content = pair.key.with_name("plain.key")
    pair.key.rename(content)
    openssl("pkey", "-in", content, "-aes256", "-passout", "pass:secret", "-out", pair.key)


def damage(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:20] + "!" + lines[1][20:], *lines[2:]]))


def shorten(pair: Pair) -> None:
    """Only signs of a size that nobody should use any more."""
    key, words = pair.key, ("-subj", "/CN=old", "-days", "2")
    openssl("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", key, "-out", pair.cert, *words)


def of_another_kind(pair: Pair) -> None:
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", pair.key)


SPOILT = [
    pytest.param(lambda p: p.cert.unlink(), "--tls-cert", "cannot be read: No such file or directory", id="no cert"),
    pytest.param(lambda p: p.key.unlink(), "--tls-key", "cannot be read: No such file or directory", id="no key"),
    pytest.param(lambda p: p.cert.write_text(""), "--tls-cert", "holds no certificate in PEM form", id="emptied"),
    pytest.param(
        lambda p: p.cert.write_bytes(der(p.cert)), "--tls-cert", "holds no certificate in PEM form", id="in DER form"
    ),
    pytest.param(
        lambda p: p.key.write_bytes(p.cert.read_bytes()), "--tls-key", "holds no private key in PEM form", id="twice"
    ),
    pytest.param(
        lambda p: p.key.write_bytes(p.authority.issue()[1].read_bytes()),
        "--tls-key",
        "is not the key of the certificate in {cert}",
        id="another key",
    ),
    pytest.param(
        of_another_kind, "--tls-key", "is not the key of the certificate in {cert}", id="a key of another kind"
    ),
    pytest.param(
        encrypt,
        "--tls-key",
        "is encrypted; `openssl pkey -in FILE -out NEW` writes the key without its passphrase",
        id="an encrypted key",
    ),
    pytest.param(lambda p: damage(p.cert), "--tls-cert", "holds a certificate that is damaged", id="damaged cert"),
    pytest.param(lambda p: damage(p.key), "--tls-key", "holds a private key that is damaged", id="damaged key"),
    pytest.param(shorten, "--tls-cert", "cannot be used: ee key too small", id="too weak"),
]


@pytest.mark.parametrize(("spoil", "flag", "advice"), SPOILT)
def test_a_pair_that_cannot_be_used_is_named(pair: Pair, spoil: Callable[[Pair], None], flag: str, advice: str) -> None:
    spoil(pair)
    with pytest.raises(SettingsError) as caught:
        pair.files()
    path = str(pair.cert if flag == "--tls-cert" else pair.key)
    assert caught.value.problems == (Problem(flag, path, advice.format(cert=pair.cert)),)


@pytest.mark.parametrize(("spoil", "flag", "advice"), SPOILT)
def test_a_pair_that_is_spoilt_later_is_named_once_and_the_one_before_goes_on(
    pair: Pair, caplog: pytest.LogCaptureFixture, spoil: Callable[[Pair], None], flag: str, advice: str
) -> None:
    files, before = pair.files(), der(pair.cert)
    spoil(pair)
    assert [files.look() for _ in range(4)] == [False] * 4
    path = str(pair.cert if flag == "--tls-cert" else pair.key)
    assert caplog.messages == [f"{flag} {path}: {advice.format(cert=pair.cert)}; {KEPT}"]
    assert served(files, pair.authority.trust) == before
    pair.renew()
    assert [files.look(), files.look()] == [False, True]
    assert served(files, pair.authority.trust) == der(pair.cert)


def test_a_file_without_a_key_leads_to_the_option_for_it(pair: Pair) -> None:
    with pytest.raises(SettingsError, match=r"--tls-cert .*: holds no private key; name the file that does with --tl"):
        CertificateFiles(str(pair.cert), None)


def test_a_pipe_cannot_be_used(pair: Pair) -> None:
    reading, writing = os.pipe()
    with pytest.raises(SettingsError, match=r"--tls-key '/dev/fd/.*': is a pipe; it must be a file that can be read"):
        CertificateFiles(str(pair.cert), f"/dev/fd/{reading}")
    os.close(reading)
    os.close(writing)


def test_a_new_pair_is_used_as_soon_as_both_files_are_there(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """One after the other, as certbot writes them: in between they do not belong together, and nothing is said."""
    caplog.set_level(logging.INFO)
    files, before = pair.files(), der(pair.cert)
    chain, key = pair.authority.issue()
    pair.cert.write_bytes(chain.read_bytes())
    assert not files.look()
    pair.key.write_bytes(key.read_bytes())
    assert not files.look()
    assert served(files, pair.authority.trust) == before
    assert files.look()
    assert served(files, pair.authority.trust) == der(pair.cert)
    assert caplog.messages[0] == f"--tls-cert {pair.cert}: a new certificate is used from now on"
    assert re.fullmatch(
        rf"--tls-cert {pair.cert}: a certificate for 127\.0\.0\.1, localhost, until \d{{4}}-\d\d-\d\d \d\d:\d\d UTC",
        caplog.messages[1],
    )


def test_a_mounted_secret_is_renewed_by_its_link(tmp_path: Path, authority: Authority) -> None:
    """As a kubelet does it for cert-manager: a new folder, and the link `..data` renamed over the old one."""
    for folder in ("..1", "..2"):
        (tmp_path / folder).mkdir()
        chain, key = authority.issue()
        (tmp_path / folder / "tls.crt").write_bytes(chain.read_bytes())
        (tmp_path / folder / "tls.key").write_bytes(key.read_bytes())
    (tmp_path / "..data").symlink_to("..1")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    files = CertificateFiles(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"))
    assert served(files, authority.trust) == der(tmp_path / "..1" / "tls.crt")
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert [files.look(), files.look()] == [False, True]
    assert served(files, authority.trust) == der(tmp_path / "..2" / "tls.crt")


def test_a_key_that_everybody_may_read_is_warned_of(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.cert.chmod(0o644)
    pair.files().tell()
    assert caplog.messages == []
    pair.key.chmod(0o644)
    pair.files().tell()
    assert caplog.messages == [f"--tls-key {pair.key}: every user of this machine may read it; chmod 600 it"]


def test_a_certificate_is_known_by_its_names_and_its_end(pair: Pair) -> None:
    certificate = pair.files().certificate
    assert certificate.names == ("127.0.0.1", "localhost")
    assert certificate.doubt == ""
    assert 0 < certificate.expires_s - time.time() <= 2 * 24 * 3600


def for_clients_only(pair: Pair) -> None:
    words = ("-subj", "/CN=a client", "-days", "2", "-addext", "extendedKeyUsage=clientAuth", "-nodes")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-keyout", pair.key, "-out", pair.cert, *words)


def expired(pair: Pair) -> None:
    before = pair.cert.rename(pair.cert.with_name("before"))
    openssl("x509", "-in", before, "-signkey", pair.key, "-days", "-1", "-out", pair.cert)


@pytest.mark.parametrize(
    ("make", "doubt"),
    [(expired, "certificate has expired"), (for_clients_only, "unsuitable certificate purpose")],
    ids=["expired", "of another purpose"],
)
def test_a_certificate_that_clients_will_refuse_is_warned_of_and_served(
    pair: Pair, caplog: pytest.LogCaptureFixture, make: Callable[[Pair], None], doubt: str
) -> None:
    """The machine's clock may be wrong, and some clients do not look."""
    make(pair)
    pair.key.chmod(0o600)
    files = pair.files()
    files.tell()
    assert caplog.messages == [f"--tls-cert {pair.cert}: clients will refuse it: {doubt}"]
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    assert served(files, careless) == der(pair.cert)
