# SPDX-License-Identifier: GPL-2.0-only
"""Layouts are read out of BTF bytes, and no bytes do harm."""

import random
import struct

import pytest
from btfwriter import (
    CONST,
    DATASEC,
    DECL_TAG,
    ENUM,
    FLOAT,
    FUNC,
    FUNC_PROTO,
    FWD,
    PTR,
    RESTRICT,
    STRUCT,
    TYPE_TAG,
    TYPEDEF,
    UNION,
    VAR,
    VOLATILE,
    Writer,
    event,
)

from icmp_rtt.errors import ObjectError
from icmp_rtt.kernel.btf import Btf


def test_fields_are_told_with_offsets_sizes_dimensions_and_signs():
    """A field says where it lies and what an element of it is."""
    layout = Btf(event().bytes()).struct("event")
    assert (layout.name, layout.size) == ("event", 160)
    seen = {
        f.name: (f.offset, f.size, f.dims, f.elements, f.signed) for f in layout.fields.values()
    }
    assert seen == {
        "ts_ns": (0, 8, (6,), 6, False),
        "family": (48, 1, (), 1, False),
        "hook": (52, 4, (), 1, False),
        "side": (56, 20, (2,), 2, False),
        "error": (96, 4, (), 1, True),
        "stack": (104, 8, (2, 3), 6, False),
        "pointer": (152, 8, (), 1, False),
    }
    comm = layout.fields["side"].struct.fields["comm"]
    assert (comm.offset, comm.size, comm.dims, comm.char) == (4, 1, (16,), True)
    assert not layout.fields["family"].char


def test_a_variable_is_found_in_its_section():
    """With the place that libbpf, which makes such BTF, has put there."""
    w = Writer()
    u32 = w.integer("u32", 4)
    first, second, third = (w.add(VAR, n, u32, bytes(4)) for n in ("first", "second", "third"))
    w.add(DATASEC, ".bss", 4, struct.pack("<III", first, 0, 4), 1)
    w.add(DATASEC, ".rodata", 12, struct.pack("<6I", third, 0, 4, second, 8, 4), 2)
    w.add(VAR, "nowhere", u32, bytes(4))
    btf = Btf(w.bytes())
    second, first = btf.variable("second"), btf.variable("first")
    assert (second.section, second.offset, second.size) == (".rodata", 8, 4)
    assert (first.section, first.offset, first.size) == (".bss", 0, 4)
    for name in ("nowhere", "u32", "secon"):
        with pytest.raises(ObjectError, match=f"variable {name}"):
            btf.variable(name)


def test_a_format_takes_a_whole_record_apart():
    """Padding is passed over, arrays of char are one value, and each value has a name."""
    form = Btf(event().bytes()).struct("event").format()
    assert form.format == "<6Q1B3x1I1I16s1I16s1i4x6Q1Q"
    assert struct.calcsize(form.format) == form.size == 160
    assert form.names == (
        *(f"ts_ns[{i}]" for i in range(6)),
        *("family", "hook", "side[0].pid", "side[0].comm", "side[1].pid", "side[1].comm", "error"),
        *(f"stack[{i}][{j}]" for i in range(2) for j in range(3)),
        "pointer",
    )
    assert len(struct.unpack(form.format, bytes(160))) == len(form.names)


def test_a_format_may_stop_before_a_field():
    """The truncated record is covered up to the first byte that it lacks, padding included."""
    layout = Btf(event().bytes()).struct("event")
    form = layout.format(stop="stack")
    assert form.format == "<6Q1B3x1I1I16s1I16s1i4x"
    assert struct.calcsize(form.format) == form.size == 104
    assert form.names[-1] == "error"
    with pytest.raises(ObjectError, match="struct event has no nosuch"):
        layout.format(stop="nosuch")


def test_enumerators_are_told_with_their_values():
    """Both widths, and negative values where the flag says that there may be any."""
    w = Writer()
    w.enum("plain", {"A": 0, "TOP": 0xFFFFFFFF})
    w.enum("signed", {"MINUS": -3, "PLUS": 7}, flag=1)
    w.enum64("wide", {"BIG": 1 << 40, "ALL": (1 << 64) - 1})
    w.enum64("wide_signed", {"LOW": -(1 << 40), "ONE": 1}, flag=1)
    btf = Btf(w.bytes())
    assert btf.enum("plain") == {"A": 0, "TOP": 0xFFFFFFFF}
    assert btf.enum("signed") == {"MINUS": -3, "PLUS": 7}
    assert btf.enum("wide") == {"BIG": 1 << 40, "ALL": (1 << 64) - 1}
    assert btf.enum("wide_signed") == {"LOW": -(1 << 40), "ONE": 1}


