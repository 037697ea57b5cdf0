# SPDX-License-Identifier: GPL-2.0-only
"""A run from its start to its summary, on a tracer that is none."""

import contextlib
import json
import os
import select
import signal
import time

import pytest
from fakes import FakeTracer
from samples import BASE_NS, TIMES_NS, number, record

from icmp_rtt.cli import main
from icmp_rtt.errors import RequirementError

ECHO = record()
OPEN = record(hooks=(0, 1, 2), outcome=number("OUTCOME_OPEN"))


@pytest.fixture
def run(capsys):
    """Runs the command on a fake tracer: exit status, stdout, stderr."""

    def run(tracer, *words):
        status = main(words, tracer)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def kill(number=signal.SIGINT, records=()):
    """A batch in the middle of which a signal arrives."""

    def batch():
        os.kill(os.getpid(), number)
        return records

    return batch


def json_lines(out):
    """All lines, parsed."""
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_cleanly(run, number):
    """A signal ends a run with everything that was seen, a summary, and status 0."""
    counters = {"requests": 4, "reported": 4}
    tracer = FakeTracer([(), [ECHO], kill(number, [ECHO, ECHO])], last=[ECHO], counters=counters)
    status, out, err = run(tracer, "--src-ip", "192.168.1.10")
    assert (status, err) == (0, "")
    gave_up = "gave up, command False"
    assert tracer.log == ["attached", gave_up, "poll", "poll", "poll", "finish", "closed"]
    assert out.startswith("=== Kernel ICMP RTT Tracer ===\n")
    assert out.count("=== ICMP RTT Trace: ") == 4
    assert out.endswith("====\n\nSummary: requests=4 reported=4\n")


def test_json(run):
    """In JSON, every line is an object: start, echoes, summary."""
    tracer = FakeTracer([[ECHO, OPEN], kill()], counters={"requests": 2})
    status, out, err = run(tracer, "--format", "json")
    assert (status, err) == (0, "")
    lines = json_lines(out)
    assert [line["type"] for line in lines] == ["start", "echo", "echo", "summary"]
    assert [line["outcome"] for line in lines[1:3]] == ["complete", "incomplete"]
    assert lines[3]["counters"] == {"requests": 2}
    seconds = time.mktime(time.strptime(lines[1]["time"][:19], "%Y-%m-%dT%H:%M:%S"))
    assert seconds > 0


def test_wall_clock_is_set_during_a_run(run, monkeypatch):
    """Reports after that are in the new time, to the second."""
    real, ahead_ns = time.time_ns, [0]
    monkeypatch.setattr(time, "time_ns", lambda: real() + ahead_ns[0])

    def set_clock():
        ahead_ns[0] = 3600 * 1_000_000_000
        return [ECHO]

    _, out, _ = run(FakeTracer([[ECHO], set_clock, kill()]), "--format", "json")
    first, second = [line["time"] for line in json_lines(out) if line["type"] == "echo"]
    seconds = [time.mktime(time.strptime(at[:19], "%Y-%m-%dT%H:%M:%S")) for at in (first, second)]
    assert 3599 <= seconds[1] - seconds[0] <= 3601


def test_nothing_reported(run):
    """A run without a report says why, by its counters."""
    tracer = FakeTracer([kill()], counters={"requests": 0, "other_address": 46})
    _, out, _ = run(tracer)
    assert out.splitlines()[-2:] == [
        "Summary: requests=0 other_address=46",
        "Nothing was reported; seen were: 46 between other addresses (--src-ip, --dst-ip).",
    ]


def test_count(run):
    """A run ends after as many reports as were asked for; the rest is counted apart."""
    counters = {"complete": 6, "reported": 6}
    tracer = FakeTracer([[ECHO], [OPEN, ECHO, ECHO]], last=[ECHO, OPEN], counters=counters)
    status, out, _ = run(tracer, "--count", "3", "--format", "json")
    lines = json_lines(out)
    assert status == 0
    assert [line["type"] for line in lines] == ["start", "echo", "echo", "echo", "summary"]
    assert lines[-1]["counters"] == {
        "complete": 6,
        "reported": 4,
        "beyond_count": 2,
        "incomplete_beyond_count": 1,
    }
    assert tracer.log.count("poll") == 2


def test_duration(run):
    """A run ends after its duration."""
    begin = time.monotonic()
    status, _, _ = run(FakeTracer(), "--duration", "0.02")
    assert status == 0
    assert 0.02 <= time.monotonic() - begin < 5


def test_options_reach_the_tracer(run):
    """What the command line says is what the tracer gets."""
    tracer = FakeTracer([kill()])
    run(tracer, "--backend", "kprobe", "--disable-kernel-stacks", "--direction", "both")
    options = tracer.options
    assert (options.backend, options.stacks, options.direction) == ("kprobe", False, "both")


