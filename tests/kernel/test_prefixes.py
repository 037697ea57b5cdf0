# SPDX-License-Identifier: GPL-2.0-only
"""A prefix, or no address at all: every echo that matches, and no other."""

import re
from collections import Counter

import pytest
from conftest import LOCAL, LOCAL6, PEER, PEER6, assert_identities, assert_six_stages, trace

pytestmark = [pytest.mark.guest, pytest.mark.extended]
QUICK = ("--backend", "fentry", "--disable-kernel-stacks", "--timeout", "5")
COUNT = 3
OUT, OUT6, IN, HERE = range(401, 405)
# Each of COUNT echoes: two that this host sends, one that it answers, one of its own.
PINGS = {
    OUT: f"ping -c 3 -i 0.02 -e {OUT} {PEER}",
    OUT6: f"ping -c 3 -i 0.02 -e {OUT6} {PEER6}",
    IN: f"ip netns exec irtpeer ping -c 3 -i 0.02 -e {IN} {LOCAL}",
    HERE: f"ping -c 3 -i 0.02 -e {HERE} 127.0.0.1",
}
SCRIPT = "\n".join(f"{ping} >&2 || exit" for ping in PINGS.values())


def trace_all(*where):
    """A run over every ping."""
    return trace(*where, *QUICK, "--", "sh", "-c", SCRIPT)


def reported(run):
    """How many echoes were reported, by id, direction, local and remote address."""
    return Counter((e["id"], e["direction"], e["src"], e["dst"]) for e in run.echoes)


def test_everything(veth):
    """Without any address: what is sent and what is answered, in every network namespace."""
    run = trace_all("--direction", "both")
    expected = []
    for id_, asker, target in (
        (OUT, LOCAL, PEER),
        (OUT6, LOCAL6, PEER6),
        (IN, PEER, LOCAL),
        (HERE, "127.0.0.1", "127.0.0.1"),
    ):
        # Both ends are on this kernel: one asks, and the other is asked.
        expected += [(id_, "tx", asker, target), (id_, "rx", target, asker)]
    assert reported(run) == dict.fromkeys(expected, COUNT)
    assert_six_stages(run, COUNT * len(expected))
    assert (run.start["src"], run.start["dst"], run.start["netns"]) == (None, None, None)


def test_both_directions_of_one_interface(veth):
    """What this host sends and answers through it; the other end is another namespace."""
    run = trace_all("--direction", "both", "--interface", veth)
    here = {(OUT, "tx", LOCAL, PEER), (OUT6, "tx", LOCAL6, PEER6), (IN, "rx", LOCAL, PEER)}
    assert reported(run) == dict.fromkeys(here, COUNT)
    assert_six_stages(run, COUNT * len(here))
    assert run.counters["other_interface"] == 2 * COUNT


@pytest.mark.parametrize("prefix", ["10.0.0.0/8", "0.0.0.0/0"])
def test_remote_prefix(veth, prefix):
    """IPv4 alone, and said in words; what lies outside the prefix is counted."""
    run = trace_all("--dst-ip", prefix, "--format", "text")
    assert run.status == 0, run.stderr
    found = Counter(
        (int(id_), source, target)
        for source, target, id_ in re.findall(
            r"^Session: (\S+) -> (\S+) \(ID: (\d+),", run.stdout, re.M
        )
    )
    expected = {(OUT, LOCAL, PEER), (IN, PEER, LOCAL)}
    outside = COUNT
    if prefix == "0.0.0.0/0":
        expected.add((HERE, "127.0.0.1", "127.0.0.1"))
        outside = 0
    assert found == dict.fromkeys(expected, COUNT)
    assert (
        "Scope: every IPv4 echo that this host sends, between any of its addresses and"
        f" those in {prefix}, in every network namespace\n"
    ) in run.stdout
    assert f" other_address={outside} " in run.stdout
    assert "Verdict:" not in run.stdout


def test_local_prefix(veth):
    """The peer's addresses are in it too, so its echoes are traced there."""
    run = trace_all("--src-ip", "10.77.0.0/24", "--dst-ip", LOCAL, "--direction", "both")
    assert reported(run) == {(OUT, "rx", PEER, LOCAL): COUNT, (IN, "tx", PEER, LOCAL): COUNT}
    assert run.counters["other_address"] == 4 * COUNT
    assert_identities(run)
