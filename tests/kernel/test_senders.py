# SPDX-License-Identifier: GPL-2.0-only
"""Programs that send echoes in their own ways: what they go round is not seen, and not made up."""

import sys
from pathlib import Path

import pytest
from conftest import LOCAL, assert_complete, follow, sh

pytestmark = pytest.mark.guest
PACKET_SOCKET = f"{sys.executable} {Path(__file__).with_name('packet_socket.py')}"
SCAPY = f"{sys.executable} {Path(__file__).with_name('scapy_sender.py')}"
UNPRIVILEGED = "setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --"
PING_GROUPS = "sysctl -qw net.ipv4.ping_group_range"


@pytest.fixture(scope="module")
def peer_mac(farm):
    """Where a frame to the farm goes."""
    return sh("ip netns exec irtpeer cat /sys/class/net/v1/address").strip()


def test_senders(farm, peer_mac, backend):
    """Each sender's echoes begin at the first stage that it passes, and are answered by all six."""
    raw, icmp_socket, hping, nping, packets, bypass, busybox, scapy = (
        f"{farm}.{n}" for n in range(21, 29)
    )
    run = follow(
        f"""
        ping -q -c 5 -i 0.02 {raw}
        busybox ping -q -c 5 -A {busybox}
        {PING_GROUPS}="0 2147483647"
        {UNPRIVILEGED} ping -q -c 5 -i 0.2 {icmp_socket}
        {PING_GROUPS}="1 0"
        hping3 -q --icmp -c 5 -i u20000 {hping} >/dev/null 2>&1
        nping -q --send-eth -e v0 --dest-mac {peer_mac} --icmp -c 5 --delay 20ms {nping} >/dev/null
        {PACKET_SOCKET} v0 {peer_mac} {LOCAL} {packets} 77 5
        {PACKET_SOCKET} v0 {peer_mac} {LOCAL} {bypass} 78 5 bypass
        {SCAPY} v0 {peer_mac} {scapy} 79 5
        fping -q -c 1 -i 1 -g {farm}.101 {farm}.200 2>/dev/null""",
        backend,
    )
    assert run.said("5 received") == 2 and run.said("5 packets received") == 1
    begins = {raw: 0, busybox: 0, icmp_socket: 0, hping: 2, nping: 2, packets: 2, scapy: 2}
    for address, first in begins.items():
        sent = run.of("tx", LOCAL, address)
        assert_complete(sent, 5, range(first, 6))
        assert {echo["rtt_from_stage"] for echo in sent} == {first}
        assert all(echo["path1_ns"] is None for echo in sent) == bool(first)
    for address in (*begins, bypass):
        assert_complete(run.of("rx", address, LOCAL), 5)
    # Sent around the queue and every probe: a reply to nothing that was seen.
    assert run.of("tx", remote=bypass) == []
    assert run.counters["unmatched_replies"] == 5
    comms = [run.of("tx", LOCAL, address)[0]["request"]["comm"] for address in begins]
    python = Path(sys.executable).name
    assert comms == ["ping", "busybox", "ping", "hping3", "nping", python, python]
    fping = [echo for echo in run.of("tx") if echo["request"]["comm"] == "fping"]
    assert {echo["dst"] for echo in fping} == {f"{farm}.{n}" for n in range(101, 201)}
    assert_complete(fping, 100)
