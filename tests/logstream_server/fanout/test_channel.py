"""channel: who is live has exactly what the channel has; who leaves knows where it was, whenever that happens."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream_server.encoding.frames import parse_server_frames
from logstream_server.encoding.view import Format, View
from logstream_server.fanout.channel import BATCH_BYTES, WINDOW_BYTES, Batch, Channel, Lag, Place, Subscription
from logstream_server.lines.cursor import Generation, Position, Positions
from logstream_server.lines.filters import LineFilter
from logstream_server.lines.framing import Flag
from logstream_server.lines.ring import EventKind, Ring, StreamEvent


@dataclass
class Wire:
    """A sink that keeps what it was given."""

    blocked: bool = False
    frames: bytes = b""
    closed: list[tuple[int, str]] = field(default_factory=list)

    def write(self, frames: bytes, body: bytes = b"") -> bool:
        self.frames += frames + body
        return not self.blocked

    def finish(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))

    @property
    def text(self) -> list[bytes]:
        return [message.payload for message in parse_server_frames(self.frames)]


@dataclass
class Source:
    """One file, written by hand."""

    ring: Ring = field(default_factory=lambda: Ring(1 << 30))
    generation: Generation = field(default_factory=lambda: Generation(1))
    offset: int = 0

    def __post_init__(self) -> None:
        self.ring.append(self.generation, 0, 0)

    def write(self, data: bytes, flags: Flag = Flag.LINES, length: int | None = None) -> None:
        end = self.offset + (len(data) if length is None else length)
        self.ring.append(self.generation, self.offset, end, data, b"", flags)
        self.offset = end

    def at(self, offset: int) -> Positions:
        return (Position(self.generation, offset),)


def offsets(positions: Positions) -> list[int]:
    return [position.offset for position in positions]


def open_channel(source: Source, view: View | None = None) -> Channel:
    """A channel at the head."""
    return Channel("a.log", view or View(Format.TEXT), source.ring)


def join(channel: Channel, positions: Positions | None = None, lag: Lag = Lag.CATCHUP) -> Subscription:
    """Somebody who has what the channel has."""
    subscription = Subscription(Wire(), channel, channel.positions if positions is None else positions, lag)
    channel.members.add(subscription)
    channel.join_or_wait(subscription)
    return subscription


def flush(channel: Channel, served: int | None = None) -> Batch:
    """The next batch for the first `served` live subscriptions (all, unless said), as the hub writes it."""
    batch = channel.next_batch()
    assert batch is not None
    channel.flushing = batch
    for subscription in list(channel.live)[:served] if batch.frames else []:
        subscription.sink.write(batch.frames, batch.body)
        subscription.seq = batch.next_seq
    if served is None:
        channel.flushing = None
    return batch


# -- batches ----------------------------------------------------------------------------------------------------------


def test_a_channel_begins_at_the_head() -> None:
    source = Source()
    source.write(b"old\n")
    channel = open_channel(source)
    assert channel.next_batch() is None
    assert (channel.next_seq, channel.positions) == source.ring.head()
    assert channel.total == 4


def test_a_batch_is_what_came_since_the_last_one() -> None:
    source = Source()
    channel = open_channel(source)
    source.write(b"a\nb\n")
    source.write(b"c\n")
    batch = channel.next_batch()
    assert batch is not None
    assert [message.payload for message in parse_server_frames(batch.frames)] == [b"a", b"b", b"c"]
    assert (batch.seq, batch.next_seq, batch.lines, batch.gap) == (1, 3, 3, None)
    assert (offsets(batch.begin), offsets(batch.end)) == ([0], [6])
    assert (channel.next_seq, offsets(channel.positions), channel.total) == (3, [6], 6)
    assert channel.next_batch() is None


def test_a_batch_takes_no_more_of_the_ring_than_a_stalled_client_should_hold() -> None:
    source = Source()
    channel = open_channel(source)
    for _ in range(5):
        source.write(b"x" * (BATCH_BYTES // 2 - 1) + b"\n")
    assert [batch.next_seq - batch.seq for batch in iter(channel.next_batch, None)] == [2, 2, 1]


def test_a_loss_ends_a_plain_batch_and_goes_with_it() -> None:
    source = Source()
    channel = open_channel(source)
    gap = StreamEvent(EventKind.GAP, "gone", 5)
    source.write(b"a\n")
    source.ring.append(None, 0, 0, event=gap)
    source.write(b"b\n")
    first, second = channel.next_batch(), channel.next_batch()
    assert first is not None
    assert second is not None
    assert (first.next_seq, first.gap, first.losses) == (3, gap, (gap,))
    assert (second.next_seq, second.gap, second.losses) == (4, None, ())


@given(st.lists(st.integers(1, WINDOW_BYTES // 2), min_size=1, max_size=12))
def test_the_window_holds_the_last_batches_within_its_bytes(sizes: list[int]) -> None:
    source = Source()
    channel = open_channel(source)
    batches = []
    for size in sizes:
        source.write(b"x" * size + b"\n")
        batches.append(channel.next_batch())
        kept = list(channel.window.values())
        assert kept == batches[-len(kept) :]
        assert len(kept) == 1 or sum(batch.size for batch in kept) <= WINDOW_BYTES
        assert channel._window_bytes == sum(batch.size for batch in kept)
        assert all(channel.window[batch.seq] is batch for batch in kept)
    fits = len(batches) == len(channel.window)
    assert fits or sum(b.size for b in batches if b is not None) > WINDOW_BYTES


# -- joining and leaving ----------------------------------------------------------------------------------------------


def test_who_has_what_the_channel_has_is_live() -> None:
    channel = open_channel(Source())
    subscription = join(channel)
    assert subscription.place is Place.LIVE
    assert subscription.was_live
    assert list(channel.live) == [subscription]
    assert channel.place_of(subscription) == (channel.next_seq, channel.positions)


def test_who_has_more_waits_until_the_channel_has_it_too() -> None:
    """Another server gave it that. At the end of each flush it may look for its place again."""
    source = Source()
    channel = open_channel(source)
    subscription = join(channel, source.at(4))
    assert subscription.place is Place.AHEAD
    assert not subscription.was_live
    assert (list(channel.live), channel.strays) == ([], [subscription])
    source.write(b"a\nb\n")
    flush(channel)
    channel.return_stray(subscription)
    assert (subscription.place, subscription.seq) == (Place.BEHIND, None)
    channel.join_or_wait(subscription)
    assert subscription.place is Place.LIVE


def test_only_who_waited_is_returned() -> None:
    channel = open_channel(Source())
    subscription = join(channel)
    channel.return_stray(subscription)
    assert (subscription.place, subscription.seq) == (Place.LIVE, channel.next_seq)


def test_who_leaves_between_two_flushes_is_where_the_channel_is() -> None:
    source = Source()
    channel = open_channel(source)
    subscription = join(channel)
    for _ in range(3):
        source.write(b"line\n")
        flush(channel)
    channel.leave(subscription)
    assert subscription.place is Place.BEHIND
    assert (subscription.seq, offsets(subscription.positions)) == (4, [15])
    assert channel.place_of(subscription) == (subscription.seq, subscription.positions)
    assert not channel.live


@pytest.mark.parametrize(
    ("served", "seq", "offset"), [pytest.param(0, 2, 5, id="not served yet"), pytest.param(1, 3, 10, id="served")]
)
def test_who_leaves_in_the_middle_of_a_flush_knows_whether_it_got_the_batch(served: int, seq: int, offset: int) -> None:
    source = Source()
    channel = open_channel(source)
    subscription = join(channel)
    source.write(b"line\n")
    flush(channel)
    source.write(b"more\n")
    flush(channel, served)
    assert offsets(channel.place_of(subscription)[1]) == [offset]
    channel.leave(subscription)
    assert (subscription.seq, offsets(subscription.positions)) == (seq, [offset])


def test_who_joins_in_the_middle_of_a_flush_does_not_get_that_batch() -> None:
    source = Source()
    channel = open_channel(source)
    join(channel)
    source.write(b"line\n")
    batch = flush(channel, 0)
    late = join(channel)
    assert late.seq == batch.next_seq
    assert channel.place_of(late) == (batch.next_seq, batch.end)


def test_a_filter_that_says_nothing_for_long_does_not_lose_anybodys_place() -> None:
    """Nobody is written to, so nobody's own number moves; the channel knows it."""
    source = Source()
    channel = open_channel(source, View(Format.TEXT, LineFilter(("x",))))
    subscription = join(channel)
    for _ in range(3):
        source.write(b"line\n")
        assert flush(channel).frames == b""
    source.write(b"x\n")
    flush(channel, 0)
    channel.leave(subscription)
    assert (subscription.seq, offsets(subscription.positions)) == (4, [15])


