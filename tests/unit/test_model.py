# SPDX-License-Identifier: GPL-2.0-only
"""Arithmetic on an echo's times."""

import pytest
from samples import BASE_NS, guide_echo

from icmp_rtt.model import Segment, path_of_stage, stage_of_hook


def seen(*stages, **changes):
    """The guide's echo with these stages alone."""
    echo = guide_echo()
    return echo._replace(stamps=tuple(echo.stamps[stage] for stage in stages), **changes)


def test_stages_by_direction():
    """A hook is another stage for an echo that comes in than for one that goes out."""
    assert [stage_of_hook(hook, "tx") for hook in range(6)] == [0, 1, 2, 3, 4, 5]
    assert [stage_of_hook(hook, "rx") for hook in range(6)] == [3, 4, 5, 0, 1, 2]
    assert [path_of_stage(stage) for stage in range(6)] == [1, 1, 1, 2, 2, 2]


def test_whole_echo():
    """The parts of an echo that was seen at all stages add up to its round trip."""
    echo = guide_echo()
    assert (echo.path1_ns, echo.inter_path_ns, echo.path2_ns) == (35_801, 1_000_000, 12_690)
    assert echo.rtt_ns == 1_048_491 == echo.path1_ns + echo.inter_path_ns + echo.path2_ns
    assert (echo.rtt_from_stage, echo.last_stage, echo.first_ts_ns) == (0, 5, BASE_NS)
    assert echo.segments(1) == (Segment(0, 1, 12_345), Segment(1, 2, 23_456))
    assert echo.segments(2) == (Segment(3, 4, 8_123), Segment(4, 5, 4_567))


@pytest.mark.parametrize(
    ("stages", "path1_ns", "inter_path_ns", "path2_ns", "rtt_ns"),
    [
        ((1, 2, 3, 4, 5), None, 1_000_000, 12_690, 1_036_146),
        ((2, 3), None, 1_000_000, None, 1_000_000),
        ((0, 1, 3, 4, 5), None, None, 12_690, 1_048_491),
        ((0, 1, 2, 4, 5), 35_801, None, None, 1_048_491),
        ((0, 2, 3, 5), 35_801, 1_000_000, 12_690, 1_048_491),
        ((3,), None, None, None, None),
        ((3, 4, 5), None, None, 12_690, None),
        ((0, 1, 2), 35_801, None, None, None),
    ],
)
def test_stages_not_seen(stages, path1_ns, inter_path_ns, path2_ns, rtt_ns):
    """A figure that lacks one of its ends is absent, and the round trip says where it begins.

    What lacks a whole path is no round trip.
    """
    echo = seen(*stages)
    figures = (echo.path1_ns, echo.inter_path_ns, echo.path2_ns, echo.rtt_ns)
    assert figures == (path1_ns, inter_path_ns, path2_ns, rtt_ns)
    assert (echo.rtt_from_stage, echo.last_stage) == (stages[0], stages[-1])


def test_segments_need_neighbours():
    """A latency is never taken across a stage that was not seen."""
    echo = seen(0, 2, 3, 4)
    assert echo.segments(1) == (Segment(0, 1, None), Segment(1, 2, None))
    assert echo.segments(2) == (Segment(3, 4, 8_123), Segment(4, 5, None))


def test_incomplete_has_no_round_trip():
    """However far an incomplete echo came, it has no round trip time."""
    assert seen(0, 1, 2, 3, 4, 5, outcome="incomplete").rtt_ns is None


@pytest.mark.parametrize(
    "echo",
    [
        guide_echo(),
        guide_echo()._replace(ambiguous=True),
        guide_echo()._replace(outcome="incomplete"),
        seen(1, 2, 3, 4, 5),
        seen(3),
    ],
)
def test_spans_at_once(echo):
    """All four figures at once are the same as one by one."""
    one_by_one = (echo.path1_ns, echo.inter_path_ns, echo.path2_ns, echo.rtt_ns)
    assert echo.spans_ns == one_by_one
