# SPDX-License-Identifier: GPL-2.0-only
"""The counters in words."""

import pytest

from icmp_rtt.report.summary import loss_warnings, summary_text


def test_every_counter_in_its_order():
    """The closing line holds every counter as the tracer orders them, and nothing else."""
    counters = {"requests": 23, "complete": 23, "a_new_one": 0}
    assert summary_text(counters, 23) == "\nSummary: requests=23 complete=23 a_new_one=0\n"


def test_what_the_kernel_does_not_tell():
    """An unknown count is neither 0 nor a loss."""
    counters = {"requests": 23, "probe_misses": None}
    assert summary_text(counters, 23) == "\nSummary: requests=23 probe_misses=N/A\n"
    assert loss_warnings(counters) == []


@pytest.mark.parametrize(
    ("counters", "words"),
    [
        ({}, "Nothing was reported: no ICMP echo was seen at all; check that ping is running."),
        (
            {"other_address": 46, "unparsed": 0},
            "Nothing was reported; seen were: 46 between other addresses (--src-ip, --dst-ip).",
        ),
        (
            {"other_interface": 2, "other_direction": 3, "below_threshold": 5, "other_netns": 7},
            "Nothing was reported; seen were: 3 in the other direction (--direction);"
            " 7 in another network namespace (--netns); 2 through another interface (--interface);"
            " 5 complete, but faster than the threshold (--latency-ms).",
        ),
        (
            {"requests": 2, "incomplete": 2, "incomplete_lost": 2},
            "Nothing was reported; seen were: 2 incomplete, but lost: the ring buffer was full,"
            " or two of one id and sequence were sent at once.",
        ),
        (
            {"probe_misses": 7},
            "Nothing was reported; seen were: 7 probe runs missed by the kernel.",
        ),
        (
            {"in_flight": 1},
            "Nothing was reported; seen were: 1 still under way at the end (--timeout).",
        ),
    ],
)
def test_why_nothing(counters, words):
    """A run without a report says what was seen instead, and which option to look at."""
    assert summary_text(counters, 0).splitlines()[-1] == words


def test_losses_are_warned_of():
    """Each kind of loss has its own warning, and what is zero has none."""
    counters = {"events_lost": 3, "refused": 0, "probe_misses": 1, "complete": 9}
    assert loss_warnings(counters) == [
        "3 complete echoes lost: the ring buffer was full, or two of one id and sequence were"
        " sent at once",
        "1 probe runs missed by the kernel: stages or echoes may be missing",
    ]
    assert loss_warnings({"complete": 9}) == []


@pytest.mark.parametrize("name", ["unparsed", "list_truncated", "refused", "incomplete_lost"])
def test_each_loss(name):
    """None of the ways to lose something is silent."""
    assert [warning.split()[0] for warning in loss_warnings({name: 41})] == ["41"]
