# SPDX-License-Identifier: GPL-2.0-only
"""Whose echo a packet is: not the next one's, nor an overheard one, whatever way it takes."""

import contextlib
import os
import re
import sys
from pathlib import Path

import pytest
from conftest import (
    LOCAL,
    PEER,
    PEER6,
    assert_complete,
    assert_identities,
    follow,
    inode_of,
    sh,
    trace,
)

pytestmark = [pytest.mark.guest, pytest.mark.extended]
FROM_PEER = "ip netns exec irtpeer"
LEAN = ("--disable-kernel-stacks", "--no-self-test")
# A second link to the peer, q0 to q1.
OTHER, OTHER_PEER, NOBODY = "10.85.0.1", "10.85.0.2", "10.85.0.9"
PACKET_SOCKET = f"{sys.executable} {Path(__file__).with_name('packet_socket.py')}"
DELAY_NS = 200_000_000
# Argument: whom to ask. Ten echo requests from here and ten like them from irttwin, all
# under way at once.
TWINS = """
import ctypes, socket, struct, sys
def sender():
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    raw.settimeout(30)
    return raw
senders = [sender()]
with open("/run/netns/irttwin") as twin:
    assert ctypes.CDLL(None).setns(twin.fileno(), 0) == 0
senders.append(sender())
for seq in range(1, 11):
    request = struct.pack(">BBHHH", 8, 0, 0xFFFF - 0x0807 - seq, 7, seq)
    for each in senders[:: (-1) ** seq]:
        each.sendto(request, (sys.argv[1], 0))
for each in senders:
    for _ in range(10):
        while each.recv(100)[20] != 0:
            pass
print("all answered")
"""


# Arguments: the two whom a socket asks that may broadcast, as all of some libraries
# may, with the same message; the first answers late.
ALIKE = """
import socket, struct, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
raw.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
raw.settimeout(30)
for seq in range(1, 6):
    request = struct.pack(">BBHHH", 8, 0, 0xFFFF - 0x0807 - seq, 7, seq)
    for address in sys.argv[1:]:
        raw.sendto(request, (address, 0))
    for _ in sys.argv[1:]:
        while raw.recv(100)[20] != 0:
            pass
print("all answered")
"""


@pytest.fixture(scope="module")
def here():
    """This namespace, as --netns takes it."""
    return str(os.getpid())


@pytest.fixture(scope="module")
def other_link(veth):
    """The peer over another device; and an address there that never answers."""
    sh("ip link add q0 type veth peer name q1 netns irtpeer")
    sh("ip link set q0 up; ip -n irtpeer link set q1 up")
    sh(f"ip address add {OTHER}/24 dev q0; ip -n irtpeer address add {OTHER_PEER}/24 dev q1")
    mac = sh(f"{FROM_PEER} cat /sys/class/net/q1/address").strip()
    sh(f"ip neighbour add {NOBODY} lladdr {mac} dev q0 nud permanent")
    yield mac
    sh("ip link delete q0")


def run_script(script, *arguments):
    """A run over a shell script, with nothing wrong in it."""
    run = trace(*LEAN, *arguments, "--", "sh", "-ec", script)
    assert run.status == 0, (run.output, run.stderr)
    assert_identities(run)
    return run


# ------------------------------------------------------------- another device


@pytest.mark.parametrize(
    ("direction", "prefix", "elsewhere", "asked", "seen"),
    [("tx", "", OTHER_PEER, PEER, (2, 3)), ("rx", FROM_PEER, OTHER, LOCAL, (0, 5))],
    ids=["tx", "rx"],
)
def test_answered_elsewhere(other_link, veth, direction, prefix, elsewhere, asked, seen):
    """Echoes of another device take no room, though its reply is the last that is seen of one."""
    script = f"""
        {prefix} ping -q -c 100 -i 0.002 {elsewhere}
        {prefix} ping -q -c 10 -i 0.02 {asked}"""
    where = ("--interface", veth, "--direction", direction, "--max-sessions", "16")
    run = run_script(script, *where, "--backend", "tracepoint")
    assert run.said("100 received") == run.said("10 received") == 1
    c = run.counters
    assert (c["refused"], c["in_flight"], c["incomplete"]) == (0, 0, 0), c
    assert (c["other_interface"], c["requests"]) == (100, 10)
    assert_complete(run.echoes, 10, seen)


