# SPDX-License-Identifier: GPL-2.0-only
"""Which frames of a kernel stack to show: those of the packet's way, not the tracer's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from icmp_rtt.model import Stack

    class Symbols(Protocol):
        """Names of kernel addresses."""

        @property
        def problem(self) -> str | None:
            """Why there are no names, or None."""

        def name(self, address: int) -> str:
            """FUNCTION+0xOFFSET [MODULE], or the address where no name is known."""

        def frame(self, address: int) -> str:
            """As ``name``, for a return address."""


__all__ = ("function_of", "shown_frames", "stack_lines")

# What lies between a probed function and the walk of its stack: BPF programs
# and trampolines, the glue of tracepoints, the machinery of kprobes (int3,
# jump optimised, or by way of ftrace) and of returns.
_TRACER_PREFIXES = (
    "___bpf_prog_run",
    "__bpf_prog_",
    "__bpf_trace_",
    "__kretprobe_trampoline",
    "__rethook_",
    "__traceiter_",
    "arch_ftrace_",
    "arch_rethook_",
    "bpf_get_stack",
    "bpf_prog_",
    "bpf_trace_run",
    "bpf_trampoline_",
    "ftrace_",
    "kprobe_",
    "kretprobe_",
    "opt_pre_handler",
    "optimized_callback",
    "rethook_",
    "trace_call_bpf",
)
_TRACER_NAMES = frozenset(
    (
        "aggr_post_handler",
        "aggr_pre_handler",
        "asm_exc_int3",
        "do_int3",
        "exc_int3",
        "int3",
        "notifier_call_chain",
        "notify_die",
        "optprobe_template_func",
    )
)
# Probes whose function is surely on the stack. Of a kretprobe it has left by
# then, and a tracepoint names none; a deeper frame of that name would be of
# another packet (one is sent while another is received).
_KINDS_ON_STACK = ("fentry", "kprobe")


def stack_lines(stack: Stack, probe: str, symbols: Symbols) -> tuple[list[str], str | None]:
    """The frames to show of what a probe walked, and why there are none where there are none."""
    if stack.error is not None:
        return [], stack.error
    if symbols.problem is not None:
        return [], symbols.problem
    # The first address is where the probe sits, the others are to be returned to.
    names = [symbols.name(address) for address in stack.addresses[:1]]
    names += [symbols.frame(address) for address in stack.addresses[1:]]
    shown = shown_frames(names, probe)
    return shown, None if shown else "it holds no frame but the tracer's own"


def shown_frames(names: Sequence[str], probe: str) -> list[str]:
    """The frames from the probed function outward.

    Args:
        names: FUNCTION+0xOFFSET [MODULE] or bare addresses, innermost first.
        probe: KIND:FUNCTION.
    """
    kind, _, function = probe.partition(":")
    functions = [function_of(name) for name in names]
    if kind in _KINDS_ON_STACK and function in functions:
        return list(names[functions.index(function) :])
    # A function that has returned is off the stack: its entry, by which the
    # kernel names the probe, stands for it.
    returned = [f"{function}+0x0"] if kind == "kretprobe" else []
    first = 0
    while first < len(names) and _is_tracer(functions[first]):
        first += 1
    return [*returned, *names[first:]]


def function_of(name: str) -> str:
    """The function of a frame without what the compiler added to it, empty for a bare address."""
    if name.startswith("0x"):
        return ""
    return name.partition("+")[0].partition(" ")[0].partition(".")[0]


def _is_tracer(function: str) -> bool:
    """An address without a name is a trampoline made at run time."""
    return not function or function in _TRACER_NAMES or function.startswith(_TRACER_PREFIXES)
