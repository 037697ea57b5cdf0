# SPDX-License-Identifier: GPL-2.0-only
"""A stamp that still waits with its packet when the session is given up."""

import struct

import pytest
from abi import HEADER, Abi, pack

from icmp_rtt.arrivals import Arrivals

SKB = 0xFFFF888012345600


class Cpus:
    """The map of struct cpu_state, of which only ``cpu`` has anything to tell."""

    def __init__(self, cpu, state):
        self.cpu, self.state = cpu, state

    def lookup(self, key):
        return self.state if key == struct.pack("=I", self.cpu) else bytes(len(self.state))


@pytest.fixture(name="abi")
def make_abi():
    """The headers of the object."""
    return Abi(HEADER.read_text() + HEADER.with_name("cpu.bpf.h").read_text())


def cpus(abi, cpu, **arrival):
    """Per-CPU state with one arrival in slot 7."""
    layout = abi.struct("cpu_state").format()
    values = {f"arrival[7].{name}": value for name, value in arrival.items()}
    assert set(values) <= set(layout.names)
    packer = struct.Struct(layout.format)
    blank = packer.unpack(bytes(packer.size))
    state = packer.pack(*(values.get(name, zero) for name, zero in zip(layout.names, blank)))
    return Cpus(cpu, state)


def session(abi, **values):
    """A session that arrived on CPU 1."""
    seen = {"ts_ns[3]": 500, "skb[3]": SKB, "cpu[3]": 1, "probe[3]": 9}
    return pack(abi, {**seen, **values})


def test_a_waiting_stamp_is_added(abi):
    """Time, skb, CPU and probe, and nothing else of the session changes."""
    kept = cpus(abi, 1, skb=SKB, ip_rcv_ns=600, ip_rcv_probe=10)
    expected = session(abi, **{"ts_ns[4]": 600, "skb[4]": SKB, "cpu[4]": 1, "probe[4]": 10})
    assert Arrivals(abi, kept).add(session(abi)) == expected


@pytest.mark.parametrize(
    ("cpu", "arrival"),
    [
        (1, {"skb": SKB + 256, "ip_rcv_ns": 600}),  # another packet
        (1, {"skb": SKB, "ip_rcv_ns": 0}),  # not seen by ip_rcv
        (0, {"skb": SKB, "ip_rcv_ns": 600}),  # of another CPU
    ],
)
def test_what_is_not_its_own_is_not_added(abi, cpu, arrival):
    """Only the very skb, on the CPU that it arrived on."""
    assert Arrivals(abi, cpus(abi, cpu, **arrival)).add(session(abi)) == session(abi)


@pytest.mark.parametrize("known", [{"skb[3]": 0}, {"ts_ns[4]": 550}])
def test_what_did_not_arrive_or_is_known_stays(abi, known):
    """A session that needs nothing isn't touched."""
    kept = cpus(abi, 1, skb=SKB, ip_rcv_ns=600)
    assert Arrivals(abi, kept).add(session(abi, **known)) == session(abi, **known)
