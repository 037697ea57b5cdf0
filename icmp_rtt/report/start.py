# SPDX-License-Identifier: GPL-2.0-only
"""What a run is made of, as text: the block before the first report."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from icmp_rtt.model import RX, STAGE_COUNT, TX, stage_of_hook
from icmp_rtt.report.duration import milliseconds
from icmp_rtt.report.escape import printable, printable_text
from icmp_rtt.report.text import LABEL_WIDTH, stage_label

if TYPE_CHECKING:
    from icmp_rtt.model import PlannedProbe, Start
    from icmp_rtt.options import Network, Options

__all__ = ("directions", "start_text")


def start_text(start: Start, options: Options) -> str:
    """The block, with a line feed at the end."""
    local, remote = _plain(options.local), _plain(options.remote)
    lines = [
        "=== Kernel ICMP RTT Tracer ===",
        f"Trace Direction: {options.direction.upper()}",
        f"SRC_IP_FILTER (Local IP): {local}{_hexadecimal(options.local)}",
        f"DST_IP_FILTER (Remote IP): {remote}{_hexadecimal(options.remote)}",
        f"Monitoring interface: {_interface(start)}",
    ]
    if options.netns is not None:
        netns = printable_text(options.netns)
        lines.append(f"Network namespace: {netns} (inode {start.netns})")
    if not (_is_single(options.local) and _is_single(options.remote)):
        lines.append(f"Scope: {_scope(start, options)}")
    if options.latency_ns:
        lines.append(f"Minimum RTT: {milliseconds(options.latency_ns)}")
    if options.only_incomplete:
        lines.append("Reporting incomplete echoes only")
    for direction in directions(options):
        for family in start.families:
            lines += _stages(start, direction, family)
    lines += [f"Note: {printable_text(note)}" for note in start.notes]
    about = f"src={local}, dst={remote}, dir={options.direction}"
    lines += ["", f"Tracing ICMP RTT ({about}) ... Hit Ctrl-C to end.", ""]
    return "\n".join(lines)


def directions(options: Options) -> tuple[str, ...]:
    """The directions that are traced."""
    return (TX, RX) if options.direction == "both" else (options.direction,)


def _is_single(network: Network | None) -> bool:
    return network is not None and network.prefixlen == network.max_prefixlen


def _scope(start: Start, options: Options) -> str:
    """In words whose echoes are traced, where that is not one pair of addresses."""
    families = " and ".join(f"IPv{family}" for family in start.families)
    does = {TX: "sends", RX: "answers", "both": "sends or answers"}[options.direction]
    local = _addresses(options.local, "its addresses", "any of its addresses")
    remote = _addresses(options.remote, "those", "any other")
    where = "one network namespace" if start.netns else "every network namespace"
    return f"every {families} echo that this host {does}, between {local} and {remote}, in {where}"


def _addresses(network: Network | None, some: str, every: str) -> str:
    if network is None:
        return every
    return _plain(network) if _is_single(network) else f"{some} in {network}"


def _plain(network: Network | None) -> str:
    """An address as such, a prefix with its length."""
    if network is None:
        return "any"
    return str(network.network_address) if _is_single(network) else str(network)


def _hexadecimal(network: Network | None) -> str:
    if network is None:
        return ""
    digits = network.max_prefixlen // 4
    address = f"0x{int(network.network_address):0{digits}x}"
    if _is_single(network):
        return f" ({address})"
    return f" ({address}, mask 0x{int(network.netmask):0{digits}x})"


def _interface(start: Start) -> str:
    if start.interface is None:
        return "all"
    name, ifindex = start.interface
    return f"{printable(os.fsencode(name))} (ifindex {ifindex})"


def _stages(start: Start, direction: str, family: int) -> list[str]:
    """What stands for each stage, unless each is stamped at the function it is named after."""
    planned: dict[int, list[PlannedProbe]] = {}
    for probe in start.probes:
        if probe.family == family:
            planned.setdefault(stage_of_hook(probe.hook, direction), []).append(probe)
    if all(_is_canonical(probes) for probes in planned.values()):
        return []
    lines = [f"Probes ({direction.upper()}, IPv{family}, {start.backend}, kernel {start.kernel}):"]
    for stage in range(STAGE_COUNT):
        if stage in planned:
            label = stage_label(stage, planned[stage][0].name)
            places = " ".join(probe.probe for probe in planned[stage] if probe.probe is not None)
            lines.append(f"  Stage {stage} ({label:<{LABEL_WIDTH}}): {places or 'not covered'}")
    return lines


def _is_canonical(probes: list[PlannedProbe]) -> bool:
    return all(
        probe.probe is not None and probe.probe.partition(":")[2] == probe.name for probe in probes
    )
