# SPDX-License-Identifier: GPL-2.0-only
"""JSON lines, schema 1: one object a line.

The line of an echo is put together from parts that are encoded once and kept
(probes, paths, addresses): json alone took 13 us an echo where this takes 8,
and 60,000 echoes a second leave 16 us for everything.
"""

from __future__ import annotations

import json
import os
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from icmp_rtt.model import COMPLETE, DUPLICATE, LATE, stage_of_hook
from icmp_rtt.report.escape import decoded
from icmp_rtt.report.frames import stack_lines
from icmp_rtt.report.start import directions
from icmp_rtt.report.verdict import drop_location, drop_reason_name
from icmp_rtt.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from icmp_rtt.model import Address, Drop, Echo, IcmpErrorSeen, Side, Stack, Start
    from icmp_rtt.options import Network, Options
    from icmp_rtt.report.frames import Symbols

__all__ = ("JsonLines", "start_line", "summary_line")

SCHEMA = 1
_KEPT = 4096  # how many addresses are kept before all are forgotten

_encode = json.JSONEncoder(check_circular=False).encode


class JsonLines:
    """Renders echoes for programs to read; for the arguments see ``TextReport``."""

    def __init__(
        self,
        symbols: Symbols,
        drop_reason: Callable[[int], str | None],
        clock_offset_ns: int,
    ) -> None:
        self._symbols = symbols
        self._drop_reason = drop_reason
        self.clock_offset_ns = clock_offset_ns
        # Packets of a kind come by the same ways, again and again.
        self._stack = lru_cache(maxsize=512)(self._encode_stack)
        self._addresses: dict[int, tuple[Address, str]] = {}

    def echo(self, echo: Echo) -> str:
        """The line of one echo, line feed included."""
        when = _utc(echo.stamps[0].ts_ns + self.clock_offset_ns)
        if echo.outcome in (DUPLICATE, LATE):
            return _reply_line(echo, when)
        stages = ", ".join(
            [
                f'{_stage_head(stage, path, name, probe)}{ts_ns}, "cpu": {cpu},'
                f' "skb": "{hex(skb)}"{"" if stack is None else self._stack(stack, probe)}}}'
                for stage, path, name, probe, ts_ns, cpu, skb, stack in echo.stamps
            ]
        )
        return (
            f'{{"type": "echo", "time": "{when}", "direction": "{echo.direction}",'
            f' "src": {self._address(echo.local)}, "dst": {self._address(echo.remote)},'
            f' "id": {echo.id}, "seq": {echo.seq},'
            f' "outcome": "{echo.outcome}", "netns": {echo.netns},'
            f' "request": {_side(echo.request)}, "reply": {_side(echo.reply)},'
            f' "stages": [{stages}], {_figures(echo)}{self._end(echo)}}}\n'
        )

    def _address(self, address: Address) -> str:
        """Kept by identity, which the entry keeps in use: an address takes long to hash."""
        known = self._addresses.get(id(address))
        if known is None:
            if len(self._addresses) >= _KEPT:
                self._addresses.clear()
            known = self._addresses[id(address)] = (address, f'"{address}"')
        return known[1]

    def _encode_stack(self, stack: Stack, probe: str) -> str:
        frames, problem = stack_lines(stack, probe, self._symbols)
        if problem is None:
            return f', "stack": {_encode(frames)}'
        return f', "stack": null, "stack_error": {_encode(problem)}'

    def _end(self, echo: Echo) -> str:
        """What most complete echoes have no use for."""
        if echo.outcome == COMPLETE:
            ambiguous = ', "ambiguous": true' if echo.ambiguous else ""
            return f'{ambiguous}, "reordered": true' if echo.reordered else ambiguous
        drop = None if echo.drop is None else self._drop(echo.drop)
        error = None if echo.icmp_error is None else _icmp_error(echo.icmp_error)
        return (
            f', "last_stage": {echo.last_stage}, "reason": "{echo.reason}",'
            f' "drop": {_encode(drop)}, "icmp_error": {_encode(error)}'
        )

    def _drop(self, drop: Drop) -> dict[str, object]:
        return {
            "reason": drop_reason_name(drop, self._drop_reason),
            "location": drop_location(drop, self._symbols),
            "path": drop.path,
            "last_stage": drop.last_stage,
        }


def start_line(start: Start, options: Options) -> str:
    """The line that says that every probe is attached, and which they are."""
    line = {
        "type": "start",
        "schema": SCHEMA,
        "version": VERSION,
        "kernel": start.kernel,
        "backend": start.backend,
        "probes": [
            {
                "stage": stage_of_hook(probe.hook, direction),
                "name": probe.name,
                "probe": probe.probe,
                "direction": direction,
                "family": probe.family,
            }
            for direction in directions(options)
            for probe in start.probes
        ],
        "direction": options.direction,
        "src": _network(options.local),
        "dst": _network(options.remote),
        "interface": start.interface and decoded(os.fsencode(start.interface[0])),
        "ifindex": start.interface and start.interface[1],
        "netns": start.netns or None,
        "notes": start.notes,
    }
    return f"{_encode(line)}\n"


def summary_line(counters: Mapping[str, int | None]) -> str:
    """The closing line of a run."""
    return _encode({"type": "summary", "counters": dict(counters)}) + "\n"


def _reply_line(echo: Echo, when: str) -> str:
    """The line of a further reply to a reported echo."""
    line = {
        "type": "reply",
        "time": when,
        "ts_ns": echo.first_ts_ns,
        "what": echo.outcome,
        "direction": echo.direction,
        "src": str(echo.local),
        "dst": str(echo.remote),
        "id": echo.id,
        "seq": echo.seq,
        "netns": echo.netns,
    }
    return f"{_encode(line)}\n"


def _figures(echo: Echo) -> str:
    path1_ns, inter_path_ns, path2_ns, rtt_ns = echo.spans_ns
    begin, end = (None, None) if rtt_ns is None else (echo.rtt_from_stage, echo.last_stage)
    figures = (
        f'"path1_ns": {path1_ns}, "inter_path_ns": {inter_path_ns}, "path2_ns": {path2_ns},'
        f' "rtt_ns": {rtt_ns}, "rtt_from_stage": {begin}, "rtt_to_stage": {end}'
    )
    return figures.replace("None", "null")  # there are no words in it


@lru_cache(maxsize=256)
def _stage_head(stage: int, path: int, name: str, probe: str) -> str:
    """A stage up to its time."""
    return (
        f'{{"stage": {stage}, "path": {path}, "name": {_encode(name)},'
        f' "probe": {_encode(probe)}, "ts_ns": '
    )


@lru_cache(maxsize=1024)
def _side(side: Side | None) -> str:
    if side is None:
        return "null"
    return _encode(
        {
            "pid": side.pid,
            "comm": decoded(side.comm),
            "ifname": decoded(side.ifname) if side.ifindex else None,
            "ifindex": side.ifindex or None,
            "icmp_type": side.icmp_type,
        }
    )


def _icmp_error(error: IcmpErrorSeen) -> dict[str, object]:
    return {"type": error.type, "code": error.code, "from": str(error.sender)}


def _network(network: Network | None) -> str | None:
    if network is None:
        return None
    if network.prefixlen == network.max_prefixlen:
        return str(network.network_address)
    return str(network)


def _utc(wall_ns: int) -> str:
    seconds = wall_ns // 1_000_000_000
    return _utc_second(seconds) % (wall_ns // 1000 % 1_000_000)


@lru_cache(maxsize=8)
def _utc_second(seconds: int) -> str:
    """The times of a second, with a place for the microseconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%%06dZ", time.gmtime(seconds))
