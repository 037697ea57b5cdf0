# SPDX-License-Identifier: GPL-2.0-only
"""Files of /proc, read by libc.

Such a file comes a page at a time however much is asked for, and Python gives its
lock up and takes it again for each: beside a thread that works, the thousand pages
of kallsyms would wait for it a thousand times. libc's fread goes on without.
"""

from __future__ import annotations

import ctypes
import os
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
    """An open file; to be closed.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._libc = _libc()
        self._stream: int | None = self._libc.fopen(os.fsencode(path), b"rbe")
        if not self._stream:
            raise self._error()
        self._libc.setvbuf(self._stream, None, _UNBUFFERED, 0)

    def blocks(self, size: int) -> Iterator[bytes]:
        """The file from its beginning, ``size`` bytes at a time; the last block may be shorter.

        Raises:
            OSError: it cannot be read.
        """
        buffer = ctypes.create_string_buffer(size)
        self._libc.rewind(self._stream)
        while length := self._libc.fread(buffer, 1, size, self._stream):
            yield ctypes.string_at(buffer, length)
        if self._libc.ferror(self._stream):
            raise self._error()

    def close(self) -> None:
        """Close it; closing twice is harmless."""
        stream, self._stream = self._stream, None
        if stream:
            self._libc.fclose(stream)

    def _error(self) -> OSError:
        code = ctypes.get_errno()
        return OSError(code, os.strerror(code), self._path)
