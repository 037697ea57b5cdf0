# SPDX-License-Identifier: GPL-2.0-only
"""What the device's tracepoints alone tell where devices lie above each other, and behind a router."""

import os
from pathlib import Path

import pytest
from conftest import assert_identities, sh, trace

pytestmark = pytest.mark.native
LEAN = ("--backend", "tracepoint", "--disable-kernel-stacks", "--timeout", "0.3")
THREE = ("ping", "-q", "-c", "3", "-i", "0.05", "-W", "0.3")
HERE = ("--netns", str(os.getpid()))


@pytest.fixture(scope="module")
def behind():
    """Two namespaces: irtnear behind the bridge irtnb and its port n0, irtfar behind f0."""
    sh(
        """
        ip netns add irtnear; ip netns add irtfar
        ip link add n0 type veth peer name n1 netns irtnear
        ip link add f0 type veth peer name f1 netns irtfar
        ip link add irtnb type bridge; ip link set n0 master irtnb
        ip address add 10.91.0.1/24 dev irtnb; ip address add 10.92.0.1/24 dev f0
        ip -n irtnear address add 10.91.0.2/24 dev n1; ip -n irtfar address add 10.92.0.2/24 dev f1
        for dev in n0 irtnb f0; do ip link set $dev up; done
        ip -n irtnear link set n1 up; ip -n irtfar link set f1 up
        ip -n irtnear route add default via 10.91.0.1
        ip -n irtfar route add default via 10.92.0.1
        sysctl -qw net.ipv4.ip_forward=1"""
    )
    yield
    sh(
        """
        sysctl -qw net.ipv4.ip_forward=0
        ip netns delete irtnear; ip netns delete irtfar; ip link delete irtnb"""
    )


def inside(netns, *words):
    """A command in a namespace of this name."""
    return ("ip", "netns", "exec", netns, *words)


def stages(echoes):
    """The stages that each echo was seen at."""
    return [[stage["stage"] for stage in echo["stages"]] for echo in echoes]


@pytest.mark.parametrize("device", [None, "n0", "irtnb"])
def test_request_by_a_bridge(behind, device):
    """It arrives at the port and at the bridge: that is one request, which did not begin again."""
    where = HERE if device is None else ("--interface", device)
    ping = inside("irtnear", *THREE, "10.91.0.1")
    run = trace(*LEAN, *where, "--direction", "rx", "--", *ping)
    assert [echo["outcome"] for echo in run.echoes] == ["complete"] * 3
    assert stages(run.echoes) == [[0, 5]] * 3
    names = {(echo["request"]["ifname"], echo["reply"]["ifname"]) for echo in run.echoes}
    assert names == {(device or "irtnb", device or "irtnb")}
    assert (run.counters["requests"], run.counters["incomplete_lost"]) == (3, 0)
    assert_identities(run)


@pytest.mark.parametrize("device", [None, "irtnb"])
def test_request_by_a_bridge_that_is_not_answered(behind, device):
    """That it came by a port, which was not asked for, is no answer by another device."""
    where = HERE if device is None else ("--interface", device)
    script = "sysctl -qw net.ipv4.icmp_echo_ignore_all=1; $0 $@ >&2 || true"
    ping = inside("irtnear", *THREE, "10.91.0.1")
    try:
        run = trace(*LEAN, *where, "--direction", "rx", "--", "sh", "-c", script, *ping)
    finally:
        sh("sysctl -qw net.ipv4.icmp_echo_ignore_all=0")
    assert [echo["reason"] for echo in run.echoes] == ["no reply sent"] * 3
    assert stages(run.echoes) == [[0]] * 3
    assert_identities(run)


def bridges_pass_netfilter():
    """Have br_netfilter put its stand-in for a route, where there is one; whether there is."""
    standing_in = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if standing_in.exists():
        standing_in.write_text("1")
    return standing_in.exists()


