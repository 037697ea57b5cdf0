# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that lack a function: what has to be seen is seen by the hooks that are left."""

import contextlib

import pytest
from conftest import LOCAL, PEER, PEER6, assert_complete, follow, sh, trace

pytestmark = [pytest.mark.guest, pytest.mark.extended]
LISTED = "/proc/kallsyms"


@contextlib.contextmanager
def without(function, directory):
    """For as long as it lasts, the kernel does not list the function."""
    listed = directory / "kallsyms"
    sh(f"grep -v ' {function}$' {LISTED} > {listed}; mount --bind {listed} {LISTED}")
    try:
        yield
    finally:
        sh(f"umount {LISTED}")


@pytest.mark.parametrize("function", ["icmp_rcv", "icmpv6_rcv"])
def test_one_family_without_its_last_stage(veth, backend, function, tmp_path):
    """Each echo of either family is reported once, and ends where both families are seen."""
    with without(function, tmp_path):
        run = follow(
            f"""
            ping -q -c 5 -i 0.02 {PEER}
            ping -6 -q -c 5 -i 0.02 {PEER6}
            ip netns exec irtpeer ping -q -c 5 -i 0.02 {LOCAL}""",
            backend,
        )
    assert run.said("5 received") == 3
    found = {
        probe["name"] for probe in run.start["probes"] if probe["probe"] and probe["stage"] == 5
    }
    assert {"icmp_rcv", "icmpv6_rcv"} - found == {function}
    # Each ping is the sender's echo and the answerer's.
    assert len(run.echoes) == 30
    assert {echo["outcome"] for echo in run.echoes} == {"complete"}
    asked = run.of("tx")
    assert_complete(asked, 15, seen=range(4))
    answered = run.of("rx")
    assert len(answered) == 15
    for echo in answered:
        lacking = (":" in echo["src"]) == (function == "icmpv6_rcv")
        assert [stage["stage"] for stage in echo["stages"]] == (
            [0, 1, 3, 4, 5] if lacking else [0, 1, 2, 3, 4, 5]
        )
    for name in ("duplicate_replies", "late_replies", "unmatched_replies"):
        assert run.counters[name] is None
    assert run.counters["unparsed"] == 0


def test_without_the_last_stage(veth, backend, tmp_path):
    """The round trip then ends with the reply's arrival."""
    with without("icmp_rcv", tmp_path):
        run = trace(
            *("--src-ip", LOCAL, "--dst-ip", PEER, "--backend", backend),
            # -U: until the answer reaches ping, not until the kernel has stamped its arrival.
            *("--", "ping", "-U", "-c", "5", "-i", "0.02", PEER),
        )
    assert run.status == 0, run.stderr
    assert_complete(run.echoes, 5, seen=range(4))
    for echo in run.echoes:
        assert echo["rtt_ns"] / 1e6 <= run.ping_ms[echo["seq"]]
