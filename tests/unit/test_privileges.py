# SPDX-License-Identifier: GPL-2.0-only
"""What a run may do is checked in plain words, and given up when it is needed no longer."""

import errno
import os

import pytest

from icmp_rtt import privileges
from icmp_rtt.errors import LibbpfError, RequirementError
from icmp_rtt.kernel import capabilities
from icmp_rtt.kernel.capabilities import BPF, KILL, PERFMON, SYS_ADMIN

EVERY = frozenset(range(41))
NONE = frozenset()


class Process:
    """Capabilities of a process, and a kernel that asks for ``asked`` in each look into a map."""

    def __init__(self, monkeypatch, held, asked=NONE):
        self.effective = self.permitted = frozenset(held)
        self.asked, self.new_ones = asked, True
        monkeypatch.setattr(privileges, "held", lambda: self.effective)
        monkeypatch.setattr(privileges, "keep", self.keep)
        monkeypatch.setattr(privileges, "forgo_new", self.forgo_new)

    def keep(self, effective, permitted):
        assert effective <= permitted <= self.permitted
        self.effective, self.permitted = effective, permitted

    def forgo_new(self):
        self.new_ones = False

    def read(self):
        if self.asked and not self.asked & self.effective:
            raise LibbpfError("bpf_map_lookup_elem", errno.EPERM)


@pytest.mark.parametrize(
    ("held", "asked", "command", "kept"),
    [
        (EVERY, NONE, False, NONE),
        (EVERY, NONE, True, {KILL}),
        (EVERY, {BPF, SYS_ADMIN}, False, {BPF}),
        (EVERY, {BPF, SYS_ADMIN}, True, {BPF, KILL}),
        ({BPF, PERFMON}, NONE, True, NONE),
        ({BPF, PERFMON}, {BPF, SYS_ADMIN}, False, {BPF}),
        ({SYS_ADMIN}, {BPF, SYS_ADMIN}, False, {SYS_ADMIN}),
    ],
)
def test_what_is_kept(monkeypatch, held, asked, command, kept):
    """No more than this kernel asks for, and what it takes to end a command."""
    process = Process(monkeypatch, held, asked)
    privileges.give_up_privileges(process.read, command)
    assert (process.effective, process.permitted) == (kept, kept)
    assert not process.new_ones


def test_what_cannot_be_read_at_all_is_an_error(monkeypatch):
    """A map that is out of reach with all capabilities is not taken for one that is in reach."""
    process = Process(monkeypatch, {PERFMON}, {BPF})
    with pytest.raises(LibbpfError):
        privileges.give_up_privileges(process.read, False)


@pytest.mark.parametrize(
    ("held", "missing"),
    [
        (NONE, "CAP_BPF and CAP_PERFMON missing"),
        ({BPF}, "CAP_PERFMON missing"),
        ({PERFMON, KILL}, "CAP_BPF missing"),
        ({BPF, PERFMON}, None),
        ({SYS_ADMIN}, None),
    ],
)
def test_what_is_missing_is_named(monkeypatch, held, missing):
    """The error says which capability, and what to do."""
    Process(monkeypatch, held)
    if missing is None:
        privileges.check_privileges()
    else:
        with pytest.raises(RequirementError, match=f"^{missing}: run as root, or give"):
            privileges.check_privileges()


def test_the_kernel_is_told():
    """A process without any capability may not have them again; the rest goes on as before."""
    pid = os.fork()
    if pid == 0:
        capabilities.keep(NONE, NONE)
        capabilities.forgo_new()
        status = open("/proc/self/status").read().split()
        fields = dict(zip(status, status[1:]))
        gone = [int(fields[name], 16) for name in ("CapPrm:", "CapEff:", "CapAmb:")]
        try:
            capabilities.keep(frozenset((KILL,)), frozenset((KILL,)))
        except OSError as error:
            gone.append(error.errno)
        held = capabilities.held()
        right = (gone, fields["NoNewPrivs:"], held) == ([0, 0, 0, errno.EPERM], "1", NONE)
        os._exit(0 if right else 1)
    assert os.waitpid(pid, 0)[1] == 0
