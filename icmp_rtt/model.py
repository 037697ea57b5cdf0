# SPDX-License-Identifier: GPL-2.0-only
"""What was measured: an echo, its stamps, and all arithmetic on its times.

Nothing here knows about bytes, the kernel or output. Times are nanoseconds of
CLOCK_MONOTONIC. What was not seen is None, or not there, and never zero.

The types are named tuples rather than dataclasses: an echo is built from a
dozen of them, tens of thousands of times a second, and a frozen dataclass
takes four to eight times as long to construct.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    Address = IPv4Address | IPv6Address

__all__ = (
    "COMPLETE",
    "DROPPED",
    "DUPLICATE",
    "ICMP_ERROR",
    "INCOMPLETE",
    "LATE",
    "NO_REPLY",
    "NO_REPLY_SENT",
    "RESTARTED",
    "RX",
    "STAGE_COUNT",
    "TX",
    "Drop",
    "Echo",
    "IcmpErrorSeen",
    "PlannedProbe",
    "Segment",
    "Side",
    "Stack",
    "Stamp",
    "Start",
    "path_of_stage",
    "stage_of_hook",
)

# Directions of an echo.
TX = "tx"
RX = "rx"

# Outcomes of an echo, and the reasons for an incomplete one.
COMPLETE = "complete"
INCOMPLETE = "incomplete"
# No echo, but a reply to one that was reported already.
DUPLICATE = "duplicate"
LATE = "late"
RESTARTED = "restarted"
ICMP_ERROR = "icmp error"
DROPPED = "dropped"
NO_REPLY = "no reply"
NO_REPLY_SENT = "no reply sent"

STAGE_COUNT = 6
_STAGES_PER_PATH = 3


def stage_of_hook(hook: int, direction: str) -> int:
    """The stage that a hook (0 to 5, transmit side first) is for an echo of ``direction``."""
    return hook if direction == TX else (hook + _STAGES_PER_PATH) % STAGE_COUNT


def path_of_stage(stage: int) -> int:
    """The path that a stage lies on: 1 carries the request, 2 the reply."""
    return 1 if stage < _STAGES_PER_PATH else 2


class Stack(NamedTuple):
    """A kernel stack, innermost frame first: ``error`` says why there is none."""

    addresses: tuple[int, ...]
    error: str | None


class Stamp(NamedTuple):
    """One stage of one echo, as seen by one probe."""

    stage: int
    path: int
    name: str  # canonical
    probe: str  # KIND:FUNCTION that stands for the stage on this kernel
    ts_ns: int
    cpu: int
    skb: int  # kernel address
    stack: Stack | None  # None: stacks were not asked for


class Side(NamedTuple):
    """What was seen of one path besides its stamps.

    The task is the one that was current at the path's first stamp: the sender
    on a transmit path, whoever was interrupted on a receive path.
    """

    pid: int
    comm: bytes
    ifname: bytes
    ifindex: int  # 0: no device was seen, and ifname is empty
    icmp_type: int


class Drop(NamedTuple):
    """The kernel gave up a packet of the echo."""

    reason: int  # enum skb_drop_reason of the running kernel; 0: none was given
    ip: int  # kernel address of who dropped it
    ts_ns: int
    path: int
    last_stage: int | None  # None: no stage of that path had seen the packet


class IcmpErrorSeen(NamedTuple):
    """An ICMP error that quotes the echo's request."""

    type: int
    code: int
    sender: Address
    ts_ns: int


class Segment(NamedTuple):
    """The way between two adjacent stages: None unless both were seen."""

    first: int
    second: int
    latency_ns: int | None


