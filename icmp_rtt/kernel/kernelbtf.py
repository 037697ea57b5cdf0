# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own BTF: which functions it knows, and the names of its enumerators.

Several megabytes, so libbpf reads it; the small BTF of our object is btf.py's.
"""

from __future__ import annotations

import os
import struct
from ctypes import string_at
from errno import ENOENT

from icmp_rtt.errors import LibbpfError, ObjectError, RequirementError
from icmp_rtt.kernel.libbpf import Handle, Libbpf, decoded_name
from icmp_rtt.kernel.objfile import read_file

__all__ = ("KernelBtf", "has_own_btf")

_ENUM, _FUNC = 6, 12  # BTF kinds
_MAX_FILE = 1 << 32  # bytes; a vmlinux with all its debug information is below


def has_own_btf() -> bool:
    """Whether this kernel shows BTF of its own, which a file can't stand for in everything."""
    return os.path.exists("/sys/kernel/btf/vmlinux")


class KernelBtf(Handle):
    """BTF of the running kernel, or of a file given in its place.

    Args:
        path: raw BTF, or an ELF file with a .BTF section; None for the kernel's own.

    Raises:
        RequirementError: the kernel has none.
        ObjectError: the file is missing, damaged, or not BTF for this machine.
    """

    def __init__(self, lib: Libbpf, path: str | None = None) -> None:
        if path is None:
            super().__init__(lib, _load_own(lib), "kernel BTF")
        else:
            super().__init__(lib, _load_file(lib, path), path)

    def has_function(self, name: str) -> bool:
        """Whether there is a function of exactly this name; kallsyms may know better."""
        return self._find(name, _FUNC) > 0

    def enum_names(self, name: str) -> dict[int, str]:
        """Names of the enumerators of ``enum name`` by value; empty if there is no such enum."""
        type_id = self._find(name, _ENUM)
        if type_id < 0:
            return {}
        at = self.lib.call("btf__type_by_id", self.address, type_id, about=name)
        (info,) = struct.unpack("=4xI4x", string_at(at, 12))
        words = struct.iter_unpack("=II", string_at(at + 12, 8 * (info & 0xFFFF)))
        text = self.lib.raw("btf__name_by_offset")
        return {value: decoded_name(text(self.address, at)) for at, value in words}

    def _free(self, address: int) -> None:
        self.lib.raw("btf__free")(address)

    def _find(self, name: str, kind: int) -> int:
        function = "btf__find_by_name_kind"
        return self.lib.call(function, self.address, name.encode(), kind, allow=(ENOENT,))


def _load_own(lib: Libbpf) -> int:
    try:
        return lib.call("btf__load_vmlinux_btf")
    except LibbpfError as error:
        raise RequirementError(
            "this kernel has no BTF: it takes one built with CONFIG_DEBUG_INFO_BTF=y, "
            "or a BTF file of this kernel with --btf FILE",
            error.log,
        ) from error


def _load_file(lib: Libbpf, path: str) -> int:
    _check_file(path)
    try:
        return lib.call("btf__parse", os.fsencode(path), None, about=path)
    except LibbpfError as error:
        raise ObjectError(f"{path}: damaged or truncated BTF", error.log) from error


def _check_file(path: str) -> None:
    """Refuse what libbpf would refuse without a word on why, or not refuse at all."""
    start = _start(path)
    if start[:4] == b"\x7fELF":
        machine, own = start[18:20], _start("/proc/self/exe")[18:20]
        if machine != own:
            raise ObjectError(
                f"{path}: ELF machine {int.from_bytes(machine, 'little')}, this host is "
                f"{int.from_bytes(own, 'little')}: BTF of this kernel is expected"
            )
    elif start[:2] != struct.pack("=H", 0xEB9F):
        raise ObjectError(f"{path}: neither BTF for this machine nor an ELF file")


def _start(path: str) -> bytes:
    return read_file(path, "BTF file", _MAX_FILE, 20)
