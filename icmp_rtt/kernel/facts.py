# SPDX-License-Identifier: GPL-2.0-only
"""What the running kernel offers: functions by exact name, and features by their traces in BTF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icmp_rtt.kernel.atomics import has_atomics
from icmp_rtt.kernel.kernelbtf import KernelBtf, check_file, has_own_btf
from icmp_rtt.kernel.listing import KPROBES

if TYPE_CHECKING:
    from icmp_rtt.kernel.libbpf import Libbpf
    from icmp_rtt.kernel.listing import Listing

__all__ = ("KernelFacts", "lockdown", "read_facts")


def lockdown() -> str:
    """Mode of the kernel's lockdown: none, integrity, confidentiality, or unknown."""
    try:
        with open("/sys/kernel/security/lockdown", encoding="ascii") as file:
            return file.read().partition("[")[2].partition("]")[0]
    except OSError:
        return "unknown"


class KernelFacts:
    """What was found, by name and never by version.

    The commits behind the features are in bpf/compat.bpf.h.

    Args:
        own_btf: without it no program that the kernel checks by BTF can be loaded.
        functions: those in kallsyms. What is not in BTF as well, none of ours on any stock
            kernel, is found when it is refused: to look for each name in 140,000 types would
            take as long as kallsyms.
        names_listed: kallsyms lists something at all.
        typed_headers: it has bpf_rdonly_cast.
        typed_task: it has bpf_get_current_task_btf.
        atomics: it can compare and exchange.
        drop_reasons: enum skb_drop_reason, shortened; empty: none are given.
        variables: their addresses; those of one use all or none: hidden from this process, or
            the kernel has them as constants.
    """

    def __init__(
        self,
        own_btf: bool,
        functions: frozenset[str],
        names_listed: bool,
        typed_headers: bool,
        typed_task: bool,
        atomics: bool,
        drop_reasons: dict[int, str],
        variables: dict[str, int],
    ) -> None:
        self.own_btf = own_btf
        self.functions = functions
        self.names_listed = names_listed
        self.typed_headers = typed_headers
        self.typed_task = typed_task
        self.atomics = atomics
        self.drop_reasons = drop_reasons
        self.variables = variables

    @property
    def tells_kprobes(self) -> bool:
        """Whether a program can find out that the kernel runs no kprobe at the moment."""
        return all(name in self.variables for name in KPROBES)

    def drop_reason(self, wanted: str) -> int:
        """The number of a drop reason, 0 where the kernel has none of this name."""
        return next((n for n, name in self.drop_reasons.items() if name == wanted), 0)


def read_facts(lib: Libbpf, listing: Listing, btf_path: str | None) -> KernelFacts:
    """Look up the features, and wait for what kallsyms has.

    Raises:
        RequirementError: no BTF, or kallsyms cannot be read.
        ObjectError: ``btf_path`` is no BTF file of this machine.
    """
    own = has_own_btf()
    if btf_path is not None:
        check_file(lib, btf_path)
    with KernelBtf(lib, None if own else btf_path) as btf:
        reasons = btf.enum_names("skb_drop_reason")
        typed_headers = own and btf.has_function("bpf_rdonly_cast")
        typed_task = own and btf.has_function("bpf_get_current_task_btf")
    prefix = "SKB_DROP_REASON_"
    short = {number: name.replace(prefix, "", 1) for number, name in reasons.items()}
    return KernelFacts(
        own_btf=own,
        functions=listing.functions,
        names_listed=not listing.is_empty,
        typed_headers=typed_headers,
        typed_task=typed_task,
        atomics=has_atomics(lib),
        drop_reasons=short,
        variables=listing.variables,
    )
