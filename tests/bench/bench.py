# SPDX-License-Identifier: GPL-2.0-only
"""What icmp-rtt costs, beside an empty tracer and bpftrace: one table, and the same as JSON.

Kernel side: each stock kernel is booted with one guest instruction counted as
one nanosecond, so the figures repeat, whatever else this machine does. Python
side and flood: on this host, and only as good as it is quiet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import contenders
import flood
import pipeline
import table

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
VM = CHECKOUT / "tests" / "vm" / "run"
RESULTS = CHECKOUT / "build" / "bench"
GUEST_TIMEOUT_S = 1500

# The oldest kernel with goals, and the newest there is.
SUITES = ("bookworm", "sid")


def main() -> int:
    options = _parse()
    RESULTS.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"kernels": {}}
    if options.suites:
        _compile("floor")
        with ThreadPoolExecutor(len(options.suites)) as pool:
            runs = pool.map(lambda suite: _run(suite, options.contenders), options.suites)
            result["kernels"] = dict(zip(options.suites, runs))
    for kernel in result["kernels"].values():
        print(table.kernel(kernel))
        if options.programs:
            print(table.programs(kernel))
    if options.host:
        result["python"] = pipeline.measure()
        print(table.python(result["python"]))
        _compile("floor_tracepoints")
        result["flood"] = flood.measure()
        print(table.flood(result["flood"]))
    path = RESULTS / "bench.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path.relative_to(CHECKOUT)}")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/bench.py", description=__doc__)
    parser.add_argument(
        "--kernel", default="all", help=f"of {', '.join(SUITES)}, or all, or none (%(default)s)"
    )
    parser.add_argument(
        "--contenders",
        default=",".join(contenders.CONTENDERS),
        help="separated by commas (%(default)s)",
    )
    parser.add_argument(
        "--programs", action="store_true", help="show runs and cost of each program, too"
    )
    parser.add_argument(
        "--no-host", dest="host", action="store_false", help="leave out what needs no guest"
    )
    options = parser.parse_args()
    wanted = {"all": SUITES, "none": ()}.get(options.kernel, (options.kernel,))
    options.suites = [suite for suite in wanted if suite in SUITES]
    if len(options.suites) != len(wanted):
        parser.error(f"no such kernel: {options.kernel}")
    unknown = set(options.contenders.split(",")) - set(contenders.CONTENDERS)
    if unknown:
        parser.error(f"no such contender: {', '.join(unknown)}")
    return options


def _compile(name: str) -> None:
    command = [os.environ.get("CLANG") or "clang", "-target", "bpf", "-mcpu=v3", "-O2", "-g"]
    command += ["-I", str(CHECKOUT / "bpf"), "-c", str(HERE / f"{name}.bpf.c")]
    subprocess.run([*command, "-o", str(contenders.FLOORS[name])], check=True)


def _run(suite: str, names: str) -> dict[str, Any]:
    """What the guest with the suite's kernel found; its progress goes to our standard error."""
    share = RESULTS / suite
    share.mkdir(exist_ok=True)
    found = share / "result.json"
    found.unlink(missing_ok=True)
    machine = [VM, suite, "--icount", f"--timeout={GUEST_TIMEOUT_S}", f"--share={share}", "--"]
    inside = ["env", f"PYTHONPATH={CHECKOUT}", sys.executable, str(HERE / "guest.py"), names]
    with subprocess.Popen(
        [*machine, *inside], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{suite}: {line}", end="", file=sys.stderr, flush=True)
    if process.returncode:
        raise SystemExit(f"{suite}: the guest ended with status {process.returncode}")
    result: dict[str, Any] = json.loads(found.read_text())
    return result


if __name__ == "__main__":
    sys.exit(main())
