"""page: the web page's files, under a policy that lets them do nothing but what they need."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from logstream_server.endpoints.page import POLICY, read_assets

from ..conftest import Serve
from ..process import Server


@pytest.fixture(scope="module")
def server(serve_for_all: Serve, tmp_path_factory: pytest.TempPathFactory) -> Server:
    return serve_for_all(tmp_path_factory.mktemp("none") / "a.log")


def test_the_page_may_load_and_reach_only_its_own_server(server: Server) -> None:
    answer = server.get("/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_obeys_its_own_policy() -> None:
    """No inline script or style, no address of another host: the browser would refuse them."""
    page = read_assets()["index.html"].body.decode()
    assert "unsafe" not in POLICY
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"<style|\sstyle=|\son\w+=", page)
    assert not re.search(r"(src|href|action)=[\"'](https?:)?//", page)


def test_each_file_that_the_page_names_is_served_as_what_it_is(server: Server) -> None:
    page = server.get("/").body.decode()
    names = re.findall(r"(?:src|href)=\"(assets/[^\"]+)\"", page)
    assert names
    for name in names:
        answer = server.get("/" + name)
        assert answer.status == 200
        kind = {"js": "text/javascript", "css": "text/css"}[name.rpartition(".")[2]]
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"


def test_a_browser_that_has_the_file_is_not_sent_it_again(server: Server) -> None:
    first = server.get("/")
    again = server.get("/", if_none_match=f'"other", W/{first.headers["etag"]}')
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert server.get("/", if_none_match="*").status == 304
    assert server.get("/", if_none_match='"other"').status == 200


def test_head_says_the_size_and_sends_nothing(server: Server) -> None:
    answer = server.get("/", method="HEAD")
    assert answer.body == b""
    assert int(answer.headers["content-length"]) == len(server.get("/").body)


def test_only_known_files_below_the_folder_are_read(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "logo.svg").write_text("<svg/>")
    (tmp_path / "notes.txt~").write_text("no")
    (tmp_path / "index.html").write_text("<p>")
    assets = read_assets(tmp_path)
    assert {name: asset.media_type for name, asset in assets.items()} == {
        "img/logo.svg": "image/svg+xml",
        "index.html": "text/html; charset=utf-8",
    }


def test_the_wheel_has_the_page() -> None:
    """What hatchling packs is the package's folder with all its files; none is excluded by name."""
    root = Path(__file__).parents[3]
    config = (root / "pyproject.toml").read_text()
    assert 'packages = ["server/logstream_server", "operator/logstream_operator"]' in config
    ignored = (root / ".gitignore").read_text().split()
    assert not [pattern for pattern in ignored if "web" in pattern or pattern in ("*.html", "*.js", "*.css")]
