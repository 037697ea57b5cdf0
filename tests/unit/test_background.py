# SPDX-License-Identifier: GPL-2.0-only
"""Work beside other work: its result, its error, and no thread to be had for it."""

import threading

import pytest

from icmp_rtt.background import Background


def test_it_goes_on_beside_its_caller():
    """The result is waited for."""
    go_on = threading.Event()

    def work():
        assert go_on.wait(60)
        return threading.current_thread()

    begun = Background(work, "test")
    go_on.set()
    thread = begun.result()
    assert thread.name == "icmp-rtt test"
    assert thread is not threading.main_thread()
    assert not thread.is_alive()


def test_what_it_raises_is_raised_for_the_result():
    """To wait for it is no question."""

    def fail():
        raise ValueError("no good")

    begun = Background(fail, "test")
    begun.wait()
    for _ in range(2):
        with pytest.raises(ValueError, match="no good"):
            begun.result()


def test_no_thread_to_be_had(monkeypatch):
    """It is over when it has begun."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    begun = Background(threading.current_thread, "test")
    begun.wait()
    assert begun.result() is threading.main_thread()
