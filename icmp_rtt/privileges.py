# SPDX-License-Identifier: GPL-2.0-only
"""What a run is allowed to do: looked at before it starts, given up once probes are attached."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from icmp_rtt.errors import LibbpfError, RequirementError
from icmp_rtt.kernel.capabilities import BPF, KILL, PERFMON, SYS_ADMIN, forgo_new, held, keep

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("check_privileges", "give_up_privileges")


def check_privileges() -> None:
    """Refuse early, and in plain words, what the kernel would refuse with EPERM.

    Raises:
        RequirementError: CAP_BPF or CAP_PERFMON is missing (CAP_SYS_ADMIN has both).
    """
    have = held()
    names = {BPF: "CAP_BPF", PERFMON: "CAP_PERFMON"}
    missing = [name for number, name in names.items() if number not in have]
    if missing and SYS_ADMIN not in have:
        raise RequirementError(
            f"{' and '.join(missing)} missing: run as root, or give the process"
            " CAP_BPF, CAP_PERFMON and CAP_SYSLOG"
        )


def give_up_privileges(read: Callable[[], object], command: bool) -> None:
    """Give up, for good, every capability that an attached tracer takes no longer.

    Before c8644cd0efe7 ("bpf: refine kernel.unprivileged_bpf_disabled behaviour"),
    v5.19, each look into a map takes CAP_BPF, if that sysctl is set: ``read``
    shows whether it does.

    Args:
        read: looks into a map.
        command: a command was started, perhaps as another user: CAP_KILL to end it stays.

    Raises:
        LibbpfError: ``read`` does not even work with all of them.
        OSError: the kernel does not let us.
    """
    have = held()
    kept = frozenset((KILL,)) & have if command else frozenset[int]()
    for spared in (frozenset[int](), frozenset((BPF,)) & have, have):
        keep(kept | spared, permitted=have)
        try:
            read()
        except LibbpfError as error:
            if error.errno != errno.EPERM or spared == have:
                raise
        else:
            break
    keep(kept | spared, permitted=kept | spared)
    forgo_new()
