"""A program: imports the server's code, and becomes a server as often as it is asked to, each in a process of its own.

Its standard input is a socket: a request is a JSON list of arguments with two descriptors, for the server's standard
output and standard error. Each answer is a JSON object: {"began": PID}, later {"ended": PID, "status": N}. It ends
when the socket is closed. The other end is spawner.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
from typing import Final, NoReturn

# The last three are imported by uvicorn only when it runs.
import uvicorn.lifespan.on
import uvicorn.loops.uvloop
import uvicorn.protocols.http.httptools_impl  # noqa: F401

import logstream_server.server  # noqa: F401
from logstream_server import cli

MESSAGE_BYTES: Final = 1 << 16


def main() -> None:
    """Answer requests until the socket is closed."""
    control = socket.socket(fileno=os.dup(0))
    waking, woken = socket.socketpair()
    for end in (waking, woken):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    while True:
        ready = {key.fileobj for key, _ in selector.select()}
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                woken.recv(MESSAGE_BYTES)
            tell_ended(control)
        if control in ready:
            request, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 2)
            if not request:
                return
            pid = os.fork()
            if pid == 0:
                for each in (control, waking, woken, selector):
                    each.close()
                become_server(json.loads(request), *descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            tell(control, began=pid)


def tell_ended(control: socket.socket) -> None:
    """The status of each server that has ended."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            tell(control, ended=pid, status=os.waitstatus_to_exitcode(status))


def tell(control: socket.socket, **answer: int) -> None:
    """One answer."""
    control.send(json.dumps(answer).encode())


def become_server(arguments: list[str], output: int, errors: int) -> NoReturn:
    """In the child: run the command line, and end as the interpreter would."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for descriptor, number in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (errors, 2)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    status = 1
    try:
        status = cli.main(arguments)
    except BaseException:  # noqa: BLE001 - the outermost frame of this process
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
