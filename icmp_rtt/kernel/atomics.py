# SPDX-License-Identifier: GPL-2.0-only
"""Atomic instructions of BPF: whether the kernel has them, and an object for one that hasn't.

Which kernels have them is in bpf/compat.bpf.h. The others refuse the
instruction wherever it stands, in dead code as well.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from icmp_rtt.errors import LibbpfError

if TYPE_CHECKING:
    from icmp_rtt.kernel.libbpf import Libbpf

__all__ = ("has_atomics", "without_atomics")

_SOCKET_FILTER = 1  # BPF_PROG_TYPE_SOCKET_FILTER
# Opcode, registers (source << 4 | destination), offset, immediate: struct bpf_insn.
_INSN = struct.Struct("=BBhi")
_ATOMIC = 0xDB  # BPF_STX | BPF_ATOMIC | BPF_DW
_CMPXCHG = 0xF1
_ADD = 0
_TRIAL = (
    (0xB7, 0x00, 0, 0),  # r0 = 0
    (0x7B, 0x0A, -8, 0),  # *(u64 *)(r10 - 8) = r0
    (0xB7, 0x01, 0, 1),  # r1 = 1
    (_ATOMIC, 0x1A, -8, _CMPXCHG),  # r0 = cmpxchg_64(r10 - 8, r0, r1)
    (0xB7, 0x00, 0, 0),  # r0 = 0
    (0x95, 0x00, 0, 0),  # exit
)


def has_atomics(lib: Libbpf) -> bool:
    """Whether this kernel loads a program that compares and exchanges."""
    code = b"".join(_INSN.pack(*insn) for insn in _TRIAL)
    try:
        fd = lib.call("bpf_prog_load", _SOCKET_FILTER, b"atomics", b"GPL", code, len(_TRIAL), None)
    except LibbpfError:
        return False
    os.close(fd)
    return True


def without_atomics(code: bytes) -> bytes:
    """A program's instructions with each compare-and-exchange made a plain addition.

    For dead code alone: what a kernel without them is to load never runs there.
    """
    patched = bytearray(code)
    for at in range(0, len(code) - _INSN.size + 1, _INSN.size):
        opcode, registers, offset, immediate = _INSN.unpack_from(code, at)
        if (opcode, immediate) == (_ATOMIC, _CMPXCHG):
            _INSN.pack_into(patched, at, opcode, registers, offset, _ADD)
    return bytes(patched)
