# SPDX-License-Identifier: GPL-2.0-only
"""Reports on their way to readers of all sorts."""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time

import pytest
from test_cli import start

from icmp_rtt import stdout
from icmp_rtt.signals import Signals
from icmp_rtt.stdout import Stdout, StdoutError

LOST = (
    "stdout's reader takes nothing: the last reports and the summary are lost;"
    " let it go on, or end it first"
)


@contextlib.contextmanager
def piped():
    """Stdout is a pipe; its reading end. No fixture: pytest sets stdout after those."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", file)
        yield reading
    os.close(reading)


def full(writing):
    """Wait until nothing more goes into a pipe."""
    poll = select.poll()
    poll.register(writing, select.POLLOUT)
    deadline = time.monotonic() + 10
    while poll.poll(0):
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("openable", [True, False])
@pytest.mark.parametrize("blocking", [True, False])
def test_slow_reader_gets_everything(monkeypatch, blocking, openable):
    """However long the text, however the pipe was set, and whether it can be opened again."""
    if not openable:
        monkeypatch.setattr(stdout.stat, "S_ISFIFO", lambda mode: False)
    monkeypatch.setattr(stdout, "_STEP_MS", 1)
    signals = Signals()
    signals.number = signal.SIGTERM
    text = "".join(f"{number}\n" for number in range(60_000))
    read = []

    def reader():
        while sum(map(len, read)) < len(text):
            time.sleep(0.003)  # longer than one step of the wait for room
            read.append(os.read(pipe, 50_000))

    with piped() as pipe:
        os.set_blocking(sys.stdout.fileno(), blocking)
        thread = threading.Thread(target=reader, daemon=True)
        thread.start()
        Stdout(signals).write(text)
        thread.join(10)
    assert b"".join(read).decode() == text


def test_a_report_is_not_torn_by_another_writer():
    """A command that is traced writes to the same pipe; its lines come between reports."""
    report, line = "r" * 1500 + "\n", b"the command's own\n"
    read, done = [], threading.Event()

    def reader():
        while data := os.read(pipe, 3000):
            time.sleep(0.0005)
            read.append(data)

    def other(descriptor):
        while not done.is_set():
            os.write(descriptor, line)

    with piped() as pipe:
        threads = [
            threading.Thread(target=reader),
            threading.Thread(target=other, args=[sys.stdout.fileno()]),
        ]
        for thread in threads:
            thread.start()
        way_out = Stdout()
        for _ in range(10):
            way_out.write(*[report] * 64)
        done.set()
        threads[1].join()
        os.close(way_out._descriptor)
        sys.stdout.close()
        threads[0].join()
    lines = b"".join(read).splitlines(keepends=True)
    assert set(lines) == {report.encode(), line}
    assert lines.count(report.encode()) == 640


def test_reader_of_a_socket_that_goes(monkeypatch):
    """It is noticed as that of a pipe is, though nothing is to be written."""
    ours, theirs = socket.socketpair()
    with ours, os.fdopen(os.dup(ours.fileno()), "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        way_out = Stdout()
        way_out.check_reader()
        theirs.close()
        with pytest.raises(StdoutError, match="^stdout was closed by its reader$"):
            way_out.check_reader()


@pytest.mark.parametrize("told", ["number", "due_ns"])
@pytest.mark.parametrize("openable", [True, False])
def test_stopped_reader_is_not_waited_for_once_it_is_time_to_end(monkeypatch, openable, told):
    """After a signal or --duration, and some time; what follows goes nowhere, and does not wait."""
    if not openable:
        monkeypatch.setattr(stdout.stat, "S_ISFIFO", lambda mode: False)
    monkeypatch.setattr(stdout, "_STEP_MS", 10)
    monkeypatch.setattr(stdout, "_GRACE_NS", 100_000_000)
    signals = Signals()
    with piped():
        begin = time.monotonic()
        threading.Timer(0.1, lambda: setattr(signals, told, signal.SIGINT)).start()
        with pytest.raises(StdoutError) as caught:
            Stdout(signals).write("x" * 1_000_000)
        assert 0.2 <= time.monotonic() - begin < 5
        sys.stdout.write("y" * 1_000_000)
        sys.stdout.flush()
    assert str(caught.value) == LOST


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_stdout_is_blocked(number):
    """The whole command, whose reader does not begin to read; one batch is more than a pipe holds."""
    reading, writing = os.pipe()
    with start("--format", "json", batches="[record()] * 64", stdout=writing) as process:
        full(writing)
        process.send_signal(number)
        assert process.stderr.read() == f"icmp-rtt: {LOST}\n"
    assert process.returncode == 1
    os.close(reading)
    os.close(writing)


def test_reader_gone_where_there_is_no_dev(monkeypatch):
    """It is told all the same."""
    monkeypatch.setattr(stdout.os, "devnull", "/nonexistent/null")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", file)
        with pytest.raises(StdoutError, match="closed by its reader"):
            Stdout().write("report")
