# SPDX-License-Identifier: GPL-2.0-only
"""Figures out of what a guest measured, and the goals for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import programs

__all__ = ("FIGURES", "Figure")

# Any contender's part of a guest's result.
Result = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A row of the table.

    Attributes:
        of: the figure of a contender, None where it has none.
        goals: at most so much, by the beginning of a kernel's release.
    """

    title: str
    of: Callable[[Result], float | None]
    goals: dict[str, int]

    def goal(self, kernel: str) -> int | None:
        """The goal on a kernel, if there is one."""
        return next(
            (limit for release, limit in self.goals.items() if kernel.startswith(release)), None
        )


def _cost(work: str) -> Callable[[Result], float | None]:
    """Instructions per unit of work, of all programs."""

    def of(result: Result) -> float | None:
        found = result["work"].get(work)
        return None if found is None else sum(each["time_ns"] for each in found["programs"])

    return of


def _cost_of_side(work: str, side: str) -> Callable[[Result], float | None]:
    """Instructions per packet that passes the programs of one side.

    These are not all packets: some are merged while they pass the sending side.
    """

    def of(result: Result) -> float | None:
        found = [
            each
            for each in result["work"][work]["programs"]
            if programs.side_of(each["name"]) == side
        ]
        passed = max((each["runs"] for each in found), default=0)
        return sum(each["time_ns"] for each in found) / passed if passed else None

    return of


def _runs(result: Result) -> float:
    return sum(each["runs"] for each in result["work"]["match"]["programs"])


def _reports(result: Result) -> float | None:
    reports: float | None = result["reports"]
    return reports


def _ready_ms(result: Result) -> float | None:
    ready: float | None = result["ready_ms"]
    return ready


def _resident_mib(result: Result) -> float | None:
    return None if result["resident_kib"] is None else result["resident_kib"] / 1024


FIGURES = (
    Figure("matching echo", _cost("match"), {"6.1.": 4200}),
    Figure("  program runs for it", _runs, {}),
    Figure("  reported of 1,000", _reports, {}),
    Figure("  with stacks", _cost("match, stacks"), {}),
    Figure("echo to another address", _cost("other"), {"6.1.": 1700}),
    Figure("TCP packet out", _cost_of_side("tcp", "out"), {"6.1.": 200}),
    Figure("TCP packet in", _cost_of_side("tcp", "in"), {"6.1.": 280, "7.2.": 200}),
    Figure("UDP packet out", _cost_of_side("udp", "out"), {}),
    Figure("UDP packet in", _cost_of_side("udp", "in"), {}),
    Figure("processor ms until ready", _ready_ms, {}),
    Figure("resident memory, MiB", _resident_mib, {}),
)
