# SPDX-License-Identifier: GPL-2.0-only
"""What this host's own kernel lets the tool do: at least the tracepoint back end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest
from conftest import LOCAL, PEER, assert_identities, sh, trace
from live import Live, TwoEnds

pytestmark = pytest.mark.native
PACKET_SOCKET = str(Path(__file__).with_name("packet_socket.py"))
TRACEPOINTS = ("--backend", "tracepoint", "--disable-kernel-stacks")


def test_tracepoint_back_end(veth):
    """The device stages of every echo, and nothing made up for the others."""
    run = trace(
        *TRACEPOINTS,
        "--src-ip",
        LOCAL,
        "--dst-ip",
        PEER,
        "--",
        *("ping", "-U", "-c", "23", "-i", "0.01", PEER),
    )
    assert run.status == 0, run.stderr
    assert len(run.echoes) == 23
    for echo in run.echoes:
        assert [stage["stage"] for stage in echo["stages"]] == [2, 3]
        assert echo["path1_ns"] is None
        assert echo["rtt_ns"] > 0
    unseen = ("duplicate_replies", "late_replies", "unmatched_replies", "icmp_errors")
    assert [run.counters[name] for name in unseen] == [None] * 4
    assert median(echo["rtt_ns"] / 1e6 - run.ping_ms[echo["seq"]] for echo in run.echoes) <= 0.001
    assert_identities(run)


def test_flood_is_counted_to_the_last_echo(veth):
    """Every one of 20,000 echoes is reported or counted."""
    run = trace(
        *TRACEPOINTS,
        "--src-ip",
        LOCAL,
        "--",
        "sh",
        "-c",
        f"exec ping -q -f -c 20000 {PEER} >/dev/null",
    )
    assert run.status == 0, run.stderr
    assert run.counters["requests"] == 20000
    assert run.counters["complete"] == 20000
    assert len(run.echoes) == run.counters["reported"]
    assert_identities(run)


@pytest.mark.parametrize("sessions", ["8", "4096"])
def test_echoes_with_sweeps_in_between(veth, sessions):
    """Whether anything is under way is only told from time to time; no echo is missed for it."""
    ping = ("ping", "-U", "-c", "5", "-i", "0.25", PEER)
    run = trace(*TRACEPOINTS, "--src-ip", LOCAL, "--max-sessions", sessions, "--", *ping)
    assert [echo["outcome"] for echo in run.echoes] == ["complete"] * 5
    assert_identities(run)


def test_requests_to_us_are_counted_where_ours_are_traced(veth):
    """Without icmp_rcv the device's own hook is where they are seen last."""
    ping = ("ip", "netns", "exec", "irtpeer", "ping", "-q", "-c", "5", "-i", "0.01", LOCAL)
    run = trace(*TRACEPOINTS, "--src-ip", LOCAL, "--dst-ip", PEER, "--", *ping)
    assert run.counters["requests"] == 0
    assert run.counters["other_direction"] == 5


# Sends an echo request to ::1 behind so many extension headers (destination options).
EXTENDED = """
import socket, struct, sys
ahead = int(sys.argv[1])
loopback = bytes(15) + b"\\1"
icmp = struct.pack("!BBHHH", 128, 0, 0, 77, ahead)
words = loopback + loopback + struct.pack("!II", len(icmp), 58) + icmp
total = sum(struct.unpack("!%dH" % (len(words) // 2), words))
total = (total & 0xFFFF) + (total >> 16)
icmp = icmp[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + icmp[4:]
nexts = [60] * ahead + [58]
data = b"".join(bytes((each, 0, 1, 4, 0, 0, 0, 0)) for each in nexts[1:]) + icmp
header = struct.pack("!IHBB", 6 << 28, len(data), nexts[0], 64) + loopback + loopback
answers = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW).sendto(header + data, ("::1", 0))
answers.settimeout(10)
while answers.recv(100)[0] != 129:
    pass
"""


