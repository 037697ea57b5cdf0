# SPDX-License-Identifier: GPL-2.0-only
"""Signals as wishes."""

import os
import signal

import pytest

from icmp_rtt.signals import Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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


def test_everything_as_before():
    """Afterwards, signals mean what they meant before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    with Signals():
        assert all(signal.getsignal(n) != old for n, old in zip(numbers, before))
    assert [signal.getsignal(number) for number in numbers] == before
