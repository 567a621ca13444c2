r"""Lines of a log as a terminal may show them: colours kept or made, and nothing in them that could do harm.

Whoever writes a log decides what is in it, and terminals obey: a line could hide others, change the window's title, or
answer for the person at the keyboard. So of all escape sequences only those that colour text are let through (SGR,
ECMA-48 8.3.117), and other control characters are shown as `\x1b`. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

RESET: Final = "\x1b[0m"
_SGR: Final = re.compile(r"\x1b\[[0-9;:]{0,64}m")
_HARMFUL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""All control characters but the tab, and those that change the direction in which text is shown."""
_LEVEL: Final = re.compile(
    r"\b(?:(FATAL|CRIT(?:ICAL)?|EMERG|ALERT|PANIC|SEVERE|ERR(?:OR)?)|(WARN(?:ING)?)|(DEBUG|TRACE|VERBOSE))\b"
    r"|(?:\blevel\"?[=:] ?\"?|\[)(?i:(fatal|critical|emerg|alert|panic|error)|(warn(?:ing)?)|(debug|trace))\b"
)
_LOOK_CHARS: Final = 300
"""A level stands near a line's beginning; a word in the message's middle is none."""
_COLORS: Final = ("\x1b[31m", "\x1b[33m", "\x1b[2m")
_PREFIXES: Final = ("\x1b[36m", "\x1b[32m", "\x1b[35m", "\x1b[34m", "\x1b[96m", "\x1b[92m")


def harmless(text: str) -> str:
    """The text with each control character as a visible one; tabs stay."""
    return _HARMFUL.sub(lambda found: _shown(found[0]), text)


def plain(line: str) -> str:
    """The line for a terminal without colours."""
    return harmless(_SGR.sub("", line))


def painted(line: str) -> str:
    """The line for a terminal with colours: its own, else one by its level."""
    if "\x1b[" in line:
        parts = _SGR.split(line)
        if len(parts) > 1:
            kept = [harmless(parts[0])]
            for sequence, part in zip(_SGR.findall(line), parts[1:], strict=True):
                kept += (sequence, harmless(part))
            return "".join(kept) + RESET
    color = _level_color(line)
    return f"{color}{harmless(line)}{RESET}" if color else harmless(line)


def prefixes(names: Sequence[str], *, colors: bool) -> list[str]:
    """What stands before each line of each of several sources, all equally wide."""
    width = max(map(len, names), default=0)
    shown = [f"{harmless(name):{width}} | " for name in names]
    return [f"{_PREFIXES[at % len(_PREFIXES)]}{each}{RESET}" for at, each in enumerate(shown)] if colors else shown


def _level_color(line: str) -> str:
    found = _LEVEL.search(line, 0, _LOOK_CHARS)
    if found is None or found.lastindex is None:
        return ""
    return _COLORS[(found.lastindex - 1) % len(_COLORS)]


def _shown(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
