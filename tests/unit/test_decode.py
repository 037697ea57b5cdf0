# SPDX-License-Identifier: GPL-2.0-only
"""Records become echoes, by the layout of whoever made them."""

import random
import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from abi import HEADER, Abi
from samples import (
    ABI,
    BASE_NS,
    LABELS,
    NAMES,
    RX_SKB,
    TIMES_NS,
    TX_SKB,
    decoder,
    number,
    record,
    words,
)

from icmp_rtt import decode as decode_module
from icmp_rtt.decode import Decoder
from icmp_rtt.errors import DecodeError, ObjectError
from icmp_rtt.model import Drop, Echo, IcmpErrorSeen, Side, Stack, Stamp

HEADER_TEXT = HEADER.read_text()
OPEN = number("OUTCOME_OPEN")


def decode(**how):
    """The echo of a record: see ``samples.record``."""
    return decoder(how.get("stacks", False)).echo(record(**how))


def test_complete_tx():
    """All of a record of an echo that this host sent is in the echo."""
    probes = [LABELS[name] for name in list(LABELS)[:5]] + ["fentry:icmp_rcv"]
    skbs = [TX_SKB] * 3 + [RX_SKB] * 3
    stamps = tuple(
        Stamp(i, 1 + i // 3, NAMES[4][i], probes[i], BASE_NS + TIMES_NS[i], i % 2, skbs[i], None)
        for i in range(6)
    )
    assert decode() == Echo(
        family=4,
        direction="tx",
        local=IPv4Address("192.168.1.10"),
        remote=IPv4Address("192.168.1.20"),
        id=1234,
        seq=1,
        netns=4026531840,
        outcome="complete",
        reason=None,
        request=Side(5678, b"ping", b"eth0", 2, 8),
        reply=Side(0, b"swapper/0", b"eth0", 2, 0),
        stamps=stamps,
        drop=None,
        icmp_error=None,
        names=NAMES[4],
    )


def test_complete_rx():
    """In an echo that this host answers, the receive side is path 1."""
    echo = decode(direction="rx")
    assert echo.direction == "rx"
    assert echo.names == NAMES[4][3:] + NAMES[4][:3]
    assert [stamp.name for stamp in echo.stamps] == list(echo.names)
    assert [stamp.stage for stamp in echo.stamps] == [0, 1, 2, 3, 4, 5]
    assert [stamp.path for stamp in echo.stamps] == [1, 1, 1, 2, 2, 2]
    assert (echo.request, echo.reply) == (
        Side(0, b"swapper/0", b"eth0", 2, 8),
        Side(5678, b"ping", b"eth0", 2, 0),
    )
    assert (echo.path1_ns, echo.rtt_ns) == (35_801, 1_048_491)


def test_ipv6():
    """An IPv6 echo has its own addresses, stage names and ICMP types."""
    local, remote = IPv6Address("fe80::1"), IPv6Address("2001:db8::ffff:1")
    echo = decode(family=6, local=local, remote=remote)
    assert (echo.family, echo.local, echo.remote) == (6, local, remote)
    assert echo.names == NAMES[6]
    assert (echo.request.icmp_type, echo.reply.icmp_type) == (128, 129)
    assert echo.stamps[4].probe == "fentry:ipv6_rcv"


@pytest.mark.parametrize("hooks", [(0,), (2, 3), (1, 2, 3, 4, 5), (3, 4), (0, 5)])
def test_stages_not_seen(hooks):
    """Stages that were not seen are not there, and neither is a path without any."""
    echo = decode(hooks=hooks)
    assert tuple(stamp.stage for stamp in echo.stamps) == hooks
    assert (echo.request is None) == all(hook > 2 for hook in hooks)
    assert (echo.reply is None) == all(hook < 3 for hook in hooks)


def test_probe_that_is_not_in_the_plan_keeps_its_name():
    """A function that the plan does not label is still named."""
    echo = decode(extra={"probe[2]": number("PROBE_net_dev_queue")})
    assert echo.stamps[2].probe == "net_dev_queue"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"outcome": OPEN}, "no reply"),
        ({"outcome": OPEN, "direction": "rx"}, "no reply sent"),
        ({"outcome": OPEN, "drop_side": 1}, "dropped"),
        ({"outcome": OPEN, "error_ts_ns": 9}, "icmp error"),
        ({"outcome": OPEN, "error_ts_ns": 9, "drop_side": 2}, "icmp error"),
        ({"outcome": number("OUTCOME_RESTARTED")}, "restarted"),
        ({"outcome": number("OUTCOME_RESTARTED"), "error_ts_ns": 9}, "icmp error"),
        ({"outcome": number("OUTCOME_RESTARTED"), "drop_side": 1}, "dropped"),
    ],
)
def test_reasons(how, reason):
    """Each way not to complete has its reason, and the most telling one wins."""
    echo = decode(hooks=(0, 1, 2, 3, 4), **how)
    assert (echo.outcome, echo.reason, echo.rtt_ns) == ("incomplete", reason, None)


