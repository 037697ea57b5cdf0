# SPDX-License-Identifier: GPL-2.0-only
"""Echoes of containers: who sent them is told by namespace, not by address, name or index."""

import subprocess
from contextlib import contextmanager

import pytest
from conftest import CARD, GATEWAY, assert_complete, assert_identities, follow, inode_of, sh, trace

pytestmark = [pytest.mark.guest, pytest.mark.extended]
LEAN = ("--disable-kernel-stacks", "--no-self-test")


@pytest.fixture(scope="module")
def masquerade(bridge):
    """What the containers send out of the card has the card's address."""
    sh("sysctl -qw net.ipv4.ip_forward=1; nft add table ip irtnat")
    sh("nft 'add chain ip irtnat post { type nat hook postrouting priority 100; }'")
    sh("nft add rule ip irtnat post ip saddr 10.81.0.0/24 oifname eth0 masquerade")
    yield
    sh("nft delete table ip irtnat; sysctl -qw net.ipv4.ip_forward=0")


@pytest.fixture(scope="module")
def twins(bridge):
    """irtc and irtd have the addresses of irta and irtb, and a link of their own."""
    sh("ip netns add irtc; ip netns add irtd")
    sh("ip -n irtc link add eth0 type veth peer name eth0 netns irtd")
    for host, name in ((2, "irtc"), (3, "irtd")):
        sh(f"ip -n {name} address add 10.81.0.{host}/24 dev eth0; ip -n {name} link set eth0 up")
    yield
    sh("ip netns delete irtc; ip netns delete irtd")


@contextmanager
def pid_in(netns):
    """A process in the namespace."""
    command = ["ip", "netns", "exec", netns, "sh", "-c", "echo ready; read end"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


def test_from_the_host(masquerade):
    """A container's echo, bridged, routed and masqueraded, is one echo: the container's."""
    run = follow(
        f"""
        ip netns exec irta ping -q -c 5 -i 0.02 {GATEWAY} &
        ping -q -c 5 -i 0.02 {GATEWAY}
        ping -q -c 5 -i 0.02 10.81.0.2
        ip netns exec irta ping -q -c 5 -i 0.02 10.81.0.3
        wait"""
    )
    assert run.said("5 received") == 4
    assert_complete(run.of("tx", "10.81.0.2", GATEWAY, inode_of("irta")), 5)
    assert_complete(run.of("tx", CARD, GATEWAY, run.of("tx", CARD)[0]["netns"]), 5)
    for echo in run.of(remote=GATEWAY):
        assert (echo["request"]["ifname"], echo["reply"]["ifname"]) == ("eth0", "eth0")
    assert_complete(run.of("tx", "10.81.0.1", "10.81.0.2"), 5)
    assert_complete(run.of("rx", "10.81.0.2", "10.81.0.1", inode_of("irta")), 5)
    assert_complete(run.of("tx", "10.81.0.2", "10.81.0.3", inode_of("irta")), 5)
    assert_complete(run.of("rx", "10.81.0.3", "10.81.0.2", inode_of("irtb")), 5)
    assert len(run.echoes) == 30


def test_same_addresses_id_and_sequence(twins):
    """Echoes alike in everything but their namespace are told apart."""
    ping = "ping -q -c 10 -i 0.02 -e 4242 10.81.0.3"
    script = f"ip netns exec irta {ping} & ip netns exec irtc {ping}; wait"
    run = follow(script)
    assert run.said("10 received") == 2
    for asks, answers in (("irta", "irtb"), ("irtc", "irtd")):
        assert_complete(run.of("tx", netns=inode_of(asks)), 10)
        assert_complete(run.of("rx", netns=inode_of(answers)), 10)
    assert {echo["id"] for echo in run.echoes} == {4242}


@pytest.mark.parametrize("form", ["name", "pid", "path"])
def test_from_inside(masquerade, twins, form):
    """--netns takes a name, a pid or a path, and --interface then names a device in there."""
    with pid_in("irta") as pid:
        netns = {"name": "irta", "pid": str(pid), "path": "/run/netns/irta"}[form]
        ping = "ping -q -c 5 -i 0.02 -e 4242"
        run = trace(
            *LEAN,
            "--netns",
            netns,
            "--interface",
            "eth0",
            "--",
            "sh",
            "-ec",
            f"""
            ip netns exec irta {ping} {GATEWAY} & ping -q -c 5 -i 0.02 {GATEWAY}
            ip netns exec irtc {ping} 10.81.0.3
            wait""",
        )
    assert run.status == 0, run.stderr
    assert_identities(run)
    assert_complete(run.of("tx", "10.81.0.2", GATEWAY, inode_of("irta")), 5)
    assert len(run.echoes) == 5
    assert run.counters["other_netns"] == 10
    assert run.start["netns"] == inode_of("irta")


def test_same_name_and_index_of_device(masquerade):
    """--interface alone names a device here, though a container's has its name and its index."""
    run = trace(
        *LEAN,
        "--interface",
        "eth0",
        "--",
        "sh",
        "-ec",
        f"""
        ip netns exec irta ping -q -c 5 -i 0.02 {GATEWAY} &
        ping -q -c 5 -i 0.02 {GATEWAY}
        wait""",
    )
    assert run.status == 0, run.stderr
    assert_identities(run)
    assert sh("ip netns exec irta cat /sys/class/net/eth0/ifindex") == sh(
        "cat /sys/class/net/eth0/ifindex"
    )
    assert_complete(run.of("tx", CARD, GATEWAY), 5)
    assert len(run.echoes) == 5
    assert run.counters["other_netns"] == 5
