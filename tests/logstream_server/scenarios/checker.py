"""Exactly once and in order: what every test of this suite asks about the lines that came.

The lines of a test are all different, so each that came is known by itself. Several sequences may have been
written by several writers (to an old and a new file, say): each must be in its order, and between them any order is
right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

_SHOWN = 5


@dataclass(frozen=True)
class Verdict:
    """What was wrong with the lines that came, compared with those that were written."""

    lost: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    swapped: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    @property
    def is_exact(self) -> bool:
        """Each line once, in order, and nothing else."""
        return not (self.lost or self.repeated or self.swapped or self.foreign)

    def __str__(self) -> str:
        parts = []
        for kind in ("lost", "repeated", "swapped", "foreign"):
            lines: tuple[str, ...] = getattr(self, kind)
            if lines:
                shown = [repr(line[:60]) for line in lines[:_SHOWN]] + ["…"] * (len(lines) > _SHOWN)
                parts.append(f"{len(lines)} {kind}: {', '.join(shown)}")
        return "; ".join(parts) or "each line exactly once and in order"


def judge(got: Sequence[str], *written: Sequence[str]) -> Verdict:
    """Compare. The lines of `written` must all be different."""
    places = {line: (number, at) for number, lines in enumerate(written) for at, line in enumerate(lines)}
    assert len(places) == sum(map(len, written)), "lines that are alike cannot be told apart"
    seen: set[str] = set()
    reached = [-1] * len(written)
    repeated, swapped, foreign = [], [], []
    for line in got:
        place = places.get(line)
        if place is None:
            foreign.append(line)
        elif line in seen:
            repeated.append(line)
        else:
            seen.add(line)
            number, at = place
            if at < reached[number]:
                swapped.append(line)
            reached[number] = max(reached[number], at)
    lost = [line for line in places if line not in seen]
    return Verdict(tuple(lost), tuple(repeated), tuple(swapped), tuple(foreign))


def assert_exact(got: Sequence[str], *written: Sequence[str]) -> None:
    """Each line exactly once, each sequence in order, nothing else."""
    verdict = judge(got, *written)
    assert verdict.is_exact, str(verdict)


def assert_never_twice(got: Sequence[str], *written: Sequence[str]) -> tuple[str, ...]:
    """As assert_exact, but lines may be missing: those are returned."""
    verdict = judge(got, *written)
    assert replace(verdict, lost=()).is_exact, str(verdict)
    return verdict.lost


def assert_run(got: Sequence[str], written: Sequence[str]) -> None:
    """`got` is a run of `written` without a hole: what a client sees that came later and left earlier."""
    assert got, "nothing came"
    first = written.index(got[0])
    assert_exact(got, written[first : first + max(len(got), written.index(got[-1]) + 1 - first)])
