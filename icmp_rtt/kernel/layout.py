# SPDX-License-Identifier: GPL-2.0-only
"""The layout of a C struct, and the ``struct`` format that takes its bytes apart.

Knows nothing of where a layout was read. Plain classes: a start imports this before it can
load, and of a NamedTuple typing compiles each annotation first.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct, pack
from struct import error as StructError

from icmp_rtt.errors import ObjectError, misfit
from icmp_rtt.kernel.named import Named

__all__ = ("CODES", "Field", "Format", "StructLayout")

# Of an unsigned integer, by its size in bytes.
CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Format:
    """What ``struct.Struct`` needs to take a record apart.

    Args:
        struct: name of the struct.
        format: little endian, padding spelled out.
        names: one for each value unpacked, in order: ``ts_ns[0]``,
            ``side[1].comm``. An array of ``char`` is one value, of type bytes.
        size: bytes that the format covers.
    """

    def __init__(self, struct: str, format: str, names: tuple[str, ...], size: int) -> None:
        self.struct = struct
        self.format = format
        self.names = names
        self.size = size

    def pack(self, values: Mapping[str, int]) -> bytes:
        """The bytes of a struct that has these values, and is zero elsewhere.

        Raises:
            ObjectError: it has no such value, or no room for it.
        """
        unknown = values.keys() - set(self.names)
        if unknown:
            raise misfit(f"struct {self.struct} has no {', '.join(sorted(unknown))}")
        try:
            return pack(self.format, *(values.get(name, 0) for name in self.names))
        except StructError as error:
            raise misfit(f"struct {self.struct} does not fit: {error}") from error


class Field:
    """A member of a struct.

    Args:
        offset: bytes from the start of the struct it is a member of.
        size: bytes of one element.
        dims: lengths of the array's dimensions, outermost first; () for a scalar.
        signed: whether the element is a signed integer.
        char: whether the element is a C ``char``.
        struct: layout of the element if it is a struct or union.
    """

    def __init__(
        self,
        name: str,
        offset: int,
        size: int,
        dims: tuple[int, ...],
        signed: bool,
        char: bool,
        struct: StructLayout | None,
    ) -> None:
        self.name = name
        self.offset = offset
        self.size = size
        self.dims = dims
        self.signed = signed
        self.char = char
        self.struct = struct

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        return _product(self.dims)

    @property
    def numbers(self) -> Struct:
        """What takes its elements out of the bytes of the struct; errors as those of ``code``."""
        return Struct(f"<{self.code}")

    @property
    def code(self) -> str:
        """What stands for its elements in a format.

        Raises:
            ObjectError: they are no integers.
        """
        if self.struct is not None:
            raise misfit(f"its {self.name} is a struct")
        code = CODES[self.size]
        return f"{self.elements}{code.lower() if self.signed else code}"

    @property
    def layout(self) -> StructLayout:
        """That of the element.

        Raises:
            ObjectError: it is no struct.
        """
        if self.struct is None:
            raise misfit(f"its {self.name} is no struct")
        return self.struct


class StructLayout:
    """A struct: its size in bytes, and its fields in the order of declaration."""

    def __init__(self, name: str, size: int, fields: Named[Field]) -> None:
        self.name = name
        self.size = size
        self.fields = fields

    def format(self, stop: str | None = None) -> Format:
        """The format of the whole struct, or of what lies before field ``stop``.

        Raises:
            ObjectError: fields overlap (a union), or there is no field ``stop``.
        """
        end = self.size if stop is None else self.fields[stop].offset
        codes = ["<"]
        names: list[str] = []
        position = _flatten(self, 0, 0, "", stop, codes, names)
        if position > end:
            raise ObjectError(f"struct {self.name}: {stop} overlaps the field before it")
        codes.append(_padding(end - position))
        return Format(self.name, "".join(codes), tuple(names), end)


def _flatten(
    layout: StructLayout,
    base: int,
    position: int,
    prefix: str,
    stop: str | None,
    codes: list[str],
    names: list[str],
) -> int:
    """Append ``layout``, which lies at ``base``, to a format that ends at ``position``."""
    for field in layout.fields.values():
        if field.name == stop:
            break
        start = base + field.offset
        if start < position:
            raise ObjectError(f"struct {layout.name}: {field.name} overlaps the field before it")
        if field.struct is not None:
            for index, name in enumerate(_indexed(prefix + field.name, field.dims)):
                at = start + index * field.size
                position = _flatten(field.struct, at, position, name + ".", None, codes, names)
                codes.append(_padding(at + field.size - position))
                position = at + field.size
            continue
        dims = field.dims
        codes.append(_padding(start - position))
        if field.char:
            length, dims = (dims[-1], dims[:-1]) if dims else (1, dims)
            codes.append(f"{length}s" * _product(dims))
        else:
            codes.append(field.code)
        names.extend(_indexed(prefix + field.name, dims))
        position = start + field.size * field.elements
    return position


def _padding(count: int) -> str:
    return f"{count}x" if count else ""


def _product(dims: tuple[int, ...]) -> int:
    product = 1
    for length in dims:
        product *= length
    return product


def _indexed(name: str, dims: tuple[int, ...]) -> list[str]:
    """``a`` with (2, 2): a[0][0], a[0][1], a[1][0], a[1][1]."""
    names = [name]
    for length in dims:
        names = [f"{each}[{index}]" for each in names for index in range(length)]
    return names
