"""A file system of one file that fails as it is told to: what a server of files says that has lost them (ESTALE, EIO).

It speaks the kernel's FUSE protocol (fuse(4), include/uapi/linux/fuse.h) from a thread of the test, so every call into
it goes the whole way: through the kernel, with its retries and caches. bindfs, as in harness.py, can hang
and die, but not give a chosen error.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

ROOT, FILE = 1, 2
"""The inodes: the folder, and the file in it."""

_IN: Final = struct.Struct("<IIQQIIIHH")
_OUT: Final = struct.Struct("<IiQ")
_INIT: Final = struct.Struct("<IIIIHHIIHHI28x")
_ENTRY: Final = struct.Struct("<QQQQII")
_ATTRIBUTES: Final = struct.Struct("<QII")
_STAT: Final = struct.Struct("<QQQQQQIIIIIIIIII")
_OPENED: Final = struct.Struct("<QII")
_READ: Final = struct.Struct("<QQI")
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ_FILE, _STATFS, _RELEASE = 1, 2, 3, 14, 15, 17, 18
_FLUSH, _INIT_CALL, _OPENDIR, _READDIR, _RELEASEDIR, _INTERRUPT, _BATCH_FORGET = 25, 26, 27, 28, 29, 36, 42
_DIRECT_IO: Final = 1
_REQUEST_BYTES: Final = 1 << 17
_FORCE_AND_DETACH: Final = 3
"""Also while somebody watches a folder there: all that is asked is answered with an error from then on."""


class FaultyFiles:
    """`name` below `target`, with these bytes in it. While `error` is set, every call about the file gets that."""

    def __init__(self, target: Path, name: str) -> None:
        self.path = target / name
        self.content = b""
        self.error = 0
        self.refused = 0
        """How many calls got the error."""
        self._target, self._name = target, name.encode()
        self._mtime = time.time_ns()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._calls: dict[int, Callable[[int, bytes], bytes]] = {
            _INIT_CALL: self._init,
            _LOOKUP: self._lookup,
            _GETATTR: self._getattr,
            _OPEN: self._open,
            _OPENDIR: self._open,
            _READ_FILE: self._read,
            _READDIR: self._readdir,
            _STATFS: lambda _node, _body: bytes(80),
            _RELEASE: lambda _node, _body: b"",
            _RELEASEDIR: lambda _node, _body: b"",
            _FLUSH: lambda _node, _body: b"",
        }

    def append(self, data: bytes) -> None:
        """The file grows."""
        self.content += data
        self._mtime = time.time_ns()

    @contextlib.contextmanager
    def mounted(self) -> Iterator[FaultyFiles]:
        """In use."""
        self._target.mkdir(exist_ok=True)
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0"
        arguments = (b"faulty", os.fsencode(self._target), b"fuse", 0, options.encode())
        if self._libc.mount(*arguments):
            raise OSError(ctypes.get_errno(), "mount")
        thread = threading.Thread(target=self._serve, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._libc.umount2(os.fsencode(self._target), _FORCE_AND_DETACH)
            thread.join()
            os.close(self._device)

    # -- the kernel's side -------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            try:
                request = os.read(self._device, _REQUEST_BYTES)
            except InterruptedError:
                continue
            except OSError:  # ENODEV: unmounted
                return
            _, call, number, node, *_ = _IN.unpack_from(request)
            if call in (_FORGET, _BATCH_FORGET, _INTERRUPT):  # they have no answer
                continue
            error, answer = 0, b""
            try:
                answer = self._answer(call, node, request[_IN.size :])
            except OSError as refusal:
                error = refusal.errno or errno.EIO
            with contextlib.suppress(OSError):  # whoever asked has gone
                os.write(self._device, _OUT.pack(_OUT.size + len(answer), -error, number) + answer)

    def _answer(self, call: int, node: int, body: bytes) -> bytes:
        answer = self._calls.get(call)
        if answer is None:
            raise OSError(errno.ENOSYS, "not one of our calls")
        if self.error and (node == FILE or call == _LOOKUP) and call not in (_RELEASE, _FLUSH):
            self.refused += 1
            raise OSError(self.error, os.strerror(self.error))
        return answer(node, body)

    def _init(self, _node: int, _body: bytes) -> bytes:
        return _INIT.pack(7, 31, 0, 0, 0, 0, _REQUEST_BYTES - 4096, 1, 0, 0, 0)

    def _lookup(self, _node: int, body: bytes) -> bytes:
        if body.rstrip(b"\0") != self._name:
            raise OSError(errno.ENOENT, "no such file")
        return _ENTRY.pack(FILE, 0, 0, 0, 0, 0) + self._stat(FILE)

    def _getattr(self, node: int, _body: bytes) -> bytes:
        return _ATTRIBUTES.pack(0, 0, 0) + self._stat(node)

    def _stat(self, node: int) -> bytes:
        seconds, rest = divmod(self._mtime, 10**9)
        size, mode = (0, stat.S_IFDIR | 0o755) if node == ROOT else (len(self.content), stat.S_IFREG | 0o644)
        times = (seconds, seconds, seconds, rest, rest, rest)
        return _STAT.pack(node, size, (size + 511) // 512, *times, mode, 1, 0, 0, 0, 4096, 0)

    def _open(self, _node: int, _body: bytes) -> bytes:
        return _OPENED.pack(0, _DIRECT_IO, 0)

    def _read(self, _node: int, body: bytes) -> bytes:
        _, offset, count = _READ.unpack_from(body)
        return self.content[offset : offset + count]

    def _readdir(self, _node: int, body: bytes) -> bytes:
        _, offset, _ = _READ.unpack_from(body)
        if offset:
            return b""
        entry = struct.pack("<QQII", FILE, 1, len(self._name), stat.S_IFREG >> 12) + self._name
        return entry + bytes(-len(entry) % 8)
