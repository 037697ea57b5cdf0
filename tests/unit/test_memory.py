# SPDX-License-Identifier: GPL-2.0-only
"""What was freed is the kernel's again, of whatever size the blocks are."""

import subprocess
import sys

PROGRAM = """
import ctypes
from icmp_rtt.kernel.memory import give_memory_back
{call}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = (ctypes.c_void_p,)
size = 5 << 20
for _ in range(2):
    blocks = [libc.malloc(size) for _ in range(4)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    kept = libc.malloc(100)
    for block in blocks[:-1]:
        libc.free(block)
print(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
"""


def resident_kib(call):
    """Of a process that has freed six blocks of 5 MiB of eight."""
    command = [sys.executable, "-c", PROGRAM.format(call=call)]
    return int(subprocess.check_output(command, text=True))


def test_large_blocks_are_given_back():
    """Else those of the second round would stay, as a first was freed by then."""
    assert resident_kib("") - resident_kib("give_memory_back()") > 10 << 10
