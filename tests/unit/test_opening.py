# SPDX-License-Identifier: GPL-2.0-only
"""What a start reads first: both halves, whoever fails and whenever."""

import threading
from types import SimpleNamespace

import pytest

from icmp_rtt import loader, opening
from icmp_rtt.errors import ObjectError, RequirementError
from icmp_rtt.kernel import facts as kernel_facts
from icmp_rtt.kernel import libbpf
from icmp_rtt.options import Options


class FakeLoader:
    """Counts how often it is closed."""

    closed = 0

    def close(self):
        self.closed += 1


class FakeListing:
    """Of no kernel; those made are kept."""

    made = []

    def __init__(self, symbols, functions):
        assert "icmp_rcv" in functions
        self.symbols, self.waited = symbols, 0
        self.made.append(self)

    def wait(self):
        self.waited += 1


FACTS, LOADER = object(), FakeLoader()


@pytest.fixture(autouse=True)
def host(monkeypatch):
    """A host whose kernel and object are read at once; what it is made of can be changed."""
    calls = SimpleNamespace(facts=lambda: FACTS, loader=lambda: LOADER, libbpf=object, threads=[])

    def read_facts(*_):
        calls.threads.append(threading.current_thread())
        return calls.facts()

    monkeypatch.setattr(opening, "check_privileges", lambda: None)
    monkeypatch.setattr(opening, "Listing", FakeListing)
    monkeypatch.setattr(libbpf, "Libbpf", lambda *_: calls.libbpf())
    monkeypatch.setattr(kernel_facts, "read_facts", read_facts)
    monkeypatch.setattr(loader, "open_loader", lambda *_: calls.loader())
    return calls


def raising(error):
    """A function that raises it."""

    def fail():
        raise error

    return fail


def read():
    """Both halves."""
    with opening.opening(Options(self_test=False)) as opened:
        return opened.read()


def test_both_at_once(host):
    """The kernel is read by another thread, while the block goes on."""
    begun, go_on = threading.Event(), threading.Event()

    def facts():
        begun.set()
        assert go_on.wait(60)
        return FACTS

    host.facts = facts
    with opening.opening(Options(self_test=False)) as opened:
        assert begun.wait(60)
        assert opened.loopback is None
        go_on.set()
        assert opened.read() == (LOADER, FACTS)
        closed = LOADER.closed
    assert LOADER.closed == closed + 1
    assert threading.main_thread() not in host.threads


def test_a_loader_that_fails_waits_for_the_facts(host):
    """What is closed after an error must not be in use any more."""
    ended = []
    failed = threading.Event()

    def facts():
        assert failed.wait(60)
        ended.append("facts")
        return FACTS

    def fail():
        failed.set()
        raise ObjectError("no good")

    host.facts, host.loader = facts, fail
    with pytest.raises(ObjectError), opening.opening(Options(self_test=False)) as opened:
        try:
            opened.read()
        finally:
            assert ended == ["facts"]
            assert FakeListing.made[-1].waited


@pytest.mark.parametrize("half", ["facts", "loader"])
def test_either_half_may_fail(host, half):
    """Its error is the reader's."""
    setattr(host, half, raising(ObjectError("no good")))
    with opening.opening(Options(self_test=False)) as opened:
        with pytest.raises(ObjectError, match="no good"):
            opened.read()
        assert FakeListing.made[-1].waited == 1
    assert FakeListing.made[-1].waited == 2  # whatever the block was


def test_a_btf_file_that_will_not_do_is_told_as_that(host):
    """libbpf, given it as well, finds fault with the object."""
    host.facts = raising(ObjectError("no BTF"))
    host.loader = raising(ObjectError("no object"))
    for btf, told in (("/x/btf", "no BTF"), (None, "no object")):
        options = Options(self_test=False, btf=btf)
        with pytest.raises(ObjectError, match=told), opening.opening(options) as opened:
            opened.read()


def test_no_thread_to_be_had(host, monkeypatch):
    """Then one after the other."""
    no_thread = raising(RuntimeError("can't start new thread"))
    monkeypatch.setattr(threading.Thread, "start", lambda _: no_thread())
    assert read() == (LOADER, FACTS)
    assert host.threads == [threading.main_thread()]


def test_a_block_that_fails_leaves_no_thread_behind(host):
    """It is waited for."""
    with pytest.raises(KeyboardInterrupt), opening.opening(Options(self_test=False)):
        raise KeyboardInterrupt
    (thread,) = host.threads
    assert not thread.is_alive()


def test_without_libbpf_nothing_is_left_behind(host, monkeypatch):
    """The look into kallsyms, which has begun by then, is waited for; its file is closed."""
    closed = []
    host.libbpf = raising(RequirementError("libbpf missing"))
    monkeypatch.setattr(
        opening.Symbols, "close", lambda _: closed.append(FakeListing.made[0].waited)
    )
    FakeListing.made.clear()
    with pytest.raises(RequirementError, match="libbpf"):
        read()
    assert (closed, host.threads) == ([1], [])


def test_privileges_come_first(host, monkeypatch):
    """Nothing is begun without."""
    monkeypatch.setattr(opening, "check_privileges", raising(RequirementError("CAP_BPF missing")))
    with pytest.raises(RequirementError, match="CAP_BPF"):
        read()
    assert host.threads == []
