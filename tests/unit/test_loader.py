# SPDX-License-Identifier: GPL-2.0-only
"""The object is opened by libbpf, and looked through by pyelftools where it need not be sound."""

import contextlib
import struct
from errno import EACCES, EINVAL, EMFILE, ENOMEM
from pathlib import Path
from types import SimpleNamespace

import pytest
from elfwriter import elf
from fuzztargets import begin

from icmp_rtt import carried, loader
from icmp_rtt.errors import LibbpfError, ObjectError
from icmp_rtt.kernel.bpfobject import Object
from icmp_rtt.kernel.btf import Btf
from icmp_rtt.kernel.layout import Format
from icmp_rtt.kernel.libbpf import Libbpf
from icmp_rtt.kernel.objfile import ObjectFile
from icmp_rtt.loader import Loader, Refused

CARRIED = [carried.on_disk(name) for name in (carried.OBJECT, carried.OBJECT_WITHOUT_BTF)]


@pytest.fixture(scope="module")
def lib():
    """The system's libbpf: opening an object takes no privilege."""
    return Libbpf()


def renamed(name):
    """The carried object with the last letter of one of the names in its BTF changed."""
    data = Path(CARRIED[0]).read_bytes()
    at = data.index(b"\0" + name.encode() + b"\0", data.find(loader._BTF_BEGINS))
    return data[: at + len(name)] + b"_" + data[at + len(name) + 1 :]


@pytest.fixture
def damaged(tmp_path):
    """The carried object without its end."""
    path = tmp_path / "x.o"
    path.write_bytes(Path(CARRIED[0]).read_bytes()[:100_000])
    return str(path)


@pytest.mark.parametrize("path", CARRIED)
def test_libbpf_and_the_symbol_table_agree_on_the_place_of_the_configuration(lib, path):
    """Two readers, one fact."""
    with contextlib.closing(Loader(lib, path, None)) as found:
        place = found.btf.variable("config")
    symbol = ObjectFile.read(path).symbol("config")
    found_at = (place.section, place.offset, place.size)
    assert found_at == (symbol.section, symbol.offset, symbol.size)


def test_the_readme_knows_how_long_a_session_is(lib):
    """Its table of what memory is used is about this object."""
    with contextlib.closing(Loader(lib, CARRIED[0], None)) as found:
        before = found.btf.struct("slot").fields["event"].offset
        without, with_stacks = (before + found.record_size(stacks) for stacks in (False, True))
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"| a session | {without} bytes without stacks, {with_stacks} with," in readme


def test_btf_begins_where_it_is_looked_for():
    """Before libbpf, which may believe it, gets it."""
    for path in CARRIED:
        file = ObjectFile.read(path)
        begin = file.data.find(loader._BTF_BEGINS)
        assert file.data[begin : begin + len(file.btf)] == file.btf


def test_damaged_btf_does_not_reach_libbpf(lib, tmp_path, monkeypatch):
    """A reference to a type that is not there ends an older one."""
    data = bytearray(Path(CARRIED[0]).read_bytes())
    begin = data.find(loader._BTF_BEGINS)
    data[begin + 24 + 8 : begin + 24 + 12] = b"\xff\xff\xff\0"  # the first type is a pointer
    path = tmp_path / "x.o"
    path.write_bytes(data)
    monkeypatch.setattr(loader, "Object", lambda *_: pytest.fail("libbpf has it"))
    with pytest.raises(ObjectError, match="damaged BTF: type 16777215 of"):
        Loader(lib, str(path), None)


def test_an_object_that_does_not_fit_is_closed(lib, monkeypatch):
    """Though nobody has it yet."""
    closed = []
    monkeypatch.setattr(Object, "close", lambda obj: closed.append(obj))
    monkeypatch.setattr(Object, "btf", lambda _: b"")
    with pytest.raises(ObjectError, match="not BTF"):
        Loader(lib, CARRIED[0], None)
    assert len(closed) == 1


def test_what_libbpf_alone_finds_fault_with_is_named(lib, monkeypatch):
    """With the path, a remedy and libbpf's errno; what this host lacks is told as that."""
    monkeypatch.setattr(loader, "_check", lambda *_: None)

    def refuse(code):
        def opened(*_):
            raise LibbpfError("bpf_object__open_mem(icmp_rtt)", code, "words")

        monkeypatch.setattr(loader, "Object", opened)

    refuse(95)
    with pytest.raises(ObjectError, match=r"bpf.o: libbpf cannot open it: .*\(errno 95\); rein"):
        loader.open_loader(lib, None, None)
    refuse(ENOMEM)
    with pytest.raises(LibbpfError, match="errno 12"):
        loader.open_loader(lib, None, None)


