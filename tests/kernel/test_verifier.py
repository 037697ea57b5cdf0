# SPDX-License-Identifier: GPL-2.0-only
"""Every combination of options loads: the verifier of this kernel has the last word.

The configuration is constant to the verifier, so each combination is another program
to it, unless it reads nothing of what differs: then it is loaded once. All 1,458 of the
options, and 972 of the object for kernels without BTF, take half an hour or more in a
guest (ICMP_RTT_COMBINATIONS=all): by default there are some 55, and 45, in which any three
settings are met together, those that are no options among them; 4 takes any four, and so on.
"""

import itertools
import multiprocessing
import os
import time

import pytest
from settings_read import bytes_read

from icmp_rtt import carried, plan, stages
from icmp_rtt.config import config_bytes
from icmp_rtt.kernel.facts import read_facts
from icmp_rtt.kernel.libbpf import Libbpf, LibbpfError
from icmp_rtt.kernel.listing import Listing
from icmp_rtt.kernel.symbols import Symbols
from icmp_rtt.loader import Loader, Refused, carried_path

pytestmark = [pytest.mark.guest, pytest.mark.extended]
TOGETHER = os.environ.get("ICMP_RTT_COMBINATIONS", "3")
FAMILIES = ((4,), (6,), (4, 6))
NONE, HOST, PREFIX = (0,) * 4, (0xFFFFFFFF,) * 4, (0x00FFFFFF, 0, 0, 0)
# What differs for the verifier, and the values that stand for all others.
SETTINGS = {
    "backend": [*stages.BACKENDS],
    "families": FAMILIES,
    "directions": (1, 2, 3),
    "address": (
        {},
        {"local": HOST, "local_mask": HOST, "remote": HOST, "remote_mask": HOST},
        {"remote": PREFIX, "remote_mask": PREFIX},
    ),
    "where": ({}, {"netns": 4026531840}, {"netns": 4026531840, "ifindex": 2}),
    "stacks": (0, 1),
    "limit": ({}, {"min_rtt_ns": 1}, {"only_incomplete": 1}),
    "self_test_netns": (0, 4026531841),
    "typed_headers": (0, 1),
    "typed_task": (0, 1),
    "atomics": (0, 1),
    "variables": (0, 1),  # of the kernel, whose addresses are known
}
# Of these the kernel's own facts say whether the last value is there at all.
FEATURES = ("typed_headers", "typed_task", "atomics")
SWEEP = "sweep"  # which every load has
WORKER = {}


def combinations(machine):
    """Settings by name, such that any TOGETHER values of different ones are met in one of them."""
    kernel = machine.kernel
    settings = {**SETTINGS, "backend": machine.backends}
    if TOGETHER == "all":
        usual = {name: int(getattr(kernel, name)) for name in FEATURES}
        usual["variables"] = int(bool(kernel.variables))
        usual["self_test_netns"] = SETTINGS["self_test_netns"][-1]
        options = {name: values for name, values in settings.items() if name not in usual}
        rows = itertools.product(*options.values())
        return [{**dict(zip(options, row)), **usual} for row in rows]
    choices = [
        1 if name in FEATURES and not getattr(kernel, name) else len(values)
        for name, values in settings.items()
    ]
    rows = covering(choices, int(TOGETHER))
    return [{n: settings[n][i] for n, i in zip(settings, row)} for row in rows]


def covering(choices, together):
    """Rows of a number below each of ``choices``: greedily few that hold every combination."""
    wanted = {
        combination
        for places in itertools.combinations(range(len(choices)), together)
        for combination in itertools.product(*([(p, i) for i in range(choices[p])] for p in places))
    }
    rows = []
    while wanted:
        row = dict(min(wanted))
        for place in sorted(set(range(len(choices))) - set(row)):
            candidates = [{**row, place: i} for i in range(choices[place])]
            row = max(candidates, key=lambda each: len(wanted & met(each, together)))
        wanted -= met(row, together)
        rows.append([row[place] for place in range(len(choices))])
    return rows


def met(row, together):
    """The combinations in a row, or in the part of it that there is."""
    return {*itertools.combinations(sorted(row.items()), together)}


