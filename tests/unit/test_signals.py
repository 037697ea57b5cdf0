# SPDX-License-Identifier: GPL-2.0-only
"""Signals as wishes."""

import ctypes
import os
import signal
import sys
import time

import pytest

from icmp_rtt.signals import Signals


@pytest.fixture(autouse=True)
def sighup():
    """As without nohup, which may be what runs these tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_first_signal_is_remembered(number):
    """The first signal does nothing but be known."""
    with Signals() as signals:
        assert signals.number is None
        os.kill(os.getpid(), number)
        assert signals.number == number


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test sets it, in nanoseconds."""
    now = [10**12]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    return now


def test_second_signal_interrupts(clock):
    """Whoever does not want to wait asks twice."""
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        clock[0] += 500_000_000
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert signals.number == signal.SIGTERM


def test_one_wish_as_several_signals(clock):
    """So timeout(1) and closing terminals have it: the run goes on to its summary."""
    with Signals() as signals:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
            clock[0] += 249_999_999
        assert signals.number == signal.SIGTERM


def test_sighup_interrupts_nothing(clock):
    """However often and late it comes, as from systemd after SIGTERM."""
    with Signals() as signals:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
            clock[0] += 10**9
        assert signals.number == signal.SIGHUP


def test_second_signal_in_a_callback(clock):
    """Nothing that C calls can raise: it is known afterwards, and no traceback is shown."""

    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        clock[0] += 10**9
        os.kill(os.getpid(), signal.SIGINT)

    with Signals() as signals:
        ctypes.CFUNCTYPE(None)(twice)()
        assert signals.swallowed


def test_other_exceptions_in_callbacks_are_shown(monkeypatch):
    """They are whoever's that watched for them before."""
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: shown.append(lost.exc_type))
    with Signals() as signals:
        ctypes.CFUNCTYPE(None)(lambda: 1 // 0)()
    assert (shown, signals.swallowed) == ([ZeroDivisionError], False)


def test_nohup():
    """SIGHUP stays ignored where it was."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Signals():
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_everything_as_before():
    """Afterwards, signals mean what they meant before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
    before = [*map(signal.getsignal, numbers), sys.unraisablehook]
    with Signals():
        assert all(signal.getsignal(n) != old for n, old in zip(numbers, before))
    assert [*map(signal.getsignal, numbers), sys.unraisablehook] == before


def test_for_good():
    """The status of a process that has ended well is not to become a signal's."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        with Signals(for_good=True):
            pass
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_IGN] * 3
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    with pytest.raises(ValueError), Signals(for_good=True):
        raise ValueError
    assert [signal.getsignal(number) for number in numbers] == list(before.values())
