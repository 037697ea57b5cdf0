# SPDX-License-Identifier: GPL-2.0-only
"""The self-test: one echo of our own, over loopback in a private network namespace.

Attached is not fired: it tells which probes really see an echo. The namespace
belongs to a child process and goes with it; nothing of the host's is touched.
That process imports what it takes, while this one has other things to import.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import struct
from typing import TYPE_CHECKING

from icmp_rtt import netns
from icmp_rtt.errors import RequirementError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ("Loopback", "loopback", "without_ipv6")

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_ANSWER_S = 2.0  # for an echo over loopback, on the slowest of emulators
_START_S = 10.0  # for the child to have its namespace, and an answer to its first echo
_HELLO = struct.Struct("=Qi")  # the child's first message: inode number, errno of IPv6
_IPV6_SWITCH = "/proc/sys/net/ipv6/conf/lo/disable_ipv6"
# What keeps a host from having IPv6, by how it shows.
_SWITCHED_OFF = "this kernel has no IPv6, or was booted with ipv6.disable=1"
_NO_ANSWER = "::1 does not answer itself; where others do, use --no-self-test"


class Loopback:
    """A private namespace, ready to ping itself; made meanwhile, and waited for when asked about.

    Args:
        families: of the echoes that it sends.
        child: where the child reads what it is to do.
        told: where it writes what came of it.

    Raises (of every attribute and method):
        RequirementError: no namespace can be made here, or its process is gone.
    """

    def __init__(self, families: tuple[int, ...], child: int, told: int) -> None:
        self._families = families
        self._child = child
        self._told = told
        self._hello: tuple[int, int] | None = None

    @property
    def netns(self) -> int:
        """Its inode number."""
        return self._greeting()[0]

    @property
    def no_ipv6(self) -> str | None:
        """Why IPv6 is not to be had here, None if it is."""
        return _why_no_ipv6(self._greeting()[1])

    def ping(self) -> tuple[int, ...]:
        """Send one echo of each family there is; those not answered."""
        self._greeting()  # comes first
        try:
            os.write(self._child, b"g")
        except BrokenPipeError as error:
            raise RequirementError(
                "the process of the self-test was killed: try again,"
                " or leave the test out with --no-self-test"
            ) from error
        answered = self._answer(2, 2 * _ANSWER_S) or b""
        return tuple(family for family in self._families if family not in answered)

    def _greeting(self) -> tuple[int, int]:
        if self._hello is None:
            hello = self._answer(_HELLO.size, _START_S)
            if hello is None:
                raise RequirementError(
                    f"the self-test's process was not ready within {_START_S:.0f} s:"
                    " try again when the host is less busy, or use --no-self-test"
                )
            if len(hello) < _HELLO.size:
                raise RequirementError(
                    "no private network namespace for the self-test can be made: run as root,"
                    " or leave it out with --no-self-test"
                )
            inode, code = _HELLO.unpack(hello)
            self._hello = inode, code
        return self._hello

    def _answer(self, size: int, within_s: float) -> bytes | None:
        """What the child says, nothing if it has ended; None if it says nothing in time."""
        poll = select.poll()  # whatever the number of the descriptor
        poll.register(self._told, select.POLLIN)
        return os.read(self._told, size) if poll.poll(within_s * 1000) else None


def without_ipv6() -> str | None:
    """Why this kernel has no IPv6, None if it has, as far as that is known without a namespace."""
    import socket

    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError as error:
        return _why_no_ipv6(error.errno or errno.EIO)
    return None


@contextlib.contextmanager
def loopback(families: Iterable[int]) -> Iterator[Loopback]:
    """A child process with a network namespace of its own.

    To be entered before this process has had a thread: one that has been waited for
    may still be on its way out, which before glibc 2.34 loads libgcc_s (pthread_exit),
    and a child that is forked in the midst of that can load nothing any more.

    Raises:
        RequirementError: no process can be made here.
    """
    to_child, from_child = os.pipe(), os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        for descriptor in (*to_child, *from_child):
            os.close(descriptor)
        raise RequirementError(
            f"no process for the self-test: {(error.strerror or '').lower()}: raise the limit of"
            " processes (ulimit -u), or leave the test out with --no-self-test"
        ) from error
    if pid == 0:
        _child(to_child, from_child, tuple(families))
    os.close(to_child[0])
    os.close(from_child[1])
    try:
        yield Loopback(tuple(families), to_child[1], from_child[0])
    finally:
        os.close(to_child[1])
        os.close(from_child[0])
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _child(
    to_child: tuple[int, int], from_child: tuple[int, int], families: tuple[int, ...]
) -> None:
    """Never returns: tells its namespace, and pings itself when told to."""
    status = 1
    try:
        # The parent's to answer; we end when it does.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(to_child[1])
        os.close(from_child[0])
        _own_namespace()
        no_ipv6 = _failure(6) if 6 in families else 0
        if no_ipv6:
            families = tuple(family for family in families if family != 6)
        os.write(from_child[1], _HELLO.pack(netns.inode_of(), no_ipv6))
        while os.read(to_child[0], 1):  # until the parent is done
            answered = [family for family in families if not _failure(family)]
            os.write(from_child[1], bytes(answered) or b"\0")
        status = 0
    except OSError:
        pass
    finally:
        os._exit(status)


def _failure(family: int) -> int:
    """Why an echo to ourselves was not answered, as an errno; 0 if it was."""
    try:
        return 0 if _ping(family) else errno.ETIMEDOUT
    except OSError as error:
        return error.errno or errno.EIO


def _why_no_ipv6(code: int) -> str | None:
    if not code:
        return None
    return _SWITCHED_OFF if code == errno.EAFNOSUPPORT else _NO_ANSWER


def _own_namespace() -> None:
    """With a user namespace of its own, too, where we lack a capability for the rest."""
    try:
        _make_loopback(netns.CLONE_NEWNET)
    except PermissionError:
        _make_loopback(netns.CLONE_NEWUSER | netns.CLONE_NEWNET)


def _make_loopback(namespaces: int) -> None:
    import fcntl
    import socket

    netns.unshare(namespaces)
    with contextlib.suppress(OSError), open(_IPV6_SWITCH, "wb", buffering=0) as switch:
        switch.write(b"0")  # ipv6.disable_ipv6=1 at boot is a default, for each namespace's lo too
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))


def _ping(family: int) -> bool:
    """Send one echo request to ourselves; whether it was answered."""
    import socket

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
