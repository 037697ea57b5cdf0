# SPDX-License-Identifier: GPL-2.0-only
"""What travels with the package: the BPF object, libbpf, the commit of its sources.

Knows how to get at it inside an archive, too (a zipapp), of which nothing is
unpacked: what needs a path gets one in memory.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("COMMIT", "LIBBPF", "OBJECT", "OBJECT_WITHOUT_BTF", "in_memory", "on_disk", "read")

OBJECT = "icmp_rtt.bpf.o"
OBJECT_WITHOUT_BTF = "icmp_rtt_nobtf.bpf.o"  # for kernels without BTF
LIBBPF = "libbpf.so.1"
COMMIT = "commit"


def on_disk(name: str) -> str:
    """Where it lies if the package is a folder; whether it does is not looked at."""
    return os.path.join(os.path.dirname(__file__), "data", name)


def read(name: str) -> bytes | None:
    """Its bytes, None if this package came without it."""
    loader = __spec__.loader if __spec__ else None
    get_data: Callable[[str], bytes] | None = getattr(loader, "get_data", None)
    try:
        return get_data(on_disk(name)) if get_data else None
    except OSError:
        return None


def in_memory(name: str, data: bytes) -> str:
    """A path to ``data`` that needs no file system, for as long as this process lives.

    Raises:
        OSError: the kernel has no memory files, or lets nobody make one.
    """
    descriptor = os.memfd_create(name)  # closed on exec
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    return f"/proc/self/fd/{descriptor}"
