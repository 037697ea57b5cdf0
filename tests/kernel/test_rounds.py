# SPDX-License-Identifier: GPL-2.0-only
"""Starts, stops and kills, over and over: nothing of them stays in the kernel."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import sh

# Natively so many, and a quarter of it with SIGKILL.
ROUNDS = int(os.environ.get("ICMP_RTT_ROUNDS", "8"))


def objects():
    """Programs, maps and links of the whole host."""
    return {
        (what, each["id"])
        for what in ("prog", "map", "link")
        for each in json.loads(sh(f"bpftool -j {what} show") or "[]")
    }


def run_once(backend, number):
    """Start the tool, and end it by a signal once it traces."""
    words = ["--format", "json", "--disable-kernel-stacks", "--backend", backend]
    command = [sys.executable, "-m", "icmp_rtt", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert json.loads(process.stdout.readline())["type"] == "start"
        attached = objects()
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode == (0 if number == signal.SIGINT else -number)
    return attached


def assert_nothing_stays(backend, stops, kills):
    """After all rounds no program, map or link is there that was not before."""
    before = objects()
    for turn in range(stops + kills):
        attached = run_once(backend, signal.SIGINT if turn < stops else signal.SIGKILL)
        assert attached - before, "there is nothing that could have stayed"
    deadline = time.monotonic() + 30  # the kernel frees them when it comes to it
    while objects() - before and time.monotonic() < deadline:
        pass
    assert objects() - before == set()


@pytest.mark.native
def test_rounds_natively():
    """With tracepoints, as this host's kernel allows."""
    assert_nothing_stays("tracepoint", ROUNDS, ROUNDS // 4)


@pytest.mark.guest
@pytest.mark.extended
def test_rounds(backend):
    """With all six stages."""
    assert_nothing_stays(backend, 20, 5)
