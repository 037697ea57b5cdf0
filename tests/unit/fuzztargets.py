# SPDX-License-Identifier: GPL-2.0-only
"""What is done with any bytes, for hypothesis (test_fuzz.py) and atheris (tests/fuzz/run).

A target takes bytes and returns whether a value was made of them; our own errors
are the other answer that it may have. Whatever else is raised is a find.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from btfwriter import (
    ARRAY,
    DATASEC,
    DECL_TAG,
    ENUM,
    ENUM64,
    FUNC_PROTO,
    INT,
    STRUCT,
    UNION,
    VAR,
    Writer,
    event,
)
from elfwriter import elf
from fakehost import FACTS
from samples import LABELS, NAMES, NETNS, WALL_NS, guide_start

from icmp_rtt.check import _tx
from icmp_rtt.config import config_of
from icmp_rtt.decode import Decoder
from icmp_rtt.errors import DecodeError, IcmpRttError
from icmp_rtt.kernel.btf import _REFERRING, Btf
from icmp_rtt.kernel.kernelbtf import KernelBtf
from icmp_rtt.kernel.libbpf import Libbpf
from icmp_rtt.kernel.objfile import ObjectFile
from icmp_rtt.kernel.symbols import Symbols
from icmp_rtt.loader import Loader
from icmp_rtt.options import Options
from icmp_rtt.report.jsonl import JsonLines
from icmp_rtt.report.text import TextReport
from icmp_rtt.survey import _Attempt
from icmp_rtt.tracer import Tracer
from icmp_rtt.unanswered import Unanswered

OBJECT = Path(__file__).parents[2] / "icmp_rtt" / "data" / "icmp_rtt.bpf.o"
STRUCTS = (
    "event",
    "side",
    "icmp_rtt_event",
    "icmp_rtt_config",
    "icmp_rtt_side",
    "icmp_rtt_counters",
)
ENUMS = ("hook", "icmp_rtt_hook", "icmp_rtt_probe", "icmp_rtt_counter")
# What the reader asks for beside these.
SHARED = (
    "bucket",
    "cpu_state",
    "slot",
    "sweep",
    "sweep_step",
    "icmp_rtt_direction",
    "icmp_rtt_family",
    "icmp_rtt_outcome",
    "icmp_rtt_side_index",
)
KALLSYMS = b"""\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81001200 T ip_rcv
ffffffff81001300 W ip_list_rcv
ffffffff81001800 D icmp_data
ffffffffc0300400 t v_last\t[veth]
ffffffffc0300000 t v_first\t[veth]
"""
_EDIT = struct.Struct("<HB")
# A type of ``btf_types``: kind, name, flag and number of members, size or type, first member.
_TYPE = struct.Struct("<BBBBHH")
_WORDS_FIXED = {INT: 1, ARRAY: 3, VAR: 1, DECL_TAG: 1}
_WORDS_EACH = {STRUCT: 3, UNION: 3, DATASEC: 3, ENUM64: 3, ENUM: 2, FUNC_PROTO: 2}


@cache
def real_object() -> ObjectFile:
    """The object that ``make build`` made."""
    return ObjectFile.read(str(OBJECT))


@cache
def _libbpf() -> Libbpf:
    return Libbpf()


def edited(sound: bytes, script: bytes, places: Sequence[int]) -> bytes:
    """``sound`` with one of ``places`` set for each three bytes of ``script``: where, and to what."""
    data = bytearray(sound)
    for where, value in _EDIT.iter_unpack(script[: len(script) // 3 * 3]):
        data[places[where % len(places)]] = value
    return bytes(data)


def _as_file(data: bytes) -> str:
    """A file that holds ``data``, until the next call."""
    fd = _memory_file()
    os.ftruncate(fd, 0)
    os.pwrite(fd, data, 0)
    return f"/proc/self/fd/{fd}"


@cache
def _memory_file() -> int:
    return os.memfd_create("fuzz")


# ---------------------------------------------------------------- targets


def btf(data: bytes) -> bool:
    """Raw BTF: every layout and enumerator that the tool asks for."""
    try:
        types = Btf(data)
    except IcmpRttError:
        return False
    found = [_answered(_layout, types, name) for name in STRUCTS]
    return any(found + [_answered(types.enum, name) for name in ENUMS])


def _layout(types: Btf, name: str) -> None:
    form = types.struct(name).format()
    assert struct.calcsize(form.format) == form.size
    assert len(struct.unpack(form.format, bytes(form.size))) == len(form.names)


def btf_types(data: bytes) -> bool:
    """BTF whose types refer to each other at random, with members packed or one on the other.

    None refers to one that is not there: all that would come of it is always the same.
    """
    writer = Writer()
    types = len(data) // 8 + 1
    structs, enums = ([*map(writer.string, names)] for names in (STRUCTS, ENUMS))
    names = [0, *map(writer.string, ("char", "a", "b", "c")), *structs, *enums]
    own = {STRUCT: structs, UNION: structs, ENUM: enums, ENUM64: enums}
    for kind, name, shape, vlen, size, first in _TYPE.iter_unpack(data[: len(data) // 8 * 8]):
        kind = kind % 19 + 1
        vlen *= shape % 8 or 1
        if kind in _REFERRING:
            size %= types
        if kind == ARRAY:
            members = struct.pack("<III", first % types, 0, size)
        else:
            step = 8 * (shape % 16)
            words = [
                (names[(name + i) % len(names)], (first + i * (shape & 1)) % types, i * step)
                for i in range(vlen)
            ]
            if kind == DATASEC:
                words = [(type_id, at, size) for _, type_id, at in words]
            each = _WORDS_EACH.get(kind, 0)
            members = bytes(4 * _WORDS_FIXED.get(kind, 0))
            members += b"".join(struct.pack("<3I", *word)[: 4 * each] for word in words)
        info = shape >> 7 << 31 | kind << 24 | vlen
        called = own.get(kind, names)
        writer.types += struct.pack("<III", called[name % len(called)], info, size) + members
    return btf(writer.bytes())


def btf_of_object(script: bytes) -> bool:
    """The object's own BTF, edited where our types are; what is still a layout decodes a record."""
    data = edited(real_object().btf, script, _btf_places())
    return btf(data) and _answered(_decode_ones, Btf(data))


