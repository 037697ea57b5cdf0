# SPDX-License-Identifier: GPL-2.0-only
"""Echoes under the eyes of others: tcpdump, a firewall with conntrack, tc and XDP programs."""

import socket
import subprocess
from contextlib import contextmanager

import pytest
from conftest import LOCAL, PEER, assert_complete, follow, sh

pytestmark = [pytest.mark.guest, pytest.mark.extended]
ETH_P_ALL = 3


@pytest.fixture(scope="module")
def xdp(veth, xdp_pass):
    """An XDP program on v0 that lets everything pass."""
    sh(f"ip link set dev {veth} xdp obj {xdp_pass} sec xdp")
    yield veth
    sh(f"ip link set dev {veth} xdp off")


@pytest.fixture(scope="module")
def tc_programs(veth):
    """Programs that see what leaves and what arrives, and change nothing."""
    sh(f"tc qdisc add dev {veth} clsact")
    for way in ("ingress", "egress"):
        sh(f"tc filter add dev {veth} {way} bpf da bytecode '1,6 0 0 0'")
        sh(f"tc filter add dev {veth} {way} matchall action ok")
    yield
    sh(f"tc qdisc del dev {veth} clsact")


@pytest.fixture(scope="module")
def conntrack():
    """A firewall that tracks connections, in and out."""
    sh("nft add table ip irt")
    for hook in ("input", "output"):
        sh(f"nft 'add chain ip irt {hook} {{ type filter hook {hook} priority 0; }}'")
        sh(f"nft add rule ip irt {hook} ct state new,established,related counter accept")
    yield
    sh("nft delete table ip irt")


@contextmanager
def tcpdump(device):
    """Prints 40 ICMP packets of the device, while they pass."""
    watch = ["tcpdump", "-i", device, "-n", "-l", "--immediate-mode", "-c", "40", "icmp"]
    with subprocess.Popen(
        watch, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while "listening on" not in process.stderr.readline():
            assert process.poll() is None
        yield process
        process.kill()


def test_an_observer_that_does_not_keep_up(veth, backend):
    """What a packet socket has no room for is not what became of a request: that left, unanswered."""
    mac = sh("ip netns exec irtpeer cat /sys/class/net/v1/address").strip()
    nobody = PEER.rpartition(".")[0] + ".99"
    sh(f"ip neighbour replace {nobody} lladdr {mac} dev {veth} nud permanent")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as observer:
        observer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # as little as there can be
        observer.bind((veth, ETH_P_ALL))
        run = follow(f"ping -q -c 20 -i 0.02 -W 1 {nobody} || true", backend)
    echoes = run.of("tx", LOCAL, nobody)
    assert len(echoes) == 20
    assert {echo["reason"] for echo in echoes} == {"no reply"}, echoes[-1]
    assert run.counters["drops"] == 0


def test_observers(xdp, tc_programs, conntrack):
    """Six stages of what we send and of what we answer, and tcpdump counts as many packets."""
    with tcpdump(xdp) as watch:
        run = follow(
            f"""
            ping -q -c 10 -i 0.02 {PEER}
            ip netns exec irtpeer ping -q -c 10 -i 0.02 {LOCAL}"""
        )
        seen, _ = watch.communicate(timeout=30)
    assert run.said("10 received") == 2
    assert (seen.count("echo request"), seen.count("echo reply")) == (20, 20)
    for here in ((LOCAL, PEER), (PEER, LOCAL)):
        assert_complete(run.of("tx", *here), 10)
        assert_complete(run.of("rx", *here), 10)