def test_unanswered_elsewhere(other_link, veth, backend):
    """Nor do, once they are given up, those of senders that go round the first stages."""
    script = f"""
        {PACKET_SOCKET} q0 {other_link} {OTHER} {NOBODY} 77 6
        hping3 -q --icmp -c 6 -i u10000 {NOBODY} >/dev/null 2>&1 || true
        ping -q -c 10 -i 0.2 {PEER}"""
    where = ("--interface", veth, "--max-sessions", "16", "--timeout", "0.5")
    run = run_script(f"{script}{script}", *where, "--backend", backend)
    c = run.counters
    assert (c["refused"], c["in_flight"], c["incomplete"]) == (0, 0, 0), c
    assert (c["other_interface"], c["requests"]) == (24, 20)
    assert_complete(run.echoes, 20)


def test_late_reply_from_elsewhere(other_link, veth, backend):
    """It is counted; but not noted, as nothing was reported of its echo."""
    sh("ip netns exec irtpeer tc qdisc add dev q1 root netem delay 700ms")
    script = f"ping -q -c 3 -i 0.01 -W 2 {OTHER_PEER}; ping -q -c 3 -i 0.1 {PEER}"
    try:
        where = ("--interface", veth, "--timeout", "0.2", "--backend", backend)
        run = run_script(script, *where)
    finally:
        sh("ip netns exec irtpeer tc qdisc delete dev q1 root")
    c = run.counters
    assert (c["other_interface"], c["late_replies"], c["requests"]) == (3, 3, 3), c
    assert run.replies == []


def test_not_even_sent_elsewhere(other_link, veth, backend):
    """Nor do those that get no further than to their route."""
    absent, refused = (f"{OTHER.rpartition('.')[0]}.{host}" for host in (98, 99))
    sh(
        "nft add table ip irtout; nft 'add chain ip irtout o { type filter hook output priority 0; }'"
    )
    sh(f"nft add rule ip irtout o ip daddr {refused} drop")
    script = f"""
        ping -q -c 2 -i 0.01 -W 0.1 {absent} || true
        ping -q -c 3 -i 0.01 -W 0.1 {refused} || true
        ping -q -c 5 -i 0.2 {PEER}"""
    try:
        run = run_script(script, "--interface", veth, "--timeout", "0.5", "--backend", backend)
    finally:
        sh("nft delete table ip irtout")
    assert (run.counters["incomplete"], run.counters["other_interface"]) == (0, 5)
    assert_complete(run.echoes, 5)


@pytest.fixture
def request_by_another_way(other_link, farm):
    """An address of the peer's that is asked by q0, and answers by v0."""
    sh(f"ip route add {farm}.61 via {OTHER_PEER} src {LOCAL}")
    sh("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.v0.rp_filter=0")
    yield f"{farm}.61"
    sh(f"ip route delete {farm}.61")


@pytest.mark.parametrize(
    ("backend", "ask", "seen"),
    [
        ("tracepoint", "ping -q -c 5 -i 0.02", [3]),
        ("fentry", "hping3 -q --icmp -c 5 -i u20000", [3, 4, 5]),
    ],
)
def test_request_not_seen(request_by_another_way, veth, backend, ask, seen):
    """Without a time of the request there is no round trip time; --latency-ms goes by its begin."""
    script = f"{ask} {request_by_another_way} 2>&1; ping -q -c 1 -i 0.02 {PEER}"
    where = ("--interface", veth, "--backend", backend)
    run = run_script(script, *where)
    echoes = [echo for echo in run.echoes if echo["dst"] == request_by_another_way]
    assert [[stage["stage"] for stage in echo["stages"]] for echo in echoes] == [seen] * 5
    assert {(echo["outcome"], echo["rtt_ns"]) for echo in echoes} == {("complete", None)}
    run = run_script(script, *where, "--latency-ms", "5000")
    assert (run.echoes, run.counters["below_threshold"]) == ([], 6)


