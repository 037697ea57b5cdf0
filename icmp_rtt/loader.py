# SPDX-License-Identifier: GPL-2.0-only
"""A set of the object's programs, configured, loaded and attached.

Which programs and which configuration are wanted is told by the survey.
"""

from __future__ import annotations

import contextlib
import os
import struct
from errno import EMFILE
from typing import TYPE_CHECKING

from icmp_rtt import carried
from icmp_rtt.config import config_bytes, config_offset
from icmp_rtt.errors import LibbpfError, ObjectError, RequirementError, misfit, shortage
from icmp_rtt.kernel.atomics import without_atomics
from icmp_rtt.kernel.bpfobject import Object
from icmp_rtt.kernel.btf import Btf
from icmp_rtt.kernel.files import read_object
from icmp_rtt.kernel.kernelbtf import has_own_btf
from icmp_rtt.kernel.shares import load_shares
from icmp_rtt.record import size_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from icmp_rtt.config import Setting
    from icmp_rtt.kernel.bpfobject import Link
    from icmp_rtt.kernel.libbpf import Libbpf
    from icmp_rtt.kernel.maps import Map

__all__ = (
    "Loader",
    "Refused",
    "carried_object",
    "carried_path",
    "object_path",
    "open_loader",
)

_BTF_BEGINS = b"\x9f\xeb\x01\0\x18\0\0\0"  # magic, version, flags, length of the header
# libbpf's words for a program that was refused because .rodata had been left out: it tries with
# a map of its own whether the kernel has such sections, and takes a want of descriptors for a no.
_LEFT_OUT = "is referenced but wasn't created"
# As many as threads may use up between them, each of which has its own of every map: with fewer
# allowed, what is left might not do to attach the programs and to read the buffer.
_DESCRIPTORS = 256
_SWEEP = "sweep"  # the program that ends sessions which no packet ends; run, never attached


class Refused(Exception):
    """A program that the kernel would not load or attach."""

    def __init__(self, program: str, error: LibbpfError) -> None:
        super().__init__(program)
        self.program = program
        self.error = error


def object_path(given: str | None) -> str:
    """The BPF object to use: the one given, else the one that came with this package.

    Raises:
        ObjectError: it is not there.
    """
    if given is not None and not os.path.exists(given):
        raise ObjectError(f"no BPF object {given}: give --object another file, or leave it out")
    return given or carried_path(carried_object())


def carried_object() -> str:
    """Name of the carried BPF object that is for the running kernel."""
    return carried.OBJECT if has_own_btf() else carried.OBJECT_WITHOUT_BTF


def carried_path(name: str) -> str:
    """Where a carried BPF object can be read.

    Raises:
        ObjectError: this package came without it.
    """
    path = carried.on_disk(name)
    if os.path.exists(path):
        return path
    data = carried.read(name)  # the package is an archive
    if data is None:
        raise ObjectError(f"no BPF object {path}: run 'make' in the checkout, or use a package")
    return carried.in_memory(name, data)


def open_loader(lib: Libbpf, given: str | None, btf_path: str | None) -> Loader:
    """The loader of the object to use: the one given, else the one that came with this package.

    Raises:
        ObjectError: it is not there, or not one of this tool's.
    """
    path = object_path(given)
    try:
        loader = Loader(lib, path, btf_path, foreign=given is not None)
        with contextlib.ExitStack() as refused:
            refused.callback(loader.close)
            if given:  # may be the one for the other sort of kernel
                loader.require(f"{'tp_btf' if has_own_btf() else 'raw_tp'}__netif_receive_skb")
            refused.pop_all()
        return loader
    except ObjectError as error:
        where = "" if path in str(error) else f"{path}: "
        remedy = "give --object another file, or leave it out" if given else "reinstall"
        cause = str(error).partition("; reinstall")[0]  # which is no remedy for the one given
        raise ObjectError(f"{where}{cause}; {remedy}", error.detail) from error


