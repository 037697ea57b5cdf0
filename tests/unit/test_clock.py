# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own clock, inside and outside of time namespaces."""

import time

import pytest

from icmp_rtt import clock


@pytest.fixture(autouse=True)
def forgetful():
    """The offset is read once for a process."""
    clock._offset_ns.cache_clear()
    yield
    clock._offset_ns.cache_clear()


def test_without_a_time_namespace():
    """It is Python's."""
    before_ns = time.monotonic_ns()
    assert before_ns <= clock.kernel_ns() <= time.monotonic_ns()


@pytest.mark.parametrize(
    ("lines", "offset_ns"),
    [
        ("monotonic           0         0\nboottime            0         0\n", 0),
        ("monotonic      100000         5\nboottime       100000         0\n", 100_000_000_000_005),
        ("monotonic      -10000 999999999\nboottime            0         0\n", -9_999_000_000_001),
        ("1 7 0\n7 8 0\n", 7_000_000_000),
        ("boottime 8 0\n", 0),
        ("not at all\nlike that one\n", 0),
        (None, 0),
    ],
)
def test_offsets(tmp_path, monkeypatch, lines, offset_ns):
    """They are taken off; without the file there are none."""
    path = tmp_path / "timens_offsets"
    if lines is not None:
        path.write_text(lines)
    monkeypatch.setattr(clock, "_OFFSETS", str(path))
    monkeypatch.setattr(time, "monotonic_ns", lambda: 1_000)
    assert clock.kernel_ns() == 1_000 - offset_ns
