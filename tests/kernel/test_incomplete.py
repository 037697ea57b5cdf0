# SPDX-License-Identifier: GPL-2.0-only
"""Echoes that are not answered, each kept from it in another way: where and why is told apart.

All ways are taken in one run of the tool, each by a ping with an id of its own.
"""

import re

import pytest
from conftest import LOCAL, LOCAL6, PEER, PEER6, assert_identities, follow, sh, trace

pytestmark = [pytest.mark.guest, pytest.mark.extended]
QUICK = ("--backend", "fentry", "--disable-kernel-stacks", "--timeout", "3")
NFT = ("nf_hook_slow", "nft_do_chain")

# What is sent or asked for, by the id it is sent with.
PINGS = {
    # This host asks.
    101: "ping 10.77.0.11",
    102: "ping 10.77.0.12",
    103: "ping 10.77.0.13",
    104: "ping 10.77.0.14",
    105: "ping -m 5 10.99.0.15",
    106: "ping -t 1 10.98.0.16",
    107: "ping 10.97.0.17",
    108: "ping 10.77.0.18",
    109: "ping 10.77.0.19",
    110: "ping fd97::11",
    111: "ping fd97::12",
    # The peer asks.
    201: f"ip netns exec irtpeer ping -I 10.77.0.21 {LOCAL}",
    202: f"ip netns exec irtpeer ping -I 10.77.0.22 {LOCAL}",
    204: f"ip netns exec irtpeer ping -I fd77::21 {LOCAL6}",
    203: f"ip netns exec irtpeer ping -I 10.77.0.23 {LOCAL}",
}
ANSWERED = 99


@pytest.fixture(scope="module")
def obstacles(veth):
    """What keeps an echo from being answered, by the address that it is between."""
    addresses = [f"10.77.0.{n}/24" for n in (11, 12, 13, 14, 18, 21, 22, 23)] + ["10.99.0.15/32"]
    addresses += ["fd77::21/64 nodad preferred_lft 0"]  # of nothing that the peer sends by itself
    sh("".join(f"ip -n irtpeer address add {address} dev v1;" for address in addresses))
    sh(
        f"""
        ip netns exec irtpeer sysctl -q net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
        nft -f - <<END
        table inet t {{
            chain o {{
                type filter hook output priority 0;
                ip daddr 10.77.0.11 icmp type echo-request drop
                ip daddr 10.77.0.21 icmp type echo-reply drop
                ip6 daddr fd97::11 icmpv6 type echo-request drop
                ip6 daddr fd77::21 icmpv6 type echo-reply drop
            }}
            chain i {{
                type filter hook input priority 0;
                ip saddr 10.77.0.14 icmp type echo-reply drop
                ip saddr 10.77.0.22 icmp type echo-request drop
            }}
        }}
END
        tc qdisc add dev v0 clsact
        tc filter add dev v0 egress protocol ip u32 match ip dst 10.77.0.12/32 action drop
        ip netns exec irtpeer nft -f - <<END
        table inet t {{
            chain i {{
                type filter hook input priority 0;
                ip daddr 10.77.0.13 drop
                ip daddr 10.77.0.18 reject with icmp type host-prohibited
            }}
        }}
END
        ip rule add fwmark 5 lookup 100
        ip route add 10.99.0.15 dev v0 table 100
        sysctl -q net.ipv4.conf.v0.rp_filter=1
        ip route add 10.98.0.0/24 via {PEER}; ip -n irtpeer route add 10.98.0.0/24 dev v1
        ip route add 10.97.0.0/24 via {PEER}
        ip -6 route add fd97::/64 via {PEER6}
        ip ntable change name arp_cache dev v0 retrans 20
        """
    )
    yield
    sh(
        f"""
        {" ".join(f"ip -n irtpeer address del {a.split()[0]} dev v1;" for a in addresses)}
        ip netns exec irtpeer sysctl -q net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
        nft delete table inet t; ip netns exec irtpeer nft delete table inet t
        tc qdisc del dev v0 clsact
        ip rule del fwmark 5; ip route flush table 100; sysctl -q net.ipv4.conf.v0.rp_filter=0
        ip route del 10.98.0.0/24; ip -n irtpeer route del 10.98.0.0/24
        ip route del 10.97.0.0/24; ip -6 route del fd97::/64
        ip ntable change name arp_cache dev v0 retrans 1000
        """
    )


