/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Six empty programs on the places that icmp-rtt probes: what probing itself
 * costs, and nobody can be cheaper than.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("fexit/__ip_make_skb")
int fexit____ip_make_skb(void *ctx)
{
	return 0;
}

SEC("fentry/__ip_local_out")
int fentry____ip_local_out(void *ctx)
{
	return 0;
}

SEC("fentry/__dev_queue_xmit")
int fentry____dev_queue_xmit(void *ctx)
{
	return 0;
}

SEC("tp_btf/netif_receive_skb")
int tp_btf__netif_receive_skb(void *ctx)
{
	return 0;
}

SEC("fentry/ip_rcv")
int fentry__ip_rcv(void *ctx)
{
	return 0;
}

SEC("fentry/icmp_rcv")
int fentry__icmp_rcv(void *ctx)
{
	return 0;
}
