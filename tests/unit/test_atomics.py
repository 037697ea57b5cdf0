# SPDX-License-Identifier: GPL-2.0-only
"""Compare-and-exchange: found out by loading one, and taken out for kernels without."""

import os
import struct

import pytest

from icmp_rtt.errors import LibbpfError
from icmp_rtt.kernel.atomics import has_atomics, without_atomics

EXIT = struct.pack("=BBhi", 0x95, 0, 0, 0)
ADD = struct.pack("=BBhi", 0xDB, 0x1A, -8, 0)
CMPXCHG = struct.pack("=BBhi", 0xDB, 0x1A, -8, 0xF1)
# The immediate of a 64-bit constant that looks like one, in another instruction.
CONSTANT = struct.pack("=BBhi", 0x18, 0x01, 0, 0xF1) + bytes(8)


class Kernel:
    """Stands in for libbpf: takes a program, or refuses it."""

    def __init__(self, error=None):
        self.error, self.code, self.fd = error, None, None

    def call(self, name, kind, title, licence, code, count, options):
        """As bpf_prog_load."""
        assert (name, count * 8) == ("bpf_prog_load", len(code))
        self.code = code
        if self.error:
            raise LibbpfError(name, self.error, "")
        self.fd = os.open(os.devnull, os.O_RDONLY)
        return self.fd


def test_a_program_with_one_is_loaded_and_left():
    """The kernel that takes it has them; nothing stays open."""
    kernel = Kernel()
    assert has_atomics(kernel)
    assert kernel.code.count(CMPXCHG) == 1
    assert kernel.code.endswith(EXIT)
    with pytest.raises(OSError):
        os.fstat(kernel.fd)


@pytest.mark.parametrize("error", [22, 524])
def test_a_refusal_says_that_there_are_none(error):
    """EINVAL of kernels before 5.12, ENOTSUPP of a JIT without."""
    assert not has_atomics(Kernel(error))


def test_nothing_else_is_changed():
    """Each becomes a plain addition of the same registers, in place."""
    code = EXIT + CMPXCHG + CONSTANT + ADD + CMPXCHG
    assert without_atomics(code) == EXIT + ADD + CONSTANT + ADD + ADD
    assert without_atomics(b"") == b""
