# SPDX-License-Identifier: GPL-2.0-only
"""A BPF object is configured, loaded, attached and closed in the right order."""

import ctypes
import struct
from errno import EINVAL, ENOENT, EPERM

import pytest
from fakelib import FakeLib, store, store_u32

from icmp_rtt.errors import LibbpfError, ObjectError
from icmp_rtt.kernel.bpfobject import Link, Object

OBJECT, RODATA = 1000, 32
PROGRAMS = {10: b"fentry__ip_rcv", 11: b"kprobe__ip_rcv"}
MAPS = {20: b"events", 21: b"sessions_v4", 22: b"icmp_rtt.rodata", 23: b"icmp_rtt.bss"}


class Kernel(FakeLib):
    """A library that notes what happens to its only object."""

    def __init__(self):
        self.log_of_calls, self.infos = [], {}
        self.rodata = ctypes.create_string_buffer(RODATA)
        super().__init__(
            bpf_object__open_mem=self.open,
            bpf_object__load=lambda _: self.note("load"),
            bpf_object__close=lambda _: self.note("close"),
            bpf_object__next_program=lambda _, at: self.after(PROGRAMS, at),
            bpf_object__next_map=lambda _, at: self.after(MAPS, at),
            bpf_program__name=PROGRAMS.get,
            bpf_program__fd=lambda at: at,
            bpf_program__set_autoload=lambda at, on: self.note(f"autoload {at} {on}"),
            bpf_program__attach=self.attach,
            bpf_link__fd=lambda at: at,
            bpf_link__destroy=lambda at: self.note(f"destroy {at}"),
            bpf_map__name=MAPS.get,
            bpf_map__fd=lambda at: at + 1000,
            bpf_map__reuse_fd=lambda at, fd: self.note(f"reuse {at} {fd}"),
            bpf_map__initial_value=self.initial_value,
            bpf_obj_get_info_by_fd=self.info,
        )

    def note(self, what):
        self.log_of_calls.append(what)
        return 0

    def after(self, parts, at):
        keys = [*parts, None]
        return keys[0 if at is None else keys.index(at) + 1]

    def open(self, data, size, options):
        self.opened = (data, size, options._obj.object_name, options._obj.btf_custom_path)
        return OBJECT

    def attach(self, at):
        if at == 11:
            ctypes.set_errno(ENOENT)
            return None
        return at + 100

    def initial_value(self, at, size):
        assert at == 22
        size._obj.value = RODATA
        return ctypes.addressof(self.rodata)

    def info(self, fd, buffer, size):
        data = self.infos.get(fd)
        if data is None:
            return -EINVAL
        assert buffer.raw == bytes(size._obj.value)
        store(buffer, data)
        store_u32(size, len(data))
        return 0


@pytest.fixture
def kernel():
    return Kernel()


@pytest.fixture
def opened(kernel):
    with Object(kernel, b"bytes", "icmp_rtt") as thing:
        yield thing


def test_an_object_is_opened_from_memory(kernel):
    """Its bytes, its name and the BTF to relocate by are handed over."""
    Object(kernel, b"bytes", "icmp_rtt", "/x/kernel.btf")
    assert kernel.opened == (b"bytes", 5, b"icmp_rtt", b"/x/kernel.btf")
    Object(kernel, b"bytes", "icmp_rtt")
    assert kernel.opened[3] is None


def test_programs_and_maps_are_known_by_name(opened):
    """Maps that stand for a section are not among them."""
    assert list(opened.programs) == ["fentry__ip_rcv", "kprobe__ip_rcv"]
    assert list(opened.maps) == ["events", "sessions_v4"]


def test_constants_are_set_where_they_lie(kernel, opened):
    """The bytes around them stay as they are."""
    kernel.rodata.raw = b"." * RODATA
    opened.set_rodata(8, b"config")
    assert kernel.rodata.raw == b"." * 8 + b"config" + b"." * 18
    opened.set_rodata(RODATA - 1, b"x")
    assert kernel.rodata.raw[-1:] == b"x"


def test_a_part_that_is_not_there_is_named(opened):
    """An object of another version is refused with what it lacks."""
    with pytest.raises(ObjectError, match="no program fentry__nosuch; reinstall"):
        opened.programs["fentry__nosuch"]
    with pytest.raises(ObjectError, match="no map counted; reinstall"):
        opened.maps["counted"]