@pytest.fixture
def reply_by_another_way(other_link):
    """What this host says to the peer from LOCAL leaves by q0."""
    sh(f"ip rule add from {LOCAL} to {PEER} lookup 185")
    sh(f"ip route add {PEER} via {OTHER_PEER} dev q0 table 185")
    yield
    sh(f"ip rule delete from {LOCAL} to {PEER} lookup 185; ip route flush table 185")


def test_answer_leaves_elsewhere(reply_by_another_way, veth, backend):
    """An answer by another device than the one asked for was sent; only its departure is not seen."""
    script = f"{FROM_PEER} ping -q -c 5 -i 0.02 {LOCAL}"
    where = ("--interface", veth, "--direction", "rx", "--backend", backend)
    run = run_script(script, *where)
    assert run.said("5 received") == 1
    assert_complete(run.echoes, 5, range(5))
    for echo in run.echoes:
        assert (echo["rtt_from_stage"], echo["rtt_to_stage"]) == (0, 4)
        assert (echo["request"]["ifname"], echo["reply"]["ifname"]) == (veth, None)
    assert (run.counters["requests"], run.counters["other_interface"]) == (5, 0)


# ------------------------------------------------- overheard, asked of many


@pytest.fixture
def late_and_soon(farm):
    """Two addresses of the peer, of which the first answers DELAY_NS later."""
    late, soon = f"{farm}.31", f"{farm}.32"
    tc = "tc -n irtpeer"
    sh(f"{tc} qdisc add dev v1 root handle 1: prio")
    sh(f"{tc} qdisc add dev v1 parent 1:3 netem delay {DELAY_NS // 1_000_000}ms")
    sh(f"{tc} filter add dev v1 parent 1: protocol ip u32 match ip src {late} flowid 1:3")
    yield late, soon
    sh(f"{tc} qdisc delete dev v1 root")


def test_a_socket_that_may_broadcast(late_and_soon, backend):
    """That it may is no sign that it does: two hosts asked alike have an echo each."""
    late, soon = late_and_soon
    alike = (sys.executable, "-c", ALIKE, late, soon)
    run = trace(*LEAN, "--src-ip", LOCAL, "--backend", backend, "--", *alike)
    assert run.status == 0 and run.said("all answered") == 1
    assert_identities(run)
    for address in (late, soon):
        assert_complete(run.of("tx", LOCAL, address), 5)
    assert all(echo["rtt_ns"] >= DELAY_NS for echo in run.of("tx", LOCAL, late))
    assert all(echo["rtt_ns"] < DELAY_NS for echo in run.of("tx", LOCAL, soon))
    assert run.counters["duplicate_replies"] == run.counters["incomplete"] == 0


@pytest.fixture
def promiscuous(bridge):
    """The bridge's device takes whatever passes it."""
    sh(f"ip link set {bridge} promisc on")
    yield bridge
    sh(f"ip link set {bridge} promisc off")


@pytest.mark.parametrize("kind", ["fentry", "kprobe", "tracepoint"])
def test_overheard(promiscuous, here, kind):
    """What two containers say to each other is no echo of the host that bridges it."""
    script = "ip netns exec irta ping -q -c 10 -i 0.02 10.81.0.3"
    run = run_script(script, "--direction", "both", "--netns", here, "--backend", kind)
    assert run.said("10 received") == 1
    c = run.counters
    assert run.echoes == []
    assert (c["requests"], c["complete"], c["incomplete"], c["drops"]) == (0, 0, 0, 0), c


def test_overheard_by_another_device(backend):
    """A request that another device of this host sees pass has left: that is no drop of it."""
    sh("ip link add o0 type veth peer name o1 && ip link set o0 up && ip link set o1 up")
    sh("ip address add 10.77.9.1/24 dev o0")
    sh("ip neighbour add 10.77.9.9 lladdr 02:00:00:00:00:99 dev o0")
    try:
        script = "ping -q -c 3 -i 0.1 -W 0.2 10.77.9.9 || true"
        run = run_script(script, "--src-ip", "10.77.9.1", "--backend", backend, "--timeout", "0.2")
    finally:
        sh("ip link delete o0")
    told = [(echo["outcome"], echo["reason"], echo["drop"]) for echo in run.echoes]
    assert told == [("incomplete", "no reply", None)] * 3
    assert [echo["last_stage"] for echo in run.echoes] == [2, 2, 2]
    assert run.counters["drops"] == 0


