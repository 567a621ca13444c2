"""Which channels there are, and how far the sources may run ahead of them.

A source waits for the live views of its stream, which never wait for a client. Where nobody is live any more, a channel
is *led*: the first client to come to its end takes it on, and the source waits for that one, but only while it comes
often enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from logstream_server.encoding.view import View
from logstream_server.tailing.stream import Stream

from .channel import Channel, Place

LEAD_S: Final = 0.01
"""How long a channel without live clients waits for the next to come to its end. A batch in this time are some 25 MB/s:
clients that are so fast share the processor with the source; for a slower one the source does not wait."""


class Roster:
    """The channels by stream and view. `wake`: has the source of a stream go on."""

    def __init__(self, wake: Callable[[Stream], None], lead_s: float = LEAD_S) -> None:
        self._wake = wake
        self._lead_s = lead_s
        self._channels: dict[Stream, dict[View, Channel]] = {}
        self._streams: dict[Channel, Stream] = {}

    def __contains__(self, channel: Channel) -> bool:
        return channel in self._streams

    def __iter__(self) -> Iterator[Channel]:
        """All channels there are now; they may come and go meanwhile."""
        return iter(list(self._streams))

    def find(self, stream: Stream, view: View) -> Channel | None:
        """The channel of somebody who looks at `stream` so."""
        return self._channels.get(stream, {}).get(view)

    def of(self, stream: Stream) -> list[Channel]:
        """The channels of a stream."""
        return list(self._channels.get(stream, {}).values())

    def stream_of(self, channel: Channel) -> Stream:
        """What a channel shows."""
        return self._streams[channel]

    def open(self, stream: Stream, view: View) -> Channel:
        """The channel of this view, made when there is none."""
        channels = self._channels.setdefault(stream, {})
        channel = channels.get(view)
        if channel is None:
            channel = channels[view] = Channel(stream.name, view, stream.ring)
            self._streams[channel] = stream
            self._report(stream)
        return channel

    def close_unused(self, channel: Channel) -> None:
        """Nobody looks any more, unless somebody does."""
        if channel.members or channel.flushing is not None:
            return
        stream = self._streams.pop(channel, None)
        if stream is None:
            return
        channels = self._channels[stream]
        del channels[channel.view]
        if not channels:
            del self._channels[stream]
        self._report(stream)

    # -- the pace of the sources ---------------------------------------------------------------------------------------

    def is_led(self, channel: Channel) -> bool:
        """Whether the channel goes at the pace of the fastest of its clients, as nobody is live: batches for nobody
        would be encoded in vain, and the source would run away from them all."""
        if channel.live or time.monotonic() - channel.led_at > self._lead_s:
            return False
        return any(member.place in (Place.BEHIND, Place.READING) for member in channel.members)

    def moved(self, channel: Channel) -> None:
        """The channel stands at another place."""
        stream = self._streams.get(channel)
        if stream is not None:
            self._report(stream)

    def free_sources(self) -> None:
        """Look whether those that wait may go on, also where nothing is sent any more that would tell."""
        for stream in list(self._channels):
            if stream.ring.throttled:
                self._report(stream)

    def _report(self, stream: Stream) -> None:
        """Tell the ring how far the live views are, and a source that waited for them to go on.

        A channel that is led counts only where there is no other: the source must not run ahead of everybody, but
        nobody waits for one slow client.
        """
        channels = self._channels.get(stream, {}).values()
        live = [channel.total for channel in channels if not self.is_led(channel)]
        led = max((channel.total for channel in channels), default=None)
        stream.ring.consumed(min(live) if live else led)
        if stream.ring.throttled and stream.ring.backlog_bytes <= stream.ring.capacity_bytes // 4:
            stream.ring.throttled = False
            self._wake(stream)