def test_complete_has_no_reason():
    """A reply that came back in spite of a drop or an error is a reply."""
    echo = decode(drop_side=1, error_ts_ns=9)
    assert (echo.outcome, echo.reason) == ("complete", None)


def test_ambiguous_reply():
    """Whose reply it is is not known, so neither is anything that spans both paths."""
    echo = decode(outcome=number("OUTCOME_AMBIGUOUS"))
    assert (echo.outcome, echo.reason, echo.ambiguous) == ("complete", None, True)
    assert (echo.rtt_ns, echo.inter_path_ns) == (None, None)
    assert None not in (echo.path1_ns, echo.path2_ns)


def test_reordered():
    """Of two requests that cross, the one that is sent first and answered last is told."""
    decode_next, base, order = decoder().echo, BASE_NS + 1_000_000_000, []
    for seq, sent_ns, answered_ns in ((2, 10, 20), (1, 5, 30), (0, 1, 15), (3, 40, 50)):
        times = {"ts_ns[0]": base + sent_ns, "ts_ns[5]": base + answered_ns}
        order.append(decode_next(record(hooks=(0, 5), seq=seq, extra=times)).reordered)
    assert order == [False, True, False, False]
    late = {"ts_ns[0]": base + 2, "ts_ns[5]": base + 60}
    assert not decode_next(record(hooks=(0, 5), id=9, extra=late)).reordered
    assert decode_next(record(hooks=(0, 5), extra=late)).reordered


@pytest.mark.parametrize("outcome", ["duplicate", "late"])
def test_further_reply(outcome):
    """A reply to an echo that was reported has its own time, and no request."""
    echo = decode(hooks=(5,), outcome=number(f"OUTCOME_{outcome.upper()}"))
    assert (echo.outcome, echo.reason, echo.request, echo.rtt_ns) == (outcome, None, None, None)


@pytest.mark.parametrize(
    ("direction", "side", "hook", "path", "stage"),
    [
        ("tx", 1, 1, 1, 1),
        ("tx", 2, 4, 2, 4),
        ("rx", 1, 1, 2, 4),
        ("rx", 2, 4, 1, 1),
        ("tx", 1, 5, 1, None),
        ("tx", 1, 255, 1, None),
    ],
)
def test_drop(direction, side, hook, path, stage):
    """A drop is told by path and by the last stage that had seen the packet, if any."""
    dropped = {"drop_reason": 8, "drop_ip": 99, "drop_ts_ns": 7, "drop_side": side}
    echo = decode(
        hooks=(0, 1, 2, 3, 4), direction=direction, outcome=OPEN, drop_hook=hook, **dropped
    )
    assert echo.drop == Drop(8, 99, 7, path, stage)


def test_icmp_error():
    """An ICMP error has its type, code, sender and time."""
    sender = IPv4Address("10.0.0.254")
    extra = {f"error_from[{i}]": word for i, word in enumerate(words(sender))}
    echo = decode(outcome=OPEN, error_type=3, error_code=1, error_ts_ns=77, extra=extra)
    assert echo.icmp_error == IcmpErrorSeen(3, 1, sender, 77)


def test_stacks():
    """Each stage has its own stack, cut to its length, or the reason why it has none."""
    extra = {
        "stack_bytes[0]": 16,
        "stack[0][0]": 0xFFFFFFFF81000001,
        "stack[0][1]": 2,
        "stack[0][2]": 3,
        "stack_bytes[1]": -14,
        "stack_bytes[2]": 32 * 8,
        "stack[2][31]": 5,
    }
    stamps = decode(stacks=True, hooks=(0, 1, 2, 3), extra=extra).stamps
    assert stamps[0].stack == Stack((0xFFFFFFFF81000001, 2), None)
    assert stamps[1].stack == Stack((), "bad address")
    assert stamps[2].stack == Stack((0,) * 31 + (5,), None)
    assert stamps[3].stack == Stack((), "none was recorded")


def test_names_end_at_their_padding():
    """A name ends at its first zero byte, or fills its place."""
    extra = {"side[0].comm": b"a\0rest", "side[1].comm": b"x" * 16}
    echo = decode(extra=extra)
    assert (echo.request.comm, echo.reply.comm) == (b"a", b"x" * 16)


