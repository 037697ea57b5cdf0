# SPDX-License-Identifier: GPL-2.0-only
"""Where things lie in a record of the kernel side.

All of it is read from the BTF of the object that makes the records; what the
values mean is the decoder's business.
"""

from __future__ import annotations

from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING

from icmp_rtt.errors import misfit
from icmp_rtt.kernel.named import Named
from icmp_rtt.stages import HOOKS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from icmp_rtt.kernel.btf import Btf
    from icmp_rtt.kernel.layout import Format, StructLayout

    Values = tuple[Any, ...]

__all__ = ("Outcomes", "RecordLayout", "bytes_of", "size_of")

# Members of struct icmp_rtt_event by what is taken at once, in this order.
_FIXED = ("family", "direction", "outcome", "id", "seq", "netns", "drop_side", "error_ts_ns")
_DROP = ("drop_reason", "drop_ip", "drop_ts_ns", "drop_hook")
_ERROR = ("error_type", "error_code", "error_ts_ns")
_BY_HOOK = ("ts_ns", "skb", "cpu", "probe")
_SIDE = ("pid", "comm", "ifname", "ifindex")
# The first member that a record without stacks does not have.
_FIRST_OF_STACKS = "stack_bytes"
_ADDRESS_SIZE = 16
_SIDES = 2


class RecordLayout:
    """The layout of the records of one object.

    Args:
        btf: of that object.
        stacks: whether the records carry stacks.

    Raises:
        ObjectError: the object lacks a type or member that is needed, or has another shape.

    Attributes:
        size: of a record in bytes.
        hooks: how many there are.
        unpack: makes a tuple of all the numbers of a record.
        fixed, drop, error: pick members out of that tuple.
        ts_ns, skb, cpu, probe: slices of that tuple with a number for each hook.
        local, remote, error_from: slices of the record.
        sides: slices of the record, by enum icmp_rtt_side_index.
        stack_bytes: as ts_ns, in records with stacks.
        stacks: a slice of that tuple for each hook; none in records without stacks.
        address_size: of one entry of a stack, in bytes.
    """

    def __init__(self, btf: Btf, stacks: bool) -> None:
        event = btf.struct("icmp_rtt_event")
        self._read(event, stacks)
        if not self._fits(event):
            raise misfit("its records have another shape")

    def side(self, raw: bytes) -> tuple[int, bytes, bytes, int]:
        """The pid, comm, ifname and ifindex of a side; the names without their padding."""
        pid, comm, ifname, ifindex = self._pick_side(self._unpack_side(raw))
        return pid, comm.partition(b"\0")[0], ifname.partition(b"\0")[0], ifindex

    def _read(self, event: StructLayout, stacks: bool) -> None:
        fields = event.fields
        layout = event.format(stop=None if stacks else _FIRST_OF_STACKS)
        where = _places(layout)
        self.size = layout.size
        self.hooks = fields["ts_ns"].elements
        self.unpack: Callable[[bytes], Values] = Struct(layout.format).unpack

        def numbers(name: str, first: str, count: int) -> slice:
            index = where[f"{name}{first}"]
            return slice(index, index + count)

        self.fixed = _picker(where, _FIXED)
        self.drop = _picker(where, _DROP)
        self.error = _picker(where, _ERROR)
        self.ts_ns, self.skb, self.cpu, self.probe = (
            numbers(name, "[0]", self.hooks) for name in _BY_HOOK
        )
        self.local = bytes_of(event, "local")
        self.remote = bytes_of(event, "remote")
        self.error_from = bytes_of(event, "error_from")
        self._read_sides(event)
        self.address_size = fields["stack"].size
        self.stack_bytes = numbers(_FIRST_OF_STACKS, "[0]", self.hooks) if stacks else slice(0)
        depth = fields["stack"].elements // self.hooks
        self.stacks = tuple(
            numbers("stack", f"[{hook}][0]", depth) for hook in range(self.hooks if stacks else 0)
        )

    def _fits(self, event: StructLayout) -> bool:
        """Whether numbers are numbers, and each member has as many as the decoder takes."""
        fields, values = event.fields, self.unpack(bytes(self.size))
        pid, *names, ifindex = self._pick_side(self._unpack_side(bytes(fields["side"].size)))
        numbers = [pid, ifindex, *self.fixed(values), *self.drop(values), *self.error(values)]
        for row in (self.ts_ns, self.skb, self.cpu, self.probe, self.stack_bytes):
            numbers += values[row]
        addresses = (self.local, self.remote, self.error_from)
        return (
            all(isinstance(number, int) for number in numbers)
            and all(isinstance(name, bytes) for name in names)
            and all(fields[name].dims == (len(HOOKS),) for name in (*_BY_HOOK, _FIRST_OF_STACKS))
            and all(place.stop - place.start == _ADDRESS_SIZE for place in addresses)
            and fields["stack"].dims[:-1] == (len(HOOKS),)
            and len(self.sides) == _SIDES
        )

    def _read_sides(self, event: StructLayout) -> None:
        sides = event.fields["side"]
        layout = sides.layout.format()
        self._unpack_side: Callable[[bytes], Values] = Struct(layout.format).unpack
        self._pick_side = _picker(_places(layout), _SIDE)
        self.sides = tuple(
            slice(sides.offset + index * sides.size, sides.offset + (index + 1) * sides.size)
            for index in range(sides.elements)
        )


class Outcomes:
    """What became of a record's echo, told without taking the record apart.

    Args:
        btf: of the object that makes the records.

    Raises:
        ObjectError: the object lacks a type, member or value that is needed.

    Attributes:
        numbers: by enumerator of enum icmp_rtt_outcome.
        at: where the outcome lies in a record, one byte.
    """

    def __init__(self, btf: Btf) -> None:
        event = btf.struct("icmp_rtt_event")
        self.numbers = btf.enum("icmp_rtt_outcome")
        self.at = event.fields["outcome"].offset
        self._least = size_of(event, stacks=False)
        # The kernel had one reply for it, which may be another's.
        self._complete = (self.numbers["OUTCOME_COMPLETE"], self.numbers["OUTCOME_AMBIGUOUS"])

    def of(self, record: bytes) -> int | None:
        """None if it is too short for a record: whoever decodes it will say so."""
        return record[self.at] if len(record) >= self._least else None

    def is_complete(self, record: bytes) -> bool:
        """Whether a reply has ended it; not if it is too short to tell."""
        return self.of(record) in self._complete


def _places(layout: Format) -> Named[int]:
    """Where each value is among those unpacked."""
    return Named("its records have no", ((name, i) for i, name in enumerate(layout.names)))


def _picker(where: Named[int], names: tuple[str, ...]) -> Callable[[Values], Values]:
    return itemgetter(*[where[name] for name in names])


def size_of(event: StructLayout, stacks: bool) -> int:
    """Bytes of a record of ``event``, with or without stacks."""
    return event.size if stacks else event.fields[_FIRST_OF_STACKS].offset


def bytes_of(event: StructLayout, name: str) -> slice:
    """Where the bytes of member ``name`` lie in ``event``."""
    field = event.fields[name]
    return slice(field.offset, field.offset + field.size * field.elements)
