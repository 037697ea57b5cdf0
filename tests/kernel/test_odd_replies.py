# SPDX-License-Identifier: GPL-2.0-only
"""Replies that come late, twice, out of order, or to a key that is used again: no wrong RTT."""

import os

import pytest
from conftest import LOCAL, PEER, assert_identities, sh
from live import Live, TwoEnds

pytestmark = [pytest.mark.guest, pytest.mark.extended]
ONE, OTHER = b"the one ", b"another!"
# Ids, one for each case.
TWICE, SWAPPED, LATE, AGAIN, RESTARTED, ALIKE, REUSED, REUSED_ALIKE, WRAP, CUT = range(100, 110)
AFTER, REFUSED, REFUSED_EARLIER = range(110, 113)
WRAPPING = [*range(65530, 65536), *range(6)]


@pytest.fixture(scope="module")
def seen(veth):
    """All cases in one run of the tool: its run, and what was asked, by case."""
    asked = {}
    # Longer than any pause between asking and answering, where there is an answer.
    where = ("--src-ip", LOCAL, "--dst-ip", PEER, "--timeout", "5")
    quick = ("--backend", "fentry", "--disable-kernel-stacks")
    with TwoEnds() as ends:
        live = Live(*where, *quick)
        with live:
            asked[AFTER] = [ends.ask(AFTER, 1, ONE)]
            ends.answer(asked[AFTER][0])
            lost = {id_: ends.ask(id_, 1, ONE) for id_ in (LATE, REUSED, REUSED_ALIKE)}
            asked[AFTER].append(ends.ask(AFTER, 1, OTHER))

            for id_ in (REFUSED, REFUSED_EARLIER):
                asked[id_] = [ends.ask(id_, 1, payload) for payload in (ONE, OTHER)]
            ends.refuse(asked[REFUSED][1])
            ends.refuse(asked[REFUSED_EARLIER][0])

            asked[TWICE] = [ends.ask(TWICE, 1, ONE)]
            for _ in range(3):
                ends.answer(asked[TWICE][0])

            asked[SWAPPED] = [ends.ask(SWAPPED, seq, ONE) for seq in (1, 2)]
            for each in reversed(asked[SWAPPED]):
                ends.answer(each)

            asked[AGAIN] = [ends.ask(AGAIN, 1, ONE)]
            ends.answer(asked[AGAIN][0])
            asked[AGAIN].append(ends.ask(AGAIN, 1, OTHER))
            ends.answer(asked[AGAIN][0])  # once more, while the second is under way
            ends.answer(asked[AGAIN][1])

            asked[CUT] = []
            for payload in (ONE, OTHER):
                asked[CUT].append(ends.ask(CUT, 1, payload))
                ends.answer(asked[CUT][-1], payload[:4])

            asked[RESTARTED] = [ends.ask(RESTARTED, 1, payload) for payload in (ONE, OTHER)]
            for each in asked[RESTARTED]:
                ends.answer(each)

            asked[ALIKE] = [ends.ask(ALIKE, 1, ONE) for _ in range(2)]
            ends.answer(asked[ALIKE][0])

            asked[WRAP] = []
            for seq in WRAPPING:
                asked[WRAP].append(ends.ask(WRAP, seq, ONE))
                ends.answer(asked[WRAP][-1])

            for id_ in lost:
                asked[id_] = [lost[id_]]
                assert live.echo(id_, 1)["outcome"] == "incomplete"
            ends.answer(lost[LATE])
            assert live.echo(AFTER, 1)["outcome"] == "incomplete"
            ends.answer(asked[AFTER][1])

            asked[REUSED].append(ends.ask(REUSED, 1, OTHER))
            for each in asked[REUSED]:
                ends.answer(each)
            asked[REUSED_ALIKE].append(ends.ask(REUSED_ALIKE, 1, ONE))
            ends.answer(lost[REUSED_ALIKE])
            live.echo(REUSED_ALIKE, 1)
    print(live.run.stdout, live.run.stderr)
    assert live.run.status == 0, live.run.stderr
    return live.run, asked


def echoes(seen, id_):
    """What was reported with this id."""
    return [echo for echo in seen[0].echoes if echo["id"] == id_]


def assert_true(echo, asked):
    """A complete echo with six stages that took no less than it can have taken."""
    assert (echo["outcome"], echo["seq"]) == ("complete", asked.seq)
    assert [stage["stage"] for stage in echo["stages"]] == [0, 1, 2, 3, 4, 5]
    assert echo["rtt_ns"] >= asked.least_ns
    assert echo["path1_ns"] + echo["inter_path_ns"] + echo["path2_ns"] == echo["rtt_ns"]


