# SPDX-License-Identifier: GPL-2.0-only
"""Records of the kernel side become echoes.

What a record refers to by number or bytes (stages, probes, addresses, tasks)
is looked up in tables that are built once or filled as they are met.
"""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple

from icmp_rtt import model
from icmp_rtt.errors import DecodeError, misfit
from icmp_rtt.model import Drop, Echo, IcmpErrorSeen, Side, Stack, Stamp
from icmp_rtt.order import Order
from icmp_rtt.record import RecordLayout
from icmp_rtt.stages import HOOKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from icmp_rtt.kernel.btf import Btf
    from icmp_rtt.record import Values

__all__ = ("Decoder",)

_FAMILIES = {"IPV4": 4, "IPV6": 6}
_DIRECTIONS = {"TX": model.TX, "RX": model.RX}
# The other outcomes are those of incomplete echoes.
_OUTCOMES = {
    "COMPLETE": model.COMPLETE,
    "AMBIGUOUS": model.COMPLETE,
    "DUPLICATE": model.DUPLICATE,
    "LATE": model.LATE,
}
# Enumerators among the probes that are none.
_NO_PROBES = ("none", "COUNT")
# Types of an echo's request and reply, by family.
_ICMP_TYPES = {4: (8, 0), 6: (128, 129)}
# Half the time of a call of the class, and this is the hottest place.
_new = tuple.__new__
_MAX_ERRNO = 4095
# How many addresses and sides are kept before all are forgotten.
_KEPT = 4096


class _Kind(NamedTuple):
    """What the echoes of one family and direction have in common."""

    family: int
    direction: str
    names: tuple[str, ...]  # canonical, by stage
    stages: tuple[tuple[int, int, int, str], ...]  # stage, path, hook, canonical name
    request_side: slice
    reply_side: slice
    transmit_path: int
    unanswered: str  # the reason when nothing else is known


