# SPDX-License-Identifier: GPL-2.0-only
"""A run: what an attached tracer sees becomes reports, until it is time to end."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
from typing import TYPE_CHECKING

from icmp_rtt.clock import kernel_ns
from icmp_rtt.errors import DecodeError, RequirementError
from icmp_rtt.model import COMPLETE, DUPLICATE, LATE
from icmp_rtt.netns import inode_of
from icmp_rtt.report.summary import loss_warnings
from icmp_rtt.tracer import sweep_interval_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from icmp_rtt.command import Command
    from icmp_rtt.options import Options
    from icmp_rtt.report.jsonl import JsonLines
    from icmp_rtt.report.text import TextReport
    from icmp_rtt.signals import Signals
    from icmp_rtt.tracer import Tracer

__all__ = ("import_for", "run")

# How long to wait for records at a time: a signal that arrives right before
# the wait is not seen until the wait is over.
_POLL_MS = 100
# Reports that are written at once: bounds the memory that a flood takes. Twice as
# many are beyond what malloc keeps, and mapping it anew each time costs a quarter.
_BATCH = 64
# How long echoes may gather after some were reported: looking again at once would
# find one or two of a flood each time, at the expense of whom we watch.
_GATHER_S = 0.005
_NICE = 19
# What a record that could not be told changes, by whether it was of a complete echo.
_LOST = {True: (("reported", -1), ("events_lost", 1)), False: (("incomplete_lost", 1),)}
# After --timeout, for the tracer to have looked for sessions past it: it does so ten times
# a second.
_GIVEN_UP_NS = 250_000_000


def import_for(options: Options) -> None:
    """Import what a run with these options takes later, when time counts."""
    if options.command:
        import icmp_rtt.command
    if options.format == "json":
        import icmp_rtt.report.jsonl
    else:
        import icmp_rtt.report.start
        import icmp_rtt.report.text  # noqa: F401


def run(
    tracer: Tracer,
    options: Options,
    signals: Signals,
    write: Callable[..., None],
    warn: Callable[[str], None],
    idle: Callable[[], None],
) -> int:
    """Report what an attached tracer sees until it is time to end.

    Args:
        write: takes reports, each as a string.
        warn: takes what was lost.
        idle: called now and then; raises if nobody wants reports any more.

    Returns:
        The exit status of the command, if there is one, or 0; that of a shell that was
        ended by a signal, if this came before the command was started.

    Raises:
        CommandError: the command could not be started, or not be told to end.
    """
    gc.freeze()  # what the start has left behind lives on: no need to look through it again
    gc.enable()
    reports = _Reports(tracer, options, write)
    status = 0
    failed = None
    if options.command and signals.number is not None:
        status = 128 + signals.number  # told to end during the start: nothing is begun any more
    elif options.command:
        from icmp_rtt.command import Command, CommandError

        try:
            with Command(options.command) as command:  # with all that we may do: so not later
                tracer.give_up_privileges(command=True)
                _give_way()
                status = _Watch(tracer, options, signals, reports, idle).command(command)
        except CommandError as error:
            failed = error  # what was begun is ended as ever: with a summary
    else:
        tracer.give_up_privileges(command=False)
        _give_way()
        _Watch(tracer, options, signals, reports, idle).until_over()
    reports.take(tracer.finish())
    counters = tracer.counters()
    reports.end(counters)
    for warning in loss_warnings(counters):
        warn(warning)
    if failed is not None:
        raise failed
    return status


def _give_way() -> None:
    """Leave the processor to whom we watch: a report that comes too late is lost, and counted."""
    os.nice(_NICE)


class _Reports:
    """Turns records into reports, up to --count of them."""

    def __init__(self, tracer: Tracer, options: Options, write: Callable[..., None]) -> None:
        self._write = write
        self._decode = tracer.decoder.echo
        self._completed = tracer.completed
        self._count = options.max_echoes
        self._reported = 0
        self._reordered = 0
        self._torn = {True: 0, False: 0}  # records, by whether of a complete echo
        # Echoes that came after the last one asked for, by whether they were complete.
        self._surplus = {True: 0, False: 0}
        self._json = options.format == "json"
        # Else what overtook a reply may have been too quick to be told.
        self._all_told = not options.latency_ns
        self._renderer = self._begin(tracer, options)

    @property
    def full(self) -> bool:
        """Whether as many were reported as were asked for."""
        return self._count is not None and self._reported >= self._count

    def take(self, records: Sequence[bytes]) -> None:
        """Report what ``records`` hold."""
        if not records:
            return
        # The wall clock may be set, and is disciplined, in the course of a run.
        self._renderer.clock_offset_ns = _clock_offset_ns()
        decode, render = self._decode, self._renderer.echo
        for begin in range(0, len(records), _BATCH):
            reports = []
            for record in records[begin : begin + _BATCH]:
                try:
                    echo = decode(record)
                except DecodeError:
                    self._torn[self._completed(record)] += 1
                    continue
                if self.full:
                    if echo.outcome not in (DUPLICATE, LATE):
                        self._surplus[echo.outcome == COMPLETE] += 1
                    continue
                reports.append(render(echo))
                if echo.outcome not in (DUPLICATE, LATE):
                    self._reported += 1
                    self._reordered += echo.reordered
            if reports:
                self._write(*reports)

    def end(self, counters: dict[str, int | None]) -> None:
        """Write the summary; what --count kept from being reported is not called reported."""
        if self._count is not None and "reported" in counters:
            counters["reported"] = (counters["reported"] or 0) - self._surplus[True]
            counters["beyond_count"] = self._surplus[True]
            counters["incomplete_beyond_count"] = self._surplus[False]
        for complete, names in _LOST.items():
            for name, sign in names:
                if self._torn[complete]:
                    counters[name] = (counters[name] or 0) + sign * self._torn[complete]
        if "replies" in counters:
            every = self._all_told and not counters.get("events_lost")
            counters["reordered_replies"] = self._reordered if every else None
        if self._json:
            from icmp_rtt.report.jsonl import summary_line

            self._write(summary_line(counters))
        else:
            from icmp_rtt.report.summary import summary_text

            self._write(summary_text(counters, self._reported))

    def _begin(self, tracer: Tracer, options: Options) -> JsonLines | TextReport:
        """Write what the run is made of, and choose the renderer."""
        drop_reason, offset_ns = tracer.drop_reasons.get, _clock_offset_ns()
        if self._json:
            from icmp_rtt.report.jsonl import JsonLines, start_line

            self._write(start_line(tracer.start, options))
            return JsonLines(tracer.symbols, drop_reason, offset_ns)
        from icmp_rtt.report.start import start_text
        from icmp_rtt.report.text import TextReport

        self._write(start_text(tracer.start, options))
        start = tracer.start
        netns = start.netns or _own_netns()
        return TextReport(tracer.symbols, drop_reason, offset_ns, options.timeout_ns, start, netns)


def _own_netns() -> int | None:
    with contextlib.suppress(RequirementError):
        return inode_of()
    return None


def _clock_offset_ns() -> int:
    """Wall clock minus CLOCK_MONOTONIC, in which an event is stamped."""
    return time.time_ns() - kernel_ns()


class _Watch:
    """Polls the tracer until it is time to end; the clock of --duration runs from here."""

    def __init__(
        self,
        tracer: Tracer,
        options: Options,
        signals: Signals,
        reports: _Reports,
        idle: Callable[[], None],
    ) -> None:
        self._tracer = tracer
        self._timeout_ns = options.timeout_ns
        # The tracer looks for sessions past --timeout between two polls.
        interval_ns = sweep_interval_ns(options.timeout_ns)
        self._poll_ms = min(_POLL_MS, max(1, interval_ns // 1_000_000))
        self._signals = signals
        self._reports = reports
        self._idle = idle
        duration_ns = options.duration_ns
        if duration_ns is not None:
            signals.due_ns = time.monotonic_ns() + duration_ns

    def until_over(self) -> None:
        """Until a signal, --count or --duration."""
        while not self._over():
            self._poll(self._signals.due_ns)

    def command(self, command: Command) -> int:
        """Until the command ends and its echoes have been answered, or as ``until_over``.

        In the latter case the command is told to end, and waited for.

        Returns:
            The command's exit status.
        """
        passed_on = None
        while (status := command.exit_status()) is None:
            number = self._signals.number
            if number is not None and number != passed_on:
                command.pass_on(number)
                passed_on = number
            elif passed_on is None and self._over():
                command.interrupt()
                passed_on = signal.SIGINT
            self._poll(self._signals.due_ns if passed_on is None else None)
        if not self._over():
            self._settle()
        return status

    def _settle(self) -> None:
        """Wait until nothing is under way, at most until what is has been given up."""
        end_ns = time.monotonic_ns() + self._timeout_ns + _GIVEN_UP_NS
        late = False
        # The poll after the end is what finds the last echoes given up.
        while not late and not self._over() and self._tracer.in_flight():
            late = time.monotonic_ns() >= end_ns
            self._poll(end_ns)

    def _over(self) -> bool:
        return self._reports.full or self._signals.over

    def _poll(self, end_ns: int | None) -> None:
        """Report what comes within a short while, shorter if ``end_ns`` is near."""
        wait_ms = self._poll_ms
        if end_ns is not None:
            left_ms = (end_ns - time.monotonic_ns()) // 1_000_000 + 1
            wait_ms = max(0, min(wait_ms, left_ms))
        records = self._tracer.poll(wait_ms)
        self._reports.take(records)
        self._idle()
        if 0 < len(records) < _BATCH:
            time.sleep(_GATHER_S)
