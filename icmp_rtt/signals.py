# SPDX-License-Identifier: GPL-2.0-only
"""SIGINT, SIGTERM and SIGHUP as a wish to end, seen between two steps of the work."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any

__all__ = ("Signals",)


class Signals:
    """A context manager within which the first signal is remembered, not acted upon.

    The second raises KeyboardInterrupt wherever the program is then. A child's
    end interrupts a wait as well, so that it is seen at once. SIGHUP stays ignored
    where it is (nohup).

    Attributes:
        number: the first signal; None if there was none.
        swallowed: the second came where no exception gets out, in a callback from C.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.swallowed = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM), self._remember)
        handlers[signal.SIGCHLD] = _ignore
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            handlers[signal.SIGHUP] = self._remember
        for number, handler in handlers.items():
            self._before[number] = signal.signal(number, handler)
        self._unraisable = sys.unraisablehook
        sys.unraisablehook = self._swallow
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        sys.unraisablehook = self._unraisable
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number

    def _swallow(self, unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            self.swallowed = True
        else:
            self._unraisable(unraisable)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Python's default for SIGCHLD would not interrupt a system call."""
