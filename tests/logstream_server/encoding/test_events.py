"""events: the messages of a server, read as it writes them."""

from __future__ import annotations

import pytest

from logstream_server.encoding.events import (
    Bye,
    parse_server_message,
)


def test_parse_server_message_knows_what_it_does_not_know() -> None:
    """A new type is None, a known one that is broken is an error."""
    assert parse_server_message('{"type":"new","x":1}') is None
    assert parse_server_message(b'{"type":"bye"}') == Bye()
    for broken in ("", "{}", '{"type":"lines"}', '{"type":5}', "[]", "{"):
        with pytest.raises(ValueError, match=r"."):
            parse_server_message(broken)
