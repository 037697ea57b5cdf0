# SPDX-License-Identifier: GPL-2.0-only
"""The choice of probes, from what was recorded of stock kernels and from what others may lack."""

import json
from pathlib import Path

import pytest

from icmp_rtt.plan import Facts, choose, silent, to_try

# What the survey found in guests with these kernels.
KERNELS = json.loads((Path(__file__).parent / "data" / "kernels.json").read_text())
EVERY = frozenset(name for facts in KERNELS.values() for name in facts["functions"])
BOTH = (4, 6)


def labels(plan, family):
    """What stands for each of the six stages."""
    return [
        "+".join(probe.label for probe in plan.probes[family, hook]) or None for hook in range(6)
    ]


def recorded(kernel, backend, **more):
    """Facts of one of the stock kernels, after its self-test."""
    facts = KERNELS[kernel]
    return Facts(frozenset(facts["functions"]), {}, frozenset(facts["silent"][backend]), **more)


@pytest.mark.parametrize("kernel", KERNELS)
def test_fentry_on_stock_kernels(kernel):
    """All six stages, the first by the exit of what ip_send_skb was inlined into."""
    plan = choose("fentry", BOTH, recorded(kernel, "fentry"))
    assert labels(plan, 4) == [
        "fexit:__ip_make_skb",
        "fentry:__ip_local_out",
        "fentry:__dev_queue_xmit",
        "tp_btf:netif_receive_skb",
        "fentry:ip_rcv+fentry:ip_list_rcv",
        "fentry:icmp_rcv",
    ]
    assert labels(plan, 6) == [
        "fentry:ip6_send_skb",
        "fentry:__ip6_local_out",
        "fentry:__dev_queue_xmit",
        "tp_btf:netif_receive_skb",
        "fentry:ipv6_rcv+fentry:ipv6_list_rcv",
        "fentry:icmpv6_rcv",
    ]
    assert plan.complete and plan.useful and plan.own
    assert plan.notes == ("fentry:ip_send_skb: attached, but did not fire",)


@pytest.mark.parametrize("kernel", KERNELS)
def test_kprobe_on_stock_kernels(kernel):
    """The same functions, by kprobes."""
    plan = choose("kprobe", BOTH, recorded(kernel, "kprobe"))
    by_fentry = choose("fentry", BOTH, recorded(kernel, "fentry"))
    for family in BOTH:
        assert [
            each.replace("kret", "f").replace("kprobe", "fentry").replace("fprobe", "fexit")
            for each in labels(plan, family)
        ] == labels(by_fentry, family)


def test_why_a_function_is_not_there_is_not_made_up():
    """Where names cannot be looked up, it is not said that the kernel lacks them."""
    facts = Facts(frozenset(), absent="nowhere to look")
    notes = choose("fentry", (4,), facts).notes
    assert "fentry:ip_send_skb: nowhere to look" in notes
    assert not [note for note in notes if "no function" in note]


def test_a_doubtful_function_is_tried_with_what_would_take_its_place():
    """One load shows which of the two sees anything."""
    facts = Facts(EVERY)
    plan = choose("fentry", (4,), facts)
    assert labels(plan, 4)[0] == "fentry:ip_send_skb"
    tried = [probe.label for probe in to_try(plan, facts)]
    assert tried[:3] == ["fentry:ip_send_skb", "fexit:__ip_make_skb", "fentry:__ip_local_out"]
    assert not {"fentry:ip_local_out", "fentry:dev_queue_xmit"} & set(tried)


def test_a_doubtful_function_that_fires_is_taken():
    """Where the compiler kept ip_send_skb it is the stage's own place."""
    plan = choose("fentry", (4,), Facts(EVERY, silent=frozenset()))
    assert labels(plan, 4)[0] == "fentry:ip_send_skb"


def test_without_a_self_test_nothing_doubtful_is_taken():
    """Attached isn't fired: what is known to be inlined is left out, and that is said."""
    plan = choose("fentry", (4,), Facts(EVERY, tried=False))
    assert labels(plan, 4)[0] == "fexit:__ip_make_skb"
    assert "not tried" in plan.notes[0]


