# SPDX-License-Identifier: GPL-2.0-only
"""When a tracer gives sessions up, and what is imported meanwhile: without a kernel."""

import threading
from types import SimpleNamespace

import pytest

from icmp_rtt import tracer
from icmp_rtt.errors import RequirementError
from icmp_rtt.options import Options

SECOND_NS = 1_000_000_000
WHOLE = SimpleNamespace(delivers=True, awaits_icmp=True)


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


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(1, "Operation not permitted"), "operation not permitted"),
        (RequirementError("cannot read /proc/self/status: mount /proc"), "cannot read /proc/self"),
    ],
)
def test_privileges_that_cannot_be_given_up(monkeypatch, error, said):
    """The run goes on, with a warning."""

    def fail(*_):
        raise error

    monkeypatch.setattr(tracer, "give_up_privileges", fail)
    warned = []
    made = tracer.Tracer(SimpleNamespace(symbols=None), Options(), warned.append, lambda: None)
    made.give_up_privileges(command=True)
    assert len(warned) == 1 and warned[0].startswith(f"privileges are kept: {said}")


RAW = {
    "requests": 100,
    "complete": 60,
    "expired": 5,
    "in_flight": 4,
    "restarted": 3,
    "restarted_lost": 1,
    "refused": 8,
    "reported": 40,
    "below_threshold": 12,
    "unasked": 5,
    "events_lost": 3,
    "other_interface": 20,
    "skipped": 2,
    "duplicate_replies": 0,
    "late_replies": 0,
    "unmatched_replies": 0,
    "icmp_errors": 0,
    "drops": 0,
}


@pytest.fixture
def tracing(monkeypatch):
    """A tracer whose kernel has counted RAW, and tells of no misses itself."""
    kernel = SimpleNamespace(tells_kprobes=True)
    monkeypatch.setattr(tracer.Tracer, "_kernel", kernel)
    made = tracer.Tracer(SimpleNamespace(symbols=None), Options(), print, lambda: None)
    made._misses = None
    made._object = SimpleNamespace(maps={"cpus": None})
    made._counters = SimpleNamespace(sums=lambda cpus: dict(RAW))
    made._survey = SimpleNamespace(plan=WHOLE, drops_unseen=None)
    return made


def test_what_the_kernel_counted_adds_up(tracing):
    """A request on another interface is none; what came while probes went is under way."""
    tracing._cut_off = 7
    counted = tracing.counters()
    assert {name: counted[name] for name in ("requests", "incomplete", "in_flight")} == {
        "requests": 80,
        "incomplete": 8,
        "in_flight": 11,
    }
    assert (counted["complete"], counted["replies"], counted["reported"]) == (53, 53, 33)
    assert (counted["probe_misses"], counted["incomplete_lost"]) == (2, 1)
    ends = ("complete", "incomplete", "in_flight", "refused")
    assert counted["requests"] == sum(counted[name] for name in ends)
    told = ("reported", "below_threshold", "unasked", "events_lost")
    assert counted["complete"] == sum(counted[name] for name in told)


def test_what_no_probe_sees_is_not_zero(tracing):
    """With tracepoints alone nobody sees what ICMP is handed; replies nor where one family does."""
    replies = ("duplicate_replies", "late_replies", "unmatched_replies")
    names = (*replies, "icmp_errors", "drops")
    assert [tracing.counters()[name] for name in names] == [0] * 5
    for whole, errors in ((False, 0), (True, None)):
        plan = SimpleNamespace(delivers=not whole, awaits_icmp=False)
        tracing._survey = SimpleNamespace(plan=plan, drops_unseen=None)
        assert [tracing.counters()[name] for name in names] == [None] * 3 + [errors, 0]
    tracing._survey = SimpleNamespace(plan=WHOLE, drops_unseen="refused")
    assert [tracing.counters()[name] for name in names] == [0] * 4 + [None]


def test_what_comes_while_probes_go_is_cut_off(tracing, monkeypatch):
    """It may lack stages: it is not reported, and counts as under way."""
    late = {b"in time": False, b"late": True}
    arriving = [[b"in time", b"late"], [b"late"], []]
    swept = []
    monkeypatch.setattr(tracing, "_sweep", lambda **how: swept.append(how))
    monkeypatch.setattr(tracing, "_count_misses", lambda: None)
    monkeypatch.setattr(tracing, "_completed_after", lambda end_ns, record: late[record])
    monkeypatch.setattr(tracing, "_checked", lambda records: records)
    tracing._links = {}
    tracing._ring = SimpleNamespace(consume=lambda: arriving.pop(0))
    assert tracing.finish() == [b"in time"]
    assert swept == [{"ending": True}, {"last_time": True, "ending": True}]
    assert tracing.counters()["in_flight"] == RAW["in_flight"] + 2


def test_what_is_given_up_comes_in_its_order(tracing, monkeypatch):
    """The sweep goes by slots; a reader expects the order in which requests were sent."""
    monkeypatch.setattr(tracing, "_sweep", lambda **how: None)
    monkeypatch.setattr(tracing, "_given_up_ns", lambda record: record[0])
    monkeypatch.setattr(tracing, "_checked", lambda records: records)
    tracing._ring = SimpleNamespace(poll=lambda timeout_ms: [b"9"], consume=lambda: [b"3", b"1"])
    assert tracing.poll(0) == [b"9", b"1", b"3"]


def start(monkeypatch, import_rest, survey):
    """A start whose survey is ``survey``, and refuses everything then."""

    def refuse(*_):
        survey()
        raise RequirementError("enough")

    monkeypatch.setattr(tracer, "survey", refuse)
    monkeypatch.setattr(tracer, "config_of", lambda *_: {})
    closed = SimpleNamespace(close=lambda: None)
    loader = SimpleNamespace(btf=None)
    opened = SimpleNamespace(symbols=closed, read=lambda: (loader, None), loopback=None)
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
