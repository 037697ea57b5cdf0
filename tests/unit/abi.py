# SPDX-License-Identifier: GPL-2.0-only
"""The ABI for tests: read from the C header, laid out by C's rules, and packed into records.

Stands in for the BTF of a compiled object, so that no compiler is needed here.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from types import SimpleNamespace

from icmp_rtt.kernel.layout import Field
from icmp_rtt.kernel.named import Named

HEADER = Path(__file__).parents[2] / "bpf" / "icmp_rtt.h"

_CODES = {
    "__u64": "Q",
    "__s64": "q",
    "__u32": "I",
    "__s32": "i",
    "__u16": "H",
    "__u8": "B",
    "char": "s",
}


class Layout:
    """As much of kernel.btf.StructLayout as the decoder uses."""

    def __init__(self, name, members, structs):
        self.name, self._codes, offset, alignment = name, {}, 0, 1
        self.fields = Named(f"struct {name} has no")
        for type_name, member, dims in members:
            nested = structs.get(type_name)
            size = nested.size if nested else struct.calcsize(_CODES[type_name])
            align = nested.alignment if nested else size
            alignment = max(alignment, align)
            offset = -(-offset // align) * align
            count = 1
            for dim in dims:
                count *= dim
            self.fields[member] = Field(member, offset, size, dims, False, False, nested)
            self._codes[member] = _CODES.get(type_name)
            offset += size * count
        self.alignment, self.size = alignment, -(-offset // alignment) * alignment

    def format(self, stop=None):
        """The format of struct.Struct, the name of each value in it, and its size."""
        form, names, end = "<", [], 0
        for member, field in self.fields.items():
            if member == stop:
                end_of_all = field.offset
                break
            form += "x" * (field.offset - end)
            end = field.offset + field.size * field.elements
            for label in _labels(field.dims if self._codes[member] != "s" else ()):
                if field.struct:
                    inner = field.struct.format()
                    form += inner.format[1:]
                    names += [f"{member}{label}.{name}" for name in inner.names]
                else:
                    text = self._codes[member] == "s"
                    form += f"{field.elements}s" if text else self._codes[member]
                    names.append(member + label)
        else:
            end_of_all = self.size
        form += "x" * (end_of_all - end)
        assert struct.calcsize(form) == end_of_all
        return SimpleNamespace(format=form, names=tuple(names), size=end_of_all)


class Abi:
    """As much of kernel.btf.Btf as the decoder uses."""

    def __init__(self, text=None):
        text = re.sub(r"/\*.*?\*/", "", text or HEADER.read_text(), flags=re.S)
        self.constants = {
            name: int(value) for name, value in re.findall(r"#define (\w+) (\d+)", text)
        }
        self.enums, self.structs = {}, {}
        for kind, name, body in re.findall(r"(enum|struct) (\w+) \{(.*?)\n\};", text, flags=re.S):
            if kind == "enum":
                self.enums[name] = Named(f"enum {name} has no", self._enum(body).items())
            else:
                self.structs[name] = Layout(name, self._members(body), self.structs)

    def enum(self, name):
        """Values by enumerator."""
        return self.enums[name]

    def struct(self, name):
        """The layout of a struct."""
        return self.structs[name]

    def _enum(self, body):
        values, following = {}, 0
        for item in filter(None, (part.strip() for part in body.split(","))):
            name, _, value = item.partition("=")
            following = int(value) if value else following
            values[name.strip()] = following
            following += 1
        self.constants.update(values)
        return values

    def _members(self, body):
        for declaration in filter(None, (part.strip() for part in body.split(";"))):
            type_name, rest = re.fullmatch(r"(?:struct )?(\w+) (.*)", declaration, re.S).groups()
            for declarator in rest.split(","):
                name, *dims = re.findall(r"\w+", declarator)
                yield type_name, name, tuple(self.constants.get(d) or int(d) for d in dims)


def pack(abi, values, stacks=False):
    """A record: ``values`` by name as in Layout.format().names, all others 0."""
    layout = abi.struct("icmp_rtt_event").format(stop=None if stacks else "stack_bytes")
    unknown = set(values) - set(layout.names)
    assert not unknown, unknown
    packer = struct.Struct(layout.format)
    blank = packer.unpack(bytes(packer.size))
    return packer.pack(*(values.get(name, zero) for name, zero in zip(layout.names, blank)))


def _labels(dims):
    if not dims:
        return [""]
    return [f"[{i}]{rest}" for i in range(dims[0]) for rest in _labels(dims[1:])]
