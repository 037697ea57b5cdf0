# SPDX-License-Identifier: GPL-2.0-only
"""The counters, against the counts of ping and tcpdump; and each loss is told."""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from conftest import LOCAL, PEER, assert_identities, sh, trace
from live import PATIENCE_S, Live

pytestmark = [pytest.mark.guest, pytest.mark.extended]
BY_FENTRY = ("--backend", "fentry")
LOSSY, MARKER = 501, 502
# An echo request of 5000 bytes over lo, of which the kernel keeps no more than the
# Ethernet and the IP header in the linear part (a virtio_net_hdr says so).
PAGED = """
import socket, struct
SOL_PACKET, PACKET_VNET_HDR, ETH_P_IP = 263, 15, 0x0800
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
s.bind(("lo", 0))
address = socket.inet_aton("127.0.0.1")
ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 5000, 0, 0, 64, 1, 0, address, address)
ethernet = bytes(12) + struct.pack(">H", ETH_P_IP)
virtio = struct.pack("=BBHHHH", 0, 0, len(ethernet + ip), 0, 0, 0)
s.send(virtio + ethernet + ip + struct.pack(">BBHHH", 8, 0, 0, 1, 1) + bytes(4972))
"""
FLOOD = 3000  # with their stacks more than the ring buffer holds


@contextlib.contextmanager
def wire(device):
    """Yield a counter, filled in the end by tcpdump: packets by kind ("request") and id.

    The block has to send a request of id MARKER last.
    """
    # The less is kept of each packet the more of them there is room for.
    command = ["tcpdump", "-n", "-l", "--immediate-mode", "-s", "128", "-i", device, "icmp"]
    found = Counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tcpdump:
        try:
            read_until(tcpdump.stderr, b"listening on")
            yield found
            text = read_until(tcpdump.stdout, f"request, id {MARKER},".encode())
        finally:
            tcpdump.terminate()
            said = tcpdump.stderr.read()
    assert b"\n0 packets dropped by kernel" in said
    found.update(re.findall(r"echo (request|reply), id (\d+),", text.decode()))


def read_until(file, words):
    """What ``file`` gives until it holds ``words``."""
    end = time.monotonic() + PATIENCE_S
    text = b""
    while words not in text:
        assert select.select([file], [], [], max(0, end - time.monotonic()))[0], text
        more = os.read(file.fileno(), 65536)
        assert more, text
        text += more
    return text


def sent_and_received(text):
    """What ping says in the end."""
    found = re.search(r"(\d+) packets transmitted, (\d+) received", text)
    return int(found.group(1)), int(found.group(2))


def test_losses_as_ping_and_the_wire_count_them(veth):
    """Requests lost before the wire, requests and replies lost behind it: each counted once."""
    where = ("--src-ip", LOCAL, "--dst-ip", PEER, "--timeout", "3", "--disable-kernel-stacks")
    ping = ("ping", "-e", str(LOSSY), "-c", "60", "-i", "0.01", "-W", "0.5", PEER)
    # Of ARP nothing may be lost: ping would be kept from sending.
    sh(f"ping -c 1 {PEER}; ip neighbour change {PEER} dev v0 nud permanent")
    sh(f"ip -n irtpeer neighbour change {LOCAL} dev v1 nud permanent")
    with wire(veth) as on_wire:
        sh("tc qdisc add dev v0 root netem loss 20%")
        sh("tc -n irtpeer qdisc add dev v1 root netem loss 20%")
        try:
            run = trace(*where, *BY_FENTRY, "--", *ping)
        finally:
            sh("tc qdisc del dev v0 root; tc -n irtpeer qdisc del dev v1 root")
        sh(f"ping -c 1 -e {MARKER} {PEER}")
    sent, received = sent_and_received(run.stdout)
    c = run.counters
    assert (c["requests"], c["replies"]) == (sent, received)
    assert (c["complete"], c["incomplete"]) == (received, sent - received)
    assert (c["in_flight"], c["refused"]) == (0, 0)
    assert_identities(run)
    lost = [echo for echo in run.echoes if echo["outcome"] == "incomplete"]
    dropped = [echo for echo in lost if echo["reason"] == "dropped"]
    assert (len(run.echoes), len(lost)) == (sent, sent - received)
    assert {echo["drop"]["path"] for echo in dropped} == {1}
    assert on_wire["request", str(LOSSY)] == sent - len(dropped)
    assert on_wire["reply", str(LOSSY)] == received
    assert len(lost) > len(dropped)


@pytest.fixture(scope="module")
def overrun(veth):
    """A run that was stopped while more was answered than the ring buffer holds."""
    live = Live("--src-ip", LOCAL, *BY_FENTRY)
    with live:
        live.send(signal.SIGSTOP)
        text = sh(f"ping -q -f -c {FLOOD} {PEER}")
        live.send(signal.SIGCONT)
    return live.run, sent_and_received(text)


def test_events_lost(overrun):
    """What the ring buffer did not hold is no echo less, and is warned of."""
    run, (sent, received) = overrun
    c = run.counters
    assert (c["requests"], c["complete"]) == (sent, received)
    assert c["events_lost"] > 0
    assert c["reported"] == sum(echo["outcome"] == "complete" for echo in run.echoes)
    assert_identities(run)
    assert f"warning: {c['events_lost']} complete echoes lost" in run.stderr


@pytest.fixture
def hidden_addresses():
    """Nobody is shown where the kernel's variables are."""
    before = sh("sysctl -n kernel.kptr_restrict").strip()
    sh("sysctl -qw kernel.kptr_restrict=2")
    yield
    sh(f"sysctl -qw kernel.kptr_restrict={before}")


def test_unparsed(hidden_addresses):
    """Of a packet whose data are in page fragments ICMP's header cannot be read, unless pages can."""
    where = ("--dst-ip", "127.0.0.1", "--disable-kernel-stacks")
    run = trace(*where, *BY_FENTRY, "--", sys.executable, "-c", PAGED)
    assert run.status == 0, run.stderr
    # On its way out: while nothing is under way no arrival is looked at.
    assert run.counters["unparsed"] == 1
    assert "warning: 1 packet" in run.stderr
    assert_identities(run)


def test_paged():
    """Where the kernel's addresses are shown, that packet is followed until IP refuses its checksum."""
    where = ("--dst-ip", "127.0.0.1", "--disable-kernel-stacks")
    run = trace(*where, *BY_FENTRY, "--", sys.executable, "-c", PAGED)
    assert run.status == 0, run.stderr
    assert (run.counters["unparsed"], run.counters["requests"]) == (0, 1)
    assert [echo["outcome"] for echo in run.echoes] == ["incomplete"]
    assert_identities(run)
