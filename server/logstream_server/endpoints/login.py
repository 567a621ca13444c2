"""Logging in with a browser: a form takes the token and gives a cookie for it (`sessions`).

    GET  login     the form; it works without scripts
    POST login     the token, as the form sends it: a cookie, and on to the page
    POST logout    the cookie is given up, and connections that it opened are closed
    GET  session   for the page: whether a token is needed, and whether there is a session

The cookie is out of reach of scripts (HttpOnly), and goes with no request that another site starts (SameSite=Strict).
A form from another site is refused by its origin, as everything is. `login?QUERY` leads to the page with that query.
"""

from __future__ import annotations

import math
import time
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from logstream_server.access import access
from logstream_server.access.gate import Refused, Why
from logstream_server.service import Service

from .page import PAGE_HEADERS, WEB
from .problems import NEVER_STORED

MAX_FORM_BYTES: Final = 8 << 10
"""A token, percent-encoded."""
FORM: Final = "application/x-www-form-urlencoded"
_MESSAGE: Final = "<!-- message -->"
# An origin is sent with the form then, and the address, which may hold a token, with nothing that leaves this server.
_HEADERS: Final = {**PAGE_HEADERS, **NEVER_STORED, "Referrer-Policy": "same-origin"}


def login_routes(service: Service) -> list[BaseRoute]:
    """All of it."""
    login = _Login(service)
    return [
        Route("/login", login.login, methods=["GET", "POST"]),
        Route("/logout", login.leave, methods=["POST"]),
        Route("/session", login.session, methods=["GET"]),
    ]


class _Login:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._gate = service.gate
        self._page = (WEB / "login.html").read_text("utf-8")

    async def login(self, request: Request) -> Response:
        """One route for both, or the answer to another method would name but one of them."""
        return await (self.enter(request) if request.method == "POST" else self.form(request))

    async def form(self, request: Request) -> Response:
        """The form; on to the page where there is nothing to ask for."""
        if not self._gate.needs_token or self._gate.sessions_of(request):
            return self._onward(request)
        return self._show("", 200)

    async def enter(self, request: Request) -> Response:
        """What the form sent."""
        try:
            self._gate.check_page(request)
            if not self._gate.needs_token:
                return self._onward(request)
            token = self._gate.check_token(request, await _sent_token(request), Why.LOGIN)
        except Refused as refused:
            if refused.status not in (401, 429):
                raise
            sentence = "This is not a valid token." if refused.status == 401 else refused.reason.capitalize() + "."
            return self._show(sentence, refused.status, refused.headers)
        answer = self._onward(request)
        self._set_cookie(answer, request, *self._gate.open_session(token), round(self._service.settings.session_s))
        return answer

    async def leave(self, request: Request) -> Response:
        """The end of the session."""
        self._gate.check_page(request)
        answer = RedirectResponse("login", 303, headers=NEVER_STORED)
        for name, value in self._gate.sessions_of(request):
            self._set_cookie(answer, request, name, "", 0)
            self._gate.turn_out("logged out", value)
        return answer

    async def session(self, request: Request) -> Response:
        """What the page must know before it asks for anything else."""
        state: dict[str, Any] = {"token_needed": self._gate.needs_token, "session": False}
        try:
            guest = self._gate.admit(request)
        except Refused as refused:
            return Response(msgspec.json.encode({**state, "allowed": False, "reason": refused.reason}), headers=_JSON)
        if guest.expires_s < math.inf:
            state |= {"session": True, "expires_in_s": round(guest.expires_s - time.time())}
        return Response(msgspec.json.encode({**state, "allowed": True}), headers=_JSON)

    def _show(self, message: str, status: int, headers: dict[str, str] | None = None) -> Response:
        alert = f'<p class="problem" role="alert">{message}</p>' if message else ""
        body = self._page.replace(_MESSAGE, alert)
        return Response(body, status, {**_HEADERS, **(headers or {})}, "text/html; charset=utf-8")

    @staticmethod
    def _onward(request: Request) -> Response:
        """To the page, relative to where the form is: true behind any proxy, and never to another host."""
        query = [pair for pair in parse_qsl(request.url.query, keep_blank_values=True) if pair[0] != "access_token"]
        return Response(
            status_code=303, headers={**NEVER_STORED, "Location": f"./?{urlencode(query)}" if query else "./"}
        )

    def _set_cookie(self, answer: Response, request: Request, name: str, value: str, max_age_s: int) -> None:
        answer.set_cookie(
            name,
            value,
            max_age=max_age_s,
            path=self._service.settings.base_path or "/",
            secure=access.is_https(request),
            httponly=True,
            samesite="strict",
        )


_JSON: Final = {**NEVER_STORED, "Content-Type": "application/json"}


async def _sent_token(request: Request) -> bytes:
    """The field `token` of the form. Raises Refused."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise Refused(415, f"the form comes as {FORM}")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise Refused(413, f"the form is longer than {MAX_FORM_BYTES} bytes")
    try:
        fields = parse_qs(body.decode("ascii"), errors="strict", max_num_fields=4)
    except ValueError:  # also of decoding
        raise Refused(400, "the form cannot be read") from None
    return fields.get("token", [""])[0].strip().encode()
