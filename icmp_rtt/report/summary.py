# SPDX-License-Identifier: GPL-2.0-only
"""The counters in words: the closing line, why nothing was reported, and what was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("loss_warnings", "summary_text")

_WHY_LOST = "the ring buffer was full, or two of one id and sequence were sent at once"
# What may have kept an echo from being reported, with the option to look at.
_PASSED_OVER = (
    ("other_address", "between other addresses (--src-ip, --dst-ip)"),
    ("other_direction", "in the other direction (--direction)"),
    ("other_netns", "in another network namespace (--netns)"),
    ("other_interface", "through another interface (--interface)"),
    ("below_threshold", "complete, but faster than the threshold (--latency-ms)"),
    ("unasked", "complete, while incomplete ones alone are asked for (--only-incomplete)"),
    ("refused", "refused for want of room (--max-sessions)"),
    ("events_lost", f"complete, but lost: {_WHY_LOST}"),
    ("incomplete_lost", f"incomplete, but lost: {_WHY_LOST}"),
    ("unparsed", "with headers that could not be read in place, or end too soon"),
    ("unmatched_replies", "replies whose request was not seen"),
    ("in_flight", "still under way at the end (--timeout)"),
    ("list_truncated", "receive lists not walked to their end"),
    ("probe_misses", "probe runs missed by the kernel"),
)
_LOSSES = (
    ("events_lost", f"complete echoes lost: {_WHY_LOST}"),
    ("incomplete_lost", f"incomplete echoes lost: {_WHY_LOST}"),
    ("refused", "echoes refused: more were under way than --max-sessions has room for"),
    (
        "unparsed",
        "packets not looked at: their headers could not be read in place, or end too soon",
    ),
    ("list_truncated", "receive lists not walked to their end: echoes in them may be missing"),
    ("probe_misses", "probe runs missed by the kernel: stages or echoes may be missing"),
)


def summary_text(counters: Mapping[str, int | None], reported: int) -> str:
    """The closing line of a run, and a second one when nothing was reported.

    Args:
        counters: the tracer's final ones; all are shown, in their order. What the kernel
            does not tell is N/A.
        reported: how many echoes were reported, incomplete ones included.
    """
    figures = " ".join(
        f"{name}={'N/A' if value is None else value}" for name, value in counters.items()
    )
    lines = ["", f"Summary: {figures}"]
    if not reported:
        lines.append(_why_nothing(counters))
    return "\n".join([*lines, ""])


def loss_warnings(counters: Mapping[str, int | None]) -> list[str]:
    """One warning for each kind of loss."""
    return [f"{counters[name]} {words}" for name, words in _LOSSES if counters.get(name)]


def _why_nothing(counters: Mapping[str, int | None]) -> str:
    seen = [f"{counters[name]} {words}" for name, words in _PASSED_OVER if counters.get(name)]
    if seen:
        return f"Nothing was reported; seen were: {'; '.join(seen)}."
    return "Nothing was reported: no ICMP echo was seen at all; check that ping is running."
