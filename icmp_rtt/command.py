# SPDX-License-Identifier: GPL-2.0-only
"""The COMMAND that a run is about: started, told to end, and asked how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from icmp_rtt.errors import IcmpRttError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

__all__ = ("Command", "CommandError")

# Ctrl-C reaches the command by way of the terminal as well; only if that did
# not end it within this time, the signal was meant for us alone and is passed on.
_GRACE_NS = 500_000_000
# A script goes on after an interrupted ping; what has not ended by then is terminated.
_PATIENCE_NS = 2_000_000_000


class CommandError(IcmpRttError):
    """The command cannot be started, or cannot be told to end."""


class NotStartedError(CommandError):
    """The command cannot be started; the exit status is the one a shell gives."""

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(f"cannot run '{name}': {(error.strerror or str(error)).lower()}")
        self.exit_status = 127 if isinstance(error, FileNotFoundError) else 126


class Command:
    """A child process: a context manager that leaves no child behind unsignalled.

    Args:
        words: the program, looked up in PATH, and its arguments.

    Raises:
        NotStartedError: on entry, if it cannot be started.
    """

    def __init__(self, words: tuple[str, ...]) -> None:
        self._words = words
        self._pid = 0
        self._status: int | None = None
        self._due: list[tuple[int, int]] = []  # signals to be sent, with their times (ns)
        self._told: set[tuple[int, bytes]] = set()  # what it had started when it was told to end

    def __enter__(self) -> Command:
        # Python ignores these two; a child would inherit that.
        ignored = [signal.SIGPIPE, signal.SIGXFSZ]
        try:
            self._pid = os.posix_spawnp(self._words[0], self._words, os.environ, setsigdef=ignored)
        except OSError as error:
            raise NotStartedError(self._words[0], error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.exit_status() is None:
            with contextlib.suppress(IcmpRttError):
                self._send(signal.SIGTERM)

    def exit_status(self) -> int | None:
        """As a shell gives it (128 + number for a signal), None while the command runs.

        Sends the signals whose time has come. With the command's end it has come for what
        the command has started, and does not heed an interrupt: a shell's background jobs.
        """
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._status = code if code >= 0 else 128 - code
                for _, number in self._due:
                    _tell(self._told & _processes().keys(), number)
        if self._status is None and self._due and time.monotonic_ns() >= self._due[0][0]:
            self._send(self._due.pop(0)[1])
        return self._status

    def interrupt(self) -> None:
        """Tell the command to end, as Ctrl-C would, and some time later as 'kill' would.

        Raises:
            IcmpRttError: it runs as another user, and we may not.
        """
        self._due.append((time.monotonic_ns() + _PATIENCE_NS, signal.SIGTERM))
        self._send(signal.SIGINT)

    def pass_on(self, number: int) -> None:
        """Tell the command to end, as signal ``number`` told us; after SIGINT as ``interrupt``."""
        if number == signal.SIGINT:
            interrupt_ns = time.monotonic_ns() + _GRACE_NS
            self._due.append((interrupt_ns, number))
            self._due.append((interrupt_ns + _PATIENCE_NS, signal.SIGTERM))
            self._told.update(_descendants(self._pid))  # Ctrl-C may have, and not been heeded
        else:
            self._send(number)

    def _send(self, number: int) -> None:
        """To the command and all that it has started: a shell waits for its child to end.

        The command comes first, so that it knows when its child ends.
        """
        if self._status is not None:
            return
        started = _descendants(self._pid)
        self._told.update(started)
        try:
            os.kill(self._pid, number)
        except PermissionError as error:
            raise CommandError(
                f"cannot end '{self._words[0]}', which runs as another user:"
                " run as root, or with CAP_KILL"
            ) from error
        _tell(started, number)
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGCONT)  # if it was stopped it could not end


def _tell(processes: Iterable[tuple[int, bytes]], number: int) -> None:
    for each in (number, signal.SIGCONT):
        for pid, _ in processes:
            with contextlib.suppress(OSError):  # it has ended, or runs as another user
                os.kill(pid, each)


def _descendants(pid: int) -> list[tuple[int, bytes]]:
    """The processes below ``pid``, as far as /proc shows them, and when each was started."""
    children: dict[int, list[tuple[int, bytes]]] = {}
    for process, parent in _processes().items():
        children.setdefault(parent, []).append(process)
    found = [*children.get(pid, ())]
    for each, _ in found:
        found += children.get(each, ())
    return found


def _processes() -> dict[tuple[int, bytes], int]:
    """The parent of each, by its number and its start: the number alone may be used again."""
    parents: dict[tuple[int, bytes], int] = {}
    with contextlib.suppress(OSError):
        if os.readlink("/proc/self") != str(os.getpid()):
            return {}  # of another namespace, with other numbers
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                # The command's name, in parentheses, may have anything in it.
                fields = file.read().rpartition(b")")[2].split()
                parents[int(name), fields[19]] = int(fields[1])
    return parents
