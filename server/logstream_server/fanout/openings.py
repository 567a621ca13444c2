"""Which streams are about to be opened for which client. Where its lines begin is found by a look at a file, which may
last; what the client says about the stream meanwhile counts before what it said first. Pure.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from logstream_server.encoding.view import View
from logstream_server.lines.filters import LineFilter


class Opening:
    """One stream for one client. `filter`: the one that was asked for meanwhile."""

    def __init__(self, client: Hashable, stream: str) -> None:
        self.client, self.stream = client, stream
        self.filter: LineFilter | None = None

    def view(self, asked: View) -> View:
        """How the stream is to be looked at, where `asked` is what was wanted at first."""
        return asked if self.filter is None else replace(asked, filter=self.filter)


class Openings:
    """The newest of each client and stream; those before it are wanted no longer."""

    def __init__(self) -> None:
        self._newest: dict[Hashable, dict[str, Opening]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._newest.values()))

    def begin(self, client: Hashable, stream: str) -> Opening:
        """From now on; must `end`."""
        opening = self._newest.setdefault(client, {})[stream] = Opening(client, stream)
        return opening

    def end(self, opening: Opening) -> bool:
        """Whether it was wanted until now."""
        was_wanted = self.is_wanted(opening)
        if was_wanted:
            self.give_up(opening.client, opening.stream)
        return was_wanted

    def is_wanted(self, opening: Opening) -> bool:
        """Whether the client waits for it."""
        return self.find(opening.client, opening.stream) is opening

    def find(self, client: Hashable, stream: str) -> Opening | None:
        """What the client waits for."""
        return self._newest.get(client, {}).get(stream)

    def streams(self, client: Hashable) -> set[str]:
        """All that the client waits for."""
        return set(self._newest.get(client, ()))

    def give_up(self, client: Hashable, stream: str) -> bool:
        """The client wants that stream no longer; whether it waited for it."""
        streams = self._newest.get(client, {})
        if streams.pop(stream, None) is None:
            return False
        if not streams:
            del self._newest[client]
        return True

    def forget(self, client: Hashable) -> None:
        """The client has gone."""
        self._newest.pop(client, None)
