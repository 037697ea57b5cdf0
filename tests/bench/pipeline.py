# SPDX-License-Identifier: GPL-2.0-only
"""The Python side: echoes a second through the decoder and each output format, on one core.

No guest is needed: the records are as the kernel side makes them, each with its
own sequence number, times and buffers, and stacks of real functions.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable

from samples import BASE_NS, NETNS, TIMES_NS, decoder, guide_start, record

from icmp_rtt.kernel.symbols import Symbols
from icmp_rtt.model import Echo
from icmp_rtt.report.jsonl import JsonLines
from icmp_rtt.report.text import TextReport

__all__ = ("measure",)

_ECHOES = 4096
_BATCH = 64  # as in icmp_rtt.run
_TURNS = 15
_SPACING_NS = 20_000
# Innermost first, as a stack of the request's first stages is.
_FUNCTIONS = (
    "__ip_local_out",
    "ip_push_pending_frames",
    "raw_sendmsg",
    "inet_sendmsg",
    "__sys_sendto",
    "__x64_sys_sendto",
    "do_syscall_64",
)


def measure() -> dict[str, float]:
    """Echoes a second, by what becomes of them."""
    gc.freeze()  # as icmp_rtt.run does
    rates = {}
    for stacks in (False, True):
        records = _records(stacks)
        for name, render in _renderers().items():
            label = f"{name}, stacks" if stacks else name
            rates[label] = _rate(records, decoder(stacks).echo, render)
    return rates


def _renderers() -> dict[str, Callable[[Echo], str]]:
    symbols, offset_ns = Symbols(), time.time_ns() - time.monotonic_ns()
    return {
        "decode alone": lambda echo: "",
        "json": JsonLines(symbols, lambda number: None, offset_ns).echo,
        "text": TextReport(
            symbols, lambda number: None, offset_ns, 10**9, guide_start(), NETNS
        ).echo,
    }


def _rate(
    records: list[bytes], decode: Callable[[bytes], Echo], render: Callable[[Echo], str]
) -> float:
    """Echoes a second of processor time in the best of some turns: others only slow it down."""
    best_ns = 0
    with open(os.devnull, "w", encoding="utf-8") as sink:
        for _ in range(_TURNS):
            begin_ns = time.process_time_ns()
            for at in range(0, len(records), _BATCH):
                sink.write("".join([render(decode(each)) for each in records[at : at + _BATCH]]))
            taken_ns = time.process_time_ns() - begin_ns
            best_ns = min(best_ns or taken_ns, taken_ns)
    return len(records) * 1e9 / best_ns


def _records(stacks: bool) -> list[bytes]:
    addresses = _stack() if stacks else []
    extra = {}
    for hook in range(6) if stacks else ():
        extra[f"stack_bytes[{hook}]"] = 8 * len(addresses)
        extra |= {f"stack[{hook}][{at}]": address for at, address in enumerate(addresses)}
    return [
        record(stacks, seq=number & 0xFFFF, extra=extra | _stamps(number))
        for number in range(_ECHOES)
    ]


def _stamps(number: int) -> dict[str, int]:
    begin_ns = BASE_NS + number * _SPACING_NS
    buffer = 0xFFFF_8880_0000_0000 + number * 0x100
    found = {}
    for hook, after_ns in enumerate(TIMES_NS):
        found[f"ts_ns[{hook}]"] = begin_ns + after_ns + number % 977
        found[f"skb[{hook}]"] = buffer + 0x80 * (hook > 2)
    return found


def _stack() -> list[int]:
    """Addresses inside functions of this kernel."""
    with open("/proc/kallsyms", encoding="ascii") as file:
        lines = (line.split() for line in file)
        known = {fields[2]: int(fields[0], 16) for fields in lines}
    return [known[name] + 5 for name in _FUNCTIONS if name in known]
