# SPDX-License-Identifier: GPL-2.0-only
"""Under load: whatever is too much is counted, memory is bounded, and tracing goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import LOCAL, PEER, assert_identities, sh

SESSIONS = 16
SOAK_S = int(os.environ.get("ICMP_RTT_SOAK_S", "30"))
# What a run may grow by: the records of a poll and a batch of reports, several times over.
BOUND_KIB = 8 << 10


class Tracer:
    """A run of the tool without a command; a context manager that ends it as Ctrl-C would.

    Its reports are counted by a thread, from ``read`` on.

    Attributes:
        echoes: id, sequence number and outcome of each echo reported.
        counters: those of the summary, once it has ended.
    """

    def __init__(self, *arguments):
        # Another run of these tests may go on in a namespace of its own.
        words = ["--format", "json", "--disable-kernel-stacks", "--netns", str(os.getpid())]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "icmp_rtt", *words, "--src-ip", LOCAL, *arguments],
            stdout=subprocess.PIPE,
        )
        self.start = json.loads(self.process.stdout.readline())
        self.echoes, self.counters = [], None
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def read(self):
        """Begin to read reports."""
        self._reader.start()
        return self

    def wait_for(self, condition):
        """Until ``condition(echoes)`` holds."""
        with self._more:
            assert self._more.wait_for(lambda: condition(self.echoes), 60), len(self.echoes)

    def end(self):
        """Its counters; every report has been read."""
        self.process.send_signal(signal.SIGINT)
        self._reader.join(60)
        assert self.process.wait(60) == 0
        return self.counters

    def forget_most_resident(self):
        """What there was until now: the start has more in memory than the run, for a moment."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")

    def resident_kib(self, kind="Rss"):
        """Memory at this moment (Rss), or the most there was so far (VmHWM).

        The first is counted page by page: to what the kernel keeps count of, 5.10 adds the
        pages of the ring buffer only after the thread's next 64 faults (check_sync_rss_stat).
        """
        name = "smaps_rollup" if kind == "Rss" else "status"
        with open(f"/proc/{self.process.pid}/{name}", encoding="ascii") as file:
            return int(re.search(rf"^{kind}:\s+(\d+)", file.read(), re.MULTILINE)[1])

    def _read(self):
        line_of_echo = re.compile(rb'"id": (\d+), "seq": (\d+), "outcome": "(\w+)"')
        for line in self.process.stdout:
            with self._more:
                if line.startswith(b'{"type": "echo"'):
                    number, seq, outcome = line_of_echo.search(line).groups()
                    self.echoes.append((int(number), int(seq), outcome.decode()))
                else:
                    self.counters = json.loads(line)["counters"]
                self._more.notify()


def flood(count, address=PEER, senders=1):
    """Flood echoes from so many senders at once; how many were sent, and answered."""
    command = ["ping", "-q", "-f", "-c", str(count), address]
    pings = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(senders)]
    return sums(ping.communicate()[0] for ping in pings)


def sums(reports):
    """How many echoes were sent, and answered, as pings have it."""
    found = [re.search(r"(\d+) packets transmitted, (\d+) received", each) for each in reports]
    return sum(int(each[1]) for each in found), sum(int(each[2]) for each in found)


def until_reported(tracer):
    """Send single echoes until one is reported, which says that all before it have been read."""
    deadline = time.monotonic() + 60
    tries = 0
    tracer.wait_for(bool)
    while tracer.echoes[-1][0] == tracer.echoes[0][0]:
        assert time.monotonic() < deadline, tries
        tries += flood(1)[1]
    return tries


@pytest.mark.native
def test_flood_of_many_senders(veth):
    """Of 200,000 echoes each is reported once, or counted."""
    with Tracer().read() as tracer:
        sent, answered = flood(50_000, senders=4)
        counters = tracer.end()
    assert sent == 200_000
    assert counters["requests"] == sent
    assert counters["complete"] >= answered
    assert_identities(tracer)
    complete = [echo for echo in tracer.echoes if echo[2] == "complete"]
    assert len(complete) == len(set(complete)) == counters["reported"]
    assert (
        len(tracer.echoes) - len(complete) == counters["incomplete"] - counters["incomplete_lost"]
    )


