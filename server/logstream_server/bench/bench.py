"""`logstream bench`: many clients at one server, each line of each client checked, and how long it took to come.

First one client asks where the log ends; all others begin there, so what is written from then on must reach each of
them whenever it connected. Then: connect, write (`stampwriter`) or only listen, wait for the rest, say what there was
(`report`). The connections are in `crowd`, the checks in `listener`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import secrets
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from logstream_server.client.addresses import socket_url, with_query
from logstream_server.client.client import LogStreamClient, Patience
from logstream_server.client.trust import Access, open_access
from logstream_server.encoding.events import Hello
from logstream_server.errors import CannotFollow, Problem, SettingsError
from logstream_server.settings import is_loopback

from .benchoptions import BenchOptions
from .checklist import Faults
from .crowd import Crowd, Network, Target, find_target, spread
from .listener import Run
from .progress import Progress
from .report import Connections, Log, Result, encode_result, latencies, render_result
from .stampwriter import StampWriter, Written
from .tape import Tape

EXIT_FAULTS: Final = 1
EXIT_INTERRUPTED: Final = 130
_POLL_S: Final = 0.05
_SETTLE_LOOK_S: Final = 0.1
"""How often to see whether all have everything, which means looking at each client."""
_CONNECT_S: Final = 30.0
"""How long the ramp goes on without a single connection more."""
_SPARE_FILES: Final = 64
_EPHEMERAL_PORTS: Final = 28_000
_LOOPBACK: Final = "127.0.0.0/8"


def run_bench(options: BenchOptions) -> int:
    """Run `logstream bench` to its exit status; raises LogstreamError, OSError, KeyboardInterrupt (before it began)."""
    _need_files(options.clients)
    target, headers = options.target, options.headers
    access = open_access([target], options.token_file, options.ca_file, options.insecure, headers)[target]
    if options.write is not None:
        with open(options.write, "ab"):  # it is there when the first client asks; and can be written
            pass
    hello = asyncio.run(_ask(options, access))
    bench = Bench(options, access, hello)
    with closing(bench.crowd):
        result = bench.run()
    if options.json:
        sys.stdout.buffer.write(encode_result(result) + b"\n")
    else:
        sys.stdout.write(render_result(result))
    sys.stdout.flush()
    return EXIT_FAULTS if result.faults else EXIT_INTERRUPTED if result.interrupted else 0


class Bench:
    """One run, from a stream's cursor on."""

    def __init__(self, options: BenchOptions, access: Access, hello: Hello) -> None:
        assert hello.cursor is not None
        name = secrets.token_hex(4) if options.write is not None else None
        tape = Tape(None if name is None else 0, hello.cursor)
        self._options = options
        self._run = Run(options.mode, tape, None if name is None else name.encode(), strict=name is not None)
        self._name = name
        target = _target(options, access, hello.stream or "")
        sources = spread(options.sources or _needed_sources(target, options.clients), options.clients)
        self.crowd = Crowd(target, self._run, options.clients, hello.cursor, sources, options.reconnect_s)
        self._connected_s = 0.0
        self._started = self._ended = 0.0
        self._cpu_s = 0.0
        self._written: Written | None = None
        self._progress = Progress()

    def run(self) -> Result:
        """All of it; Ctrl-C ends it early."""
        gc.collect()
        gc.disable()  # what is made here has no cycles, and a collection would hold up all clients
        interrupted = False
        writer = None
        self._started = time.monotonic()
        try:
            writer = self._start_writer()
            self._connect()
            if self.crowd.counts.open:
                self._listen(writer)
                self._stop_writer(writer)
                self._settle()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            gc.enable()
            self._progress.close()
            self._ended = self._ended or time.monotonic()
            self._stop_writer(writer)
        return self._result(interrupted)

    def _connect(self) -> None:
        crowd, options = self.crowd, self._options
        begun = progressed = time.monotonic()
        made = 0
        while not crowd.is_complete:
            now = time.monotonic()
            share = min(1.0, (now - begun) / options.ramp_s) if options.ramp_s else 1.0
            crowd.connect_more(max(1, int(share * options.clients)))
            crowd.poll(_POLL_S if share == 1 else 0.01)
            if crowd.counts.open != made or share < 1:
                made, progressed = crowd.counts.open, now
            elif now - progressed > _CONNECT_S:
                crowd.give_up_connecting()
            self._progress.show("connecting", made, options.clients, "clients")
        self._started = time.monotonic()
        self._connected_s = self._started - begun

    def _start_writer(self) -> StampWriter | None:
        options = self._options
        if options.write is None:
            return None
        assert self._name is not None
        return StampWriter(os.path.abspath(options.write), self._name, options.rate, options.line_bytes)

    def _stop_writer(self, writer: StampWriter | None) -> None:
        """Once for each writer."""
        if writer is not None and self._written is None:
            self._written = writer.stop()

    def _listen(self, writer: StampWriter | None) -> None:
        if writer is not None:
            writer.begin()
        self._started, cpu = time.monotonic(), time.process_time()
        end, shown = self._started + self._options.duration_s, 0.0
        self._run.grown_ns = time.time_ns()
        while (now := time.monotonic()) < end:
            self.crowd.poll(min(_POLL_S, end - now))
            self._cpu_s = time.process_time() - cpu
            self._ended = now
            if now - shown > 0.5:
                shown = now
                self._show(now - self._started)

    def _show(self, passed_s: float) -> None:
        listeners = [client.listener for client in self.crowd.clients]
        lines = sum(listener.checklist.lines + listener.others for listener in listeners)
        p99 = self._run.tape.ages.percentile_ms(99)
        text = f"{self.crowd.counts.open} clients, {lines:,} lines" + (f", p99 {p99:.1f} ms" if p99 is not None else "")
        self._progress.show(text, round(passed_s, 1), self._options.duration_s, "s")

    def _settle(self) -> None:
        """Wait for what is written and has not come yet, as long as something comes."""
        self.crowd.stop_dropping()
        last = self._last()
        checklists = [client.listener.checklist for client in self.crowd.clients if client.was_open]
        seen, quiet_since = -1, 0.0
        while last is not None and not all(
            checklist.next is not None and checklist.next > last for checklist in checklists
        ):
            until = time.monotonic() + _SETTLE_LOOK_S
            while time.monotonic() < until:
                self.crowd.poll(_POLL_S)
            if (lines := sum(checklist.lines for checklist in checklists)) != seen:
                seen, quiet_since = lines, time.monotonic()
            elif time.monotonic() - quiet_since > self._options.settle_s:
                break
        for client in self.crowd.clients:
            if client.was_open:
                client.listener.checklist.end(last)

    def _last(self) -> int | None:
        """The number of the last line that everybody should have."""
        last = self._run.highest if self._written is None else self._written.lines - 1
        return None if last < 0 else last

    def _result(self, interrupted: bool) -> Result:
        counts, options = self.crowd.counts, self._options
        self._run.tape.count_rest()
        faults, with_faults = Faults(), 0
        listeners = [client.listener for client in self.crowd.clients]
        for listener in listeners:
            faults.add(listener.checklist.faults)
            with_faults += bool(listener.checklist.faults)
        seconds = max(self._ended - self._started, 0.0)
        done = self._written
        written = done and Log(done.lines, done.seconds, options.line_bytes, done.late_s)
        return Result(
            url=options.shown_target,
            format=options.mode,
            seconds=seconds,
            connections=Connections(
                wanted=options.clients,
                connected=counts.open,
                seconds=self._connected_s,
                reconnects=counts.reconnects,
                refused=dict(counts.refused),
                dropped=dict(counts.dropped),
            ),
            written=written,
            lines=sum(listener.checklist.lines for listener in listeners),
            others=sum(listener.others for listener in listeners),
            bytes=sum(listener.received_bytes for listener in listeners),
            lost=faults.lost,
            repeated=faults.repeated,
            reordered=faults.reordered,
            damaged=faults.damaged,
            gaps=sum(listener.gaps for listener in listeners),
            clients_with_faults=with_faults,
            latency_ms=latencies(self._run.tape.ages),
            cpu=self._cpu_s / seconds if seconds else 0.0,
            interrupted=interrupted,
        )


