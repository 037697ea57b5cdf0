# SPDX-License-Identifier: GPL-2.0-only
"""What is said where the kernel refuses something, and that nothing said is lost."""

import contextlib
import errno
import re
from types import SimpleNamespace

import pytest
from fakehost import FACTS, FakeHost, error

from icmp_rtt import check as checking
from icmp_rtt import survey as surveying
from icmp_rtt.check import check
from icmp_rtt.errors import RequirementError
from icmp_rtt.options import Options
from icmp_rtt.refusal import cause, refused_everything, refused_with, remedy
from icmp_rtt.survey import survey

ENOTSUPP = 524
PROGRAMS = ["fentry__ip_rcv", "fexit__ip_rcv", "kprobe__ip_rcv", "kretprobe__ip_rcv", "tp_btf__x"]


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        ("kprobe__ip_rcv", errno.EACCES, "perf_event_paranoid to 2, .* CAP_SYS_ADMIN"),
        ("kretprobe__ip_rcv", errno.ENOENT, "CONFIG_KPROBE_EVENTS"),
        ("kprobe__ip_rcv", errno.EPERM, "policy"),
        ("fentry__ip_rcv", errno.EPERM, "no trampolines .* policy .*lockdown"),
        ("fexit__ip_rcv", ENOTSUPP, "no trampolines"),
        ("tp_btf__x", errno.EMFILE, "ulimit -n"),
        ("tp_btf__x", errno.ENOMEM, "memory"),
    ],
)
def test_remedies(program, code, words):
    """Each refusal that is known to happen has one."""
    assert re.search(words, remedy(program, error(code)))


def test_no_remedy_is_made_up():
    """What is not known has none, and its cause is told by the kernel's number."""
    for code in (errno.EACCES, errno.ENOENT):  # of the verifier, and not of attaching
        assert remedy("kprobe__ip_rcv", error(code, call="bpf_object__load")) is None
    assert remedy("fentry__ip_rcv", error(errno.EINVAL)) is None
    assert remedy("tp_btf__x", error(errno.EPERM)) is None
    assert cause(error(errno.EINVAL)) == "invalid argument (errno 22)"
    assert cause(error(ENOTSUPP)) == "not supported here (errno 524)"
    assert cause(error(errno.ESRCH)) == "not in this kernel's BTF (errno 3)"


def test_a_function_without_btf_is_alone_in_that():
    """Even if libbpf calls it EPERM, which elsewhere speaks of all that are like it."""
    words = (
        "libbpf: failed to iterate BTF objects: -1\n"
        "libbpf: prog 'fentry__ip_rcv': failed to find kernel BTF type ID of 'ip_rcv': -1\n"
    )
    missing = error(errno.EPERM, words)
    assert cause(missing) == "not in this kernel's BTF (errno 1)"
    assert remedy("fentry__ip_rcv", missing) is None
    programs = ["fentry__ip_rcv", "fentry__icmp_rcv"]
    assert refused_with("fentry__ip_rcv", missing, programs) == ["fentry__ip_rcv"]
    assert refused_with("fentry__ip_rcv", error(errno.EPERM), programs) == programs


def test_what_is_refused_with_it():
    """What is forbidden is so for all of its sort, and what is missing only for itself."""
    assert refused_with("fexit__ip_rcv", error(errno.EPERM), PROGRAMS) == PROGRAMS[:2]
    assert refused_with("kprobe__ip_rcv", error(ENOTSUPP), PROGRAMS) == PROGRAMS[2:4]
    assert refused_with("tp_btf__x", error(errno.EPERM), PROGRAMS) == ["tp_btf__x"]
    assert refused_with("kprobe__ip_rcv", error(errno.ENOENT), PROGRAMS) == ["kprobe__ip_rcv"]


@pytest.mark.parametrize(
    ("code", "log", "words"),
    [
        (errno.EPERM, "", "CAP_BPF and CAP_PERFMON"),
        (errno.EINVAL, "failed to iterate BTF objects", "bpf_rdonly_cast"),
        (errno.EMFILE, "", r"Too many open files \(errno 24\): raise the limit of open files"),
        (errno.ENOMEM, "", "smaller --max-sessions"),
        (errno.ESRCH, "", "could not load the kernel's BTF: raise the limit of memory"),
        (errno.EINVAL, "", r"bpf_object__load\(x\) failed: Invalid argument \(errno 22\)$"),
    ],
)
def test_refused_everything(code, log, words):
    """A load that fails as a whole says what to do, and keeps what libbpf said."""
    told = refused_everything(error(code, log, "bpf_object__load(x)"))
    assert re.search(words, str(told))
    assert told.detail == log


@pytest.fixture
def found(monkeypatch):
    """The survey of such a kernel."""
    monkeypatch.setattr(surveying, "lockdown", lambda: "none")

    def found(backend="auto", **refuses):
        options = Options(backend=backend, self_test=False, families=(4,))
        return survey(options, FakeHost(**refuses), FACTS, {"stacks": 0}, None)

    return found


def test_verifiers_words_are_kept(found):
    """Of a host that refuses every back end, for --verbose; the message has each remedy."""
    kinds = ("fentry", "fexit", "kprobe", "kretprobe", "tp_btf")
    with pytest.raises(RequirementError) as caught:
        found(**dict.fromkeys(kinds, errno.EPERM))
    message = str(caught.value)
    assert "\n" not in message
    assert "icmp-rtt check" not in message
    for words in ("; kprobe: ", "; tracepoint: ", "no trampolines", "a policy refuses kprobes"):
        assert words in message
    for kind in ("fexit", "kretprobe", "tp_btf"):
        assert f"verifier on {kind}__" in caught.value.detail


def test_back_ends_passed_over_have_a_remedy(found):
    """The back end that holds is taken, and what was said of those before it is kept."""
    survey = found(fentry=ENOTSUPP, fexit=ENOTSUPP)
    assert survey.plan.backend == "kprobe"
    (why,) = survey.passed_over
    assert why.startswith("fentry: fexit:__ip_make_skb: refused: not supported here (errno 524)")
    assert "no trampolines" in why
    assert survey.refusals.startswith("fexit____ip_make_skb: bpf_program__attach(x) failed: ")
    assert "(errno 524)\nverifier on fexit____ip_make_skb: no\n" in survey.refusals


@pytest.mark.parametrize("verbose", [False, True])
def test_check_tells_the_verifiers_words(found, monkeypatch, verbose):
    """With --verbose, where a back end is left and where none is; the verdict stays last."""
    opened = SimpleNamespace(
        loopback=None,
        symbols=SimpleNamespace(close=lambda: None),
        read=lambda: (FakeHost(), FACTS),
    )
    monkeypatch.setattr(checking, "opening", lambda _: contextlib.nullcontext(opened))
    kinds = ("fentry", "fexit", "kprobe", "kretprobe", "tp_btf")
    for refused, ok in ((kinds[:2], True), (kinds, False)):
        refuses = dict.fromkeys(refused, errno.EPERM)
        monkeypatch.setattr(checking, "survey", lambda *_, refuses=refuses: found(**refuses))
        lines, usable = check(Options(object="/dev/null", verbose=verbose))
        assert usable is ok
        assert lines[-1].startswith("six stages: ")
        assert any(line.startswith("verifier on fexit__") for line in lines) is verbose
        assert not any("icmp-rtt check" in line for line in lines)