def test_duplicates(seen):
    """The first reply counts; two more are no echoes."""
    (echo,) = echoes(seen, TWICE)
    assert_true(echo, seen[1][TWICE][0])


def test_reordered(seen):
    """Each reply finds its own request, and that which was overtaken says so."""
    found = {echo["seq"]: echo for echo in echoes(seen, SWAPPED)}
    assert sorted(found) == [1, 2]
    assert [echo["seq"] for echo in seen[0].echoes if "reordered" in echo] == [1]
    assert found[1]["reordered"] is True
    assert seen[0].counters["reordered_replies"] == 1
    for asked in seen[1][SWAPPED]:
        assert_true(found[asked.seq], asked)


def test_late(seen):
    """A reply after --timeout does not make the echo a complete one."""
    (echo,) = echoes(seen, LATE)
    assert (echo["outcome"], echo["reason"], echo["rtt_ns"]) == ("incomplete", "no reply", None)


def test_late_after_completion(seen):
    """The reply to a request that was given up is late, though one before it was answered."""
    first, second = echoes(seen, AFTER)
    assert_true(first, seen[1][AFTER][0])
    assert (second["outcome"], second["reason"]) == ("incomplete", "no reply")


def test_errors(seen):
    """One that quotes an earlier request of the same key says nothing of the one under way."""
    assert [echo["reason"] for echo in echoes(seen, REFUSED)] == ["restarted", "icmp error"]
    assert [echo["reason"] for echo in echoes(seen, REFUSED_EARLIER)] == ["restarted", "no reply"]
    assert seen[0].counters["icmp_errors"] == 1


def test_key_used_again_after_completion(seen):
    """A second reply to the first request is not taken for the reply to the second."""
    found = echoes(seen, AGAIN)
    assert len(found) == 2
    for echo, asked in zip(found, seen[1][AGAIN]):
        assert_true(echo, asked)


def test_replies_with_other_data(seen):
    """A reply that was cut short is a reply; where the key was used before, it may be that one's."""
    first, second = echoes(seen, CUT)
    assert_true(first, seen[1][CUT][0])
    assert (second["outcome"], second["ambiguous"], second["rtt_ns"]) == ("complete", True, None)


def test_key_used_again_while_under_way(seen):
    """The first ends unanswered; its reply is not taken for that to the second."""
    first, second = echoes(seen, RESTARTED)
    assert (first["outcome"], first["reason"]) == ("incomplete", "restarted")
    assert_true(second, seen[1][RESTARTED][1])


def test_same_message_again_while_under_way(seen):
    """Nobody can tell which of two like requests is answered: there is no round trip time."""
    first, second = echoes(seen, ALIKE)
    assert (first["outcome"], first["reason"]) == ("incomplete", "restarted")
    assert second["outcome"] == "complete"
    assert (second["rtt_ns"], second["inter_path_ns"]) == (None, None)
    assert second["path1_ns"] > 0 < second["path2_ns"]


def test_key_used_again_after_giving_up(seen):
    """The late reply to the first request is not taken for the reply to the second."""
    first, second = echoes(seen, REUSED)
    assert first["outcome"] == "incomplete"
    assert_true(second, seen[1][REUSED][1])


def test_same_message_again_after_giving_up(seen):
    """As while the first is under way."""
    first, second = echoes(seen, REUSED_ALIKE)
    assert first["outcome"] == "incomplete"
    assert (second["outcome"], second["rtt_ns"]) == ("complete", None)


def test_sequence_wraps(seen):
    """65535 is followed by 0."""
    found = echoes(seen, WRAP)
    assert [echo["seq"] for echo in found] == WRAPPING
    for echo, asked in zip(found, seen[1][WRAP]):
        assert_true(echo, asked)


def test_packets_at_the_same_address(veth):
    """Without stage 0 no packet is taken for an earlier one that had the same buffer."""
    where = ("--src-ip", LOCAL, "--dst-ip", PEER, "--disable-kernel-stacks")
    with TwoEnds() as ends:
        live = Live(*where, "--backend", "fentry", "--no-self-test")
        with live:
            for id_ in range(200, 206):
                asked = [ends.ask(id_, 1, payload) for payload in (ONE, OTHER)][-1]
                ends.answer(asked)
                assert live.echo(id_, 1)["reason"] == "restarted"
                second = live.echo(id_, 1)
                assert second["rtt_ns"] >= asked.least_ns
                assert [stage["stage"] for stage in second["stages"]][-4:] == [2, 3, 4, 5]
    assert live.run.counters["requests"] == 12
    assert_identities(live.run)