async def _ask(options: BenchOptions, access: Access) -> Hello:
    """The server's first message to a client that wants nothing but the end of the log."""
    stream = options.stream
    client = LogStreamClient(
        options.target, stream, 0, headers=access.headers, tls=access.tls, patience=Patience(for_server=False)
    )
    async with client:
        event = await anext(client)
        while not isinstance(event, Hello) or event.cursor is None:
            if isinstance(event, Hello):
                raise CannotFollow(client.url, None, f"{event.stream or 'the stream'} cannot be read at the moment")
            event = await anext(client)
    names = [str(each.get("name")) for each in event.streams]
    written = options.write and Path(options.write).name
    if stream is None and written and written != event.stream and written in names:
        return await _ask(replace(options, stream=written), access)  # the file that we write is the one to be read
    return event


def _target(options: BenchOptions, access: Access, stream: str) -> Target:
    url = with_query(socket_url(options.target), {"stream": stream, "format": options.mode.value})
    return find_target(url, access.headers, access.tls)


def _needed_sources(target: Target, clients: int) -> Sequence[Network]:
    """All of 127.0.0.0/8 is this machine: more addresses there give more ports."""
    host = str(target.address[0])
    return (ip_network(_LOOPBACK),) if clients > _EPHEMERAL_PORTS and is_loopback(host) and "." in host else ()


def _need_files(clients: int) -> None:
    """Each client is a descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    if soft != resource.RLIM_INFINITY and clients > soft - _SPARE_FILES:
        advice = f"more than this process may have open ({soft}); raise `ulimit -n`"
        raise SettingsError((Problem("--clients", str(clients), advice),))
