/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Three empty programs on the tracepoints that icmp-rtt has where the kernel lets it
 * probe no function: the floor of that back end.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("tp_btf/net_dev_queue")
int tp_btf__net_dev_queue(void *ctx)
{
	return 0;
}

SEC("tp_btf/netif_receive_skb")
int tp_btf__netif_receive_skb(void *ctx)
{
	return 0;
}

SEC("tp_btf/kfree_skb")
int tp_btf__kfree_skb(void *ctx)
{
	return 0;
}
