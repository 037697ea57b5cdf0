# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own BTF: which functions it knows, and the names of its enumerators.

Several megabytes, so libbpf reads it; the small BTF of our object is btf.py's. A file
in its place comes from anywhere, so btf.py looks at it first: libbpf before 1.3 believes
every type that one refers to, and no libbpf says what it found wrong.
"""

from __future__ import annotations

import os
import struct
from ctypes import string_at
from errno import ENOENT, ENOMEM

from icmp_rtt.errors import LibbpfError, ObjectError, RequirementError, shortage
from icmp_rtt.kernel.btf import MAGIC, Btf
from icmp_rtt.kernel.files import read_file
from icmp_rtt.kernel.libbpf import Handle, Libbpf, btf_bytes, decoded_name

__all__ = ("KernelBtf", "check_file", "has_own_btf")

_STRUCT, _ENUM, _FUNC = 4, 6, 12  # BTF kinds
_MAX_BTF = 1 << 28  # bytes; a kernel's with all its modules' is below
_MAX_FILE = 1 << 32  # bytes; a vmlinux with all its debug information is below
_OWN = "/sys/kernel/btf/vmlinux"
_REGISTERS = 168  # bytes of struct pt_regs on x86-64
_REMEDY = "--btf takes raw BTF of this kernel, or its vmlinux with BTF in it"


def has_own_btf() -> bool:
    """Whether this kernel shows BTF of its own, which a file can't stand for in everything.

    What hides it from a container may be an empty file in its place.
    """
    try:
        with open(_OWN, "rb") as file:
            return file.read(2) == struct.pack("<H", MAGIC)
    except OSError:
        return False


def check_file(lib: Libbpf, path: str) -> None:
    """Refuse a file that cannot stand for the kernel's BTF.

    Raises:
        ObjectError: the file is missing, damaged, not BTF, or not that of a kernel for x86-64.
    """
    with KernelBtf(lib, path) as given:
        if not given.struct_size("sk_buff"):
            raise ObjectError(f"{path}: BTF without struct sk_buff, not a kernel's: {_REMEDY}")
        # Raw BTF does not name its machine. Minimal BTF has this, too: kprobes read it.
        registers = given.struct_size("pt_regs")
        if registers != _REGISTERS:
            raise ObjectError(
                f"{path}: BTF of another architecture: struct pt_regs of {registers} bytes,"
                f" this host's has {_REGISTERS}: {_REMEDY}"
            )


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

    def struct_size(self, name: str) -> int:
        """Bytes of the struct of exactly this name; 0 if there is none."""
        type_id = self._find(name, _STRUCT)
        if type_id < 0:
            return 0
        at = self.lib.call("btf__type_by_id", self.address, type_id, about=name)
        (size,) = struct.unpack("=8xI", string_at(at, 12))
        return int(size)

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
        if not os.path.isdir("/sys/kernel"):
            raise RequirementError("kernel BTF is in /sys: mount /sys", error.log) from error
        if has_own_btf():  # libbpf gives no other cause than that it found none
            raise RequirementError(
                f"kernel BTF is there, and libbpf could not load it: {shortage(ENOMEM)},"
                " if it is that; --verbose shows its words",
                error.log,
            ) from error
        raise RequirementError(
            "this kernel has no BTF: it takes one built with CONFIG_DEBUG_INFO_BTF=y, "
            "or a BTF file of this kernel with --btf FILE",
            error.log,
        ) from error


def _load_file(lib: Libbpf, path: str) -> int:
    elf = _is_elf(path)
    if not elf:
        _check(path, _read(path, _MAX_BTF))
    try:
        address = lib.call("btf__parse", os.fsencode(path), None, about=path)
    except LibbpfError as error:
        what = "no BTF in this ELF file, or the file is truncated" if elf else "damaged BTF"
        raise ObjectError(f"{path}: {what}: {_REMEDY}", error.log) from error
    if elf:
        try:  # that what it holds is all there is libelf's to see to
            _check(path, btf_bytes(lib, address, path))
        except ObjectError:
            lib.raw("btf__free")(address)
            raise
    return address


def _check(path: str, data: bytes) -> None:
    try:
        Btf(data)
    except ObjectError as error:
        raise ObjectError(f"{path}: {error}: {_REMEDY}") from error


def _read(path: str, limit: int, count: int = -1) -> bytes:
    try:
        return read_file(path, "BTF file", limit, count)
    except ObjectError as error:
        raise ObjectError(f"{error}: {_REMEDY}") from error


def _is_elf(path: str) -> bool:
    """Whether it is an ELF file, of this machine at that."""
    start = _read(path, _MAX_FILE, 20)
    if start[:4] != b"\x7fELF":
        return False
    if len(start) < 20:
        raise ObjectError(f"{path}: truncated: {len(start)} bytes: {_REMEDY}")
    machine, own = start[18:20], read_file("/proc/self/exe", "program", _MAX_FILE, 20)[18:20]
    if machine != own:
        raise ObjectError(
            f"{path}: ELF machine {int.from_bytes(machine, 'little')}, this host is "
            f"{int.from_bytes(own, 'little')}: {_REMEDY}"
        )
    return True
