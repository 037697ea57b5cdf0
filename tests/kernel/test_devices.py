# SPDX-License-Identifier: GPL-2.0-only
"""Echoes over devices stacked on devices, over a tun, and out by one device and in by another."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LOCAL, assert_complete, assert_identities, follow, inode_of, sh, trace

pytestmark = pytest.mark.guest
PING = "ping -q -c 5 -i 0.02"
FIVE = ("ping", "-U", "-c", "5", "-i", "0.02")


def pair(here, there, up=True):
    """A veth of this name here, its peer in irtpeer."""
    sh(f"ip link add {here} type veth peer name {there} netns irtpeer")
    sh(f"ip -n irtpeer link set {there} up")
    if up:
        sh(f"ip link set {here} up")


def vlan(lower, number, network, *options, netns="", host=1):
    """A VLAN device over another one, with an address."""
    ip = f"ip {netns}"
    name = f"{lower}.{number}"
    sh(f"{ip} link add link {lower} name {name} type vlan id {number} {' '.join(options)}")
    sh(f"{ip} address add {network}.{host}/24 dev {name}; {ip} link set {name} up")


@pytest.fixture(scope="module")
def vlans(veth):
    """v0.5 with tags beside the data, d0.6 with tags in the data, d0.7 that writes them itself."""
    pair("d0", "d1")
    sh("ethtool -K d0 txvlan off; ip netns exec irtpeer ethtool -K d1 txvlan off")
    for lower, number, network, *options in (
        ("0", 5, "10.78.5"),
        ("0", 6, "10.78.6"),
        ("0", 7, "10.78.7", "reorder_hdr off"),
    ):
        letter = "v" if number == 5 else "d"
        vlan(letter + "0", number, network, *options)
        vlan(letter + "1", number, network, *options, netns="-n irtpeer", host=2)
    yield
    sh("ip link delete v0.5; ip -n irtpeer link delete v1.5; ip link delete d0")


@pytest.fixture(scope="module")
def bond(veth):
    """irtbond over b0, and irtbond.100 over irtbond."""
    pair("b0", "b1", up=False)
    sh("ip link add irtbond type bond mode active-backup; ip link set b0 master irtbond")
    sh("ip link set irtbond up")
    vlan("irtbond", 100, "10.78.100")
    vlan("b1", 100, "10.78.100", netns="-n irtpeer", host=2)
    yield
    sh("ip link delete irtbond.100; ip link delete irtbond; ip link delete b0")


@pytest.fixture(scope="module")
def redundant(veth):
    """irtred over ra and rb, one of which waits, at a switch of the peer's, irtsw."""
    pair("ra", "ra1", up=False)
    pair("rb", "rb1", up=False)
    sh("ip link add irtred type bond mode active-backup")
    sh("ip link set ra master irtred; ip link set rb master irtred; ip link set irtred up")
    sh("ip address add 10.85.0.1/24 dev irtred; ip -n irtpeer link add irtsw type bridge")
    for port in ("ra1", "rb1"):  # what it does not know the way of it sends to both
        sh(f"ip -n irtpeer link set {port} master irtsw")
        sh(f"ip -n irtpeer link set {port} type bridge_slave learning off")
    sh("ip -n irtpeer address add 10.85.0.2/24 dev irtsw; ip -n irtpeer link set irtsw up")
    sh("ip netns exec irtpeer ping -q -c 1 -W 5 10.85.0.1")
    yield
    sh("ip link delete irtred; ip link delete ra; ip link delete rb")
    sh("ip -n irtpeer link delete irtsw")


@pytest.fixture(scope="module")
def macvlan(veth):
    """The container irtmac, whose device is a macvlan of v0."""
    sh("ip netns add irtmac; ip link add link v0 name mac0 netns irtmac type macvlan mode bridge")
    sh("ip -n irtmac address add 10.82.0.1/24 dev mac0; ip -n irtmac link set mac0 up")
    sh("ip -n irtpeer address add 10.82.0.2/24 dev v1")
    yield
    sh("ip netns delete irtmac; ip -n irtpeer address delete 10.82.0.2/24 dev v1")


