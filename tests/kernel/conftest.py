# SPDX-License-Identifier: GPL-2.0-only
"""Two hosts on one kernel, and the tool run against real pings between them."""

import json
import os
import re
import subprocess
import sys

import pytest

LOCAL, PEER = "10.77.0.1", "10.77.0.2"
LOCAL6, PEER6 = "fd77::1", "fd77::2"
CARD, GATEWAY = "10.0.2.15", "10.0.2.2"
CARD6, GATEWAY6 = "fec0::15", "fec0::2"
GUEST = "ICMP_RTT_GUEST" in os.environ


def sh(command):
    """Run a shell command that must succeed; its output."""
    return subprocess.run(
        command, shell=True, check=True, stdout=subprocess.PIPE, text=True, timeout=60
    ).stdout


class Run:
    """What one run of the tool printed, and what the command in it printed."""

    def __init__(self, status, stdout, stderr):
        self.status, self.stdout, self.stderr = status, stdout, stderr
        lines = [json.loads(line) for line in stdout.splitlines() if line.startswith("{")]
        self.start = next((line for line in lines if line["type"] == "start"), None)
        self.echoes = [line for line in lines if line["type"] == "echo"]
        self.counters = next((line["counters"] for line in lines if line["type"] == "summary"), {})

    @property
    def ping_ms(self):
        """Round trip by sequence number, as ping printed it."""
        found = re.findall(r"icmp_seq=(\d+) .*time=([\d.]+) ms", self.stdout)
        return {int(seq): float(ms) for seq, ms in found}


def trace(*arguments, timeout=90):
    """Run the tool with JSON output."""
    command = [sys.executable, "-m", "icmp_rtt", "--format", "json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    return Run(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def veth():
    """v0 here and v1 in the namespace irtpeer."""
    sh("ip netns add irtpeer && ip link add v0 type veth peer name v1 netns irtpeer")
    sh(f"ip address add {LOCAL}/24 dev v0; ip -6 address add {LOCAL6}/64 dev v0 nodad")
    sh(f"ip -n irtpeer address add {PEER}/24 dev v1")
    sh(f"ip -n irtpeer -6 address add {PEER6}/64 dev v1 nodad")
    sh("ip link set v0 up; ip -n irtpeer link set v1 up; ip -n irtpeer link set lo up")
    yield "v0"
    sh("ip netns delete irtpeer")


@pytest.fixture(params=["fentry", "kprobe"])
def backend(request):
    """The two back ends that see six stages."""
    return request.param


def assert_identities(run):
    """What design.md promises of the counters."""
    c = run.counters
    assert c["requests"] == c["complete"] + c["incomplete"] + c["in_flight"] + c["refused"]
    assert c["complete"] == (
        c["reported"]
        + c["below_threshold"]
        + c["unasked"]
        + c["events_lost"]
        + c.get("beyond_count", 0)
    )


def assert_six_stages(run, count):
    """Exactly ``count`` complete echoes of six ascending stages, whose parts add up."""
    assert run.status == 0, run.stderr
    assert len(run.echoes) == count, run.counters
    for echo in run.echoes:
        times = [stage["ts_ns"] for stage in echo["stages"]]
        assert [stage["stage"] for stage in echo["stages"]] == [0, 1, 2, 3, 4, 5]
        assert times == sorted(times)
        assert echo["outcome"] == "complete"
        assert echo["path1_ns"] + echo["inter_path_ns"] + echo["path2_ns"] == echo["rtt_ns"]
    assert_identities(run)
