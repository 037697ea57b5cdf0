# SPDX-License-Identifier: GPL-2.0-only
"""Echoes to this host itself, and to many hosts at once."""

import pytest
from conftest import LOCAL, assert_complete, follow, sh

pytestmark = [pytest.mark.guest, pytest.mark.extended]
ALIAS = "10.77.0.11"


@pytest.fixture(scope="module")
def alias(veth):
    """A second address of v0."""
    sh(f"ip address add {ALIAS}/24 dev v0 label v0:1")
    yield ALIAS
    sh(f"ip address delete {ALIAS}/24 dev v0")


def test_own_addresses(alias, farm):
    """Over lo, request and reply each have all six stages in both directions."""
    run = follow(
        f"""
        ping -q -c 5 -i 0.02 127.0.0.1
        ping -q -c 5 -i 0.02 {LOCAL}
        ping -q -c 5 -i 0.02 -I {alias} {alias}
        ping -q -c 5 -i 0.02 -I {alias} {farm}.41
        ping -q -c 5 -i 0.02 -s 60000 127.0.0.2"""
    )
    assert run.said("5 received") == 5
    for address in ("127.0.0.1", LOCAL, alias):
        for direction in ("tx", "rx"):
            echoes = run.of(direction, address, address)
            assert_complete(echoes, 5)
            names = {(echo["request"]["ifname"], echo["reply"]["ifname"]) for echo in echoes}
            assert names == {("lo", "lo")}
    assert_complete(run.of("tx", alias, f"{farm}.41"), 5)
    # lo takes 60,000 bytes in one buffer, whose headers may lie in a page.
    assert_complete(run.of("tx", remote="127.0.0.2"), 5)
    assert run.counters["unparsed"] == 0


def test_many_answers(bridge):
    """Of two answers to a broadcast or multicast the first is the reply, the other a duplicate."""
    for name in ("irta", "irtb"):
        sh(f"ip netns exec {name} sysctl -qw net.ipv4.icmp_echo_ignore_broadcasts=0")
    run = follow(
        f"""
        ping -b -n -c 5 -i 0.1 10.81.0.255 2>/dev/null
        ping -n -c 5 -i 0.1 -I {bridge} 224.0.0.1
        ping -q -n -c 1 10.81.0.2"""
    )
    # ping is content with the first answer to its last request.
    assert run.said("5 received, +4 duplicates") + run.said("5 received, +5 duplicates") == 2
    for address in ("10.81.0.255", "224.0.0.1"):
        assert_complete(run.of("tx", "10.81.0.1", address), 5)
    assert run.counters["duplicate_replies"] == 10
    assert run.counters["unmatched_replies"] == 0


@pytest.mark.parametrize("address", ["10.81.0.255", "224.0.0.1"])
def test_a_group_that_was_asked_for(bridge, backend, address):
    """By --dst-ip: whoever answers ends its echo, and what others answer is not counted."""
    for name in ("irta", "irtb"):
        sh(f"ip netns exec {name} sysctl -qw net.ipv4.icmp_echo_ignore_broadcasts=0")
    run = follow(
        f"""
        ping -b -n -c 5 -i 0.1 -I {bridge} {address} 2>/dev/null
        ping -q -n -c 3 -i 0.1 10.81.0.2""",
        backend,
        *("--dst-ip", address),
    )
    assert run.said("3 received") == 1
    assert_complete(run.echoes, 5)
    assert {echo["dst"] for echo in run.echoes} == {address}
    assert run.counters["duplicate_replies"] == 5
    assert run.counters["unmatched_replies"] == 0
    assert (run.counters["drops"], run.counters["unparsed"]) == (0, 0)
