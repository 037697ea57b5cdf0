# SPDX-License-Identifier: GPL-2.0-only
"""Signals as wishes."""

import ctypes
import os
import signal
import sys

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


def test_second_signal_interrupts():
    """Whoever does not want to wait asks twice."""
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert signals.number == signal.SIGTERM


def test_second_signal_in_a_callback():
    """Nothing that C calls can raise: it is known afterwards, and no traceback is shown."""
    twice = ctypes.CFUNCTYPE(None)(lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in "12"])
    with Signals() as signals:
        twice()
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
