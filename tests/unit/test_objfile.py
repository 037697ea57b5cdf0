# SPDX-License-Identifier: GPL-2.0-only
"""Object files are read for what the tool needs, and refused by what they are instead."""

import hashlib
import os
import random
import struct

import pytest
from elfwriter import BTF, NOBITS, PROGBITS, SYMTAB, elf

from icmp_rtt.errors import ObjectError, RequirementError
from icmp_rtt.kernel.objfile import ObjectFile, Symbol

EXECUTABLE = 4


def refusal(data):
    """What the object of these bytes is refused with."""
    with pytest.raises(ObjectError) as caught:
        ObjectFile(data, "x.o")
    assert str(caught.value).startswith("x.o: ")
    return str(caught.value)


def test_an_object_gives_its_btf_symbols_and_hash(tmp_path):
    """What is read from a file is what was written into it."""
    path = tmp_path / "good.o"
    path.write_bytes(elf())
    found = ObjectFile.read(str(path))
    assert found.data == elf()
    assert found.path == str(path)
    assert found.btf == BTF
    assert found.symbol("config") == Symbol("config", 8, 48, ".rodata")
    assert found.sha256 == hashlib.sha256(elf()).hexdigest()


def test_names_may_share_their_ends():
    """A linker stores ``fig`` as the end of ``config``; each is found as itself."""
    data = elf(symbols=[("config", 1, 8, 48)])
    at = data.index(b"config\0") - data.index(b"\0config\0") + 3  # offset of "fig"
    entry = struct.pack("<IBBHQQ", 1, 0, 0, 1, 8, 48)
    shared = data.replace(entry, struct.pack("<IBBHQQ", at, 0, 0, 1, 8, 48))
    assert shared != data
    assert ObjectFile(shared, "x.o").symbol("fig").offset == 8
    with pytest.raises(ObjectError, match="no symbol config"):
        ObjectFile(shared, "x.o").symbol("config")


def test_code_can_be_changed_and_nothing_else():
    """Of all sections those with instructions alone, and not the object itself."""
    code = (PROGBITS, b"instruct", EXECUTABLE)
    data = elf(
        sections={".rodata": (PROGBITS, b"text" * 16), "fentry": code, ".BTF": (PROGBITS, BTF)}
    )
    found = ObjectFile(data, "x.o")
    assert found.with_code(lambda code: code) == data
    assert found.with_code(bytes.upper) == data.replace(b"instruct", b"INSTRUCT") != data
    assert found.data == data


@pytest.mark.parametrize("name", ["nosuch", "conf", "onfig", "events", "forged"])
def test_a_symbol_that_is_not_defined_is_named(name):
    """Part of a name is not the name, and a symbol in no section is not defined."""
    with pytest.raises(ObjectError, match=f"x.o: no symbol {name}"):
        ObjectFile(elf(), "x.o").symbol(name)


def test_a_symbol_outside_of_its_section_is_refused():
    """Nothing is written past the end of a section later on."""
    with pytest.raises(ObjectError, match=r"outside reaches past the end of \.rodata"):
        ObjectFile(elf(), "x.o").symbol("outside")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an ELF file"),
        (b"#!/bin/sh\n", "not an ELF file: it begins with b'#!/b'"),
        (elf()[:63], "truncated: 63 bytes"),
        (elf()[:-1], f"truncated: {len(elf()) - 1} bytes of at least {len(elf())}"),
        (elf()[:4] + b"\1" + elf()[5:], "32-bit, little-endian: a 64-bit, little-endian BPF"),
        (elf()[:5] + b"\2" + elf()[6:], "64-bit, big-endian"),
        (elf()[:4] + b"\7\7" + elf()[6:], "of no known class, of no known byte order"),
        (elf(machine=62), "x86_64 object: a BPF object (machine 247) is expected"),
        (elf(machine=183), "aarch64 object: a BPF object"),
        (elf(machine=0x4321), "machine 17185 object: a BPF object"),
        (elf(elf_type=2), "ET_EXEC: a relocatable BPF object"),
        (elf(shentsize=40), "damaged: it has no section table"),
        (elf(sections={".rodata": (PROGBITS, b"")}), "no .BTF section"),
        (elf(sections={".BTF": (NOBITS, b"")}), "no .BTF section"),
        (elf(sections={".BTF": (PROGBITS, BTF, 0x800)}), "no .BTF section"),
        (elf().replace(struct.pack("<II", 11 + 3, SYMTAB), bytes(8)), "no symbol table"),
    ],
)
def test_what_is_no_bpf_object_is_refused(data, message):
    """The error says what was expected and what was found."""
    assert message in refusal(data)


def test_a_forged_size_costs_no_memory():
    """A section or a count larger than the file is refused before anything is read."""
    data = bytearray(elf())
    table = struct.unpack_from("<Q", data, 40)[0]
    struct.pack_into("<Q", data, table + 64 * 2 + 32, 1 << 62)  # size of .BTF
    assert "truncated" in refusal(bytes(data))
    data = bytearray(elf())
    struct.pack_into("<H", data, 60, 0xFFFF)  # number of sections
    assert "truncated" in refusal(bytes(data))


def test_files_that_cannot_be_read_are_refused(tmp_path):
    """Missing, a directory, a device, a pipe, and absurdly long: one line each, no waiting."""
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "long", "wb") as file:
        file.truncate(1 << 33)
    for path, message in (
        (tmp_path / "nosuch", "No such file or directory"),
        (tmp_path, "not a regular file: a BPF object is expected"),
        ("/dev/zero", "not a regular file"),
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path / "long", "8589934592 bytes are too many for a BPF object"),
        ("a\0b", "null"),
    ):
        with pytest.raises(ObjectError, match=message):
            ObjectFile.read(str(path))


def test_pyelftools_missing_says_what_to_install(monkeypatch):
    """A host without pyelftools gets a remedy, not an ImportError."""
    monkeypatch.setitem(__import__("sys").modules, "elftools.elf.structs", None)
    with pytest.raises(RequirementError, match="apt install python3-pyelftools"):
        ObjectFile(elf(), "x.o")


def test_any_bytes_give_a_value_or_our_error():
    """Truncated and altered objects never end in another exception."""
    good = elf()
    rng = random.Random(1)
    cut = [bytearray(good[:length]) for length in range(0, len(good), 31)]
    altered = [bytearray(good) for _ in range(120)]
    for data in altered:
        # The header and the section table are where damage does most.
        place = rng.choice((range(64), range(len(good) - 384, len(good))))
        for _ in range(rng.randint(1, 3)):
            data[rng.choice(place)] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
    refusals = 0
    for data in cut + altered:
        try:
            found = ObjectFile(bytes(data), "x.o")
            found.symbol("config")
            assert len(found.btf) <= len(good)
        except ObjectError:
            refusals += 1
    assert len(cut) < refusals < len(cut + altered)
