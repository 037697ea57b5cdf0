# SPDX-License-Identifier: GPL-2.0-only
"""The command: runs what the command line asks for, and says how that went.

Reports go to stdout, everything else to stderr. Whatever happens, the user
sees one line that says so; a traceback is for --verbose. Imports are inside the
functions that need them: --help and bad usage are answered without the rest.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import sys
from typing import TYPE_CHECKING

from icmp_rtt.errors import IcmpRttError, shortage
from icmp_rtt.report.escape import printable_text  # here: a shortage may keep it from being read
from icmp_rtt.signals import Signals
from icmp_rtt.stdout import Stdout
from icmp_rtt.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from icmp_rtt.options import Options
    from icmp_rtt.tracer import Tracer

    Warn = Callable[[str], None]
    MakeTracer = Callable[[Options, Warn], AbstractContextManager[Tracer]]

__all__ = ("main",)

NAME = "icmp-rtt"
_INTERRUPTED = 130  # what a shell gives for SIGINT


def main(argv: Sequence[str] | None = None, make_tracer: MakeTracer | None = None) -> int:
    """Run the command.

    Args:
        argv: its arguments; those of the process if None.
        make_tracer: stands in for ``_traced``.

    Returns:
        The exit status.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    verbose = "--verbose" in (words[: words.index("--")] if "--" in words else words)
    gc.disable()  # what a start makes lives on: a search for garbage finds none; see run()
    try:
        with Signals(for_good=argv is None) as signals:
            status = _run(words, signals, make_tracer)
            return _INTERRUPTED if signals.swallowed else status
    except IcmpRttError as error:
        _say(str(error))
        if verbose and error.detail:
            _say_more(error.detail)
        return error.exit_status
    except KeyboardInterrupt:
        return _INTERRUPTED
    except ImportError as error:
        if "failed to map" not in str(error):
            return _internal(error, verbose)
        _say(f"out of memory: {shortage(errno.ENOMEM)}")
        return 1
    except MemoryError:
        _say(f"out of memory: {shortage(errno.ENOMEM)}")
        return 1
    except OSError as error:
        remedy = shortage(error.errno)
        if remedy is None:
            return _internal(error, verbose)
        _say(f"{(error.strerror or str(error)).lower()}: {remedy}")
        return 1
    except Exception as error:  # ours to explain, not the user's to read
        return _internal(error, verbose)
    finally:
        gc.enable()


def _internal(error: Exception, verbose: bool) -> int:
    """Tell of a defect; the exit status."""
    _say(f"internal error: {type(error).__name__}: {error}; --verbose shows where")
    if verbose:
        import traceback

        _say_more(traceback.format_exc())
    return 1


def _run(words: list[str], signals: Signals, make_tracer: MakeTracer | None) -> int:
    from icmp_rtt.arguments import parse

    stdout = Stdout(signals)
    request = parse(_program(), words)
    if request.action == "help":
        stdout.write(request.help)
        return 0
    if request.action == "version":
        stdout.write(f"{NAME} {VERSION}\n")
        if request.options.verbose:
            from icmp_rtt.about import provenance

            _write_lines(stdout, provenance(request.options.object).splitlines())
        return 0
    if request.action == "check":
        return _check(request.options, stdout)
    with (make_tracer or _traced)(request.options, _warn) as tracer:
        from icmp_rtt.run import run

        return run(tracer, request.options, signals, stdout.write, _warn, stdout.check_reader)


@contextlib.contextmanager
def _traced(options: Options, warn: Warn) -> Iterator[Tracer]:
    """An attached tracer; what can be is imported while the kernel is read, or verifies."""
    from icmp_rtt.opening import opening

    def import_rest() -> None:
        from icmp_rtt.run import import_for

        import_for(options)

    with contextlib.ExitStack() as attached:
        with opening(options) as opened:
            from icmp_rtt.tracer import Tracer

            tracer = attached.enter_context(Tracer(opened, options, warn, import_rest))
        yield tracer


def _check(options: Options, stdout: Stdout) -> int:
    from icmp_rtt.check import check

    lines, ok = check(options)
    _write_lines(stdout, lines)
    return 0 if ok else 1


def _write_lines(stdout: Stdout, lines: Iterable[str]) -> None:
    """Paths and what the kernel or libbpf said may have anything in them."""
    for line in lines:
        stdout.write(f"{printable_text(line)}\n")


def _program() -> str:
    """The name that we were called by."""
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    return name if name not in ("", "-c", "-m", "__main__.py") else NAME


def _warn(message: str) -> None:
    _say(f"warning: {message}")


def _say(message: str) -> None:
    """One message on stderr, in one line."""
    _write_stderr(f"{_program()}: {message}")


def _say_more(detail: str) -> None:
    """The long story of a message, in as many lines as it has."""
    for line in detail.rstrip("\n").split("\n"):
        _write_stderr(line)


def _write_stderr(line: str) -> None:
    try:
        sys.stderr.write(f"{printable_text(line)}\n")
        sys.stderr.flush()
    except (OSError, AttributeError):  # closed, or was so from the start
        pass