@cache
def _btf_places() -> list[int]:
    """Bytes of the object's BTF that hold what records are made of."""
    types = Btf(real_object().btf)
    places = [*range(24)]
    for (_, name), type_id in types._named.items():
        if name in (*STRUCTS, *ENUMS):
            places += range(24 + types._offsets[type_id], 24 + types._offsets[type_id + 1])
    arrays = [24 + types._offsets[i] for i in range(1, 40)]
    return places + [at + byte for at in arrays for byte in range(12)]


def _decode_ones(types: Btf) -> None:
    event = types.struct("icmp_rtt_event")
    reader = Decoder(types, NAMES, LABELS, True)
    record = b"\1" * event.size
    try:
        reader.echo(record)
    except DecodeError:
        pass


def objfile(data: bytes) -> bool:
    """A BPF object: its BTF, and where its configuration lies."""
    return _answered(_look_into, data)


def object_edited(script: bytes) -> bool:
    """The real object with its headers, tables and names edited."""
    return objfile(edited(real_object().data, script, _object_places()))


def _look_into(data: bytes) -> None:
    found = ObjectFile(data, "x.o")
    assert len(found.btf) <= len(data)
    place = found.symbol("config")
    assert 0 <= place.offset <= place.offset + place.size


@cache
def _object_places() -> tuple[int, ...]:
    """Bytes of the object that are not a program's: what the tool itself looks at."""
    found = real_object()
    places = list(range(64)) * 16
    for section in found._sections:
        if section.name in (".symtab", ".strtab", ".BTF") or "STRTAB" in section.type:
            places += range(section.start, min(section.start + section.size, section.start + 2048))
    table = int.from_bytes(found.data[40:48], "little")
    places += [*range(table, len(found.data))] * 4
    return tuple(places[:65536])