class Machine:
    """What this kernel has, and how to load for it.

    Args:
        name: of the object, that for kernels without BTF or the other one.
    """

    def __init__(self, name):
        self.loader = Loader(Libbpf(), carried_path(name), None)
        self.bytes_read = bytes_read(carried_path(name))
        self.seen = set()  # programs, each with all that the verifier sees of a configuration
        self.values = {}  # by offset into the configuration, the bytes that it had there
        listing = Listing(Symbols(), stages.functions((4, 6)))
        kernel = read_facts(self.loader.lib, listing, None)
        if name == carried.OBJECT_WITHOUT_BTF:
            kernel.own_btf = kernel.typed_headers = kernel.typed_task = False
        self.kernel = kernel
        self.facts = plan.Facts(kernel.functions)
        for backend in stages.BACKENDS:
            for probe in stages.probes(backend, (4, 6)):
                if not self.has(probe):
                    self.facts = self.facts.without(probe.program, "not in this object")

    @property
    def backends(self):
        """Those that have probes in the object."""
        return [*stages.BACKENDS] if self.kernel.own_btf else ["kprobe", "tracepoint"]

    @property
    def drops(self):
        """The program that sees drops."""
        return next(probe.program for probe in stages.DROP_PROBES if self.has(probe))

    def has(self, probe):
        """Whether the object's plans have this probe."""
        return not (probe.spares_btf if self.kernel.own_btf else probe.needs_btf)

    def programs(self, backend, families):
        """Every program that a plan may have here."""
        wanted = {
            probe.program: None
            for probe in stages.probes(backend, families)
            if self.has(probe)
            and (not probe.is_function or probe.function in self.kernel.functions)
        }
        return [*wanted, self.drops]

    def configured(self, settings):
        """What settings come to: the programs that a plan may have here, the object's
        configuration, and the plan."""
        settings = dict(settings)
        backend, families = settings.pop("backend"), settings.pop("families")
        chosen = plan.choose(backend, families, self.facts)
        for group in ("address", "where", "limit"):
            settings.update(settings.pop(group))
        known = self.kernel.variables if settings.pop("variables") else {}
        settings["kprobes"] = int(backend == "kprobe" and bool(known))
        settings.update({f"{name}_at": address for name, address in known.items()})
        config = {
            **settings,
            "families": sum({4: 1, 6: 2}[family] for family in families),
            "drop_reasons": int(bool(self.kernel.drop_reasons)),
            "no_socket": self.kernel.drop_reason("NO_SOCKET"),
            **chosen.ends,
        }
        return self.programs(backend, families), config, chosen

    def anew(self, settings):
        """Those of the programs that are, with these settings, no programs seen before."""
        programs, config, _ = self.configured(settings)
        data = config_bytes(self.loader.btf, config)
        for at, value in enumerate(data):
            self.values.setdefault(at, set()).add(value)
        found = []
        for name in (*programs, SWEEP):
            # The sizes of maps depend on these two, whatever the program reads.
            sizes = config["stacks"], config["atomics"]
            key = name, sizes, bytes(data[at] for at in sorted(self.bytes_read[name]))
            if key not in self.seen:
                found.append(name)
                self.seen.add(key)
        return found

    def load(self, settings, programs=None):
        """The object, with every program that a plan with these settings may have, or with some."""
        every, config, _ = self.configured(settings)
        wanted = every if programs is None else programs
        return self.loader.load([name for name in wanted if name != SWEEP], config, 16)


def begin_on(processors):
    """Have a worker keep to one processor, so that it shares its programs with no thread."""
    os.sched_setaffinity(0, {processors.get()})


def refusal(wanted):
    """Settings, programs and the kernel's words, if it does not load them."""
    settings, programs = wanted
    try:
        loaded = WORKER["machine"].load(settings, programs)
    except (LibbpfError, Refused) as error:
        return settings, programs, str(error)
    loaded.close()
    return None


@pytest.fixture(scope="module", params=[carried.OBJECT, carried.OBJECT_WITHOUT_BTF])
def machine(request):
    """This kernel, as each of the objects has it."""
    return Machine(request.param)


def test_every_combination_of_options_loads(machine):
    """No kernel's verifier refuses any program under any of them."""
    every, begin = combinations(machine), time.monotonic()
    wanted = [(settings, found) for settings in every if (found := machine.anew(settings))]
    # What was found out of this kernel comes along with the fork: it cannot be sent.
    WORKER["machine"] = machine
    context, processors = multiprocessing.get_context("fork"), os.sched_getaffinity(0)
    free = context.SimpleQueue()
    for processor in processors:
        free.put(processor)
    # What no program is known to read, and differs all the same, would never be loaded anew.
    read = frozenset().union(*machine.bytes_read.values())
    assert {at for at, values in machine.values.items() if len(values) > 1} <= read
    with context.Pool(len(processors), begin_on, (free,)) as pool:
        refused = [each for each in pool.imap_unordered(refusal, wanted) if each]
    assert refused == []
    print(
        f"{len(every)} combinations, {len(machine.seen)} programs in {len(wanted)} loads,"
        f" {time.monotonic() - begin:.0f} s"
    )
    values = {(name, repr(value)) for settings in every for name, value in settings.items()}
    pinned = len(FEATURES) + 2 * (TOGETHER == "all")
    absent = len(stages.BACKENDS) - len(machine.backends)
    assert len(values) >= sum(map(len, SETTINGS.values())) - pinned - absent


def test_what_was_loaded_can_be_attached(machine):
    """The whole plan of each back end attaches with the most that can be asked for."""
    settings = {name: values[-1] for name, values in SETTINGS.items()}
    settings.update({name: int(getattr(machine.kernel, name)) for name in FEATURES})
    for backend in machine.backends:
        chosen = machine.configured({**settings, "backend": backend})[2]
        with machine.load({**settings, "backend": backend}) as loaded:
            links = machine.loader.attach(loaded, [*chosen.programs, machine.drops])
            assert {*chosen.programs} < set(links), backend
