"""The tokens that let clients in, as they stand in files: those that a server knows, and the one that `tail` shows."""

from __future__ import annotations

from typing import Final

from .errors import Problem, SettingsError

Tokens = tuple[bytes, ...]

FLAG: Final = "--token-file"


def read_tokens(paths: tuple[str, ...]) -> Tokens:
    """The tokens in the files, one a line; empty lines and lines that begin with `#` are none.

    Raises SettingsError, with all files that cannot be read or hold none: no door may stand open, or stay closed to
    everybody, because of a mistyped path.
    """
    tokens: list[bytes] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                lines = [line.strip() for line in file]
        except OSError as error:
            problems.append(Problem(FLAG, path, f"cannot be read: {error.strerror or error}"))
            continue
        found = [line for line in lines if line and not line.startswith(b"#")]
        if not found:
            problems.append(Problem(FLAG, path, "holds no token"))
        tokens += found
    if problems:
        raise SettingsError(tuple(problems))
    return tuple(tokens)