@pytest.mark.parametrize(("headers", "requests", "unparsed"), [(0, 1, 0), (6, 1, 0), (7, 0, 2)])
def test_extension_headers(veth, headers, requests, unparsed):
    """Six are stepped over; a request behind more is not seen, and that is counted."""
    send = (sys.executable, "-c", EXTENDED, str(headers))
    run = trace("--src-ip", "::1", "--backend", "tracepoint", "--", *send)
    assert run.status == 0, run.stderr
    assert (run.counters["requests"], run.counters["complete"]) == (requests, requests)
    assert run.counters["unparsed"] == unparsed, run.counters


def test_a_group_that_was_asked_for(veth):
    """The answer comes from another address than --dst-ip names, and is no drop."""
    sh("ip netns exec irtpeer sysctl -qw net.ipv4.icmp_echo_ignore_broadcasts=0")
    ping = ("ping", "-U", "-c", "3", "-i", "0.05", "-I", "v0", "224.0.0.1")
    run = trace(*TRACEPOINTS, "--dst-ip", "224.0.0.1", "--", *ping)
    assert [echo["outcome"] for echo in run.echoes] == ["complete"] * 3
    assert (run.counters["drops"], run.counters["unparsed"]) == (0, 0)


@pytest.fixture
def way_back(veth):
    """The peer's answers come by another pair of devices, w1 to w0."""
    sh(
        f"""
        ip link add w0 type veth peer name w1 netns irtpeer
        ip address add 10.78.0.1/24 dev w0; ip -n irtpeer address add 10.78.0.2/24 dev w1
        ip link set w0 up; ip -n irtpeer link set w1 up
        for dev in all v0 w0; do sysctl -qw net.ipv4.conf.$dev.rp_filter=0; done
        ip -n irtpeer route replace {LOCAL}/32 via 10.78.0.1 dev w1"""
    )
    yield
    sh("ip link delete w0")


PINGS = ("ping", "-q", "-c", "2", "-i", "0.05", "-W", "1", PEER)


def test_reply_by_another_interface(way_back):
    """It is not seen where it was asked for, and its end at ping's socket is no drop."""
    run = trace(*TRACEPOINTS, "--interface", "v0", "--timeout", "0.3", "--", *PINGS)
    assert "2 received" in run.stdout
    assert [echo["outcome"] for echo in run.echoes] == ["incomplete"] * 2
    assert [echo.get("drop") for echo in run.echoes] == [None] * 2
    assert (run.counters["drops"], run.counters["unparsed"]) == (0, 0)


def test_answer_by_another_interface(way_back):
    """It was sent: the echo is complete without its last stage, and no threshold keeps it back."""
    where = ("--direction", "rx", "--netns", "irtpeer", "--interface", "v1", "--timeout", "0.3")
    run = trace(*TRACEPOINTS, *where, "--latency-ms", "5", "--", *PINGS)
    assert [echo["outcome"] for echo in run.echoes] == ["complete"] * 2
    for echo in run.echoes:
        assert ([stage["stage"] for stage in echo["stages"]], echo["rtt_ns"]) == ([0], None)


def test_requests_on_another_interface_are_given_up(way_back):
    """Those that nobody answers hold no room for longer than any other."""
    where = ("--direction", "rx", "--netns", "irtpeer", "--interface", "v1")
    with TwoEnds() as ends, Live(*TRACEPOINTS, *where, "--timeout", "0.2") as live:
        sh("ping -q -c 16 -i 0.01 -W 0.1 10.78.0.2 >/dev/null || true")
        ends.ask(501, 1, b"here")
        live.echo(501, 1)  # is given up after them
    assert live.run.counters["in_flight"] == 0
    assert live.run.counters["other_interface"] == 16


