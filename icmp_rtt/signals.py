# SPDX-License-Identifier: GPL-2.0-only
"""SIGINT and SIGTERM as a wish to end, seen between two steps of the work."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any

__all__ = ("Signals",)


class Signals:
    """A context manager within which the first signal is remembered, not acted upon.

    The second raises KeyboardInterrupt wherever the program is then. A child's
    end interrupts a wait as well, so that it is seen at once.

    Attributes:
        number: the first signal; None if there was none.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number, handler in (
            (signal.SIGINT, self._remember),
            (signal.SIGTERM, self._remember),
            (signal.SIGCHLD, _ignore),
        ):
            self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number


def _ignore(number: int, frame: FrameType | None) -> None:
    """Python's default for SIGCHLD would not interrupt a system call."""
