"""What can go wrong, split by who can do something about it.

ClusterError
    Unsuitable     this machine cannot run the cluster, or not yet: tests skip with the reason
    CommandFailed  a program that must work did not; carries what it said
    ProgramEnded   a program that was to stay has ended; carries the end of its log
    NotReady       a part did not come up in time; carries where its log is
"""

from __future__ import annotations

from collections.abc import Sequence


class ClusterError(Exception):
    """Base of all errors of this package."""


class Unsuitable(ClusterError):
    """The machine lacks something; the message is one plain sentence that says what."""


class CommandFailed(ClusterError):
    """A command ended with a status other than 0."""

    def __init__(self, command: Sequence[str], status: int, output: str) -> None:
        super().__init__(command, status, output)
        self.command = list(command)
        self.status = status
        self.output = output

    def __str__(self) -> str:
        """The command, its status, and the end of what it said, where the reason usually is."""
        said = self.output.strip()[-4000:] or "(it said nothing)"
        how = f"was ended by signal {-self.status}" if self.status < 0 else f"ended with status {self.status}"
        return f"{' '.join(self.command)} {how}:\n{said}"


class NotReady(ClusterError):
    """Something that was waited for did not happen."""

    def __init__(self, what: str, timeout_s: float, hint: str = "") -> None:
        super().__init__(what, timeout_s, hint)
        self.what = what
        self.timeout_s = timeout_s
        self.hint = hint

    def __str__(self) -> str:
        """What did not happen, and what was seen last or where to look."""
        return f"{self.what}: not within {self.timeout_s:.0f} s" + (f"; {self.hint}" if self.hint else "")


class ProgramEnded(ClusterError):
    """One of the cluster's own programs has ended by itself."""

    def __init__(self, name: str, log: str) -> None:
        super().__init__(name, log)
        self.name = name
        self.log = log

    def __str__(self) -> str:
        """Which, and what it said last."""
        return f"{self.name} has ended; it said last:\n{self.log.strip()[-3000:]}"