class Decoder:
    """Makes echoes of records.

    Args:
        btf: of the object that makes the records.
        names: canonical stage names by family (4, 6), in the order of the hooks.
        labels: KIND:FUNCTION by FUNCTION, of the probes in use.
        stacks: whether records carry stacks.

    Raises:
        ObjectError: the object lacks a type, member or value that a record needs.
    """

    def __init__(
        self,
        btf: Btf,
        names: Mapping[int, Sequence[str]],
        labels: Mapping[str, str],
        stacks: bool,
    ) -> None:
        self._layout = RecordLayout(btf, stacks)
        self._transmit, self._receive = _values(btf, "side_index", "SIDE_", ("TRANSMIT", "RECEIVE"))
        self._open, self._restarted, self._ambiguous = _values(
            btf, "outcome", "OUTCOME_", ("OPEN", "RESTARTED", "AMBIGUOUS")
        )
        self._outcomes = dict(
            zip(_values(btf, "outcome", "OUTCOME_", _OUTCOMES), _OUTCOMES.values())
        )
        if {self._transmit, self._receive} != {0, 1}:
            raise misfit("its sides are not 0 and 1")
        if _values(btf, "hook", "HOOK_", (*HOOKS, "COUNT")) != [*range(len(HOOKS) + 1)]:
            raise misfit(f"its hooks are not {', '.join(HOOKS)}, in this order")
        functions = {
            number: name.partition("_")[2] for name, number in btf.enum("icmp_rtt_probe").items()
        }
        self._labels = {
            number: labels.get(function, function)
            for number, function in functions.items()
            if function not in _NO_PROBES
        }
        self._order = Order()
        self._kinds = self._read_kinds(btf, names)
        self._addresses: dict[tuple[int, bytes], model.Address] = {}
        self._sides: dict[tuple[int, bytes], Side] = {}

    def echo(self, record: bytes) -> Echo:
        """The echo that a record holds.

        Raises:
            DecodeError: it is of another size, or what is in it does not belong together.
        """
        layout = self._layout
        if len(record) != layout.size:
            raise DecodeError(f"a record has {len(record)} bytes instead of {layout.size}")
        values = layout.unpack(record)
        family, direction, outcome, id_, seq, netns, drop_side, error_ts_ns = layout.fixed(values)
        try:
            kind = self._kinds[family, direction]
            stamps = self._stamps(kind, values)
        except KeyError as error:
            raise DecodeError(f"a record holds an unknown number: {error.args[0]}") from error
        if not stamps:
            raise DecodeError("a record holds no stamp")
        drop = self._drop(kind, values, drop_side) if drop_side else None
        icmp_error = self._icmp_error(kind, values, record) if error_ts_ns else None
        local, remote = record[layout.local], record[layout.remote]
        meaning = self._outcomes.get(outcome, model.INCOMPLETE)
        completed = meaning == model.COMPLETE
        request_type, reply_type = _ICMP_TYPES[kind.family]
        return Echo(
            kind.family,
            kind.direction,
            self._address(kind.family, local),
            self._address(kind.family, remote),
            id_,
            seq,
            netns,
            meaning,
            self._reason(kind, outcome, drop, icmp_error),
            self._side(record[kind.request_side], request_type) if stamps[0].path == 1 else None,
            self._side(record[kind.reply_side], reply_type) if stamps[-1].path == 2 else None,
            stamps,
            drop,
            icmp_error,
            kind.names,
            outcome == self._ambiguous,
            completed
            and self._order.was_overtaken(
                (id_, netns, direction, local, remote), stamps[0].ts_ns, stamps[-1].ts_ns
            ),
        )

    def _stamps(self, kind: _Kind, values: Values) -> tuple[Stamp, ...]:
        layout, labels = self._layout, self._labels
        ts_ns, skb = values[layout.ts_ns], values[layout.skb]
        cpu, probe = values[layout.cpu], values[layout.probe]
        stacks = bool(layout.stacks)
        stamps = []
        for stage, path, hook, name in kind.stages:
            if when_ns := ts_ns[hook]:
                stack = self._stack(values, hook) if stacks else None
                label = labels[probe[hook]]
                stamps.append(
                    _new(Stamp, (stage, path, name, label, when_ns, cpu[hook], skb[hook], stack))
                )
        return tuple(stamps)

    def _stack(self, values: Values, hook: int) -> Stack:
        layout = self._layout
        length = values[layout.stack_bytes][hook]
        if length < 0:
            return Stack((), os.strerror(min(-length, _MAX_ERRNO)).lower())
        if length == 0:
            return Stack((), "none was recorded")
        addresses = values[layout.stacks[hook]]
        count, rest = divmod(length, layout.address_size)
        if rest or count > len(addresses):
            raise DecodeError(f"a record holds a stack of {length} bytes")
        return Stack(addresses[:count], None)

    def _reason(
        self,
        kind: _Kind,
        outcome: int,
        drop: Drop | None,
        icmp_error: IcmpErrorSeen | None,
    ) -> str | None:
        if outcome in self._outcomes:
            return None
        if outcome not in (self._open, self._restarted):
            raise DecodeError(f"a record holds an unknown number: outcome {outcome}")
        if icmp_error is not None:
            return model.ICMP_ERROR
        if drop is not None:
            return model.DROPPED
        return kind.unanswered if outcome == self._open else model.RESTARTED

    def _drop(self, kind: _Kind, values: Values, drop_side: int) -> Drop:
        reason, ip, ts_ns, hook = self._layout.drop(values)
        transmit = drop_side - 1 == self._transmit
        if not transmit and drop_side - 1 != self._receive:
            raise DecodeError(f"a record holds an unknown number: drop_side {drop_side}")
        path = kind.transmit_path if transmit else 3 - kind.transmit_path
        seen = hook < self._layout.hooks and values[self._layout.ts_ns][hook]
        last_stage = model.stage_of_hook(hook, kind.direction) if seen else None
        return Drop(reason, ip, ts_ns, path, last_stage)

    def _icmp_error(self, kind: _Kind, values: Values, record: bytes) -> IcmpErrorSeen:
        type_, code, ts_ns = self._layout.error(values)
        sender = self._address(kind.family, record[self._layout.error_from])
        return IcmpErrorSeen(type_, code, sender, ts_ns)

    def _address(self, family: int, raw: bytes) -> model.Address:
        try:
            return self._addresses[family, raw]
        except KeyError:
            pass
        if len(self._addresses) >= _KEPT:
            self._addresses.clear()
        address = IPv4Address(raw[:4]) if family == 4 else IPv6Address(raw)
        self._addresses[family, raw] = address
        return address

    def _side(self, raw: bytes, icmp_type: int) -> Side:
        try:
            return self._sides[icmp_type, raw]
        except KeyError:
            pass
        if len(self._sides) >= _KEPT:
            self._sides.clear()
        side = Side(*self._layout.side(raw), icmp_type)
        self._sides[icmp_type, raw] = side
        return side

    def _read_kinds(
        self, btf: Btf, names: Mapping[int, Sequence[str]]
    ) -> dict[tuple[int, int], _Kind]:
        families = _values(btf, "family", "FAMILY_", _FAMILIES)
        directions = _values(btf, "direction", "DIRECTION_", _DIRECTIONS)
        return {
            (family_number, direction_number): self._kind(family, direction, names[family])
            for family_number, family in zip(families, _FAMILIES.values())
            for direction_number, direction in zip(directions, _DIRECTIONS.values())
        }

    def _kind(self, family: int, direction: str, names: Sequence[str]) -> _Kind:
        """``names`` are in the order of the hooks."""
        by_stage = sorted(
            (model.stage_of_hook(hook, direction), hook, name) for hook, name in enumerate(names)
        )
        transmit, receive = (self._layout.sides[side] for side in (self._transmit, self._receive))
        sends = direction == model.TX
        return _Kind(
            family,
            direction,
            tuple(name for _, _, name in by_stage),
            tuple(
                (stage, model.path_of_stage(stage), hook, name) for stage, hook, name in by_stage
            ),
            transmit if sends else receive,
            receive if sends else transmit,
            1 if sends else 2,
            model.NO_REPLY if sends else model.NO_REPLY_SENT,
        )


def _values(btf: Btf, enum: str, prefix: str, names: Iterable[str]) -> list[int]:
    """Numbers of the enumerators ``prefix`` + name of enum icmp_rtt_``enum``."""
    enumerators = btf.enum(f"icmp_rtt_{enum}")
    return [enumerators[prefix + name] for name in names]