def test_losses_and_warnings(run):
    """What was lost, and what the tracer has to say, goes to stderr."""
    tracer = FakeTracer([kill()], warnings=["no\x1b luck"], counters={"events_lost": 2})
    status, out, err = run(tracer)
    assert status == 0
    assert err.splitlines() == [
        r"icmp-rtt: warning: no\x1b luck",
        "icmp-rtt: warning: 2 complete echoes lost: the ring buffer was full, or two of one id"
        " and sequence were sent at once",
    ]
    assert "warning" not in out


@pytest.mark.parametrize("torn", [record(hooks=()), record()[:-1], b""])
def test_a_torn_record_is_counted_and_the_run_goes_on(run, torn):
    """Two CPUs that send the same request at once may leave one without stamps.

    Nor does it end with one that is no record at all.
    """
    counters = {"complete": 2, "reported": 2, "events_lost": 0, "incomplete_lost": 0}
    tracer = FakeTracer([[torn, record()], kill()], counters=counters)
    status, out, err = run(tracer, "--format", "json")
    assert status == 0
    told = json_lines(out)
    assert [line["type"] for line in told] == ["start", "echo", "summary"]
    assert (told[-1]["counters"]["reported"], told[-1]["counters"]["events_lost"]) == (1, 1)
    assert "1 complete echoes lost" in err
    tracer = FakeTracer([[torn], kill()], counters={"incomplete_lost": 1})
    tracer.completed = lambda _: False
    assert json_lines(run(tracer, "--format", "json")[1])[-1]["counters"]["incomplete_lost"] == 2


def test_reordered_replies_are_counted(run):
    """Of two requests that cross, the one that was sent first and answered last."""
    late = BASE_NS + 10 * TIMES_NS[5]
    first = record(hooks=(0, 5), extra={"ts_ns[5]": late})
    second = record(hooks=(0, 5), seq=2, extra={"ts_ns[0]": BASE_NS + 1})
    tracer = FakeTracer([[second, first], kill()], counters={"replies": 2})
    _, out, _ = run(tracer, "--format", "json")
    assert json_lines(out)[-1]["counters"]["reordered_replies"] == 1


@pytest.mark.parametrize(
    ("lost", "words"), [(0, ("--latency-ms", "0.001")), (1, ()), (1, ("--count", "1"))]
)
def test_reordered_replies_are_not_known(run, lost, words):
    """What overtook may have been too quick to be told, or lost: nobody knows how many."""
    counters = {"replies": 1, "reported": 1, "complete": 1, "events_lost": lost}
    tracer = FakeTracer([[record()], kill()], counters=counters)
    _, out, _ = run(tracer, "--format", "json", *words)
    assert json_lines(out)[-1]["counters"]["reordered_replies"] is None


def test_further_replies_are_not_counted_as_reports(run):
    """A note on a late reply is no echo that --count asked for."""
    late = record(hooks=(5,), outcome=number("OUTCOME_LATE"))
    tracer = FakeTracer([[late, ECHO, late, ECHO, ECHO, late]], counters={"reported": 3})
    status, out, _ = run(tracer, "--format", "json", "--count", "2")
    assert status == 0
    kinds = [line["type"] for line in json_lines(out)]
    assert kinds == ["start", "reply", "echo", "reply", "echo", "summary"]
    assert json_lines(out)[-1]["counters"] == {
        "reported": 2,
        "beyond_count": 1,
        "incomplete_beyond_count": 0,
    }


def test_drop_reasons_are_named(run):
    """The kernel's name of a drop reason comes from the tracer."""
    dropped = record(hooks=(0, 1), outcome=number("OUTCOME_OPEN"), drop_side=1, drop_reason=8)
    _, out, _ = run(FakeTracer([[dropped], kill()]))
    assert "(reason NETFILTER_DROP)" in out


def sh(script):
    """The words of a command."""
    return ("--", "sh", "-c", script)


def test_command_status_is_passed_on(run):
    """The tool ends when its command does, with the command's status."""
    tracer = FakeTracer()
    status, out, _ = run(tracer, *sh("exit 7"))
    assert status == 7
    assert tracer.log[-2:] == ["finish", "closed"]
    assert "Summary: " in out


def test_command_starts_after_attaching(run, tmp_path):
    """The command finds every probe attached and the start printed."""
    tracer = FakeTracer()
    mark = tmp_path / "mark"
    tracer.poll = lambda timeout_ms: time.sleep(0.001) or []
    run(tracer, *sh(f"touch {mark}"))
    assert mark.exists()
    failing = FakeTracer(fails=RequirementError("no BTF; get some"))
    mark.unlink()
    status, _, err = run(failing, *sh(f"touch {mark}"))
    assert (status, err) == (1, "icmp-rtt: no BTF; get some\n")
    assert not mark.exists()


@contextlib.contextmanager
def told(path):
    """A FIFO, and what returns True once a script has written to it."""
    os.mkfifo(path)
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as reading:
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        yield lambda: bool(poll.poll(60_000))


