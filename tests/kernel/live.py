# SPDX-License-Identifier: GPL-2.0-only
"""The tool under way, and an echo's two ends in the test's own hands.

With these a test decides what is sent and answered, and when, and waits for what
the tool says of it: no reply is late or early by chance.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from conftest import LOCAL, PEER, Run

CLONE_NEWNET = 0x40000000
PATIENCE_S = 60


class Live:
    """A run of the tool whose JSON lines are read as they come; ends with the block."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "icmp_rtt", "--format", "json", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._bytes = b""
        self._taken = 0
        self.run = None

    def __enter__(self):
        self.wait(lambda line: line["type"] == "start")
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGINT)
        stdout, stderr = self._process.communicate(timeout=PATIENCE_S)
        self.run = Run(self._process.returncode, (self._bytes + stdout).decode(), stderr.decode())

    def send(self, number):
        """Send the tool a signal."""
        self._process.send_signal(number)

    def wait(self, wanted):
        """The next line that is ``wanted``; the lines before it are passed over."""
        end = time.monotonic() + PATIENCE_S
        while True:
            while (stop := self._bytes.find(b"\n", self._taken)) >= 0:
                line = json.loads(self._bytes[self._taken : stop])
                self._taken = stop + 1
                if wanted(line):
                    return line
            left = end - time.monotonic()
            more = b""
            if left > 0 and select.select([self._process.stdout], [], [], left)[0]:
                more = os.read(self._process.stdout.fileno(), 65536)
            if not more:
                self._process.kill()
                said = self._process.communicate()[1].decode()
                raise AssertionError(f"not seen before the end: {self._bytes.decode()}{said}")
            self._bytes += more

    def echo(self, id_, seq):
        """The next echo with this id and sequence."""
        return self.wait(
            lambda line: line["type"] == "echo" and (line["id"], line["seq"]) == (id_, seq)
        )


class Asked:
    """A request on its way: what it carries, and when it was sent for sure."""

    def __init__(self, id_, seq, payload):
        self.id, self.seq, self.payload = id_, seq, payload
        self.sent_ns = 0  # not later than this
        self.answered_ns = 0  # not earlier than this

    @property
    def least_ns(self):
        """The round trip can't have taken less."""
        return self.answered_ns - self.sent_ns


class TwoEnds:
    """Raw sockets at LOCAL and, in the peer's namespace, at PEER, which answers nothing by itself."""

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._local = stack.enter_context(_raw_socket(LOCAL))
            self._peer = stack.enter_context(socket_in("irtpeer", lambda: _raw_socket(PEER)))
            _set_answering(False)
            stack.callback(_set_answering, True)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def ask(self, id_, seq, payload):
        """Send a request and wait until the peer has it."""
        asked = Asked(id_, seq, payload)
        self._local.sendto(icmp_message(8, id_, seq, payload), (PEER, 0))
        asked.sent_ns = time.monotonic_ns()
        _await(self._peer, 8, id_, seq, payload)
        return asked

    def answer(self, asked, payload=None):
        """Send the reply to ``asked``, and wait until it is here.

        ``asked`` keeps the time of the first one.
        """
        payload = payload or asked.payload
        asked.answered_ns = asked.answered_ns or time.monotonic_ns()
        self._peer.sendto(icmp_message(0, asked.id, asked.seq, payload), (LOCAL, 0))
        _await(self._local, 0, asked.id, asked.seq, payload)

    def pass_by(self, packets):
        """Send other packets the same way as replies, each of which is received."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
            here.bind((LOCAL, 0))
            here.settimeout(PATIENCE_S)
            with socket_in("irtpeer", lambda: socket.socket(type=socket.SOCK_DGRAM)) as there:
                for _ in range(packets):
                    there.sendto(b"passing", here.getsockname())
                    here.recv(16)

    def answer_in_vain(self, asked, ttl):
        """Send a reply to ``asked`` with this time to live, by which something drops it."""
        self._peer.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        self._peer.sendto(icmp_message(0, asked.id, asked.seq, asked.payload), (LOCAL, 0))
        self._peer.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)

    def refuse(self, asked):
        """Send an error that quotes ``asked``, and wait until it is here."""
        request = icmp_message(8, asked.id, asked.seq, asked.payload)[:8]
        ends = socket.inet_aton(LOCAL) + socket.inet_aton(PEER)
        quoted = struct.pack(">BxHxxxxBBxx", 0x45, 28 + len(asked.payload), 64, 1) + ends + request
        self._peer.sendto(icmp_message(3, 0, 1, quoted), (LOCAL, 0))
        _await(self._local, 3, 0, 1, quoted)


def socket_in(netns, make):
    """What ``make`` makes in the network namespace of this name."""
    made = []

    def enter_and_make():
        with open(f"/run/netns/{netns}", "rb") as file:
            if ctypes.CDLL(None).setns(file.fileno(), CLONE_NEWNET) == 0:
                made.append(make())

    thread = threading.Thread(target=enter_and_make)  # takes the namespace with it
    thread.start()
    thread.join()
    return made[0]


def icmp_message(type_, id_, seq, payload):
    """An ICMP message with its checksum."""
    body = struct.pack(">HH", id_, seq) + payload
    total = sum(struct.unpack(f">{len(body) // 2}H", body)) + (type_ << 8)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">BBH", type_, 0, total ^ 0xFFFF) + body


def _raw_socket(address):
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    raw.bind((address, 0))
    raw.settimeout(PATIENCE_S)
    return raw


def _set_answering(answering):
    subprocess.run(
        ["ip", "netns", "exec", "irtpeer", "sysctl", "-q"]
        + [f"net.ipv4.icmp_echo_ignore_all={int(not answering)}"],
        check=True,
    )


def _await(raw, type_, id_, seq, payload):
    """Until this message has come in; others are passed over."""
    wanted = (type_, id_, seq, payload)
    while True:
        packet = raw.recv(65536)
        message = packet[(packet[0] & 15) * 4 :]
        if (message[0], *struct.unpack(">HH", message[4:8]), message[8:]) == wanted:
            return
