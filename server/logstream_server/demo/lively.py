"""The log of `logstream demo`: requests, warnings, stack traces and JSON, as a busy service writes them. No I/O.

Each call gives one event as whole lines; what it is, the given chance decides.
"""

from __future__ import annotations

import json
from datetime import datetime
from random import Random
from typing import Final

_PATHS: Final = ("/", "/api/items", "/api/items/7", "/api/cart", "/login", "/health", "/api/search?q=lamp")
_USERS: Final = ("ada", "grace", "linus", "barbara", "edsger")
_SLOW: Final = (
    "the connection pool is nearly full: 48 of 50",
    "a query took 2.3 s",
    "the cache missed 1000 times in a row",
)
_WRONG: Final = (
    ("ConnectionResetError", "[Errno 104] Connection reset by peer"),
    ("KeyError", "'price'"),
    ("TimeoutError", "the payment service did not answer in 5 s"),
)
_FRAMES: Final = (
    ("/srv/shop/app.py", 41, "handle", "return route(request)"),
    ("/srv/shop/cart.py", 118, "checkout", "total = sum(item['price'] for item in cart)"),
    ("/srv/shop/pay.py", 77, "charge", "reply = self.session.post(url, timeout=5)"),
)


def event(chance: Random, when: datetime) -> str:
    """One or more lines, each with its newline."""
    kind = chance.choices(("request", "json", "debug", "warning", "error"), (60, 15, 12, 9, 4))[0]
    stamp = when.isoformat(sep=" ", timespec="milliseconds")
    user, path = chance.choice(_USERS), chance.choice(_PATHS)
    took_ms = round(chance.lognormvariate(3, 0.8), 1)
    match kind:
        case "request":
            status = chance.choices((200, 201, 304, 404), (80, 8, 8, 4))[0]
            return f"{stamp} INFO  [worker-{chance.randint(1, 8)}] GET {path} {status} {took_ms} ms user={user}\n"
        case "json":
            fields = {
                "time": when.isoformat(),
                "level": "info",
                "msg": "order placed",
                "user": user,
                "took_ms": took_ms,
            }
            return json.dumps(fields) + "\n"
        case "debug":
            ratio, entries = chance.uniform(0.7, 0.99), chance.randint(100, 9000)
            return f"{stamp} DEBUG [cache] hit ratio {ratio:.2f}, {entries} entries\n"
        case "warning":
            return f"{stamp} WARN  [db] {chance.choice(_SLOW)}\n"
        case _:
            return _traceback(chance, f"{stamp} ERROR [worker-{chance.randint(1, 8)}] GET {path} failed, user={user}\n")


def _traceback(chance: Random, first: str) -> str:
    frames = "".join(f'  File "{file}", line {line}, in {name}\n    {code}\n' for file, line, name, code in _FRAMES)
    error, words = chance.choice(_WRONG)
    return f"{first}Traceback (most recent call last):\n{frames}{error}: {words}\n"
