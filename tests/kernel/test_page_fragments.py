# SPDX-License-Identifier: GPL-2.0-only
"""Large echoes, whose headers the device or the kernel keeps in page fragments: none is missed.

A network card's driver copies a small frame into the buffer's linear part. Of a larger one it
hands up the page that the frame came in, with no more than the link header beside it.
"""

import pytest
from conftest import CARD, CARD6, GATEWAY, GATEWAY6, assert_complete, assert_identities, trace

pytestmark = pytest.mark.guest
# The last is three fragments on the wire, and the one before it fills a frame.
SIZES = (56, 1200, 1400, 1472, 3000)
COUNT = 5


def pings(target, sizes, options=""):
    """A shell script: five echoes of each size, with the size for an id."""
    return "\n".join(f"ping -q -c {COUNT} -i 0.05 {options} -e {s} -s {s} {target}" for s in sizes)


def follow_sizes(sizes, script, *arguments):
    """Trace the script, of whose echoes none may be missed, whatever its size: the run."""
    run = trace(*arguments, "--", "sh", "-ec", script)
    assert run.status == 0, run.stderr
    assert run.said(f"{COUNT} received") == len(sizes)
    assert (run.counters["unparsed"], run.counters["drops"]) == (0, 0), run.counters
    assert run.counters["requests"] == COUNT * len(sizes)
    assert run.counters["unmatched_replies"] == 0
    assert_identities(run)
    for size in sizes:
        assert_complete([echo for echo in run.echoes if echo["id"] == size], COUNT)
    assert len(run.echoes) == COUNT * len(sizes)
    return run


def test_network_card(backend):
    """Over the card every echo has six stages, whatever its size."""
    where = ("--src-ip", CARD, "--dst-ip", GATEWAY, "--disable-kernel-stacks")
    follow_sizes(SIZES, pings(GATEWAY, SIZES), *where, "--backend", backend)


@pytest.mark.extended
def test_network_card_with_stacks(backend):
    """The same where each stage also takes a stack, and no address is asked for."""
    run = follow_sizes((1400,), pings(GATEWAY, (1400,)), "--backend", backend)
    assert {echo["dst"] for echo in run.echoes} == {GATEWAY}
    assert all(stage["stack"] for echo in run.echoes for stage in echo["stages"])


@pytest.mark.extended
def test_network_card_ipv6(backend):
    """The IPv6 header lies in a page as well."""
    where = ("--src-ip", CARD6, "--dst-ip", GATEWAY6, "--disable-kernel-stacks")
    sizes = (1200, 1400)
    follow_sizes(sizes, pings(GATEWAY6, sizes, "-6"), *where, "--backend", backend)


@pytest.mark.extended
@pytest.mark.parametrize("target", ["127.0.0.1", "::1"])
def test_loopback(backend, target):
    """lo takes a packet of any size in one buffer, which may have its ICMP header in a page."""
    where = ("--dst-ip", target, "--disable-kernel-stacks")
    sizes = (1400, 16000, 30000, 60000)
    follow_sizes(sizes, pings(target, sizes), *where, "--backend", backend)


@pytest.mark.extended
def test_loopback_answers(backend):
    """The answerer's view of the same."""
    where = ("--direction", "rx", "--src-ip", "127.0.0.1", "--disable-kernel-stacks")
    follow_sizes((60000,), pings("127.0.0.1", (60000,)), *where, "--backend", backend)