# -- what leaves everybody behind -------------------------------------------------------------------------------------


def test_when_the_ring_was_faster_everybody_reads_the_file_from_where_it_was() -> None:
    source = Source(Ring(2000))
    channel = open_channel(source)
    subscription = join(channel)
    source.write(b"line\n")
    flush(channel)
    for _ in range(10):
        source.write(b"x" * 999 + b"\n")
    batch = flush(channel)
    assert (batch.frames, batch.next_seq) == (b"", 12)
    assert (channel.next_seq, channel.positions) == source.ring.head()
    assert channel.total == source.ring.total_bytes
    assert (subscription.place, subscription.seq, offsets(subscription.positions)) == (Place.BEHIND, None, [5])
    assert (list(channel.live), channel.strays) == ([], [subscription])


def test_an_over_long_line_is_read_from_the_file_by_those_who_want_its_bytes() -> None:
    source = Source()
    channel = open_channel(source, View(Format.RAW))
    subscription = join(channel)
    source.write(b"line\n")
    source.write(b"long", Flag.CUT, 1000)
    source.write(b"more\n")
    assert flush(channel).next_seq == 2
    step = flush(channel)
    assert (step.frames, step.seq, step.next_seq) == (b"", 2, 3)
    assert offsets(channel.positions) == [1005]
    assert (subscription.place, subscription.seq, offsets(subscription.positions)) == (Place.BEHIND, None, [5])
    assert channel.strays == [subscription]
    assert flush(channel).next_seq == 4


@pytest.mark.parametrize("view", [View(Format.RAW), View(Format.TEXT)], ids=["over-long", "too fast"])
def test_what_the_channel_left_out_is_no_way_on_for_those_who_are_behind(view: View) -> None:
    """A client that was blocked just there must not be led past what it has not got."""
    source = Source(Ring(2000))
    channel = open_channel(source, view)
    behind = join(channel)
    source.write(b"line\n")
    batch = flush(channel)
    channel.leave(behind)
    if view.format is Format.RAW:
        source.write(b"long", Flag.CUT, 1000)
    else:
        for _ in range(10):
            source.write(b"x" * 999 + b"\n")
    left_out = flush(channel)
    assert (behind.seq, behind.positions) == (left_out.seq, left_out.begin) == (batch.next_seq, batch.end)
    assert left_out.seq not in channel.window
