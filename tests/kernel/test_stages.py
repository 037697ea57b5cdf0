# SPDX-License-Identifier: GPL-2.0-only
"""Six stages of real echoes on this guest's kernel, against ping's own word."""

from statistics import median

import pytest
from conftest import (
    CARD,
    GATEWAY,
    LOCAL,
    PEER,
    assert_identities,
    assert_six_stages,
    sh,
    trace,
)

pytestmark = pytest.mark.guest
# -U: until the answer reaches ping, not until the kernel has stamped its arrival.
PING = ("ping", "-U", "-c", "23", "-i", "0.02")
FROM_PEER = ("ip", "netns", "exec", "irtpeer")


def test_tx_over_veth(veth, backend):
    """Every echo has six stages, and takes no longer than ping says."""
    run = trace("--src-ip", LOCAL, "--dst-ip", PEER, "--backend", backend, "--", *PING, PEER)
    assert_six_stages(run, 23)
    assert len(run.ping_ms) == 23
    # The median: ping has its copy before icmp_rcv runs, and may be quicker on another CPU.
    assert median(echo["rtt_ns"] / 1e6 - run.ping_ms[echo["seq"]] for echo in run.echoes) <= 0.001
    for echo in run.echoes:
        assert (echo["request"]["comm"], echo["request"]["ifname"]) == ("ping", "v0")
        assert echo["reply"]["ifname"] == "v0"
        for stage in echo["stages"]:
            frame = stage["stack"][0]
            assert not frame.startswith(("bpf_", "0x", "__bpf", "__traceiter")), stage["stack"]


def test_rx_over_veth(veth, backend):
    """What the peer asks is followed from arrival to the reply's departure."""
    where = ("--src-ip", LOCAL, "--dst-ip", PEER, "--direction", "rx", "--interface", veth)
    run = trace(*where, "--backend", backend, "--", *FROM_PEER, *PING, LOCAL)
    assert_six_stages(run, 23)
    assert {echo["request"]["ifname"] for echo in run.echoes} == {"v0"}


def test_network_card(backend):
    """The NAPI path of a network card, which goes round ip_rcv."""
    run = trace("--src-ip", CARD, "--dst-ip", GATEWAY, "--backend", backend, "--", *PING, GATEWAY)
    assert_six_stages(run, 23)
    assert {echo["stages"][4]["probe"].partition(":")[2] for echo in run.echoes} == {"ip_list_rcv"}


def test_both_directions_of_every_echo(veth, backend):
    """Without addresses, what we send and what we answer is told apart."""
    run = trace(
        "--direction",
        "both",
        "--disable-kernel-stacks",
        "--backend",
        backend,
        "--interface",
        veth,
        "--",
        *PING,
        PEER,
    )
    assert_six_stages(run, 23)
    assert {echo["direction"] for echo in run.echoes} == {"tx"}


def test_delay_and_threshold(veth, backend):
    """A slow network shows between the paths alone; what is faster is counted, not reported."""
    sh("ip netns exec irtpeer tc qdisc add dev v1 root netem delay 200ms")
    try:
        where = (
            "--src-ip",
            LOCAL,
            "--dst-ip",
            PEER,
            "--disable-kernel-stacks",
            "--backend",
            backend,
        )
        run = trace(*where, "--latency-ms", "100", "--", *PING, PEER)
    finally:
        sh("ip netns exec irtpeer tc qdisc del dev v1 root")
    assert_six_stages(run, 23)
    assert all(echo["inter_path_ns"] >= 200_000_000 for echo in run.echoes)
    # The median: on a busy host any one of them may have had to wait for a CPU.
    assert median(echo["path1_ns"] + echo["path2_ns"] for echo in run.echoes) < 100_000_000
    fast = trace(*where, "--latency-ms", "10000", "--", *PING, PEER)
    assert (fast.echoes, fast.counters["below_threshold"]) == ([], 23)
    assert_identities(fast)


@pytest.mark.parametrize(
    ("wrong", "counter"),
    [
        (("--src-ip", "10.77.0.9"), "other_address"),
        (("--src-ip", LOCAL, "--direction", "rx"), "other_direction"),
        (("--src-ip", LOCAL, "--interface", "lo"), "other_interface"),
    ],
    ids=["address", "direction", "interface"],
)
def test_what_does_not_match_is_counted(veth, backend, wrong, counter):
    """A filter that fits nothing reports nothing, and says what was seen."""
    run = trace(*wrong, "--dst-ip", PEER, "--backend", backend, "--", *PING, PEER)
    assert run.status == 0, run.stderr
    assert run.echoes == []
    assert run.counters[counter] == 23, run.counters
    assert_identities(run)
