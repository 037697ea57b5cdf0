# SPDX-License-Identifier: GPL-2.0-only
"""The artifacts in dist, and what they did on minimal hosts."""

import json
import os
import shutil
import subprocess
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
DIST = CHECKOUT / "dist"
SUITES = os.environ.get("ICMP_RTT_SUITES", "bullseye bookworm trixie sid").split()
HAS_A_WHEEL = ("bookworm", "trixie", "sid")  # for those with a newer pip than Debian 11's
GUEST_TIMEOUT_S = 1200
GUEST_DIED = 125  # exit status of tests/vm/run
AT_ONCE = 2


def pytest_generate_tests(metafunc):
    """A test of a minimal host runs for each suite of ICMP_RTT_SUITES."""
    if "suite" in metafunc.fixturenames:
        metafunc.parametrize("suite", SUITES)


@pytest.fixture(scope="session")
def guests(tmp_path_factory):
    """Futures of what every guest recorded, by suite; all of them are started at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            suite: pool.submit(run_guest, suite, tmp_path_factory.mktemp(suite)) for suite in SUITES
        }


@pytest.fixture
def said(guests, suite):
    """What the artifacts did on the minimal host of this suite."""
    return guests[suite].result()


def run_guest(suite, share):
    """Boot the suite's root with its own kernel, and let in-guest use the artifacts there."""
    artifacts = [path for path in DIST.iterdir() if path.suffix != ".btf"]
    for path in (*artifacts, *CHECKOUT.glob(".venv/wheels/*.whl")):
        shutil.copy(path, share)
    shutil.copy(CHECKOUT / "tests/dist/in-guest", share)
    shutil.copy(minimal_btf(suite), share / "minimal.btf")
    vm = CHECKOUT / "tests/vm"
    subprocess.run([vm / "rootfs", suite], check=True)
    cache = Path(os.environ.get("ICMP_RTT_CACHE") or Path.home() / ".cache/icmp-rtt")
    root = cache / "roots" / suite
    if suite in HAS_A_WHEEL:
        subprocess.run([CHECKOUT / "tests/dist/make-venv", root, share], check=True)
    # No guest outlives this process, whatever ends it.
    command = ["setpriv", "--pdeathsig", "TERM", "--", vm / "run", suite]
    command += [f"--timeout={GUEST_TIMEOUT_S}", f"--share={share}"]
    command += [f"--root={root}", "--", "python3", "/run/vm/share/in-guest"]
    done = run(command)
    if done.returncode == GUEST_DIED:  # see tests/tools/run-tests, which does the same
        warnings.warn(f"{suite}: the guest died, once more: {done.stderr}", stacklevel=1)
        done = run(command)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((share / "results.json").read_text())


def run(command):
    """What became of a command, and what it printed."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def minimal_btf(suite):
    """The file that 'make btf' makes for the suite's kernel."""
    command = ["make", "-s", "-C", CHECKOUT, "btf", f"KERNEL={suite}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    path, _, _ = done.stdout.strip().splitlines()[-1].partition(": ")
    return CHECKOUT / path
