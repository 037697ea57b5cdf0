# SPDX-License-Identifier: GPL-2.0-only
"""What icmp-rtt does, as one would write it for bpftrace.

Six stamps of each echo from one address to another, kept in a map by stage, and
a line when the reply is in.
"""

from __future__ import annotations

import socket

__all__ = ("script",)

# By stage: its map, the ICMP type, where the IP header is, where the ICMP header is.
_NETWORK = "$skb->head + $skb->network_header"
_STAGES = (
    ("send", 8, _NETWORK, f"{_NETWORK} + 20"),
    ("local_out", 8, _NETWORK, f"{_NETWORK} + 20"),
    ("xmit", 8, _NETWORK, f"{_NETWORK} + 20"),
    ("recv", 0, "$skb->data", "$skb->data + 20"),
    ("ip_rcv", 0, _NETWORK, f"{_NETWORK} + 20"),
    ("icmp_rcv", 0, _NETWORK, "$skb->data"),
)
# By stage: the probe, and what gives the skb there.
_RECV = ("tracepoint:net:netif_receive_skb", "args->skbaddr")
_PROBES = {
    "fentry": (
        ("kretfunc:__ip_make_skb", "retval"),
        ("kfunc:__ip_local_out", "args->skb"),
        ("kfunc:__dev_queue_xmit", "args->skb"),
        _RECV,
        ("kfunc:ip_rcv", "args->skb"),
        ("kfunc:icmp_rcv", "args->skb"),
    ),
    "kprobe": (
        ("kretprobe:__ip_make_skb", "retval"),
        ("kprobe:__ip_local_out", "arg2"),
        ("kprobe:__dev_queue_xmit", "arg0"),
        _RECV,
        ("kprobe:ip_rcv", "arg0"),
        ("kprobe:icmp_rcv", "arg0"),
    ),
}
_BODY = """
{probe}
{{
	$skb = (struct sk_buff *){skb};
	$ip = (struct iphdr *)({ip});
	if ($ip->protocol == 1 && $ip->saddr == {source} && $ip->daddr == {target}) {{
		$icmp = (struct icmphdr *)({icmp});
		if ($icmp->type == {type}) {{
			$id = $icmp->un.echo.id;
			$seq = $icmp->un.echo.sequence;
			{action}
		}}
	}}
}}
"""


def script(backend: str, local: str, remote: str, stacks: bool) -> str:
    """The whole script.

    Args:
        backend: "fentry" or "kprobe".
        local: address of the host that pings; ``remote`` answers.
        stacks: whether to take and print the kernel stack of each stage.
    """
    ends = (_in_memory(local), _in_memory(remote))
    parts = []
    for (stage, icmp_type, ip, icmp), (probe, skb) in zip(_STAGES, _PROBES[backend]):
        actions = [f"@{stage}[$id, $seq] = nsecs;"]
        if stacks:
            actions.append(f"@{stage}_stack[$id, $seq] = kstack;")
        if stage == _STAGES[-1][0]:
            actions += _report(stacks)
        source, target = ends if icmp_type == 8 else reversed(ends)
        parts.append(
            _BODY.format(
                probe=probe,
                skb=skb,
                ip=ip,
                icmp=icmp,
                type=icmp_type,
                source=source,
                target=target,
                action="\n\t\t\t".join(actions),
            )
        )
    return "".join(parts)


def _in_memory(address: str) -> int:
    """An address as the number that the kernel has in a __be32 of this machine."""
    return int.from_bytes(socket.inet_aton(address), "little")


def _report(stacks: bool) -> list[str]:
    names = [stage for stage, *_ in _STAGES]
    times = ", ".join(f"@{name}[$id, $seq]" for name in names)
    actions = [f'printf("echo %d %d {" ".join(["%lu"] * len(names))}\\n", $id, $seq, {times});']
    if stacks:
        actions += [f'printf("%s\\n", @{name}_stack[$id, $seq]);' for name in names]
        names += [f"{name}_stack" for name in names]
    return [*actions, *(f"delete(@{name}[$id, $seq]);" for name in names)]
