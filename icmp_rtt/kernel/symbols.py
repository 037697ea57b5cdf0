# SPDX-License-Identifier: GPL-2.0-only
"""Kernel functions by address and by name, out of /proc/kallsyms.

Knows that file's format and nothing else. The file has some 200,000 lines, and
nothing is done to each of them: it is read only when first asked for, and kept
as it came, in blocks whose lowest and highest address are known. The kernel's
own functions come in order of their addresses, those of modules do not.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator
from operator import attrgetter, itemgetter

from icmp_rtt.errors import RequirementError
from icmp_rtt.kernel.procfile import ProcFile

__all__ = ("Symbols",)

_BLOCK = 1 << 14  # bytes; some 350 lines, all of which are looked at to find one name
_BLOCK_TO_SEARCH = 1 << 16  # bytes; for several names at once, and yet little memory
_TEXT = frozenset((b" t ", b" T ", b" w ", b" W "))
_LONGEST_FUNCTION = 1 << 18  # bytes; what lies further behind a symbol is not in it
_CACHED = 4096  # descriptions
_FUNCTION = re.compile(rb"^([0-9a-f]{16}) [tTwW] ", re.MULTILINE)
_LINE = re.compile(rb"[0-9a-f]{16} ")
_digits = itemgetter(slice(16))  # a line's address
_high = attrgetter("high")


class _Block:
    __slots__ = ("high", "lines", "low")  # there are some hundreds

    def __init__(self, low: int, high: int, lines: bytes) -> None:
        self.low = low  # least and greatest address; where modules are, of functions alone
        self.high = high
        self.lines = lines  # "ADDRESS TYPE NAME" or "ADDRESS TYPE NAME TAB [MODULE]"


class Symbols:
    """The functions of the running kernel and of its modules.

    Args:
        path: file to read, in the format of /proc/kallsyms.
    """

    def __init__(self, path: str = "/proc/kallsyms") -> None:
        self._path = path
        # Kept: the kernel shows addresses to whoever opened it with CAP_SYSLOG, and
        # that may be given up later.
        self._file: ProcFile | None = None
        self._loaded = False
        self._problem: str | None = None
        self._blocks: list[_Block] = []
        self._cache: dict[tuple[int, int], str] = {}

    @property
    def problem(self) -> str | None:
        """Why no name can be had, with the remedy; None if names can be had."""
        self._load()
        return self._problem

    def close(self) -> None:
        """Close the file; names read by now stay."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def name(self, address: int) -> str:
        """``func+0x1a``, ``func+0x1a [module]``, or the bare address if it is in no function."""
        return self._describe(address, address)

    def frame(self, address: int) -> str:
        """As ``name``, for a return address.

        A call that never returns may be the last instruction of its function,
        so the caller is whoever holds the byte before.
        """
        return self._describe(address, address - 1)

    def find(
        self, functions: Collection[str], variables: Collection[str]
    ) -> tuple[set[str], dict[str, int]]:
        """What the kernel has of these names, letter for letter.

        Stops reading once all are found.

        Returns:
            Those of ``functions`` that are there, addresses hidden or not; and the
            addresses of those of ``variables`` whose address can be had.

        Raises:
            RequirementError: the file cannot be read, or is another one.
        """
        wanted = {*functions, *variables}
        found: set[str] = set()
        addresses: dict[str, int] = {}
        try:
            for block in self._read(_BLOCK_TO_SEARCH):
                if not _LINE.match(block):
                    raise ValueError("an address and a space expected")
                for name in wanted - found - addresses.keys():
                    for kind, address in _entries(block, name.encode()):
                        if kind in b"tTwW" and name in functions:
                            found.add(name)
                        elif kind in b"aAbBdDrR" and name in variables:
                            addresses[name] = _number(address)
                if len(found) + len(addresses) >= len(wanted):
                    break
        except (OSError, ValueError) as error:
            raise RequirementError(self._why(error)) from error
        return found, {name: address for name, address in addresses.items() if address}

    def is_empty(self) -> bool:
        """Whether the file lists nothing at all, though it can be read.

        Raises:
            RequirementError: it cannot be read.
        """
        try:
            return not any(self._read(_BLOCK))
        except (OSError, ValueError) as error:
            raise RequirementError(self._why(error)) from error

    def _describe(self, address: int, inside: int) -> str:
        text = self._cache.get((address, inside))
        if text is None:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            text = self._look_up(address, inside)
            self._cache[address, inside] = text
        return text

    def _look_up(self, address: int, inside: int) -> str:
        self._load()
        # The function is in a block whose range holds the byte, or else it is in the
        # block that ends last before it.
        blocks = [block for block in self._blocks if block.low <= inside <= block.high]
        before = [block for block in self._blocks if block.high < inside]
        if before:
            blocks.append(max(before, key=_high))
        best = max((_nearest(block.lines, inside) for block in blocks), key=_digits, default=b"")
        start = int(_digits(best) or b"0", 16)
        if not best or inside - start >= _LONGEST_FUNCTION:
            return f"{address:#018x}"
        entry = best[19:]
        name, _, module = entry.decode("ascii", "backslashreplace").partition("\t")
        text = f"{name}+{address - start:#x}" + (f" {module}" if module else "")
        return text if text.isprintable() else f"{address:#018x}"

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        try:
            self._blocks = [_block(lines) for lines in self._read(_BLOCK)]
        except (OSError, ValueError) as error:
            self._problem = self._why(error)
        else:
            if not self._blocks:
                self._problem = (
                    f"{self._path} is empty: it takes a kernel with CONFIG_KALLSYMS,"
                    " and nothing mounted over that file"
                )
            elif not any(block.high for block in self._blocks):
                self._blocks = []
                self._problem = (
                    "kernel addresses are hidden from this process: "
                    "it takes CAP_SYSLOG, and sysctl kernel.kptr_restrict below 2"
                )

    def _read(self, size: int) -> Iterator[bytes]:
        """The file in blocks of whole lines, of some ``size`` bytes."""
        rest = b""
        if self._file is None:
            self._file = ProcFile(self._path)
        for block in self._file.blocks(size):
            block = rest + block
            end = block.rfind(b"\n") + 1
            if not end and len(block) > size:
                raise ValueError("a line without an end")
            rest = block[end:]
            yield block[:end]
        if rest:
            yield rest + b"\n"

    def _why(self, error: Exception) -> str:
        if isinstance(error, OSError):
            return f"cannot read {self._path}: {error.strerror}: mount /proc, or run as root"
        return f"{self._path} is not in the format of /proc/kallsyms"


