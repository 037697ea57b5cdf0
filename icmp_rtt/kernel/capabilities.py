# SPDX-License-Identifier: GPL-2.0-only
"""Capabilities of this process: those it holds, and giving them up.

Knows how the kernel is told; which are needed for what is the callers' business.
"""

from __future__ import annotations

import ctypes
import os

from icmp_rtt.errors import RequirementError, shortage

__all__ = ("BPF", "KILL", "PERFMON", "SYS_ADMIN", "forgo_new", "held", "keep")

KILL, SYS_ADMIN, PERFMON, BPF = 5, 21, 38, 39
_VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: 64 bits, in two halves
_PR_SET_NO_NEW_PRIVS = 38
_U32 = ctypes.c_uint32


def held() -> frozenset[int]:
    """Numbers of the effective capabilities.

    Raises:
        RequirementError: /proc does not tell.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            bits = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff"))
    except (OSError, StopIteration) as error:
        what_to_do = shortage(getattr(error, "errno", None)) or "mount /proc"
        raise RequirementError(f"cannot read /proc/self/status: {what_to_do}") from error
    return frozenset(number for number in range(bits.bit_length()) if bits >> number & 1)


def keep(effective: frozenset[int], permitted: frozenset[int]) -> None:
    """Give up all others, in the calling thread; what is permitted may be made effective again.

    Raises:
        OSError: the kernel does not let us.
    """
    masks = [sum(1 << number for number in numbers) for numbers in (effective, permitted)]
    halves = [half for shift in (0, 32) for half in (*(mask >> shift for mask in masks), 0)]
    header = (_U32 * 2)(_VERSION_3, 0)
    data = (_U32 * 6)(*(half & 0xFFFFFFFF for half in halves))
    _check("capset", header, data)


def forgo_new() -> None:
    """Nothing that this process executes gains privileges; not even for root.

    Raises:
        OSError: the kernel does not let us.
    """
    _check("prctl", _PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0)))


def _check(function: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), function)
