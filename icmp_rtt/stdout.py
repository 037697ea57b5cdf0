# SPDX-License-Identifier: GPL-2.0-only
"""Where reports go: stdout, whose reader may be slow, stopped, or gone."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
import time
from io import TextIOWrapper
from typing import TYPE_CHECKING

from icmp_rtt.errors import IcmpRttError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from icmp_rtt.signals import Signals

__all__ = ("Stdout", "StdoutError")

_EVERYTHING = 1 << 30  # bytes; no write takes more
_STEP_MS = 100
# How long a reader that takes nothing is waited for once the run has been told to end.
_GRACE_NS = 2_000_000_000


class StdoutError(IcmpRttError):
    """Reports cannot be written any more."""


class Stdout:
    """Where reports go: each ``write`` is there at once, or raises StdoutError.

    Args:
        signals: a signal, or the end of the run's time, ends the wait for a reader that takes
            nothing.
    """

    def __init__(self, signals: Signals | None = None) -> None:
        if sys.stdout is None:
            raise StdoutError("stdout is closed; give the reports a place to go")
        if isinstance(sys.stdout, TextIOWrapper):  # a name that its encoding lacks is no error
            sys.stdout.reconfigure(errors="backslashreplace")
        self._signals = signals
        self._descriptor, self._at_once = _way_out()
        self._is_pipe = self._descriptor is not None and _is_pipe(self._descriptor)

    def write(self, *reports: str) -> None:
        """Write all of them.

        Others may write to the same pipe, a command that is being traced above all: what
        they write comes between two reports, and not into one of up to PIPE_BUF bytes.
        """
        try:
            self._write_all(reports)
        except BrokenPipeError:
            raise self._error("stdout was closed by its reader") from None
        except OSError as error:
            cause = (error.strerror or str(error)).lower()
            raise self._error(f"cannot write to stdout: {cause}") from error

    def check_reader(self) -> None:
        """Raise StdoutError if whoever read has gone, though nothing is to be written."""
        if self._descriptor is None:
            return
        poll = select.poll()
        poll.register(self._descriptor, 0)
        gone = select.POLLERR | select.POLLHUP  # of a pipe, of a socket
        if any(event & gone for _, event in poll.poll(0)):
            raise self._error("stdout was closed by its reader")

    def _write_all(self, reports: tuple[str, ...]) -> None:
        """Every byte of it: an unbuffered stdout (PYTHONUNBUFFERED) drops what one write left."""
        sys.stdout.flush()
        if self._descriptor is None:
            sys.stdout.write("".join(reports))
            return
        encoding = sys.stdout.encoding or "utf-8"
        encoded = [report.encode(encoding, "backslashreplace") for report in reports]
        for portion in _portions(encoded) if self._is_pipe else (b"".join(encoded),):
            self._write_portion(portion, self._descriptor)

    def _write_portion(self, portion: bytes, descriptor: int) -> None:
        rest = memoryview(portion)
        while rest:
            if self._at_once < _EVERYTHING:
                self._wait_for_room(descriptor)
            try:
                rest = rest[os.write(descriptor, rest[: self._at_once]) :]
            except BlockingIOError:
                self._wait_for_room(descriptor)

    def _wait_for_room(self, descriptor: int) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        end_ns = None
        while not poll.poll(_STEP_MS):
            if self._signals is None or not self._signals.over:
                continue
            now_ns = time.monotonic_ns()
            if end_ns is None:
                end_ns = now_ns + _GRACE_NS
            elif now_ns >= end_ns:
                raise self._error(
                    "stdout's reader takes nothing: the last reports and the summary are lost;"
                    " let it go on, or end it first"
                )

    def _error(self, message: str) -> StdoutError:
        """An error, after which what is still buffered does not fail once more, or wait."""
        with contextlib.suppress(OSError):  # there may be no /dev, or no descriptor left
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        self._descriptor = sys.stdout.fileno()
        return StdoutError(message)


def _way_out() -> tuple[int | None, int]:
    """Where to write, None if stdout is not a real file, and how many bytes at once.

    No write may wait: Python takes one up again that a signal has interrupted. A pipe is
    opened once more, so that it is non-blocking for us alone. What cannot be opened gets
    as little at once as a pipe takes without a wait where it has room at all.
    """
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return None, 0
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor, _EVERYTHING
    if _is_pipe(descriptor):
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK
            return os.open(f"/proc/self/fd/{descriptor}", flags), _EVERYTHING
    return descriptor, select.PIPE_BUF


def _is_pipe(descriptor: int) -> bool:
    return stat.S_ISFIFO(os.fstat(descriptor).st_mode)


def _portions(reports: list[bytes]) -> Iterator[bytes]:
    """As many of them together as a pipe takes all of or nothing; a longer one alone."""
    together: list[bytes] = []
    length = 0
    for report in reports:
        if together and length + len(report) > select.PIPE_BUF:
            yield b"".join(together)
            together, length = [], 0
        together.append(report)
        length += len(report)
    yield b"".join(together)