def test_values_go_where_their_names_are():
    """Whatever the order; one that has no place, or too small a one, is refused."""
    w = Writer()
    w.struct("pair", 8, ("a", w.integer("u16", 2), 0), ("b", w.integer("u32", 4), 32))
    form = Btf(w.bytes()).struct("pair").format()
    assert form.pack({"b": 7}) == b"\0\0\0\0\7\0\0\0"
    assert form.pack({"b": 7, "a": True}) == b"\1\0\0\0\7\0\0\0"
    with pytest.raises(ObjectError, match="struct pair has no c, d; reinstall"):
        form.pack({"d": 1, "a": 7, "c": 1})
    with pytest.raises(ObjectError, match="struct pair does not fit: "):
        form.pack({"a": 1 << 16})


def test_numbers_are_taken_out_by_their_member():
    """With its size, sign and dimensions."""
    fields = Btf(event().bytes()).struct("event").fields
    formats = [fields[name].numbers.format for name in ("ts_ns", "family", "error", "stack")]
    assert formats == ["<6Q", "<1B", "<1i", "<6Q"]
    with pytest.raises(ObjectError, match="its side is a struct"):
        fields["side"].numbers


def test_a_part_that_is_not_there_is_named():
    """An enumerator, or a member: an object of another version is refused with what it lacks."""
    btf = Btf(event().bytes())
    with pytest.raises(ObjectError, match="enum hook has no HOOK_RECV; reinstall"):
        btf.enum("hook")["HOOK_RECV"]
    with pytest.raises(ObjectError, match="struct side has no tid; reinstall"):
        btf.struct("event").fields["side"].layout.fields["tid"]
    with pytest.raises(ObjectError, match="its family is no struct; reinstall"):
        btf.struct("event").fields["family"].layout


def test_every_kind_is_passed_over():
    """What follows a type of any kind is found."""
    w = Writer()
    u32 = w.integer("u32", 4)
    for kind in (PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG):
        w.add(kind, "x", u32)
    w.array(u32, 3)
    w.add(FUNC_PROTO, "", u32, bytes(16), 2)
    w.add(VAR, "v", u32, bytes(4))
    w.add(DECL_TAG, "tag", u32, bytes(4))
    w.add(DATASEC, ".d", 0, bytes(24), 2)
    w.struct("u", 4, ("a", u32, 0), kind=UNION)
    w.enum64("e", {"E": 1})
    w.struct("last", 4, ("a", u32, 0))
    assert Btf(w.bytes()).struct("last").fields["a"].size == 4


def test_what_is_not_there_is_named():
    """The error says what was looked for."""
    btf = Btf(event().bytes())
    for look_up, what in (
        (btf.struct, "struct nosuch"),
        (btf.enum, "enum nosuch"),
    ):
        with pytest.raises(ObjectError, match=f"no {what} in the BTF"):
            look_up("nosuch")
    with pytest.raises(ObjectError, match="no struct hook"):
        btf.struct("hook")  # an enum of that name does not do


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not BTF: 0 bytes"),
        (bytes(23), "not BTF: 23 bytes"),
        (Writer().bytes(magic=0x9FEB), "not little-endian BTF: it begins with 0x9feb"),
        (Writer().bytes(version=2), "BTF version 2"),
        (Writer().bytes(header=20), "reach past its end"),
        (Writer().bytes(header=25), "reach past its end"),
        (event().bytes()[:-1], "reach past its end"),
    ],
)
def test_what_is_no_btf_is_refused(data, message):
    """The error says what was found."""
    with pytest.raises(ObjectError, match=message):
        Btf(data)


