"""forms: what each kind of value accepts, what it makes of it, and what it refuses."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.commandline import forms
from logstream_server.commandline.forms import Form, NamedPath


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


ACCEPTED: list[tuple[Form[Any], str, object]] = [
    (forms.whole("N", 0, 10), "0", 0),
    (forms.whole("N", 0, 10), "10", 10),
    (forms.seconds(0, 3600), "0.25", 0.25),
    (forms.seconds(0, 3600), ".5", 0.5),
    (forms.seconds(0, 3600), "250ms", 0.25),
    (forms.seconds(0, 3600), "5s", 5.0),
    (forms.seconds(0, 3600), "2m", 120.0),
    (forms.seconds(0, 3600), "1h", 3600.0),
    (forms.size(1, 1 << 40), "100", 100),
    (forms.size(1, 1 << 40), "100B", 100),
    (forms.size(1, 1 << 40), "64KiB", 64 << 10),
    (forms.size(1, 1 << 40), "64Ki", 64 << 10),
    (forms.size(1, 1 << 40), "1MiB", 1 << 20),
    (forms.size(1, 1 << 40), "2GiB", 2 << 30),
    (forms.one_of(Colour), "blue", Colour.BLUE),
    (forms.text("X", "text"), "a b", "a b"),
    (forms.or_off(forms.whole("N", 0, 10)), "off", None),
    (forms.or_off(forms.whole("N", 0, 10)), "7", 7),
    (forms.BOOLEAN, "Yes", True),
    (forms.BOOLEAN, "1", True),
    (forms.BOOLEAN, "FALSE", False),
    (forms.BOOLEAN, "off", False),
    (forms.HOST, "127.0.0.1", "127.0.0.1"),
    (forms.HOST, "logs.example.com", "logs.example.com"),
    (forms.HOST, "::1", "::1"),
    (forms.HOST, "[::1]", "::1"),
    (forms.HOST, "fe80::1%eth0", "fe80::1%eth0"),
    (forms.BASE_PATH, "", ""),
    (forms.BASE_PATH, "/", ""),
    (forms.BASE_PATH, "/team/app", "/team/app"),
    (forms.BASE_PATH, "/team/app/", "/team/app"),
    (forms.ORIGIN, "*", "*"),
    (forms.ORIGIN, "https://logs.example.com", "https://logs.example.com"),
    (forms.ORIGIN, "HTTPS://Logs.Example.com:443", "https://logs.example.com"),
    (forms.ORIGIN, "http://h:80", "http://h"),
    (forms.ORIGIN, "http://h:443", "http://h:443"),
    (forms.ORIGIN, "https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
    (forms.ORIGIN, "http://[::1]", "http://[::1]"),
    (forms.NAMED_PATH, "/var/log/x.log", NamedPath("/var/log/x.log")),
    (forms.NAMED_PATH, "web=/var/log/x.log", NamedPath("/var/log/x.log", "web")),
    (forms.NAMED_PATH, "web=x=y.log", NamedPath("x=y.log", "web")),
    (forms.NAMED_PATH, "./a=b.log", NamedPath("./a=b.log")),
    (forms.NAMED_PATH, "/d/a=b.log", NamedPath("/d/a=b.log")),
    (forms.NAMED_PATH, "grün=x", NamedPath("x", "grün")),
    (forms.NAMED_PATH, "\udcff.log", NamedPath("\udcff.log")),
]

REFUSED: list[tuple[Form[Any], str]] = [
    *((forms.whole("N", 1, 10), text) for text in ("", "0", "11", "-1", "+1", "1.0", "1_0", " 1", "٣", "1" * 5000)),
    *((forms.seconds(1, 10), text) for text in ("", "0.9", "10.1", "-1", "nan", "inf", "1e0", "5 s", "5d", "1m", ".")),
    *((forms.size(10, 1 << 20), text) for text in ("", "9", "2MiB", "64K", "64kB", "64MB", "1.5MiB", "1 MiB", "-1")),
    *((forms.one_of(Colour), text) for text in ("", "RED", "green")),
    *((forms.text("X", "text"), text) for text in ("", "a\0b")),
    *((forms.or_off(forms.whole("N", 1, 10)), text) for text in ("", "Off", "0")),
    *((forms.BOOLEAN, text) for text in ("", "2", "maybe")),
    *((forms.HOST, text) for text in ("", "[]", "a b", "http://h", "h:80", "[::1]:80", "1::2::3", "*", "ü")),
    *((forms.BASE_PATH, text) for text in ("app", "//", "/a//b", "/a?b", "/a#b", "/a b", "/../a", "/a/.", "/ä")),
    *(
        (forms.ORIGIN, text)
        for text in ("", "null", "example.com", "ftp://h", "https://", "https://h/path", "http://h/")
    ),
    *((forms.ORIGIN, text) for text in ("https://user@h", "https://h:x", "https://h:99999", "https://h:", "http://h?")),
    *((forms.ORIGIN, text) for text in ("https://*.example.com", "https://a b", "https://[::1", "https://::1")),
    *((forms.NAMED_PATH, text) for text in ("", "=x", "a b=x", "..=x", "web=", "a%2f=x", "\udcff=x", "a\0")),
]


@pytest.mark.parametrize(("form", "text", "value"), ACCEPTED)
def test_a_well_written_value_is_read(form: Form[Any], text: str, value: object) -> None:
    read = form.read(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(("form", "text"), REFUSED)
def test_anything_else_is_refused(form: Form[Any], text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - a form's only way to refuse; the words are made by its caller
        form.read(text)


@pytest.mark.parametrize(("form", "value"), [(form, value) for form, _, value in ACCEPTED])
def test_what_a_form_shows_it_reads_again(form: Form[Any], value: object) -> None:
    """So that a default in a help page can be typed."""
    assert form.read(form.show(value)) == value


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0s"), (0.25, "0.25s"), (90.0, "90s"), (120.0, "2m"), (2592000.0, "720h")]
)
def test_a_time_is_shown_in_the_largest_unit_that_divides_it(value: float, shown: str) -> None:
    assert forms.show_seconds(value) == shown


@given(st.integers(1, 1 << 40))
def test_any_size_is_shown_in_a_unit_that_gives_it_back(value: int) -> None:
    assert forms.size(1, 1 << 40).read(forms.show_size(value)) == value


@pytest.mark.parametrize(
    "form", [forms.HOST, forms.BASE_PATH, forms.ORIGIN, forms.NAMED_PATH, forms.size(1, 9), forms.seconds(1, 9)]
)
@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_no_text_does_anything_but_be_read_or_refused(form: Form[Any], text: str) -> None:
    try:
        form.read(text)
    except ValueError:
        return
