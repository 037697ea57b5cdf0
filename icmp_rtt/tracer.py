# SPDX-License-Identifier: GPL-2.0-only
"""The tracer: programs attached, records and counters out, everything gone at the end.

Knows when a session is given up, and nothing of what a record means to a user.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from icmp_rtt import netns, stages
from icmp_rtt.background import Background
from icmp_rtt.clock import kernel_ns
from icmp_rtt.config import config_of
from icmp_rtt.counters import Counters
from icmp_rtt.errors import LibbpfError, RequirementError
from icmp_rtt.privileges import give_up_privileges
from icmp_rtt.record import Outcomes
from icmp_rtt.refusal import refused_everything
from icmp_rtt.survey import survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from icmp_rtt.decode import Decoder
    from icmp_rtt.kernel.bpfobject import Link, Object
    from icmp_rtt.kernel.facts import KernelFacts
    from icmp_rtt.loader import Loader
    from icmp_rtt.model import Start
    from icmp_rtt.opening import Opened
    from icmp_rtt.options import Options
    from icmp_rtt.plan import Plan

__all__ = ("Tracer", "sweep_interval_ns")

_SWEEP_NS = 100_000_000
_LATER_NS = 1 << 64
# Counted where ICMP is handed a reply, if that is where echoes end.
_OTHER_REPLIES = ("duplicate_replies", "late_replies", "unmatched_replies")


def sweep_interval_ns(timeout_ns: int) -> int:
    """How often ``Tracer.poll`` looks through the sessions for those past --timeout.

    Ten times a second, and four times in that time if it is shorter than that.
    """
    return min(_SWEEP_NS, timeout_ns // 4)


class Tracer:
    """A context manager: inside it every probe of the plan is attached.

    Args:
        opened: taken no further than to the end of entering.
        warn: takes what the user should know though the run goes on.
        import_rest: imports the rest of the program. Called by a thread while the kernel
            verifies, which leaves Python's lock alone.

    Attributes:
        start: what the run is made of.
        decoder: makes echoes of the records.
        symbols: names of kernel functions, read when first asked for.

    Raises (on entering):
        IcmpRttError: in one line what this host, the options or the files lack.
    """

    start: Start
    decoder: Decoder

    def __init__(
        self,
        opened: Opened,
        options: Options,
        warn: Callable[[str], None],
        import_rest: Callable[[], None],
    ) -> None:
        self._opened = opened
        self._options = options
        self._warn = warn
        self._import_rest = import_rest
        self.symbols = opened.symbols
        self._links: dict[str, Link] = {}
        self._object: Object | None = None
        self._misses: int | None = 0
        self._swept_ns = 0
        self._cut_off = 0  # complete, and too late to be told

    def __enter__(self) -> Tracer:
        try:
            self._begin()
        except LibbpfError as error:
            self._close()
            raise refused_everything(error) from error
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def give_up_privileges(self, command: bool) -> None:
        """Keep the capabilities alone that the rest of the run takes; a failure is a warning.

        Args:
            command: a command was started, which is to be told to end.
        """
        try:
            give_up_privileges(self.in_flight, command)
        except OSError as error:
            self._warn(f"privileges are kept: {str(error.strerror).lower()}")
        except RequirementError as error:
            self._warn(f"privileges are kept: {error}")

    def poll(self, timeout_ms: int) -> list[bytes]:
        """Records of echoes that ended, those past --timeout too, waiting if there are none."""
        records = self._ring.poll(timeout_ms)
        now_ns = kernel_ns()
        if now_ns - self._swept_ns >= sweep_interval_ns(self._options.timeout_ns):
            self._swept_ns = now_ns
            # The clock began when the machine did: --timeout may be longer ago than that.
            self._sweep(oldest_ns=max(0, now_ns - self._options.timeout_ns))
            records += sorted(self._ring.consume(), key=self._given_up_ns)
        return self._checked(records)

    def completed(self, record: bytes) -> bool:
        """Whether it is of an echo that a reply has ended; not if it is too short to tell."""
        return self._outcomes.is_complete(record)

    def in_flight(self) -> int:
        """How many sessions are under way."""
        return self._sweep()

    def finish(self) -> list[bytes]:
        """Detach every probe, and return what was still to be read."""
        self._misses = self._count_misses()
        self._sweep(ending=True)
        end_ns = kernel_ns()
        for link in self._links.values():
            link.close()
        records: list[bytes] = []
        while more := self._ring.consume():
            # What came in while probes went may lack stages: it counts as under way.
            in_time = [record for record in more if not self._completed_after(end_ns, record)]
            self._cut_off += len(more) - len(in_time)
            records += self._checked(in_time)
        self._sweep(last_time=True, ending=True)
        return records

    def counters(self) -> dict[str, int | None]:
        """Everything counted, by the names of the summary; final after ``finish``.

        None: the kernel does not tell, or no probe sees it.
        """
        raw = self._counters.sums(self._loaded.maps["cpus"])
        elsewhere = raw.pop("other_interface")
        restarted = raw.pop("restarted")
        skipped = raw.pop("skipped")
        first: dict[str, int | None] = {
            "requests": raw.pop("requests") - elsewhere,
            "replies": raw["complete"] - self._cut_off,
            "complete": raw.pop("complete") - self._cut_off,
            "incomplete": raw.pop("expired") + restarted,
            "in_flight": raw.pop("in_flight") + self._cut_off,
            "refused": raw.pop("refused"),
            "reported": raw.pop("reported") - self._cut_off,
            "below_threshold": raw.pop("below_threshold"),
            "unasked": raw.pop("unasked"),
            "events_lost": raw.pop("events_lost"),
            "incomplete_lost": raw.pop("restarted_lost"),
        }
        misses = skipped if self._misses is None and self._kernel.tells_kprobes else self._misses
        counted = {**first, **raw, "other_interface": elsewhere, "probe_misses": misses}
        return {**counted, **dict.fromkeys(self._unseen())}

    def _unseen(self) -> Iterator[str]:
        """Counters of what no probe of this run sees."""
        if not self._survey.plan.awaits_icmp:
            yield from _OTHER_REPLIES
        if not self._survey.plan.delivers:
            yield "icmp_errors"
        if self._survey.drops_unseen is not None:
            yield "drops"

    @property
    def drop_reasons(self) -> dict[int, str]:
        """Names of the kernel's drop reasons; empty where it gives none."""
        return self._kernel.drop_reasons

    @property
    def _kernel(self) -> KernelFacts:
        return self._survey.kernel

    # ------------------------------------------------------------ start

    def _begin(self) -> None:
        opened = self._opened
        loader, kernel = opened.read()
        self._loader = loader
        self._locate()
        options = self._options
        with self._importing():
            config = config_of(options, loader.btf, *self._where)
            self._survey = survey(options, loader, kernel, config, opened.loopback)
            self._object, self._links = self._survey.object, self._survey.links
        from icmp_rtt.decode import Decoder
        from icmp_rtt.kernel.ringbuf import RingBuffer
        from icmp_rtt.unanswered import Unanswered

        plan = self._survey.plan
        self._ring = RingBuffer(loader.lib, self._loaded.maps["events"].fd)
        self._layout(loader)
        self.decoder = Decoder(loader.btf, stages.NAMES, plan.labels, options.stacks)
        self._unanswered = Unanswered(loader.btf)
        self.start = self._describe(plan)

    @contextlib.contextmanager
    def _importing(self) -> Iterator[None]:
        """What comes after the block is imported while that goes on."""

        def import_all() -> None:
            import icmp_rtt.decode
            import icmp_rtt.kernel.ringbuf
            import icmp_rtt.unanswered  # noqa: F401

            self._import_rest()

        imports = Background(import_all, "imports")
        try:
            yield
        finally:
            imports.wait()  # what it raised is raised again where it is needed

    def _locate(self) -> None:
        """Look up the only namespace and the only device; from then on that goes by its name."""
        options = self._options
        path = None if options.netns is None else netns.path_of(options.netns)
        inode = netns.inode_of(path) if path or options.interface else 0
        index = 0
        if options.interface:
            name, index = netns.device(options.interface, path)
            self._options = options._replace(interface=name)
        self._where = inode, index  # 0: any

    def _describe(self, plan: Plan) -> Start:
        from icmp_rtt.model import PlannedProbe, Start

        options = self._options
        probes = []
        for (family, hook), chosen in plan.probes.items():
            name = stages.NAMES[family][hook]
            if not chosen:
                probes.append(PlannedProbe(hook, family, name, None))
            probes += [PlannedProbe(hook, family, name, probe.label) for probe in chosen]
        inode, index = self._where
        return Start(
            os.uname().release,
            plan.backend,
            tuple(probes),
            (options.interface, index) if options.interface else None,
            inode,
            plan.families,
            (*self._survey.passed_over, *plan.notes, *self._survey.notes),
        )

    # --------------------------------------------------------- sessions

    def _layout(self, loader: Loader) -> None:
        event = loader.btf.struct("icmp_rtt_event")
        self._stamps, self._stamps_at = event.fields["ts_ns"].numbers, event.fields["ts_ns"].offset
        self._outcomes = Outcomes(loader.btf)
        self._open = self._outcomes.numbers["OUTCOME_OPEN"]
        self._counters = Counters(loader.btf)

    def _given_up_ns(self, record: bytes) -> int:
        """When a session that was given up began; all others come later, as they were read."""
        if self._outcomes.of(record) != self._open:
            return _LATER_NS
        return min(filter(None, self._stamps.unpack_from(record, self._stamps_at)), default=0)

    def _checked(self, records: list[bytes]) -> list[bytes]:
        now_ns = kernel_ns()
        return [self._unanswered.checked(record, now_ns) for record in records]

    def _completed_after(self, end_ns: int, record: bytes) -> bool:
        """Whether a reply that arrived later than ``end_ns`` has ended it."""
        if not self.completed(record):
            return False
        last_ns: int = max(self._stamps.unpack_from(record, self._stamps_at))
        return last_ns > end_ns

    def _sweep(self, oldest_ns: int = 0, last_time: bool = False, ending: bool = False) -> int:
        return self._loader.sweep(self._loaded, oldest_ns, last_time, ending)

    def _count_misses(self) -> int | None:
        """Probe runs that the kernel left out; None where it counts none of those of kprobes."""
        total = 0
        for name, link in self._links.items():
            missed = link.missed()
            if missed is None and name.startswith(("kprobe__", "kretprobe__")):
                return None
            total += (missed or 0) + (self._loaded.programs[name].recursion_misses() or 0)
        return total

    @property
    def _loaded(self) -> Object:
        if self._object is None:
            raise RuntimeError("the tracer has not been entered")
        return self._object

    def _close(self) -> None:
        ring = self.__dict__.pop("_ring", None)
        if ring is not None:
            ring.close()
        if self._object is not None:
            self._object.close()
            self._object = None
        self.symbols.close()
