# SPDX-License-Identifier: GPL-2.0-only
"""How much of a flood's rate is left under the tracer, on this host's own kernel.

One sender, and more than there are processors. Runs without and with the tracer take
turns, and their medians are compared. The tracer is started anew for each, with whatever
back end this kernel allows. Where that is tracepoints alone, runs under empty programs on
the same ones tell what nobody can be cheaper than.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from contenders import Floor
from network import LOCAL, PEER, Veth

__all__ = ("measure",)

_ECHOES = 200_000  # of all senders together
_SENDERS = (1, 4)
_TURNS = 9
_TRACER = [sys.executable, "-m", "icmp_rtt", "--format", "json", "--disable-kernel-stacks"]
_TRACER += ["--src-ip", LOCAL, "--dst-ip", PEER]
# As for the native tests: a network and names of namespaces of its own.
_ISOLATE = 'mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && exec "$@"'


def measure() -> dict[str, Any]:
    """The back end, and of each flood its senders and echoes a second by what watches it.

    That is nothing ("without"), the tracer ("with") and, with tracepoints alone, empty
    programs ("floor"): medians, their ratios to the first, and every turn.
    """
    command = ["unshare", "--net", "--mount", "--", "sh", "-c", _ISOLATE, "sh"]
    if os.geteuid() != 0:
        command = ["sudo", *command, "env", f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}"]
    command += [sys.executable, str(Path(__file__).resolve())]
    found: dict[str, Any] = json.loads(subprocess.check_output(command))
    return found


def main() -> None:
    with Veth():
        start = subprocess.check_output([*_TRACER, "--", "true"]).splitlines()[0]
        backend = json.loads(start)["backend"]
        floods = [_measure(senders, backend == "tracepoint") for senders in _SENDERS]
    print(json.dumps({"backend": backend, "floods": floods}))


def _measure(senders: int, floor: bool) -> dict[str, Any]:
    rates: dict[str, list[float]] = {"without": [], "with": []}
    if floor:
        rates["floor"] = []
    _flood([], senders)
    for _ in range(_TURNS):
        for watcher, turns in rates.items():
            turns.append(_watched(watcher, senders))
    medians = {name: statistics.median(turns) for name, turns in rates.items()}
    ratios = {name: median / medians["without"] for name, median in medians.items()}
    return {"senders": senders, "medians": medians, "ratios": ratios, "turns": rates}


def _watched(watcher: str, senders: int) -> float:
    if watcher == "floor":
        with Floor("floor_tracepoints"):
            return _flood([], senders)
    return _flood([*_TRACER, "--"] if watcher == "with" else [], senders)


def _flood(tracer: list[str], senders: int) -> float:
    """Echoes a second, as those pings have it that took longest; a tracer's command or not."""
    each = _ECHOES // senders
    with tempfile.TemporaryDirectory() as said:  # what each says in a file of its own
        pings = [f"ping -q -f -c {each} {PEER} >{said}/{number} &" for number in range(senders)]
        subprocess.run(
            [*tracer, "sh", "-c", f"{' '.join(pings)} wait"], check=True, stdout=subprocess.DEVNULL
        )
        text = "".join(file.read_text() for file in Path(said).iterdir())
    found = re.findall(r"(\d+) received.*time (\d+)ms", text)
    # Among several senders one or two a flood find their socket's buffer full.
    received = sum(int(received) for received, _ in found)
    assert len(found) == senders and received >= _ECHOES * 0.999, text
    return received * 1000 / max(int(taken_ms) for _, taken_ms in found)


if __name__ == "__main__":
    main()