@pytest.fixture
def hub(veth):
    """h0 (10.93.0.1) and o0 here, and 10.93.0.2, at a hub from which h0 is reached late."""
    sh(
        f"""
        ip netns add irthub; ip netns add irtend
        ip -n irthub link add hub type bridge ageing_time 0
        for leg in h o e; do
            ip link add ${{leg}}0 type veth peer name ${{leg}}1 netns irthub
            ip -n irthub link set ${{leg}}1 master hub; ip -n irthub link set ${{leg}}1 up
        done
        ip link set e0 netns irtend; ip -n irthub link set hub up
        ip link set h0 up; ip link set o0 up; ip -n irtend link set e0 up
        sysctl -qw net.ipv4.conf.o0.arp_ignore=1
        ip address add 10.93.0.1/24 dev h0; ip -n irtend address add 10.93.0.2/24 dev e0
        tc -n irthub qdisc add dev h1 root netem delay {DELAY_NS // 1_000_000}ms"""
    )
    yield "10.93.0.2"
    sh("ip netns delete irthub; ip netns delete irtend")


@pytest.fixture(params=["dropped", "handed on"])
def listener(hub, request):
    """What o0 does with what it overhears, be it as the port of a bridge of guests."""
    if request.param == "handed on":
        sh("ip link add guests type bridge && ip link set o0 master guests")
        sh("ip link add g0 type veth peer name g1 && ip link set g0 master guests")
        sh("for dev in guests g0 g1; do ip link set $dev up; done")
    yield request.param
    if request.param == "handed on":
        sh("ip link delete g0; ip link delete guests")


def test_overheard_reply(hub, listener, backend):
    """A copy of the reply that another device takes is not the reply's arrival."""
    run = run_script(f"ping -q -c 3 -i 0.3 -W 5 {hub}", "--dst-ip", hub, "--backend", backend)
    assert run.said("3 received") == 1
    echoes = run.of("tx", remote=hub)
    assert_complete(echoes, 3)
    assert {echo["reply"]["ifname"] for echo in echoes} == {"h0"}
    assert min(echo["inter_path_ns"] for echo in echoes) >= DELAY_NS, echoes


@pytest.fixture
def answers_broadcasts(veth):
    """This host answers what was asked of all."""
    sh("sysctl -qw net.ipv4.icmp_echo_ignore_broadcasts=0")
    yield
    sh("sysctl -qw net.ipv4.icmp_echo_ignore_broadcasts=1")


def test_asked_of_many(answers_broadcasts, here, backend):
    """A request to a group or a broadcast address is answered from another one: that is its reply."""
    targets = {401: "ff02::1%v1", 402: "-b 10.77.0.255", 403: "-I v1 224.0.0.1"}
    script = "\n".join(
        f"{FROM_PEER} ping -n -q -c 5 -i 0.1 -e {id_} {target} 2>/dev/null"
        for id_, target in targets.items()
    )
    run = run_script(script, "--direction", "rx", "--netns", here, "--backend", backend)
    assert run.said("5 received") == len(targets)
    for id_, target in targets.items():
        echoes = [echo for echo in run.echoes if echo["id"] == id_]
        assert_complete(echoes, 5)
        assert [echo["seq"] for echo in echoes] == [1, 2, 3, 4, 5]
        assert {echo["src"] for echo in echoes} == {target.split()[-1].partition("%")[0]}
    assert (len(run.echoes), run.counters["requests"], run.counters["incomplete"]) == (15, 15, 0)


# ----------------------------------------------------------- several senders


def test_two_pings(veth, backend):
    """Each socket throws the other ping's replies away: that is no drop of them."""
    pings = [f"ping -q -c 20 -i 0.01 -e {411 + n} {PEER} &" for n in range(2)]
    pings += [f"ping -q -c 20 -i 0.01 -e {421 + n} {PEER6} &" for n in range(2)]
    script = "\n".join([*pings, "wait"])
    run = run_script(script, "--interface", veth, "--backend", backend)
    assert run.said("20 received") == len(pings)
    assert run.counters["drops"] == 0
    for id_ in (411, 412, 421, 422):
        assert_complete([echo for echo in run.echoes if echo["id"] == id_], 20)
    assert run.counters["requests"] == 80