def test_what_is_missing_or_refused_makes_room_for_the_next():
    """Each alternative of the device's stage in turn, then none."""
    facts = Facts(EVERY - {"__dev_queue_xmit"})
    assert labels(choose("fentry", (4,), facts), 4)[2] == "fentry:dev_queue_xmit"
    facts = facts.without("fentry__dev_queue_xmit", "device or resource busy (errno 16)")
    plan = choose("fentry", (4,), facts)
    assert labels(plan, 4)[2] == "tp_btf:net_dev_queue"
    assert "fentry:dev_queue_xmit: refused: device or resource busy (errno 16)" in plan.notes
    facts = facts.without("tp_btf__net_dev_queue", "no")
    assert labels(choose("fentry", (4,), facts), 4)[2] == "raw_tp:net_dev_queue"
    plan = choose("fentry", (4,), facts.without("raw_tp__net_dev_queue", "no"))
    assert labels(plan, 4)[2] is None
    assert plan.useful and not plan.complete


def test_a_plan_without_an_end_of_an_echo_is_of_no_use():
    """IPv6 would end where it arrives, IPv4 where ICMP gets it: there is but one such hook."""
    facts = Facts(EVERY - {"icmpv6_rcv"})
    for kind in ("tp_btf", "raw_tp"):
        facts = facts.without(f"{kind}__netif_receive_skb", "no")
    assert not choose("fentry", BOTH, facts).useful
    assert choose("fentry", (4,), facts).useful


def test_half_a_pair_is_no_stage():
    """ip_rcv without ip_list_rcv would miss what network cards receive."""
    plan = choose("fentry", (4,), Facts(EVERY - {"ip_list_rcv"}))
    assert labels(plan, 4)[4] is None


def test_tracepoints_alone():
    """The two stages of devices; the ends of an echo follow from what is covered."""
    plan = choose("tracepoint", BOTH, Facts(frozenset()))
    for family in BOTH:
        assert labels(plan, family) == [
            None,
            None,
            "tp_btf:net_dev_queue",
            "tp_btf:netif_receive_skb",
            None,
            None,
        ]
    assert (plan.tx_open, plan.rx_open, plan.tx_close) == (2, 3, 3)
    assert plan.useful and plan.own and not plan.complete
    assert not plan.delivers and not plan.awaits_icmp
    whole = choose("fentry", BOTH, Facts(EVERY))
    assert whole.delivers and whole.awaits_icmp
    mixed = choose("fentry", BOTH, Facts(EVERY - {"icmpv6_rcv"}))
    assert mixed.delivers and not mixed.awaits_icmp


def test_a_kernel_without_btf_has_six_stages_by_kprobe():
    """Nothing in that plan is of a kind that the kernel checks by its BTF."""
    facts = Facts(EVERY)
    for name in ("net_dev_queue", "netif_receive_skb"):
        facts = facts.without(f"tp_btf__{name}", "this kernel has no BTF of its own")
    plan = choose("kprobe", BOTH, facts)
    assert plan.complete
    assert labels(plan, 4)[3] == "raw_tp:netif_receive_skb"
    assert not [p for probes in plan.probes.values() for p in probes if p.needs_btf]


def test_the_ends_of_an_echo_with_all_stages():
    """What we are asked is ours once it is delivered; what we asked ends there."""
    plan = choose("fentry", BOTH, Facts(EVERY))
    assert (plan.tx_open, plan.rx_open, plan.tx_close) == (0, 5, 5)


def test_fentry_with_no_function_is_not_fentry():
    """Left with tracepoints alone the back end has nothing of its own."""
    plan = choose("fentry", BOTH, Facts(frozenset()))
    assert plan.useful and not plan.own


@pytest.mark.parametrize(
    ("fired", "expected"),
    [
        ({"ip_rcv", "icmp_rcv"}, frozenset()),
        ({"ip_list_rcv", "icmp_rcv"}, frozenset()),
        ({"icmp_rcv"}, frozenset({"fentry__ip_rcv", "fentry__ip_list_rcv"})),
        ({"ip_rcv"}, frozenset({"fentry__icmp_rcv"})),
    ],
)
def test_one_echo_passes_only_one_of_a_pair(fired, expected):
    """The twin of a probe that saw the echo isn't called silent."""
    plan = choose("fentry", (4,), Facts(EVERY))
    attached = [*plan.probes[4, 4], *plan.probes[4, 5]]
    assert silent(attached, fired) == expected
