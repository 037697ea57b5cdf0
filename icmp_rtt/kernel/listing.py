# SPDX-License-Identifier: GPL-2.0-only
"""Which functions and variables the running kernel has, by their names in kallsyms.

The kernel writes that file anew for whoever reads it, which takes longer than all else that
is read of it: so a thread begins with it, before the modules that do the rest are imported.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from icmp_rtt.background import Background

if TYPE_CHECKING:
    from collections.abc import Iterable

    from icmp_rtt.kernel.symbols import Symbols

__all__ = ("KPROBES", "Listing")

# Variables that are of use together alone: of x86-64 with CONFIG_DYNAMIC_MEMORY_LAYOUT, as
# every Debian kernel has it, and of kprobes (kernel/kprobes.c, kernel/bpf/syscall.c).
_PAGES = ("page_offset_base", "vmemmap_base")
KPROBES = ("__per_cpu_offset", "current_kprobe", "bpf_prog_active")


class Listing:
    """A look into kallsyms that has begun.

    Args:
        symbols: where to look.
        functions: those to look for.
    """

    def __init__(self, symbols: Symbols, functions: Iterable[str]) -> None:
        self._symbols = symbols
        find = partial(symbols.find, frozenset(functions), (*_PAGES, *KPROBES))
        self._found = Background(find, "kallsyms")

    def wait(self) -> None:
        """Until it is over; whatever became of it."""
        self._found.wait()

    @property
    def functions(self) -> frozenset[str]:
        """Those that are there.

        Raises:
            RequirementError: the file cannot be read.
        """
        return frozenset(self._found.result()[0])

    @property
    def variables(self) -> dict[str, int]:
        """Addresses of variables; those of one use all or none: hidden from this process, or
        the kernel has them as constants.

        Raises:
            RequirementError: the file cannot be read.
        """
        found = self._found.result()[1]
        uses = [use for use in (_PAGES, KPROBES) if found.keys() >= set(use)]
        return {name: found[name] for use in uses for name in use}

    @property
    def is_empty(self) -> bool:
        """Whether the file lists nothing at all.

        Raises:
            RequirementError: it cannot be read.
        """
        return not self.functions and self._symbols.is_empty()
