# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel has counted is found by its layout, and summed over all CPUs."""

import struct
from types import SimpleNamespace

import pytest
from btfwriter import Writer
from samples import ABI

from icmp_rtt.counters import Counters
from icmp_rtt.errors import ObjectError
from icmp_rtt.kernel.btf import Btf

NAMES = [*ABI.enum("icmp_rtt_counter")][:-1]


def layout(names=NAMES, size=8):
    """BTF of a state of a CPU whose counters are not the first in it."""
    w = Writer()
    values = w.array(w.integer("number", size), len(names))
    counters = w.struct("icmp_rtt_counters", size * len(names), ("value", values, 0))
    before = ("before", w.integer("u64", 8), 0)
    w.struct("cpu_state", 8 + size * len(names), before, ("counters", counters, 64))
    w.enum("icmp_rtt_counter", {name: i for i, name in enumerate([*names, "COUNTER_COUNT"])})
    return Btf(w.bytes())


def states(*first_counts, code="Q"):
    """The map of the states of CPUs, by the first counts of each; one CPU more has none."""
    form = struct.Struct(f"<Q{len(NAMES)}{code}")
    rest = [0] * (len(NAMES) - 2)
    by_key = {
        struct.pack("=I", cpu): form.pack(77, *counts, *rest)
        for cpu, counts in enumerate(first_counts)
    }
    return SimpleNamespace(
        max_entries=len(first_counts) + 1, value_size=form.size, lookup=by_key.get
    )


def test_counted_on_one_cpu_and_taken_back_on_another():
    """A request that turns out to be another host's may be freed by any CPU."""
    found = Counters(layout()).sums(states([5, 2], [2**64 - 1, 0]))
    assert {name: count for name, count in found.items() if count} == {"requests": 4, "complete": 2}
    assert list(found) == [name.partition("_")[2].lower() for name in NAMES]


def test_counters_of_another_size():
    """They are as wide as the object says."""
    found = Counters(layout(size=4)).sums(states([5, 2], [1, 0], code="I"))
    assert (found["requests"], found["complete"]) == (6, 2)


def test_a_counter_that_is_not_there():
    """It is missed at the start, and not when everything is over."""
    names = [name for name in NAMES if name != "COUNTER_SKIPPED"]
    with pytest.raises(ObjectError, match="enum icmp_rtt_counter has no COUNTER_SKIPPED"):
        Counters(layout(names))
