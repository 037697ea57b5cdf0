# SPDX-License-Identifier: GPL-2.0-only
"""Small ELF objects, sound or damaged on request."""

import struct

PROGBITS, SYMTAB, STRTAB, NOBITS = 1, 2, 3, 8
BTF = b"the bytes of the BTF section"


def elf(machine=247, elf_type=1, sections=None, symbols=None, shentsize=64):
    """A small ELF object: sections by name, symbols (name, section index, offset, size)."""
    if sections is None:
        sections = {".rodata": (PROGBITS, bytes(64)), ".BTF": (PROGBITS, BTF)}
    if symbols is None:
        symbols = [
            ("config", 1, 8, 48),
            ("events", 0xFFF1, 0, 0),
            ("outside", 1, 60, 8),
            ("forged", 200, 0, 0),
        ]
    names, table = b"\0", bytes(24)
    for name, index, offset, size in symbols:
        table += struct.pack("<IBBHQQ", len(names), 0, 0, index, offset, size)
        names += name.encode() + b"\0"
    every = dict(sections)
    every[".symtab"] = (SYMTAB, table)
    every[".strtab"] = (STRTAB, names)
    section_names, headers, body = b"\0", bytes(64), b""
    every[".shstrtab"] = (
        STRTAB,
        b"\0" + b"".join(n.encode() + b"\0" for n in [*every, ".shstrtab"]),
    )
    for name, (kind, data, *flags) in every.items():
        link = list(every).index(".strtab") + 1 if kind == SYMTAB else 0
        size = 1 << 40 if kind == NOBITS else len(data)
        header = (len(section_names), kind, *(flags or [0]), 0, 64 + len(body), size, link, 0, 1, 0)
        headers += struct.pack("<IIQQQQIIQQ", *header)
        section_names += name.encode() + b"\0"
        body += b"" if kind == NOBITS else data
    counts = (64, 0, 0, shentsize, len(every) + 1, len(every))
    start = b"\x7fELF\2\1\1" + bytes(9)
    start += struct.pack("<HHIQQQI", elf_type, machine, 1, 0, 0, 64 + len(body), 0)
    return start + struct.pack("<HHHHHH", *counts) + body + headers