def test_a_request_without_room_lends_its_time_to_no_other(veth):
    """Those that come later have the same id, sequence and skb."""
    where = ("--direction", "rx", "--netns", "irtpeer", "--max-sessions", "8", "--timeout", "0.3")
    with TwoEnds() as ends, Live(*TRACEPOINTS, *where) as live:
        for seq in range(1, 9):
            ends.ask(500, seq, b"fill")
        for _ in range(20):
            ends.ask(77, 1, b"late")
        for seq in range(1, 9):
            live.echo(500, seq)
        for _ in range(5):
            begin_ns = time.monotonic_ns()
            ends.answer(ends.ask(77, 1, b"late"))
            longest_ns = time.monotonic_ns() - begin_ns
            assert 0 < live.echo(77, 1)["rtt_ns"] <= longest_ns
    assert live.run.counters["refused"] == 20


@pytest.mark.parametrize("payloads", ["abc", "aaaa"])
def test_replies_that_come_too_late(veth, payloads):
    """Each is in time for a later request, whose round trip it does not end."""
    where = ("--src-ip", LOCAL, "--timeout", "0.2")
    with TwoEnds() as ends, Live(*TRACEPOINTS, *where) as live:
        asked = []
        for payload in payloads[:2]:
            asked.append(ends.ask(5, 1, payload.encode() * 4))
            assert live.echo(5, 1)["outcome"] == "incomplete"
        for payload in payloads[2:]:
            asked.append(ends.ask(5, 1, payload.encode() * 4))
            ends.answer(asked.pop(0))
            echo = live.echo(5, 1)
            assert (echo["outcome"], echo["ambiguous"], echo["rtt_ns"]) == ("complete", True, None)


def test_a_request_sent_again_while_nobody_listens(veth):
    """That the first was restarted is lost: the reply may be its own all the same."""
    with TwoEnds() as ends, Live("--backend", "tracepoint", "--src-ip", LOCAL) as live:
        live.send(signal.SIGSTOP)
        for _ in range(3000):  # with stacks there is room for some 2,000
            ends.ask(6, 1, b"fill")
        asked = [ends.ask(7, 1, b"same") for _ in range(2)]
        live.send(signal.SIGCONT)
        live.echo(6, 1)  # there is room again
        ends.answer(asked[0])
        echo = live.echo(7, 1)
        assert (echo["outcome"], echo["ambiguous"], echo["rtt_ns"]) == ("complete", True, None)
    assert live.run.counters["incomplete_lost"] > 0
    assert_identities(live.run)


# The same request so many times, to an address.
AGAIN = """
import socket, struct, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
for _ in range(int(sys.argv[2])):
    raw.sendto(struct.pack("!BBHHH", 8, 0, 0xF7F9, 5, 1), (sys.argv[1], 0))
"""


def test_requests_that_come_in_the_same_memory(veth):
    """What is not answered is freed, and the next has its skb: by one device, so it is another."""
    sh("ip netns exec irtpeer sysctl -qw net.ipv4.icmp_echo_ignore_all=1")
    try:
        send = (sys.executable, "-c", AGAIN, PEER, "100")
        run = trace(*TRACEPOINTS, "--direction", "rx", "--netns", "irtpeer", "--", *send)
    finally:
        sh("ip netns exec irtpeer sysctl -qw net.ipv4.icmp_echo_ignore_all=0")
    assert (run.counters["requests"], run.counters["incomplete"]) == (100, 100), run.counters
    assert_identities(run)


def test_a_request_to_us_that_comes_again(veth):
    """One answer to two of them is either's."""
    where = ("--direction", "rx", "--netns", "irtpeer")
    with TwoEnds() as ends, Live(*TRACEPOINTS, *where) as live:
        asked = [ends.ask(8, 1, b"same") for _ in range(2)]
        ends.answer(asked[0])
        assert live.echo(8, 1)["reason"] == "restarted"
        echo = live.echo(8, 1)
        assert (echo["outcome"], echo["ambiguous"], echo["rtt_ns"]) == ("complete", True, None)


