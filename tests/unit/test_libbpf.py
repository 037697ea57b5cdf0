# SPDX-License-Identifier: GPL-2.0-only
"""libbpf is found or its absence explained, and its failures become errors with its own words."""

import ctypes
import platform
import struct
from errno import EBUSY, EINVAL, ENOENT

import pytest
from btfwriter import Writer
from fakelib import FakeLib

from icmp_rtt.errors import LibbpfError, ObjectError, RequirementError
from icmp_rtt.kernel import libbpf as libbpf_module
from icmp_rtt.kernel.bpfobject import Object
from icmp_rtt.kernel.kernelbtf import KernelBtf
from icmp_rtt.kernel.libbpf import Handle, Libbpf, Log

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
    monkeypatch.setattr(libbpf_module.carried, "read", lambda name: None)

    def cdll(name, use_errno=False):
        if name is None:
            return ctypes.PyDLL(None)
        if name not in known:
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")
        return known[name]

    monkeypatch.setattr(libbpf_module.ctypes, "CDLL", cdll)
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


def test_the_real_library_explains_itself(real):
    """What it prints through the callback is in the error."""
    with pytest.raises(LibbpfError) as caught:
        Object(real, b"no object at all", "thing")
    assert "thing" in caught.value.call
    assert "libbpf:" in caught.value.log


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


def test_a_damaged_btf_file_is_refused(real, tmp_path):
    """Truncated BTF is told from what is no BTF at all."""
    path = tmp_path / "kernel.btf"
    path.write_bytes(kernel_like()[:60])
    with pytest.raises(ObjectError, match=r"kernel\.btf: damaged or truncated BTF"):
        KernelBtf(real, str(path))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "cannot read BTF file .*: No such file"),
        (b"", "neither BTF for this machine nor an ELF file"),
        (b"#!/bin/sh", "neither BTF"),
        (b"\xeb\x9f\1\0" + bytes(20), "neither BTF for this machine"),
        (b"\x7fELF\2\1\1" + bytes(11) + b"\x34\x12", "ELF machine 4660, this host is"),
    ],
)
def test_a_file_without_btf_for_this_machine_is_refused(tmp_path, data, message):
    """It is told before libbpf is asked."""
    path = tmp_path / "file"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ObjectError, match=message):
        KernelBtf(FakeLib(), str(path))


def test_a_kernel_without_btf_is_told_with_the_remedy():
    """Both ways out are named."""
    lib = FakeLib(btf__load_vmlinux_btf=lambda: None)
    with pytest.raises(RequirementError, match="CONFIG_DEBUG_INFO_BTF=y, or .* --btf FILE"):
        KernelBtf(lib)
