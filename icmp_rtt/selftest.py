# SPDX-License-Identifier: GPL-2.0-only
"""The self-test: one echo of our own, over loopback in a private network namespace.

Attached is not fired: it tells which probes really see an echo. The namespace
belongs to a child process and goes with it; nothing of the host's is touched.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
from typing import TYPE_CHECKING

from icmp_rtt import netns
from icmp_rtt.errors import RequirementError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ("Loopback", "loopback")

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_ANSWER_S = 2.0  # for an echo over loopback, on the slowest of emulators


class Loopback:
    """A private namespace, ready to ping itself."""

    def __init__(self, inode: int, go: Callable[[], bool]) -> None:
        self.netns = inode  # inode number
        self.ping = go  # sends one echo of each family; whether all were answered


@contextlib.contextmanager
def loopback(families: Iterable[int]) -> Iterator[Loopback]:
    """A child process with a network namespace of its own.

    Raises:
        RequirementError: no namespace can be made here.
    """
    to_child, from_child = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(to_child, from_child, tuple(families))
    os.close(to_child[0])
    os.close(from_child[1])
    try:
        inode = _answer(from_child[0], 8)
        if len(inode) < 8:
            raise RequirementError(
                "no private network namespace for the self-test can be made: run as root,"
                " or leave it out with --no-self-test"
            )

        def ping() -> bool:
            os.write(to_child[1], b"g")
            return _answer(from_child[0], 1) == b"y"

        yield Loopback(struct.unpack("=Q", inode)[0], ping)
    finally:
        os.close(to_child[1])
        os.close(from_child[0])
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _answer(fd: int, size: int) -> bytes:
    readable, _, _ = select.select([fd], [], [], 2 * _ANSWER_S)
    return os.read(fd, size) if readable else b""


def _child(
    to_child: tuple[int, int], from_child: tuple[int, int], families: tuple[int, ...]
) -> None:
    """Never returns: tells its namespace, and pings itself when told to."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.close(to_child[1])
        os.close(from_child[0])
        _own_namespace()
        os.write(from_child[1], struct.pack("=Q", netns.inode_of()))
        while os.read(to_child[0], 1):  # until the parent is done
            answered = [_ping(family) for family in families]
            os.write(from_child[1], b"y" if all(answered) else b"n")
        status = 0
    except OSError:
        pass
    finally:
        os._exit(status)


def _own_namespace() -> None:
    """With a user namespace of its own, too, where we lack a capability for the rest."""
    try:
        _make_loopback(netns.CLONE_NEWNET)
    except PermissionError:
        _make_loopback(netns.CLONE_NEWUSER | netns.CLONE_NEWNET)


def _make_loopback(namespaces: int) -> None:
    import fcntl

    netns.unshare(namespaces)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))


def _ping(family: int) -> bool:
    """Send one echo request to ourselves; whether it was answered."""
    if family == 4:
        kind, protocol, address, request = socket.AF_INET, socket.IPPROTO_ICMP, "127.0.0.1", 8
    else:
        kind, protocol, address, request = socket.AF_INET6, socket.IPPROTO_ICMPV6, "::1", 128
    packet = struct.pack("!BBHHH", request, 0, 0, os.getpid() & 0xFFFF, 1)
    if family == 4:
        packet = struct.pack("!BBHHH", request, 0, _checksum(packet), os.getpid() & 0xFFFF, 1)
    with socket.socket(kind, socket.SOCK_RAW, protocol) as raw:
        raw.settimeout(_ANSWER_S)
        raw.sendto(packet, (address, 0))
        try:
            while True:
                data = raw.recv(256)
                start = (data[0] & 15) * 4 if family == 4 else 0
                if data[start] == (0 if family == 4 else 129):
                    return True
        except socket.timeout:
            return False


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
