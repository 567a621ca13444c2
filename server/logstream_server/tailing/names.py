"""Names of streams: one URL segment each, made from where the file lies."""

from __future__ import annotations

from collections.abc import Collection


def readable(path: str) -> str:
    r"""A path as text: bytes that are not UTF-8 (surrogates, as the interpreter decodes file names) become `\xff`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def stream_name(path: str, base: str | None) -> str:
    """The name of the stream of `path`: below the folder `base` its relative path with `/` written `~`, else its last
    part."""
    if base is not None:
        prefix = base.rstrip("/") + "/"
        relative = path[len(prefix) :] if path.startswith(prefix) else path.lstrip("/")
        return readable(relative.replace("/", "~"))
    return readable(path.rstrip("/").rsplit("/", 1)[-1])


def unique_name(name: str, path: str, taken: Collection[str]) -> str:
    """`name`, or if another stream has it, the path with `~`, or that with a number."""
    if name not in taken:
        return name
    longer = readable(path.strip("/").replace("/", "~"))
    candidate, number = longer, 2
    while candidate in taken:
        candidate, number = f"{longer}~{number}", number + 1
    return candidate
