# SPDX-License-Identifier: GPL-2.0-only
"""The survey: finds by trying which back end this host lets us have, and attaches its plan.

Each back end is tried in turn: its plan is loaded and attached, and an echo
shows which of its probes see anything. What the kernel refuses and what stays
silent makes another plan, until one holds.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from icmp_rtt import plan as planning
from icmp_rtt import refusal, selftest, stages
from icmp_rtt.errors import RequirementError
from icmp_rtt.kernel.facts import KernelFacts, lockdown
from icmp_rtt.loader import Refused
from icmp_rtt.plan import Facts, Plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from icmp_rtt.kernel.bpfobject import Link, Object
    from icmp_rtt.loader import Loader
    from icmp_rtt.options import Options
    from icmp_rtt.selftest import Loopback
    from icmp_rtt.stages import Probe

    Config = Mapping[str, int | tuple[int, ...]]

__all__ = ("Survey", "served", "survey")

_ECHOES = 3  # of our own at the most, until each probe has seen one

# What keeps a host from answering any echo.
_IGNORING = {4: "net.ipv4.icmp_echo_ignore_all", 6: "net.ipv6.icmp.echo_ignore_all"}


class Survey:
    """What the host lets us have: attached, until the object is closed.

    Args:
        plan: that of the back end that holds.
        kernel: what it was chosen by.
        object: loaded.
        links: of the programs attached, by name.
        notes: what was asked for and is not to be had on this host.
        passed_over: back ends that were tried before, and why they are not used.
        refusals: what libbpf and the verifier said of programs that were refused.
        proved: by an echo of our own.
        drops_unseen: why; None if they are seen.
    """

    def __init__(
        self,
        plan: Plan,
        kernel: KernelFacts,
        object: Object,
        links: dict[str, Link],
        *,
        notes: tuple[str, ...],
        passed_over: tuple[str, ...],
        refusals: str,
        proved: bool,
        drops_unseen: str | None,
    ) -> None:
        self.plan = plan
        self.kernel = kernel
        self.object = object
        self.links = links
        self.notes = notes
        self.passed_over = passed_over
        self.refusals = refusals
        self.proved = proved
        self.drops_unseen = drops_unseen


def survey(
    options: Options,
    loader: Loader,
    kernel: KernelFacts,
    config: Config,
    loopback: Loopback | None,
) -> Survey:
    """Attach the best back end that there is, or the one asked for.

    Args:
        config: of the object, without what follows from the plan and the kernel.
        loopback: what a plan is proved with; None if it is not.

    Raises:
        RequirementError: there is none.
    """
    backends = list(stages.BACKENDS) if options.backend == "auto" else [options.backend]
    passed_over: list[str] = []
    options, notes = served(options, loopback.no_ipv6 if loopback else selftest.without_ipv6())
    attempt = _Attempt(options, loader, kernel, config, loopback)
    for backend in backends:
        plan = attempt.attach(backend)
        if attempt.object is not None:
            unseen = attempt.drops_unseen
            notes += (*_between(options, plan), *_unseen(backend, kernel), *_no_drops(unseen))
            notes += _untried(options, kernel, loopback)
            return Survey(
                plan,
                kernel,
                attempt.object,
                attempt.links,
                notes=notes,
                passed_over=tuple(passed_over),
                refusals="".join(attempt.refusals),
                proved=loopback is not None,
                drops_unseen=unseen,
            )
        passed_over.append(": ".join(filter(None, (backend, _why_not(plan), attempt.remedy))))
    causes = ["; ".join(passed_over)]
    if options.btf is not None:
        causes.append(_is_it_of_this_kernel(options.btf))
    if lockdown() == "confidentiality":
        causes.append("lockdown is confidentiality, which forbids reading kernel memory")
        causes.append("boot without it")
    raise RequirementError(
        f"no back end can be used on this host: {': '.join(causes)}", "".join(attempt.refusals)
    )


def served(options: Options, no_ipv6: str | None) -> tuple[Options, tuple[str, ...]]:
    """What of the options this host can do, and what is to be said of the rest.

    Args:
        no_ipv6: why IPv6 is not to be had, None if it is.

    Raises:
        RequirementError: IPv6 was asked for, and is not to be had.
    """
    if no_ipv6 is None or 6 not in options.families:
        return options, ()
    others = tuple(family for family in options.families if family != 6)
    if not others:
        raise RequirementError(f"IPv6 is not to be had on this host: {no_ipv6}")
    return options._replace(families=others), (f"IPv4 alone is traced: {no_ipv6}",)


class _Attempt:
    """Attaches one back end after the other until one holds.

    Attributes:
        object: loaded and attached; None if the last back end did not hold.
        links: of its programs, by name.
        refusals: what was said of each program refused so far, in lines.
        remedy: what can be done about the first one that the last back end was refused.
        drops_unseen: why no drop is seen; None if they are.
    """

    def __init__(
        self,
        options: Options,
        loader: Loader,
        kernel: KernelFacts,
        config: Config,
        loopback: Loopback | None,
    ) -> None:
        self._options = options
        self._loader = loader
        self._loopback = loopback
        self._kernel = kernel
        bits = loader.btf.enum("icmp_rtt_family")
        self._config = {
            **config,
            "families": sum(bits[f"FAMILY_IPV{family}"] for family in options.families),
            "self_test_netns": loopback.netns if loopback else 0,
            "typed_headers": int(kernel.typed_headers),
            "typed_task": int(kernel.typed_task),
            "atomics": int(kernel.atomics),
            "drop_reasons": int(bool(kernel.drop_reasons)),
            "no_socket": kernel.drop_reason("NO_SOCKET"),
            **{f"{name}_at": address for name, address in kernel.variables.items()},
        }
        self.object: Object | None = None
        self.links: dict[str, Link] = {}
        self.refusals: list[str] = []
        self.remedy: str | None = None
        self.drops_unseen: str | None = None

    def attach(self, backend: str) -> Plan:
        """Load, attach and prove; the plan that holds, or the one that nothing came of."""
        self.remedy = None
        facts = self._first_facts(backend)
        while True:
            plan = planning.choose(backend, self._options.families, facts)
            if not (plan.useful and plan.own):
                return plan
            probes = planning.to_try(plan, facts)
            facts = self._try(plan, probes, facts)
            if self.object is None:
                continue
            proved = planning.choose(backend, self._options.families, facts)
            if self._fits(proved, plan):
                self._keep([*proved.programs, *(p.program for p in stages.DROP_PROBES)])
                self.drops_unseen = self._why_no_drops(facts)
                return proved
            self._close()

    def _first_facts(self, backend: str) -> Facts:
        functions, tried = self._kernel.functions, self._loopback is not None
        facts = Facts(functions, tried=tried)
        if not self._kernel.names_listed:
            why = "/proc/kallsyms is empty, so none can be looked up"
            facts = Facts(functions, tried=tried, absent=why)
        for probe in (*stages.probes(backend, self._options.families), *stages.DROP_PROBES):
            if probe.needs_btf and not self._kernel.own_btf:
                facts = facts.without(probe.program, "this kernel has no BTF of its own")
            elif probe.spares_btf and self._kernel.own_btf:
                facts = facts.without(probe.program, "for kernels without BTF")
        return facts

    def _fits(self, proved: Plan, loaded: Plan) -> bool:
        """Whether what was loaded and attached will do for the plan that was proved."""
        attached = set(proved.programs) <= self.links.keys()
        return proved.useful and proved.own and attached and proved.ends == loaded.ends

    def _why_no_drops(self, facts: Facts) -> str | None:
        if any(probe.program in self.links for probe in stages.DROP_PROBES):
            return None
        fitting = [p for p in stages.DROP_PROBES if p.needs_btf == self._kernel.own_btf]
        return planning.problem(fitting[0], facts)

    def _try(self, plan: Plan, probes: list[Probe], facts: Facts) -> Facts:
        """Load and attach; what that and the self-test have taught."""
        drops = [probe for probe in stages.DROP_PROBES if probe.program not in facts.refused]
        programs = [probe.program for probe in (*probes, *drops[:1])]
        programs = [name for name in programs if name not in facts.refused]
        options = self._options
        kprobes = int(plan.backend == "kprobe" and self._kernel.tells_kprobes)
        config = {**self._config, **plan.ends, "kprobes": kprobes}
        try:
            self.object = self._loader.load(programs, config, options.max_sessions)
        except Refused as refused:
            return self._refuse(facts, refused, programs)
        try:
            attached = []
            for name in programs:
                try:
                    self.links.update(self._loader.attach(self.object, [name]))
                    attached.append(name)
                except Refused as refused:
                    facts = self._refuse(facts, refused, programs)
            return self._prove([p for p in probes if p.program in attached], facts)
        except BaseException:
            self._close()
            raise

    def _refuse(self, facts: Facts, refused: Refused, programs: list[str]) -> Facts:
        """Set a refused program aside; with EPERM or the like, all of its sort."""
        program, error = refused.program, refused.error
        self.refusals.append(f"{program}: {error}\n{error.log}".rstrip("\n") + "\n")
        self.remedy = self.remedy or refusal.remedy(program, error)
        for name in refusal.refused_with(program, error, programs):
            facts = facts.without(name, refusal.cause(error))
        return facts

    def _prove(self, attached: list[Probe], facts: Facts) -> Facts:
        """Which of the probes see an echo of our own.

        A raw socket has a reply before icmp_rcv has, so what was not seen of one echo
        may be seen a moment later: another one tells.
        """
        if self._loopback is None or self.object is None:
            return facts
        for _ in range(_ECHOES):
            self._ping(self._loopback)
            silent = planning.silent(attached, self._fired(self.object, attached))
            if all(probe.doubtful for probe in attached if probe.program in silent):
                break
        return facts.with_silent(silent)

    def _ping(self, loopback: Loopback) -> None:
        for family in loopback.ping():
            if family in self._options.families:
                raise RequirementError(
                    f"the self-test's IPv{family} echo over loopback was not answered: is"
                    f" {_IGNORING[family]} set? leave the test out with --no-self-test"
                )

    def _fired(self, obj: Object, attached: list[Probe]) -> list[str]:
        """Functions and tracepoints whose probes have seen an echo of our own."""
        numbers = self._loader.btf.enum("icmp_rtt_probe")
        times = obj.maps["fired"]
        return [
            probe.function
            for probe in attached
            if any(times.lookup(struct.pack("=I", numbers[f"PROBE_{probe.function}"])) or b"")
        ]

    def _keep(self, programs: list[str]) -> None:
        """Detach all others; the self-test is over."""
        for name in self.links.keys() - set(programs):
            self.links.pop(name).close()
        if self.object is not None:
            self._loader.sweep(self.object)

    def _close(self) -> None:
        if self.object is not None:
            self.object.close()
            self.object = None
        self.links = {}


def _between(options: Options, plan: Plan) -> tuple[str, ...]:
    if options.direction == "rx" or plan.backend != "tracepoint":
        return ()
    return (
        "what is dropped between socket and device is not seen: a request that a firewall here"
        " drops is not reported, a reply that it drops is taken for complete",
    )


def _unseen(backend: str, kernel: KernelFacts) -> tuple[str, ...]:
    if backend != "kprobe" or kernel.tells_kprobes:
        return ()
    return (
        "what arrives while the kernel leaves kprobes out may look dropped or unanswered:"
        " kernel addresses are hidden, it takes CAP_SYSLOG and kernel.kptr_restrict below 2",
    )


def _no_drops(why: str | None) -> tuple[str, ...]:
    return () if why is None else (f"drops are not seen: {why}",)


def _untried(options: Options, kernel: KernelFacts, loopback: Loopback | None) -> tuple[str, ...]:
    """By BTF of another kernel probes load and attach, and see nothing, or what is not there."""
    if options.btf is None or kernel.own_btf or loopback is not None:
        return ()
    return (f"{options.btf} was not tried: {_is_it_of_this_kernel('it')}",)


def _is_it_of_this_kernel(btf: str) -> str:
    return f"is {btf} BTF of this very kernel, {os.uname().release}?"


def _why_not(plan: Plan) -> str:
    refused = [note for note in plan.notes if "refused" in note]
    notes = refused or list(plan.notes) or ["it has no probe for a path"]
    return notes[0] + (f" (and {len(notes) - 1} more)" if len(notes) > 1 else "")
