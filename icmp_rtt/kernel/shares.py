# SPDX-License-Identifier: GPL-2.0-only
"""One object's programs, loaded by several threads: the kernel verifies as many at a time.

libbpf loads the programs of an object one after the other, and to verify them is half of a
start. So each thread has another object of the same file, with the maps of the first.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from icmp_rtt.background import Background

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from icmp_rtt.kernel.bpfobject import Object

__all__ = ("load_shares",)


def load_shares(
    obj: Object, shares: Sequence[Sequence[str]], open_another: Callable[[], Object]
) -> None:
    """Load programs for an object that is itself loaded without them.

    Args:
        shares: names of programs; a thread for each share of them.
        open_another: opens the file of ``obj`` once more.

    Raises:
        LibbpfError: one was refused; the object is to be closed then.
    """
    begun: list[Background[Object]] = []
    try:
        for share in shares:
            begun.append(Background(partial(_load, obj, share, open_another), "load"))
        for each in begun:
            each.wait()
    finally:  # interrupted: they are still at work with the maps
        for each in begun:
            each.wait()
    failures = []
    for share, each in zip(shares, begun):
        try:
            obj.take_in(each.result(), share)
        except Exception as error:  # noqa: BLE001 - raised when all are taken in
            failures.append(error)
    for failure in failures:
        raise failure


def _load(obj: Object, programs: Sequence[str], open_another: Callable[[], Object]) -> Object:
    another = open_another()
    try:
        another.use_maps_of(obj)
        for name in programs:
            another.programs[name].set_autoload(True)
        another.load()
    except BaseException:
        another.close()
        raise
    return another