def send_all(*arguments):
    """A run over every ping, with nothing wrong in it."""
    lines = [
        f"{words.replace('ping ', f'ping -c 1 -W 0.1 -e {id_} ', 1)} >&2"
        for id_, words in PINGS.items()
    ]
    lines.insert(-1, "sysctl -q net.ipv4.icmp_echo_ignore_all=1")
    lines += [
        "sysctl -q net.ipv4.icmp_echo_ignore_all=0",
        f"ping -c 3 -i 0.01 -e {ANSWERED} {PEER} >&2",
    ]
    where = ("--interface", "v0", "--direction", "both")
    run = trace(*where, *QUICK, *arguments, "--", "sh", "-c", "\n".join(lines))
    assert run.status == 0, run.stderr
    return run


@pytest.fixture(scope="module")
def run(obstacles):
    """A run with JSON output."""
    run = send_all()
    print(run.stdout, run.stderr)
    return run


@pytest.fixture(scope="module")
def has_reasons():
    """Whether this kernel says why it drops a packet."""
    return "reason" in sh("cat /sys/kernel/tracing/events/skb/kfree_skb/format")


@pytest.fixture
def found(run):
    """What was reported, by id."""
    return {echo["id"]: echo for echo in run.echoes if echo["id"] != ANSWERED}


def test_each_is_reported(run, found):
    """Once, beside those that were answered."""
    assert sorted(found) == sorted(PINGS)
    assert len(run.echoes) == len(PINGS) + 3
    assert (run.counters["complete"], run.counters["incomplete"]) == (3, len(PINGS))
    assert_identities(run)
    for echo in found.values():
        assert (echo["outcome"], echo["seq"], echo["rtt_ns"]) == ("incomplete", 1, None)
        assert echo["last_stage"] == echo["stages"][-1]["stage"]


@pytest.mark.parametrize(
    ("id_", "path", "last_stage", "functions", "reasons"),
    [
        pytest.param(101, 1, 1, NFT, "NETFILTER_DROP", id="output-firewall"),
        pytest.param(102, 1, 2, ("__dev_queue_xmit",), "TC_EGRESS", id="egress-filter"),
        pytest.param(104, 2, 4, NFT, "NETFILTER_DROP", id="input-firewall"),
        pytest.param(105, 2, 4, ("ip_rcv_finish",), "IP_RPFILTER", id="reverse-path"),
        pytest.param(110, 1, 1, NFT, "NETFILTER_DROP", id="output-firewall-v6"),
        pytest.param(201, 2, 4, NFT, "NETFILTER_DROP", id="rx-reply"),
        pytest.param(202, 1, 1, NFT, "NETFILTER_DROP", id="rx-request"),
        pytest.param(204, 2, 4, NFT, "NETFILTER_DROP", id="rx-reply-v6"),
    ],
)
def test_dropped(found, has_reasons, id_, path, last_stage, functions, reasons):
    """By this host: which packet, after which stage, by whom and why."""
    echo = found[id_]
    assert (echo["reason"], echo["icmp_error"]) == ("dropped", None)
    assert (echo["drop"]["path"], echo["drop"]["last_stage"]) == (path, last_stage)
    assert echo["last_stage"] == last_stage
    assert echo["drop"]["location"].startswith(functions)
    assert echo["drop"]["reason"] == (reasons if has_reasons else None)


@pytest.mark.parametrize(
    ("id_", "type_", "code", "sender"),
    [
        pytest.param(106, 11, 0, PEER, id="time-exceeded"),
        pytest.param(107, 3, 0, PEER, id="no-route"),
        pytest.param(108, 3, 10, "10.77.0.18", id="prohibited"),
        pytest.param(109, 3, 1, LOCAL, id="no-neighbour"),
        pytest.param(111, 1, 0, PEER6, id="no-route-v6"),
    ],
)
def test_icmp_error(found, id_, type_, code, sender):
    """Which one, and who sent it."""
    echo = found[id_]
    assert echo["reason"] == "icmp error"
    assert echo["icmp_error"] == {"type": type_, "code": code, "from": sender}
    assert echo["last_stage"] == (1 if id_ == 109 else 2)


def test_nothing_came_back(found):
    """What the peer drops in its namespace is not said to be dropped by this host."""
    echo = found[103]
    assert (echo["reason"], echo["drop"], echo["last_stage"]) == ("no reply", None, 2)
    assert (echo["reply"], echo["icmp_error"]) == (None, None)


def test_not_answered_by_this_host(found):
    """An ignored request is not a lost one."""
    echo = found[203]
    assert (echo["direction"], echo["dst"]) == ("rx", "10.77.0.23")
    assert (echo["reason"], echo["drop"], echo["last_stage"]) == ("no reply sent", None, 2)