@pytest.mark.parametrize(("offset", "size"), [(RODATA, 1), (RODATA - 3, 4), (-1, 2), (0, 33)])
def test_nothing_is_written_outside_of_the_constants(kernel, opened, offset, size):
    """The error says how many bytes were expected and found."""
    kernel.rodata.raw = bytes(RODATA)
    with pytest.raises(ObjectError, match=f"up to byte {offset + size} expected, 32 bytes found"):
        opened.set_rodata(offset, b"x" * size)
    assert kernel.rodata.raw == bytes(RODATA)


def test_an_object_without_constants_says_so(kernel, monkeypatch):
    """No .rodata is not taken for an empty one."""
    monkeypatch.delitem(MAPS, 22)
    with pytest.raises(ObjectError, match="none found"):
        Object(kernel, b"bytes", "icmp_rtt").set_rodata(0, b"x")


def test_closing_detaches_first_and_happens_once(kernel):
    """Links go before the object, whose parts cannot be used afterwards."""
    with Object(kernel, b"bytes", "icmp_rtt") as thing:
        program, events = thing.programs["fentry__ip_rcv"], thing.maps["events"]
        thing.programs["kprobe__ip_rcv"].set_autoload(False)
        thing.load()
        program.attach()
    thing.close()
    assert kernel.log_of_calls == ["autoload 11 False", "load", "destroy 110", "close"]
    for use in (program.attach, program.recursion_misses, lambda: events.fd, thing.load):
        with pytest.raises(ValueError, match="is closed"):
            use()


def test_programs_of_another_object_are_closed_along(kernel):
    """It has the first one's maps, sections too, and its links go with it."""
    first, other = Object(kernel, b"bytes", "first"), Object(kernel, b"bytes", "other")
    first.load()
    other.use_maps_of(first)
    other.load()
    first.take_in(other, ["fentry__ip_rcv"])
    assert first.programs["fentry__ip_rcv"] is other.programs["fentry__ip_rcv"]
    assert first.programs["kprobe__ip_rcv"] is not other.programs["kprobe__ip_rcv"]
    first.programs["fentry__ip_rcv"].attach()
    first.close()
    first.close()
    reused = [f"reuse {at} {at + 1000}" for at in MAPS]
    assert kernel.log_of_calls == ["load", *reused, "load", "destroy 110", "close", "close"]


def test_a_link_closed_early_is_not_destroyed_again(kernel, opened):
    """Who detaches one program leaves the rest to the object."""
    link = opened.programs["fentry__ip_rcv"].attach()
    link.close()
    opened.close()
    assert kernel.log_of_calls == ["destroy 110", "close"]


def test_a_refused_attachment_keeps_its_errno(opened):
    """The plan decides by it what to try next."""
    with pytest.raises(LibbpfError) as caught:
        opened.programs["kprobe__ip_rcv"].attach()
    assert caught.value.errno == ENOENT
    assert caught.value.call == "bpf_program__attach(kprobe__ip_rcv)"


def test_a_refused_load_keeps_its_errno(kernel, opened):
    """Who may not load fentry programs may still load others."""
    kernel._functions["bpf_object__load"] = lambda _: -EPERM
    with pytest.raises(LibbpfError) as caught:
        opened.load()
    assert caught.value.errno == EPERM


def test_counts_that_the_kernel_does_not_know_are_none(kernel, opened):
    """A kernel before 5.12 fills 208 bytes: its misses are not known, rather than 0."""
    data = bytearray(232)
    struct.pack_into("<QQ", data, 200, 5, 9)
    program = opened.programs["fentry__ip_rcv"]
    for size, misses in ((232, 9), (216, 9), (208, None)):
        kernel.infos[10] = data[:size]
        assert program.recursion_misses() == misses


def link_info(link_type, event, missed):
    """struct bpf_link_info of a kprobe, as of 6.9."""
    return struct.pack("<IIIIII8sIIQQQ", link_type, 1, 2, 0, event, 0, b"", 0, 0, 0, missed, 0)


@pytest.mark.parametrize(
    ("data", "missed"),
    [
        (link_info(7, 3, 12), 12),  # kprobe
        (link_info(7, 4, 0), 0),  # kretprobe
        (link_info(7, 5, 12), None),  # perf event of a tracepoint
        (link_info(2, 3, 12), None),  # fentry
        (link_info(7, 3, 12)[:48], None),  # 6.6: before the kernel counted
        (None, None),  # 5.10: a kprobe is no BPF link yet
    ],
)
def test_missed_runs_are_told_where_the_kernel_tells(kernel, data, missed):
    """None is for a kernel or a kind of probe that does not count them."""
    if data is not None:
        kernel.infos[50] = data
    assert Link(kernel, 50, "kprobe__ip_rcv").missed() == missed
