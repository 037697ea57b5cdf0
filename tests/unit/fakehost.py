# SPDX-License-Identifier: GPL-2.0-only
"""A host whose kernel has every function that any plan asks for, for surveys of it."""

from __future__ import annotations

from samples import ABI

from icmp_rtt.errors import LibbpfError
from icmp_rtt.kernel.facts import KernelFacts
from icmp_rtt.loader import Refused
from icmp_rtt.stages import functions

FUNCTIONS = frozenset(functions((4, 6)))
FACTS = KernelFacts(True, FUNCTIONS, True, True, True, True, {}, {})


def error(code, log="", call="bpf_program__attach(x)"):
    """A failed call."""
    return LibbpfError(call, code, log)


class FakeHost:
    """A loader, and what it has loaded.

    Args:
        refuses: by kind of program (fentry, ...), the errno with which it is refused.
    """

    lib, btf = None, ABI

    def __init__(self, **refuses):
        self._refuses = refuses
        self.maps = {}

    def load(self, programs, config, max_sessions):
        for name in programs:
            if code := self._refuses.get(name.partition("__")[0]):
                raise Refused(name, error(code, f"verifier on {name}: no\n"))
        return self

    def attach(self, obj, programs):
        return dict.fromkeys(programs, self)

    def sweep(self, obj):
        pass

    def close(self):
        pass
