# SPDX-License-Identifier: GPL-2.0-only
"""Which bytes of its configuration each program of a BPF object reads.

To the verifier a configuration is constant: two that are alike in these bytes are one and the
same to a program. They are found by following each register that has the configuration's
address, from where it gets it for as long as it keeps it.
"""

import struct
from collections import defaultdict

from elftools.elf.elffile import ELFFile

_INSTRUCTION = struct.Struct("<BBhi")  # opcode, registers, offset, immediate value
_LD, _LDX, _ST, _STX, _ALU, _JMP, _JMP32, _ALU64 = range(8)  # classes of opcodes
_ADDRESS, _CALL, _EXIT, _JUMP, _MOVE = 0x18, 0x85, 0x95, 0x05, 0xBF
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}
_SCRATCH = frozenset(range(6))  # registers that a call leaves undefined


def bytes_read(path):
    """Offsets into the configuration, by the program's name; those of what it calls are among them.

    Raises:
        ValueError: the configuration's address is put somewhere else than into registers.
    """
    reads, calls = defaultdict(set), defaultdict(set)
    with open(path, "rb") as opened:
        file = ELFFile(opened)
        symbols = [*file.get_section_by_name(".symtab").iter_symbols()]
        functions = [each for each in symbols if each["st_info"]["type"] == "STT_FUNC"]
        for section in file.iter_sections():
            if section["sh_type"] == "SHT_REL" and not section.name.startswith(".rel.BTF"):
                own = [f for f in functions if f["st_shndx"] == section["sh_info"]]
                _look_through(file, section, symbols, own, reads, calls)
    return {
        function.name: frozenset().union(*(reads[each] for each in _reached(function.name, calls)))
        for function in functions
    }


def _look_through(file, relocations, symbols, functions, reads, calls):
    """Add what the functions of a section read themselves, and which others they call."""
    code = file.get_section(relocations["sh_info"]).data()
    for relocation in relocations.iter_relocations():
        at, symbol = relocation["r_offset"], symbols[relocation["r_info_sym"]]
        function = next(f for f in functions if 0 <= at - f["st_value"] < f["st_size"])
        opcode, registers, _, constant = _INSTRUCTION.unpack_from(code, at)
        if opcode == _CALL:
            calls[function.name].add(symbol.name)
        elif _is_rodata(file, symbol):
            if symbol.name != "config":
                raise ValueError(f"{function.name}: {symbol.name} is not the configuration")
            for offset in _followed(code, at, registers & 15):
                reads[function.name].add(constant + offset)


def _is_rodata(file, symbol):
    section = symbol["st_shndx"]
    return isinstance(section, int) and file.get_section(section).name == ".rodata"


def _followed(code, start, register):
    """Offsets that are read behind the address that ``register`` gets at ``start``."""
    read, seen = set(), set()
    wanted = [(start + 16, frozenset((register,)))]
    while wanted:
        at, holding = wanted.pop()
        if not holding or (at, holding) in seen:
            continue
        seen.add((at, holding))
        opcode, registers, offset, _ = _INSTRUCTION.unpack_from(code, at)
        kind, target, source = opcode & 7, registers & 15, registers >> 4
        further = at + 8
        if kind in (_ST, _STX) and holding & {target, source if kind == _STX else target}:
            raise ValueError(f"the configuration's address is stored, or stored to, at byte {at}")
        if kind == _LDX and source in holding:
            read.update(range(offset, offset + _SIZES[opcode & 0x18]))
        if opcode == _MOVE and source in holding:
            holding |= {target}
        elif kind in (_ALU, _ALU64) and target in holding and opcode & 0xF0 != _MOVE & 0xF0:
            raise ValueError(f"the configuration's address is reckoned with at byte {at}")
        elif kind in (_LD, _LDX, _ALU, _ALU64):
            holding -= {target}
        elif opcode == _CALL:
            holding -= _SCRATCH
        elif kind in (_JMP, _JMP32) and opcode != _EXIT:
            wanted.append((further + 8 * offset, holding))
        if opcode not in (_EXIT, _JUMP):
            wanted.append((further + (8 if opcode == _ADDRESS else 0), holding))
    return read


def _reached(name, calls):
    """A function and all that it calls, by name."""
    found, wanted = set(), {name}
    while wanted:
        found |= wanted
        wanted = set().union(*(calls[each] for each in wanted)) - found
    return found
