"""B: what a line may look like: how it ends, how it is encoded, how long it is."""

from __future__ import annotations

import os
import time

import pytest

from .conftest import Serve
from .harness import Site, Writer, append, append_bytes, glance, two_modes, wait_until, write

pytestmark = two_modes

MAX_LINE = 4096
SMALL = ("--max-line-bytes", str(MAX_LINE), "--ring-bytes", "1MiB")


def test_b1_lines_that_end_with_carriage_return_and_newline(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    log.write_bytes(b"old 1\r\nold 2\r\n")
    server = serve(site.read / "app.log", "--partial-after", "0")
    plain, json, raw = server.client(), server.json(), server.raw()
    for client in (plain, json):
        client.expect(["old 1", "old 2"])
    with Writer(log) as writer:
        writer.write_bytes(b"split\r")
        glance()
        writer.write_bytes(b"\n\r\n")  # and an empty line
        writer.write_bytes(b"a\rb\r\r\n")  # only the last one belongs to the end
        at = log.stat().st_size
        edge = 8192 - at % 8192 - 1
        writer.write_bytes(b"x" * edge + b"\r\nafter the edge\r\n")
    lines = ["old 1", "old 2", "split", "", "a\rb\r", "x" * edge, "after the edge"]
    for client in (plain, json):
        client.wait_lines(len(lines))
        assert client.lines == lines
    raw.expect_bytes(log.read_bytes())


def test_b2_empty_lines_are_lines(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    log.write_bytes(b"text\n\n\n\n\n\n")
    server = serve(site.read / "app.log")
    clients = [server.client(), server.json()]
    for client in clients:
        client.wait_lines(6)
        assert client.lines == ["text", "", "", "", "", ""]
    append(log, "", "")
    for client in clients:
        client.wait_lines(8)
        client.quiet(0.1)
        assert client.lines == ["text", *[""] * 7]
    assert server.rest("app.log", "lines", tail=3)["lines"] == ["", "", ""]


def test_b3_bytes_that_are_no_text_are_replaced_and_the_neighbours_intact(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    content = b"before\nbad \xff\xfe\x80 \xc3( \xed\xa0\x80 end\n\xe2\x82\nafter \xe2\x82\xac\n"
    log.write_bytes(content)
    server = serve(site.read / "app.log")
    expected = content.decode("utf-8", "replace").splitlines()
    plain, json, raw = server.client(), server.json(), server.raw()
    for client in (plain, json):
        client.wait_lines(4)
        assert client.lines == expected
    raw.expect_bytes(content)
    append_bytes(log, b"\xe2")
    glance()
    append_bytes(log, b"\x82\xac whole\n")
    for client in (plain, json):
        client.wait_lines(5)
        assert client.lines == [*expected, "€ whole"]
    # Offsets count the file's bytes, whatever they show as.
    assert json.messages[-1]["offset"] == len(content)


def test_b5_a_byte_order_mark_is_not_shown(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    log.write_bytes(b"\xef\xbb\xbffirst\nsecond\n")
    server = serve(site.read / "app.log")
    for client in (server.client(), server.json(), server.client(from_="start")):
        client.expect(["first", "second"])
    assert server.rest("app.log", "lines", tail=5)["lines"] == ["first", "second"]
    raw = server.raw()
    raw.expect_bytes(log.read_bytes())
    live = server.client(tail=0)
    live.quiet(0.1)
    log.write_bytes(b"\xef\xbb\xbfnew\n")
    live.expect(["new"], quiet_s=0.1)


UTF16 = {
    "little": "begin\nmiddle\n".encode("utf-16"),
    "big": b"\xfe\xff" + "begin\nmiddle\n".encode("utf-16-be"),
    "no newline": b"\xff\xfe" + "begin".encode("utf-16-le"),
    "newline last": b"\xff\xfe" + "begin\n".encode("utf-16-le"),
    "utf-32": "begin\n".encode("utf-32"),
}


def test_a7_b6_a_file_in_utf_16_is_refused_and_never_shown_as_garbage(serve: Serve, site: Site) -> None:
    for name, content in UTF16.items():
        (site.write / name).write_bytes(content)
    server = serve(site.read)
    for name in UTF16:
        assert server.state(name)["state"] == "unsupported", name
        for client in (server.client(stream=name), server.raw(stream=name)):
            assert "UTF-" in client.wait_closed(4010)
            assert client.received == (0, 0, 0)
        json = server.json(stream=name)
        assert "UTF-" in server.state(name)["detail"]
        json.quiet(0.02)
        assert not json.lines


def test_b6_a_file_that_becomes_utf_16_is_reported_to_those_who_look(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log")
    plain, json = server.client(), server.json()
    for client in (plain, json):
        client.expect(["before"])
    log.write_bytes("after\n".encode("utf-16"))
    assert "UTF-16" in json.wait_event("unreadable")["detail"]
    for client in (plain, json):
        client.expect(["before"])
    write(log, "text again")
    json.expect(["before", "text again"])


def test_b7_a_nul_within_a_line_stays_in_it(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    log.write_bytes(b"a\0b\n\0\0begin\nend\0\n\0\n")
    server = serve(site.read / "app.log")
    expected = ["a\0b", "\0\0begin", "end\0", "\0"]
    json = server.json()
    for client in (server.client(), json):
        client.wait_lines(4)
        assert client.lines == expected
    append_bytes(log, b"\0live\0\n")
    json.wait_last("\0live\0")
    late = server.client(tail=2)
    late.wait_lines(2)
    assert late.lines == ["\0", "\0live\0"]


def test_b8_only_lines_over_the_limit_are_cut_and_marked(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log", *SMALL, "--partial-after", "0")
    plain, json, raw = server.client(), server.json(), server.raw()
    for client in (plain, json):
        client.expect(["before"])
    lengths = [10, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 11, 10 * MAX_LINE, 12, 1_700_000, 13, MAX_LINE]
    lines = [f"{number} ".ljust(length, "x") for number, length in enumerate(lengths)]
    shown = ["before", *(line[:MAX_LINE] for line in lines)]
    for line in lines:
        append(log, line)
    with Writer(log) as writer:
        writer.write_bytes(b"too long at the end ".ljust(2 * MAX_LINE, b"y"))
        glance()
        writer.write_bytes(b"y" * MAX_LINE + b"\nthe last\n")
    shown += [b"too long at the end ".ljust(MAX_LINE, b"y").decode(), "the last"]
    for client in (plain, json):
        client.expect(shown)
    cut = [m["cut"][0][1] for m in json.messages if m.get("cut")]
    assert cut == [length + 1 for length in lengths if length > MAX_LINE] + [3 * MAX_LINE + 1]
    raw.expect_bytes(log.read_bytes())
    late = server.json(tail=len(shown))
    late.expect(shown)
    assert [m["cut"][0][1] for m in late.messages if m.get("cut")] == cut


def test_b8_a_cut_never_splits_a_character(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    write(log, "before")
    server = serve(site.read / "app.log", *SMALL)
    plain = server.client()
    plain.expect(["before"])
    append(log, "€" * MAX_LINE, "x" + "€" * MAX_LINE, "after")
    plain.expect(["before", "€" * (MAX_LINE // 3), "x" + "€" * ((MAX_LINE - 1) // 3), "after"])


def test_b9_a_line_of_a_hundred_megabytes_costs_no_memory_and_delays_nobody(serve: Serve, site: Site) -> None:
    log, other = site.write / "app.log", site.write / "other.log"
    write(log, "before")
    write(other, "before")
    server = serve(site.read)
    client, aside = server.json(stream="app.log"), server.client(stream="other.log")
    for each in (client, aside):
        each.expect(["before"])
    rss = server.rss_bytes
    piece = b"x" * (1 << 20)
    with Writer(log) as writer:
        for number in range(100):
            writer.write_bytes(piece)
            if number % 20 == 0:
                append(other, f"line {number}")
                aside.wait_last(f"line {number}")
        writer.write_bytes(b"\nafter\n")
    client.wait_last("after")
    assert server.rss_bytes - rss < 32 << 20
    assert [m["cut"][0][1] for m in client.messages if m.get("cut")][-1] >= 100 << 20
    assert server.client(stream="app.log", tail=1).lines in ([], ["after"])


def test_b10_control_characters_and_markup_arrive_as_they_are(serve: Serve, site: Site) -> None:
    log = site.write / "app.log"
    lines = [
        "\x1b[31mred\x1b[0m",
        "<script>alert(1)</script>",
        "bell \x07 back \x08 tab \t",
        '"quoted" \\ and \u2028 \x85',
    ]
    write(log, *lines)
    server = serve(site.read / "app.log")
    for client in (server.client(), server.json()):
        client.wait_lines(len(lines))
        assert client.lines == lines


def test_b11_a_binary_file_is_flagged_and_harms_nobody(serve: Serve, site: Site) -> None:
    binary = b"\x7fELF\x02\x01\x01\0" + bytes(range(256)) * 200
    (site.write / "core").write_bytes(binary)
    write(site.write / "app.log", "text")
    server = serve(site.read)
    wait_until(lambda: server.state("core")["binary"] is True, "it is flagged")
    assert server.state("app.log")["binary"] is False
    raw = server.raw(stream="core", tail=1000)
    raw.expect_bytes(binary)
    for client in (server.client(stream="core"), server.json(stream="core")):
        client.wait_lines(10)
    append_bytes(site.write / "core", binary + b"\n")
    raw.expect_bytes(binary * 2 + b"\n")
    assert server.client(stream="app.log").lines in ([], ["text"])


@pytest.mark.parametrize("age_s", [0, 60])
def test_b3_a_character_that_is_split_by_a_silence(serve: Serve, site: Site, age_s: int) -> None:
    """The begun line is sent without the half character, which comes whole with the rest."""
    log = site.write / "app.log"
    log.write_bytes("half € ".encode() + b"\xe2\x82")
    os.utime(log, (time.time() - age_s,) * 2)
    server = serve(site.read / "app.log")
    client = server.client()
    client.expect(["half € "], quiet_s=0.2)
    append_bytes(log, b"\xac whole\n")
    client.expect(["half € ", "€ whole"])
