# SPDX-License-Identifier: GPL-2.0-only
"""The clock that an event is stamped in."""

from __future__ import annotations

import time
from functools import lru_cache

__all__ = ("kernel_ns",)

_OFFSETS = "/proc/self/timens_offsets"


def kernel_ns() -> int:
    """CLOCK_MONOTONIC, in nanoseconds, as BPF programs have it: that of no time namespace."""
    return time.monotonic_ns() - _offset_ns(_OFFSETS)


@lru_cache(1)
def _offset_ns(path: str) -> int:
    """What this process's time namespace adds to it.

    Since 769071ac9f20 ("ns: Introduce Time Namespace"), v5.6. The file has the offsets of
    the namespace that children get: this process's own, as it was begun in it.
    """
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                clock, seconds, nanoseconds = line.split()
                if clock in ("monotonic", "1"):
                    return int(seconds) * 1_000_000_000 + int(nanoseconds)
    except (OSError, ValueError):  # no time namespaces
        pass
    return 0
