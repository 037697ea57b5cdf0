# SPDX-License-Identifier: GPL-2.0-only
"""The command line, flag by flag."""

from ipaddress import ip_network

import pytest

from icmp_rtt.arguments import make_parser, parse
from icmp_rtt.errors import OptionError
from icmp_rtt.options import Options


def options(*words):
    """The options of a trace."""
    request = parse("icmp-rtt", words)
    assert request.action == "trace"
    return request.options


def test_nothing_given():
    """Without arguments, every option has its default."""
    assert options() == Options()


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--src-ip 10.0.0.1", "local", ip_network("10.0.0.1")),
        ("--dst-ip 10.0.0.0/8", "remote", ip_network("10.0.0.0/8")),
        ("--interface eth0", "interface", "eth0"),
        ("--direction rx", "direction", "rx"),
        ("--direction both", "direction", "both"),
        ("--latency-ms 1.5", "latency_ns", 1_500_000),
        ("--disable-kernel-stacks", "stacks", False),
        ("--backend kprobe", "backend", "kprobe"),
        ("--netns blue", "netns", "blue"),
        ("--timeout 0.25", "timeout_ns", 250_000_000),
        ("--count 23", "max_echoes", 23),
        ("--duration 2", "duration_ns", 2_000_000_000),
        ("--format json", "format", "json"),
        ("--no-self-test", "self_test", False),
        ("--btf x", "btf", "x"),
        ("--object x", "object", "x"),
        ("--libbpf x", "libbpf", "x"),
        ("--verbose", "verbose", True),
        ("--only-incomplete", "only_incomplete", True),
        ("--max-sessions 7", "max_sessions", 7),
        ("-- ping -c 5 -- x", "command", ("ping", "-c", "5", "--", "x")),
    ],
)
def test_each_flag(words, name, value):
    """Each flag sets its option and leaves the others alone."""
    given = options(*words.split())
    assert getattr(given, name) == value
    changed = {
        key for key, default in Options()._asdict().items() if getattr(given, key) != default
    }
    assert changed - {"families"} == {name}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--src-ip 10.1", "--src-ip: '10.1' is neither"),
        ("--src-ip 10.0.0.1 --dst-ip ::1", "different families"),
        ("--latency-ms -1", "--latency-ms: '-1' will not do"),
        ("--latency-ms x", "--latency-ms: 'x' will not do"),
        ("--latency-ms -1e3", "--latency-ms: '-1e3' will not do"),
        ("--latency-ms -.5", "--latency-ms: '-.5' will not do"),
        ("--timeout -inf", "--timeout: '-inf' will not do"),
        ("--count 0", "--count: '0' will not do"),
        ("--timeout 0", "--timeout: '0' will not do"),
        ("--max-sessions 0", "--max-sessions: '0' will not do"),
        ("--direction up", "argument --direction: invalid choice: 'up'"),
        ("--backend ebpf", "argument --backend: invalid choice"),
        ("--format xml", "argument --format: invalid choice"),
        ("--dir rx", "unrecognized arguments: --dir"),
        ("--nonsense=1", "unrecognized arguments: --nonsense=1"),
        ("-x 5", "unrecognized arguments: -x"),
        ("check --nonsense", "unrecognized arguments: --nonsense"),
        ("--src-ip", "argument --src-ip: expected one argument"),
        ("fortune", "invalid choice: 'fortune'"),
        ("--", "no COMMAND follows --"),
        ("check -- ping", "check takes no COMMAND"),
        ("--count 1 --dst-ip 192.0.2.1 check", "check takes no --dst-ip; leave it out"),
        ("--only-incomplete check", "check takes no --only-incomplete; leave it out"),
        ("check --count 3", "unrecognized arguments: --count"),
    ],
)
def test_bad_usage(words, message):
    """Bad usage is one line, with the option, and ends with status 2."""
    with pytest.raises(OptionError) as caught:
        parse("icmp-rtt", words.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_empty_values():
    """An empty value is a mistake, not the default."""
    for flag in ("--src-ip", "--dst-ip", "--interface", "--netns", "--btf", "--object", "--libbpf"):
        with pytest.raises(OptionError, match=f"^{flag}"):
            parse("icmp-rtt", [flag, ""])


def test_check():
    """The check takes what says how to get at the kernel, before or after its name."""
    request = parse(
        "icmp-rtt", ["--backend", "kprobe", "check", "--netns", "blue", "--no-self-test"]
    )
    assert request.action == "check"
    assert request.options == Options(backend="kprobe", netns="blue", self_test=False)
    words = [
        "check",
        "--backend",
        "fentry",
        "--btf",
        "b",
        "--object",
        "o",
        "--libbpf",
        "l",
        "--verbose",
    ]
    expected = Options(backend="fentry", btf="b", object="o", libbpf="l", verbose=True)
    assert parse("icmp-rtt", words).options == expected


def test_version():
    """The version can be asked for beside anything else."""
    assert parse("icmp-rtt", ["--version", "--verbose"]).action == "version"


def test_help_names_every_flag():
    """The help names every flag, and keeps to the width of a terminal."""
    request = parse("kernel_icmp_rtt.py", ["--help"])
    assert request.action == "help"
    assert request.help.startswith("usage: kernel_icmp_rtt.py [option ...] [-- COMMAND ...]")
    for action in make_parser("x")._actions:
        assert all(flag in request.help for flag in action.option_strings)
        assert action.help or not action.option_strings
    assert max(map(len, request.help.splitlines())) <= 80


def test_help_of_the_check():
    """The check has a help of its own."""
    assert parse("icmp-rtt", ["check", "-h"]).help.startswith("usage: icmp-rtt check ")
