# SPDX-License-Identifier: GPL-2.0-only
"""The text report of one echo, column for column that of the original guide."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

from icmp_rtt.model import DUPLICATE, LATE, STAGE_COUNT, TX, path_of_stage
from icmp_rtt.report.escape import printable
from icmp_rtt.report.frames import stack_lines
from icmp_rtt.report.verdict import AMBIGUOUS, REORDERED, verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from icmp_rtt.model import Address, Echo, Side, Stack, Start
    from icmp_rtt.report.frames import Symbols

__all__ = ("LABEL_WIDTH", "TextReport", "stage_label")

RULER = "=" * 80
_ABSENT = "N/A"
LABEL_WIDTH = 39  # of a stage in the list of pointers
_SEGMENT_WIDTH = 41  # of a stage in the list of latencies
_PATH_WIDTH = 34  # of what a path is about; wider for IPv6


class TextReport:
    """Renders echoes for people to read.

    Args:
        symbols: names the frames of stacks and the places of drops.
        drop_reason: names a number of enum skb_drop_reason, or returns None.
        clock_offset_ns: wall clock minus CLOCK_MONOTONIC.
        timeout_ns: how long a reply was waited for.
        start: what the run is made of.
        netns: inode of the network namespace that goes without saying; None: none does.

    Attributes:
        clock_offset_ns: as above; to be set anew when the wall clock was.
    """

    def __init__(
        self,
        symbols: Symbols,
        drop_reason: Callable[[int], str | None],
        clock_offset_ns: int,
        timeout_ns: int,
        start: Start,
        netns: int | None,
    ) -> None:
        self._symbols = symbols
        self._drop_reason = drop_reason
        self.clock_offset_ns = clock_offset_ns
        self._timeout_ns = timeout_ns
        self._start = start
        self._netns = netns
        # Packets of a kind come by the same ways, again and again.
        self._stack_lines = lru_cache(maxsize=512)(self._name_frames)

    def echo(self, echo: Echo) -> str:
        """The report of one echo, with a blank line before and a line feed at the end."""
        if echo.outcome in (DUPLICATE, LATE):
            return self._reply(echo)
        lines = ["", RULER, *self._head(echo), ""]
        lines += _pointers(echo)
        path1_ns, inter_path_ns, path2_ns, rtt_ns = echo.spans_ns
        lines += _latencies(echo, 1, path1_ns)
        lines += _latencies(echo, 2, path2_ns)
        rtt, inter_path = _microseconds(rtt_ns), _microseconds(inter_path_ns)
        lines.append(f"Total RTT (Path1 Start to Path2 End): {rtt}{_rtt_span(echo)}")
        lines.append(f"Inter-Path Latency (P1 end -> P2 start): {inter_path}")
        lines += self._stacks(echo)
        lines += [RULER, ""]
        return "\n".join(lines)

    def _reply(self, echo: Echo) -> str:
        """One line on a further reply to a reported echo."""
        when = _local_time(echo.first_ts_ns + self.clock_offset_ns)
        ends = f"from {_address(echo.remote)} to {_address(echo.local)}"
        return f"\nNote: {when}: {echo.outcome} reply {ends} (ID: {echo.id}, Seq: {echo.seq})\n"

    def _head(self, echo: Echo) -> list[str]:
        local, remote = _address(echo.local), _address(echo.remote)
        source, target = (local, remote) if echo.direction == TX else (remote, local)
        when = _local_time(echo.first_ts_ns + self.clock_offset_ns)
        lines = [
            f"=== ICMP RTT Trace: {when} ({_direction_title(echo.direction)}) ===",
            f"Session: {source} -> {target} (ID: {echo.id}, Seq: {echo.seq})",
            *_path_lines(echo.direction, echo.remote, echo.request, echo.reply),
        ]
        if echo.netns != self._netns:
            lines.append(f"Network namespace: inode {echo.netns}")
        if echo.reason is not None:
            words = verdict(echo, self._start, self._symbols, self._drop_reason, self._timeout_ns)
            lines.append(f"Verdict: {words}")
        if echo.ambiguous:
            lines.append(f"Note: {AMBIGUOUS}")
        if echo.reordered:
            lines.append(f"Note: {REORDERED}")
        return lines

    def _stacks(self, echo: Echo) -> list[str]:
        lines: list[str] = []
        for stamp in echo.stamps:
            if stamp.stack is None:
                continue
            lines = lines or ["", "Kernel Stack Traces:"]
            lines.append(f"  Stage {stamp.stage} ({stage_label(stamp.stage, stamp.name)}):")
            lines += self._stack_lines(stamp.stack, stamp.probe)
        return lines

    def _name_frames(self, stack: Stack, probe: str) -> list[str]:
        frames, problem = stack_lines(stack, probe, self._symbols)
        lines = [f"    {frame}" for frame in frames]
        if problem is not None:
            lines.append(f"    (stack not available: {problem})")
        return lines


def _direction_title(direction: str) -> str:
    """A direction in the words of a report's heading."""
    return "TX (Local -> Remote)" if direction == TX else "RX (Remote -> Local)"


