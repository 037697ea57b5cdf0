# SPDX-License-Identifier: GPL-2.0-only
"""Namespaces by their files: which are, which are not, and which are out of reach."""

import os
import socket

import pytest

from icmp_rtt import check as checking
from icmp_rtt import netns
from icmp_rtt.check import check
from icmp_rtt.cli import main
from icmp_rtt.errors import OptionError, RequirementError
from icmp_rtt.options import Options


def test_own_namespace():
    """By whatever path, it is the same."""
    assert netns.inode_of("/proc/self/ns/net") == netns.inode_of()
    assert netns.inode_of(netns.path_of(str(os.getpid()))) == netns.inode_of()


def test_name_of_digits(monkeypatch):
    """It goes before a pid, as it does for ip; without such a name it is one."""
    monkeypatch.setattr(netns.os.path, "exists", lambda path: path == "/run/netns/77")
    assert netns.path_of("77") == "/run/netns/77"
    assert netns.path_of("78") == "/proc/78/ns/net"


@pytest.mark.parametrize("path", ["/proc/self/ns/uts", "/proc/self/ns/mnt", "/etc/passwd", "/"])
def test_what_is_no_network_namespace(path):
    """Other namespaces lie on the same file system: the kernel is asked which kind it is."""
    with pytest.raises(OptionError, match=f"^{path} is not a network namespace; "):
        netns.inode_of(path)


def test_no_such_namespace():
    """It is told where it was looked for."""
    with pytest.raises(OptionError, match="no network namespace at /run/netns/nosuch: no such"):
        netns.inode_of(netns.path_of("nosuch"))


def test_out_of_reach(monkeypatch):
    """That of another user's process takes a capability: a lack, and no bad usage."""

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(netns.os, "open", refuse)
    with pytest.raises(RequirementError, match="permission denied; run as root, .*CAP_SYS_PTRACE"):
        netns.inode_of("/proc/1/ns/net")


def test_check_looks_at_the_namespace(monkeypatch):
    """One that is not there is bad usage, as without the action, before anything else is looked at."""
    monkeypatch.setattr(checking, "opening", lambda _: pytest.fail("too late"))
    with pytest.raises(OptionError, match="no network namespace at /run/netns/nosuch"):
        check(Options(netns="nosuch"))


@pytest.mark.parametrize("words", [["check", "--netns", "a\x1b[2Jb"]])
def test_check_prints_nothing_a_terminal_obeys(capsys, words):
    """What it was given is escaped."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert r"a\x1b[2Jb" in err and "\x1b" not in err


def test_no_thread_to_look_with(monkeypatch):
    """It is told as what it is."""

    def start(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(netns.threading.Thread, "start", start)
    with pytest.raises(RequirementError, match="ulimit -u"):
        netns.device("lo", "/proc/self/ns/net")


def test_a_device_by_name_or_index():
    """As in the zone of a link-local address; a name of digits goes before an index."""
    index = socket.if_nametoindex("lo")
    assert netns.device("lo") == netns.device(str(index)) == ("lo", index)
    for nothing in ("4000000000", "4294967297", "-1", "\u0661"):
        with pytest.raises(OptionError, match=f"no interface {nothing}; 'ip link' lists"):
            netns.device(nothing)
