# SPDX-License-Identifier: GPL-2.0-only
"""What the BPF programs of a process have cost so far, as the kernel accounts for it.

Where one guest instruction takes one nanosecond, a run time is a number of
instructions.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ("Cost", "costs", "enable", "names", "side_of")

# Parts of the names of programs that run for a packet on its way out. All others,
# among them one for dropped packets, are taken to run on its way in.
_OUT = ("make_skb", "send_skb", "local_out", "dev_queue")

_FDINFO = re.compile(r"^(prog_id|run_time_ns|run_cnt):\t(\d+)$", re.MULTILINE)


class Cost(NamedTuple):
    """Of one program."""

    run_time_ns: int
    run_count: int

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.run_time_ns - other.run_time_ns, self.run_count - other.run_count)


def enable() -> None:
    """Have the kernel account for programs from now on."""
    Path("/proc/sys/kernel/bpf_stats_enabled").write_text("1")


def costs(pid: int) -> dict[int, Cost]:
    """Of every program that a process holds, by the program's number."""
    found = {}
    directory = f"/proc/{pid}/fdinfo"
    for name in os.listdir(directory):
        with suppress(FileNotFoundError), open(f"{directory}/{name}", encoding="ascii") as file:
            fields = {key: int(value) for key, value in _FDINFO.findall(file.read())}
            if "run_time_ns" in fields:  # links tell a prog_id, too
                found[fields["prog_id"]] = Cost(fields["run_time_ns"], fields["run_cnt"])
    return found


def names() -> dict[int, str]:
    """Names of all loaded programs, by number."""
    out = subprocess.run(["bpftool", "-j", "prog", "show"], check=True, stdout=subprocess.PIPE)
    return {each["id"]: each.get("name", "?") for each in json.loads(out.stdout)}


def side_of(name: str) -> str:
    """Whether a program of that name runs for packets on their way "out" or "in"."""
    return "out" if any(part in name for part in _OUT) else "in"
