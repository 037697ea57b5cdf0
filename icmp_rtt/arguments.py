# SPDX-License-Identifier: GPL-2.0-only
"""The command line: words in, ``Options`` out.

Flags that the original tool has keep its names and meanings.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypeVar

from icmp_rtt import options as opt
from icmp_rtt.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

__all__ = ("Request", "make_parser", "parse")

_T = TypeVar("_T")

_DESCRIPTION = """\
Show where the time of an ICMP echo goes inside this host's kernel, in six
stages, and where an unanswered one stopped."""

_EPILOG = """\
examples:
  %(prog)s --src-ip 192.168.1.10 --dst-ip 192.168.1.20
  %(prog)s --dst-ip 192.168.1.20 --count 5 -- ping 192.168.1.20
  %(prog)s --src-ip 192.168.1.10 --direction rx --format json
  %(prog)s check

-- COMMAND ... is run once every probe is attached; the run ends when it has
ended and its replies are in, or are overdue. At the end of --duration and
--count it gets SIGINT, and two seconds later SIGTERM.

exit status: 0 fine, 2 bad usage, 1 anything else, 130 interrupted twice. With
COMMAND, that of the command: 126 if it cannot be run, 127 if it is not there,
128 + N if signal N ended it, or came before it was started."""


class Request:
    """What the command line asks for.

    Args:
        action: "trace", "check", "version" or "help".
    """

    def __init__(self, action: str, options: opt.Options, help: str = "") -> None:
        self.action = action
        self.options = options
        self.help = help


class _HelpAsked(Exception):
    """Carries the help out of argparse, which would print it and end the process."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Of a fixed width: to ask the terminal, argparse would import shutil at every start."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=80)


class _Parser(argparse.ArgumentParser):
    """Neither prints nor exits: bad usage is one of our own errors, in one line."""

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message}; '{self.prog} --help' lists what there is")

    def print_help(self, file: object = None) -> NoReturn:
        raise _HelpAsked(self.format_help())

    def join_numbers(self, words: Sequence[str]) -> list[str]:
        """A flag's value that begins with a minus would be taken for a flag, and not be named."""
        joined: list[str] = []
        for word in words:
            action = self._option_string_actions.get(joined[-1]) if joined else None
            if action is not None and action.nargs is None and word[:1] == "-" and _is_number(word):
                joined[-1] += f"={word}"
            else:
                joined.append(word)
        return joined

    def refuse_unknown_flags(self, words: Sequence[str]) -> None:
        """Name an unknown flag; argparse would take its value for an action and name that."""
        for word in words:
            flag = word.partition("=")[0]
            is_flag = flag.startswith("-") and flag != "-" and not flag[1].isdigit()
            if is_flag and flag not in self._option_string_actions:
                self.error(f"unrecognized arguments: {word}")


def parse(prog: str, argv: Sequence[str]) -> Request:
    """What ``argv`` asks for.

    Raises:
        OptionError: it cannot be meant.
    """
    words = list(argv)
    command: tuple[str, ...] = ()
    if "--" in words:
        split = words.index("--")
        command = tuple(words[split + 1 :])
        words = words[:split]
        if not command:
            raise OptionError("no COMMAND follows --; give one, or leave -- out")
    parser = make_parser(prog)
    words = parser.join_numbers(words)
    parser.refuse_unknown_flags(words)
    try:
        given = parser.parse_args(words)
    except _HelpAsked as asked:
        return Request("help", opt.Options(), str(asked))
    action = "version" if given.version else given.action or "trace"
    if action == "check" and command:
        raise OptionError("check takes no COMMAND; leave out what follows, from -- on")
    if action == "check":
        _refuse_trace_options(given, parser)
    return Request(action, _options(given, command))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _refuse_trace_options(given: argparse.Namespace, parser: _Parser) -> None:
    """Those before ``check``, which argparse takes there; behind it it refuses them itself."""
    machine = _Parser(add_help=False)
    _add_machine(machine)
    taken = {"action", "version", *vars(machine.parse_args([]))}
    usual = vars(parser.parse_args([]))
    for name, value in vars(given).items():
        if name not in taken and value != usual[name]:
            raise OptionError(f"check takes no --{name.replace('_', '-')}; leave it out")


