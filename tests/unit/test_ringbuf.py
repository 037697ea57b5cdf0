# SPDX-License-Identifier: GPL-2.0-only
"""Records leave the ring buffer in order, bounded in number, and no exception is lost."""

import ctypes
from errno import EBADF, EINTR

import pytest
from fakelib import FakeLib

from icmp_rtt.errors import LibbpfError
from icmp_rtt.kernel.ringbuf import RingBuffer


class Ring(FakeLib):
    """A library with one ring buffer, which stops when its callback says so, as libbpf does."""

    def __init__(self, *records):
        self.records, self.coming, self.freed, self.timeouts = list(records), [], [], []
        super().__init__(
            ring_buffer__new=self.new,
            ring_buffer__poll=self.wait,
            ring_buffer__consume=lambda _: self.feed(),
            ring_buffer__free=self.freed.append,
        )

    def new(self, fd, callback, context, options):
        assert fd == 5
        self.callback = callback
        return 77

    def wait(self, ring, timeout_ms):
        """The kernel doesn't wake us for what comes meanwhile: it is found afterwards."""
        self.timeouts.append(timeout_ms)
        self.records, self.coming = self.coming, []
        return 0

    def feed(self):
        count = 0
        while self.records:
            record = self.records.pop(0)
            buffer = ctypes.create_string_buffer(record, max(1, len(record)))
            code = self.callback(None, ctypes.addressof(buffer), len(record))
            if code < 0:
                return code
            count += 1
        return count


def test_records_come_in_order_as_bytes():
    """Zero bytes and empty records included; then there are none left."""
    kernel = Ring(b"one", b"\0two\0", b"")
    ring = RingBuffer(kernel, 5)
    assert ring.poll(250) == [b"one", b"\0two\0", b""]
    assert kernel.timeouts == []  # nobody waits while there is something to read
    assert ring.poll(0) == []
    kernel.coming = [b"late"]
    assert ring.poll(250) == [b"late"]
    assert kernel.timeouts == [0, 250]
    kernel.records = [b"at the end"]
    assert ring.consume() == [b"at the end"]


def test_one_call_returns_so_many_records_at_most():
    """The rest stays in the kernel, and none is lost or seen twice."""
    kernel = Ring(*(bytes([n]) for n in range(23)))
    ring = RingBuffer(kernel, 5, limit=5)
    pages = [ring.poll(0) for _ in range(6)]
    assert [len(page) for page in pages] == [5, 5, 5, 5, 3, 0]
    assert b"".join(b"".join(page) for page in pages) == bytes(range(23))


def test_an_exception_is_raised_by_the_call_that_met_it(monkeypatch):
    """What had been taken over before it comes with the next call."""
    kernel = Ring(b"one", b"two", b"three")
    ring = RingBuffer(kernel, 5)
    real = ctypes.string_at

    def fail(data, size):
        if size == 3 and real(data, size) == b"two":
            raise KeyboardInterrupt
        return real(data, size)

    monkeypatch.setattr("icmp_rtt.kernel.ringbuf.string_at", fail)
    with pytest.raises(KeyboardInterrupt):
        ring.poll(0)
    assert ring.poll(0) == [b"one", b"three"]


def test_a_signal_is_a_normal_end():
    """Records read before it are returned; without any the list is empty."""
    kernel = Ring(b"one")
    ring = RingBuffer(kernel, 5)
    kernel._functions["ring_buffer__poll"] = lambda *_: [kernel.feed(), -EINTR][1]
    assert ring.poll(1000) == [b"one"]
    assert ring.poll(1000) == []


def test_any_other_failure_is_an_error():
    """A poll that fails is not taken for silence."""
    kernel = Ring()
    kernel._functions["ring_buffer__poll"] = lambda *_: -EBADF
    with pytest.raises(LibbpfError) as caught:
        RingBuffer(kernel, 5).poll(0)
    assert caught.value.errno == EBADF


def test_it_is_freed_once():
    """A with statement and a close on top of it do no harm."""
    kernel = Ring()
    with RingBuffer(kernel, 5) as ring:
        ring.close()
    assert kernel.freed == [77]
    with pytest.raises(ValueError, match="ring buffer is closed"):
        ring.poll(0)
