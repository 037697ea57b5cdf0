# SPDX-License-Identifier: GPL-2.0-only
"""A request that one CPU begins and another one sends."""

import contextlib

import pytest
from conftest import LOCAL, PEER, assert_complete, assert_identities, sh, trace

pytestmark = [pytest.mark.guest, pytest.mark.extended]
OTHER = "10.77.0.7"
COUNT = 8


@pytest.fixture
def translated(veth):
    """What goes out to the peer gets another address of this host's on its way."""
    with contextlib.ExitStack() as stack:
        sh(f"ip address add {OTHER}/24 dev {veth}")
        stack.callback(sh, f"ip address del {OTHER}/24 dev {veth}")
        sh("nft add table ip irtother")
        stack.callback(sh, "nft delete table ip irtother")
        sh("nft 'add chain ip irtother post { type nat hook postrouting priority 100; }'")
        sh(f"nft add rule ip irtother post ip daddr {PEER} oifname {veth} snat to {OTHER}")
        # The peer's answers are dealt with by the second CPU, ping's calls by the first.
        sh(f"echo 2 > /sys/class/net/{veth}/queues/rx-0/rps_cpus")
        stack.callback(sh, f"echo 0 > /sys/class/net/{veth}/queues/rx-0/rps_cpus")
        yield veth


def test_waiting_for_the_neighbour(translated, backend):
    """Who receives the neighbour's address sends what waits for it, as nobody knew it before."""
    run = trace(
        *("--src-ip", LOCAL, "--dst-ip", PEER, "--backend", backend, "--disable-kernel-stacks"),
        *("--", "sh", "-ec"),
        f"""
        for seq in $(seq {COUNT}); do
            ip neigh flush dev {translated} nud all
            taskset 1 ping -q -c 1 -I {LOCAL} {PEER}
        done""",
    )
    assert run.status == 0, run.stderr
    assert run.said("1 received") == COUNT
    assert_complete(run.echoes, COUNT)
    assert_identities(run)
    assert {echo["stages"][1]["cpu"] for echo in run.echoes} == {0}
    # Were it sent by the CPU that began it, this would be no test.
    assert [echo["stages"][2]["cpu"] for echo in run.echoes].count(1) >= COUNT // 2
