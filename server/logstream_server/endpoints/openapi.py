"""The REST API described for programs: OpenAPI 3.1, as `/api/v1/openapi.json` serves it.

Which parameters a path takes is said once, in `query`, and what the live log's messages are, in `events`; both are read
from there. A test compares the paths with the routes, another one the server with the whole description. Pure.
Specification: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from logstream_server import __version__
from logstream_server.encoding.events import Bye, Event, Gap, Hello, Lines, Subscribed
from logstream_server.fanout import query
from logstream_server.fanout.channel import Lag
from logstream_server.lines.cursor import MAX_TOKEN
from logstream_server.lines.filters import MAX_PATTERN_BYTES, MAX_PATTERNS

Json = dict[str, Any]

_BYTES: Final = "application/octet-stream"
_JSON: Final = "application/json"
_NDJSON: Final = "application/x-ndjson"
_PROBLEM: Final = "application/problem+json"
_SSE: Final = "text/event-stream"
_TEXT: Final = "text/plain"


def describe(base_path: str, *, needs_token: bool) -> Json:
    """The document of a server that is found at `base_path`."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "logstream",
            "version": __version__,
            "description": "Follows growing log files and sends each new line: nothing lost, nothing twice.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": f"{base_path}/api/v1"}],
        "security": [{"bearer": []}, {"query": []}] if needs_token else [],
        "paths": {path: _path(path, needs_token) for path in PATHS},
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "query": {"type": "apiKey", "in": "query", "name": "access_token"},
            },
        },
    }


# -- parts ------------------------------------------------------------------------------------------------------------


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Json) -> Json:
    """Fields whose schema says that they may be left out are not required."""
    required = [name for name, schema in properties.items() if not schema.pop("optional", False)]
    return {"type": "object", "properties": properties, "required": required}


def _or_null(kind: str, description: str) -> Json:
    return {"type": [kind, "null"], "description": description}


def _optional(schema: Json) -> Json:
    return {**schema, "optional": True}


def _list(of: Json, description: str = "") -> Json:
    return {"type": "array", "items": of, **({"description": description} if description else {})}


_STRING: Final[Json] = {"type": "string"}
_COUNT: Final[Json] = {"type": "integer", "minimum": 0}
_CURSOR: Final[Json] = {"type": "string", "maxLength": MAX_TOKEN, "description": "An opaque place in a stream."}
_STREAM: Final[Json] = {
    "name": _STRING,
    "state": {
        "type": "string",
        "enum": ["starting", "following", "waiting", "unreadable", "refused", "unsupported", "hung"],
    },
    "detail": _or_null("string", "What is the matter, for people."),
    "size": _or_null("integer", "Bytes in the file."),
    "mtime": _or_null("number", "When it was last written to, in seconds since 1970."),
    "watch": _or_null("string", "How changes are noticed: notify or poll."),
    "binary": {"type": "boolean"},
}
_MESSAGES: Final = (Hello, Subscribed, Lines, Event, Gap, Bye)


def _messages() -> Json:
    refs, components = msgspec.json.schema_components(_MESSAGES, ref_template="#/components/schemas/{name}")
    return {**components, "Message": {"oneOf": list(refs)}}


_SCHEMAS: Final[Json] = {
    **_messages(),
    "Problem": {
        "description": "What went wrong (RFC 9457).",
        **_object(
            type={"const": "about:blank"},
            title=_STRING,
            status={"type": "integer"},
            detail=_STRING,
            code=_optional({"type": "integer", "description": "The close code that a socket would have got."}),
        ),
    },
    "Stream": _object(**_STREAM),
    "StreamDetail": _object(
        **_STREAM, cursor=_CURSOR, clients={**_COUNT, "description": "How many are sent its lines."}
    ),
    "Streams": _object(streams=_list(_ref("Stream"))),
    "Page": _object(
        stream=_STRING,
        lines=_list(_STRING),
        cursor=_CURSOR,
        recovered=_or_null("boolean", "Whether the cursor was honoured; null without one."),
        reason=_or_null("string", "Why not."),
        more={"type": "boolean", "description": "There was more to read."},
        partial=_optional({"const": True, "description": "The last line has no newline yet."}),
        continued=_optional({"const": True, "description": "The first line goes on with a partial one."}),
        cut=_optional(
            {
                "type": "array",
                "items": {"type": "array", "items": _COUNT, "minItems": 2, "maxItems": 2},
                "description": "Index, and length in bytes, of each line over the limit.",
            }
        ),
        gap=_optional(
            _object(reason=_STRING, detail=_STRING, bytes=_or_null("integer", "How many are lost, where known."))
        ),
    ),
    "SearchRecord": {
        "oneOf": [
            _object(type={"const": "begin"}, stream=_STRING, size=_COUNT, cursor=_CURSOR),
            _object(
                type={"const": "match"},
                offset=_COUNT,
                cursor=_CURSOR,
                line=_STRING,
                partial=_optional({"const": True}),
                cut=_optional(_COUNT),
            ),
            _object(type={"const": "progress"}, searched=_COUNT, left=_COUNT),
            _object(
                type={"const": "end"},
                matches=_COUNT,
                complete={"type": "boolean"},
                before=_or_null("string", "Where the search can go on."),
                reason=_or_null("string", "What went wrong."),
            ),
        ]
    },
}


