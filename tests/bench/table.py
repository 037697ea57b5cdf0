# SPDX-License-Identifier: GPL-2.0-only
"""The results as text."""

from __future__ import annotations

from typing import Any

from figures import FIGURES, Figure, Result

__all__ = ("flood", "kernel", "programs", "python")

# The contender that the goals are for.
_JUDGED = "fentry"
_TITLE_WIDTH = 26
_WIDTH = 16


def kernel(result: Result) -> str:
    """What a guest found: figures by contender."""
    contenders: dict[str, Result] = result["contenders"]
    lines = [
        "",
        f"Kernel {result['kernel']}: guest instructions, both ends on this kernel",
        _row("", [*contenders, "goal for fentry"]),
    ]
    lines += [_figure(figure, result["kernel"], contenders) for figure in FIGURES]
    lines += [
        f"{name} refused: {found['refused']}"
        for name, found in contenders.items()
        if "refused" in found
    ]
    return "\n".join(lines)


def programs(result: Result) -> str:
    """What a guest found: cost and runs of each program."""
    lines = []
    for name, found in result["contenders"].items():
        for work, part in found.get("work", {}).items():
            unit = part["unit"]
            lines += ["", f"{name}, {work}: {sum(part['units'])} {unit}s"]
            lines += [
                f"  {each['name']:32} {each['runs']:6.3f} runs per {unit} of"
                f" {each['time_ns'] / each['runs']:9,.1f} instructions"
                for each in part["programs"]
                if each["runs"]
            ]
    return "\n".join(lines)


def python(rates: dict[str, Any]) -> str:
    """The Python side."""
    lines = ["", "Python side: echoes a second on one core"]
    for name, rate in rates.items():
        goal = {"json": 60_000, "text": 25_000}.get(name)
        verdict = "" if goal is None else _verdict(rate >= goal, f"{goal:,} or more")
        lines.append(_row(name, [f"{rate:,.0f}", verdict]))
    return "\n".join(lines)


def flood(found: dict[str, Any]) -> str:
    """The floods, with and without the tracer, and with empty programs in its place."""
    lines = [
        "",
        f"Flood on this host's kernel, back end {found['backend']}: echoes a second, medians",
    ]
    for one in found["floods"]:
        medians, ratios = one["medians"], one["ratios"]
        lines.append(
            _row(f"ping -f, senders: {one['senders']}", [f"{medians['without']:,.0f}", ""])
        )
        lines.append(_row("  with the tracer", [f"{medians['with']:,.0f}", ""]))
        verdict = _verdict(ratios["with"] >= 0.9, "0.9 or more")
        lines.append(_row("  ratio", [f"{ratios['with']:.3f}", verdict]))
        if "floor" in ratios:
            lines.append(_row("  ratio of empty programs", [f"{ratios['floor']:.3f}", ""]))
    return "\n".join(lines)


def _figure(figure: Figure, release: str, contenders: dict[str, Result]) -> str:
    values = {
        name: "refused" if "refused" in found else _number(figure.of(found))
        for name, found in contenders.items()
    }
    goal, judged = figure.goal(release), contenders.get(_JUDGED, {})
    verdict = ""
    if goal is not None and "work" in judged:
        value = figure.of(judged)
        met = value <= goal if value and _reported_all(judged) else None
        verdict = _verdict(met, f"{goal:,} or less")
    return _row(figure.title, [*values.values(), verdict])


def _reported_all(found: Result) -> bool:
    """Whether every matching echo was reported: else its cost is not that of reporting."""
    reports: int | None = found["reports"]
    return reports == sum(found["work"]["match"]["units"])


def _verdict(met: bool | None, goal: str) -> str:
    """In words; None: it was not measured, or echoes that it is the cost of were not reported."""
    return f"{goal}: {'NOT MEASURED' if met is None else 'met' if met else 'MISSED'}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _row(title: str, cells: list[str]) -> str:
    """A line of figures, and a last cell of words."""
    *numbers, words = cells
    aligned = "".join(f"{number:>{_WIDTH}}" for number in numbers)
    return f"{title:{_TITLE_WIDTH}}{aligned}  {words}".rstrip()
