# SPDX-License-Identifier: GPL-2.0-only
"""What ``icmp-rtt check`` tells: the plan stage by stage, and what this host lacks."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from icmp_rtt import netns, stages
from icmp_rtt.errors import IcmpRttError, LibbpfError, OptionError
from icmp_rtt.kernel.facts import lockdown
from icmp_rtt.kernel.kernelbtf import has_own_btf
from icmp_rtt.opening import opening
from icmp_rtt.refusal import refused_everything
from icmp_rtt.survey import survey

if TYPE_CHECKING:
    from icmp_rtt.loader import Loader
    from icmp_rtt.options import Options
    from icmp_rtt.survey import Survey

__all__ = ("check",)


def check(options: Options) -> tuple[list[str], bool]:
    """The lines to print, and whether there is a plan.

    Raises:
        OptionError: there is no such network namespace as was asked for.
    """
    lines = [f"kernel: {os.uname().release} ({os.uname().machine})", *_host()]
    try:
        if options.netns is not None:
            netns.inode_of(netns.path_of(options.netns))
        with contextlib.ExitStack() as stack, opening(options) as opened:
            stack.callback(opened.symbols.close)  # after the thread that reads them
            loader, kernel = opened.read()
            config = {"directions": _tx(loader), "stacks": 0}
            found = survey(options, loader, kernel, config, opened.loopback)
        found.object.close()
    except OptionError:
        raise
    except IcmpRttError as error:
        shown = refused_everything(error) if isinstance(error, LibbpfError) else error
        lines.append(f"problem: {shown}")
        lines += _said(shown.detail, options)
        lines.append(f"six stages: no: {shown}")
        return lines, False
    lines += _plan(found)
    lines += _said(found.refusals, options)
    if found.plan.complete:
        lines.append("six stages: yes")
    else:
        why = found.passed_over[0] if found.passed_over else "; ".join(found.plan.notes)
        lines.append(f"six stages: no: {why or 'the back end does not cover them'}")
    return lines, True


def _tx(loader: Loader) -> int:
    """Any direction will do: what it changes is no concern of the plan."""
    return loader.btf.enum("icmp_rtt_direction")["DIRECTION_TX"]


def _host() -> list[str]:
    btf = "yes" if has_own_btf() else "no: give one with --btf FILE"
    lines = [f"kernel BTF: {btf}"]
    mode = lockdown()
    remedy = (
        " (reading kernel memory is refused: boot without it)" if mode == "confidentiality" else ""
    )
    lines.append(f"lockdown: {mode}{remedy}")
    return lines


def _said(detail: str, options: Options) -> list[str]:
    """The long story of what was refused, the verifier's own words included; for --verbose."""
    lines = detail.rstrip("\n").split("\n") if detail and options.verbose else []
    return ["refused, in libbpf's and the verifier's words:", *lines] if lines else []


def _plan(found: Survey) -> list[str]:
    plan = found.plan
    lines = [f"not used: {why}" for why in found.passed_over]
    lines.append(f"back end: {plan.backend}")
    proved = "fired" if found.proved else "not tried"
    for family in plan.families:
        lines.append(f"IPv{family}:")
        for hook, name in enumerate(stages.NAMES[family]):
            probes = plan.probes[family, hook]
            labels = " + ".join(probe.label for probe in probes)
            lines.append(f"  {name:<20} {labels + ': ' + proved if probes else 'not seen'}")
    lines += [f"note: {note}" for note in (*plan.notes, *found.notes)]
    drops = "by function alone (no reasons in this kernel)"
    if found.drops_unseen is not None:
        drops = "not seen"
    elif found.kernel.drop_reasons:
        drops = "by name"
    lines.append(f"drops: {drops}")
    return lines