def refused(build):
    """What ``struct bad`` of the BTF that ``build`` writes is refused with."""
    w = Writer()
    build(w, w.integer("u32", 4))
    with pytest.raises(ObjectError) as caught:
        Btf(w.bytes()).struct("bad").format()
    return str(caught.value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda w, u: w.struct("bad", 4, ("a", u, 8)), "longer than its struct"),
        (lambda w, u: w.struct("bad", 4, ("a", u, 3)), "bit fields"),
        (lambda w, u: w.struct("bad", 4, ("a", u, 5 << 24), flag=1), "bit fields"),
        (lambda w, u: w.struct("bad", 4, ("", u, 0)), "unnamed members"),
        (lambda w, u: w.struct("bad", 8, ("a", u, 0), ("a", u, 32)), "unnamed members"),
        (lambda w, u: w.struct("bad", 8, ("a", u, 0), ("b", u, 16)), "b overlaps"),
        (lambda w, u: w.struct("bad", 0), "no record"),
        (lambda w, u: w.struct("bad", 1 << 31, ("a", u, 0)), "no record"),
        (lambda w, u: w.struct("bad", 4, ("a", 99, 0)), "type 99 of 2"),
        (lambda w, u: w.struct("bad", 4, ("a", 0, 0)), "type 0 of 2"),
        (lambda w, u: w.struct("bad", 4, ("a", w.add(FLOAT, "f", 4), 0)), "kind 16"),
        (lambda w, u: w.struct("bad", 4, ("a", w.array(u, 0), 0)), "fixed length"),
        (lambda w, u: w.struct("bad", 8, ("a", w.integer("u24", 3), 0)), "neither an integer"),
        (lambda w, u: w.struct("bad", 4, ("a", w.array(u, 0xFFFFFFFF), 0)), "longer than"),
        (lambda w, u: w.struct("bad", 4, ("a", w.count + 1, 0)), "too deep"),
        (lambda w, u: w.struct("bad", 4, ("a", w.add(CONST, size=w.count + 1), 0)), "itself"),
    ],
)
def test_a_struct_that_can_be_no_record_is_refused(build, message):
    """Nothing is guessed at, and nothing is followed for ever."""
    assert message in refused(build)


@pytest.mark.parametrize(
    "build",
    [
        lambda w: w.add(VAR, "v", 99, bytes(4)),
        lambda w: w.add(FUNC, "f", 99),
        lambda w: w.add(FUNC_PROTO, "", 99),
        lambda w: w.add(FUNC_PROTO, "", 0, struct.pack("<II", 0, 99), 1),
        lambda w: w.add(DATASEC, ".d", 0, struct.pack("<III", 99, 0, 4), 1),
        lambda w: w.struct("s", 4, ("a", 1, 0), ("b", 99, 0)),
        lambda w: w.array(99, 1),
        lambda w: w.add(PTR, "", 99),
        lambda w: w.add(DECL_TAG, "t", 99, bytes(4)),
    ],
)
def test_a_type_that_is_not_there_is_refused_at_once(build):
    """Whether or not it is ever asked for: libbpf 1.1 follows it out of bounds."""
    writer = Writer()
    writer.integer("u32", 4)
    build(writer)
    with pytest.raises(ObjectError, match="damaged BTF: type 99 of 2"):
        Btf(writer.bytes())


@pytest.mark.parametrize("kind", [PTR, STRUCT, FUNC_PROTO, ENUM])
def test_a_name_that_is_not_there_is_refused_at_once(kind):
    """A name of the type itself, or of a member."""
    writer = Writer()
    trailer = struct.pack("<III", 1 << 20, 0, 0)
    if kind == PTR:
        writer.types += struct.pack("<III", 1 << 20, kind << 24, 0)
    else:
        size = len(trailer) if kind == STRUCT else 8
        writer.add(kind, "x", 0, trailer[:size], 1)
    with pytest.raises(ObjectError, match="outside of the string section"):
        Btf(writer.bytes())


def test_a_name_without_an_end_is_refused():
    """A name is neither searched for without bound, nor taken from outside of the strings."""
    w = Writer()
    w.strings += b"x" * 10_000 + b"\0"
    w.types += struct.pack("<III", 1, STRUCT << 24, 4)
    with pytest.raises(ObjectError, match="name is too long"):
        Btf(w.bytes())
    w = Writer()
    w.types += struct.pack("<III", 1 << 30, STRUCT << 24, 4)
    with pytest.raises(ObjectError, match="outside of the string section"):
        Btf(w.bytes())


def test_any_bytes_give_a_value_or_our_error():
    """Truncated and altered BTF never ends in another exception."""
    good = event().bytes()
    rng = random.Random(2)
    cut = [bytearray(good[:length]) for length in range(0, len(good), 11)]
    altered = [bytearray(good) for _ in range(200)]
    for data in altered:
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
    refusals = 0
    for data in cut + altered:
        try:
            btf = Btf(bytes(data))
            struct.calcsize(btf.struct("event").format().format)
            btf.struct("event").format(stop="stack")
            btf.enum("hook")
        except ObjectError:
            refusals += 1
    assert len(cut) < refusals < len(cut + altered)
