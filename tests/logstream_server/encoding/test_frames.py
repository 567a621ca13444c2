"""frames: every cut of the bytes gives the same messages, every offence its close code, and `websockets` agrees."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.frames import Opcode as TheirOpcode
from websockets.protocol import Protocol, Side, State

from logstream_server.encoding.frames import (
    HEADERS,
    FrameParser,
    Message,
    Opcode,
    ProtocolError,
    apply_mask,
    encode_close,
    encode_frame,
    encode_header,
    encode_text_frames,
    parse_close,
    parse_server_frames,
)

LIMIT = 1000
MASK = b"\x0f\xf0\xaa\x01"


def client_frame(opcode: int, payload: bytes = b"", fin: bool = True) -> bytes:
    """A frame as a client sends it."""
    return encode_frame(Opcode(opcode), payload, fin=fin, mask=MASK)


def feed_cut(parser: FrameParser, data: bytes, cuts: Iterable[int]) -> list[Message]:
    """Feed `data` in pieces that end at the given places."""
    messages: list[Message] = []
    start = 0
    for end in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        messages += parser.feed(data[start:end])
        start = end
    return messages


# Messages as a client may send them: text or binary in fragments, control frames between the fragments.

control_frames = st.builds(Message, st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125))


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[Message], list[tuple[Opcode, bytes, bool]]]:
    """Messages in the order in which they are complete, and the frames (opcode, payload, fin) that carry them."""
    messages: list[Message] = []
    frames: list[tuple[Opcode, bytes, bool]] = []
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            whole = Message(Opcode.TEXT, draw(st.text(max_size=200)).encode())
        else:
            whole = Message(Opcode.BINARY, draw(st.binary(max_size=300)))
        cuts = sorted(draw(st.lists(st.integers(0, len(whole.payload)), max_size=3)))
        edges = [0, *cuts, len(whole.payload)]
        for index, (start, end) in enumerate(pairwise(edges)):
            last = index == len(cuts)
            frames.append((Opcode.CONTINUATION if index else whole.opcode, whole.payload[start:end], last))
            if last:
                messages.append(whole)
            if draw(st.booleans()):
                control = draw(control_frames)
                frames.append((control.opcode, control.payload, True))
                messages.append(control)
    return messages, frames


# Encoding


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 255, 256, 65535, 65536, 70000])
def test_a_frame_has_the_bytes_that_websockets_gives_it(size: int) -> None:
    """Each of the three length formats, at both of its ends."""
    payload = b"x" * size
    expected = Frame(TheirOpcode.TEXT, payload).serialize(mask=False)
    assert encode_frame(Opcode.TEXT, payload) == expected
    assert encode_text_frames([payload]) == expected
    assert encode_header(Opcode.TEXT, size) + payload == expected


def test_the_header_table_covers_every_16_bit_length() -> None:
    """HEADERS[n] is what encode_header computes, for all 65536 of them, in a few megabytes."""
    assert len(HEADERS) == 65536
    assert all(header == encode_header(Opcode.TEXT, size) for size, header in enumerate(HEADERS))
    assert sys.getsizeof(HEADERS) + sum(map(sys.getsizeof, HEADERS)) < 5_000_000


@given(st.lists(st.one_of(st.binary(max_size=300), st.integers(65530, 65540).map(bytes)), max_size=20))
def test_text_frames_are_one_frame_for_each_line(lines: list[bytes]) -> None:
    """Joined frames split again into the same lines, with and without a line too long for the table."""
    assert parse_server_frames(encode_text_frames(lines)) == [(Opcode.TEXT, line) for line in lines]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        pytest.param(b"\x81", "half a header", id="a header that is cut"),
        pytest.param(b"\x81\x02a", "half a payload", id="a payload that is cut"),
        pytest.param(b"\x01\x01a", "a fragment", id="a fragment"),
        pytest.param(client_frame(1, b"a"), "masked", id="a frame of a client"),
        pytest.param(b"\x81\x01a\x83\x00", "unknown opcode", id="an unknown opcode after a good frame"),
    ],
)
def test_a_run_of_server_frames_must_be_whole(data: bytes, sentence: str) -> None:
    """What is not a run of whole, final, unmasked frames is refused, never half understood."""
    with pytest.raises(ProtocolError) as caught:
        parse_server_frames(data)
    assert caught.value.close_code == 1002, sentence


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        pytest.param("", b"", id="no reason"),
        pytest.param("bye", b"bye", id="a short reason stays"),
        pytest.param("x" * 123, b"x" * 123, id="123 bytes fit"),
        pytest.param("x" * 124, b"x" * 120 + b"...", id="124 bytes are cut"),
        pytest.param("€" * 60, "€".encode() * 40 + b"...", id="a cut falls between characters"),
        pytest.param("a" + "€" * 60, b"a" + "€".encode() * 39 + b"...", id="a cut inside a character leaves it out"),
        pytest.param("\udcff", b"?", id="a lone surrogate does not raise"),
    ],
)
def test_a_close_reason_fits_its_frame(reason: str, expected: bytes) -> None:
    """At most 125 bytes of payload, valid UTF-8, whatever the reason."""
    [(opcode, payload)] = parse_server_frames(encode_close(4009, reason))
    assert (opcode, payload) == (Opcode.CLOSE, (4009).to_bytes(2, "big") + expected)
    assert parse_close(payload) == (4009, expected.decode())


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_masking_is_a_bytewise_xor_and_its_own_inverse(payload: bytes, mask: bytes) -> None:
    """RFC 6455, 5.3, against the obvious loop."""
    masked = apply_mask(payload, mask)
    assert masked == bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    assert apply_mask(masked, mask) == payload


# Parsing


@given(conversations(), st.binary(min_size=4, max_size=4), st.lists(st.integers(0, 10_000), max_size=30))
def test_any_cut_of_the_bytes_gives_the_same_messages(
    conversation: tuple[list[Message], list[tuple[Opcode, bytes, bool]]], mask: bytes, cuts: list[int]
) -> None:
    """And between messages the parser holds nothing."""
    messages, frames = conversation
    data = b"".join(encode_frame(opcode, payload, fin=fin, mask=mask) for opcode, payload, fin in frames)
    parser = FrameParser(LIMIT)
    assert feed_cut(parser, data, cuts) == messages
    assert parser.held_bytes == 0


@given(conversations(), st.lists(st.integers(0, 10_000), max_size=5))
def test_frames_of_the_websockets_library_are_understood(
    conversation: tuple[list[Message], list[tuple[Opcode, bytes, bool]]], cuts: list[int]
) -> None:
    """Their client writes, our parser reads."""
    messages, frames = conversation
    client = Protocol(Side.CLIENT, state=State.OPEN)
    send: dict[Opcode, Callable[[bytes, bool], None]] = {
        Opcode.TEXT: client.send_text,
        Opcode.BINARY: client.send_binary,
        Opcode.CONTINUATION: client.send_continuation,
        Opcode.PING: lambda payload, _: client.send_ping(payload),
        Opcode.PONG: lambda payload, _: client.send_pong(payload),
    }
    for opcode, payload, fin in frames:
        send[opcode](payload, fin)
    client.send_close(1000, "done")
    data = b"".join(client.data_to_send())
    assert feed_cut(FrameParser(LIMIT), data, cuts) == [*messages, (Opcode.CLOSE, b"\x03\xe8done")]


@given(st.lists(st.text(max_size=200), max_size=10), st.integers(3000, 4999), st.text(max_size=60))
def test_our_frames_are_understood_by_the_websockets_library(lines: list[str], code: int, reason: str) -> None:
    """Our server writes, their client reads."""
    client = Protocol(Side.CLIENT, state=State.OPEN)
    client.receive_data(encode_text_frames([line.encode() for line in lines]))
    client.receive_data(encode_frame(Opcode.PING, b"p") + encode_close(code, reason))
    events = [event for event in client.events_received() if isinstance(event, Frame)]
    assert [bytes(event.data).decode() for event in events if event.opcode is TheirOpcode.TEXT] == lines
    assert [event.opcode for event in events[len(lines) :]] == [TheirOpcode.PING, TheirOpcode.CLOSE]
    assert client.close_rcvd is not None
    assert client.close_rcvd.code == code
    assert client.parser_exc is None


def masked(header: bytes, payload: bytes = b"") -> bytes:
    """A frame from the bytes of its header, mask bit and key added; for headers that `encode_frame` would not make."""
    return bytes((header[0], header[1] | 0x80)) + header[2:] + MASK + apply_mask(payload, MASK)


OFFENCES = [
    pytest.param(b"\x81\x01a", 1002, id="a client's frame without a mask"),
    pytest.param(masked(b"\xc1\x01", b"a"), 1002, id="the first reserved bit, as deflate uses it"),
    pytest.param(masked(b"\xa1\x01", b"a"), 1002, id="the second reserved bit"),
    pytest.param(masked(b"\x91\x01", b"a"), 1002, id="the third reserved bit"),
    *[pytest.param(masked(bytes((0x80 | op, 0))), 1002, id=f"reserved opcode {op:#x}") for op in (3, 4, 5, 6, 7)],
    *[pytest.param(masked(bytes((0x80 | op, 0))), 1002, id=f"reserved opcode {op:#x}") for op in range(11, 16)],
    pytest.param(masked(b"\x82\x7f" + b"\x80" + b"\0" * 7), 1002, id="the top bit of a 64-bit length"),
    pytest.param(masked(b"\x89\x7e\x00\x7e", b"x" * 126), 1002, id="a ping of 126 bytes"),
    pytest.param(masked(b"\x09\x00"), 1002, id="a ping that is not final"),
    pytest.param(masked(b"\x08\x00"), 1002, id="a close that is not final"),
    pytest.param(client_frame(0, b"x"), 1002, id="a continuation of nothing"),
    pytest.param(client_frame(1, b"a", fin=False) + client_frame(1, b"b"), 1002, id="a text inside a fragmented one"),
    pytest.param(client_frame(2, b"a", fin=False) + client_frame(2, b"b", fin=False), 1002, id="two beginnings"),
    pytest.param(client_frame(1, b"\xff"), 1007, id="text that is not UTF-8"),
    pytest.param(client_frame(1, b"\xed\xa0\x80"), 1007, id="text with a surrogate"),
    pytest.param(client_frame(1, b"\xe2\x82", fin=False) + client_frame(0, b"x"), 1007, id="fragments not UTF-8"),
    pytest.param(client_frame(1, b"\xe2\x82"), 1007, id="text that ends inside a character"),
    pytest.param(client_frame(8, b"\x03"), 1002, id="a close with half a code"),
    *[
        pytest.param(client_frame(8, code.to_bytes(2, "big")), 1002, id=f"close code {code}")
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    ],
    pytest.param(client_frame(8, b"\x03\xe8\xff"), 1007, id="a close reason that is not UTF-8"),
    pytest.param(client_frame(2, b"x" * (LIMIT + 1)), 1009, id="a message over the limit"),
    pytest.param(
        client_frame(2, b"x" * 600, fin=False) + client_frame(0, b"x" * 401), 1009, id="fragments over the limit"
    ),
]


@pytest.mark.parametrize(("data", "close_code"), OFFENCES)
@pytest.mark.parametrize("size", [1, 2, 7, 10_000], ids="in pieces of {}".format)
def test_an_offence_has_its_close_code(data: bytes, close_code: int, size: int) -> None:
    """However the bytes are cut."""
    parser = FrameParser(LIMIT)
    with pytest.raises(ProtocolError) as caught:
        feed_cut(parser, data, range(size, len(data), size))
    assert caught.value.close_code == close_code
    assert len(encode_close(caught.value.close_code, caught.value.reason)) <= 127
    assert str(close_code) in str(caught.value)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999])
def test_a_valid_close_code_is_taken(code: int) -> None:
    """7.4.1, the registry and the two free ranges."""
    payload = code.to_bytes(2, "big") + "größer".encode()
    assert FrameParser(LIMIT).feed(client_frame(8, payload)) == [(Opcode.CLOSE, payload)]
    assert parse_close(payload) == (code, "größer")


def test_a_close_without_a_code_is_taken_as_1005() -> None:
    """An empty close frame is legal; 1005 stands for it and is never sent."""
    assert FrameParser(LIMIT).feed(client_frame(8)) == [(Opcode.CLOSE, b"")]
    assert parse_close(b"") == (1005, "")


def test_nothing_is_read_after_a_close() -> None:
    """5.5.1: what follows is thrown away, garbage included, and not kept either."""
    parser = FrameParser(LIMIT)
    assert parser.feed(client_frame(8) + b"\xff" * 50) == [(Opcode.CLOSE, b"")]
    assert parser.feed(b"\xff" * 50) == []
    assert parser.held_bytes == 0


@pytest.mark.parametrize("size", [0, 1, 125, 126, LIMIT], ids="{} bytes".format)
@pytest.mark.parametrize("length_bytes", [2, 8], ids="length in {} bytes".format)
def test_a_length_may_be_written_longer_than_needed(size: int, length_bytes: int) -> None:
    """5.2 asks senders for the shortest form; readers in the field do not insist, nor do we."""
    header = bytes((0x82, 126 if length_bytes == 2 else 127)) + size.to_bytes(length_bytes, "big")
    assert FrameParser(LIMIT).feed(masked(header, b"x" * size)) == [(Opcode.BINARY, b"x" * size)]


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(masked(b"\x82\x7e\x03\xe9"), id="16-bit length, one byte over"),
        pytest.param(masked(b"\x81\x7f" + (1 << 62).to_bytes(8, "big")), id="64-bit length, four exabytes"),
    ],
)
def test_a_message_over_the_limit_is_refused_by_its_header(header: bytes) -> None:
    """Before any of its payload came, so a client cannot make us hold it."""
    with pytest.raises(ProtocolError) as caught:
        FrameParser(LIMIT).feed(header)
    assert caught.value.close_code == 1009


def test_empty_fragments_without_end_take_no_memory() -> None:
    """A hostile client may send them for ever."""
    parser = FrameParser(LIMIT)
    parser.feed(client_frame(1, b"a", fin=False))
    tracemalloc.start()
    for _ in range(100):
        assert parser.feed(client_frame(0, b"", fin=False) * 100) == []
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 2000
    assert parser.held_bytes == 1
    assert parser.feed(client_frame(0, b"b")) == [(Opcode.TEXT, b"ab")]


def test_an_idle_parser_is_small() -> None:
    """There are ten thousand of them: no dict, no buffer, also after traffic."""
    parser = FrameParser(65536)
    parser.feed(client_frame(2, b"x" * 60_000)[:50_000])
    parser.feed(client_frame(2, b"x" * 60_000)[50_000:])
    assert not hasattr(parser, "__dict__")
    assert parser.held_bytes == 0
    assert sys.getsizeof(parser) <= 96


def test_the_largest_message_passes() -> None:
    """The limit itself is allowed, whole or in fragments."""
    whole = client_frame(2, b"x" * LIMIT)
    parts = client_frame(2, b"x" * 600, fin=False) + client_frame(0, b"x" * 400)
    assert FrameParser(LIMIT).feed(whole + parts) == [(Opcode.BINARY, b"x" * LIMIT)] * 2


# Garbage


frame_like = st.builds(
    lambda first, second, rest: bytes((first, second)) + rest,
    st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8A, 0x83, 0xC1, 0x09]),
    st.sampled_from([0x80, 0x81, 0x84, 0xFE, 0xFF, 0x01, 0xFD]),
    st.binary(max_size=40),
)


garbage = st.one_of(st.binary(max_size=300), st.lists(frame_like, max_size=8).map(b"".join))


@given(garbage, st.lists(st.integers(0, 400)))
def test_garbage_never_raises_anything_but_a_protocol_error(data: bytes, cuts: list[int]) -> None:
    """Random bytes and random bytes after likely headers; and the answer does not hang on the cuts."""

    def outcome(places: list[int]) -> int | list[Message]:
        try:
            return feed_cut(FrameParser(LIMIT), data, places)
        except ProtocolError as error:
            return error.close_code

    at_once = outcome([])
    assert at_once == outcome(cuts) == outcome(list(range(len(data))))
    assert isinstance(at_once, list) or at_once in (1002, 1007, 1009)


@st.composite
def whole_frames(draw: st.DrawFn) -> bytes:
    """A frame whose payload is all there, with a header that may break any rule. Six are below the limit: the library
    counts control frames within a message towards it, which the RFC does not ask for."""
    payload = draw(st.one_of(st.binary(max_size=130), st.text(max_size=20).map(str.encode), st.just(b"x" * 130)))
    first = draw(st.sampled_from([0x81, 0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8A, 0x83, 0xC1, 0x09]))
    header = bytes((first,)) + encode_header(Opcode.TEXT, len(payload))[1:]
    return masked(header, payload) if draw(st.integers(0, 9)) else header + payload


@given(st.lists(whole_frames(), max_size=6).map(b"".join))
def test_the_websockets_library_judges_the_same_bytes_alike(data: bytes) -> None:
    """Same frames and same verdict, for anything: two readings of one RFC."""
    expected, error = their_reading(data)
    assume(error is not None)
    try:
        messages = FrameParser(LIMIT).feed(data)
    except ProtocolError:
        assert error
        return
    assert not error
    assert messages == expected


def their_reading(data: bytes) -> tuple[list[tuple[int, bytes]], bool | None]:
    """Messages that the websockets library finds, as a server with our limit, and whether it took offence (None: where
    it is stricter than the RFC)."""
    server = Protocol(Side.SERVER, state=State.OPEN, max_size=LIMIT)
    server.receive_data(data)
    messages: list[tuple[int, bytes]] = []
    opcode, payload = TheirOpcode.CONT, b""
    for event in server.events_received():
        assert isinstance(event, Frame)
        if event.opcode in (TheirOpcode.PING, TheirOpcode.PONG, TheirOpcode.CLOSE):
            messages.append((int(event.opcode), bytes(event.data)))
            continue
        if event.opcode is not TheirOpcode.CONT:
            opcode, payload = event.opcode, b""
        payload += event.data
        if event.fin:
            if opcode is TheirOpcode.TEXT and not is_utf8(payload):  # their connection checks this, not their protocol
                return messages, True
            messages.append((int(opcode), payload))
    if "incomplete fragmented message" in str(server.parser_exc):
        return messages, None  # a close in the middle of a message: RFC 6455 (5.4) lets control frames come there
    return messages, server.parser_exc is not None


def is_utf8(data: bytes) -> bool:
    """Whether the bytes are UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_the_reference_sees_binary_frames() -> None:
    """A check of the checker: the library's reading is not empty by mistake."""
    assert their_reading(client_frame(2, b"a")) == ([(int(TheirOpcode.BINARY), b"a")], False)
    assert their_reading(b"\x82\x01a") == ([], True)
