# SPDX-License-Identifier: GPL-2.0-only
"""The one table of stages: their canonical names, and the probes that can stand for each.

Data only. Which of the probes a kernel offers is plan.py's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = (
    "BACKENDS",
    "DROP_PROBES",
    "HOOKS",
    "NAMES",
    "Probe",
    "candidates",
    "functions",
    "probes",
)


class Probe(NamedTuple):
    """A place of the kernel at which a program can be attached."""

    kind: str  # as in the program's name: fentry, fexit, kprobe, kretprobe, tp_btf, raw_tp
    function: str  # kernel function or tracepoint, its exact name

    @property
    def program(self) -> str:
        """Name of its program in the BPF object."""
        return f"{self.kind}__{self.function}"

    @property
    def label(self) -> str:
        """What reports call it."""
        return f"{self.kind}:{self.function}"

    @property
    def is_function(self) -> bool:
        """A kernel function rather than a tracepoint."""
        return self.kind not in ("tp_btf", "raw_tp")

    @property
    def needs_btf(self) -> bool:
        """Of a kind that the kernel checks by its own BTF."""
        return self.kind in ("fentry", "fexit", "tp_btf")

    @property
    def spares_btf(self) -> bool:
        """Only in the object for kernels without BTF."""
        return self.kind == "raw_tp"

    @property
    def doubtful(self) -> bool:
        """A function that compilers inline into its caller: attached, it may see nothing."""
        return self.function in _INLINED


# Kinds of program that a back end may use, in the order in which back ends are tried.
BACKENDS = {
    "fentry": ("fentry", "fexit", "tp_btf", "raw_tp"),
    "kprobe": ("kprobe", "kretprobe", "tp_btf", "raw_tp"),
    "tracepoint": ("tp_btf", "raw_tp"),
}

# In the order of enum icmp_rtt_hook.
HOOKS = ("SEND", "LOCAL_OUT", "XMIT", "RECV", "IP_RCV", "ICMP_RCV")

# Canonical names, by IP version and hook.
NAMES = {
    4: (
        "ip_send_skb",
        "ip_local_out",
        "dev_queue_xmit",
        "__netif_receive_skb",
        "ip_rcv",
        "icmp_rcv",
    ),
    6: (
        "ip6_send_skb",
        "ip6_local_out",
        "dev_queue_xmit",
        "__netif_receive_skb",
        "ipv6_rcv",
        "icmpv6_rcv",
    ),
}

# Why one of our packets went no further; stand for no stage. Best first.
DROP_PROBES = (Probe("tp_btf", "kfree_skb"), Probe("raw_tp", "kfree_skb"))

# Never fired on any stock kernel from 5.10 to 7.2, though BTF and kallsyms have them.
_INLINED = ("ip_send_skb", "ip_local_out")


def _tracepoint(name: str) -> tuple[tuple[str, ...], ...]:
    """Its alternatives: typed, and for kernels without BTF."""
    return (f"tp_btf:{name}",), (f"raw_tp:{name}",)


_DEVICE = (("__dev_queue_xmit",), ("dev_queue_xmit",), *_tracepoint("net_dev_queue"))
_ARRIVAL = _tracepoint("netif_receive_skb")

# Functions by IP version and hook: alternatives, best first. One that is probed
# where it returns has the mark "return:".
_FUNCTIONS: dict[int, tuple[tuple[tuple[str, ...], ...], ...]] = {
    4: (
        (("ip_send_skb",), ("return:__ip_make_skb",)),
        (("__ip_local_out",), ("ip_local_out",)),
        _DEVICE,
        _ARRIVAL,
        (("ip_rcv", "ip_list_rcv"),),
        (("icmp_rcv",),),
    ),
    6: (
        (("ip6_send_skb",),),
        (("__ip6_local_out",), ("ip6_local_out",)),
        _DEVICE,
        _ARRIVAL,
        (("ipv6_rcv", "ipv6_list_rcv"),),
        (("icmpv6_rcv",),),
    ),
}

_KINDS = {"fentry": ("fentry", "fexit"), "kprobe": ("kprobe", "kretprobe")}


def candidates(backend: str, family: int, hook: int) -> list[tuple[Probe, ...]]:
    """The alternatives that ``backend`` has for a stage, best first."""
    found = []
    for names in _FUNCTIONS[family][hook]:
        probes = [_probe(backend, name) for name in names]
        if all(probes):
            found.append(tuple(probe for probe in probes if probe))
    return found


def probes(backend: str, families: tuple[int, ...]) -> Iterator[Probe]:
    """All that ``backend`` has for these IP versions."""
    for family in families:
        for hook in range(len(HOOKS)):
            for alternative in candidates(backend, family, hook):
                yield from alternative


def functions(families: tuple[int, ...]) -> set[str]:
    """Names of the kernel functions that any back end may probe for these IP versions."""
    return {
        probe.function
        for backend in BACKENDS
        for probe in probes(backend, families)
        if probe.is_function
    }


def _probe(backend: str, name: str) -> Probe | None:
    mark, _, function = name.rpartition(":")
    if mark in ("tp_btf", "raw_tp"):
        return Probe(mark, function)
    if backend not in _KINDS:
        return None
    at_entry, at_return = _KINDS[backend]
    return Probe(at_return if mark == "return" else at_entry, function)
