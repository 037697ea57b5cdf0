# SPDX-License-Identifier: GPL-2.0-only
"""Arrival in lists, as NAPI and GRO hand packets up: several echoes and other traffic in one."""

import pytest
from conftest import CARD, GATEWAY, LOCAL, assert_complete, follow, sh

pytestmark = [pytest.mark.guest, pytest.mark.extended]


@pytest.fixture(scope="module")
def listed(farm, request):
    """Arrivals on v0 go through NAPI and GRO, and the peer sends what it has every 20 ms.

    Before d3256efd8e8b ("veth: allow enabling NAPI even without XDP"), v5.13, GRO is on by
    default and without effect unless there is an XDP program.
    """
    needs_xdp = "generic-receive-offload: on" in sh("ethtool -k v0")
    if needs_xdp:
        sh(f"ip link set dev v0 xdp obj {request.getfixturevalue('xdp_pass')} sec xdp")
    else:
        sh("ethtool -K v0 gro on")
    sh("ip netns exec irtpeer ethtool -K v1 tso off")
    sh("ip netns exec irtpeer tc qdisc add dev v1 root netem slot 20ms")
    yield
    sh("ip netns exec irtpeer tc qdisc del dev v1 root")
    sh("ip link set dev v0 xdp off" if needs_xdp else "ethtool -K v0 gro off")
    sh("ip netns exec irtpeer ethtool -K v1 tso on")  # not while there is an XDP program


def shared_lists(echoes):
    """How many neighbours passed stage 4 together before either reached stage 5."""
    arrivals = sorted([(echo["stages"][4]["ts_ns"], echo["stages"][5]["ts_ns"]) for echo in echoes])
    return sum(later < earlier_end for (_, earlier_end), (later, _) in zip(arrivals, arrivals[1:]))


def test_lists_of_veth(listed, farm, backend):
    """Echoes that share a receive list with each other and with UDP are all seen at ip_rcv."""
    run = follow(
        f"""
        ip netns exec irtpeer hping3 -q --udp -i u2000 -c 200 -p 9 {LOCAL} >/dev/null 2>&1 &
        fping -q -c 2 -p 100 -i 1 -g {farm}.1 {farm}.100 2>/dev/null
        wait""",
        backend,
    )
    assert_complete(run.of("tx"), 200)
    assert_complete(run.of("rx"), 200)
    probes = {echo["stages"][4]["probe"].partition(":")[2] for echo in run.of("tx")}
    assert "ip_list_rcv" in probes
    assert shared_lists(run.of("tx")) > 0
    assert run.counters["list_truncated"] == 0


def test_lists_of_a_network_card(backend):
    """The same on a card, with refused TCP connections between the echoes."""
    run = follow(
        f"""
        hping3 -q -S -i u5000 -c 20 -p 1 {GATEWAY} >/dev/null 2>&1 &
        ping -q -c 200 -i 0.001 -l 16 {GATEWAY}
        wait""",
        backend,
    )
    assert run.said("200 received") == 1
    # In such a storm of interrupts on one kprobe another's handler may still run: the
    # kernel leaves that out, and says so. The reply has come all the same.
    counters = run.counters
    assert (counters["complete"], counters["incomplete"], counters["drops"]) == (200, 0, 0)
    echoes = [echo for echo in run.of("tx", CARD, GATEWAY) if len(echo["stages"]) == 6]
    assert 200 - len(echoes) <= (run.counters["probe_misses"] or 0)
    assert_complete(echoes, len(echoes))
    probes = {echo["stages"][4]["probe"].partition(":")[2] for echo in echoes}
    assert probes == {"ip_list_rcv"}
    assert run.counters["list_truncated"] == 0
