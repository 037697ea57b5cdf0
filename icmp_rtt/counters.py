# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel side has counted: where it lies, and its sums over all CPUs.

Knows the names of counters, and nothing of what they add up to.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icmp_rtt.kernel.btf import Btf
    from icmp_rtt.kernel.maps import Map

__all__ = ("Counters",)

_VALUES = 1 << 64  # it begins again at zero
# Those that are not told as they are: an object has to have them.
_RECKONED = (
    *("requests", "complete", "expired", "in_flight", "restarted", "restarted_lost", "refused"),
    *("reported", "below_threshold", "unasked", "events_lost", "other_interface", "skipped"),
)


class Counters:
    """The counters of one object.

    Args:
        btf: of that object.

    Raises:
        ObjectError: it lacks a counter, or has them in no place that is known.
    """

    def __init__(self, btf: Btf) -> None:
        counters = btf.struct("cpu_state").fields["counters"]
        values = counters.layout.fields["value"]
        self._numbers, self._at = values.numbers, counters.offset + values.offset
        enumerators = btf.enum("icmp_rtt_counter")
        self._names = [
            name.partition("_")[2].lower() for name in enumerators if name != "COUNTER_COUNT"
        ]
        for name in _RECKONED:
            enumerators[f"COUNTER_{name.upper()}"]  # refused now, if it is not there

    def sums(self, per_cpu: Map) -> Counter[str]:
        """By name; one CPU may take back what another has counted, and be below zero.

        Args:
            per_cpu: struct cpu_state by the number of the CPU.
        """
        total: Counter[str] = Counter(dict.fromkeys(self._names, 0))
        for cpu in range(per_cpu.max_entries):
            value = per_cpu.lookup(struct.pack("=I", cpu)) or bytes(per_cpu.value_size)
            counts = self._numbers.unpack_from(value, self._at)
            for name, count in zip(self._names, counts):
                total[name] = (total[name] + count) % _VALUES
        return total
