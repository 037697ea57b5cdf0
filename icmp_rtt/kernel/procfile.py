# SPDX-License-Identifier: GPL-2.0-only
"""Files of /proc, read by libc.

Such a file comes a page at a time however much is asked for, and Python gives its
lock up and takes it again for each: beside a thread that works, the thousand pages
of kallsyms would wait for it a thousand times. libc's fread goes on without.
"""

from __future__ import annotations

import ctypes
import os
import threading
from errno import EBADF
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("ProcFile",)

_UNBUFFERED = 2  # _IONBF
_PTR, _INT, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fopen.restype, libc.fopen.argtypes = _PTR, (ctypes.c_char_p, ctypes.c_char_p)
    libc.fread.restype, libc.fread.argtypes = _SIZE, (_PTR, _SIZE, _SIZE, _PTR)
    libc.setvbuf.restype, libc.setvbuf.argtypes = _INT, (_PTR, _PTR, _INT, _SIZE)
    libc.rewind.restype, libc.rewind.argtypes = None, (_PTR,)
    libc.ferror.restype, libc.ferror.argtypes = _INT, (_PTR,)
    libc.fclose.restype, libc.fclose.argtypes = _INT, (_PTR,)
    return libc


class ProcFile:
    """An open file; to be closed, by any thread.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()  # libc frees what it reads from when it is closed
        self._libc = _libc()
        self._stream: int | None = self._libc.fopen(os.fsencode(path), b"rbe")
        if not self._stream:
            raise self._error(ctypes.get_errno())
        self._libc.setvbuf(self._stream, None, _UNBUFFERED, 0)

    def blocks(self, size: int) -> Iterator[bytes]:
        """The file from its beginning, ``size`` bytes at a time; the last block may be shorter.

        Raises:
            OSError: it cannot be read, or has been closed.
        """
        buffer = ctypes.create_string_buffer(size)
        block = self._read(buffer, rewind=True)
        while block:
            yield block
            block = self._read(buffer)

    def close(self) -> None:
        """Close it, once nobody reads it; closing twice is harmless."""
        with self._lock:
            stream, self._stream = self._stream, None
            if stream:
                self._libc.fclose(stream)

    def _read(self, buffer: ctypes.Array[ctypes.c_char], rewind: bool = False) -> bytes:
        with self._lock:
            if not self._stream:
                raise self._error(EBADF)
            if rewind:
                self._libc.rewind(self._stream)
            length = self._libc.fread(buffer, 1, len(buffer), self._stream)
            if not length and self._libc.ferror(self._stream):
                raise self._error(ctypes.get_errno())
        return ctypes.string_at(buffer, length)

    def _error(self, code: int) -> OSError:
        return OSError(code, os.strerror(code), self._path)
