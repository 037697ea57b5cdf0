# SPDX-License-Identifier: GPL-2.0-only
"""libbpf is found or its absence explained, and its failures become errors with its own words."""

import contextlib
import ctypes
import os
import platform
import re
import struct
import tracemalloc
from errno import EBUSY, EINVAL, ENOENT
from pathlib import Path

import pytest
from btfwriter import PTR, Writer
from elfwriter import PROGBITS, elf
from fakelib import FakeLib

from icmp_rtt.errors import LibbpfError, ObjectError, RequirementError
from icmp_rtt.kernel import facts, kernelbtf
from icmp_rtt.kernel import libbpf as libbpf_module
from icmp_rtt.kernel import library as library_module
from icmp_rtt.kernel.bpfobject import Object
from icmp_rtt.kernel.kernelbtf import KernelBtf, check_file
from icmp_rtt.kernel.libbpf import Handle, Libbpf, Log
from icmp_rtt.kernel.listing import Listing
from icmp_rtt.kernel.symbols import Symbols

INFO, DEBUG = 1, 2


class Library:
    """Stands for a loaded library of the given version."""

    _name = "fake.so"

    def __init__(self, major, minor):
        self._major, self._minor = major, minor

    def __getattr__(self, name):
        values = {"libbpf_major_version": self._major, "libbpf_minor_version": self._minor}

        def function(*_):
            return values.get(name, 0)

        return function


@pytest.fixture
def libraries(monkeypatch):
    """The libraries that can be opened, by name; none is carried."""
    known = {}
    monkeypatch.setattr(library_module.carried, "read", lambda name: None)

    def cdll(name, use_errno=False):
        if name is None:
            return ctypes.PyDLL(None)
        if name not in known:
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")
        return known[name]

    monkeypatch.setattr(library_module.ctypes, "CDLL", cdll)
    return known


@pytest.fixture
def real():
    """The system's libbpf."""
    try:
        return Libbpf()
    except RequirementError as error:
        pytest.skip(str(error))


def test_missing_libbpf_says_what_to_install(libraries):
    """The package is named, and what is there instead."""
    with pytest.raises(RequirementError, match="^libbpf missing: apt install libbpf1"):
        Libbpf()
    libraries["libbpf.so.0"] = Library(0, 8)
    with pytest.raises(RequirementError, match=r"only libbpf\.so\.0 is here, which is too old"):
        Libbpf()


@pytest.mark.parametrize(("version", "fine"), [((0, 8), 0), ((1, 0), 0), ((1, 1), 1), ((2, 0), 1)])
def test_an_older_libbpf_is_refused(libraries, version, fine):
    """1.1 is the oldest that will do; an older one is named with its version."""
    libraries["libbpf.so.1"] = Library(*version)
    if fine:
        assert Libbpf().version == version
    else:
        found = f"libbpf {version[0]}.{version[1]} is too old: 1.1 is needed: apt install"
        with pytest.raises(RequirementError, match=found):
            Libbpf()


def test_a_library_that_is_not_libbpf_is_refused():
    """A path that leads to nothing, or to something else, is told as such."""
    with pytest.raises(RequirementError, match="cannot load libbpf: /nonexistent/libbpf.so: "):
        Libbpf("/nonexistent/libbpf.so")
    with pytest.raises(RequirementError, match="invalid ELF header|file too short"):
        Libbpf(__file__)
    with pytest.raises(RequirementError, match="libc.so.6 is not libbpf, or is too old"):
        Libbpf("libc.so.6")


@pytest.mark.parametrize(
    "raised",
    [
        UnicodeDecodeError("utf-8", b"/d\xe9/l.so: no such file", 2, 3, "invalid"),
        OSError(""),
        OSError("/d\udce9/l.so: no such file"),
    ],
    ids=["newer", "older", "told"],
)
def test_a_path_that_is_not_utf_8(monkeypatch, raised):
    """Python may have no words of the loader's, or fail over them; it is a missing file all the same."""

    def refuse(name, **_):
        raise raised

    monkeypatch.setattr(library_module.ctypes, "CDLL", refuse)
    said = "cannot load libbpf: /d\udce9/l.so: (no such file|cannot be loaded): apt install libbpf1"
    with pytest.raises(RequirementError, match=said):
        library_module.open_library("/d\udce9/l.so")
    monkeypatch.setattr(library_module.carried, "read", lambda _: None)
    with pytest.raises(RequirementError, match="libbpf"):
        library_module.open_library(None)