def object_begun(script: bytes) -> bool:
    """The real object with what its readers take from its BTF edited."""
    return _answered(begin, edited(real_object().data, script, _layout_places()))


def begin(data: bytes) -> None:
    """All that a start makes of an object, but what takes the kernel."""
    options = Options(stacks=True)
    with closing(Loader(_libbpf(), _as_file(data), None, foreign=True)) as loader:
        config = config_of(options, loader.btf, 1, 2)
        config = _Attempt(options, loader, FACTS, config, None)._config
        with closing(loader._opened(loader._code(atomics=True))) as opened:
            loader._prepare(opened, ["fentry__ip_rcv"], config, options.max_sessions)
        Tracer(SimpleNamespace(symbols=None), options, print, lambda: None)._layout(loader)
        for stacks in (False, True):
            Decoder(loader.btf, NAMES, LABELS, stacks)
        Unanswered(loader.btf)
        _tx(loader)


@cache
def _layout_places() -> list[int]:
    """Bytes of the object that are sizes, members and names of types that its readers ask for.

    Of what kind a type is stays as it is: libbpf does not survive everything.
    """
    file = real_object()
    begin_of_btf = file.data.index(file.btf)
    types, places = Btf(file.btf), []
    for (_, name), type_id in types._named.items():
        if name in (*STRUCTS, *ENUMS, *SHARED):
            at, end = types._offsets[type_id] + 24, types._offsets[type_id + 1] + 24
            places += [*range(at, at + 4), *range(at + 8, end)]
    for name in _names_asked_for(types):
        at = file.btf.index(b"\0" + name.encode() + b"\0", 24 + len(types._types) - 1) + 1
        places += range(at, at + len(name))
    return [begin_of_btf + place for place in places]


def _names_asked_for(types: Btf) -> list[str]:
    names = set()
    for kind, name in types._named:
        if name in (*STRUCTS, *ENUMS, *SHARED):
            parts = types.struct(name).fields if kind == STRUCT else types.enum(name)
            names.update((name, *parts))
    return sorted(names)


def record(data: bytes, stacks: bool = True) -> bool:
    """A record: an echo is shown as text, and as JSON that holds it."""
    return _answered(_show, data, stacks)


def record_edited(script: bytes) -> bool:
    """A sound record, edited in front of its stacks."""
    return record(_edited_record(script))


def record_without_stacks(script: bytes) -> bool:
    """The same of a run without stacks."""
    end = Btf(real_object().btf).struct("icmp_rtt_event").fields["stack_bytes"].offset
    return record(_edited_record(script)[:end], stacks=False)


def record_cut(script: bytes) -> bool:
    """The same cut short, if it is longer than the first two bytes of ``script`` say."""
    return record(_edited_record(script[2:])[: int.from_bytes(script[:2], "little")])


def _edited_record(script: bytes) -> bytes:
    end = Btf(real_object().btf).struct("icmp_rtt_event").fields["stack"].offset
    return edited(sound_record(), script, range(end))


@cache
def decoder(stacks: bool) -> Decoder:
    """A decoder of the real object's records."""
    return Decoder(Btf(real_object().btf), NAMES, LABELS, stacks)


@cache
def _tracer() -> Tracer:
    """As much of one as looks at records before the decoder does."""
    types = Btf(real_object().btf)
    tracer = Tracer(SimpleNamespace(symbols=None), Options(), print, lambda: None)
    tracer._layout(SimpleNamespace(btf=types))
    tracer._unanswered = Unanswered(types)
    return tracer


