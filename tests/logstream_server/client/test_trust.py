"""trust: what a client brings along, and whom it believes."""

from __future__ import annotations

import os
import ssl
import threading
from pathlib import Path

import pytest

from logstream_server.client.trust import authorization, open_access, tls_context
from logstream_server.errors import SettingsError


def test_the_first_token_of_the_file_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("# who\n\nt0ken\nother\n")
    assert authorization(str(file)) == {"Authorization": "Bearer t0ken"}
    assert authorization(None) == {}
    access = open_access(["http://h"], str(file), None, False, [("X-Team", "logs")])["http://h"]
    assert access.headers == {"Authorization": "Bearer t0ken", "X-Team": "logs"}
    assert access.tls is None


def test_a_token_goes_out_as_the_bytes_that_it_is(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"\xff\xc3\xa4\n")
    assert authorization(str(file))["Authorization"].encode("latin-1") == b"Bearer \xff\xc3\xa4"


def test_a_token_from_a_pipe_is_for_all_servers(tmp_path: Path) -> None:
    """As from `--token-file <(command)`: what was read from it once is gone."""
    pipe = tmp_path / "token"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("t0ken\n",), daemon=True)
    writer.start()
    found = open_access(["http://a", "https://b"], str(pipe), None, False)
    writer.join()
    assert [each.headers for each in found.values()] == [{"Authorization": "Bearer t0ken"}] * 2
    assert [each.tls is None for each in found.values()] == [True, False]


@pytest.mark.parametrize("url", ["http://h", "https://h"])
def test_all_files_that_are_of_no_use_are_named(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_access([url], str(tmp_path / "token"), str(tmp_path / "ca.pem"), False)
    assert [problem.name for problem in caught.value.problems] == ["--token-file", "--ca-file"]


@pytest.mark.parametrize("url", ["https://h", "wss://h/ws"])
def test_certificates_are_checked_unless_that_is_waived(url: str) -> None:
    strict = open_access([url], None, None, insecure=False)[url].tls
    loose = open_access([url], None, None, insecure=True)[url].tls
    assert strict is not None
    assert loose is not None
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (loose.verify_mode, loose.check_hostname) == (ssl.CERT_NONE, False)


def test_a_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("hello\n")
    with pytest.raises(SettingsError, match=r"--ca-file .*ca.pem': holds no certificate in PEM form"):
        tls_context(str(file), insecure=False)
    with pytest.raises(SettingsError, match=r"--ca-file .*none.pem': cannot be read: No such file"):
        tls_context(str(tmp_path / "none.pem"), insecure=False)