@pytest.fixture(scope="module")
def tun():
    """A tun device, and a program that answers at its other end."""
    sh("modprobe tun; ip tuntap add irttun mode tun; ip address add 10.83.0.1/24 dev irttun")
    program = [sys.executable, Path(__file__).with_name("tun_peer.py"), "irttun"]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        sh("ip link set irttun up")
        yield
        process.kill()
    sh("ip link delete irttun")


@pytest.fixture(scope="module")
def other_way_back(farm):
    """The peer's address .31 is reached by v0, and answers by p1 and p0."""
    pair("p0", "p1")
    sh("ip address add 10.84.0.1/24 dev p0; ip -n irtpeer address add 10.84.0.2/24 dev p1")
    sh(f"ip -n irtpeer rule add from {farm}.31 lookup 100")
    sh("ip -n irtpeer route add 10.77.0.0/24 via 10.84.0.1 dev p1 table 100")
    sh("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.p0.rp_filter=0")
    yield f"{farm}.31"
    sh(f"ip -n irtpeer rule delete from {farm}.31 lookup 100; ip link delete p0")


def devices(echoes):
    """By which devices requests left or arrived, and replies."""
    return {(echo["request"]["ifname"], echo["reply"]["ifname"]) for echo in echoes}


def test_devices(vlans, bond, bridge, macvlan, tun, other_way_back, backend):
    """Whatever the devices below are, an echo has six stages, on the device with the address."""
    remotes = {
        "10.78.5.2": ("v0.5", "v0.5"),
        "10.78.6.2": ("d0.6", "d0.6"),
        "10.78.7.2": ("d0.7", "d0.7"),
        "10.78.100.2": ("irtbond.100", "irtbond.100"),
        "10.81.0.2": ("irtbr", "irtbr"),
        "10.82.0.2": ("mac0", "mac0"),
        "10.83.0.9": ("irttun", "irttun"),
        other_way_back: ("v0", "p0"),
    }
    inside = {"10.82.0.2": "ip netns exec irtmac "}
    run = follow("\n".join(f"{inside.get(each, '')}{PING} {each}" for each in remotes), backend)
    assert run.said("5 received") == len(remotes)
    assert {each: devices(run.of("tx", remote=each)) for each in remotes} == {
        each: {names} for each, names in remotes.items()
    }
    for remote in remotes:
        assert_complete(run.of("tx", remote=remote), 5)
        if remote != "10.83.0.9":  # its answerer isn't the kernel
            assert_complete(run.of("rx", local=remote), 5)
    assert {echo["netns"] for echo in run.of("tx", remote="10.82.0.2")} == {inode_of("irtmac")}


def test_translated_on_its_way_over_stacked_devices(vlans, bond, bridge, backend):
    """The lower device has the packet with another id: it is no other echo's."""
    remotes = {"10.78.5.2": "v0.5", "10.78.100.2": "irtbond.100", "10.81.0.2": "irtbr"}
    sh("nft add table ip irtids")
    sh("nft 'add chain ip irtids post { type nat hook postrouting priority 100; }'")
    for device in remotes.values():
        sh(f"nft add rule ip irtids post oifname {device} ip protocol icmp masquerade fully-random")
    try:
        run = follow("\n".join(f"{PING} {each}" for each in remotes), backend)
    finally:
        sh("nft delete table ip irtids")
    assert run.said("5 received") == len(remotes)
    assert (run.counters["requests"], run.counters["incomplete"]) == (2 * 5 * len(remotes), 0)
    for remote, device in remotes.items():
        assert_complete(run.of("tx", remote=remote), 5)
        assert devices(run.of("tx", remote=remote)) == {(device, device)}


def on_interface(backend, device, remote):
    """Five echoes, traced on one device alone."""
    lean = ("--disable-kernel-stacks", "--no-self-test", "--backend", backend)
    run = trace("--interface", device, *lean, "--", *FIVE, remote)
    assert run.status == 0, run.stderr
    assert_identities(run)
    return run.echoes


@pytest.mark.parametrize(
    ("backend", "device", "remote"),
    [
        ("fentry", "v0", "10.78.5.2"),
        ("kprobe", "d0", "10.78.6.2"),
        ("fentry", "irtbond.100", "10.78.100.2"),
        ("fentry", "b0", "10.78.100.2"),
    ],
)
def test_interface_by_name(vlans, bond, backend, device, remote):
    """--interface names any device of a stack, and the device stages are seen on it."""
    echoes = on_interface(backend, device, remote)
    assert_complete(echoes, 5)
    assert devices(echoes) == {(device, device)}


