# SPDX-License-Identifier: GPL-2.0-only
"""What the running kernel offers: functions by exact name, and features by their traces in BTF."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from icmp_rtt.kernel.kernelbtf import KernelBtf

if TYPE_CHECKING:
    from collections.abc import Iterable

    from icmp_rtt.kernel.libbpf import Libbpf
    from icmp_rtt.kernel.symbols import Symbols

__all__ = ("KernelFacts", "read_facts")


class KernelFacts(NamedTuple):
    """What was found, by name and never by version.

    The commits behind the features are in bpf/compat.bpf.h.
    """

    functions: frozenset[str]  # in BTF and in kallsyms
    typed_headers: bool  # has bpf_rdonly_cast
    drop_reasons: dict[int, str]  # enum skb_drop_reason, shortened; empty: none are given


def read_facts(
    lib: Libbpf, symbols: Symbols, functions: Iterable[str], btf_path: str | None
) -> KernelFacts:
    """Look up ``functions`` and the features.

    Raises:
        RequirementError: no BTF, or kallsyms cannot be read.
        ObjectError: ``btf_path`` is no BTF file of this machine.
    """
    with KernelBtf(lib, btf_path) as btf:
        known = {name for name in functions if btf.has_function(name)}
        reasons = btf.enum_names("skb_drop_reason")
        typed = btf.has_function("bpf_rdonly_cast")
    prefix = "SKB_DROP_REASON_"
    short = {number: name.replace(prefix, "", 1) for number, name in reasons.items()}
    return KernelFacts(frozenset(symbols.has_exact(known)), typed, short)
