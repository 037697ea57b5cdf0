# SPDX-License-Identifier: GPL-2.0-only
"""When a tracer gives sessions up: by its clock, and without a kernel."""

from types import SimpleNamespace

import pytest

from icmp_rtt import tracer
from icmp_rtt.options import Options

SECOND_NS = 1_000_000_000


@pytest.mark.parametrize(
    ("uptime_ns", "timeout_ns", "oldest_ns"),
    [
        (90 * SECOND_NS, 2 * SECOND_NS, 88 * SECOND_NS),
        (90 * SECOND_NS, 90 * SECOND_NS, 0),
        (90 * SECOND_NS, 3600 * SECOND_NS, 0),
    ],
)
def test_timeout_beyond_the_uptime(monkeypatch, uptime_ns, timeout_ns, oldest_ns):
    """What began before --timeout is given up, and nothing where the machine is younger."""
    swept = []
    monkeypatch.setattr(tracer.time, "monotonic_ns", lambda: uptime_ns)
    opened = SimpleNamespace(symbols=None)
    tracing = tracer.Tracer(opened, Options(timeout_ns=timeout_ns), print)
    tracing._ring = SimpleNamespace(poll=lambda timeout_ms: [], consume=list)
    tracing._object = object()
    tracing._loader = SimpleNamespace(sweep=lambda obj, oldest, *_: swept.append(oldest))
    assert tracing.poll(0) == []
    assert swept == [oldest_ns]
