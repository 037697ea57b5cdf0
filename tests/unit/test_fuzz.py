# SPDX-License-Identifier: GPL-2.0-only
"""Any bytes give a value or one of our own errors, at a cost bounded by their number."""

import struct
import tracemalloc
from collections import Counter

import pytest
from btfwriter import ARRAY, INT, STRUCT, Writer
from elfwriter import elf
from fuzztargets import KALLSYMS, OBJECT, TARGETS, real_object, sound_record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icmp_rtt.errors import ObjectError
from icmp_rtt.kernel.btf import Btf
from icmp_rtt.kernel.symbols import Symbols

# The same examples every time, however slow the machine; but Hypothesis picks up numbers
# from whatever tests are loaded beside these, so how often a thing is met is no constant.
EXAMPLES = {
    "derandomize": True,
    "database": None,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
}
ODD_BYTES = st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)) | st.integers(0, 255)
EDITS = st.builds(struct.Struct("<HB").pack, st.integers(0, 0xFFFF), ODD_BYTES)
# Those that records are made of more often than others; a target counts from one.
KINDS = st.sampled_from((INT, ARRAY, STRUCT)).map(lambda kind: kind - 1) | st.integers(0, 18)
TYPES = st.builds(
    struct.Struct("<BBBBHH").pack,
    *(KINDS, st.integers(0, 12), st.integers(0, 255), st.integers(0, 20)),
    *(st.sampled_from((1, 4, 8, 64)) | st.integers(0, 0xFFFF), st.integers(0, 20)),
)


def answers(target, inputs, count):
    """How often a value was made of the inputs, and how often one was refused."""
    found = Counter()

    @settings(max_examples=count, **EXAMPLES)
    @given(inputs)
    def every(parts):
        found[TARGETS[target](b"".join(parts))] += 1

    every()
    return found


@pytest.mark.parametrize(
    "target", ["btf_of_object", "object_edited", "object_begun", "kernel_btf_edited"]
)
def test_sound_input_with_some_bytes_changed(target):
    """What was changed is refused, or does not matter; both are met."""
    found = answers(target, st.lists(EDITS, max_size=5), 40)
    assert min(found[True], found[False]) > 0, found


@pytest.mark.parametrize("target", ["record_edited", "record_without_stacks"])
def test_a_record_with_some_bytes_changed(target):
    """Most bytes may hold anything; what may not is refused."""
    found = answers(target, st.lists(EDITS, max_size=10), 120)
    assert min(found[True], found[False]) > 0, found


def test_a_record_with_some_bytes_changed_and_its_end_cut_off():
    """What is too short is refused by the decoder, and by nobody before it."""
    script = st.tuples(st.builds(struct.Struct("<H").pack, st.integers(0, 4096)), *[EDITS] * 2)
    found = answers("record_cut", script, 60)
    assert min(found[True], found[False]) > 5, found


def test_kallsyms_with_some_bytes_changed():
    """Names or addresses are given for whatever text; what cannot be read says so."""
    found = answers("kallsyms_edited", st.lists(EDITS, max_size=5), 60)
    assert min(found[True], found[False]) > 5, found


def test_types_at_random():
    """Types that refer to each other in any way have an end."""
    found = answers("btf_types", st.lists(TYPES, min_size=1, max_size=20), 100)
    assert min(found[True], found[False]) > 10, found


@pytest.mark.parametrize("target", ["btf", "objfile", "record", "kallsyms", "kernel_btf"])
def test_nothing_but_noise(target):
    """Bytes that have nothing to do with what is expected are refused."""
    found = answers(target, st.lists(st.binary(max_size=200), max_size=3), 30)
    assert set(found) == {False}


@pytest.mark.parametrize(
    ("target", "sound"),
    [
        ("btf", real_object().btf),
        ("objfile", elf()),
        ("record", sound_record()),
        ("kernel_btf", real_object().btf),
    ],
    ids=["btf", "objfile", "record", "kernel_btf"],
)
def test_cut_short(target, sound):
    """A file that ends too soon is refused, wherever it ends."""
    for length in range(0, len(sound), len(sound) // 50):
        assert not TARGETS[target](sound[:length])


def peak_of(call, *arguments):
    """Most bytes of memory in use at once during a call, refused or not."""
    tracemalloc.start()
    try:
        call(*arguments)
    except ObjectError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


def layout_of(writer, name):
    """Takes the layout and the format of a struct."""
    return lambda: Btf(writer.bytes()).struct(name).format()


def test_members_without_end_cost_little():
    """Thousands of arrays of thousands of empty structs are not walked one by one."""
    writer = Writer()
    array = writer.array(writer.struct("empty", 1), 1 << 14)
    writer.struct("bad", 1 << 14, *((f"m{i}", array, 0) for i in range(2000)))
    assert peak_of(layout_of(writer, "bad")) < 16 << 20


@pytest.mark.parametrize("depth", [3, 14])
def test_long_names_of_deep_structs_cost_little(depth):
    """Names within names, for each of thousands of members, stay within bounds."""
    writer = Writer()
    element = writer.array(writer.integer("u8", 1), 1 << 14)
    for level in range(depth + 1):
        element = writer.struct(f"s{level}", 1 << 14, ("n" * 500, element, 0))
    assert peak_of(layout_of(writer, f"s{depth}")) < 64 << 20


def test_a_line_without_end_costs_little(tmp_path):
    """A file of kallsyms' size that holds one line is given up at once."""
    path = tmp_path / "kallsyms"
    path.write_bytes(b"f" * (8 << 20))
    symbols = Symbols(str(path))
    assert peak_of(lambda: symbols.problem) < 1 << 20
    assert "not in the format" in symbols.problem


def test_the_seeds_are_sound():
    """What is edited above would be accepted as it is."""
    assert OBJECT.exists()
    assert TARGETS["btf_of_object"](b"")
    assert TARGETS["object_edited"](b"")
    assert TARGETS["object_begun"](b"")
    assert TARGETS["record"](sound_record())
    assert TARGETS["record_without_stacks"](b"")
    assert TARGETS["kallsyms"](KALLSYMS)
    assert TARGETS["kernel_btf"](real_object().btf)