def _parameter(name: str, description: str, schema: Json, **more: Any) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema, **more}


def _patterns(name: str, description: str) -> Json:
    schema = {"type": "array", "items": {"type": "string", "maxLength": MAX_PATTERN_BYTES}, "maxItems": MAX_PATTERNS}
    return _parameter(name, description, schema, explode=True, style="form")


_PARAMETERS: Final[Mapping[str, Json]] = {
    each["name"]: each
    for each in (
        _parameter("tail", "Begin with the last lines.", {**_COUNT, "maximum": query.MAX_TAIL}),
        _parameter("cursor", "Begin where the reader of this cursor stopped.", _CURSOR),
        _parameter("from", "Begin with the file's first line. Goes with neither tail nor cursor.", {"const": "start"}),
        _parameter("limit", "At most so many lines.", {"type": "integer", "minimum": 0, "maximum": query.MAX_LIMIT}),
        _patterns("grep", "Only lines that each of these RE2 patterns matches."),
        _patterns("exclude", "No lines that any of these RE2 patterns matches."),
        _parameter("lag", "What becomes of a client that is too slow.", {"enum": [lag.value for lag in Lag]}),
        _parameter("lastEventId", "As the header Last-Event-ID, for who cannot send it.", _CURSOR),
        _parameter("before", "Search before this place, as a match or an end gave it.", _CURSOR),
    )
}


def _parameters(known: Iterable[str], **changed: Json) -> list[Json]:
    """Those of a path; the token's is a matter of security."""
    order = list(_PARAMETERS)
    names = sorted(set(known) - {"access_token"}, key=order.index)
    return [{**_PARAMETERS[name], "schema": changed.get(name, _PARAMETERS[name]["schema"])} for name in names]


def _header(name: str, description: str) -> Json:
    return {"name": name, "in": "header", "description": description, "schema": _STRING}


def _content(**kinds: Json) -> Json:
    names = {"json": _JSON, "ndjson": _NDJSON, "text": _TEXT, "sse": _SSE, "bytes": _BYTES}
    return {names[kind]: {"schema": schema} if schema else {} for kind, schema in kinds.items()}


def _answer(description: str, content: Json | None = None, *headers: str) -> Json:
    answer: Json = {"description": description}
    if headers:
        answer["headers"] = {name: {"schema": _STRING, "description": _HEADERS[name]} for name in headers}
    if content:
        answer["content"] = content
    return answer


_HEADERS: Final = {
    "Allow": "The methods that there are.",
    "Content-Range": "Which bytes these are, and of how many.",
    "ETag": "Names the bytes that there were.",
    "Link": 'The next page (rel="next").',
    "Logstream-Cursor": "The place behind what was sent.",
    "Logstream-Gap": "What is lost behind the last line.",
    "Retry-After": "In how many seconds to ask again.",
    "WWW-Authenticate": "How to show a token.",
}
_NAMED: Final[Json] = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "The stream's name, as one segment.",
    "schema": {"type": "string", "minLength": 1},
}

_LINE_OF_JSON: Final = {**_STRING, "description": "A JSON object a line."}


# -- the paths --------------------------------------------------------------------------------------------------------

