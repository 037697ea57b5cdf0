# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel refuses, in words: the cause, what else it means, and what can be done."""

from __future__ import annotations

import os
from errno import EACCES, ENOENT, ENOMEM, EPERM, ESRCH
from typing import TYPE_CHECKING

from icmp_rtt import stages
from icmp_rtt.errors import RequirementError, shortage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from icmp_rtt.errors import LibbpfError

__all__ = ("cause", "refused_everything", "refused_with", "remedy")

_NOT_SUPPORTED = 524  # the kernel's ENOTSUPP, which has no name outside it

# libbpf's words for a function that is not in the kernel's BTF, whatever the errno: before 1.3
# that is EPERM where it may not go through the BTF of modules.
_NOT_FOUND = "failed to find kernel BTF type ID"
_NO_TRAMPOLINES = (
    "this kernel has no trampolines (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS),"
    " or a policy refuses them (lockdown, an LSM)"
)
_OF_ATTACHING = (EACCES, ENOENT)  # the verifier has other causes for these
_REMEDIES = {
    ("fentry", EPERM): _NO_TRAMPOLINES,
    ("fentry", _NOT_SUPPORTED): _NO_TRAMPOLINES,
    ("kprobe", EACCES): "set kernel.perf_event_paranoid to 2, or give the process CAP_SYS_ADMIN",
    ("kprobe", EPERM): "a policy refuses kprobes (lockdown, an LSM)",
    ("kprobe", ENOENT): (
        "this kernel has no kprobe events (CONFIG_KPROBE_EVENTS), or /sys is not mounted"
    ),
}


def cause(error: LibbpfError) -> str:
    """Why a program was refused."""
    why = os.strerror(error.errno).lower()
    if _lacks_btf(error):
        why = "not in this kernel's BTF"
    elif error.errno == _NOT_SUPPORTED:
        why = "not supported here"
    return f"{why} (errno {error.errno})"


def remedy(program: str, error: LibbpfError) -> str | None:
    """What can be done about it, or at least what it comes from; None if that is not known."""
    if _lacks_btf(error):
        return None
    known = error.call.startswith("bpf_program__attach") or error.errno not in _OF_ATTACHING
    return (known and _REMEDIES.get((_sort(program), error.errno))) or shortage(error.errno)


def refused_with(program: str, error: LibbpfError, programs: Iterable[str]) -> list[str]:
    """The refused program and those of ``programs`` that will not do any better."""
    sort = _sort(program)
    all_of_them = error.errno in (EPERM, _NOT_SUPPORTED) and not _lacks_btf(error)
    return [name for name in programs if name == program or (all_of_them and _sort(name) == sort)]


def refused_everything(error: LibbpfError) -> RequirementError:
    """A load that failed before any program was looked at."""
    if error.errno in (EPERM, EACCES):
        why = (
            "the kernel refuses BPF to this process: run as root, or give it CAP_BPF and"
            " CAP_PERFMON (on kernels before 5.11 CAP_SYS_RESOURCE as well)"
        )
    elif "failed to iterate BTF objects" in error.log:
        why = (
            "this kernel lacks bpf_rdonly_cast, which libbpf then looks for in its modules:"
            " run as root, or give the process CAP_SYS_ADMIN as well"
        )
    elif error.errno == ESRCH:  # of a load as a whole: it got no further than that
        why = (
            "the BPF object cannot be loaded: libbpf could not load the kernel's BTF:"
            f" {shortage(ENOMEM)}, if it is that; --verbose shows its words"
        )
    else:
        what_to_do = shortage(error.errno)
        why = f"the BPF object cannot be loaded: {error}" + (
            f": {what_to_do}" if what_to_do else ""
        )
        if error.errno == ENOMEM:
            why += ", or give a smaller --max-sessions"
    return RequirementError(why, error.log)


def _lacks_btf(error: LibbpfError) -> bool:
    return error.errno == ESRCH or _NOT_FOUND in error.log


def _sort(program: str) -> str:
    """The kind of its probe; one name for entry and exit."""
    kind = program.partition("__")[0]
    return next((backend for backend, kinds in stages.BACKENDS.items() if kind in kinds[:-2]), kind)
