# SPDX-License-Identifier: GPL-2.0-only
"""What the C library does with memory that was freed."""

from __future__ import annotations

import contextlib
import ctypes

__all__ = ("give_memory_back",)

_M_MMAP_THRESHOLD = -3  # malloc.h
_MAPPED = 128 << 10  # bytes; what it is until glibc raises it


def give_memory_back() -> None:
    """Have large blocks go back to the kernel when they are freed.

    By itself glibc keeps blocks of a size that it has seen freed, each thread its own:
    a kernel's BTF, of which libbpf reads 5 MB for each object, several times over.
    """
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MAPPED)