@pytest.mark.native
@pytest.mark.parametrize("stopped", ["tracer", "reader"])
def test_stopped(veth, stopped):
    """The tracer (SIGSTOP) or whoever reads its reports stops during a flood."""
    with Tracer() as tracer:
        tracer.forget_most_resident()
        before = tracer.resident_kib("VmHWM")
        assert before < 1.1 * tracer.resident_kib()
        if stopped == "tracer":
            tracer.process.send_signal(signal.SIGSTOP)
        # Several times what the ring buffer, a pipe and a batch of reports hold.
        sent, answered = flood(100_000)
        assert sent == answered == 100_000
        if stopped == "tracer":
            tracer.process.send_signal(signal.SIGCONT)
        tracer.read()
        tries = until_reported(tracer)
        # From here on none is lost any more.
        later, _ = flood(23)
        tracer.wait_for(lambda echoes: echoes[-1][1] == 23)
        most = tracer.resident_kib("VmHWM")
        counters = tracer.end()
    assert counters["requests"] == counters["complete"] == sent + tries + later
    assert counters["events_lost"] > 0
    assert len(tracer.echoes) == counters["reported"]
    assert [seq for _, seq, _ in tracer.echoes[-23:]] == [*range(1, 24)]
    assert len(set(tracer.echoes)) == len(tracer.echoes)
    assert_identities(tracer)
    assert most - before < BOUND_KIB


@pytest.mark.native
def test_session_map_full(veth):
    """What there is no room for is refused and counted, and there is room again."""
    sh("ip netns exec irtpeer sysctl -q net.ipv4.icmp_echo_ignore_all=1")
    try:
        with Tracer("--max-sessions", str(SESSIONS), "--timeout", "5").read() as tracer:
            sh(f"ping -q -c 50 -i 0.002 -W 0.1 {PEER} || true")
            tracer.wait_for(lambda echoes: len(echoes) >= SESSIONS)
            unanswered = list(tracer.echoes)
            sh("ip netns exec irtpeer sysctl -q net.ipv4.icmp_echo_ignore_all=0")
            _, answered = flood(1000)
            counters = tracer.end()
    finally:
        sh("ip netns exec irtpeer sysctl -q net.ipv4.icmp_echo_ignore_all=0")
    assert answered == 1000
    assert {outcome for _, _, outcome in unanswered} == {"incomplete"}
    assert [seq for _, seq, _ in unanswered[:SESSIONS]] == [*range(1, SESSIONS + 1)]
    assert counters["requests"] == 1050
    assert counters["complete"] == counters["reported"] == 1000
    assert counters["refused"] == 50 - counters["incomplete"] > 0
    assert_identities(tracer)


@pytest.mark.native
def test_sessions_of_many_addresses(veth):
    """Echoes of all sorts lie anywhere: nearly all of the room is used before one is refused."""
    room, hosts = 128, 100
    sh("ip -n irtpeer address add 10.78.0.1/24 dev lo; ip route add 10.78.0.0/24 via " + PEER)
    sh("ip netns exec irtpeer sysctl -q net.ipv4.icmp_echo_ignore_all=1")
    try:
        with Tracer("--max-sessions", str(room), "--timeout", "2").read() as tracer:
            sh("fping -q -c 1 -i 1 -t 100 -g 10.78.0.2 10.78.0.101 2>/dev/null || true")
            tracer.wait_for(lambda echoes: len(echoes) >= hosts)
            counters = tracer.end()
    finally:
        sh("ip netns exec irtpeer sysctl -q net.ipv4.icmp_echo_ignore_all=0")
        sh("ip route del 10.78.0.0/24; ip -n irtpeer address del 10.78.0.1/24 dev lo")
    assert (counters["requests"], counters["incomplete"], counters["refused"]) == (hosts, hosts, 0)
    assert_identities(tracer)


@pytest.mark.guest
def test_memory(veth):
    """With all six stages and what is left of its start the tool takes less than 45 MB."""
    with Tracer("--dst-ip", PEER).read() as tracer:
        assert tracer.start["backend"] == "fentry"
        assert flood(100) == (100, 100)
        tracer.wait_for(lambda echoes: len(echoes) == 100)
        assert tracer.resident_kib() < 45_000_000 // 1024


@pytest.mark.guest
@pytest.mark.extended
def test_soak(veth):
    """At up to 1,000 echoes a second memory stays as it is, and nothing is lost track of."""
    with Tracer("--dst-ip", PEER).read() as tracer:
        third = max(1, SOAK_S // 3)
        pings, resident = [], []
        for _ in range(3):
            pings.append(sh(f"ping -q -i 0.001 -w {third} {PEER}"))
            tracer.wait_for(bool)
            resident.append(tracer.resident_kib())
        counters = tracer.end()
    print(f"{counters}, resident after each third: {resident} KiB")
    sent, answered = sums(pings)
    assert counters["requests"] == sent
    assert 20 * third < answered <= counters["complete"] <= sent  # ping may leave before the last
    assert_identities(tracer)
    assert resident[2] - resident[0] < 1024