def test_privileges_are_given_up_after_the_start_of_a_command(run, tmp_path):
    """The command is started with what we were given, and everything after it without."""
    mark = tmp_path / "mark"
    tracer = FakeTracer()
    with told(mark) as has_begun:
        tracer.give_up_privileges = lambda command: tracer.log.append(has_begun() and command)
        run(tracer, *sh(f"echo >{mark}"))
    assert tracer.log[:2] == ["attached", True]
    tracer = FakeTracer()
    run(tracer, "--duration", "0.01")
    assert tracer.log[:3] == ["attached", "gave up, command False", "poll"]


def test_echoes_under_way_are_waited_for(run):
    """After the command's end, echoes under way still get their time, and no longer."""
    tracer = FakeTracer(in_flight=[2, 1, 0])
    before = []
    tracer.finish = lambda: before.append(tracer.log.count("poll")) or []
    status, _, _ = run(tracer, "--timeout", "100", *sh("exit 0"))
    assert status == 0
    assert tracer._in_flight == []
    stuck = FakeTracer(in_flight=[1] * 1_000_000)
    begin = time.monotonic()
    run(stuck, "--timeout", "0.02", *sh("exit 0"))
    assert 0.02 <= time.monotonic() - begin < 5
    assert stuck._in_flight


def test_last_echoes_given_up_are_reported(run):
    """What times out at the very end of the wait is found by one more poll."""
    tracer = FakeTracer(in_flight=[1] * 1_000_000)

    def poll(timeout_ms):
        if tracer.log.count("late"):
            return []
        if timeout_ms == 0:  # after the deadline
            tracer.log.append("late")
            return [OPEN]
        time.sleep(0.002)
        return []

    tracer.poll = poll
    _, out, _ = run(tracer, "--timeout", "0.03", *sh("exit 0"))
    assert out.count("Verdict: incomplete") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_the_start(run, tmp_path, number):
    """Whoever has had enough before the command began gets a summary, and no command."""
    mark = tmp_path / "mark"

    class Slow(FakeTracer):
        def __enter__(self):
            os.kill(os.getpid(), number)
            return super().__enter__()

    tracer = Slow()
    status, out, _ = run(tracer, *sh(f"touch {mark}"))
    assert status == 128 + number
    assert not mark.exists()
    assert tracer.log[-2:] == ["finish", "closed"]
    assert "Summary: " in out


def test_command_that_cannot_start(run):
    """A command that is not there is an error like any other; the run ends as ever."""
    tracer = FakeTracer()
    status, out, err = run(tracer, "--", "/nonexistent/ping")
    assert status == 127
    assert err == "icmp-rtt: cannot run '/nonexistent/ping': no such file or directory\n"
    assert "Summary: " in out
    assert tracer.log[-2:] == ["finish", "closed"]


def test_signal_is_passed_on_to_the_command(run):
    """A signal ends the command, whose status is passed on."""
    status, out, _ = run(FakeTracer([kill(signal.SIGTERM)]), *sh("exec sleep 10"))
    assert status == 143
    assert "Summary: " in out


def test_command_may_end_in_its_own_way(run, tmp_path):
    """A command that minds the signal has its say; what it does meanwhile is still traced."""
    ready = tmp_path / "ready"
    script = f"trap 'exit 5' TERM; echo >{ready}; while :; do sleep 0.01; done"

    def batch():
        assert is_ready()
        os.kill(os.getpid(), signal.SIGTERM)
        return []

    with told(ready) as is_ready:
        status, out, _ = run(FakeTracer([batch, [ECHO]]), *sh(script))
    assert status == 5
    assert out.count("=== ICMP RTT Trace: ") == 1


def test_count_ends_the_command(run):
    """Once enough was reported the command is interrupted."""
    status, _, _ = run(FakeTracer([[ECHO]]), "--count", "1", *sh("exec sleep 10"))
    assert status == 130


def test_command_that_cannot_be_ended(run, monkeypatch):
    """One of another user's, without CAP_KILL: what was traced is told all the same."""

    def refuse(pid, number):
        raise PermissionError(1, "Operation not permitted")

    tracer = FakeTracer([[ECHO]])
    with monkeypatch.context() as patch:
        patch.setattr("icmp_rtt.command.os.kill", refuse)
        status, out, err = run(tracer, "--duration", "0.01", *sh("exec sleep 0.3"))
    assert status == 1
    assert "which runs as another user: run as root, or with CAP_KILL" in err
    assert "Summary: " in out


def test_short_timeout_is_looked_after(run):
    """The tracer gives an echo up between two polls: one is not longer than a part of it."""

    class Patient(FakeTracer):
        waits = []

        def poll(self, timeout_ms):
            self.waits.append(timeout_ms)
            return super().poll(timeout_ms)

    run(Patient([[], kill()]), "--timeout", "0.02")
    assert Patient.waits == [5, 5]


def test_second_signal_does_not_wait(run, monkeypatch):
    """A command that does not mind the first signal is not waited for after the second."""
    monkeypatch.setattr("icmp_rtt.signals._ONE_WISH_NS", 0)
    tracer = FakeTracer([kill(signal.SIGTERM), kill(signal.SIGTERM)])
    status, _, _ = run(tracer, *sh("trap '' TERM; exec sleep 0.5"))
    assert status == 130
    assert tracer.log[-1] == "closed"