def test_layout_has_one_owner():
    """Members and numbers may lie elsewhere: what counts is what the object says."""
    text = HEADER_TEXT
    for old, new in (
        ("__u64 ts_ns[HOOK_COUNT];", "__u8 new;\n\t__u64 ts_ns[HOOK_COUNT];"),
        ("\t__u16 seq; /* host byte order */\n", ""),
        ("__u64 drop_ip;", "__u16 seq;\n\t__u64 drop_ip;"),
        ("char comm[", "__u32 uid;\n\tchar comm["),
        ("OUTCOME_OPEN,", "OUTCOME_OPEN = 5,"),
        ("PROBE_none,", "PROBE_none = 40,"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    other = Abi(text)
    layouts = [abi.struct("icmp_rtt_event") for abi in (ABI, other)]
    assert layouts[0].size != layouts[1].size
    extra = {
        "outcome": other.constants["OUTCOME_COMPLETE"],
        **{f"probe[{hook}]": other.constants["PROBE_ip_rcv"] for hook in range(6)},
    }
    echo = decoder(abi=other).echo(record(abi=other, extra=extra))
    expected = decode(extra={f"probe[{hook}]": number("PROBE_ip_rcv") for hook in range(6)})
    assert echo == expected


@pytest.mark.parametrize("stacks", [False, True])
def test_wrong_size(stacks):
    """A record of another size is refused."""
    whole = record(stacks=stacks)
    for wrong in (b"", whole[:-1], whole + b"\0", record(stacks=not stacks)):
        with pytest.raises(DecodeError, match=f"{len(wrong)} bytes instead of {len(whole)}"):
            decoder(stacks).echo(wrong)


@pytest.mark.parametrize(
    "bad",
    [
        {"family": 3},
        {"direction": 3},
        {"outcome": 200},
        {"drop_side": 3},
        {"probe[1]": 0},
        {"probe[1]": 250},
        {f"ts_ns[{hook}]": 0 for hook in range(6)},
        {"stack_bytes[0]": 7},
        {"stack_bytes[0]": 33 * 8},
    ],
    ids=str,
)
def test_impossible_records(bad):
    """Numbers that the kernel side never writes are refused, not guessed at."""
    with pytest.raises(DecodeError):
        decode(stacks=True, extra=bad)


def test_any_bytes():
    """Any bytes give an echo or a DecodeError."""
    source = random.Random(23)
    reader, size = decoder(stacks=True), len(record(stacks=True))
    sound = record(stacks=True)
    layout = ABI.struct("icmp_rtt_event").fields
    found = {Echo: 0, DecodeError: 0}
    for _ in range(400):
        data = bytearray(sound if source.random() < 0.7 else source.randbytes(size))
        for _ in range(source.randrange(1, 12)):
            data[source.randrange(layout["stack"].offset + 8)] = source.randrange(256)
        try:
            found[type(reader.echo(bytes(data)))] += 1
        except DecodeError:
            found[DecodeError] += 1
    assert min(found.values()) > 20


def test_worst_errno():
    """Even an errno that there is none of is no reason to fail."""
    least = struct.unpack("<i", b"\0\0\0\x80")[0]
    stamps = decode(stacks=True, extra={"stack_bytes[0]": least}).stamps
    assert stamps[0].stack.addresses == ()
    assert stamps[0].stack.error


def test_many_addresses_and_tasks(monkeypatch):
    """What is kept of addresses and tasks is bounded, and stays right."""
    monkeypatch.setattr(decode_module, "_KEPT", 16)
    reader = decoder()
    for i in range(50):
        remote = IPv4Address(0x0A000000 + i)
        echo = reader.echo(record(remote=remote, extra={"side[0].pid": i}))
        assert (echo.remote, echo.request.pid) == (remote, i)
    assert 0 < len(reader._addresses) <= 16
    assert 0 < len(reader._sides) <= 16


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("__u64 drop_ip;", "__u64 dropped_ip;", "drop_ip"),
        ("OUTCOME_RESTARTED,", "OUTCOME_AGAIN,", "OUTCOME_RESTARTED"),
        ("\tHOOK_SEND,\n\tHOOK_LOCAL_OUT,", "\tHOOK_LOCAL_OUT,\n\tHOOK_SEND,", "SEND, LOCAL_OUT"),
        ("struct icmp_rtt_side side[", "__u64 side[", "side"),
        ("side[SIDE_COUNT]", "side[1]", "another shape"),
        ("SIDE_RECEIVE,\n\tSIDE_COUNT,", "SIDE_RECEIVE = 7,\n\tSIDE_COUNT = 2,", "sides"),
        ("__u32 error_from[4];", "__u32 error_from[2];", "another shape"),
        ("__u16 cpu[HOOK_COUNT];", "__u16 cpu[5];", "another shape"),
        ("\t__u32 netns;", "\tchar netns[4];", "another shape"),
        ("__u64 stack[HOOK_COUNT]", "__u64 stack[7]", "another shape"),
    ],
)
def test_object_that_does_not_fit(old, new, word):
    """An object that lacks what is needed is refused, by name."""
    assert old in HEADER_TEXT
    with pytest.raises(ObjectError, match=word):
        Decoder(Abi(HEADER_TEXT.replace(old, new)), NAMES, LABELS, False)