def test_a_path_without_a_slash_is_of_the_current_directory(tmp_path, monkeypatch):
    """As those of all other files; the system's library of that name is another one."""
    (tmp_path / "libbpf.so.1").write_bytes(b"no library")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequirementError, match=f"{tmp_path}/libbpf.so.1: "):
        Libbpf("libbpf.so.1")


def test_what_would_kill_or_stop_the_process_is_not_loaded(tmp_path):
    """The loader touches what lies beyond the end of a file that was cut off, and waits for a pipe."""
    whole = Path(_mapped("libbpf.so.1")).read_bytes()
    for size in (4096, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.so").write_bytes(whole[:size])
        with pytest.raises(RequirementError, match="cut.so is cut off: apt install libbpf1"):
            Libbpf(str(tmp_path / "cut.so"))
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(RequirementError, match=f"{path} is no file: apt install libbpf1"):
            Libbpf(str(path))


def _mapped(name):
    """Where the library lies that was loaded under this name."""
    Libbpf(name)
    lines = Path("/proc/self/maps").read_text().splitlines()
    return next(line.split()[-1] for line in lines if "libbpf.so" in line)


def test_a_library_without_room_is_a_lack_of_memory(monkeypatch):
    """To install it once more would not help."""

    def no_room(name, **_):
        raise OSError(f"{name}: failed to map segment from shared object")

    monkeypatch.setattr(library_module.ctypes, "CDLL", no_room)
    with pytest.raises(RequirementError, match="raise the limit of memory"):
        Libbpf("libbpf.so.1")


def test_a_number_below_zero_is_a_failure():
    """Its errno, the call, and what the call was about are in the error."""
    lib = FakeLib(bpf_object__load=lambda _: -EBUSY)
    with pytest.raises(LibbpfError) as caught:
        lib.call("bpf_object__load", 1, about="thing")
    assert caught.value.errno == EBUSY
    assert caught.value.call == "bpf_object__load(thing)"
    lib = FakeLib(bpf_object__load=lambda _: 7)
    assert lib.call("bpf_object__load", 1) == 7


def test_a_null_pointer_is_a_failure():
    """The errno is the one that libbpf left, and not one left by an earlier call."""

    def fail(code):
        def attach(_):
            if code:
                ctypes.set_errno(code)

        return attach

    for code, expected in ((ENOENT, ENOENT), (0, EINVAL)):
        ctypes.set_errno(EBUSY)
        with pytest.raises(LibbpfError) as caught:
            FakeLib(bpf_program__attach=fail(code)).call("bpf_program__attach", 1)
        assert caught.value.errno == expected
    assert FakeLib(bpf_program__attach=lambda _: 64).call("bpf_program__attach", 1) == 64


def test_errnos_that_are_allowed_are_answers():
    """They come back as a negative number; any other one is still a failure."""
    lib = FakeLib(bpf_map_lookup_elem=lambda *_: -ENOENT)
    assert lib.call("bpf_map_lookup_elem", 3, b"", None, allow=(ENOENT,)) == -ENOENT
    with pytest.raises(LibbpfError):
        lib.call("bpf_map_lookup_elem", 3, b"", None, allow=(EBUSY,))


def test_a_function_without_a_result_does_not_fail():
    """None from a void function is no NULL."""
    assert FakeLib(bpf_object__close=lambda _: None).call("bpf_object__close", 1) == 0


def say(log, form, *arguments, level=INFO):
    """Call the callback as libbpf does: with a va_list, all of whose arguments lie in memory."""
    area = (ctypes.c_uint64 * max(1, len(arguments)))(*arguments)
    address = ctypes.addressof(area)
    if platform.machine() == "aarch64":
        place = struct.pack("QQQii", address, 0, 0, 0, 0)
    else:
        place = struct.pack("IIQQQ", 48, 304, address, 0, 0)
    place = ctypes.create_string_buffer(place, 32)
    form = ctypes.create_string_buffer(form)
    return log.callback(level, ctypes.addressof(form), ctypes.addressof(place))


def test_words_of_libbpf_are_kept():
    """Formatted as C does, in order, until they are cleared."""
    log = Log(verbose=False)
    name = ctypes.create_string_buffer(b"ip_rcv")
    assert say(log, b"prog '%s': %d\n", ctypes.addressof(name), 42) == 0
    say(log, b"second %lld%%\n", 1 << 40)
    assert log.text() == "prog 'ip_rcv': 42\nsecond 1099511627776%\n"
    log.clear()
    assert log.text() == ""


def test_debug_messages_are_kept_only_when_asked_for():
    """They are many: nobody pays for them otherwise."""
    for verbose, text in ((False, ""), (True, "detail\n")):
        log = Log(verbose)
        say(log, b"detail\n", level=DEBUG)
        assert log.text() == text


@pytest.mark.parametrize("length", [4091, 4092, 4093, 4094, 300_000])
def test_a_long_message_is_whole(length):
    """The verifier's log comes as one message: its arguments are there for a second try."""
    log = Log(verbose=False)
    text = ctypes.create_string_buffer(b"x" * (length - 2) + b"yz")
    say(log, b"%d %s\n", 7, ctypes.addressof(text))
    assert log.text() == "7 " + "x" * (length - 2) + "yz\n"


def test_a_log_without_end_keeps_its_end(monkeypatch):
    """What matters is said last; that something is left out is said, too."""
    monkeypatch.setattr(libbpf_module, "_KEPT", 100)
    log = Log(verbose=False)
    for number in range(1000):
        say(log, b"line %d\n", number)
    first, *rest = log.text().splitlines()
    assert first == "[the beginning of this log is left out]"
    assert rest[-1] == "line 999"
    assert 90 <= sum(len(line) + 1 for line in rest) <= 100
    log.clear()
    say(log, b"short\n")
    assert log.text() == "short\n"


def test_an_error_has_the_words_of_its_own_call_alone():
    """What was said during an earlier call is not blamed on a later one."""
    lib = FakeLib()

    def load(_):
        say(lib.log, b"R0 invalid mem access\n")
        return -EINVAL

    lib._functions.update(bpf_object__load=load, bpf_link__fd=lambda _: -EBUSY)
    for name, log in (("bpf_object__load", "R0 invalid mem access\n"), ("bpf_link__fd", "")):
        with pytest.raises(LibbpfError) as caught:
            lib.call(name, 1)
        assert caught.value.log == log


def test_a_handle_is_freed_once():
    """Closing twice is harmless; using it afterwards is an error, not a crash."""
    freed = []

    class Thing(Handle):
        def _free(self, address):
            freed.append(address)

    with Thing(FakeLib(), 4096, "thing") as thing:
        assert thing.address == 4096
        thing.close()
    thing.close()
    assert freed == [4096]
    with pytest.raises(ValueError, match="thing is closed"):
        _ = thing.address


def test_every_declared_function_is_in_the_real_library(real):
    """Opening looks each of them up; the library answers and reports its CPUs."""
    assert real.version >= (1, 1)
    assert real.possible_cpus() >= 1


def test_the_real_library_explains_itself(real, capfd):
    """What it prints through the callback is in the error; on stderr is nothing of it."""
    for listening, heard in ((contextlib.nullcontext, False), (real.heard, True)):
        with listening(), pytest.raises(LibbpfError) as caught:
            Object(real, b"no object at all", "thing")
        assert "thing" in caught.value.call
        assert ("libbpf:" in caught.value.log) == heard
    assert capfd.readouterr() == ("", "")


def test_functions_are_those_in_kallsyms(real, tmp_path, monkeypatch):
    """By exactly this name; features and enumerators are those in BTF."""
    monkeypatch.setattr(facts, "has_own_btf", lambda: False)
    monkeypatch.setattr(facts, "has_atomics", lambda _: True)
    monkeypatch.setattr(facts, "check_file", lambda *_: None)
    btf, kallsyms = tmp_path / "kernel.btf", tmp_path / "kallsyms"
    btf.write_bytes(kernel_like())
    kallsyms.write_text("ffffffff81000000 T ip_rcv\nffffffff81000010 t icmp_rcv.cold\n")
    names = ("ip_rcv", "icmp_rcv", "ip_rcv_core")
    found = facts.read_facts(real, Listing(Symbols(str(kallsyms)), names), str(btf))
    assert found.functions == {"ip_rcv"}
    assert found.drop_reason("NO_SOCKET") == 3


def kernel_like():
    """BTF with functions and an enum."""
    w = Writer()
    proto = w.add(13, "", w.integer("int", 4))
    for name in ("ip_rcv", "ip_rcv_core"):
        w.add(12, name, proto)
    w.enum("skb_drop_reason", {"SKB_NOT_DROPPED_YET": 0, "SKB_DROP_REASON_NO_SOCKET": 3})
    return w.bytes()


def test_kernel_btf_answers_by_exact_name(real, tmp_path):
    """Functions and enumerators of a BTF file are found; what is not there is an answer."""
    path = tmp_path / "kernel.btf"
    path.write_bytes(kernel_like())
    with KernelBtf(real, str(path)) as btf:
        assert btf.has_function("ip_rcv")
        assert not btf.has_function("ip_rc")
        assert not btf.has_function("int")
        names = {0: "SKB_NOT_DROPPED_YET", 3: "SKB_DROP_REASON_NO_SOCKET"}
        assert btf.enum_names("skb_drop_reason") == names
        assert btf.enum_names("nosuch") == {}
    with pytest.raises(ValueError, match="closed"):
        btf.has_function("ip_rcv")


def elf_with_btf(btf, machine=None):
    """An ELF file of this machine (or of another), as a vmlinux is."""
    own = int.from_bytes(Path("/proc/self/exe").read_bytes()[18:20], "little")
    return elf(machine or own, 2, {".BTF": (PROGBITS, btf)}, symbols=[])


def test_btf_in_an_elf_file_is_found(real, tmp_path):
    """As in a vmlinux; an ELF file without BTF, or with a damaged one, is refused."""
    path = tmp_path / "vmlinux"
    path.write_bytes(elf_with_btf(kernel_like()))
    with KernelBtf(real, str(path)) as btf:
        assert btf.has_function("ip_rcv")
    for data in (elf_with_btf(b""), elf_with_btf(kernel_like()[:60]), elf_with_btf(b"")[:90]):
        path.write_bytes(data)
        with pytest.raises(ObjectError, match=f"vmlinux: no BTF in this ELF file, or .*: {REMEDY}"):
            KernelBtf(real, str(path))
    path.write_bytes(elf_with_btf(self_centred(9)))
    with pytest.raises(ObjectError, match="vmlinux: "):
        KernelBtf(real, str(path))


def self_centred(type_id):
    """BTF with one pointer, to a type of this number."""
    w = Writer()
    w.add(PTR, size=type_id)
    return w.bytes()


REMEDY = "--btf takes raw BTF of this kernel, or its vmlinux with BTF in it"
OTHER_ENDIAN = struct.pack(">HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, 1) + b"\0"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "not BTF: 0 bytes are too few", id="empty"),
        pytest.param(b"#!/bin/sh", "not BTF: 9 bytes are too few", id="short"),
        pytest.param(b"#!/bin/sh\n" * 9, "not .* BTF: it begins with 0x2123", id="a script"),
        pytest.param(OTHER_ENDIAN, "not little-endian BTF: it begins with 0x9feb", id="big-endian"),
        pytest.param(kernel_like()[:20], "not BTF: 20 bytes are too few", id="half a header"),
        pytest.param(kernel_like()[:60], "damaged BTF: .* past its end", id="half the types"),
        pytest.param(kernel_like()[:-1], "damaged BTF: .* past its end", id="one byte short"),
        pytest.param(self_centred(9), "damaged BTF: type 9 of 1", id="a type that is not there"),
        pytest.param(Writer().bytes(version=2), "BTF version 2", id="a later version"),
        pytest.param(
            elf_with_btf(kernel_like(), 0x1234), "ELF machine 4660, this host is", id="machine"
        ),
    ],
)
def test_a_file_that_is_no_btf_of_this_machine_is_refused(tmp_path, data, message):
    """In one line, with the remedy, and before libbpf is asked."""
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ObjectError) as caught:
        KernelBtf(FakeLib(), str(path))
    assert re.fullmatch(f"{path}: {message}.*: {REMEDY}", str(caught.value))
    assert caught.value.exit_status == 1


