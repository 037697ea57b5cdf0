# SPDX-License-Identifier: GPL-2.0-only
"""A BPF object in libbpf's hands: opened, configured, loaded, its programs attached.

Knows how a libbpf object lives, and nothing of what its programs do.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable, Iterator
from errno import EINVAL

from icmp_rtt.errors import misfit
from icmp_rtt.kernel.libbpf import (
    Handle,
    Libbpf,
    OpenOptions,
    RunOptions,
    btf_bytes,
    decoded_name,
)
from icmp_rtt.kernel.maps import Map
from icmp_rtt.kernel.named import Named

__all__ = ("Link", "Object", "Program")

_INFO_SIZE = 512  # bytes; struct bpf_prog_info has 232, struct bpf_link_info 64
_LINK_PERF_EVENT = 7  # BPF_LINK_TYPE_PERF_EVENT
_PERF_KPROBES = (3, 4)  # BPF_PERF_EVENT_KPROBE, BPF_PERF_EVENT_KRETPROBE


class Object(Handle):
    """An opened BPF object; closing it detaches and unloads everything.

    Args:
        data: bytes of the object file.
        name: what to call it.
        btf_path: BTF file to relocate by, instead of the kernel's own.

    Attributes:
        programs: by name.
        maps: by name, without those that stand for a section such as ``.rodata``.

    Raises:
        LibbpfError: libbpf cannot make sense of it.
    """

    def __init__(self, lib: Libbpf, data: bytes, name: str, btf_path: str | None = None) -> None:
        options = OpenOptions(sz=ctypes.sizeof(OpenOptions), object_name=name.encode())
        if btf_path is not None:
            options.btf_custom_path = os.fsencode(btf_path)
        self._data = data  # not to be freed while libbpf may still look at it
        pointer = ctypes.byref(options)
        address = lib.call("bpf_object__open_mem", data, len(data), pointer, about=name)
        super().__init__(lib, address, name)
        self._links: list[Link] = []
        self._taken_in: list[Object] = []
        programs = [Program(self, each) for each in self._walk("bpf_object__next_program")]
        maps = [Map(lib, each) for each in self._walk("bpf_object__next_map")]
        self.programs = Named("it has no program", ((each.name, each) for each in programs))
        named = ((each.name, each) for each in maps if "." not in each.name)
        self.maps = Named("it has no map", named)
        self._sections = [each for each in maps if "." in each.name]
        self._every_map = maps

    def btf(self) -> bytes:
        """Its BTF, in which libbpf has put the places of variables: the file leaves them out.

        Raises:
            LibbpfError: it has none.
        """
        address = self.lib.call("bpf_object__btf", self.address, about=self.name)
        return btf_bytes(self.lib, address, self.name)

    def set_rodata(self, offset: int, value: bytes) -> None:
        """Set what a constant is to hold; only before ``load``.

        Args:
            offset: bytes from the start of ``.rodata``.

        Raises:
            ObjectError: ``.rodata`` has no such place.
        """
        size, start = ctypes.c_size_t(), None
        for section in self._sections:
            if section.name.endswith(".rodata"):
                initial_value = self.lib.raw("bpf_map__initial_value")
                start = initial_value(section.address, ctypes.byref(size))
        end = offset + len(value)
        if not start or not 0 <= offset <= end <= size.value:
            found = f"{size.value} bytes" if start else "none"
            raise misfit(f".rodata up to byte {end} expected, {found} found")
        ctypes.memmove(start + offset, value, len(value))

    def use_maps_of(self, other: Object) -> None:
        """Share the maps of another object of the same file; only before ``load``.

        Args:
            other: loaded.
        """
        for own, shared in zip(self._every_map, other._every_map):
            self.lib.call("bpf_map__reuse_fd", own.address, shared.fd, about=own.name)

    def take_in(self, other: Object, programs: Iterable[str]) -> None:
        """Have programs of another object of the same file in the place of its own.

        Args:
            other: loaded; closed along with this one.
        """
        self._taken_in.append(other)
        self.programs.update({name: other.programs[name] for name in programs})

    def load(self) -> None:
        """Create the maps, and load every program whose autoload is on.

        Raises:
            LibbpfError: refused; its log has the verifier's words. All that can
                be done with the object then is to close it.
        """
        self.lib.call("bpf_object__load", self.address, about=self.name)

    def link(self, program: Program) -> Link:
        """Attach ``program`` where its section says; detached when the object is closed.

        Raises:
            LibbpfError: refused; the errno says why (ENOENT no such function,
                EBUSY, EPERM, 524 the kernel has no such trampolines).
        """
        address = self.lib.call("bpf_program__attach", program.address, about=program.name)
        self._links.append(Link(self.lib, address, program.name))
        return self._links[-1]

    def _free(self, address: int) -> None:
        for other in self._taken_in:
            other.close()
        for part in (*self._links, *self.programs.values(), *self.maps.values(), *self._sections):
            part.close()
        self.lib.raw("bpf_object__close")(address)

    def _walk(self, function: str) -> Iterator[int]:
        following = self.lib.raw(function)
        at = following(self.address, None)
        while at:
            yield at
            at = following(self.address, at)


class Program(Handle):
    """A program of an object; ``name`` is that of its C function."""

    def __init__(self, owner: Object, address: int) -> None:
        name = decoded_name(owner.lib.raw("bpf_program__name")(address))
        super().__init__(owner.lib, address, name)
        self._owner = owner

    def set_autoload(self, on: bool) -> None:
        """Whether loading the object loads this program; on unless said otherwise.

        Raises:
            LibbpfError: the object is loaded already.
        """
        self.lib.call("bpf_program__set_autoload", self.address, on, about=self.name)

    def attach(self) -> Link:
        """Attach the loaded program; see ``Object.link``."""
        return self._owner.link(self)

    def run(self, context: bytes) -> int:
        """Run the loaded program once, attached or not, and return what it returned.

        Args:
            context: what it is to be called with.

        Raises:
            LibbpfError: it is not loaded, or the kernel cannot: raw tracepoints
                since 1b4d60ec162f ("bpf: Enable BPF_PROG_TEST_RUN for
                raw_tracepoint"), v5.10.
        """
        options = RunOptions(sz=ctypes.sizeof(RunOptions), ctx_in=context, ctx_size_in=len(context))
        pointer = ctypes.byref(options)
        self.lib.call("bpf_prog_test_run_opts", self._fd, pointer, about=self.name)
        return int(options.retval)

    @property
    def _fd(self) -> int:
        return self.lib.call("bpf_program__fd", self.address, about=self.name)

    def recursion_misses(self) -> int | None:
        """Runs of the loaded program left out because it was running on that CPU already.

        None where the kernel does not tell: 9ed9e9ba2337 ("bpf: Count the number of times
        recursion was prevented"), v5.12.

        Raises:
            LibbpfError: it is not loaded.
        """
        data = _info(self.lib, self._fd, self.name)
        return int.from_bytes(data[208:216], "little") if len(data) >= 216 else None


class Link(Handle):
    """An attached program; closing it detaches the program."""

    def missed(self) -> int | None:
        """Runs that the kernel left out; None where it does not tell.

        It tells of kprobes and kretprobes alone: 3acf8ace6823 ("bpf: Add missed
        value to kprobe perf link info"), v6.7.
        """
        fd = self.lib.call("bpf_link__fd", self.address, about=self.name)
        data = _info(self.lib, fd, self.name)
        if len(data) < 56:
            return None
        link_type, _, _, _, event, missed = struct.unpack_from("<IIIII28xQ", data)
        if link_type != _LINK_PERF_EVENT or event not in _PERF_KPROBES:
            return None
        return int(missed)

    def _free(self, address: int) -> None:
        self.lib.raw("bpf_link__destroy")(address)


def _info(lib: Libbpf, fd: int, name: str) -> bytes:
    """As much as the kernel knows about what is behind ``fd``; empty if it is no BPF thing."""
    buffer = ctypes.create_string_buffer(_INFO_SIZE)
    size = ctypes.c_uint32(_INFO_SIZE)
    pointer = ctypes.byref(size)
    code = lib.call("bpf_obj_get_info_by_fd", fd, buffer, pointer, about=name, allow=(EINVAL,))
    return buffer.raw[: size.value] if code == 0 else b""