PATHS: Final[Mapping[str, Json]] = {
    "/streams": {
        "id": "streams",
        "summary": "All streams, in the order of the command line.",
        "answers": {200: _answer("The streams.", _content(json=_ref("Streams")))},
    },
    "/streams/{name}": {
        "id": "stream",
        "summary": "One stream, with the cursor behind its newest line.",
        "answers": {200: _answer("The stream.", _content(json=_ref("StreamDetail")), "Logstream-Cursor")},
    },
    "/streams/{name}/lines": {
        "id": "lines",
        "summary": "Lines from a beginning to the head, a page at a time.",
        "parameters": _parameters(query.LINES_PARAMETERS),
        "answers": {
            200: _answer(
                "A page. As lines of JSON: an object with `line` each, then one without, that holds the rest.",
                _content(json=_ref("Page"), ndjson=_LINE_OF_JSON, text=_STRING),
                *("Logstream-Cursor", "Link", "Logstream-Gap"),
            )
        },
        "problems": (406, 410, 415),
    },
    "/streams/{name}/events": {
        "id": "events",
        "summary": "The last lines and then each new one, without end.",
        "parameters": [
            *_parameters(query.EVENTS_PARAMETERS),
            _header("Last-Event-ID", "The cursor to go on from; counts before the query."),
        ],
        "answers": {
            200: _answer(
                "Messages (see the schema Message), each an event with its cursor as id, or a line of JSON.",
                _content(sse=_STRING, ndjson=_LINE_OF_JSON),
            )
        },
        "problems": (406, 415),
    },
    "/streams/{name}/raw": {
        "id": "raw",
        "summary": "The file's own bytes, as they are at that moment, or a range of them.",
        "parameters": [
            _header("Range", "One range of bytes; others are answered with everything."),
            _header("If-Range", "An entity tag: a part of the bytes that it names, else everything there is now."),
            _header("If-Match", "Entity tags: the bytes that one of them names, or nothing."),
            _header("If-None-Match", "Entity tags: nothing, if one of them names the bytes that there are."),
        ],
        "answers": {
            200: _answer("Everything.", _content(bytes={}), "ETag", "Logstream-Cursor"),
            206: _answer("A part.", _content(bytes={}), "ETag", "Content-Range", "Logstream-Cursor"),
            304: _answer("Nothing has changed.", None, "ETag"),
        },
        "problems": (412, 416),
    },
    "/streams/{name}/search": {
        "id": "search",
        "summary": "Lines of the whole file that match, newest first, as they are found.",
        "parameters": _parameters(
            query.SEARCH_PARAMETERS,
            limit={"type": "integer", "minimum": 1, "maximum": query.MAX_LIMIT, "default": query.SEARCH_LIMIT},
        ),
        "answers": {200: _answer("Records (see the schema SearchRecord), one a line.", _content(ndjson=_LINE_OF_JSON))},
        "problems": (406, 410, 415),
    },
    "/openapi.json": {
        "id": "openapi",
        "summary": "This document.",
        "answers": {200: _answer("The document.", _content(json={"type": "object"}))},
    },
}
"""By their path: operation, parameters, good answers, and the problems that not every path has."""


def _path(path: str, needs_token: bool) -> Json:
    found = PATHS[path]
    is_named = "{name}" in path
    statuses = {400, 403, 405, 431, 500, 503, *found.get("problems", ()), *({404, 429} if is_named else ())}
    if needs_token:
        statuses |= {401, 429}  # the latter after too many wrong tokens
    answers = {**found["answers"], **{status: _problem(status) for status in statuses}}
    operation = {
        "summary": found["summary"],
        "parameters": found.get("parameters", []),
        "responses": {str(status): answers[status] for status in sorted(answers)},
    }
    bare = {
        status: {key: value for key, value in answer.items() if key != "content"}
        for status, answer in operation["responses"].items()
        if status != "206"
    }
    item: Json = {
        "get": {"operationId": found["id"], **operation},
        "head": {"operationId": found["id"] + "-head", **operation, "responses": bare},
    }
    return {"parameters": [_NAMED], **item} if is_named else item


def _problem(status: int) -> Json:
    headers = {401: ("WWW-Authenticate",), 405: ("Allow",), 416: ("Content-Range",), 429: ("Retry-After",)}
    headers[503] = headers[429]
    content = None if status == 431 else {_PROBLEM: {"schema": _ref("Problem")}}
    return _answer(HTTPStatus(status).phrase + ".", content, *headers.get(status, ()))
