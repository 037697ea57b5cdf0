# SPDX-License-Identifier: GPL-2.0-only
"""SIGINT, SIGTERM and SIGHUP as a wish to end, seen between two steps of the work."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any

__all__ = ("Signals",)

# One wish may come as several signals: timeout(1) sends its own to the child and to the
# child's group, and a terminal that closes has SIGHUP sent by the shell and by the kernel.
_ONE_WISH_NS = 500_000_000


class Signals:
    """A context manager within which the first signal is remembered, not acted upon.

    A further SIGINT or SIGTERM, half a second later or more, raises KeyboardInterrupt
    wherever the program is then. A child's end interrupts a wait as well, so that it is
    seen at once. SIGHUP stays ignored where it is (nohup).

    Args:
        for_good: the process ends next: after a normal end no signal is heeded any more.

    Attributes:
        number: the first signal; None if there was none.
        due_ns: when the run is to end without one, by the monotonic clock; None: never.
        swallowed: the further one came where no exception gets out, in a callback from C.
    """

    def __init__(self, for_good: bool = False) -> None:
        self.number: int | None = None
        self.due_ns: int | None = None
        self.swallowed = False
        self._since_ns = 0
        self._for_good = for_good
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
            deaf = self._for_good and kind is None and number != signal.SIGCHLD
            signal.signal(number, signal.SIG_IGN if deaf else handler)

    @property
    def over(self) -> bool:
        """Whether the run has been told to end, or its time is up."""
        if self.number is not None:
            return True
        return self.due_ns is not None and time.monotonic_ns() >= self.due_ns

    def _remember(self, number: int, frame: FrameType | None) -> None:
        now_ns = time.monotonic_ns()
        if self.number is None:
            self.number, self._since_ns = number, now_ns
        elif number != signal.SIGHUP and now_ns - self._since_ns >= _ONE_WISH_NS:
            raise KeyboardInterrupt

    def _swallow(self, unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            self.swallowed = True
        else:
            self._unraisable(unraisable)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Python's default for SIGCHLD would not interrupt a system call."""
