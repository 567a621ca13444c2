"""listener: whatever the bytes and however they come, a good run is good and each fault is found."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.bench.checklist import Faults
from logstream_server.bench.listener import Closed, Listener, Run
from logstream_server.bench.stamps import Stamp, encode_stamped, padding
from logstream_server.bench.tape import Tape
from logstream_server.encoding.frames import Opcode, ProtocolError, encode_close, encode_frame
from logstream_server.encoding.view import Format

RUN = b"0123abcd"
NOW = 2_000_000_000_000


def line(seq: int, run: bytes = RUN) -> bytes:
    """One line, without its newline, written a second before NOW."""
    return encode_stamped(Stamp(run, seq, NOW - 10**9), padding(100))[:-1]


def text(*lines: bytes) -> list[bytes]:
    """Frames of plain mode."""
    return [encode_frame(Opcode.TEXT, each) for each in lines]


def batch(cursor: str, *lines: bytes, **fields: object) -> bytes:
    """A frame of JSON mode."""
    message = {
        "type": "lines",
        "stream": "s",
        "cursor": cursor,
        "offset": 0,
        "lines": [each.decode() for each in lines],
    }
    return encode_frame(Opcode.TEXT, json.dumps(message | fields).encode())


def crowd(
    count: int, form: Format = Format.TEXT, *, listening: bool = False, tape: Tape | None = None
) -> list[Listener]:
    """Clients of one run."""
    run = Run(form, tape or Tape(None if listening else 0, "c0"), None if listening else RUN, strict=not listening)
    return [Listener(run, "c0") for _ in range(count)]


def feed(client: Listener, frames: Sequence[bytes], now_ns: int = NOW) -> None:
    client.feed(b"".join(frames), now_ns)


@given(st.sampled_from(Format), st.integers(0, 1 << 32))
def test_however_the_bytes_are_cut_every_line_counts_once(form: Format, seed: int) -> None:
    """Three clients, with pings in between, each fed in pieces and in turns of its own."""
    chance = random.Random(seed)  # noqa: S311 - to cut bytes at random
    lines = [line(seq) for seq in range(12)]
    if form is Format.TEXT:
        frames = text(*lines)
    elif form is Format.JSON:
        frames = [batch(f"c{at}", *lines[at : at + 3]) for at in range(0, 12, 3)]
    else:
        content = b"".join(each + b"\n" for each in lines)
        cuts = sorted(chance.sample(range(1, len(content)), 6))
        pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
        frames = [encode_frame(Opcode.BINARY, piece) for piece in pieces]
    clients = crowd(3, form)
    rest = []
    for _ in clients:
        own = list(frames)
        own.insert(chance.randint(0, len(own)), encode_frame(Opcode.PING, b"p"))
        rest.append(b"".join(own))
    while any(rest):
        turn = chance.randrange(3)
        size = chance.randint(1, 700)
        clients[turn].feed(memoryview(rest[turn][:size]), NOW)
        rest[turn] = rest[turn][size:]
    for client in clients:
        client._tape.count_rest()
        assert (client.checklist.lines, client.checklist.next, client.checklist.faults) == (12, 12, Faults())
        assert client.answers.startswith(b"\x8a\x81")
    assert clients[0]._tape.ages.count == 36
    assert clients[0]._tape.ages.percentile_ms(50) == pytest.approx(1000, rel=0.01)


def mutations() -> dict[str, tuple[list[bytes], Faults]]:
    lines = [line(seq) for seq in range(8)]
    broken = bytearray(lines[3])
    broken[-1] ^= 1
    return {
        "a loss": ([*lines[:3], *lines[4:]], Faults(lost=1)),
        "a loss at the beginning": (lines[1:], Faults(lost=1)),
        "a loss at the end": (lines[:-1], Faults(lost=1)),
        "a repeat": ([*lines[:4], *lines[3:]], Faults(repeated=1)),
        "a swap": ([*lines[:3], lines[4], lines[3], *lines[5:]], Faults(reordered=1)),
        "damage": ([*lines[:3], bytes(broken), *lines[4:]], Faults(damaged=1)),
        "a line of somebody else": ([*lines[:3], b"hello", *lines[3:]], Faults(damaged=1)),
        "a line of another run": ([*lines[:3], line(3, b"ffffffff"), *lines[3:]], Faults(damaged=1)),
    }


@pytest.mark.parametrize("fault", mutations())
@pytest.mark.parametrize("first", [True, False], ids=["of the first", "of a later one"])
@pytest.mark.parametrize("form", Format)
def test_a_fault_is_found_and_is_only_that_client_s(fault: str, first: bool, form: Format) -> None:
    lines, expected = mutations()[fault]
    good = [line(seq) for seq in range(8)]

    def frames(of: list[bytes]) -> list[bytes]:
        if form is Format.TEXT:
            return text(*of)
        if form is Format.RAW:
            return [encode_frame(Opcode.BINARY, each + b"\n") for each in of]
        return [batch("c", *of[:4]), batch("d", *of[4:])]

    clients = crowd(3, form)
    order = [frames(lines), frames(good), frames(good)] if first else [frames(good), frames(lines), frames(good)]
    for client, its in zip(clients, order, strict=True):
        feed(client, its)
        client.checklist.end(7)
    wrong = 0 if first else 1
    assert [client.checklist.faults for client in clients] == [expected if at == wrong else Faults() for at in range(3)]


def test_a_client_with_a_fault_comes_back_to_the_tape() -> None:
    """It is compared again, and not read line by line for ever."""
    good, bad = crowd(2)
    frames = text(*(line(seq) for seq in range(10)))
    feed(good, frames)
    feed(bad, [*frames[:3], *frames[4:6]])
    assert bad._place is not None
    feed(bad, frames[6:])
    assert (bad.checklist.lines, bad.checklist.faults.lost, bad._place) == (9, 1, good._tape.end)


def test_what_all_lose_does_not_hold_up_the_tape() -> None:
    """After a second in which nobody got the line, the tape goes on behind it; each has lost it."""
    clients = crowd(2)
    frames = text(*(line(seq) for seq in range(10)))
    for client in clients:
        feed(client, frames[:3])
    for at in range(4, 10):
        for client in clients:
            feed(client, [frames[at]], NOW + at * 10**9)
    assert [client._place for client in clients] == [clients[0]._tape.end] * 2
    assert clients[0]._tape.last.next_seq == 10
    assert [client.checklist.faults for client in clients] == [Faults(lost=1)] * 2


def test_listening_begins_with_whatever_comes_and_counts_lines_without_a_stamp() -> None:
    clients = crowd(2, listening=True)
    frames = text(b"hello", line(70), b"", line(71))
    for client in clients:
        feed(client, frames)
        assert (client.others, client.checklist.lines, client.checklist.next) == (2, 2, 72)
        assert client.checklist.faults == Faults()


def test_a_client_that_reconnects_goes_on_with_its_cursor() -> None:
    """At the end of the last whole message; what came of the next is forgotten, and comes again."""
    first, second = crowd(2, Format.JSON)
    messages = [batch(f"c{at}", *(line(seq) for seq in range(at, at + 2))) for at in range(0, 8, 2)]
    feed(first, messages)
    assert first.cursor == "c6"
    second.feed(b"".join(messages[:2]) + messages[2][:50], NOW)
    assert second.cursor == "c2"
    second.reconnected()
    hello = {"type": "hello", "stream": "s", "cursor": "c2", "recovered": True}
    feed(second, [encode_frame(Opcode.TEXT, json.dumps(hello).encode()), messages[2], messages[3]])
    assert (second.checklist.lines, second.checklist.next, second.checklist.faults) == (8, 8, Faults())


def test_a_gap_that_is_told_is_counted() -> None:
    (client,) = crowd(1, Format.JSON)
    gap = {"type": "gap", "stream": "s", "reason": "slow", "cursor": "c9"}
    hello = {"type": "hello", "stream": "s", "recovered": False}
    feed(client, [encode_frame(Opcode.TEXT, json.dumps(each).encode()) for each in (gap, hello)])
    assert (client.gaps, client.cursor) == (2, "c9")


def test_a_partial_line_is_put_together() -> None:
    (client,) = crowd(1, Format.JSON)
    whole = line(0).decode()
    feed(client, [batch("c1", whole[:30].encode(), partial=True), batch("c2", whole[30:].encode(), continued=True)])
    assert (client.checklist.lines, client.checklist.faults) == (1, Faults())


def test_a_message_in_fragments_is_put_together() -> None:
    (client,) = crowd(1)
    whole = line(0)
    begin = encode_frame(Opcode.TEXT, whole[:20], fin=False)
    feed(client, [begin, encode_frame(Opcode.PING, b""), encode_frame(Opcode.CONTINUATION, whole[20:])])
    assert (client.checklist.lines, client.checklist.faults) == (1, Faults())


def test_a_client_that_is_far_behind_is_read_line_by_line() -> None:
    ahead, behind = crowd(2, tape=Tape(0, None, limit_bytes=500))
    frames = text(*(line(seq) for seq in range(100)))
    behind.feed(b"".join(frames)[:250], NOW)
    feed(ahead, frames)
    behind.feed(b"".join(frames)[250:], NOW)
    assert (behind.checklist.lines, behind.checklist.faults, behind._place) == (100, Faults(), ahead._place)


def test_the_server_s_close_is_answered_and_told() -> None:
    (client,) = crowd(1)
    feed(client, [encode_close(4005, "the file was truncated")])
    assert client.closed == Closed(4005, "the file was truncated")
    assert client.answers[:1] == b"\x88"
    client.lose_connection()
    assert client.closed.code == 4005
    client.reconnected()
    client.lose_connection()
    assert client.closed == Closed(1006, "the connection broke")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\x00", id="reserved bits"),
        pytest.param(encode_frame(Opcode.TEXT, b"x", mask=b"abcd"), id="a masked frame"),
    ],
)
def test_what_is_no_websocket_is_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        crowd(1)[0].feed(data, NOW)


def test_what_is_no_message_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="not a message of the server"):
        crowd(1, Format.JSON)[0].feed(encode_frame(Opcode.TEXT, b"hello"), NOW)