@pytest.mark.parametrize("foreign", [False, True])
def test_a_damaged_object_is_told_in_our_words(lib, damaged, foreign):
    """Whether it was looked through before, or libbpf has refused it."""
    with pytest.raises(ObjectError, match="x.o: truncated: 100000 bytes of at least"):
        Loader(lib, damaged, None, foreign)


def test_a_foreign_object_is_looked_through_before_libbpf_has_it(lib, tmp_path, monkeypatch):
    """It may be the worst."""
    path = tmp_path / "x.o"
    path.write_bytes(elf(symbols=[("other", 1, 0, 8)]))
    monkeypatch.setattr(loader, "Object", lambda *_: pytest.fail("libbpf has it"))
    with pytest.raises(ObjectError):
        Loader(lib, str(path), None, foreign=True)


@pytest.mark.parametrize(
    "name",
    [
        *("SWEEP_SLOTS", "stack_bytes", "bucket", "word", "slot", "cpu_state", "arrival"),
        *("FAMILY_IPV4", "DIRECTION_TX", "OUTCOME_OPEN", "OUTCOME_LATE", "COUNTER_SKIPPED"),
        *("ts_ns", "outcome", "sum", "bucket_mask", "icmp_rtt_config"),
    ],
)
def test_a_name_that_is_not_there_is_told(name):
    """By whoever asks for it, before the kernel has the object."""
    with pytest.raises(ObjectError, match=rf"no .*\b{name}\b"):
        begin(renamed(name))


def test_the_remedy_for_a_given_object_is_another(lib, tmp_path):
    """What came with the package has nothing to do with it."""
    path = tmp_path / "x.o"
    path.write_bytes(renamed("SWEEP_SLOTS"))
    with pytest.raises(ObjectError) as caught:
        loader.open_loader(lib, str(path), None)
    assert str(caught.value) == (
        f"{path}: the BPF object does not fit this program: enum sweep_step has no SWEEP_SLOTS;"
        " give --object another file, or leave it out"
    )


def test_a_sweep_is_told_what_it_is_to_do_by_name(lib):
    """In whatever order the object has its members; each of its runs begins where it is to."""
    told = []
    sweep = SimpleNamespace(run=lambda context: told.append(struct.unpack("<4Q", context)) or 3)
    sessions = SimpleNamespace(max_entries=512)
    obj = SimpleNamespace(programs={"sweep": sweep}, maps={"sessions": sessions})
    with contextlib.closing(Loader(lib, CARRIED[0], None)) as found:
        assert found.sweep(obj, 77, last_time=True) == 6
        assert told == [(77, 0, 1, 0), (77, 256, 1, 0)]
        names = ("ending", "first", "last_time", "oldest_ns")
        found._sweep = Format("sweep", found._sweep.format, names, found._sweep.size)
        found.sweep(obj, 77, ending=True)
    assert told[2:] == [(1, 0, 0, 77), (1, 256, 0, 77)]


def test_each_cpu_has_its_number(lib):
    """Where the object has it, and nothing else is set."""
    values = {}
    cpus = SimpleNamespace(value_size=7552, max_entries=300, update=values.__setitem__)
    with contextlib.closing(Loader(lib, CARRIED[0], None)) as found:
        number = found.btf.struct("cpu_state").fields["number"]
        found._number_cpus(cpus)
    value = values[struct.pack("=I", 299)]
    assert number.numbers.unpack_from(value, number.offset) == (299,)
    assert value.strip(b"\0") == struct.pack("<H", 299)


def test_a_sweep_without_end_is_refused():
    """Of no slot at a time."""
    data = bytearray(Path(CARRIED[0]).read_bytes())
    types = Btf(ObjectFile(bytes(data), "x.o").btf)
    value = types._offsets[types._named[6, "sweep_step"]] + 24 + 12 + 4
    at = data.find(loader._BTF_BEGINS) + value
    assert data[at : at + 4] == (256).to_bytes(4, "little")
    data[at : at + 4] = bytes(4)
    with pytest.raises(ObjectError, match="a sweep of 0 slots has no end"):
        begin(bytes(data))


