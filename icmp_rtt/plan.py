# SPDX-License-Identifier: GPL-2.0-only
"""The plan: which probes stand for which stages on this kernel.

Pure: facts in, plan out, so that kernels not at hand can be tested from what
was recorded of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from icmp_rtt import stages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from icmp_rtt.stages import Probe

__all__ = ("Facts", "Plan", "candidates", "choose", "silent")

_SEND, _LOCAL_OUT, _XMIT, _RECV, _IP_RCV, _ICMP_RCV = range(6)


@dataclass(frozen=True)
class Facts:
    """What is known of a kernel.

    Attributes:
        functions: those that BTF and kallsyms both have, by exactly this name.
        refused: why, by program, for those that would not load or attach.
        silent: programs that attached, and did not see the echo of the self-test.
    """

    functions: frozenset[str]
    refused: Mapping[str, str] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()

    def without(self, program: str, why: str) -> Facts:
        """The same, and ``program`` is refused."""
        return replace(self, refused={**self.refused, program: why})


@dataclass(frozen=True)
class Plan:
    """Probes by IP version and hook; an empty tuple where a stage cannot be had.

    Attributes:
        notes: what the facts made different from the table's first choice.
    """

    backend: str
    probes: Mapping[tuple[int, int], tuple[Probe, ...]]
    notes: tuple[str, ...] = ()

    @property
    def programs(self) -> list[str]:
        """Names of the programs to load, without that for drops."""
        return list(dict.fromkeys(p.program for each in self.probes.values() for p in each))

    @property
    def complete(self) -> bool:
        """Whether all six stages are covered."""
        return all(self.probes.values())

    @property
    def useful(self) -> bool:
        """Whether each family has a transmit and a receive stage: enough for a round trip."""
        return all(
            any(self.probes[f, hook] for hook in (_SEND, _LOCAL_OUT, _XMIT))
            and any(self.probes[f, hook] for hook in (_RECV, _IP_RCV, _ICMP_RCV))
            for f in {family for family, _ in self.probes}
        )

    @property
    def own(self) -> bool:
        """Whether anything in it needs this back end rather than tracepoints alone."""
        probes = [probe for each in self.probes.values() for probe in each]
        return self.backend == "tracepoint" or any(probe.is_function for probe in probes)

    @property
    def labels(self) -> dict[str, str]:
        """KIND:FUNCTION by FUNCTION."""
        return {p.function: p.label for each in self.probes.values() for p in each}

    def covers(self, hook: int) -> bool:
        """Whether the hook is covered for every family."""
        return all(probes for (_, each), probes in self.probes.items() if each == hook)

    @property
    def rx_open(self) -> int:
        """The hook that opens an echo that we answer: where it is known to be for us."""
        return next(hook for hook in (_ICMP_RCV, _RECV) if self.covers(hook))

    @property
    def tx_close(self) -> int:
        """The hook that ends an echo that we sent: the last one covered."""
        return next(hook for hook in (_ICMP_RCV, _RECV) if self.covers(hook))

    @property
    def rx_close(self) -> int:
        """The hook that ends an echo that we answer: the last one covered."""
        return _XMIT


def candidates(backend: str, families: Iterable[int], facts: Facts) -> list[Probe]:
    """Every probe of the table that this kernel may have, once each."""
    found: dict[Probe, None] = {}
    for family in families:
        for hook in range(len(stages.HOOKS)):
            for alternative in stages.candidates(backend, family, hook):
                found.update(dict.fromkeys(p for p in alternative if _missing(p, facts) is None))
    return list(found)


def silent(attached: Iterable[Probe], fired: Iterable[str]) -> frozenset[str]:
    """Programs that attached and saw nothing, except those whose twin saw it.

    Of the pair ip_rcv and ip_list_rcv one echo can pass only one.

    Args:
        fired: functions whose probes recognised the echo.
    """
    seen = set(fired)
    pairs = {("ip_rcv", "ip_list_rcv"), ("ipv6_rcv", "ipv6_list_rcv")}
    for pair in pairs:
        if seen & set(pair):
            seen |= set(pair)
    return frozenset(p.program for p in attached if p.function not in seen)


def choose(backend: str, families: Iterable[int], facts: Facts) -> Plan:
    """The best alternative that this kernel has, for each stage."""
    probes: dict[tuple[int, int], tuple[Probe, ...]] = {}
    notes: dict[str, None] = {}
    for family in families:
        for hook in range(len(stages.HOOKS)):
            chosen: tuple[Probe, ...] = ()
            for alternative in stages.candidates(backend, family, hook):
                problems = [why for p in alternative if (why := _problem(p, facts))]
                if not problems:
                    chosen = alternative
                    break
                notes.update(dict.fromkeys(problems))
            probes[family, hook] = chosen
    return Plan(backend, probes, tuple(notes))


def _missing(probe: Probe, facts: Facts) -> str | None:
    if probe.is_function and probe.function not in facts.functions:
        return f"{probe.label}: this kernel has no function of this name"
    return None


def _problem(probe: Probe, facts: Facts) -> str | None:
    if missing := _missing(probe, facts):
        return missing
    if probe.program in facts.refused:
        return f"{probe.label}: refused: {facts.refused[probe.program]}"
    if probe.program in facts.silent:
        return f"{probe.label}: attached, but did not fire"
    return None