@pytest.fixture
def obstacle(veth):
    """Before ip_rcv sends elsewhere what comes in with TTL 60 and drops TTL 61; TTL 62 behind it."""
    sh(
        """
        ip link add irtsink type dummy; ip link set irtsink up
        tc qdisc add dev v0 clsact
        tc filter add dev v0 ingress protocol ip u32 match u8 60 0xff at 8 \
            action mirred egress redirect dev irtsink
        tc filter add dev v0 ingress protocol ip u32 match u8 61 0xff at 8 action drop
        nft add table ip irt; nft 'add chain ip irt in { type filter hook input priority 0; }'
        nft add rule ip irt in iifname v0 ip ttl 62 drop"""
    )
    yield
    sh("tc qdisc delete dev v0 clsact; nft delete table ip irt; ip link delete irtsink")


@pytest.fixture
def one_cpu():
    """All that this process sends is sent, and comes in, on the same CPU."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("backend", ["fentry", "kprobe"])
def test_one_reply_dropped_and_another_delivered(obstacle, backend):
    """All stages of the way in are those of the reply that came to its end."""
    where = ("--backend", backend, "--src-ip", LOCAL, "--disable-kernel-stacks")
    with TwoEnds() as ends, Live(*where) as live:
        for ttl in (61, 62):
            asked = ends.ask(300, ttl, ONE)
            ends.answer_in_vain(asked, ttl)
            ends.answer(asked)
            echo = live.echo(300, ttl)
            assert echo["outcome"] == "complete"
            times = [stage["ts_ns"] for stage in echo["stages"]]
            assert len(times) == 6
            assert times == sorted(times)
            assert times[3] >= asked.answered_ns
            assert (echo["reply"]["ifname"], echo.get("drop")) == ("v0", None)


@pytest.mark.parametrize("backend", ["fentry", "kprobe"])
def test_every_reply_dropped(obstacle, backend):
    """The last one's drop is told, where it was."""
    where = ("--backend", backend, "--src-ip", LOCAL, "--disable-kernel-stacks")
    with TwoEnds() as ends, Live(*where, "--timeout", "2") as live:
        asked = ends.ask(301, 1, ONE)
        for ttl in (62, 61):
            ends.answer_in_vain(asked, ttl)
        echo = live.echo(301, 1)
        assert (echo["reason"], echo["last_stage"]) == ("dropped", 3)
        assert (echo["drop"]["path"], echo["drop"]["last_stage"]) == (2, 3)


@pytest.mark.parametrize("backend", ["fentry", "kprobe"])
def test_reply_sent_elsewhere(obstacle, one_cpu, backend):
    """What comes later in its buffer is not taken for it, on the way to IP."""
    where = ("--backend", backend, "--src-ip", LOCAL, "--disable-kernel-stacks")
    with TwoEnds() as ends, Live(*where, "--timeout", "2") as live:
        for seq in range(1, 6):
            asked = ends.ask(302, seq, ONE)
            ends.answer_in_vain(asked, 60)
            ends.pass_by(20)
        for seq in range(1, 6):
            echo = live.echo(302, seq)
            assert (echo["reason"], echo["last_stage"]) == ("no reply", 3)
            assert [stage["stage"] for stage in echo["stages"]] == [0, 1, 2, 3]


def test_counted(seen):
    """Every reply that was not a request's first one is counted, and those only."""
    c = seen[0].counters
    assert_identities(seen[0])
    duplicates, late = [TWICE, TWICE, AGAIN], [LATE, RESTARTED, REUSED, AFTER]
    assert c["duplicate_replies"] == len(duplicates)
    assert c["late_replies"] == len(late)
    assert c["unmatched_replies"] == 0
    noted = {what: [] for what in ("duplicate", "late")}
    for reply in seen[0].replies:
        noted[reply["what"]].append(reply["id"])
        assert (reply["src"], reply["dst"], reply["seq"]) == (LOCAL, PEER, 1)
    assert sorted(noted["duplicate"]) == duplicates
    assert sorted(noted["late"]) == late
    assert c["requests"] == sum(len(asked) for asked in seen[1].values())
    assert c["incomplete"] == 10
    assert c["complete"] == c["replies"] == c["requests"] - 10