def test_port_of_a_bridge(bridge, backend):
    """What the bridge hands on as its own has come in by the port, and is answered by it."""
    lean = ("--disable-kernel-stacks", "--no-self-test", "--backend", backend)
    ping = ("ip", "netns", "exec", "irta", *FIVE, "10.81.0.1")
    run = trace("--interface", "irta0", "--direction", "rx", *lean, "--", *ping)
    assert_identities(run)
    assert_complete(run.echoes, 5)
    assert devices(run.echoes) == {("irta0", "irta0")}


@pytest.mark.parametrize("device", ["v0", "irtbond"])
def test_interface_of_the_request_alone(bond, other_way_back, device):
    """What comes in by another device than the one asked for has not arrived on it.

    The same is said of a bond under a VLAN: what its slave took is next seen on the VLAN.
    """
    echoes = on_interface("fentry", device, {"v0": other_way_back}.get(device, "10.78.100.2"))
    assert_complete(echoes, 5, seen=(0, 1, 2, 4, 5))
    assert devices(echoes) == {(device, None)}


def test_answer_dropped_by_another_device(other_way_back, farm, backend):
    """It has not left by that one, either: no answer to be told of."""
    sh(
        f"""
        ip route add {farm}.33 via 10.84.0.2; tc qdisc add dev p0 clsact
        tc filter add dev p0 egress protocol ip u32 match ip dst {farm}.33/32 action drop"""
    )
    lean = ("--disable-kernel-stacks", "--no-self-test", "--backend", backend, "--timeout", "1")
    ping = f"ip netns exec irtpeer ping -c 1 -W 0.1 -I {farm}.33 {LOCAL} >&2 || true"
    try:
        run = trace("--interface", "v0", "--direction", "rx", *lean, "--", "sh", "-c", ping)
    finally:
        sh(f"ip route del {farm}.33; tc qdisc del dev p0 clsact")
    assert_identities(run)
    (echo,) = run.echoes
    assert (echo["reason"], echo["drop"]["path"]) == ("dropped", 2)
    assert run.counters["drops"] == 1


@pytest.mark.parametrize("target", ["10.85.0.1", "ff02::1%irtsw"])
def test_copies_for_the_slave_that_waits(redundant, backend, target):
    """What it drops is a second copy of what was answered: no echo of its own."""
    script = f"ip netns exec irtpeer ping -q -c 5 -i 0.05 -W 1 {target} >&2"
    run = follow(script, backend, "--timeout", "1")
    asked = run.of("rx", netns=os.stat("/proc/self/ns/net").st_ino)
    assert_complete(asked, 5)
    assert [echo["seq"] for echo in asked] == [1, 2, 3, 4, 5]


def test_what_was_sent_to_many_is_dropped(macvlan, backend):
    """By a firewall, though the device has a handler as a bridge's port has one."""
    sh(
        """
        nft add table ip irtmany
        nft 'add chain ip irtmany in { type filter hook input priority 0; }'
        nft add rule ip irtmany in icmp type echo-request drop"""
    )
    script = "ip netns exec irtpeer ping -b -c 1 -W 0.1 10.77.0.255 >&2 || true"
    try:
        run = follow(script, backend, "--timeout", "1")
    finally:
        sh("nft delete table ip irtmany")
    (asked,) = run.of("rx", netns=os.stat("/proc/self/ns/net").st_ino)
    assert (asked["reason"], asked["drop"]["path"], asked["last_stage"]) == ("dropped", 1, 1)


def test_what_was_sent_to_many_comes_in_again(redundant, backend):
    """By the slave that waits, which drops it: the request has left all the same."""
    sh(
        """
        tc -n irtpeer qdisc add dev ra1 clsact
        tc -n irtpeer filter add dev ra1 ingress protocol ip u32 match ip dst 10.85.0.255/32 \\
            action mirred egress redirect dev rb1"""
    )
    try:
        script = "ping -b -c 1 -W 0.1 10.85.0.255 >&2 || true"
        run = follow(script, backend, "--timeout", "1")
    finally:
        sh("tc -n irtpeer qdisc del dev ra1 clsact")
    (sent,) = run.of("tx")
    assert (sent["reason"], sent["drop"], sent["last_stage"]) == ("no reply", None, 2)