def make_parser(prog: str) -> _Parser:
    """The parser, for ``parse`` and for what documents it."""
    parser = _Parser(
        prog=prog,
        usage="%(prog)s [option ...] [-- COMMAND ...]\n       %(prog)s check [option ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    _add_filters(parser)
    _add_output(parser)
    _add_ends(parser)
    _add_machine(parser)
    parser.add_argument(
        "--version",
        action="store_true",
        help="print the version and end; with --verbose source commit and BPF objects too",
    )
    actions = parser.add_subparsers(
        title="actions", dest="action", metavar="check", prog=prog, parser_class=_Parser
    )
    check = actions.add_parser(
        "check",
        help="print what stands for each stage on this kernel, and what this host lacks",
        description="Print what stands for each stage on this kernel, and what this host lacks.",
        argument_default=argparse.SUPPRESS,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    _add_machine(check)
    return parser


def _add_filters(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which echoes")
    group.add_argument(
        "--src-ip",
        metavar="ADDRESS",
        help="local address or prefix, IPv4 or IPv6, in both directions (default: any)",
    )
    group.add_argument(
        "--dst-ip",
        metavar="ADDRESS",
        help="remote address or prefix, in both directions (default: any)",
    )
    group.add_argument(
        "--interface",
        metavar="NAME",
        help="count only what leaves and arrives through this interface, given by name or"
        " index (default: all)",
    )
    group.add_argument(
        "--direction",
        choices=opt.DIRECTIONS,
        default="tx",
        help="tx: this host pings; rx: it is pinged; both (default: tx)",
    )
    group.add_argument(
        "--latency-ms",
        metavar="MS",
        default="0",
        help="report only round trips of at least this many milliseconds, and what was not"
        " answered (default: 0)",
    )
    group.add_argument(
        "--only-incomplete", action="store_true", help="report only echoes that were not answered"
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--format", choices=opt.FORMATS, default="text", help="form of the reports (default: text)"
    )
    group.add_argument(
        "--disable-kernel-stacks", action="store_true", help="take and print no kernel stacks"
    )


def _add_ends(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("when to end (always on Ctrl-C)")
    group.add_argument("--count", metavar="N", help="end after N reported echoes")
    group.add_argument("--duration", metavar="S", help="end S seconds after the start is told")
    group.add_argument(
        "--timeout",
        metavar="S",
        default="1",
        help="give an unanswered echo up after S seconds (default: 1)",
    )
    group.add_argument(
        "--max-sessions",
        metavar="N",
        default=str(opt.DEFAULT_MAX_SESSIONS),
        help="room for about N echoes under way at once, 1048576 at most; rounded up to a power of"
        f" two, and to 8 (default: {opt.DEFAULT_MAX_SESSIONS})",
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    """What ``check`` takes too: how to get at the kernel."""
    # A subcommand must not put defaults over what was given before it.
    absent = parser.argument_default
    group = parser.add_argument_group("how to trace")
    group.add_argument(
        "--backend",
        choices=opt.BACKENDS,
        default=absent or "auto",
        help="kind of kernel probes (default: auto, the best that this kernel allows)",
    )
    group.add_argument(
        "--netns",
        metavar="NAME|PID|PATH",
        help="look only into this network namespace; check: whether it is there (default: all;"
        " with --interface our own)",
    )
    group.add_argument(
        "--no-self-test",
        action="store_true",
        default=absent or False,
        help="do not try the probes out before use",
    )
    group.add_argument("--btf", metavar="FILE", help="BTF of the running kernel, if it has none")
    group.add_argument("--object", metavar="FILE", help="another BPF object than the shipped one")
    group.add_argument(
        "--libbpf",
        metavar="PATH",
        help="another libbpf than the one that came along, or else the system's",
    )
    group.add_argument(
        "--verbose",
        action="store_true",
        default=absent or False,
        help="say more about errors, the verifier's own words included",
    )


def _options(given: argparse.Namespace, command: tuple[str, ...]) -> opt.Options:
    def value(name: str, parser: Callable[[str, str], _T]) -> _T | None:
        text = getattr(given, name)
        return None if text is None else parser(f"--{name.replace('_', '-')}", text)

    options = opt.Options(
        direction=given.direction,
        interface=value("interface", opt.parse_interface),
        latency_ns=opt.parse_milliseconds("--latency-ms", given.latency_ms),
        stacks=not given.disable_kernel_stacks,
        backend=given.backend,
        netns=value("netns", opt.parse_word),
        timeout_ns=opt.parse_seconds("--timeout", given.timeout),
        max_echoes=value("count", opt.parse_count),
        duration_ns=value("duration", opt.parse_seconds),
        format=given.format,
        self_test=not given.no_self_test,
        btf=value("btf", opt.parse_word),
        object=value("object", opt.parse_word),
        libbpf=value("libbpf", opt.parse_word),
        verbose=given.verbose,
        only_incomplete=given.only_incomplete,
        max_sessions=opt.parse_max_sessions("--max-sessions", given.max_sessions),
        command=command,
    )
    local = value("src_ip", opt.parse_place)
    remote = value("dst_ip", opt.parse_place)
    return opt.validate(options, local, remote)
