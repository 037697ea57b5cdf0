# SPDX-License-Identifier: GPL-2.0-only
"""Which bytes of its configuration each program of a BPF object reads, told by its relocations.

To the verifier a configuration is constant: two that are alike in these bytes are one and the
same to a program.
"""

import struct
from collections import defaultdict

from elftools.elf.elffile import ELFFile

_INSTRUCTION = struct.Struct("<BBhi")  # opcode, registers, offset, immediate value
_ADDRESS, _CALL = 0x18, 0x85  # of 64 bits, in two instructions; of another function
_LOAD = 1  # class of opcode: out of memory
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}


def bytes_read(path):
    """Offsets into the configuration, by the program's name; those of what it calls are among them.

    Raises:
        ValueError: the configuration is used otherwise than by loads from a constant address.
    """
    reads, calls = defaultdict(set), defaultdict(set)
    with open(path, "rb") as opened:
        file = ELFFile(opened)
        symbols = [*file.get_section_by_name(".symtab").iter_symbols()]
        for section in file.iter_sections():
            if section["sh_type"] == "SHT_REL" and not section.name.startswith(".rel.BTF"):
                _look_through(file, section, symbols, reads, calls)
    names = {s.name for s in symbols if s["st_info"]["type"] == "STT_FUNC"}
    return {name: frozenset().union(*(reads[f] for f in _reached(name, calls))) for name in names}


def _look_through(file, relocations, symbols, reads, calls):
    index = relocations["sh_info"]
    code = file.get_section(index).data()
    functions = [
        s for s in symbols if s["st_info"]["type"] == "STT_FUNC" and s["st_shndx"] == index
    ]
    for relocation in relocations.iter_relocations():
        at, symbol = relocation["r_offset"], symbols[relocation["r_info_sym"]]
        name = next(f.name for f in functions if 0 <= at - f["st_value"] < f["st_size"])
        opcode, registers, _, constant = _INSTRUCTION.unpack_from(code, at)
        if opcode == _CALL and symbol["st_info"]["type"] == "STT_FUNC":
            calls[name].add(symbol.name)
        elif _is_rodata(file, symbol):
            load, sources, offset, _ = _INSTRUCTION.unpack_from(code, at + 2 * _INSTRUCTION.size)
            is_load = opcode == _ADDRESS and load & 7 == _LOAD and sources >> 4 == registers & 15
            if symbol.name != "config" or not is_load:
                raise ValueError(f"{name}: .rodata is used by no load that follows, at byte {at}")
            start = constant + offset
            reads[name].update(range(start, start + _SIZES[load & 0x18]))


def _is_rodata(file, symbol):
    section = symbol["st_shndx"]
    return isinstance(section, int) and file.get_section(section).name == ".rodata"


def _reached(name, calls):
    found, wanted = set(), {name}
    while wanted:
        found |= wanted
        wanted = set().union(*(calls[each] for each in wanted)) - found
    return found