@pytest.fixture
def for_others(veth):
    """What sends us 12 requests that are not for us, by what becomes of them."""
    sh(
        f"""
        ip link add w0 type veth peer name w1; ip link set w0 up; ip link set w1 up
        ip address add 10.78.9.1/24 dev w0; sysctl -qw net.ipv4.conf.v0.forwarding=1
        ip -n irtpeer route add 10.78.9.0/24 via {LOCAL}"""
    )
    ping = ("ping", "-q", "-c", "12", "-i", "0.01", "-W", "0.5", "-t", "1", "10.78.9.2")
    mac = json.loads(sh("ip -json link show v0"))[0]["address"]
    tagged = (sys.executable, PACKET_SOCKET, "v1", f"{mac}/55", PEER, LOCAL, "9", "12")
    yield {"no hop is left": ping, "no such vlan": tagged}
    sh(
        f"""
        ip link delete w0; sysctl -qw net.ipv4.conf.v0.forwarding=0
        ip -n irtpeer route delete 10.78.9.0/24 via {LOCAL}"""
    )


@pytest.mark.parametrize("why", ["no hop is left", "no such vlan"])
def test_requests_that_end_here_and_were_not_for_us(for_others, why):
    """They are dropped, hold no room, and are no unanswered ones of ours."""
    where = ("--direction", "rx", "--interface", "v0", "--max-sessions", "8", "--timeout", "0.2")
    run = trace(*TRACEPOINTS, *where, "--", "ip", "netns", "exec", "irtpeer", *for_others[why])
    assert run.echoes == []
    counted = [run.counters[name] for name in ("requests", "other_address", "refused")]
    assert counted == [0, 12, 0]


def test_command_status_is_passed_on(veth):
    """The exit status is the command's."""
    assert trace(*TRACEPOINTS, "--", "sh", "-c", "exit 7").status == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_cleanly(veth, number):
    """SIGINT and SIGTERM end a run with its summary and status 0."""
    command = [sys.executable, "-m", "icmp_rtt", "--format", "json", *TRACEPOINTS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert json.loads(process.stdout.readline())["type"] == "start"
        process.send_signal(number)
        rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(rest.splitlines()[-1])["type"] == "summary"


def test_one_wish_sent_twice(veth):
    """As timeout(1) does, to its child and to the child's group: that is no second wish.

    Two signals of one number may be delivered as one; these are not.
    """
    command = [sys.executable, "-m", "icmp_rtt", "--format", "json", *TRACEPOINTS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert json.loads(process.stdout.readline())["type"] == "start"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert json.loads(process.stdout.readlines()[-1])["type"] == "summary"
    assert process.returncode == 0


def is_in_a_namespace(parent):
    """Whether a child of process ``parent`` has a network namespace of its own."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            if int((process / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                return not (process / "ns/net").samefile("/proc/self/ns/net")
    return False


def test_ctrl_c_during_the_start():
    """A terminal sends it to the self-test's process, too; the run ends as at any other time."""
    command = [sys.executable, "-m", "icmp_rtt", "--format", "json", *TRACEPOINTS]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        while not is_in_a_namespace(process.pid):
            assert process.poll() is None, process.stderr.read()
        os.killpg(process.pid, signal.SIGINT)
        out, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")
    assert [json.loads(line)["type"] for line in out.splitlines()] == ["start", "summary"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--src-ip", "10.77.0"), 2, "10.77.0"),
        (("--src-ip", LOCAL, "--dst-ip", "::1"), 2, "different families"),
        (("--interface", "nosuch0"), 2, "nosuch0"),
        (("--latency-ms", "-1"), 2, "latency"),
        (("--count", "0"), 2, "count"),
        (("--object", "/dev/null"), 1, "/dev/null"),
        (("--object", "/bin/true"), 1, "BPF"),
        (("--object", "/bin/true"), 1, "; give --object another file, or leave it out"),
        (("--btf", "/dev/null"), 1, "not a regular file: a BTF file is expected: --btf takes"),
        (("--btf", "/nonexistent"), 1, "/nonexistent"),
        (("--libbpf", "/nonexistent.so"), 1, "libbpf"),
    ],
)
def test_bad_input(arguments, status, words):
    """One line that names the culprit, the status promised, no traceback."""
    run = trace(*arguments)
    assert run.status == status, run.stderr
    assert words in run.stderr
    assert len(run.stderr.strip().splitlines()) <= 2
    assert run.stdout == ""
