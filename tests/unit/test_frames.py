# SPDX-License-Identifier: GPL-2.0-only
"""Stacks begin at the probed function: nothing of the tracer's own is shown."""

import pytest
from samples import symbols

from icmp_rtt.model import Stack
from icmp_rtt.report.frames import function_of, shown_frames, stack_lines

OUT = ["ip_push_pending_frames+0x7f/0x90", "raw_sendmsg+0x6a1/0xd40", "do_syscall_64+0x5b/0xc0"]


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("ip_rcv+0x1", "ip_rcv"),
        ("ip_rcv+0x1/0x90 [mod]", "ip_rcv"),
        ("ip_rcv [mod]", "ip_rcv"),
        ("__netif_receive_skb_core.constprop.0+0x12", "__netif_receive_skb_core"),
        ("icmp_reply.part.0.cold+0x12", "icmp_reply"),
        ("0xffffffffc0401234", ""),
    ],
)
def test_function_of(name, function):
    """A frame's function is told without offset, module and the compiler's suffixes."""
    assert function_of(name) == function


@pytest.mark.parametrize(
    ("probe", "own", "first"),
    [
        (
            "fentry:__ip_local_out",
            ["bpf_prog_5a_fentry____ip_local_out+0x12", "bpf_trampoline_6442+0x44"],
            "__ip_local_out+0x5",
        ),
        (
            "fentry:__ip_local_out",
            ["bpf_prog_5a_fentry____ip_local_out+0x12", "0xffffffffc0401044"],
            "__ip_local_out+0x5",
        ),
        ("fexit:__ip_make_skb", ["bpf_prog_11_x+0x9", "bpf_trampoline_6+0x4"], "__ip_make_skb+0x5"),
        ("kprobe:ip_rcv", [], "ip_rcv+0x1"),
        (
            "kprobe:ip_rcv",
            ["something_new+0x1", "kprobe_ftrace_handler+0x9", "0xffffffffc0401044"],
            "ip_rcv+0x5",
        ),
        ("kprobe:icmp_rcv", ["bpf_prog_1_k+0x1", "trace_call_bpf+0x33"], "icmp_rcv.isra.0+0x1"),
        (
            "kretprobe:__ip_make_skb",
            ["kretprobe_dispatcher+0x1", "arch_rethook_trampoline_callback+0x3"],
            "ip_push_pending_frames+0x20",
        ),
        (
            "tp_btf:netif_receive_skb",
            ["bpf_prog_7_tp+0x55", "bpf_trace_run1+0x60", "__bpf_trace_sk_buff+0x9"],
            "__netif_receive_skb_core.constprop.0+0x5f",
        ),
        (
            "tp_btf:net_dev_queue",
            ["bpf_prog_7_tp+0x55", "bpf_trace_run1+0x60", "__traceiter_net_dev_queue+0x40"],
            "__dev_queue_xmit+0x2aa",
        ),
    ],
)
def test_own_frames_are_left_out(probe, own, first):
    """What lies between the probed place and the walk of the stack is not shown."""
    kind, _, function = probe.partition(":")
    returned = [f"{function}+0x0"] if kind == "kretprobe" else []
    assert shown_frames([*own, first, *OUT], probe) == [*returned, first, *OUT]


def test_deeper_frame_of_that_name_is_not_the_beginning():
    """Where the probed function has left the stack, one further out belongs to another packet."""
    names = ["bpf_prog_1+0x1", "icmp_push_reply+0x1", "icmp_rcv+0x1", "__ip_make_skb+0x30", *OUT]
    shown = shown_frames(names, "kretprobe:__ip_make_skb")
    assert shown == ["__ip_make_skb+0x0", *names[1:]]


def test_nothing_but_own_frames():
    """A stack that holds nothing else shows nothing, rather than the tracer's own frames."""
    assert shown_frames(["bpf_prog_1+0x1", "0xffffffffc0401044"], "fentry:ip_rcv") == []
    assert shown_frames([], "fentry:ip_rcv") == []


@pytest.mark.parametrize(
    ("stack", "known", "problem", "expected"),
    [
        (Stack((1, 2), None), {1: "ip_rcv+0x1", 2: "b+0x2"}, None, (["ip_rcv+0x1", "b+0x2"], None)),
        (Stack((), "bad address"), {}, None, ([], "bad address")),
        (Stack((1,), None), {}, "no CAP_SYSLOG", ([], "no CAP_SYSLOG")),
        (Stack((1,), None), {}, None, ([], "it holds no frame but the tracer's own")),
    ],
)
def test_stack_or_reason(stack, known, problem, expected):
    """A stack that cannot be had says why."""
    assert stack_lines(stack, "kprobe:ip_rcv", symbols(known, problem)) == expected


def test_first_address_is_exact_and_the_others_return():
    """The probe sits at the first address; the others lie behind a call."""
    known = symbols()
    known.name, known.frame = "at {}".format, "before {}".format
    lines, problem = stack_lines(Stack((1, 2, 3), None), "kprobe:ip_rcv", known)
    assert (lines, problem) == (["at 1", "before 2", "before 3"], None)
