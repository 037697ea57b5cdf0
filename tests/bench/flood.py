# SPDX-License-Identifier: GPL-2.0-only
"""How much of a flood's rate is left under the tracer, on this host's own kernel.

Runs without and with the tracer alternate, and their medians are compared. The
tracer is started anew for each, with whatever back end this kernel allows.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from network import LOCAL, PEER, Veth

__all__ = ("measure",)

_ECHOES = 100_000
_TURNS = 9
# As for the native tests: a network and names of namespaces of its own.
_ISOLATE = 'mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && exec "$@"'


def measure() -> dict[str, Any]:
    """The back end, echoes a second "without" and "with" the tracer, and their ratio."""
    command = ["unshare", "--net", "--mount", "--", "sh", "-c", _ISOLATE, "sh"]
    if os.geteuid() != 0:
        command = ["sudo", *command, "env", f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}"]
    command += [sys.executable, str(Path(__file__).resolve())]
    found: dict[str, Any] = json.loads(subprocess.check_output(command))
    return found


def main() -> None:
    rates: dict[str, list[float]] = {"without": [], "with": []}
    with Veth():
        _flood()
        for _ in range(_TURNS):
            rates["without"].append(_flood())
            backend, rate = _traced_flood()
            rates["with"].append(rate)
    medians = {name: statistics.median(turns) for name, turns in rates.items()}
    ratio = medians["with"] / medians["without"]
    print(json.dumps({"backend": backend, **medians, "ratio": ratio, "turns": rates}))


def _flood() -> float:
    """Echoes a second, as ping has it."""
    command = ["ping", "-q", "-f", "-c", str(_ECHOES), PEER]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = re.search(r"(\d+) received.*time (\d+)ms", out)
    assert found and int(found[1]) == _ECHOES, out
    return _ECHOES * 1000 / int(found[2])


def _traced_flood() -> tuple[str, float]:
    """The tracer's back end, and the rate under it."""
    command = [sys.executable, "-m", "icmp_rtt", "--format", "json", "--disable-kernel-stacks"]
    command += ["--src-ip", LOCAL, "--dst-ip", PEER]
    read, write = os.pipe()
    # Its own output goes to where a reader that keeps up would be.
    command[0:0] = ["sh", "-c", f'"$@" | {{ head -n 1 >&{write}; exec cat >/dev/null; }}', "sh"]
    with subprocess.Popen(command, pass_fds=[write], start_new_session=True) as process:
        os.close(write)
        with os.fdopen(read) as start:
            backend = json.loads(start.readline())["backend"]
        rate = _flood()
        os.killpg(process.pid, 2)
    return backend, rate


if __name__ == "__main__":
    main()
