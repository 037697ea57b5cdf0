# SPDX-License-Identifier: GPL-2.0-only
"""Programs that several threads load: all of them or none, and nothing is left behind."""

import threading
from errno import EACCES

import pytest

from icmp_rtt.errors import LibbpfError
from icmp_rtt.kernel.shares import load_shares


class FakeObject:
    """Notes what is done with it; refuses to load what ``refused`` names."""

    def __init__(self, refused=()):
        self.refused = refused
        self.programs = {name: FakeProgram() for name in "abcde"}
        self.maps_of, self.taken_in, self.is_closed, self.thread = None, [], False, None

    def use_maps_of(self, other):
        self.maps_of = other

    def loaded(self):
        return [name for name, program in self.programs.items() if program.autoload]

    def load(self):
        assert self.maps_of is not None
        self.thread = threading.current_thread()
        if {*self.refused} & {*self.loaded()}:
            raise LibbpfError("bpf_object__load", EACCES, "")

    def take_in(self, other, programs):
        assert other.loaded() == list(programs)
        self.taken_in.append(other)

    def close(self):
        self.is_closed = True


class FakeProgram:
    """A program that is not loaded unless said so."""

    autoload = False

    def set_autoload(self, on):
        self.autoload = on


def opener(refused=()):
    """What opens another one, and those that it has opened."""
    opened = []

    def open_another():
        opened.append(FakeObject(refused))
        return opened[-1]

    return open_another, opened


def test_each_share_is_loaded_by_a_thread_of_its_own():
    """Into objects with the maps of the first."""
    first = FakeObject()
    open_another, opened = opener()
    load_shares(first, [["a", "c"], ["b"]], open_another)
    assert [other.loaded() for other in first.taken_in] == [["a", "c"], ["b"]]
    assert {id(other) for other in opened} == {id(other) for other in first.taken_in}
    assert all(other.maps_of is first and not other.is_closed for other in opened)
    threads = {other.thread for other in opened}
    assert len(threads) == 2
    assert threading.main_thread() not in threads


def test_without_shares_nothing_is_opened():
    """Then the object has loaded all itself."""
    first = FakeObject()
    open_another, opened = opener()
    load_shares(first, [], open_another)
    assert opened == first.taken_in == []


@pytest.mark.parametrize("refused", ["a", "b", "ab"])
def test_a_refused_share_is_closed_and_the_others_go_with_the_object(refused):
    """Nothing is loaded that nobody closes."""
    first = FakeObject()
    open_another, opened = opener(refused)
    with pytest.raises(LibbpfError) as caught:
        load_shares(first, [["a"], ["b"], ["c"]], open_another)
    assert caught.value.errno == EACCES
    assert len(opened) == 3
    for other in opened:
        assert other.is_closed != (other in first.taken_in)
        assert other.is_closed == (other.loaded()[0] in refused)


@pytest.mark.parametrize(("method", "begun"), [("join", 2), ("start", 1)])
def test_an_interrupted_start_waits_for_its_threads(monkeypatch, method, begun):
    """They are at work with maps that are closed next."""
    interrupted, go_on = [], threading.Event()
    first = FakeObject()
    open_another, opened = opener()

    def open_late():
        assert go_on.wait(60)
        return open_another()

    start, join = threading.Thread.start, threading.Thread.join

    def interrupt(thread):
        if not interrupted and thread.name == "icmp-rtt load":
            interrupted.append(thread)
            raise KeyboardInterrupt

    def start_one(thread):
        if threads:
            interrupt(thread)
        threads.append(thread)
        start(thread)

    def join_late(thread):
        if method == "join":
            interrupt(thread)
        go_on.set()
        join(thread)

    threads = []
    monkeypatch.setattr(threading.Thread, "join", join_late)
    if method == "start":
        monkeypatch.setattr(threading.Thread, "start", start_one)
    with pytest.raises(KeyboardInterrupt):
        load_shares(first, [["a"], ["b"]], open_late)
    assert len(opened) == begun
    assert all(not other.thread.is_alive() for other in opened)