@lru_cache(maxsize=64)
def stage_label(stage: int, name: str) -> str:
    """A stage by path, position on it, and canonical name."""
    return f"P{path_of_stage(stage)}:S{stage % 3} ({name})"


@lru_cache(maxsize=1024)
def _path_lines(
    direction: str, remote: Address, request: Side | None, reply: Side | None
) -> tuple[str, str]:
    if direction == TX:
        about = (f"(Request: TX to {remote})", f"(Reply:   RX from {remote})")
    else:
        about = (f"(Request: RX from {remote})", f"(Reply:   TX to {remote})")
    width = max(_PATH_WIDTH, len(about[0]), len(about[1]))
    return (
        f"Path 1 {about[0]:<{width}}: {_side(request)}",
        f"Path 2 {about[1]:<{width}}: {_side(reply)}",
    )


def _side(side: Side | None) -> str:
    if side is None:
        pid = comm = ifname = icmp_type = _ABSENT
    else:
        pid, icmp_type = str(side.pid), str(side.icmp_type)
        comm = printable(side.comm)
        ifname = printable(side.ifname) if side.ifindex else _ABSENT
    return f"PID={pid:<6} COMM={comm:<12} IF={ifname:<10} ICMP_Type={icmp_type}"


def _pointers(echo: Echo) -> list[str]:
    pointers = [_ABSENT] * STAGE_COUNT
    for stamp in echo.stamps:
        pointers[stamp.stage] = f"0x{stamp.skb:x}"
    return ["SKB Pointers:", *map(str.__add__, _pointer_heads(echo.names), pointers), ""]


@lru_cache(maxsize=8)
def _pointer_heads(names: tuple[str, ...]) -> tuple[str, ...]:
    """The lines of the pointers up to the pointer, by stage."""
    labels = map(stage_label, range(STAGE_COUNT), names)
    return tuple(
        f"  Stage {stage} ({label:<{LABEL_WIDTH}}): " for stage, label in enumerate(labels)
    )


def _latencies(echo: Echo, path: int, total_ns: int | None) -> list[str]:
    heads = _segment_heads(echo.names)
    lines = [
        f"{heads[segment.first]}{_microseconds(segment.latency_ns)}"
        for segment in echo.segments(path)
    ]
    total = f"  Total Path {path}: {_microseconds(total_ns)}"
    return [f"Path {path} Latencies (us):", *lines, total, ""]


@lru_cache(maxsize=8)
def _segment_heads(names: tuple[str, ...]) -> tuple[str, ...]:
    """The lines of the segments up to the latency, by first stage."""
    labels = [f"{stage_label(stage, name):<{_SEGMENT_WIDTH}}" for stage, name in enumerate(names)]
    return tuple(
        f"  [{stage}->{stage + 1}] {labels[stage]} -> {labels[stage + 1]} : "
        for stage in range(STAGE_COUNT - 1)
    )


def _microseconds(elapsed_ns: int | None) -> str:
    return f"{_ABSENT:>7}" if elapsed_ns is None else f"{elapsed_ns / 1000:7.3f} us"


def _rtt_span(echo: Echo) -> str:
    """Says where the figure begins and ends, unless at the first and last stage."""
    if echo.rtt_ns is None:
        return ""
    first, last = echo.rtt_from_stage, echo.last_stage
    words = []
    if first != 0:
        words.append(f"from stage {first}, {echo.names[first]}")
    if last != STAGE_COUNT - 1:
        words.append(f"to stage {last}, {echo.names[last]}")
    return f" ({', '.join(words)})" if words else ""


@lru_cache(maxsize=1024)
def _address(address: Address) -> str:
    return str(address)


def _local_time(wall_ns: int) -> str:
    seconds, rest_ns = divmod(wall_ns, 1_000_000_000)
    return f"{_local_second(seconds)}.{rest_ns // 1_000_000:03d}"


@lru_cache(maxsize=8)
def _local_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
