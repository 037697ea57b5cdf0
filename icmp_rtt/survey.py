# SPDX-License-Identifier: GPL-2.0-only
"""The survey: finds by trying which back end this host lets us have, and proves its plan.

Each back end is tried in turn: its candidates are loaded and attached, those
that the kernel refuses are set aside, and one echo shows which of the rest see
anything. What is left goes to the plan.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from icmp_rtt import plan as planning
from icmp_rtt import selftest, stages
from icmp_rtt.errors import LibbpfError, RequirementError
from icmp_rtt.kernel.facts import KernelFacts, read_facts
from icmp_rtt.loader import Refused
from icmp_rtt.plan import Facts, Plan

if TYPE_CHECKING:
    from icmp_rtt.kernel.bpfobject import Object
    from icmp_rtt.kernel.symbols import Symbols
    from icmp_rtt.loader import Loader
    from icmp_rtt.options import Options
    from icmp_rtt.stages import Probe

__all__ = ("Survey", "check_privileges", "family_bits", "refuse", "survey")

_CAP_SYS_ADMIN, _CAP_PERFMON, _CAP_BPF = 21, 38, 39
_SELF_TEST_SESSIONS = 64
_ICMP_RCV, _XMIT, _RECV = 5, 2, 3


class Survey(NamedTuple):
    """What the host lets us have."""

    plan: Plan
    facts: Facts
    kernel: KernelFacts
    passed_over: tuple[str, ...]  # back ends that were tried before, and why they are not used
    proved: bool  # by an echo of our own


def survey(options: Options, loader: Loader, symbols: Symbols) -> Survey:
    """Find the best back end, or prove the one asked for.

    Raises:
        RequirementError: there is none, or something that all of them need is missing.
    """
    kernel = read_facts(loader.lib, symbols, _all_functions(options.families), options.btf)
    backends = list(stages.BACKENDS) if options.backend == "auto" else [options.backend]
    passed_over: list[str] = []
    for backend in backends:
        facts = Facts(kernel.functions)
        if options.self_test:
            facts = _prove(backend, options.families, facts, loader)
        plan = planning.choose(backend, options.families, facts)
        if plan.useful and plan.own:
            return Survey(plan, facts, kernel, tuple(passed_over), options.self_test)
        passed_over.append(f"{backend}: {_why_not(plan)}")
    raise RequirementError(
        f"no back end can be used on this host: {'; '.join(passed_over)}:"
        " 'icmp-rtt check' tells what is missing",
        "\n".join(passed_over),
    )


def check_privileges() -> None:
    """Refuse early, and in plain words, what the kernel would refuse with EPERM.

    Raises:
        RequirementError: CAP_BPF or CAP_PERFMON is missing (CAP_SYS_ADMIN has
            both, and is what kernels before 5.8 ask for).
    """
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        held = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff"))
    if held >> _CAP_SYS_ADMIN & 1:
        return
    names = {_CAP_BPF: "CAP_BPF", _CAP_PERFMON: "CAP_PERFMON"}
    missing = [name for bit, name in names.items() if not held >> bit & 1]
    if missing:
        raise RequirementError(
            f"{' and '.join(missing)} missing: run as root, or give the process"
            " CAP_BPF, CAP_PERFMON and CAP_SYSLOG"
        )


def family_bits(families: tuple[int, ...]) -> int:
    """IP versions as bits of enum icmp_rtt_family."""
    return sum({4: 1, 6: 2}[family] for family in families)


def refuse(facts: Facts, refused: Refused, programs: list[str]) -> Facts:
    """Set a refused program aside; with EPERM or the like, all of its sort."""
    error = refused.error
    why = os.strerror(error.errno).lower() if error.errno != 524 else "not supported here"
    sort = refused.program.partition("__")[0].replace("kret", "k").replace("fexit", "fentry")
    kinds = stages.BACKENDS.get(sort, ("tp_btf",))[:2] if sort != "tp_btf" else ("tp_btf",)
    all_of_them = error.errno in (errno.EPERM, 524)
    for name in programs:
        if name == refused.program or (all_of_them and name.partition("__")[0] in kinds):
            facts = facts.without(name, f"{why} (errno {error.errno})")
    return facts


def _prove(backend: str, families: tuple[int, ...], facts: Facts, loader: Loader) -> Facts:
    """What is left of the candidates once the kernel has had its say and an echo has passed."""
    with selftest.loopback(families) as loopback:
        config = {
            "netns": loopback.netns,
            "families": family_bits(families),
            "directions": 1,
            "stacks": 0,
            "self_test": 1,
            "rx_open": _ICMP_RCV,
            "rx_close": _XMIT,
            "tx_close": _ICMP_RCV,
        }
        while True:
            probes = [
                probe
                for probe in planning.candidates(backend, families, facts)
                if probe.program not in facts.refused
            ]
            if not _hopeful(backend, probes):
                return facts
            programs = [probe.program for probe in probes]
            try:
                obj = loader.load(programs, families, config, _SELF_TEST_SESSIONS)
            except Refused as refused:
                facts = refuse(facts, refused, programs)
                continue
            with obj:
                return _fire(obj, probes, facts, loader, loopback)


def _hopeful(backend: str, probes: list[Probe]) -> bool:
    """Whether anything of the back end's own is left to try."""
    if backend == "tracepoint":
        return bool(probes)
    return any(probe.is_function for probe in probes)


def _fire(
    obj: Object,
    probes: list[Probe],
    facts: Facts,
    loader: Loader,
    loopback: selftest.Loopback,
) -> Facts:
    attached = []
    for probe in probes:
        try:
            loader.attach(obj, [probe.program])
        except Refused as refused:
            facts = refuse(facts, refused, [probe.program])
        else:
            attached.append(probe)
    if not loopback.ping():
        raise RequirementError(
            "the self-test's echo over loopback was not answered: is net.ipv4.icmp_echo_ignore_all"
            " set? leave the test out with --no-self-test"
        )
    fired = []
    for name, number in loader.btf.enum("icmp_rtt_probe").items():
        if name == "PROBE_COUNT":
            continue
        value = obj.maps["fired"].lookup(struct.pack("=I", number))
        if value and any(value):
            fired.append(name.partition("_")[2])
    return replace(facts, silent=planning.silent(attached, fired))


def _all_functions(families: tuple[int, ...]) -> set[str]:
    return {
        probe.function
        for backend in stages.BACKENDS
        for family in families
        for hook in range(len(stages.HOOKS))
        for alternative in stages.candidates(backend, family, hook)
        for probe in alternative
        if probe.is_function
    }


def _why_not(plan: Plan) -> str:
    refused = [note for note in plan.notes if "refused" in note]
    notes = refused or list(plan.notes) or ["it has no probe for a path"]
    return notes[0] + (f" (and {len(notes) - 1} more)" if len(notes) > 1 else "")


def refused_everything(error: LibbpfError) -> RequirementError:
    """A load that failed before any program was looked at."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return RequirementError(
            "the kernel refuses BPF to this process: run as root, or give it CAP_BPF and"
            " CAP_PERFMON (on kernels before 5.11 CAP_SYS_RESOURCE as well)",
            error.log,
        )
    return RequirementError(f"the BPF object cannot be loaded: {error}", error.log)