def _entries(lines: bytes, name: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and address of each entry of this very name.

    One search for each of twenty names takes a third of what one pattern for all takes.
    """
    wanted = b" " + name
    at = lines.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        if lines[end : end + 1] in (b"\n", b"\t"):
            yield lines[at - 1 : at], lines[at - 18 : at - 2]
        at = lines.find(wanted, end)


def _number(digits: bytes) -> int:
    """Of hexadecimal digits alone: int() would take a sign, and underscores."""
    return int.from_bytes(bytes.fromhex(digits.decode()), "big")


def _block(lines: bytes) -> _Block:
    end = lines.rfind(b"\n", 0, -1) + 1
    first, last = lines[:16], lines[end : end + 16]
    if not _LINE.match(lines) or not _LINE.match(lines, end):
        raise ValueError("an address and a space expected")
    low, high = int(first, 16), int(last, 16)
    if b"\t[" in lines:
        addresses = _FUNCTION.findall(lines)
        low = int(min(addresses, default=b"0"), 16)
        high = int(max(addresses, default=b"0"), 16)
    return _Block(low, high, lines)


def _nearest(lines: bytes, inside: int) -> bytes:
    """The line of the function at or before address ``inside``, empty if there is none.

    Of several at one address it is the first, as it is for the kernel.
    """
    ordered = sorted(lines.split(b"\n"), key=_digits)
    best = b""
    for line in reversed(ordered[: bisect_right(ordered, b"%016x~" % inside)]):
        if best and _digits(line) != _digits(best):
            break
        if line[16:19] in _TEXT and _LINE.match(line):
            best = line
    return best