def test_request_dropped_by_a_bridge(behind):
    """Where br_netfilter has put its stand-in for a route, it is not taken for one to elsewhere."""
    bridges_pass_netfilter()
    sh(
        """
        nft add table bridge irt
        nft 'add chain bridge irt in { type filter hook input priority -200; }'
        nft add rule bridge irt in ip saddr 10.91.0.2 drop"""
    )
    ping = inside("irtnear", *THREE, "10.91.0.1")
    try:
        run = trace(*LEAN, *HERE, "--direction", "rx", "--", "sh", "-c", "$0 $@ >&2 || true", *ping)
    finally:
        sh("nft delete table bridge irt")
    assert [echo["reason"] for echo in run.echoes] == ["dropped"] * 3
    assert {echo["drop"]["path"] for echo in run.echoes} == {1}
    assert_identities(run)


def test_request_between_two_ports_that_is_dropped(behind):
    """It was not for this host: by the frame's address, or by whose the device is at the firewall."""
    family = "ip" if bridges_pass_netfilter() else "bridge"
    sh(
        f"""
        ip netns add irtside; ip link add s0 type veth peer name s1 netns irtside
        ip link set s0 master irtnb; ip link set s0 up
        ip -n irtside address add 10.91.0.3/24 dev s1; ip -n irtside link set s1 up
        nft add table {family} irt
        nft 'add chain {family} irt on {{ type filter hook forward priority 0; }}'
        nft add rule {family} irt on ip saddr 10.91.0.2 ip daddr 10.91.0.3 drop"""
    )
    ping = inside("irtnear", *THREE, "10.91.0.3")
    try:
        run = trace(*LEAN, *HERE, "--direction", "rx", "--", "sh", "-c", "$0 $@ >&2 || true", *ping)
    finally:
        sh(f"nft delete table {family} irt; ip netns delete irtside")
    assert (run.echoes, run.counters["requests"], run.counters["drops"]) == ([], 0, 0), run.counters


def test_forwarded_request(behind):
    """A router is not who is to answer."""
    ping = inside("irtnear", *THREE, "10.92.0.2")
    run = trace(*LEAN, *HERE, "--direction", "rx", "--", *ping)
    assert "3 received" in run.stdout
    assert (run.echoes, run.counters["requests"], run.counters["other_address"]) == ([], 0, 3)
    assert_identities(run)


def test_reply_to_a_macvlan_of_another_namespace(behind):
    """It is seen on the lower device alone, which is not of that namespace; it is no drop."""
    sh(
        """
        ip netns add irtmvlan
        ip link add link f0 name m0 netns irtmvlan type macvlan mode bridge
        ip -n irtmvlan address add 10.92.0.9/24 dev m0; ip -n irtmvlan link set m0 up"""
    )
    try:
        ping = inside("irtmvlan", *THREE, "10.92.0.2")
        run = trace(*LEAN, "--src-ip", "10.92.0.9", "--", *ping)
    finally:
        sh("ip netns delete irtmvlan")
    assert "3 received" in run.stdout
    assert [echo["outcome"] for echo in run.echoes] == ["complete"] * 3
    assert [echo["rtt_ns"] for echo in run.echoes] == [None] * 3
    assert stages(run.echoes) == [[2]] * 3
    assert (run.counters["drops"], run.counters["unparsed"]) == (0, 0)
    assert_identities(run)


def test_reply_to_another_hardware_address(behind):
    """What is for another host answers nothing, though its addresses are right."""
    sh("ip -n irtfar neighbour replace 10.92.0.1 lladdr 02:00:00:00:00:77 dev f1")
    try:
        run = trace(*LEAN, "--dst-ip", "10.92.0.2", "--", *THREE, "10.92.0.2")
    finally:
        sh("ip -n irtfar neighbour flush dev f1")
    assert " 0 received" in run.stdout
    assert [echo["outcome"] for echo in run.echoes] == ["incomplete"] * 3
    assert stages(run.echoes) == [[2]] * 3
    assert_identities(run)
