# SPDX-License-Identifier: GPL-2.0-only
"""BPF maps: sized before the object is loaded, read and changed afterwards.

Keys and values are bytes; what they mean is the caller's business.
"""

from __future__ import annotations

import ctypes
from errno import EINVAL, ENOENT, ENOSPC, EOPNOTSUPP
from typing import NamedTuple

from icmp_rtt.kernel.libbpf import Handle, Libbpf, decoded_name

__all__ = ("Map",)

_ENOTSUPP = 524  # the kernel's own, not in <errno.h>
_BATCH = 1 << 20  # bytes


class _Page(NamedTuple):
    """Room for what one batch returns."""

    room: int  # entries
    keys: ctypes.Array[ctypes.c_char]
    values: ctypes.Array[ctypes.c_char]


class Map(Handle):
    """A hash or array map of an object.

    Everything that takes a key raises ValueError for one of the wrong length,
    and LibbpfError when the map is not there yet or the kernel refuses.
    """

    def __init__(self, lib: Libbpf, address: int) -> None:
        super().__init__(lib, address, decoded_name(lib.raw("bpf_map__name")(address)))

    @property
    def fd(self) -> int:
        """File descriptor; LibbpfError before the object is loaded."""
        return self.lib.call("bpf_map__fd", self.address, about=self.name)

    @property
    def key_size(self) -> int:
        """Bytes of a key."""
        return self.lib.call("bpf_map__key_size", self.address)

    @property
    def value_size(self) -> int:
        """Bytes of a value."""
        return self.lib.call("bpf_map__value_size", self.address)

    @property
    def max_entries(self) -> int:
        """How many entries the map holds; of a ring buffer, its bytes."""
        return self.lib.call("bpf_map__max_entries", self.address)

    def set_value_size(self, size: int) -> None:
        """Change the bytes of a value; only before the object is loaded."""
        self.lib.call("bpf_map__set_value_size", self.address, size, about=self.name)

    def set_max_entries(self, count: int) -> None:
        """Change how many entries the map holds; only before the object is loaded."""
        self.lib.call("bpf_map__set_max_entries", self.address, count, about=self.name)

    def lookup(self, key: bytes) -> bytes | None:
        """The value of ``key``, None if it has none."""
        self._check(key, self.key_size)
        value = ctypes.create_string_buffer(self.value_size)
        code = self._call("bpf_map_lookup_elem", key, value, allow=(ENOENT,))
        return None if code else value.raw

    def update(self, key: bytes, value: bytes) -> None:
        """Set the value of ``key``, there already or not."""
        self._check(key, self.key_size)
        self._check(value, self.value_size)
        self._call("bpf_map_update_elem", key, value, 0)

    def delete(self, key: bytes) -> bool:
        """Remove ``key``; False if it was not there."""
        self._check(key, self.key_size)
        return self._call("bpf_map_delete_elem", key, allow=(ENOENT,)) == 0

    def keys(self) -> list[bytes]:
        """Every key there is.

        Keys that come or go meanwhile may be missing or not. When the key just
        read is gone, the kernel starts again from the first, so what was seen
        already is passed over, and the walk ends after twice the map's size.
        """
        seen: dict[bytes, None] = {}
        key: bytes | None = None
        following = ctypes.create_string_buffer(self.key_size)
        for _ in range(2 * self.max_entries + 1):
            if self._call("bpf_map_get_next_key", key, following, allow=(ENOENT,)):
                break
            key = following.raw
            seen[key] = None
        return list(seen)

    def items(self) -> list[tuple[bytes, bytes]]:
        """Every key with its value, as of some moment during the call."""
        items = self._batches()
        if items is None:
            pairs = [(key, self.lookup(key)) for key in self.keys()]
            items = {key: value for key, value in pairs if value is not None}
        return list(items.items())

    def _batches(self) -> dict[bytes, bytes] | None:
        """As ``items``, in few calls; None where the kernel cannot."""
        items: dict[bytes, bytes] = {}
        place = ctypes.create_string_buffer(max(8, self.key_size))
        start = None
        page = self._page(_BATCH // (self.key_size + self.value_size))
        while True:
            count = ctypes.c_uint32(page.room)
            counted = ctypes.byref(count)
            code = self._call(
                *("bpf_map_lookup_batch", start, place, page.keys, page.values, counted, None),
                allow=(ENOENT, ENOSPC, EINVAL, EOPNOTSUPP, _ENOTSUPP),
            )
            if code == -ENOSPC and page.room < self.max_entries:  # one hash bucket holds more
                page = self._page(page.room * 2)
                continue
            if code not in (0, -ENOENT):
                return None
            items.update(self._entries(page, count.value))
            if code:
                return items
            start = place

    def _page(self, count: int) -> _Page:
        count = max(1, min(count, self.max_entries))
        keys = ctypes.create_string_buffer(count * self.key_size)
        return _Page(count, keys, ctypes.create_string_buffer(count * self.value_size))

    def _entries(self, page: _Page, count: int) -> list[tuple[bytes, bytes]]:
        keys, key_size = page.keys.raw, self.key_size
        values, value_size = page.values.raw, self.value_size
        return [
            (keys[i * key_size : (i + 1) * key_size], values[i * value_size : (i + 1) * value_size])
            for i in range(count)
        ]

    def _call(self, name: str, *arguments: object, allow: tuple[int, ...] = ()) -> int:
        return self.lib.call(name, self.fd, *arguments, about=self.name, allow=allow)

    def _check(self, data: bytes, size: int) -> None:
        if len(data) != size:
            raise ValueError(f"map {self.name} takes {size} bytes, not {len(data)}")
