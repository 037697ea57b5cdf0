# SPDX-License-Identifier: GPL-2.0-only
"""Network namespaces: naming one, looking up a device in it, making a private one."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading

from icmp_rtt.errors import OptionError, RequirementError, shortage

__all__ = ("CLONE_NEWNET", "CLONE_NEWUSER", "device", "inode_of", "path_of", "unshare")

CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000
_INDICES = 1 << 31  # int, in the kernel
_NS_GET_NSTYPE = 0xB703
_OWN = "/proc/thread-self/ns/net"


def path_of(text: str) -> str:
    """The file that stands for a namespace given as a name of ip-netns, a pid, or a path.

    A name of digits goes before a pid, as it does for ip.
    """
    if "/" in text:
        return text
    named = f"/run/netns/{text}"
    if text.isascii() and text.isdigit() and not os.path.exists(named):
        return f"/proc/{text}/ns/net"
    return named


def inode_of(path: str | None = None) -> int:
    """Inode number of the namespace of file ``path``; of this process without one.

    Raises:
        OptionError: there is no such namespace.
        RequirementError: it is out of reach for this process.
    """
    if path is None:
        try:
            return os.stat(_OWN).st_ino
        except OSError as error:
            raise RequirementError(
                f"cannot look at {_OWN}: {(error.strerror or '').lower()}:"
                f" {shortage(error.errno) or 'mount /proc'}"
            ) from error
    fd = _open(path)
    try:
        if fcntl.ioctl(fd, _NS_GET_NSTYPE) != CLONE_NEWNET:
            raise OSError(errno.ENOTTY, "not a network namespace")
        return os.fstat(fd).st_ino
    except OSError as error:  # a file that is no namespace knows no such request
        raise OptionError(
            f"{path} is not a network namespace; 'ip netns list' names those there are"
        ) from error
    finally:
        os.close(fd)


def device(name: str, path: str | None = None) -> tuple[str, int]:
    """Name and index of a device in the namespace of file ``path``, or in our own.

    Args:
        name: it may be the index in digits, as in the zone of an address (RFC 4007, 11.2).

    Raises:
        OptionError: there is no such device.
        RequirementError: the namespace cannot be entered, or there is no thread to do it.
    """
    result: list[tuple[str, int] | BaseException] = []

    def look() -> None:
        try:
            if path is not None:
                _enter(path)
            result.append(_named(name))
        except (OSError, OptionError, RequirementError) as error:
            result.append(error)

    if path is None:
        look()
    else:  # in a thread of its own, which takes the namespace with it when it ends
        thread = threading.Thread(target=look)
        try:
            thread.start()
        except RuntimeError as error:
            raise RequirementError(
                f"no thread to look into the network namespace {path} with: raise the limit of"
                " processes (ulimit -u, or pids.max of the control group)"
            ) from error
        thread.join()
    if isinstance(result[0], tuple):
        return result[0]
    if isinstance(result[0], (OptionError, RequirementError)):
        raise result[0]
    where = f" in the network namespace {path}" if path else ""
    raise OptionError(f"no interface {name}{where}; 'ip link' lists those there are")


def _named(name: str) -> tuple[str, int]:
    import socket

    try:
        return name, socket.if_nametoindex(name)
    except OSError:
        if not (name.isascii() and name.isdigit() and int(name) < _INDICES):
            raise
        return socket.if_indextoname(int(name)), int(name)


def unshare(flags: int) -> None:
    """Give the calling thread new namespaces; OSError if refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(ctypes.c_int(flags)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _enter(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = _open(path)
    try:
        if libc.setns(ctypes.c_int(fd), ctypes.c_int(CLONE_NEWNET)):
            raise RequirementError(
                f"cannot enter the network namespace {path}:"
                f" {os.strerror(ctypes.get_errno()).lower()}; run as root (CAP_SYS_ADMIN)"
            )
    finally:
        os.close(fd)


def _open(path: str) -> int:
    """A descriptor of the namespace of file ``path``; errors as those of ``inode_of``."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except PermissionError as error:
        raise RequirementError(
            f"cannot look at the network namespace {path}: {(error.strerror or '').lower()};"
            " run as root, or for the PID of another user with CAP_SYS_PTRACE"
        ) from error
    except OSError as error:
        raise OptionError(
            f"no network namespace at {path}: {(error.strerror or '').lower()};"
            " give a name of 'ip netns list', a pid, or a path such as /proc/PID/ns/net"
        ) from error
