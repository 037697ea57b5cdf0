# SPDX-License-Identifier: GPL-2.0-only
"""Which replies came out of order: after that to a request which was sent later."""

from __future__ import annotations

__all__ = ("Order",)

_KEPT = 4096  # how many flows are known before all are forgotten


class Order:
    """Knows of each flow the latest request that was answered, and when it was."""

    def __init__(self) -> None:
        self._latest_ns: dict[object, tuple[int, int]] = {}

    def was_overtaken(self, flow: object, sent_ns: int, answered_ns: int) -> bool:
        """Whether a request that was sent later has been answered before.

        Args:
            flow: what sends and who answers.
            sent_ns: when the request was sent.
            answered_ns: when its reply came.
        """
        latest_ns = self._latest_ns.get(flow)
        if latest_ns is not None and sent_ns < latest_ns[0]:
            return answered_ns > latest_ns[1]
        if len(self._latest_ns) >= _KEPT:
            self._latest_ns.clear()
        self._latest_ns[flow] = (sent_ns, answered_ns)
        return False
