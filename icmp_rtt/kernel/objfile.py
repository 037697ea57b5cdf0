# SPDX-License-Identifier: GPL-2.0-only
"""The BPF object as a file: its bytes, its BTF section, and where its symbols lie.

For files that need not be sound, one given with --object or one that libbpf refused;
for code that is to be changed, and for --version --verbose. Otherwise what came with
the package is libbpf's to read at a start, of which pyelftools' import alone would
take a seventh: it brings pdb and inspect along.

The only user of pyelftools, of which it takes the definitions of the ELF
structures and no more: its ELFFile class costs twice the import time (it brings
DWARF along), and trusts counts and sizes that a damaged file may forge. Knows
nothing of libbpf or of BTF. Any bytes give a value or an ObjectError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from icmp_rtt.errors import ObjectError, RequirementError
from icmp_rtt.kernel.files import read_object

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("ObjectFile", "Symbol")

_MAX_NAME = 255
_IDENT = b"\x7fELF"
_HEADER_SIZE, _SECTION_SIZE, _SYMBOL_SIZE = 64, 64, 24  # of 64-bit ELF
_COMPRESSED = 0x800  # SHF_COMPRESSED
_EXECUTABLE = 0x4  # SHF_EXECINSTR
_EMPTY = ("SHT_NULL", "SHT_NOBITS")


class Symbol(NamedTuple):
    """A symbol: where it lies in its section and how long it is, in bytes."""

    name: str
    offset: int
    size: int
    section: str


class _Section(NamedTuple):
    name: str
    type: str
    start: int
    size: int
    link: int
    stored: bool  # its bytes are in the file, as they are
    code: bool


class ObjectFile:
    """A BPF object, checked as far as this tool depends on it.

    Args:
        data: the bytes of the file.
        path: what to call it in errors.

    Attributes:
        data: the bytes of the file.
        path: where they came from.
        btf: the bytes of its ``.BTF`` section.

    Raises:
        ObjectError: not a BPF object, damaged, or without BTF or symbols.
        RequirementError: pyelftools is not installed.
    """

    def __init__(self, data: bytes, path: str) -> None:
        self.data = data
        self.path = path
        self._structs = _elf_structs()
        self._sections = self._read_sections(self._check_header())
        self.btf = self._bytes(self._find(".BTF section", name=".BTF"))
        symbols = self._find("symbol table", type="SHT_SYMTAB")
        if symbols.link >= len(self._sections):
            raise self._error("damaged: its symbol table has no names")
        self._symbols = self._bytes(symbols)
        self._names = self._bytes(self._sections[symbols.link])

    @classmethod
    def read(cls, path: str) -> ObjectFile:
        """Read the object in file ``path``; errors as those of the class.

        Raises:
            ObjectError: moreover, there is no such file, or it cannot be read.
        """
        return cls(read_object(path), path)

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, as hexadecimal digits."""
        import hashlib

        return hashlib.sha256(self.data).hexdigest()

    def symbol(self, name: str) -> Symbol:
        """Where ``name`` lies.

        Raises:
            ObjectError: it is not defined in this object.
        """
        wanted, table = name.encode() + b"\0", self._symbols
        for at in range(0, len(table) - _SYMBOL_SIZE + 1, _SYMBOL_SIZE):
            if not self._names.startswith(wanted, int.from_bytes(table[at : at + 4], "little")):
                continue
            entry = self._parse(self._structs.Elf_Sym, table[at : at + _SYMBOL_SIZE])
            index, start, size = entry["st_shndx"], entry["st_value"], entry["st_size"]
            if isinstance(index, int) and 0 < index < len(self._sections):
                section = self._sections[index]
                if start + size > section.size:
                    raise self._error(f"damaged: {name} reaches past the end of {section.name}")
                return Symbol(name, start, size, section.name)
        raise self._error(f"no symbol {name}: not an object of this tool, or of another version")

    def with_code(self, change: Callable[[bytes], bytes]) -> bytes:
        """The bytes of the file after ``change``, of the same length, of each section of code."""
        data = bytearray(self.data)
        for section in self._sections:
            if section.code:
                data[section.start : section.start + section.size] = change(self._bytes(section))
        return bytes(data)

    def _check_header(self) -> Any:
        """The ELF header, once it is known to be that of a BPF object."""
        data = self.data
        if data[:4] != _IDENT:
            raise self._error(f"not an ELF file: it begins with {data[:4]!r}, not {_IDENT!r}")
        if len(data) < _HEADER_SIZE:
            raise self._error(f"truncated: {len(data)} bytes, an ELF header takes {_HEADER_SIZE}")
        if data[4] != 2 or data[5] != 1:
            bits = {1: "32-bit", 2: "64-bit"}.get(data[4], "of no known class")
            order = {1: "little-endian", 2: "big-endian"}.get(data[5], "of no known byte order")
            raise self._error(f"{bits}, {order}: a 64-bit, little-endian BPF object is expected")
        header = self._parse(self._structs.Elf_Ehdr, data[:_HEADER_SIZE])
        machine, kind = str(header["e_machine"]), str(header["e_type"])
        if machine not in ("EM_BPF", "247"):  # pyelftools 0.27 has no name for it
            what = machine[3:].lower() if machine.startswith("EM_") else f"machine {machine}"
            raise self._error(f"{what} object: a BPF object (machine 247) is expected")
        if kind != "ET_REL":
            raise self._error(f"ELF type {kind}: a relocatable BPF object (ET_REL) is expected")
        return header

    def _read_sections(self, header: Any) -> list[_Section]:
        start, count, each = header["e_shoff"], header["e_shnum"], header["e_shentsize"]
        end = start + count * _SECTION_SIZE
        if each != _SECTION_SIZE or count == 0 or not _HEADER_SIZE <= start <= end:
            raise self._error("damaged: it has no section table")
        if end > len(self.data):
            raise self._error(f"truncated: {len(self.data)} bytes of at least {end}")
        entries = [
            self._parse(self._structs.Elf_Shdr, self.data[at : at + _SECTION_SIZE])
            for at in range(start, end, _SECTION_SIZE)
        ]
        if header["e_shstrndx"] >= count:
            raise self._error("damaged: its sections have no names")
        names = self._bytes(self._section(entries[header["e_shstrndx"]], b""))
        return [self._section(entry, names) for entry in entries]

    def _section(self, entry: Any, names: bytes) -> _Section:
        at, kind = entry["sh_name"], str(entry["sh_type"])
        end = names.find(b"\0", at, at + _MAX_NAME)
        name = names[at : max(at, end)].decode("utf-8", "replace")
        start, size = entry["sh_offset"], entry["sh_size"]
        stored = kind not in _EMPTY and not entry["sh_flags"] & _COMPRESSED
        if stored and start + size > len(self.data):
            raise self._error(f"truncated: {len(self.data)} bytes of at least {start + size}")
        code = bool(stored and entry["sh_flags"] & _EXECUTABLE)
        return _Section(name, kind, start, size, entry["sh_link"], stored, code)

    def _find(self, what: str, name: str | None = None, type: str | None = None) -> _Section:
        for section in self._sections:
            if section.stored and (section.name == name or section.type == type):
                return section
        raise self._error(f"no {what}: a BPF object built with -g is expected")

    def _bytes(self, section: _Section) -> bytes:
        return self.data[section.start : section.start + section.size] if section.stored else b""

    def _parse(self, construct: Any, data: bytes) -> Any:
        try:
            return construct.parse(data)
        except Exception as error:  # pyelftools' own errors have no common root
            raise self._error(f"damaged: {type(error).__name__}: {error}") from error

    def _error(self, what: str) -> ObjectError:
        return ObjectError(f"{self.path}: {what}")


def _elf_structs() -> Any:
    """The structures of 64-bit little-endian ELF, as pyelftools defines them."""
    try:
        from elftools.elf.structs import ELFStructs
    except ImportError as error:
        raise RequirementError("pyelftools missing: apt install python3-pyelftools") from error
    structs = ELFStructs(little_endian=True, elfclass=64)
    structs.create_basic_structs()
    structs.create_advanced_structs("ET_REL", "EM_BPF", "ELFOSABI_SYSV")
    return structs
