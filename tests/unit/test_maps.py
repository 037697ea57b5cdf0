# SPDX-License-Identifier: GPL-2.0-only
"""Maps are read and changed."""

from errno import EINVAL, ENOENT

import pytest
from fakelib import FakeLib, store

from icmp_rtt.errors import LibbpfError
from icmp_rtt.kernel.maps import Map

KEY, VALUE = 4, 8


def key(number):
    return number.to_bytes(KEY, "little")


def value(number):
    return number.to_bytes(VALUE, "little")


class Hash(FakeLib):
    """A library with one hash map."""

    def __init__(self, count):
        self.entries = {key(n): value(n * 3) for n in range(count)}
        super().__init__(
            bpf_map__name=lambda _: b"sessions",
            bpf_map__fd=lambda _: 5,
            bpf_map__key_size=lambda _: KEY,
            bpf_map__value_size=lambda _: VALUE,
            bpf_map__max_entries=lambda _: 100,
            bpf_map_lookup_elem=self.lookup,
            bpf_map_update_elem=self.update,
        )

    def map(self):
        return Map(self, 1)

    def lookup(self, fd, k, out):
        assert fd == 5
        if k not in self.entries:
            return -ENOENT
        store(out, self.entries[k])
        return 0

    def update(self, fd, k, v, flags):
        assert flags == 0
        self.entries[k] = v
        return 0


def test_entries_are_read_and_changed():
    """What is not there is an answer, not an error."""
    sessions = Hash(3).map()
    assert sessions.lookup(key(2)) == value(6)
    assert sessions.lookup(key(9)) is None
    sessions.update(key(9), value(1))
    assert sessions.lookup(key(9)) == value(1)


def test_lengths_are_checked_before_the_kernel_reads_memory():
    """A key or value of another length would be read past its end."""
    sessions = Hash(1).map()
    for use in (
        lambda: sessions.lookup(b"abc"),
        lambda: sessions.update(b"abc", value(0)),
        lambda: sessions.update(key(0), b"abc"),
    ):
        with pytest.raises(ValueError, match="map sessions takes [48] bytes, not [35]"):
            use()


def test_a_failure_names_the_map():
    """Any other errno than the expected ones is an error."""
    kernel = Hash(1)
    kernel._functions["bpf_map_lookup_elem"] = lambda *_: -EINVAL
    with pytest.raises(LibbpfError) as caught:
        kernel.map().lookup(key(0))
    assert caught.value.call == "bpf_map_lookup_elem(sessions)"
