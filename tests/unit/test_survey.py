# SPDX-License-Identifier: GPL-2.0-only
"""What the self-test's echoes teach of a plan that was attached."""

import copy
import os
import struct

import pytest
from fakehost import FACTS, FakeHost, error
from samples import ABI

from icmp_rtt.loader import Refused
from icmp_rtt.options import Options
from icmp_rtt.survey import survey

NUMBERS = ABI.enum("icmp_rtt_probe")


class Kernel(FakeHost):
    """Loads and attaches everything, and answers echoes; a loader, an object and a namespace.

    Args:
        seen_from: by function, the number of the first echo that its probe is known to
            have seen; without it 1.
    """

    netns, no_ipv6 = 1, None

    def __init__(self, **seen_from):
        super().__init__()
        self._seen_from = {NUMBERS[f"PROBE_{name}"]: n for name, n in seen_from.items()}
        self.maps = {"fired": self}
        self.echoes = 0

    def ping(self):
        self.echoes += 1
        return ()

    def lookup(self, key):
        (number,) = struct.unpack("=I", key)
        return struct.pack("=Q", self.echoes >= self._seen_from.get(number, 1))


def surveyed(kernel):
    """The plan of such a kernel, by fentry and for IPv4."""
    options = Options(backend="fentry", families=(4,))
    return survey(options, kernel, FACTS, {"stacks": 0}, kernel).plan


def test_one_echo_tells_of_probes_that_see_it():
    """No second one is sent where nothing is missing, or what compilers inline is."""
    for seen_from in ({}, {"ip_send_skb": 99}):
        kernel = Kernel(**seen_from)
        assert surveyed(kernel).complete
        assert kernel.echoes == 1


def test_drops_that_are_not_seen():
    """Without its probe a drop reads as silence: the reader is told."""

    class Refusing(Kernel):
        def attach(self, obj, programs):
            if "tp_btf__kfree_skb" in programs:
                raise Refused("tp_btf__kfree_skb", error(22))
            return super().attach(obj, programs)

    options = Options(backend="fentry", families=(4,))
    kernel = Refusing()
    found = survey(options, kernel, FACTS, {"stacks": 0}, kernel)
    assert found.plan.complete
    assert found.drops_unseen == "tp_btf:kfree_skb: refused: invalid argument (errno 22)"
    assert f"drops are not seen: {found.drops_unseen}" in found.notes
    kernel = Kernel()
    assert survey(options, kernel, FACTS, {"stacks": 0}, kernel).drops_unseen is None


def test_btf_that_no_echo_has_tried():
    """Of another kernel it may load all the same: the reader is asked, where nothing else tells."""
    question = f"x.btf was not tried: is it BTF of this very kernel, {os.uname().release}?"
    options = Options(backend="kprobe", families=(4,), btf="x.btf")
    for own_btf in (True, False):
        for loopback in (Kernel(), None):
            facts = copy.copy(FACTS)
            facts.own_btf = own_btf
            found = survey(options, loopback or Kernel(), facts, {"stacks": 0}, loopback)
            assert (question in found.notes) == (not own_btf and loopback is None)
    found = survey(options._replace(btf=None), Kernel(), facts, {"stacks": 0}, None)
    assert not [note for note in found.notes if "not tried" in note]


@pytest.mark.parametrize("late", ["icmp_rcv", "__ip_local_out"])
def test_what_was_not_seen_yet_is_seen_of_another(late):
    """A reply is the sender's before it is icmp_rcv's: too late is not silent."""
    kernel = Kernel(**{late: 2})
    plan = surveyed(kernel)
    assert plan.complete
    assert kernel.echoes == 2
    assert not [note for note in plan.notes if "did not fire" in note]


def test_what_stays_silent_is_passed_over():
    """After three echoes, and then the plan without it is proved."""
    kernel = Kernel(icmp_rcv=99)
    plan = surveyed(kernel)
    assert not plan.complete
    assert "fentry:icmp_rcv: attached, but did not fire" in plan.notes
    assert kernel.echoes == 3 + 1


def test_a_function_without_btf_costs_its_stage_alone():
    """It is in kallsyms, and found to be nowhere else when it is loaded."""

    class WithoutBtf(Kernel):
        loads = 0

        def load(self, programs, config, max_sessions):
            self.loads += 1
            if "fentry__ip_list_rcv" in programs:
                raise Refused("fentry__ip_list_rcv", error(3, call="bpf_object__load(icmp_rtt)"))
            return super().load(programs, config, max_sessions)

    kernel = WithoutBtf()
    plan = surveyed(kernel)
    assert plan.useful
    assert "fentry:ip_list_rcv: refused: not in this kernel's BTF (errno 3)" in plan.notes
    assert kernel.loads == 2
