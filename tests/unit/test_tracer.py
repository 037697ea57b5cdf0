# SPDX-License-Identifier: GPL-2.0-only
"""When a tracer gives sessions up, and what is imported meanwhile: without a kernel."""

import threading
from types import SimpleNamespace

import pytest

from icmp_rtt import tracer
from icmp_rtt.errors import RequirementError
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
    monkeypatch.setattr(tracer, "kernel_ns", lambda: uptime_ns)
    opened = SimpleNamespace(symbols=None)
    tracing = tracer.Tracer(opened, Options(timeout_ns=timeout_ns), print, lambda: None)
    tracing._ring = SimpleNamespace(poll=lambda timeout_ms: [], consume=list)
    tracing._object = object()
    tracing._loader = SimpleNamespace(sweep=lambda obj, oldest, *_: swept.append(oldest))
    assert tracing.poll(0) == []
    assert swept == [oldest_ns]


def start(monkeypatch, import_rest, survey):
    """A start whose survey is ``survey``, and refuses everything then."""

    def refuse(*_):
        survey()
        raise RequirementError("enough")

    monkeypatch.setattr(tracer, "survey", refuse)
    monkeypatch.setattr(tracer.Tracer, "_config", lambda *_: {})
    closed = SimpleNamespace(close=lambda: None)
    opened = SimpleNamespace(symbols=closed, read=lambda: (None, None), loopback=None)
    with pytest.raises(RequirementError, match="enough"):
        tracer.Tracer(opened, Options(), print, import_rest).__enter__()


def test_the_rest_is_imported_while_the_kernel_verifies(monkeypatch):
    """By a thread, which is waited for."""
    begun = threading.Event()
    threads = []

    def import_rest():
        threads.append(threading.current_thread())
        begun.set()

    start(monkeypatch, import_rest, lambda: begun.wait(60) or pytest.fail("not meanwhile"))
    (thread,) = threads
    assert thread is not threading.main_thread()
    assert not thread.is_alive()


def test_what_cannot_be_imported_meanwhile_is_left_for_later(monkeypatch):
    """Where it is needed the failure is told; a thread's own words would come before."""
    said = []
    monkeypatch.setattr(threading, "excepthook", said.append)

    def import_rest():
        raise MemoryError

    start(monkeypatch, import_rest, lambda: None)
    assert said == []


def test_no_thread_to_import_with(monkeypatch):
    """Then it is imported before the kernel verifies."""
    threads = []

    def no_thread(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    start(monkeypatch, lambda: threads.append(threading.current_thread()), lambda: None)
    assert threads == [threading.main_thread()]