def test_the_object_of_another_sort_of_kernel_is_refused(lib, monkeypatch):
    """It lacks the programs; the remedy is told."""
    monkeypatch.setattr(loader, "has_own_btf", lambda: True)
    closed = []
    monkeypatch.setattr(Object, "close", lambda obj: closed.append(obj))
    with pytest.raises(ObjectError, match="no program tp_btf__netif_receive_skb.*another file"):
        loader.open_loader(lib, CARRIED[1], None)
    assert len(closed) == 1


def test_what_was_opened_ahead_is_used_once_and_else_closed(lib, monkeypatch):
    """The second load opens another."""
    closed = []
    close = Object.close
    monkeypatch.setattr(Object, "close", lambda obj: (closed.append(obj), close(obj))[1])
    found = Loader(lib, CARRIED[0], None)
    first = found._opened(found._code(atomics=True))
    second = found._opened(found._code(atomics=True))
    found.close()
    assert first is not second
    assert closed == []
    for each in (first, second):
        each.close()
    unused = Loader(lib, CARRIED[0], None)
    unused.close()
    unused.close()
    assert len(closed) == 3


def test_a_shortage_is_no_fault_of_a_program(lib, monkeypatch):
    """Another back end would not do any better."""
    found = Loader(lib, CARRIED[0], None)

    def load(obj):
        words = "libbpf: prog 'fentry__ip_rcv': failed to load: -24\n" * obj.lib.listening
        raise LibbpfError("bpf_object__load", EMFILE, words)

    monkeypatch.setattr(Object, "load", load)
    with pytest.raises(LibbpfError) as caught:
        found.load(["fentry__ip_rcv", "fentry__icmp_rcv"], {"atomics": 1, "stacks": 0}, 64)
    assert caught.value.errno == EMFILE
    attached = SimpleNamespace(attach=lambda: load(SimpleNamespace(lib=lib)))
    with pytest.raises(LibbpfError):
        found.attach(SimpleNamespace(programs={"fentry__ip_rcv": attached}), ["fentry__ip_rcv"])


def test_a_map_that_was_not_created_is_a_shortage(lib, monkeypatch):
    """libbpf had no descriptor to try it with, and the program without it is called invalid."""
    words = (
        "BPF map 'icmp_rtt.rodata' is referenced but wasn't created\n"
        "libbpf: prog 'fentry__ip_rcv': failed to load: -22\n"
    )

    def load(obj):
        raise LibbpfError("bpf_object__load", EINVAL, words * obj.lib.listening)

    monkeypatch.setattr(Object, "load", load)
    with contextlib.closing(Loader(lib, CARRIED[0], None)) as found:
        with pytest.raises(LibbpfError, match="errno 24") as caught:
            found.load(["fentry__ip_rcv", "fentry__icmp_rcv"], {"atomics": 1, "stacks": 0}, 64)
    assert caught.value.log == words


def test_programs_are_shared_among_threads_where_there_are_processors(lib, monkeypatch):
    """One after the other where libbpf is to be heard, too: its words name the last one; and
    where the threads would use up what descriptors there are."""
    loaded = []
    monkeypatch.setattr(Loader, "_load", lambda _, *arguments: loaded.append(arguments[:2]))
    with contextlib.closing(Loader(lib, CARRIED[0], None)) as found:
        for processors in (range(2), range(1)):
            monkeypatch.setattr(loader.os, "sched_getaffinity", lambda _, all_=processors: all_)
            found.load("abc", {}, 64)
        monkeypatch.setattr(loader.os, "sched_getaffinity", lambda _: range(2))
        with lib.heard():
            found.load("abc", {}, 64)
        monkeypatch.setattr(loader.os, "sysconf", lambda _: 128)
        found.load("abc", {}, 64)
    assert loaded == [([], [["a", "c"], ["b", "sweep"]])] + [(["a", "b", "c", "sweep"], [])] * 3


def test_a_refused_load_is_heard_the_second_time(lib, monkeypatch):
    """libbpf says nothing at first; what it says names the program."""
    found = Loader(lib, CARRIED[0], None)
    config = {"atomics": 1, "stacks": 0}
    heard = []

    def load(obj):
        heard.append(obj.lib.listening)
        words = "libbpf: prog 'fentry__ip_rcv': failed to load: -13\n" if heard[-1] else ""
        raise LibbpfError("bpf_object__load", EACCES, words)

    monkeypatch.setattr(Object, "load", load)
    with pytest.raises(Refused) as caught:
        found.load(iter(["fentry__ip_rcv", "fentry__icmp_rcv"]), config, 64)
    assert caught.value.program == "fentry__ip_rcv"
    assert heard == [False, True]
    assert not lib.listening
