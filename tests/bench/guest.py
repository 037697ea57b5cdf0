# SPDX-License-Identifier: GPL-2.0-only
"""In the guest: lets each contender watch the same work, and prints what its programs cost as JSON."""

from __future__ import annotations

import json
import os
import sys
from statistics import median
from typing import TYPE_CHECKING, Any

import contenders
import programs
from network import Veth
from work import WORK, FarEnd, Work

if TYPE_CHECKING:
    from contenders import Contender

    Result = dict[str, Any]

ROUNDS = 5


def main() -> None:
    names = sys.argv[1].split(",")
    programs.enable()
    with Veth(), FarEnd():
        results = {name: _contend(name) for name in names}
    result = {"kernel": os.uname().release, "contenders": results}
    with open(os.environ["ICMP_RTT_SHARE"] + "/result.json", "w") as file:
        json.dump(result, file)


def _contend(name: str) -> Result:
    make = contenders.CONTENDERS[name]
    try:
        result = _watch(name, make(False), {name: name for name in WORK})
        if name != "floor":
            result["work"] |= _watch(name, make(True), {"match": "match, stacks"})["work"]
    except contenders.Refused as refused:
        print(f"{name} refused: {refused}", flush=True)
        return {"refused": str(refused)}
    return result


def _watch(who: str, contender: Contender, wanted: dict[str, str]) -> Result:
    """Costs of the work, by the name that it is to have in the result."""
    work = {}
    with contender:
        names = programs.names()
        for name, label in wanted.items():
            print(f"{who}: {label}", flush=True)
            rounds = [_round(contender.pid, WORK[name]) for _ in range(ROUNDS)]
            work[label] = {
                "unit": WORK[name].unit,
                "units": [units for units, _ in rounds],
                "programs": [
                    {"name": names[number], **_per_unit(number, rounds)}
                    for number in sorted(rounds[0][1])
                ],
            }
    return {
        "work": work,
        "ready_ms": contender.ready_ms,
        "resident_kib": contender.resident_kib,
        "reports": contender.reports(),
    }


def _round(pid: int, work: Work) -> tuple[int, dict[int, programs.Cost]]:
    """How many units were done, and what each program cost for them."""
    before = programs.costs(pid)
    units = work.run()
    after = programs.costs(pid)
    return units, {number: after[number] - before[number] for number in before}


def _per_unit(number: int, rounds: list[tuple[int, dict[int, programs.Cost]]]) -> dict[str, float]:
    """Medians, so that a round in which something else ran inside a program does not count."""
    return {
        "time_ns": median(spent[number].run_time_ns / units for units, spent in rounds),
        "runs": median(spent[number].run_count / units for units, spent in rounds),
    }


if __name__ == "__main__":
    main()
