"""names: a stream's name is one URL segment of readable text, and its own."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.tailing.names import readable, stream_name, unique_name

file_names = st.binary(min_size=1, max_size=20).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"x")))


@pytest.mark.parametrize(
    ("path", "base", "name"),
    [
        pytest.param("/var/log/app.log", None, "app.log", id="a file: its own name"),
        pytest.param("/var/log/app/", None, "app", id="a slash at the end says nothing"),
        pytest.param("/logs/app.log", "/logs", "app.log", id="in the folder itself"),
        pytest.param("/logs/a/b/c.log", "/logs", "a~b~c.log", id="below the folder"),
        pytest.param("/logs/a/b.log", "/logs/", "a~b.log", id="a base with a slash at its end"),
        pytest.param("/logs/a.log", "/", "logs~a.log", id="below the root folder"),
        pytest.param("/elsewhere/a.log", "/logs", "elsewhere~a.log", id="not below the base at all"),
        pytest.param("/logs2/a.log", "/logs", "logs2~a.log", id="a base that is only the beginning of a name"),
        pytest.param("/a b/zwölf.log", None, "zwölf.log", id="blanks and letters stay"),
        pytest.param("/logs/bad\udcff.log", None, r"bad\xff.log", id="a byte that is not UTF-8"),
    ],
)
def test_a_stream_is_named_by_where_its_file_lies(path: str, base: str | None, name: str) -> None:
    assert stream_name(path, base) == name


@given(file_names)
def test_any_file_name_becomes_text_that_can_be_sent(name: str) -> None:
    shown = readable(name)
    shown.encode()
    if name.isascii():
        assert shown == name


@given(st.lists(file_names, min_size=1, max_size=4))
def test_a_name_has_no_slash(parts: list[str]) -> None:
    path = "/logs/" + "/".join(part.replace("/", "x") for part in parts)
    assert "/" not in stream_name(path, None)
    assert "/" not in stream_name(path, "/logs")


@pytest.mark.parametrize(
    ("taken", "name"),
    [
        pytest.param((), "app.log", id="free"),
        pytest.param(("app.log",), "a~b~app.log", id="taken: the whole path"),
        pytest.param(("app.log", "a~b~app.log"), "a~b~app.log~2", id="both taken: a number"),
        pytest.param(("app.log", "a~b~app.log", "a~b~app.log~2"), "a~b~app.log~3", id="the next number"),
    ],
)
def test_a_name_that_is_taken_becomes_longer(taken: tuple[str, ...], name: str) -> None:
    assert unique_name("app.log", "/a/b/app.log", taken) == name


@given(st.lists(st.sampled_from(["a", "a~b", "b", "b~2", "a~2"]), max_size=5), st.sampled_from(["a", "a~b", "b"]))
def test_a_unique_name_is_unique(taken: list[str], name: str) -> None:
    assert unique_name(name, "/a/b", taken) not in taken