@cache
def sound_record() -> bytes:
    """A record of the real object's layout, of a complete echo with stacks."""
    types = Btf(real_object().btf)
    layout = types.struct("icmp_rtt_event").format()
    probe = types.enum("icmp_rtt_probe")["PROBE_ip_rcv"]
    values: dict[str, int | bytes] = {
        "family": types.enum("icmp_rtt_family")["FAMILY_IPV4"],
        "direction": types.enum("icmp_rtt_direction")["DIRECTION_TX"],
        "outcome": types.enum("icmp_rtt_outcome")["OUTCOME_COMPLETE"],
        "side[0].comm": b"ping",
        "side[0].ifname": b"eth0",
        "side[0].ifindex": 2,
    }
    for hook in range(6):
        values.update({f"ts_ns[{hook}]": 10**9 + hook, f"probe[{hook}]": probe})
        values.update({f"stack_bytes[{hook}]": 8, f"stack[{hook}][0]": 0xFFFFFFFF81001210})
    blank = struct.unpack(layout.format, bytes(layout.size))
    wanted = (values.get(name, zero) for name, zero in zip(layout.names, blank))
    return struct.pack(layout.format, *wanted)


def _show(data: bytes, stacks: bool) -> None:
    tracer = _tracer()
    assert tracer._given_up_ns(data) >= 0
    assert tracer.completed(data) >= tracer._completed_after(0, data)
    (data,) = tracer._checked([data])
    echo = decoder(stacks).echo(data)
    names = _sound_symbols()
    text = TextReport(names, {}.get, WALL_NS, 10**9, guide_start(), NETNS).echo(echo)
    assert all(line.isprintable() for line in text.split("\n"))
    line = JsonLines(names, {}.get, WALL_NS).echo(echo)
    assert line.isascii()
    assert line.count("\n") == 1
    assert json.loads(line)["id"] == echo.id


@cache
def _sound_symbols() -> Symbols:
    fd = os.memfd_create("kallsyms")
    os.write(fd, KALLSYMS)
    return Symbols(f"/proc/self/fd/{fd}")


def kallsyms(data: bytes) -> bool:
    """A text in place of /proc/kallsyms: names or addresses, and a problem if there are none."""
    path = _as_file(data)
    symbols = Symbols(path)
    names = [symbols.name(address) for address in (0, 0xFFFFFFFF81001210, (1 << 64) - 1)]
    names.append(symbols.frame(0xFFFFFFFFC0300404))
    assert all(name.isprintable() for name in names), names
    if symbols.problem is not None:
        assert all(name.startswith("0x") for name in names)
    return _answered(_find, Symbols(path)) and symbols.problem is None


def _find(symbols: Symbols) -> None:
    functions, variables = ("ip_rcv", "icmp_rcv"), ("icmp_data", "fixed_percpu_data", "ip_rcv")
    found, addresses = symbols.find(functions, variables)
    assert found <= {*functions}
    assert addresses.keys() <= {*variables}
    assert all(0 < address < 1 << 64 for address in addresses.values()), addresses


def kallsyms_edited(script: bytes) -> bool:
    """A sound text, edited."""
    return kallsyms(edited(KALLSYMS, script, range(len(KALLSYMS))))


def kernel_btf(data: bytes) -> bool:
    """A file in place of the kernel's BTF, which libbpf reads."""
    return _answered(_kernel_names, _as_file(data))


def kernel_btf_edited(script: bytes) -> bool:
    """The object's BTF in that place, edited."""
    return kernel_btf(edited(real_object().btf, script, _btf_places()))


def _kernel_names(path: str) -> None:
    with KernelBtf(_libbpf(), path) as types:
        types.has_function("fentry__ip_rcv")
        for name in ENUMS:
            types.enum_names(name)


def _answered(call, *arguments: object) -> bool:
    """False if the call was refused with an error of ours."""
    try:
        call(*arguments)
    except IcmpRttError:
        return False
    return True


TARGETS = {
    target.__name__: target
    for target in (
        btf,
        btf_types,
        btf_of_object,
        objfile,
        object_edited,
        object_begun,
        record,
        record_edited,
        record_without_stacks,
        record_cut,
        kallsyms,
        kallsyms_edited,
        kernel_btf,
        kernel_btf_edited,
    )
}


def seeds(name: str) -> list[bytes]:
    """Inputs to begin with; a script that edits nothing is empty."""
    whole = {
        "btf": event().bytes(),
        "objfile": elf(),
        "record": sound_record(),
        "kallsyms": KALLSYMS,
        "kernel_btf": real_object().btf,
    }
    return [b"", whole[name]] if name in whole else [b""]
