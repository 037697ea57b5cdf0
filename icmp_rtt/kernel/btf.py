# SPDX-License-Identifier: GPL-2.0-only
"""Types read out of raw BTF bytes: layouts of structs, values of enumerators.

Knows the BTF format (Documentation/bpf/btf.rst) and nothing of ELF, of libbpf,
or of what any layout is for. Any bytes give a value or an ObjectError, in time
and memory bounded by their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from icmp_rtt.errors import ObjectError
from icmp_rtt.kernel.layout import CODES, Field, StructLayout
from icmp_rtt.kernel.named import Named

__all__ = ("MAGIC", "Btf", "Variable")

# The format of a struct has at most a name of _MAX_DEPTH * _MAX_NAME bytes for each of its bytes.
_MAX_STRUCT = 1 << 14  # bytes; ours are below 2 KiB
_MAX_DEPTH = 4  # structs within structs; ours have one
_MAX_NAME = 512  # bytes, the kernel's own bound
_MAX_CHAIN = 16  # typedefs, qualifiers and array dimensions in front of a type

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM = 1, 2, 3, 4, 5, 6
_TYPEDEF, _VOLATILE, _CONST, _RESTRICT = 8, 9, 10, 11
_FUNC, _FUNC_PROTO, _VAR, _DATASEC, _DECL_TAG, _TYPE_TAG, _ENUM64 = 12, 13, 14, 15, 17, 18, 19
_TRANSPARENT = frozenset((_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG))
_NAMED = frozenset((_STRUCT, _ENUM, _ENUM64, _VAR, _DATASEC))

# What follows the 12 bytes that every type begins with: fixed, then per member.
_TRAILER = dict.fromkeys(range(1, 20), (0, 0))
_TRAILER.update({_INT: (4, 0), _ARRAY: (12, 0), _VAR: (4, 0), _DECL_TAG: (4, 0)})
_TRAILER.update({_STRUCT: (0, 12), _UNION: (0, 12), _DATASEC: (0, 12), _ENUM64: (0, 12)})
_TRAILER.update({_ENUM: (0, 8), _FUNC_PROTO: (0, 8)})
# Kinds that refer to a type in place of a size, those whose members begin with a name,
# and where in the words of a member its type is.
_REFERRING = _TRANSPARENT | {_PTR, _FUNC, _FUNC_PROTO, _VAR, _DECL_TAG}
_MEMBER_NAMES = frozenset((_STRUCT, _UNION, _FUNC_PROTO, _ENUM, _ENUM64))
_MEMBER_TYPES = {_STRUCT: 1, _UNION: 1, _FUNC_PROTO: 1, _DATASEC: 0}
MAGIC = 0xEB9F  # how BTF begins
_HEADER = Struct("<HBBIIIII")
_TRIPLE = Struct("<III")
_ENUMERATOR = Struct("<II")
_ENUMERATOR64 = _TRIPLE


class Variable:
    """A global variable: where it lies in its section and how long it is, in bytes."""

    def __init__(self, section: str, offset: int, size: int) -> None:
        self.section = section
        self.offset = offset
        self.size = size


class _Type:
    """The part that all types have, decoded."""

    def __init__(self, type_id: int, name: str, info: int, size: int, trailer: int) -> None:
        self.type_id = type_id
        self.name = name
        self.kind = info >> 24 & 0x1F
        # STRUCT: offsets hold bit sizes; ENUM: values are signed (clang 14 never says so)
        self.flag = bool(info >> 31)
        self.vlen = info & 0xFFFF  # number of members
        self.size = size  # or the type referred to
        self.trailer = trailer  # where the rest begins


class Btf:
    """The types of one BTF section.

    Args:
        data: raw ``.BTF`` bytes.

    Raises:
        ObjectError: the bytes are damaged or not BTF.
    """

    def __init__(self, data: bytes) -> None:
        self._types, self._strings = _sections(data)
        self._offsets: list[int] = [0]  # by type id; id 0 is void
        self._named: dict[tuple[int, str], int] = {}
        self._layouts: dict[int, StructLayout] = {}
        self._index()
        self._check_references()

    def struct(self, name: str) -> StructLayout:
        """Layout of ``struct name``.

        Raises:
            ObjectError: it is not there, or holds what no record of ours holds
                (bit fields, floats, flexible arrays, unnamed members).
        """
        return self._layout(self._find(_STRUCT, "struct", name), 0)

    def enum(self, name: str) -> Named[int]:
        """Enumerators of ``enum name`` with their values, in order.

        Raises:
            ObjectError: it is not there.
        """
        wide = (_ENUM64, name) in self._named
        entry = self._type(self._find(_ENUM64 if wide else _ENUM, "enum", name))
        values: Named[int] = Named(f"enum {name} has no")
        for name_off, *words in self._members(entry, _ENUMERATOR64 if wide else _ENUMERATOR):
            value = words[0] | (words[1] << 32 if wide else 0)
            sign = 1 << (63 if wide else 31)
            values[self._string(name_off)] = value - 2 * (value & sign) if entry.flag else value
        return values

    def variable(self, name: str) -> Variable:
        """Where the global variable ``name`` lies; in the BTF of a file that is not told.

        Raises:
            ObjectError: it is not there.
        """
        wanted = self._find(_VAR, "variable", name)
        for (kind, section), type_id in self._named.items():
            if kind == _DATASEC:
                for variable, offset, size in self._members(self._type(type_id), _TRIPLE):
                    if variable == wanted:
                        return Variable(section, offset, size)
        raise ObjectError(f"variable {name} is in no section of the BTF")

    def _index(self) -> None:
        """Note where each type begins, and what the named ones are called."""
        at, end = 0, len(self._types)
        while at < end:
            if at + 12 > end:
                raise ObjectError("damaged BTF: the last type is cut off")
            name_off, info, _ = _TRIPLE.unpack_from(self._types, at)
            kind = info >> 24 & 0x1F
            if kind not in _TRAILER:
                raise ObjectError(f"BTF type {len(self._offsets)} is of unknown kind {kind}")
            if kind in _NAMED:
                self._named.setdefault((kind, self._string(name_off)), len(self._offsets))
            self._offsets.append(at)
            fixed, each = _TRAILER[kind]
            at += 12 + fixed + each * (info & 0xFFFF)
        if at > end:
            raise ObjectError("damaged BTF: the last type is cut off")

    def _check_references(self) -> None:
        """Refuse names and types that are not there: libbpf, given the same, looks for them."""
        words = memoryview(self._types).cast("I")
        last_name = last_id = 0
        for begin, end in zip(self._offsets[1:], [*self._offsets[2:], len(self._types)]):
            name_off, info, size = words[begin // 4 : begin // 4 + 3]
            kind = info >> 24 & 0x1F
            fixed, each = _TRAILER[kind]
            members = words[(begin + 12 + fixed) // 4 : end // 4]
            names, ids = [name_off], [size if kind in _REFERRING else 0]
            if kind in _MEMBER_NAMES:
                names += members[:: each // 4]
            if kind in _MEMBER_TYPES:
                ids += members[_MEMBER_TYPES[kind] :: each // 4]
            if kind == _ARRAY:
                ids += words[begin // 4 + 3 : begin // 4 + 5]
            last_name, last_id = max(last_name, *names), max(last_id, *ids)
        if last_id >= len(self._offsets):
            raise ObjectError(f"damaged BTF: type {last_id} of {len(self._offsets) - 1}")
        if last_name >= max(1, len(self._strings)) or self._strings[-1:] not in (b"", b"\0"):
            raise ObjectError("damaged BTF: a name is outside of the string section")

    def _find(self, kind: int, what: str, name: str) -> int:
        if (kind, name) not in self._named:
            raise ObjectError(f"no {what} {name} in the BTF: of another tool or version than this")
        return self._named[kind, name]

    def _type(self, type_id: int) -> _Type:
        if not 0 < type_id < len(self._offsets):
            raise ObjectError(f"damaged BTF: type {type_id} of {len(self._offsets) - 1}")
        at = self._offsets[type_id]
        name_off, info, size = _TRIPLE.unpack_from(self._types, at)
        return _Type(type_id, self._string(name_off), info, size, at + 12)

    def _members(self, entry: _Type, each: Struct) -> Iterator[tuple[int, ...]]:
        """The members behind a type; the index has seen that they are all there."""
        return each.iter_unpack(self._types[entry.trailer : entry.trailer + entry.vlen * each.size])

    def _string(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset, offset + _MAX_NAME)
        if end < 0:
            raise ObjectError("damaged BTF: a name is too long, or outside of the string section")
        return self._strings[offset:end].decode("utf-8", "replace")

    def _layout(self, type_id: int, depth: int) -> StructLayout:
        if type_id in self._layouts:
            return self._layouts[type_id]
        entry = self._type(type_id)
        if depth > _MAX_DEPTH or not 0 < entry.size <= _MAX_STRUCT:
            raise ObjectError(f"struct {entry.name} is no record: {entry.size} bytes or too deep")
        fields: Named[Field] = Named(f"struct {entry.name} has no")
        for name_off, member_type, bits in self._members(entry, _TRIPLE):
            name = self._string(name_off)
            bit_size, bits = (bits >> 24, bits & 0xFFFFFF) if entry.flag else (0, bits)
            if bit_size or bits % 8 or not name or name in fields:
                raise ObjectError(f"struct {entry.name} has bit fields or unnamed members")
            field = self._field(name, bits // 8, member_type, depth)
            if field.offset + field.size * field.elements > entry.size:
                raise ObjectError(f"damaged BTF: {entry.name}.{name} is longer than its struct")
            fields[name] = field
        self._layouts[type_id] = StructLayout(entry.name, entry.size, fields)
        return self._layouts[type_id]

    def _field(self, name: str, offset: int, type_id: int, depth: int) -> Field:
        entry, dims = self._element(type_id)
        layout, signed, size = None, False, entry.size
        if entry.kind in (_STRUCT, _UNION):
            layout = self._layout(entry.type_id, depth + 1)
        elif entry.kind == _INT:
            signed = bool(self._types[entry.trailer + 3] & 1)
        elif entry.kind in (_ENUM, _ENUM64):
            signed = entry.flag
        elif entry.kind == _PTR:
            size = 8
        else:
            raise ObjectError(f"member {name} is of BTF kind {entry.kind}: not for a record")
        if (layout is None and size not in CODES) or 0 in dims:
            raise ObjectError(f"member {name} is neither an integer nor an array of a fixed length")
        char = entry.kind == _INT and entry.name == "char" and size == 1
        return Field(name, offset, size, dims, signed, char, layout)

    def _element(self, type_id: int) -> tuple[_Type, tuple[int, ...]]:
        """The type behind typedefs, qualifiers and arrays, and the dimensions of the latter."""
        dims: list[int] = []
        for _ in range(_MAX_CHAIN):
            entry = self._type(type_id)
            if entry.kind == _ARRAY:
                type_id, _, length = _TRIPLE.unpack_from(self._types, entry.trailer)
                dims.append(length)
            elif entry.kind in _TRANSPARENT:
                type_id = entry.size
            else:
                return entry, tuple(dims)
        raise ObjectError(f"damaged BTF: type {type_id} refers to itself")


def _sections(data: bytes) -> tuple[bytes, bytes]:
    """The type and the string section of raw BTF."""
    if len(data) < _HEADER.size:
        raise ObjectError(f"not BTF: {len(data)} bytes are too few")
    magic, version, _, header, type_off, type_len, str_off, str_len = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ObjectError(f"not little-endian BTF: it begins with {magic:#06x}, not {MAGIC:#06x}")
    if version != 1:
        raise ObjectError(f"BTF version {version}: only version 1 is known")
    if header < _HEADER.size or header + max(type_off + type_len, str_off + str_len) > len(data):
        raise ObjectError("damaged BTF: its sections reach past its end")
    types = data[header + type_off : header + type_off + type_len]
    return types, data[header + str_off : header + str_off + str_len]
