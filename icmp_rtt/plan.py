# SPDX-License-Identifier: GPL-2.0-only
"""The plan: which probes stand for which stages on this kernel.

Pure: facts in, plan out, so that kernels not at hand can be tested from what
was recorded of them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from icmp_rtt import stages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from icmp_rtt.stages import Probe

__all__ = ("Facts", "Plan", "choose", "problem", "silent", "to_try")

_SEND, _LOCAL_OUT, _XMIT, _RECV, _IP_RCV, _ICMP_RCV = range(6)


class Facts:
    """What is known of a kernel. What is learned of it makes another one.

    Args:
        functions: those in kallsyms, by exactly this name.
        refused: why, by program, for those that would not load or attach.
        silent: programs that attached, and did not see the echo of the self-test.
        tried: whether there is a self-test; without one what is doubtful is not taken.
        absent: why a function is not among ``functions``.
    """

    def __init__(
        self,
        functions: frozenset[str],
        refused: Mapping[str, str] = MappingProxyType({}),
        silent: frozenset[str] = frozenset(),
        tried: bool = True,
        absent: str = "this kernel has no function of this name",
    ) -> None:
        self.functions = functions
        self.refused = refused
        self.silent = silent
        self.tried = tried
        self.absent = absent

    def without(self, program: str, why: str) -> Facts:
        """The same, and ``program`` is refused."""
        refused = {**self.refused, program: why}
        return Facts(self.functions, refused, self.silent, self.tried, self.absent)

    def with_silent(self, programs: Iterable[str]) -> Facts:
        """The same, and ``programs`` saw nothing."""
        silent = self.silent.union(programs)
        return Facts(self.functions, self.refused, silent, self.tried, self.absent)


class Plan:
    """Probes by IP version and hook; an empty tuple where a stage cannot be had.

    Args:
        notes: what the facts made different from the table's first choice.
    """

    def __init__(
        self,
        backend: str,
        probes: Mapping[tuple[int, int], tuple[Probe, ...]],
        notes: tuple[str, ...] = (),
    ) -> None:
        self.backend = backend
        self.probes = probes
        self.notes = notes

    @property
    def programs(self) -> list[str]:
        """Names of the programs to load, without that for drops."""
        return list(dict.fromkeys(p.program for each in self.probes.values() for p in each))

    @property
    def families(self) -> tuple[int, ...]:
        """IP versions that it is for."""
        return tuple(sorted({family for family, _ in self.probes}))

    @property
    def complete(self) -> bool:
        """Whether all six stages are covered."""
        return all(self.probes.values())

    @property
    def useful(self) -> bool:
        """Whether each family has a transmit and a receive stage, and all one that ends an echo."""
        return (self.covers(_ICMP_RCV) or self.covers(_RECV)) and all(
            any(self.probes[f, hook] for hook in (_SEND, _LOCAL_OUT, _XMIT))
            and any(self.probes[f, hook] for hook in (_RECV, _IP_RCV, _ICMP_RCV))
            for f in self.families
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

    @property
    def delivers(self) -> bool:
        """Whether what ICMP is handed is seen, be it of one family alone: its errors, say."""
        return any(probes for (_, hook), probes in self.probes.items() if hook == _ICMP_RCV)

    @property
    def awaits_icmp(self) -> bool:
        """Whether echoes that we sent end where ICMP is handed the reply."""
        return self.tx_close == _ICMP_RCV

    def covers(self, hook: int) -> bool:
        """Whether the hook is covered for every family."""
        return all(probes for (_, each), probes in self.probes.items() if each == hook)

    @property
    def tx_open(self) -> int:
        """The first hook on the way out that is covered, be it for one family alone."""
        return min((hook for (_, hook), probes in self.probes.items() if probes), default=_XMIT)

    @property
    def rx_open(self) -> int:
        """The hook that opens an echo that we answer: where it is known to be for us."""
        return self._last_receive

    @property
    def tx_close(self) -> int:
        """The hook that ends an echo that we sent: the last one covered."""
        return self._last_receive

    @property
    def _last_receive(self) -> int:
        return next(hook for hook in (_ICMP_RCV, _RECV) if self.covers(hook))

    @property
    def ends(self) -> dict[str, int]:
        """The hooks that begin and end echoes, as the object's configuration names them.

        One that we answer always ends where it leaves.
        """
        return {
            "tx_open": self.tx_open,
            "rx_open": self.rx_open,
            "tx_close": self.tx_close,
        }


def to_try(plan: Plan, facts: Facts) -> list[Probe]:
    """The probes of the plan and, where one of them is doubtful, what would take its place."""
    found: dict[Probe, None] = {}
    for (family, hook), chosen in plan.probes.items():
        found.update(dict.fromkeys(chosen))
        while any(probe.doubtful for probe in chosen):
            facts = facts.with_silent(probe.program for probe in chosen)
            chosen = _best(plan.backend, family, hook, facts)[0]
            found.update(dict.fromkeys(chosen))
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
            probes[family, hook], problems = _best(backend, family, hook, facts)
            notes.update(dict.fromkeys(problems))
    return Plan(backend, probes, tuple(notes))


def _best(
    backend: str, family: int, hook: int, facts: Facts
) -> tuple[tuple[Probe, ...], list[str]]:
    """The first alternative that can be had, and what kept those before it from being taken."""
    passed_over: list[str] = []
    for alternative in stages.candidates(backend, family, hook):
        problems = [why for probe in alternative if (why := problem(probe, facts))]
        if not problems:
            return alternative, passed_over
        passed_over += problems
    return (), passed_over


def problem(probe: Probe, facts: Facts) -> str | None:
    """Why a probe is not to be had, None if nothing is known against it."""
    if probe.is_function and probe.function not in facts.functions:
        return f"{probe.label}: {facts.absent}"
    if probe.doubtful and not facts.tried:
        return f"{probe.label}: often inlined, and not tried without the self-test"
    if probe.program in facts.refused:
        return f"{probe.label}: refused: {facts.refused[probe.program]}"
    if probe.program in facts.silent:
        return f"{probe.label}: attached, but did not fire"
    return None
