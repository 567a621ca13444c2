"""A bar on standard error while something takes long; nothing at all when that is no terminal."""

from __future__ import annotations

import sys
from typing import Any, Final

from tqdm import tqdm

_SHAPE: Final = "{desc}: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} {unit}"


class Progress:
    """Shows one thing at a time; a new text for another thing begins a new bar in the same place."""

    def __init__(self) -> None:
        tqdm.monitor_interval = 0  # a thread of its own, which is there to draw bars that nobody updates
        self._bar: Any = None
        self._unit = ""

    def show(self, text: str, done: float, total: float, unit: str) -> None:
        """How far it has come."""
        bar = self._bar
        if bar is None or self._unit != unit:
            self.close()
            bar = tqdm(
                desc=text,
                initial=min(done, total),
                total=total,
                unit=unit,
                bar_format=_SHAPE,
                leave=False,
                file=sys.stderr,
                disable=None,
            )
            self._bar, self._unit = bar, unit
        if not bar.disable:
            bar.set_description_str(text, refresh=False)
            bar.n = min(done, total)
            bar.update(0)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
