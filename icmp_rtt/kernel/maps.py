# SPDX-License-Identifier: GPL-2.0-only
"""BPF maps: sized before the object is loaded, read and changed afterwards.

Keys and values are bytes; what they mean is the caller's business.
"""

from __future__ import annotations

import ctypes
from errno import ENOENT

from icmp_rtt.kernel.libbpf import Handle, Libbpf, decoded_name

__all__ = ("Map",)


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

    def _call(self, name: str, *arguments: object, allow: tuple[int, ...] = ()) -> int:
        return self.lib.call(name, self.fd, *arguments, about=self.name, allow=allow)

    def _check(self, data: bytes, size: int) -> None:
        if len(data) != size:
            raise ValueError(f"map {self.name} takes {size} bytes, not {len(data)}")
