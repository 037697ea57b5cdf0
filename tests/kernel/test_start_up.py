# SPDX-License-Identifier: GPL-2.0-only
"""While the tool starts: echoes that it sees no more than half of, and the one that it sends itself."""

import contextlib
import fcntl
import os
import re
import signal
import subprocess

import pytest
from conftest import LOCAL, PEER, assert_complete, assert_identities, run_tool, sh, trace

pytestmark = [pytest.mark.guest, pytest.mark.extended]
DELAY_MS = 50
F_SETPIPE_SZ = 1031  # fcntl.h; Python before 3.10 has no name for it


class Pinging:
    """A ping from here to the peer that goes on until the block ends, 100 requests a second.

    Attributes:
        sent: how many requests, by its own word, once it has ended.
    """

    def __enter__(self):
        ping = ["ping", "-n", "-i", "0.01", PEER]
        self._process = subprocess.Popen(ping, stdout=subprocess.PIPE, text=True)
        # Room for all that it prints, so that nobody has to read it meanwhile.
        fcntl.fcntl(self._process.stdout.fileno(), F_SETPIPE_SZ, 1 << 20)
        while "icmp_seq=" not in self._process.stdout.readline():
            assert self._process.poll() is None
        return self

    def __exit__(self, *_):
        assert self._process.poll() is None  # it went on all the time
        self._process.send_signal(signal.SIGINT)
        text, _ = self._process.communicate(timeout=60)
        self.sent = int(re.search(r"(\d+) packets transmitted", text).group(1))


@pytest.fixture(params=[0, DELAY_MS], ids=["quick", "slow"])
def network(veth, request):
    """At 0 an echo is under way for a moment, else some five are at any time."""
    with contextlib.ExitStack() as stack:
        if request.param:
            sh(f"tc -n irtpeer qdisc add dev v1 root netem delay {request.param}ms limit 10000")
            stack.callback(sh, "tc -n irtpeer qdisc del dev v1 root")
        yield veth


def ends_on_arrival(echo):
    """Whether it lacks what follows the arrival of its reply here, and that alone."""
    stages = [stage["stage"] for stage in echo["stages"]]
    return echo["direction"] == "tx" and stages == [0, 1, 2, 3]


def assert_whole(run, sent):
    """Nothing is told of an echo whose request or reply the tool can't have seen from its start.

    A reply that arrives while the kernel leaves kprobes out ends its echo where it is seen
    last; the two runs that this takes are counted, before 6.7 the packet. The slower the
    machine the more often.
    """
    assert run.status == 0, run.stderr
    assert [echo for echo in run.echoes if echo["outcome"] != "complete"] == []
    cut_short = [echo for echo in run.echoes if ends_on_arrival(echo)]
    each = 1 if os.environ["ICMP_RTT_GUEST"] in ("bullseye", "bookworm") else 2
    assert each * len(cut_short) <= (run.counters["probe_misses"] or 0)
    whole = [echo for echo in run.echoes if not ends_on_arrival(echo)]
    assert_complete(whole, run.counters["reported"] - len(cut_short))
    assert 0 < run.counters["reported"] <= run.counters["requests"] <= sent
    assert (run.counters["incomplete"], run.counters["drops"]) == (0, 0)
    assert_identities(run)


def test_under_way_at_the_start(network, backend):
    """Echoes that were under way while the probes were attached are not reported in part."""
    where = ("--src-ip", LOCAL, "--dst-ip", PEER, "--disable-kernel-stacks")
    with Pinging() as pinging:
        run = trace(*where, "--backend", backend, "--duration", "3")
    assert_whole(run, pinging.sent)


def test_under_way_at_both_ends(network, backend):
    """Nor of both directions, nor those under way at the end, after so many reports."""
    where = ("--direction", "both", "--disable-kernel-stacks")
    with Pinging() as pinging:
        run = trace(*where, "--backend", backend, "--count", "150")
    # Each is the sender's and the answerer's.
    assert_whole(run, 2 * pinging.sent)
    assert {echo["direction"] for echo in run.echoes} == {"tx", "rx"}


@pytest.mark.parametrize("direction", ["tx", "rx", "both"])
def test_own_echo(backend, direction):
    """The echo of the self-test is in no count, and nothing else was there to be seen."""
    words = ("--duration", "0.5", "--direction", direction, "--backend", backend)
    status, stdout, stderr = run_tool(words, 60)
    assert (status, stderr) == (0, ""), stderr
    (summary,) = re.findall(r"^Summary: (.*)$", stdout, re.MULTILINE)
    figures = dict(figure.split("=") for figure in summary.split())
    assert {name: value for name, value in figures.items() if value not in ("0", "N/A")} == {}
    assert "no ICMP echo was seen at all" in stdout
