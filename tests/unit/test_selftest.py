# SPDX-License-Identifier: GPL-2.0-only
"""The self-test's child, with a namespace and pings that are none."""

import contextlib
import errno
import os
import resource
import signal
import socket
import threading

import pytest

from icmp_rtt import netns, opening, selftest
from icmp_rtt.cli import main
from icmp_rtt.errors import RequirementError
from icmp_rtt.options import Options
from icmp_rtt.selftest import loopback
from icmp_rtt.survey import served


@pytest.fixture
def answers(monkeypatch):
    """What an echo of a family comes to: True, False, or an errno; all answered unless changed."""
    outcomes = {4: True, 6: True}

    def ping(family):
        if outcomes[family] in (True, False):
            return outcomes[family]
        raise OSError(outcomes[family], os.strerror(outcomes[family]))

    monkeypatch.setattr(selftest, "_own_namespace", lambda: None)
    monkeypatch.setattr(selftest, "_ping", ping)
    return outcomes


def test_all_answered(answers):
    """The child tells its namespace, and that nothing is missing, as often as asked."""
    with loopback((4, 6)) as private:
        assert private.netns == netns.inode_of()
        assert private.no_ipv6 is None
        assert (private.ping(), private.ping()) == ((), ())


def test_a_descriptor_of_any_number_is_waited_for(answers):
    """select() takes none above 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard > 0 else soft, hard))
    try:
        with contextlib.ExitStack() as many:
            for _ in range(1100):
                many.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            with loopback((4,)) as private:
                assert private.ping() == ()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_child_that_is_not_ready_in_time(answers, monkeypatch):
    """A busy host is no missing privilege."""
    monkeypatch.setattr(selftest, "_START_S", 0.05)
    monkeypatch.setattr(selftest, "_own_namespace", signal.pause)
    with loopback((4,)) as private, pytest.raises(RequirementError, match="not ready within"):
        private.ping()


@pytest.mark.parametrize("outcome", [False, errno.ENETUNREACH])
def test_unanswered_family_is_named(answers, outcome):
    """It is known which family was not answered."""
    answers[4] = outcome
    with loopback((4, 6)) as private:
        assert private.ping() == (4,)
    with loopback((4,)) as private:
        assert private.ping() == (4,)


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (errno.EAFNOSUPPORT, "this kernel has no IPv6, or was booted with ipv6.disable=1"),
        (errno.EADDRNOTAVAIL, "::1 does not answer itself"),
        (False, "::1 does not answer itself"),
    ],
)
def test_host_without_ipv6(answers, outcome, why):
    """It is told why there is none; what is not asked for is not looked at."""
    answers[6] = outcome
    with loopback((4, 6)) as private:
        assert private.no_ipv6.startswith(why)
        assert private.ping() == (6,)
    with loopback((4,)) as private:
        assert private.no_ipv6 is None
        assert private.ping() == ()


def test_no_namespace(answers, monkeypatch):
    """What can't be made is an error with a remedy."""

    def refuse():
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(selftest, "_own_namespace", refuse)
    with loopback((4,)) as private:
        for ask in (lambda: private.netns, lambda: private.no_ipv6, private.ping):
            with pytest.raises(RequirementError, match="run as root, .*--no-self-test"):
                ask()


def test_no_process(answers, monkeypatch):
    """Nor is a process that can't be had an internal error; nothing is left open."""

    def refuse():
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(selftest.os, "fork", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RequirementError, match="ulimit -u.*--no-self-test"), loopback((4,)):
        pass
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def child(monkeypatch):
    """The process numbers of those that were forked."""
    children = []

    def fork(fork=os.fork):
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(selftest.os, "fork", fork)
    return children


def test_what_the_terminal_sends_is_the_parents_matter(answers, child):
    """Ctrl-C goes to the whole process group: the child does not end before its parent does."""
    with loopback((4,)) as private:
        assert private.netns
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(child[0], number)
        assert private.ping() == ()
    with pytest.raises(ProcessLookupError):
        os.kill(child[0], 0)


def test_killed_child(answers, child):
    """Somebody's SIGKILL is told as that."""
    with loopback((4,)) as private:
        assert private.netns
        os.kill(child[0], signal.SIGKILL)
        os.waitid(os.P_PID, child[0], os.WEXITED | os.WNOWAIT)
        with pytest.raises(RequirementError, match="was killed: try again"):
            private.ping()


@pytest.mark.parametrize("words", [[], ["check"], ["--interface", "lo", "--netns", "1"]])
def test_a_start_forks_before_it_has_threads(monkeypatch, words):
    """A thread that was waited for may hold the loader's state, in the child for good."""
    begun = []

    def fork():
        begun.append("process")
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(selftest.os, "fork", fork)
    monkeypatch.setattr(threading.Thread, "start", lambda _: begun.append("thread"))
    monkeypatch.setattr(opening, "check_privileges", lambda: None)
    assert main(words) == 1
    assert begun == ["process"]


@pytest.mark.parametrize(("code", "said"), [(None, None), (errno.EAFNOSUPPORT, "no IPv6")])
def test_without_a_self_test(monkeypatch, code, said):
    """Whether a socket can be made is known without a namespace."""

    class Socket:
        def __init__(self, *_):
            if code is not None:
                raise OSError(code, os.strerror(code))

        def close(self):
            pass

    monkeypatch.setattr(socket, "socket", Socket)
    why = selftest.without_ipv6()
    assert why is None if said is None else said in why


def test_what_is_served():
    """Without IPv6 the rest goes on with a note, unless IPv6 is what was asked for."""
    both, four, six = Options(), Options(families=(4,)), Options(families=(6,))
    for options in (both, four, six):
        assert served(options, None) == (options, ())
    assert served(both, "no") == (four, ("IPv4 alone is traced: no",))
    assert served(four, "no") == (four, ())
    with pytest.raises(RequirementError, match="^IPv6 is not to be had on this host: no$"):
        served(six, "no")
