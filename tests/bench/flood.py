# SPDX-License-Identifier: GPL-2.0-only
"""How much of a flood's rate is left under the tracer, on this host's own kernel.

Runs without and with the tracer alternate, and their medians are compared. The
tracer is started anew for each, with whatever back end this kernel allows. Where that is
tracepoints alone, runs under empty programs on the same ones tell what nobody can be
cheaper than.
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

_ECHOES = 100_000
_TURNS = 9
_TRACER = [sys.executable, "-m", "icmp_rtt", "--format", "json", "--disable-kernel-stacks"]
_TRACER += ["--src-ip", LOCAL, "--dst-ip", PEER]
# As for the native tests: a network and names of namespaces of its own.
_ISOLATE = 'mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && exec "$@"'


def measure() -> dict[str, Any]:
    """The back end, echoes a second "without" and "with" the tracer, and their ratio.

    With tracepoints alone the rate at the "floor", too.
    """
    command = ["unshare", "--net", "--mount", "--", "sh", "-c", _ISOLATE, "sh"]
    if os.geteuid() != 0:
        command = ["sudo", *command, "env", f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}"]
    command += [sys.executable, str(Path(__file__).resolve())]
    found: dict[str, Any] = json.loads(subprocess.check_output(command))
    return found


def main() -> None:
    rates: dict[str, list[float]] = {"without": [], "with": []}
    with Veth():
        start = subprocess.check_output([*_TRACER, "--", "true"]).splitlines()[0]
        backend = json.loads(start)["backend"]
        if backend == "tracepoint":
            rates["floor"] = []
        _flood([])
        for _ in range(_TURNS):
            rates["without"].append(_flood([]))
            rates["with"].append(_flood([*_TRACER, "--"]))
            if "floor" in rates:
                with Floor("floor_tracepoints"):
                    rates["floor"].append(_flood([]))
    medians = {name: statistics.median(turns) for name, turns in rates.items()}
    ratio = medians["with"] / medians["without"]
    print(json.dumps({"backend": backend, **medians, "ratio": ratio, "turns": rates}))


def _flood(tracer: list[str]) -> float:
    """Echoes a second, as ping has it, which may be a tracer's command."""
    with tempfile.TemporaryFile("w+") as said:
        ping = ["sh", "-c", f"exec ping -q -f -c {_ECHOES} {PEER} >/proc/self/fd/{said.fileno()}"]
        subprocess.run(
            [*tracer, *ping], check=True, stdout=subprocess.DEVNULL, pass_fds=[said.fileno()]
        )
        said.seek(0)
        found = re.search(r"(\d+) received.*time (\d+)ms", said.read())
    assert found and int(found[1]) == _ECHOES, found
    return _ECHOES * 1000 / int(found[2])


if __name__ == "__main__":
    main()
