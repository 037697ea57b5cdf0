# SPDX-License-Identifier: GPL-2.0-only
"""Network namespaces: naming one, looking up a device in it, making a private one."""

from __future__ import annotations

import ctypes
import os
import socket
import threading

from icmp_rtt.errors import OptionError, RequirementError

__all__ = ("CLONE_NEWNET", "CLONE_NEWUSER", "device_index", "inode_of", "path_of", "unshare")

CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000
_OWN = "/proc/thread-self/ns/net"


def path_of(text: str) -> str:
    """The file that stands for a namespace given as a name of ip-netns, a pid, or a path."""
    if "/" in text:
        return text
    if text.isascii() and text.isdigit():
        return f"/proc/{text}/ns/net"
    return f"/run/netns/{text}"


def inode_of(path: str | None = None) -> int:
    """Inode number of the namespace of file ``path``; of this process without one.

    Raises:
        OptionError: there is no such namespace.
    """
    try:
        status = os.stat(path or _OWN)
    except OSError as error:
        raise OptionError(
            f"no network namespace at {path}: {(error.strerror or '').lower()};"
            " give a name of 'ip netns list', a pid, or a path such as /proc/PID/ns/net"
        ) from error
    if path is not None and status.st_dev != os.stat(_OWN).st_dev:
        raise OptionError(
            f"{path} is not a network namespace; 'ip netns list' names those there are"
        )
    return status.st_ino


def device_index(name: str, path: str | None = None) -> int:
    """Index of device ``name`` in the namespace of file ``path``, or in our own.

    Raises:
        OptionError: there is no such device.
        RequirementError: the namespace cannot be entered.
    """
    result: list[int | BaseException] = []

    def look() -> None:
        try:
            if path is not None:
                _enter(path)
            result.append(socket.if_nametoindex(name))
        except (OSError, RequirementError) as error:
            result.append(error)

    if path is None:
        look()
    else:  # in a thread of its own, which takes the namespace with it when it ends
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    if isinstance(result[0], int):
        return result[0]
    if isinstance(result[0], RequirementError):
        raise result[0]
    where = f" in the network namespace {path}" if path else ""
    raise OptionError(f"no interface {name}{where}; 'ip link' lists those there are")


def unshare(flags: int) -> None:
    """Give the calling thread new namespaces; OSError if refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(ctypes.c_int(flags)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _enter(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(ctypes.c_int(fd), ctypes.c_int(CLONE_NEWNET)):
            raise RequirementError(
                f"cannot enter the network namespace {path}:"
                f" {os.strerror(ctypes.get_errno()).lower()}; run as root (CAP_SYS_ADMIN)"
            )
    finally:
        os.close(fd)