class Loader:
    """Makes loaded objects out of one object file.

    Args:
        lib: what opens it.
        path: the file.
        btf_path: BTF file to relocate by, instead of the kernel's own.
        foreign: it did not come with this package: looked through before libbpf gets it.

    Attributes:
        lib: the same.
        btf: layouts of what the object and its readers share.

    Raises:
        ObjectError: the file is not one of this tool's.
        LibbpfError: there is too little of something to open it.
    """

    def __init__(self, lib: Libbpf, path: str, btf_path: str | None, foreign: bool = False) -> None:
        self.lib = lib
        self._path = path
        self._btf_path = btf_path
        self._data = read_object(path)
        begin = self._data.find(_BTF_BEGINS)
        if foreign or begin < 0:
            _check(self._data, path)
        else:
            Btf(self._data[begin:])  # libbpf before 1.3 believes every reference in it
        self._ahead: Object | None = self._open(self._data)
        try:
            self._read_layouts(self._ahead)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close what was opened ahead of a load that did not come."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _open(self, data: bytes) -> Object:
        try:
            return Object(self.lib, data, "icmp_rtt", self._btf_path)
        except LibbpfError as error:
            if shortage(error.errno):
                raise
            with contextlib.suppress(RequirementError):
                _check(data, self._path)  # has better words, if it finds the fault
            why = f"libbpf cannot open it: {os.strerror(error.errno).lower()}"
            raise ObjectError(f"{why} (errno {error.errno})", error.log) from error

    def _read_layouts(self, obj: Object) -> None:
        self.btf = Btf(obj.btf())
        self._programs = frozenset(obj.programs)
        self._event = self.btf.struct("icmp_rtt_event")
        self._sweep = self.btf.struct("sweep").format()
        self._sweep_step = self.btf.enum("sweep_step")["SWEEP_SLOTS"]
        if self._sweep_step <= 0:
            raise misfit(f"a sweep of {self._sweep_step} slots has no end")
        size_of(self._event, stacks=False)  # refused now, if it has none

    def require(self, program: str) -> None:
        """Refuse an object without ``program``.

        Raises:
            ObjectError: it has none of this name.
        """
        if program not in self._programs:
            raise ObjectError(
                f"no program {program}: for another sort of kernel, or of another version"
            )

    def record_size(self, stacks: bool) -> int:
        """Bytes of a record, and of what is recorded of a session."""
        return size_of(self._event, stacks)

    def load(
        self,
        programs: Iterable[str],
        config: Mapping[str, Setting],
        max_sessions: int,
    ) -> Object:
        """The object, loaded with these programs and the sweep.

        Args:
            max_sessions: room for so many, or more: for each bucket of slots the same.

        Raises:
            Refused: the kernel would not have one of them.
            LibbpfError: loading failed otherwise.
        """
        programs = [*programs, _SWEEP]
        processors, descriptors = len(os.sched_getaffinity(0)), os.sysconf("SC_OPEN_MAX")
        shared = min(len(programs), processors) > 1 and descriptors >= _DESCRIPTORS
        try:
            if self.lib.listening or not shared:
                return self._load(programs, [], config, max_sessions)
            return self._load([], [programs[::2], programs[1::2]], config, max_sessions)
        except LibbpfError:
            if self.lib.listening:
                raise
            with self.lib.heard():  # once more, to hear what it was that the kernel refused
                return self._load(programs, [], config, max_sessions)

    def _load(
        self,
        programs: list[str],
        shares: list[list[str]],
        config: Mapping[str, Setting],
        max_sessions: int,
    ) -> Object:
        """The object, with programs that it loads itself, and shares of them for a thread each."""
        data = self._code(bool(config["atomics"]))
        obj = self._opened(data)
        try:
            self._prepare(obj, programs, config, max_sessions)
            try:
                obj.load()
            except LibbpfError as error:
                if _LEFT_OUT in error.log:
                    raise LibbpfError(error.call, EMFILE, error.log) from error
                program = _culprit(error.log, programs)
                if program is None or shortage(error.errno):
                    raise
                raise Refused(program, error) from error
            load_shares(obj, shares, lambda: self._open(data))
            self._number_cpus(obj.maps["cpus"])
        except BaseException:
            obj.close()
            raise
        return obj

    def _prepare(
        self, obj: Object, programs: list[str], config: Mapping[str, Setting], max_sessions: int
    ) -> None:
        """All that there is to do before the kernel gets to see it."""
        for name in programs:
            obj.programs[name].set_autoload(True)
        buckets = self._buckets(max_sessions)
        config = {**config, "bucket_mask": buckets - 1}
        obj.set_rodata(config_offset(self.btf), config_bytes(self.btf, config))
        self._size_maps(obj, config, buckets)

    def sweep(
        self, obj: Object, oldest_ns: int = 0, last_time: bool = False, ending: bool = False
    ) -> int:
        """Have the kernel give up sessions begun by ``oldest_ns``; how many go on.

        From the first time on echoes are followed, and none is taken for the self-test's.

        Args:
            last_time: leave none open; they are counted as in flight.
            ending: no further echo is to be followed.
        """
        program = obj.programs[_SWEEP]
        values = {"oldest_ns": oldest_ns, "last_time": last_time, "ending": ending}
        return sum(
            program.run(self._sweep.pack({**values, "first": first}))
            for first in range(0, obj.maps["sessions"].max_entries, self._sweep_step)
        )

    def attach(self, obj: Object, programs: Iterable[str]) -> dict[str, Link]:
        """Attach every program.

        Raises:
            Refused: the kernel would not have one of them.
            LibbpfError: there is too little of something.
        """
        links = {}
        for name in programs:
            try:
                links[name] = obj.programs[name].attach()
            except LibbpfError as error:
                if shortage(error.errno):  # no fault of the program's
                    raise
                raise Refused(name, error) from error
        return links

    def _code(self, atomics: bool) -> bytes:
        """The file for a kernel with or without atomics."""
        if atomics:
            return self._data
        from icmp_rtt.kernel.objfile import ObjectFile  # not for what most starts load

        return ObjectFile(self._data, self._path).with_code(without_atomics)

    def _opened(self, data: bytes) -> Object:
        """The object opened ahead, if it is of the file wanted, or else another."""
        if data is not self._data:
            self.close()
        obj, self._ahead = self._ahead, None
        return obj or self._open(data)

    def _buckets(self, sessions: int) -> int:
        """How many there have to be for so many sessions: a power of two."""
        slots = self.btf.struct("bucket").fields["word"].elements
        return 1 << (max(1, -(-sessions // slots)) - 1).bit_length()

    def _size_maps(self, obj: Object, config: Mapping[str, Setting], buckets: int) -> None:
        cpus, stacks = self.lib.possible_cpus(), bool(config["stacks"])
        sessions = buckets * self.btf.struct("bucket").fields["word"].elements
        before = self.btf.struct("slot").fields["event"].offset
        obj.maps["sessions"].set_value_size(before + self.record_size(stacks))
        obj.maps["sessions"].set_max_entries(sessions)
        obj.maps["buckets"].set_max_entries(buckets)
        obj.maps["claims"].set_max_entries(1 if config["atomics"] else sessions)
        obj.maps["given_up"].set_max_entries(sessions)
        obj.maps["cpus"].set_max_entries(cpus)
        arrivals = self.btf.struct("cpu_state").fields["arrival"].elements
        obj.maps["arrival_stacks"].set_max_entries(cpus * arrivals if stacks else 1)

    def _number_cpus(self, cpus: Map) -> None:
        """Tell each CPU's state its number, which costs a program more to find out."""
        number = self.btf.struct("cpu_state").fields["number"]
        place = slice(number.offset, number.offset + number.size)
        value = bytearray(cpus.value_size)
        for cpu in range(cpus.max_entries):
            value[place] = cpu.to_bytes(number.size, "little")
            cpus.update(struct.pack("=I", cpu), bytes(value))


def _check(data: bytes, path: str) -> None:
    """Look through a file that need not be one of ours, and need not be sound.

    Raises:
        ObjectError: it is not, or damaged.
    """
    from icmp_rtt.kernel.objfile import ObjectFile  # not for what came with the package

    file = ObjectFile(data, path)
    Btf(file.btf).struct("icmp_rtt_event")
    file.symbol("config")


def _culprit(log: str, programs: Iterable[str]) -> str | None:
    """The last program that libbpf complained of."""
    found = [(log.rfind(f"'{name}'"), name) for name in programs if name != _SWEEP]
    at, name = max(found, default=(-1, ""))
    return name if at >= 0 else None
