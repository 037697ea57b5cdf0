# SPDX-License-Identifier: GPL-2.0-only
"""Maps are read and changed, while the kernel changes them as well."""

from errno import EINVAL, ENOENT, ENOSPC

import pytest
from fakelib import FakeLib, store, store_u32

from icmp_rtt.errors import LibbpfError
from icmp_rtt.kernel import maps as maps_module
from icmp_rtt.kernel.maps import Map

KEY, VALUE = 4, 8


def key(number):
    return number.to_bytes(KEY, "little")


def value(number):
    return number.to_bytes(VALUE, "little")


class Hash(FakeLib):
    """A library with one hash map, of which ``batch`` entries share a bucket; 0: no batches."""

    def __init__(self, count, batch=0):
        self.entries = {key(n): value(n * 3) for n in range(count)}
        self.batch, self.calls = batch, []
        self.on_next = lambda key: None
        super().__init__(
            bpf_map__name=lambda _: b"sessions",
            bpf_map__fd=lambda _: 5,
            bpf_map__key_size=lambda _: KEY,
            bpf_map__value_size=lambda _: VALUE,
            bpf_map__max_entries=lambda _: 100,
            bpf_map_lookup_elem=self.lookup,
            bpf_map_update_elem=self.update,
            bpf_map_delete_elem=lambda _, k: 0 if self.entries.pop(k, None) else -ENOENT,
            bpf_map_get_next_key=self.next_key,
            bpf_map_lookup_batch=self.lookup_batch,
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

    def next_key(self, fd, k, out):
        self.on_next(k)
        keys = list(self.entries)
        # A key that is gone starts the walk again, as in the kernel.
        at = keys.index(k) + 1 if k in self.entries else 0
        if at == len(keys):
            return -ENOENT
        store(out, keys[at])
        return 0

    def lookup_batch(self, fd, start, place, keys, values, count, options):
        if not self.batch:
            return -EINVAL
        asked = count._obj.value
        self.calls.append(asked)
        if asked < self.batch:
            return -ENOSPC
        every = list(self.entries.items())
        at = 0 if start is None else int.from_bytes(start.raw[:4], "little")
        page = every[at : at + asked // self.batch * self.batch]
        store(keys, b"".join(k for k, _ in page))
        store(values, b"".join(v for _, v in page))
        store(place, key(at + len(page)))
        store_u32(count, len(page))
        return 0 if at + len(page) < len(every) else -ENOENT


def test_single_entries_are_read_changed_and_deleted():
    """What is not there is an answer, not an error."""
    sessions = Hash(3).map()
    assert sessions.lookup(key(2)) == value(6)
    assert sessions.lookup(key(9)) is None
    sessions.update(key(9), value(1))
    assert sessions.lookup(key(9)) == value(1)
    assert sessions.delete(key(9)) is True
    assert sessions.delete(key(9)) is False


def test_lengths_are_checked_before_the_kernel_reads_memory():
    """A key or value of another length would be read past its end."""
    sessions = Hash(1).map()
    for use in (
        lambda: sessions.lookup(b"abc"),
        lambda: sessions.delete(b"abcde"),
        lambda: sessions.update(b"abc", value(0)),
        lambda: sessions.update(key(0), b"abc"),
    ):
        with pytest.raises(ValueError, match="map sessions takes [48] bytes, not [35]"):
            use()


@pytest.mark.parametrize("count", [0, 1, 30])
@pytest.mark.parametrize("batch", [0, 1, 4])
def test_all_entries_are_read_with_batches_or_without(count, batch, monkeypatch):
    """Old kernels refuse batches; the result is the same."""
    monkeypatch.setattr(maps_module, "_BATCH", 7 * (KEY + VALUE))
    kernel = Hash(count, batch)
    assert kernel.map().items() == list(kernel.entries.items())
    assert kernel.map().keys() == list(kernel.entries)


def test_a_crowded_hash_bucket_gets_more_room(monkeypatch):
    """A batch smaller than a bucket is refused, and asked again with twice the room."""
    monkeypatch.setattr(maps_module, "_BATCH", 1)
    kernel = Hash(30, batch=6)
    assert len(kernel.map().items()) == 30
    assert kernel.calls[:4] == [1, 2, 4, 8]


def test_keys_deleted_meanwhile_neither_repeat_nor_end_the_walk():
    """When the key just read is gone, the kernel starts again: all others are still found once."""
    kernel = Hash(20)
    kernel.on_next = lambda k: kernel.entries.pop(k) if k in (key(5), key(6), key(13)) else None
    assert kernel.map().keys() == [key(n) for n in range(20)]


def test_a_map_that_changes_all_the_time_ends_the_walk():
    """Each key read is gone at once, and a new one comes for it: the walk is bounded."""
    kernel = Hash(1)
    steps = []

    def churn(k):
        steps.append(k)
        kernel.entries = {key(len(steps)): value(0)}

    kernel.on_next = churn
    assert len(kernel.map().keys()) == len(steps) == 201


def test_an_entry_deleted_after_its_key_was_read_is_left_out():
    """Without batches a value may be gone when it is looked up."""
    kernel = Hash(5)
    lookup = kernel.lookup
    kernel._functions["bpf_map_lookup_elem"] = lambda fd, k, out: (
        -ENOENT if k == key(3) else lookup(fd, k, out)
    )
    assert [k for k, _ in kernel.map().items()] == [key(0), key(1), key(2), key(4)]


def test_a_failure_names_the_map():
    """Any other errno than the expected ones is an error."""
    kernel = Hash(1)
    kernel._functions["bpf_map_lookup_elem"] = lambda *_: -EINVAL
    with pytest.raises(LibbpfError) as caught:
        kernel.map().lookup(key(0))
    assert caught.value.call == "bpf_map_lookup_elem(sessions)"
