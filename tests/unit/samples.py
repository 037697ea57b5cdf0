# SPDX-License-Identifier: GPL-2.0-only
"""Records, echoes and the start of a run for tests: the guide's sample and variations of it."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, ip_network
from types import SimpleNamespace

from abi import Abi, pack

from icmp_rtt.decode import Decoder
from icmp_rtt.model import Echo, PlannedProbe, Side, Stamp, Start
from icmp_rtt.options import Options
from icmp_rtt.stages import NAMES

ABI = Abi()

LABELS = {
    "__ip_make_skb": "fexit:__ip_make_skb",
    "__ip_local_out": "fentry:__ip_local_out",
    "__dev_queue_xmit": "fentry:__dev_queue_xmit",
    "netif_receive_skb": "tp_btf:netif_receive_skb",
    "ip_rcv": "fentry:ip_rcv",
    "ip_list_rcv": "fentry:ip_list_rcv",
    "icmp_rcv": "fentry:icmp_rcv",
    "ip6_send_skb": "fentry:ip6_send_skb",
    "__ip6_local_out": "fentry:__ip6_local_out",
    "ipv6_rcv": "fentry:ipv6_rcv",
    "icmpv6_rcv": "fentry:icmpv6_rcv",
}
FUNCTIONS = {
    4: (
        "__ip_make_skb",
        "__ip_local_out",
        "__dev_queue_xmit",
        "netif_receive_skb",
        "ip_rcv",
        "icmp_rcv",
    ),
    6: (
        "ip6_send_skb",
        "__ip6_local_out",
        "__dev_queue_xmit",
        "netif_receive_skb",
        "ipv6_rcv",
        "icmpv6_rcv",
    ),
}

BASE_NS = 81_234_567_890
# Of the guide's sample, by stage, from the first stamp on.
TIMES_NS = (0, 12_345, 35_801, 1_035_801, 1_043_924, 1_048_491)
TX_SKB, RX_SKB = 0xFFFF88800ABC1234, 0xFFFF88800DEF5678
# 2025-01-07 10:30:45.123 UTC
WALL_NS = 1_736_245_845_123_000_000


def number(name):
    """The number of any enumerator of the ABI."""
    return ABI.constants[name]


def words(address):
    """An address as the four words of a record."""
    return struct.unpack("<4I", address.packed.ljust(16, b"\0"))


def values(hooks=range(6), family=4, direction="tx", local=None, remote=None, **other):
    """The values of a record stamped at ``hooks``, in the order that the direction passes them."""
    order = [0, 1, 2, 3, 4, 5] if direction == "tx" else [3, 4, 5, 0, 1, 2]
    found = {
        "family": number("FAMILY_IPV4" if family == 4 else "FAMILY_IPV6"),
        "direction": number("DIRECTION_TX" if direction == "tx" else "DIRECTION_RX"),
        "outcome": number("OUTCOME_COMPLETE"),
        "id": 1234,
        "seq": 1,
        "netns": 4026531840,
        "side[0].pid": 5678,
        "side[0].comm": b"ping",
        "side[0].ifname": b"eth0",
        "side[0].ifindex": 2,
        "side[1].comm": b"swapper/0",
        "side[1].ifname": b"eth0",
        "side[1].ifindex": 2,
    }
    for name, address in (
        ("local", local or IPv4Address("192.168.1.10")),
        ("remote", remote or IPv4Address("192.168.1.20")),
    ):
        found.update({f"{name}[{i}]": word for i, word in enumerate(words(address))})
    for stage, hook in enumerate(order):
        if hook in hooks:
            found[f"ts_ns[{hook}]"] = BASE_NS + TIMES_NS[stage]
            found[f"skb[{hook}]"] = TX_SKB if hook < 3 else RX_SKB
            found[f"cpu[{hook}]"] = hook % 2
            found[f"probe[{hook}]"] = number(f"PROBE_{FUNCTIONS[family][hook]}")
    found.update(other)
    return found


def record(stacks=False, abi=ABI, extra=None, **how):
    """A record: see ``values``; ``extra`` holds values whose names are no identifiers."""
    return pack(abi, {**values(**how), **(extra or {})}, stacks)


def decoder(stacks=False, abi=ABI):
    """A decoder of such records."""
    return Decoder(abi, NAMES, LABELS, stacks)


NETNS = 4026531840


def guide_echo(**changes):
    """The echo of the guide's sample, stamped at the functions that its stages are named after."""
    skbs = (TX_SKB,) * 3 + (RX_SKB,) * 3
    stamps = tuple(
        Stamp(i, 1 if i < 3 else 2, name, f"kprobe:{name}", BASE_NS + TIMES_NS[i], 0, skbs[i], None)
        for i, name in enumerate(NAMES[4])
    )
    echo = Echo(
        family=4,
        direction="tx",
        local=IPv4Address("192.168.1.10"),
        remote=IPv4Address("192.168.1.20"),
        id=1234,
        seq=1,
        netns=NETNS,
        outcome="complete",
        reason=None,
        request=Side(5678, b"ping", b"eth0", 2, 8),
        reply=Side(0, b"swapper/0", b"eth0", 2, 0),
        stamps=stamps,
        drop=None,
        icmp_error=None,
        names=NAMES[4],
    )
    return echo._replace(**changes)


def guide_start(**changes):
    """The start of the guide's sample."""
    start = Start(
        kernel="6.1.0-56-amd64",
        backend="kprobe",
        probes=tuple(PlannedProbe(i, 4, name, f"kprobe:{name}") for i, name in enumerate(NAMES[4])),
        interface=("eth0", 2),
        netns=NETNS,
        families=(4,),
    )
    return start._replace(**changes)


def guide_options(**changes):
    """The options of the guide's sample."""
    settings = {
        "local": ip_network("192.168.1.10"),
        "remote": ip_network("192.168.1.20"),
        "families": (4,),
        "interface": "eth0",
        **changes,
    }
    return Options(**settings)


def symbols(names=None, problem=None):
    """Names of addresses; an address without one stays as it is."""

    def name(address):
        return (names or {}).get(address, f"0x{address:x}")

    def frame(address):
        """Of a return address: nothing lies right behind a call that returns."""
        return name(address)

    return SimpleNamespace(name=name, frame=frame, problem=problem)
