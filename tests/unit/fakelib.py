# SPDX-License-Identifier: GPL-2.0-only
"""A libbpf whose functions are Python's, so that what is built on it needs no kernel."""

import ctypes

from icmp_rtt.kernel.libbpf import Libbpf, Log


class FakeLib(Libbpf):
    """An opened library with nothing but the functions given, called through the real ``call``."""

    def __init__(self, **functions):
        self._functions = functions
        self.log = Log(verbose=False)


def store(pointer, data):
    """Write ``data`` where a ctypes array, pointer or address points."""
    ctypes.memmove(pointer, bytes(data), len(data))


def store_u32(pointer, value):
    """Write a number through what ``ctypes.byref`` made."""
    pointer._obj.value = value