def test_btf_of_something_else_is_told(real, tmp_path):
    """Sound BTF that no kernel could have; libbpf would only say that each program is refused."""
    path = tmp_path / "other.btf"
    path.write_bytes(kernel_like())
    with pytest.raises(ObjectError, match=rf"other\.btf: .* struct sk_buff, .*: {REMEDY}"):
        check_file(real, str(path))
    path.write_bytes(of_a_kernel(registers=168))
    check_file(real, str(path))


@pytest.mark.parametrize("registers", [336, 68, 0])
def test_btf_of_another_architecture_is_told(real, tmp_path, registers):
    """Raw BTF does not name its machine, but has its registers, or none at all."""
    path = tmp_path / "arm64.btf"
    path.write_bytes(of_a_kernel(registers))
    words = f"struct pt_regs of {registers} bytes, this host's has 168: {REMEDY}"
    with pytest.raises(ObjectError, match=rf"arm64\.btf: BTF of another architecture: {words}"):
        check_file(real, str(path))


def of_a_kernel(registers):
    """The least that passes for a kernel's BTF, with so many bytes of registers."""
    w = Writer()
    length = w.integer("unsigned int", 4)
    w.struct("sk_buff", 4, ("len", length, 0))
    if registers:
        w.struct("pt_regs", registers, ("first", length, 0))
    return w.bytes()