class Echo(NamedTuple):
    """One ICMP echo request with its reply, or with what is known of its end.

    Or, by its outcome, a further reply to a reported one: then there is one stamp,
    and ``remote`` is who sent it.
    """

    family: int  # 4 or 6
    direction: str
    local: Address
    remote: Address
    id: int
    seq: int
    netns: int  # inode number
    outcome: str
    reason: str | None  # None for a complete echo
    request: Side | None  # None: no stage of path 1 was seen
    reply: Side | None  # None: no stage of path 2 was seen
    stamps: tuple[Stamp, ...]  # those seen, by stage; at least one
    drop: Drop | None
    icmp_error: IcmpErrorSeen | None
    names: tuple[str, ...]  # canonical name of each of the six stages
    # Whether the reply may be that to an earlier request with the same id, sequence and data.
    ambiguous: bool = False
    # Whether the reply came after that to a request which was sent later.
    reordered: bool = False

    @property
    def times_ns(self) -> list[int | None]:
        """Time of each of the six stages."""
        times: list[int | None] = [None] * STAGE_COUNT
        for stamp in self.stamps:
            times[stamp.stage] = stamp.ts_ns
        return times

    @property
    def first_ts_ns(self) -> int:
        """Time of the first stamp."""
        return self.stamps[0].ts_ns

    @property
    def last_stage(self) -> int:
        """The last stage seen."""
        return self.stamps[-1].stage

    @property
    def spans_ns(self) -> tuple[int | None, int | None, int | None, int | None]:
        """``path1_ns``, ``inter_path_ns``, ``path2_ns`` and ``rtt_ns``, in less time."""
        if len(self.stamps) < STAGE_COUNT or self.outcome != COMPLETE or self.ambiguous:
            return self.path1_ns, self.inter_path_ns, self.path2_ns, self.rtt_ns
        first, _, third, fourth, _, last = self.stamps
        begin, sent, received, end = first.ts_ns, third.ts_ns, fourth.ts_ns, last.ts_ns
        return sent - begin, received - sent, end - received, end - begin

    @property
    def path1_ns(self) -> int | None:
        """From the request's first stage to its last."""
        return self._elapsed_ns(0, 2)

    @property
    def inter_path_ns(self) -> int | None:
        """From the request's last stage to the reply's first."""
        if self.ambiguous:
            return None
        return self._elapsed_ns(2, 3)

    @property
    def path2_ns(self) -> int | None:
        """From the reply's first stage to its last."""
        return self._elapsed_ns(3, 5)

    @property
    def rtt_ns(self) -> int | None:
        """From the first stamp of a complete echo to its last: see ``rtt_from_stage``.

        None where either path has none: that would be no round trip.
        """
        first, last = self.stamps[0], self.stamps[-1]
        if self.outcome != COMPLETE or self.ambiguous or (first.path, last.path) != (1, 2):
            return None
        return last.ts_ns - first.ts_ns

    @property
    def rtt_from_stage(self) -> int:
        """The stage that ``rtt_ns`` runs from; ``last_stage`` is the one it runs to."""
        return self.stamps[0].stage

    def segments(self, path: int) -> tuple[Segment, ...]:
        """The two segments of a path."""
        first = 0 if path == 1 else _STAGES_PER_PATH
        return tuple(
            Segment(stage, stage + 1, self._elapsed_ns(stage, stage + 1))
            for stage in (first, first + 1)
        )

    def _elapsed_ns(self, first: int, second: int) -> int | None:
        stamps = self.stamps
        if len(stamps) == STAGE_COUNT:
            return stamps[second].ts_ns - stamps[first].ts_ns
        times = self.times_ns
        begin, end = times[first], times[second]
        return None if begin is None or end is None else end - begin


class PlannedProbe(NamedTuple):
    """A hook and what stands for it in this run; a hook may have several."""

    hook: int
    family: int  # 4 or 6
    name: str  # canonical
    probe: str | None  # KIND:FUNCTION; None: this run does not cover the hook


class Start(NamedTuple):
    """What a run is made of, known once every probe is attached."""

    kernel: str  # release
    backend: str
    probes: tuple[PlannedProbe, ...]
    interface: tuple[str, int] | None  # name, index; None: all
    netns: int  # inode number of the only namespace looked at; 0: all
    families: tuple[int, ...]
    notes: tuple[str, ...] = ()  # what the reader of the reports should know

    def covers(self, echo: Echo, first: int, last: int) -> bool:
        """Whether an echo of this kind could be seen at any of the stages ``first`` to ``last``."""
        return any(
            probe.probe is not None
            and probe.family == echo.family
            and first <= stage_of_hook(probe.hook, echo.direction) <= last
            for probe in self.probes
        )
