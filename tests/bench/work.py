# SPDX-License-Identifier: GPL-2.0-only
"""The work that every contender watches: echoes and bulk transfers over a veth pair.

How many packets there were is taken from ping and from the devices.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from network import NETNS, OTHER, PEER, packets

__all__ = ("WORK", "FarEnd", "Work")

PORT = 7777
ECHOES = 200  # in one round
SEGMENTS = 200
SEGMENT_BYTES = 1448  # with an MTU of 1500 and timestamps
DATAGRAMS = 200
DATAGRAM_BYTES = 1000

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Work:
    """Something to do for a contender to look at.

    Attributes:
        unit: what the cost is divided by.
        run: does it, and returns how many units it was.
    """

    name: str
    unit: str
    run: Callable[[], int]


class FarEnd:
    """The other end of the bulk transfers; a context manager."""

    def __enter__(self) -> FarEnd:
        inside = ["ip", "netns", "exec", NETNS, sys.executable]
        self._sink = subprocess.Popen(
            [*inside, str(HERE / "sink.py"), PEER, str(PORT)], stdout=subprocess.PIPE
        )
        assert self._sink.stdout is not None
        assert self._sink.stdout.readline() == b"ready\n"
        for work in WORK.values():  # neighbours and routes are known from now on
            work.run()
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.kill()
        self._sink.wait()


def _ping(address: str) -> int:
    out = subprocess.run(
        ["ping", "-q", "-f", "-c", str(ECHOES), address], stdout=subprocess.PIPE, text=True
    ).stdout
    found = re.search(r"(\d+) packets transmitted, (\d+) received", out)
    assert found and found[1] == found[2] == str(ECHOES), out
    return ECHOES


def _tcp() -> int:
    before = packets()
    with socket.create_connection((PEER, PORT)) as stream:
        for _ in range(SEGMENTS):
            # A record of its own is a packet of its own: the kernel merges none for GSO.
            sent = stream.send(bytes(SEGMENT_BYTES), socket.MSG_EOR)
            assert sent == SEGMENT_BYTES
        stream.shutdown(socket.SHUT_WR)
        assert int(stream.makefile().readline()) == SEGMENTS * SEGMENT_BYTES
    return packets() - before


def _udp() -> int:
    before = packets()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.connect((PEER, PORT))
        for _ in range(DATAGRAMS):
            datagrams.send(bytes(DATAGRAM_BYTES))
        datagrams.send(b"end")
        assert datagrams.recv(16) == b"end"
    return packets() - before


WORK = {
    work.name: work
    for work in (
        Work("match", "echo", lambda: _ping(PEER)),
        Work("other", "echo", lambda: _ping(OTHER)),
        Work("tcp", "packet", _tcp),
        Work("udp", "packet", _udp),
    )
}