def test_verdicts(obstacles, has_reasons):
    """The same in words; with --only-incomplete those that were answered are left out."""
    run = send_all("--format", "text", "--only-incomplete")
    verdicts = {
        int(id_): verdict
        for id_, verdict in re.findall(
            r"^Session: .* \(ID: (\d+), Seq: 1\)\n.*\n.*\nVerdict: incomplete: (.*)$",
            run.stdout,
            re.MULTILINE,
        )
    }
    assert sorted(verdicts) == sorted(PINGS), run.stdout
    why = r" \(reason [A-Z_]+\)" if has_reasons else ""
    place = r"\S+\+0x\w+(?: \[\w+\])?"
    expected = {
        101: rf"dropped on the way out in {place}{why}, last stage 1 \(ip_local_out\)",
        102: rf"dropped on the way out in {place}{why}, last stage 2 \(dev_queue_xmit\)",
        103: r"no reply within 3000 ms; left this host by v0, nothing came back \(last stage 2, .*",
        104: rf"dropped on the way in in {place}{why}, last stage 4 \(ip_rcv\)",
        105: rf"dropped on the way in in {place}{why}, last stage 4 \(ip_rcv\)",
        106: rf"ICMP error from {PEER}: time exceeded \(type 11, code 0\), last stage 2 .*",
        107: rf"ICMP error from {PEER}: destination unreachable \(type 3, code 0\), last stage 2 .*",
        108: r"ICMP error from 10\.77\.0\.18: .* \(type 3, code 10\), last stage 2 .*",
        109: rf"ICMP error from {LOCAL}: .* \(type 3, code 1\), last stage 1 .*",
        110: rf"dropped on the way out in {place}{why}, last stage 1 \(ip6_local_out\)",
        111: rf"ICMP error from {PEER6}: destination unreachable \(type 1, code 0\), last stage 2 .*",
        201: rf"dropped on the way out in {place}{why}, last stage 4 \(ip_local_out\)",
        202: rf"dropped on the way in in {place}{why}, last stage 1 \(ip_rcv\)",
        203: r"no reply sent within 3000 ms; the request came in by v0, no reply was begun .*",
        204: rf"dropped on the way out in {place}{why}, last stage 4 \(ip6_local_out\)",
    }
    for id_, pattern in expected.items():
        assert re.fullmatch(pattern, verdicts[id_]), (id_, verdicts[id_])
    assert f"ID: {ANSWERED}," not in run.stdout
    (summary,) = re.findall(r"^Summary: (.*)$", run.stdout, re.MULTILINE)
    assert " unasked=3 " in summary
    assert f" incomplete={len(PINGS)} " in summary


@pytest.mark.parametrize("target", ["-b 10.77.0.255", "224.0.0.1"])
def test_nobody_answers_what_many_are_asked(veth, backend, target):
    """What this host drops is its own copy: the request has left."""
    run = follow(f"ping -I v0 -c 1 -W 0.1 {target} >&2 || true", backend, "--timeout", "1")
    (sent,) = run.of("tx")
    assert (sent["reason"], sent["drop"], sent["last_stage"]) == ("no reply", None, 2)
    assert all(echo["drop"] is None or echo["drop"]["path"] == 1 for echo in run.of("rx"))


@pytest.fixture
def tunnel(veth):
    """What comes out of it (VXLAN, collect_md) carries a note of the tunnel in place of a route."""
    for netns, end, other, outer in (("", 1, 2, PEER), ("-n irtpeer", 2, 1, LOCAL)):
        sh(
            f"""
            ip {netns} link add irtvx address 02:00:00:00:66:0{end} type vxlan dstport 4789 external
            ip {netns} address add 10.66.0.{end}/32 dev irtvx; ip {netns} link set irtvx up
            ip {netns} route add 10.66.0.{other} encap ip id 7 dst {outer} dev irtvx
            ip {netns} neigh add 10.66.0.{other} lladdr 02:00:00:00:66:0{other} dev irtvx"""
        )
    sh("ip netns exec irtpeer ping -c 1 -W 5 10.66.0.1")
    sh(
        "nft add table ip irtin; nft 'add chain ip irtin p { type filter hook prerouting priority 0; }'"
    )
    sh("nft add rule ip irtin p iifname irtvx icmp type echo-request drop")
    yield "10.66.0.1"
    sh("nft delete table ip irtin; ip link delete irtvx; ip -n irtpeer link delete irtvx")


def test_dropped_before_it_has_a_route(tunnel, backend):
    """It is not taken for one that is routed on."""
    script = f"ip netns exec irtpeer ping -c 1 -W 0.1 {tunnel} >&2 || true"
    where = ("--src-ip", tunnel, "--direction", "rx", "--backend", backend, "--timeout", "1")
    run = trace(*where, "--disable-kernel-stacks", "--", "sh", "-c", script)
    assert run.status == 0, run.stderr
    (echo,) = run.echoes
    assert (echo["reason"], echo["drop"]["path"], echo["last_stage"]) == ("dropped", 1, 1)
    assert echo["drop"]["location"].startswith(NFT)