def test_after_what_was_passed_over(farm, backend):
    """A packet is not passed over because an earlier one, of another socket, had its buffer."""
    rounds, sent = 8, 20
    script = f"""
        for i in $(seq {rounds}); do
            taskset 1 ping -q -c 50 -i 0.002 {farm}.51
            taskset 1 hping3 -q --icmp -c {sent} -i u10000 {PEER} 2>&1
        done"""
    run = run_script(script, "--src-ip", LOCAL, "--dst-ip", PEER, "--backend", backend)
    assert run.said("50 received") == rounds
    # It may end without a look at its last reply.
    assert run.said(f"{sent} packets transmitted, ") == rounds
    c = run.counters
    assert (c["requests"], c["complete"], c["refused"]) == (rounds * sent, rounds * sent, 0), c
    assert_complete(run.echoes, rounds * sent, range(2, 6))
    assert {echo["request"]["comm"] for echo in run.echoes} == {"hping3"}
    assert (c["other_address"], c["unmatched_replies"]) == (rounds * 50, 0)


@pytest.fixture
def dropped_on_the_way_out(farm):
    """An address of the peer that the firewall here lets nothing go to."""
    sh(
        "nft add table ip irtout; nft 'add chain ip irtout o { type filter hook output priority 0; }'"
    )
    sh(f"nft add rule ip irtout o ip daddr {farm}.52 icmp type echo-request drop")
    yield f"{farm}.52"
    sh("nft delete table ip irtout")


def test_after_what_was_dropped(dropped_on_the_way_out, backend):
    """Nor is it taken for an echo whose packet was dropped on its way to the device."""
    rounds, sent = 8, 20
    script = f"""
        for i in $(seq {rounds}); do
            taskset 1 ping -q -c 50 -i 0.002 -W 0.01 {dropped_on_the_way_out} || true
            taskset 1 hping3 -q --icmp -c {sent} -i u10000 {PEER} 2>&1
        done"""
    run = run_script(script, "--src-ip", LOCAL, "--backend", backend, "--timeout", "30")
    assert run.said(f"{sent} packets transmitted, ") == rounds
    passed = [echo for echo in run.echoes if echo["dst"] == PEER]
    assert_complete(passed, rounds * sent, range(2, 6))
    dropped = [echo for echo in run.echoes if echo["dst"] == dropped_on_the_way_out]
    assert {(echo["last_stage"], echo["reason"]) for echo in dropped} <= {(1, "dropped")}
    assert run.counters["requests"] == rounds * (sent + 50)
    assert run.counters["unmatched_replies"] == 0


# ---------------------------------------------------------- translated, twins


@pytest.fixture
def random_ids(veth):
    """What this host sends to the peer goes out with another id."""
    sh("nft add table ip irtids")
    sh("nft 'add chain ip irtids post { type nat hook postrouting priority 100; }'")
    sh("nft add rule ip irtids post oifname v0 ip protocol icmp masquerade fully-random")
    yield
    sh("nft delete table ip irtids")


def test_own_id_translated(random_ids, veth, backend):
    """An echo whose id is another one on the wire is followed all the way."""
    run = follow(f"ping -q -c 5 -i 0.02 -e 431 {PEER}; ping -q -c 5 -i 0.02 -e 432 {PEER}", backend)
    assert run.said("5 received") == 2
    on_the_wire = {echo["id"] for echo in run.of("rx", PEER, LOCAL)}
    assert on_the_wire.isdisjoint({431, 432}) and len(on_the_wire) == 2
    sent = run.of("tx", LOCAL, PEER)
    for id_ in (431, 432):
        assert_complete([echo for echo in sent if echo["id"] == id_], 5)
    assert_complete(run.of("rx", PEER, LOCAL), 10)
    c = run.counters
    assert (c["unparsed"], c["unmatched_replies"], c["incomplete"]) == (0, 0, 0), c


