# SPDX-License-Identifier: GPL-2.0-only
"""Who is compared: each is started, told when to end, and leaves its programs to be looked at.

A contender is a context manager: inside it all of its probes are attached.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from btscript import script
from network import LOCAL, PEER

from icmp_rtt.errors import IcmpRttError
from icmp_rtt.kernel.bpfobject import Object
from icmp_rtt.kernel.libbpf import Libbpf

__all__ = ("CONTENDERS", "FLOORS", "Contender", "Floor", "Refused")

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
# Objects of empty programs, beside their sources' names: of six stages, of tracepoints alone.
FLOORS = {
    name: CHECKOUT / "build" / "bench" / f"{name}.bpf.o" for name in ("floor", "floor_tracepoints")
}
READY_TIMEOUT_S = 300  # of the guest's time


class Refused(Exception):
    """It could not be started here; says why."""


class Contender:
    """What is known of any of them.

    Attributes:
        pid: the process that holds its programs.
        ready_ms: processor time from its start until every probe was attached, its children's
            included; None: not measured. Where the clock counts instructions, waiting for the
            host's files takes any time.
        resident_kib: its memory at the end of the work; None: not measured.
    """

    pid: int
    ready_ms: int | None = None
    resident_kib: int | None = None

    def __enter__(self) -> Contender:
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        raise NotImplementedError

    def reports(self) -> int | None:
        """How many echoes it reported, if it does; once it has ended."""
        return None


class Floor(Contender):
    """Empty programs, loaded into this process.

    Args:
        name: a key of ``FLOORS``.
    """

    def __init__(self, name: str) -> None:
        self._path = FLOORS[name]

    def __enter__(self) -> Floor:
        self.pid = os.getpid()
        self._object = Object(Libbpf(), self._path.read_bytes(), "floor")
        try:
            self._object.load()
            for program in self._object.programs.values():
                program.attach()
        except IcmpRttError as error:
            self._object.close()
            raise Refused(str(error)) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._object.close()


class Process(Contender):
    """A tracer that runs a command once every probe is attached.

    Args:
        words: makes the words to start it with out of those of the command.
        is_report: whether a line that it prints is the report of an echo.
    """

    def __init__(
        self, words: Callable[[list[str]], list[str]], is_report: Callable[[str], bool]
    ) -> None:
        self._words = words
        self._is_report = is_report

    def __enter__(self) -> Process:
        self._directory = Path(tempfile.mkdtemp(prefix="bench-", dir="/run"))
        ready, self._end = self._directory / "ready", self._directory / "end"
        os.mkfifo(ready)
        os.mkfifo(self._end)
        # bpftrace takes no script for a command, and splits its words at spaces.
        hold = shutil.copy(HERE / "hold", self._directory)
        reader = os.open(ready, os.O_RDONLY | os.O_NONBLOCK)
        begin_ns = time.monotonic_ns()
        with (self._directory / "out").open("wb") as out, self._complaints.open("wb") as err:
            self._process = subprocess.Popen(
                self._words(["/bin/sh", str(hold), str(ready), str(self._end)]),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self.pid = self._process.pid
        self._wait_for(reader, begin_ns)
        self.ready_ms = _processor_ms(self.pid)
        return self

    def __exit__(self, *_: object) -> None:
        status = Path(f"/proc/{self.pid}/status").read_text()
        self.resident_kib = int(status.partition("VmRSS:")[2].split()[0])
        self._end.write_text("end\n")
        self._process.wait()

    def reports(self) -> int | None:
        text = (self._directory / "out").read_text(errors="replace")
        return sum(self._is_report(line) for line in text.splitlines())

    def _wait_for(self, reader: int, begin_ns: int) -> None:
        """Until the command says that it runs."""
        while not select.select([reader], [], [], 0.2)[0]:
            if self._process.poll() is not None:
                raise Refused(self._complaint())
            if time.monotonic_ns() - begin_ns > READY_TIMEOUT_S * 10**9:
                self._process.kill()
                self._process.wait()
                raise Refused(f"not ready within {READY_TIMEOUT_S} s")
        os.close(reader)

    @property
    def _complaints(self) -> Path:
        return self._directory / "err"

    def _complaint(self) -> str:
        """The line of standard error that says why it ended."""
        lines = self._complaints.read_text(errors="replace").splitlines()
        errors = [line for line in lines if "error" in line.lower()]
        return (errors or lines or ["it ended without a word"])[0]


def _processor_ms(pid: int) -> int:
    """User and system time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) * 1000 // os.sysconf("SC_CLK_TCK")


def _icmp_rtt(backend: str) -> Callable[[bool], Contender]:
    words = [sys.executable, "-m", "icmp_rtt", "--format", "json", "--backend", backend]
    words += ["--src-ip", LOCAL, "--dst-ip", PEER]

    def make(stacks: bool) -> Contender:
        more = ["--"] if stacks else ["--disable-kernel-stacks", "--"]
        return Process(
            lambda hold: [*words, *more, *hold], lambda line: line.startswith('{"type": "echo"')
        )

    return make


def _bpftrace(backend: str) -> Callable[[bool], Contender]:
    def make(stacks: bool) -> Contender:
        text = script(backend, LOCAL, PEER, stacks)
        return Process(
            lambda hold: ["bpftrace", "-q", "-e", text, "-c", " ".join(hold)],
            lambda line: line.startswith("echo "),
        )

    return make


# Makes a contender that takes stacks, or does not; the floor has none to take.
CONTENDERS: dict[str, Callable[[bool], Contender]] = {
    "floor": lambda stacks: Floor("floor"),
    "fentry": _icmp_rtt("fentry"),
    "kprobe": _icmp_rtt("kprobe"),
    "bpftrace-fentry": _bpftrace("fentry"),
    "bpftrace-kprobe": _bpftrace("kprobe"),
}
