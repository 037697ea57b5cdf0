# SPDX-License-Identifier: GPL-2.0-only
"""Work that a thread does beside what goes on meanwhile."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Background",)

_Result = TypeVar("_Result")


class Background(Generic[_Result]):
    """A call that has begun; where no thread is to be had it is over at once.

    Args:
        work: what to call.
        name: of the thread, as debuggers show it.
    """

    def __init__(self, work: Callable[[], _Result], name: str) -> None:
        self._work = work
        self._returned: list[_Result] = []
        self._raised: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"icmp-rtt {name}")
        try:
            self._thread.start()
        except RuntimeError:  # the limit of processes
            self._run()

    def wait(self) -> None:
        """Until it is over; whatever became of it."""
        if self._thread.ident is not None:
            self._thread.join()

    def result(self) -> _Result:
        """What it returned, or else raised, once it is over."""
        self.wait()
        if self._raised is not None:
            raise self._raised
        return self._returned[0]

    def _run(self) -> None:
        try:
            self._returned.append(self._work())
        except Exception as error:  # noqa: BLE001 - raised by result
            self._raised = error