@pytest.mark.parametrize("where", ["output", "qdisc"])
def test_dropped_after_it_was_translated(veth, farm, backend, where):
    """It is not told by its headers whose it was, but by its skb."""
    sh("nft add table ip irtids")
    if where == "output":
        sh("nft 'add chain ip irtids nat { type nat hook output priority -100; }'")
        sh(f"nft add rule ip irtids nat ip daddr {farm}.53 dnat to {farm}.54")
        sh("nft 'add chain ip irtids filter { type filter hook output priority 0; }'")
        sh(f"nft add rule ip irtids filter ip daddr {farm}.54 drop")
        last_stage = 1
    else:
        sh("nft 'add chain ip irtids nat { type nat hook postrouting priority 100; }'")
        sh("nft add rule ip irtids nat oifname v0 ip protocol icmp masquerade fully-random")
        sh("tc qdisc add dev v0 root netem loss 100%")
        last_stage = 2
    try:
        run = run_script(
            f"ping -q -c 5 -i 0.02 -W 0.1 {farm}.53 || true", "--backend", backend, "--timeout", "1"
        )
    finally:
        sh("nft delete table ip irtids; tc qdisc delete dev v0 root 2>/dev/null || true")
    found = [(echo["dst"], echo["reason"], echo["last_stage"]) for echo in run.echoes]
    assert found == [(f"{farm}.53", "dropped", last_stage)] * 5
    assert {echo["drop"]["path"] for echo in run.echoes} == {1}


@contextlib.contextmanager
def twin_over(kind):
    """irttwin and irttpeer, with devices over v0 and v1, have the addresses of these."""
    kinds = {"vlan": "vlan id 8", "macvlan": "macvlan mode bridge"}
    with contextlib.ExitStack() as stack:
        for name in ("irttwin", "irttpeer"):
            sh(f"ip netns add {name}")
            stack.callback(sh, f"ip netns delete {name}")
        sh(f"ip link add link v0 name twin netns irttwin type {kinds[kind]}")
        sh(f"ip -n irtpeer link add link v1 name twin type {kinds[kind]}")
        sh("ip -n irtpeer link set twin netns irttpeer")
        # Nobody is asked who has an address: two have it.
        for of, device, address, to, their in (
            ("", "v0", PEER, "-n irtpeer", "v1"),
            ("-n irtpeer", "v1", LOCAL, "", "v0"),
            ("-n irttwin", "twin", PEER, "-n irttpeer", "twin"),
            ("-n irttpeer", "twin", LOCAL, "-n irttwin", "twin"),
        ):
            own = LOCAL if address == PEER else PEER
            if device == "twin":
                sh(f"ip {of} address add {own}/24 dev twin; ip {of} link set twin up")
            mac = re.search(r"link/ether (\S+)", sh(f"ip {to} link show {their}")).group(1)
            neighbour = f"{address} lladdr {mac} dev {device} nud permanent"
            sh(f"ip {of} neighbour replace {neighbour}")
            if device != "twin":
                stack.callback(sh, f"ip {of} neighbour delete {address} dev {device}")
        sh(f"tc -n irtpeer qdisc add dev v1 root netem delay {DELAY_NS // 1000}us")
        stack.callback(sh, "tc -n irtpeer qdisc del dev v1 root")
        yield


@pytest.mark.parametrize("kind", ["vlan", "macvlan"])
def test_twins_over_one_device(veth, kind, backend):
    """Echoes alike in all but namespace, which arrive by one device, are told apart."""
    with twin_over(kind):
        run = follow(f"{sys.executable} -c '{TWINS}' {PEER}", backend, "--timeout", "5")
        sides = [
            (os.stat("/proc/self/ns/net").st_ino, inode_of("irtpeer")),
            (inode_of("irttwin"), inode_of("irttpeer")),
        ]
    assert run.said("all answered") == 1
    for asks, answers in sides:
        sent = run.of("tx", LOCAL, PEER, asks)
        assert_complete(sent, 10)
        assert {echo["id"] for echo in sent} == {7}
        # Nobody's reply can have arrived before.
        assert all(echo["inter_path_ns"] >= DELAY_NS for echo in sent)
        assert_complete(run.of("rx", PEER, LOCAL, answers), 10)
    assert len(run.echoes) == 40
    c = run.counters
    assert (c["duplicate_replies"], c["unmatched_replies"], c["drops"]) == (0, 0, 0), c
