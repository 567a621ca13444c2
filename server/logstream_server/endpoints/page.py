"""The web page: the files in `web/`, read once and served from memory.

Nothing of it is secret, so it needs no token; what it shows comes over `/ws` and the API, which do. Its policy lets it
load from and talk to nothing but this server, and no other page frame it. Which files there are is fixed when the
server starts, so there is no path to walk.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from .headers import list_of, names

WEB: Final = Path(__file__).parent.parent / "web"
INDEX: Final = "index.html"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    # 'self' is also the WebSocket of the same host and port: CSP 3, and since 2022 all browsers (Safari was last).
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
PAGE_HEADERS: Final = {
    "Cache-Control": "no-cache",  # kept, but asked about: a new version of the server has a new page
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # the address may hold a filter, or a token
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served; `tag` changes with its content (RFC 9110, 8.8.3)."""

    body: bytes
    media_type: str
    tag: str

    def answer(self, request: Request) -> Response:
        """The file, or that the client has it already."""
        headers = {**PAGE_HEADERS, "ETag": self.tag}
        known = list_of(request.headers, "if-none-match")
        if known is not None and names(known, self.tag):
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers=headers, media_type=self.media_type)


def read_assets(folder: Path = WEB) -> dict[str, Asset]:
    """The page's files by their path below `folder`; only those of a known type."""
    assets = {}
    for path in sorted(folder.rglob("*")):
        media_type = _TYPES.get(path.suffix)
        if media_type is not None and path.is_file():
            body = path.read_bytes()
            tag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
            assets[path.relative_to(folder).as_posix()] = Asset(body, media_type, tag)
    return assets


def page_routes(assets: dict[str, Asset]) -> list[BaseRoute]:
    """`/` and `/assets/...`."""

    async def index(request: Request) -> Response:
        return _answer(assets, INDEX, request)

    async def asset(request: Request) -> Response:
        return _answer(assets, request.path_params["path"], request)

    return [Route("/", index), Route("/assets/{path:path}", asset)]


def _answer(assets: dict[str, Asset], path: str, request: Request) -> Response:
    found = assets.get(path)
    if found is None:
        raise HTTPException(404)
    return found.answer(request)