def test_a_file_takes_no_more_memory_than_it_has_bytes(real, tmp_path):
    """Whatever would still pass for a BTF file; what would not is not read at all."""
    path = tmp_path / "kernel.btf"
    path.write_bytes(kernel_like())
    tracemalloc.start()
    try:
        KernelBtf(real, str(path)).close()
        with open(path, "r+b") as file:
            file.truncate(1 << 30)
        with pytest.raises(ObjectError, match="1073741824 bytes are too many for a BTF file"):
            KernelBtf(FakeLib(), str(path))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_is_not_there_is_told(tmp_path):
    """Or that is none."""
    with pytest.raises(ObjectError, match="cannot read BTF file .*/nosuch: No such file"):
        KernelBtf(FakeLib(), str(tmp_path / "nosuch"))
    with pytest.raises(ObjectError, match="not a regular file: a BTF file is expected"):
        KernelBtf(FakeLib(), str(tmp_path))


@pytest.mark.parametrize(
    ("content", "has"), [(b"\x9f\xeb\1\0", True), (b"", False), (b"\0\0", False), (None, False)]
)
def test_what_hides_the_kernels_btf(tmp_path, monkeypatch, content, has):
    """An empty file, or /dev/null, in its place is none."""
    if content is not None:
        (tmp_path / "vmlinux").write_bytes(content)
    monkeypatch.setattr(kernelbtf, "_OWN", str(tmp_path / "vmlinux"))
    assert kernelbtf.has_own_btf() is has


def test_a_kernel_without_btf_is_told_with_the_remedy(monkeypatch):
    """Both ways out are named; where it is there, and libbpf finds none, another one."""
    monkeypatch.setattr(kernelbtf, "has_own_btf", lambda: True)
    lib = FakeLib(btf__load_vmlinux_btf=lambda: None)
    with pytest.raises(RequirementError, match="could not load it: raise the limit of memory"):
        KernelBtf(lib)
    monkeypatch.setattr(kernelbtf, "has_own_btf", lambda: False)
    lib = FakeLib(btf__load_vmlinux_btf=lambda: None)
    with pytest.raises(RequirementError, match="CONFIG_DEBUG_INFO_BTF=y, or .* --btf FILE"):
        KernelBtf(lib)
