"""What a reader that is behind still needs, and where it is to be had: the file first, then the ring.

A reader is its positions: for each generation, everything before an offset. The ring knows the positions at both of its
ends. So what is missing is a subtraction, exact to the byte, and no line is told twice or not at all when a reader
passes from the file to the ring, or from the ring to the live view. Pure.

Generations begin in the order of their ids, and positions list all that were not over. So one that is older than the
newest listed, and is not listed itself, was read to its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from .cursor import Position, Positions
from .framing import MARKER_BYTES, Flag
from .ring import Base, Entry, advance

_NONE: Final = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Leg:
    """Bytes to read from a generation's file: from `position` to offset `until`."""

    position: Position
    until: int


def same_place(a: Positions, b: Positions) -> bool:
    """Whether two readers have the same bytes (their markers then are the same, too)."""
    if a is b:
        return True
    return len(a) == len(b) and all(
        x.generation is y.generation and x.offset == y.offset for x, y in zip(a, b, strict=True)
    )


def _newest(positions: Positions) -> int:
    return max((p.generation.id for p in positions), default=_NONE)


def is_ahead(a: Positions, b: Positions) -> bool:
    """Whether a reader at `a` has something that one at `b` has not, or knows of a generation that `b` does not know:
    then it has the end of the older ones."""
    if a is b:
        return False
    newest, has = _newest(a), {p.generation: p.offset for p in a}
    if newest > _newest(b):
        return True
    ends = ((p, p.generation.end if p.generation.id < newest else None) for p in b)  # of those that `a` does not list
    return any((has.get(p.generation, end) or 0) > p.offset for p, end in ends)


def plan(positions: Positions, base: Base) -> tuple[Positions, Leg | None]:
    """The oldest bytes that a reader at `positions` must read from a file before the ring can serve it; None: the ring
    has all the rest. With it `positions` as the ring's base has them: generations that began since are in, and, once
    there is nothing to read, those that are over are out.
    """
    positions = _with_newer(positions, base)
    wanted = {p.generation: p.offset for p in base.positions}
    for position in positions:
        generation = position.generation
        until = wanted.get(generation)
        if until is None and generation.is_over(base.seq):
            until = generation.end
        elif until is None and position.offset < generation.begin:
            until = generation.begin  # what was in the file before it lost its end
        if until is not None and position.offset < until:
            return positions, Leg(position, until)
    newest = _newest(positions)  # it stays in any case, for what it says about older ones
    return tuple(p for p in positions if p.generation.id == newest or not p.generation.is_over(base.seq)), None


def _with_newer(positions: Positions, base: Base) -> Positions:
    newest = _newest(positions)
    newer = {g for g in base.ended if g.id > newest} | {
        p.generation for p in base.positions if p.generation.id > newest
    }
    return (*positions, *(Position(g, g.begin) for g in sorted(newer, key=lambda g: g.id)))


def moved(positions: Positions, new: Position) -> Positions:
    """`positions` with one of them advanced (or added)."""
    if any(p.generation is new.generation for p in positions):
        return tuple(new if p.generation is new.generation else p for p in positions)
    older = [p for p in positions if p.generation.id < new.generation.id]
    return (*older, new, *(p for p in positions if p not in older))


def after_loss(positions: Positions, leg: Leg, known: Positions) -> Positions:
    """Where a reader is who was told that the bytes of `leg` are lost. `known`: positions of others, who may have been
    there: then theirs has the bytes that prove a cursor."""
    generation = leg.position.generation
    if generation.forgotten:  # newer ones are listed beside it, which says that it is over
        return tuple(p for p in positions if p.generation is not generation)
    there = (p for p in known if p.generation is generation and p.offset == leg.until)
    return moved(positions, next(there, Position(generation, leg.until)))


def first_needed(newest_first: Iterable[Entry], positions: Positions, head_seq: int, head: Positions) -> int:
    """The number of the ring entry from which a reader at `positions` must look for what it lacks (`undelivered`).

    Walks back from the head only as far as some generation is still behind, so a reader near the head costs little.
    One that lacks whole generations costs the whole ring: they may have come and gone, so that the head knows not all.
    """
    offsets = {p.generation: p.offset for p in positions}
    newest = _newest(positions)
    lacks_newer = _newest(head) > newest
    behind = set(offsets) - {p.generation for p in head if offsets.get(p.generation) == p.offset}
    seq = head_seq
    for entry in newest_first:
        if not (behind or lacks_newer):
            break
        generation = entry.generation
        if generation is None:
            continue
        at = offsets.get(generation)
        if at is None:
            seq = entry.seq if generation.id > newest else seq
        elif generation in behind:
            seq = entry.seq if entry.end > at else seq
            if entry.start <= at:
                behind.discard(generation)
    return seq


def undelivered(entries: Sequence[Entry], positions: Positions) -> list[Entry]:
    """Those of the ring's `entries`, in order, that a reader at `positions` does not have; the first of each generation
    cut to what is missing. Events that lie between delivered lines are left out, but for losses: they have a place."""
    offsets = {p.generation: p.offset for p in positions}
    newest = _newest(positions)
    out: list[Entry] = []
    for entry in entries:
        generation = entry.generation
        at = None if generation is None else offsets.get(generation)
        if generation is None or at is None:
            if generation is None or generation.id > newest:
                out.append(entry)
            continue
        if entry.end < at or (entry.end == at and entry.end > entry.start):
            continue
        if entry.start < at < entry.end:
            out.extend(_cut_front(entry, next(p for p in positions if p.generation is generation)))
        else:
            out.append(entry)
    return out


def _cut_front(entry: Entry, position: Position) -> list[Entry]:
    """The part of an entry behind `position`; a line that is entered in its middle becomes a CONTINUED entry of its
    own."""
    at = position.offset
    skip = at - entry.start
    if entry.event is not None:  # a loss, of which another server could still read a part
        lost_bytes = entry.event.lost_bytes
        event = replace(entry.event, lost_bytes=None if lost_bytes is None else lost_bytes - skip)
        return [replace(entry, start=at, event=event)]
    if entry.flags or entry.data[skip - 1 : skip] == b"\n":
        return [replace(entry, start=at, data=entry.data[skip:])]
    newline = entry.data.find(b"\n", skip) + 1
    middle = replace(entry, start=at, data=entry.data[skip:], flags=Flag.CONTINUED)
    if newline == len(entry.data):
        return [middle]
    marker = ((position.marker or entry.data[:skip]) + entry.data[skip:newline])[-MARKER_BYTES:]
    middle = replace(middle, end=entry.start + newline, data=entry.data[skip:newline], marker=marker)
    return [middle, replace(entry, start=entry.start + newline, data=entry.data[newline:])]


def distance_bytes(behind: Positions, ahead: Positions) -> tuple[int, bool]:
    """How many bytes lie between two positions, as far as is known, and whether that is all."""
    at = {p.generation: p.offset for p in behind}
    total = sum(max(0, p.offset - at.pop(p.generation, p.generation.begin)) for p in ahead)
    ended = [(g.end, offset) for g, offset in at.items() if g.end is not None and not g.forgotten]
    return total + sum(max(0, end - offset) for end, offset in ended), len(ended) == len(at)


def walk(entries: Iterable[Entry], positions: Positions) -> Positions:
    """The positions after all of `entries`."""
    for entry in entries:
        positions = advance(positions, entry)
    return positions
