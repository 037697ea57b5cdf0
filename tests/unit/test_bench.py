# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark's arithmetic and verdicts."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import btscript
import figures
import table


def _program(name, time_ns, runs):
    return {"name": name, "time_ns": time_ns, "runs": runs}


def _contender(**changes):
    echo = [
        _program("fexit____ip_make_skb", 2000.0, 2.0),
        _program("fentry__icmp_rcv", 1800.0, 2.0),
    ]
    # Every other packet is merged on its way out.
    tcp = [
        _program("fentry____ip_local_out", 45.0, 0.5),
        _program("fentry____dev_queue_xmit", 50.0, 0.5),
        _program("tp_btf__netif_receive_skb", 130.0, 1.0),
        _program("fentry__ip_rcv", 100.0, 1.0),
        _program("tp_btf__kfree_skb", 1.0, 0.01),
    ]
    work = {"match": echo, "other": echo, "tcp": tcp, "udp": tcp}
    return {
        "work": {name: {"units": [1000], "unit": "x", "programs": p} for name, p in work.items()},
        "ready_ms": 250,
        "reports": 1000,
        "resident_kib": 30 << 10,
        **changes,
    }


def _figure(title):
    return next(figure for figure in figures.FIGURES if figure.title == title)


@pytest.mark.parametrize(
    ("title", "value"),
    [
        ("matching echo", 3800),
        ("  with stacks", None),
        ("TCP packet out", 190),
        ("TCP packet in", 231),
        ("resident memory, MiB", 30),
    ],
)
def test_figures(title, value):
    """Costs are sums over programs, per packet that passed them."""
    assert _figure(title).of(_contender()) == value


def test_goals_are_for_their_kernel():
    """The newer kernel has a goal of its own."""
    figure = _figure("TCP packet in")
    assert [figure.goal(kernel) for kernel in ("6.1.0-56", "7.2.1", "6.12.1")] == [280, 200, None]


@pytest.mark.parametrize("changes", [{"reports": 999}, {"reports": None}])
def test_a_cost_of_nothing_meets_no_goal(changes):
    """Where echoes were not reported, or no program ran, nothing was measured."""
    idle = {name: {**each, "programs": []} for name, each in _contender()["work"].items()}
    for judged in (_contender(**changes), _contender(work=idle)):
        text = table.kernel({"kernel": "6.1.0-56-amd64", "contenders": {"fentry": judged}})
        assert text.count("NOT MEASURED") == 4
        assert ": met" not in text


def test_table_tells_what_was_missed_and_refused():
    """Each goal has its verdict, and who could not start says why."""
    text = table.kernel(
        {
            "kernel": "6.1.0-56-amd64",
            "contenders": {"fentry": _contender(), "bpftrace-fentry": {"refused": "no BTF"}},
        }
    )
    rows = {line.partition("  ")[0]: line for line in text.splitlines()}
    assert rows["matching echo"].endswith("4,200 or less: met")
    assert rows["echo to another address"].endswith("1,700 or less: MISSED")
    assert "refused" in rows["TCP packet in"]
    assert "bpftrace-fentry refused: no BTF" in text


def test_script_matches_both_ways():
    """Requests are told by their source and target, replies by the reverse."""
    text = btscript.script("kprobe", "10.77.0.1", "10.77.0.2", stacks=False)
    assert text.count("$ip->saddr == 16796938 && $ip->daddr == 33574154") == 3
    assert text.count("$ip->saddr == 33574154 && $ip->daddr == 16796938") == 3
    assert "stack" not in text
