"""The operator's errors, by who can mend them.

    OperatorError
    ├── SettingsError      the administrator: how the operator was started
    ├── CannotStart        the administrator: a port in use, no cluster to connect to
    ├── NotAccepted        the resource's author: what the spec asks for cannot be had; `reason` is the condition's word
    ├── Refused            the resource's author or the administrator: the API server said no to one object
    └── Unreachable        the environment: the API server cannot answer now; trying again helps

`reconcile` turns NotAccepted and Refused into conditions, the queue turns Unreachable into a later try.
"""

from __future__ import annotations

from dataclasses import dataclass


class OperatorError(Exception):
    """The base of all errors of this package."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with how the program was started: `name` as it was given, None for a value that is missing."""

    name: str
    value: str | None
    advice: str

    def __str__(self) -> str:
        return f"{self.name}: {self.advice}" if self.value is None else f"{self.name} {self.value!r}: {self.advice}"


class SettingsError(OperatorError):
    """The operator was started with settings that it cannot use; `problems` holds all of them."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class CannotStart(OperatorError):
    """Something outside that must be there before the operator can run; the text says what."""


class NotAccepted(OperatorError):
    """The spec cannot be followed. `stop`: what runs already must end too, since it is not (or no longer) allowed."""

    def __init__(self, reason: str, message: str, *, stop: bool = False) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message
        self.stop = stop

    def __str__(self) -> str:
        return self.message


class Refused(OperatorError):
    """The API server, or a webhook behind it, does not take one object."""

    def __init__(self, kind: str, name: str, status: int, message: str) -> None:
        super().__init__(kind, name, status, message)
        self.kind = kind
        self.name = name
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return f"{self.kind} {self.name} was refused ({self.status}): {self.message}"


class Unreachable(OperatorError):
    """The API server did not answer, or asked to come back; `status` None where there was no answer at all."""

    def __init__(self, what: str, status: int | None, message: str) -> None:
        super().__init__(what, status, message)
        self.what = what
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return f"{self.what}: {self.message}" + ("" if self.status is None else f" ({self.status})")
