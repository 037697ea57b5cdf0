# SPDX-License-Identifier: GPL-2.0-only
"""The command that a run is about: its start, its end, and its status."""

import os
import signal
import time

import pytest

from icmp_rtt import command
from icmp_rtt.command import Command, CommandError
from icmp_rtt.errors import IcmpRttError


@pytest.fixture(autouse=True)
def sigint():
    """As in a shell's foreground: what it runs in the background inherits SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def wait(child):
    """The exit status, once there is one."""
    deadline = time.monotonic() + 10
    while (status := child.exit_status()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return status


def shell(script):
    """A shell that runs a script."""
    return Command(("sh", "-c", script))


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143), ("kill -KILL $$", 137)],
)
def test_status(script, status):
    """The status is the one a shell would give."""
    with shell(script) as child:
        assert wait(child) == status
        assert child.exit_status() == status


@pytest.mark.parametrize(
    ("word", "status", "cause"),
    [("/nonexistent/x", 127, "no such file or directory"), ("/dev/null", 126, "permission denied")],
)
def test_cannot_start(word, status, cause):
    """A command that cannot be started is named, with the status a shell would give."""
    with pytest.raises(CommandError) as caught, Command((word,)):
        pass
    assert str(caught.value) == f"cannot run {word!r}: {cause}"
    assert caught.value.exit_status == status


def test_interrupt():
    """An interrupt ends the command as Ctrl-C would."""
    with shell("exec sleep 10") as child:
        assert child.exit_status() is None
        child.interrupt()
        assert wait(child) == 130


def test_a_stopped_command_ends():
    """What is stopped takes no signal but the one that lets it go on."""
    with shell("kill -STOP $$; sleep 1000") as child:
        os.waitid(os.P_PID, child._pid, os.WSTOPPED | os.WNOWAIT)
        child.interrupt()
        assert wait(child) == 128 + signal.SIGINT


def test_a_command_of_another_user_is_told(monkeypatch):
    """What may not be ended is an error with a remedy, and left alone at the end."""
    real = os.kill

    def kill(pid, number):
        raise PermissionError(1, "Operation not permitted")

    with shell("exec sleep 10") as child:
        monkeypatch.setattr(os, "kill", kill)
        with pytest.raises(IcmpRttError, match="cannot end 'sh', .*CAP_KILL"):
            child.interrupt()
    real(child._pid, signal.SIGKILL)
    assert wait(child) == 137


def test_pass_on_sigterm():
    """SIGTERM is passed on at once."""
    with shell("exec sleep 10") as child:
        child.pass_on(signal.SIGTERM)
        assert wait(child) == 143


def test_pass_on_sigint_after_grace(monkeypatch):
    """SIGINT is passed on only if the command does not end by itself in time."""
    monkeypatch.setattr(command, "_GRACE_NS", 20_000_000)
    with shell("exec sleep 10") as child:
        begin = time.monotonic()
        child.pass_on(signal.SIGINT)
        assert wait(child) == 130
        assert time.monotonic() - begin >= 0.02


def test_a_sigint_that_is_not_heeded_is_followed_by_sigterm(tmp_path, monkeypatch):
    """As after an interrupt: the run is to end."""
    monkeypatch.setattr(command, "_GRACE_NS", 20_000_000)
    monkeypatch.setattr(command, "_PATIENCE_NS", 100_000_000)
    deaf = tmp_path / "deaf"
    with shell(f"trap '' INT; echo $$ >{deaf}; exec sleep 10") as child:
        started(deaf)
        begin = time.monotonic()
        child.pass_on(signal.SIGINT)
        assert wait(child) == 143
        assert time.monotonic() - begin >= 0.12


def gone(path):
    """Whether the process whose number is in the file has ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{int(path.read_text())}/stat", "rb") as file:
                if file.read().rpartition(b")")[2].split()[0] == b"Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.002)
    return False


def started(path):
    """Wait until a script has written a number there."""
    deadline = time.monotonic() + 10
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.002)


# A shell that waits for its child, as one does that runs a ping.
WAITING = "sh -c 'echo $$ >{pid}; exec sleep 100'; exit 7"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_the_command_started_is_told_too(tmp_path, monkeypatch, number):
    """A shell does not end before its child does; neither is left running."""
    monkeypatch.setattr(command, "_GRACE_NS", 0)
    pid = tmp_path / "pid"
    with shell(WAITING.format(pid=pid)) as child:
        started(pid)
        child.pass_on(number)
        assert wait(child) == 128 + number
    assert gone(pid)


def test_terminated_after_the_interrupt(tmp_path, monkeypatch):
    """A script that goes on after an interrupted child is ended a while later, child and all."""
    monkeypatch.setattr(command, "_PATIENCE_NS", 100_000_000)
    pid = tmp_path / "pid"
    with shell(f"trap '' INT; {WAITING.format(pid=pid)}") as child:
        started(pid)
        begin = time.monotonic()
        child.interrupt()
        assert wait(child) == 143
        assert time.monotonic() - begin >= 0.1
    assert gone(pid)


@pytest.mark.parametrize("by", ["interrupt", "terminal", "signal"])
def test_what_does_not_heed_the_interrupt_ends_with_the_command(tmp_path, by):
    """A shell without a terminal has its background jobs ignore it, and dies of it itself."""
    pid = tmp_path / "pid"
    with shell(f"sleep 100 & echo $! >{pid}; wait") as child:
        started(pid)
        if by == "interrupt":
            child.interrupt()
        else:
            child.pass_on(signal.SIGINT)
        if by == "terminal":  # which tells the shell as well
            os.kill(child._pid, signal.SIGINT)
        assert wait(child) == 130
    assert gone(pid)


def test_numbers_of_another_namespace_are_not_signalled(monkeypatch):
    """Where /proc is of one, they are other processes'."""
    monkeypatch.setattr(command.os, "readlink", lambda path: "1")
    assert command._descendants(os.getppid()) == []


def test_no_child_left_running():
    """Leaving the context ends a command that still runs."""
    with shell("exec sleep 10") as child:
        pass
    assert wait(child) == 143


def test_pipe_signal_is_back():
    """The command dies of a closed pipe as it should: Python's own setting is not inherited."""
    with shell("kill -PIPE $$; exit 0") as child:
        assert wait(child) == 141
