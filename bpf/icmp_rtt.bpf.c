// SPDX-License-Identifier: GPL-2.0-only
/*
 * The programs: a few lines each, one per place of the kernel that can stand
 * for a stage, around one handler per hook. None but sweep is loaded unless the reader's
 * plan asks for it ("?" in the section name).
 *
 * What keeps them cheap: a packet that can't be ours leaves on what a typed
 * pointer gives without a helper call; one that was recognised (or passed
 * over) is known again by its skb pointer at the next hooks.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "icmp_rtt.h"
#include "compat.bpf.h"

char LICENSE[] SEC("license") = "GPL";

const volatile struct icmp_rtt_config config = {};
/* Pins the event's layout into the object's BTF, where the reader takes it from. */
const struct icmp_rtt_event *layout_of_event __attribute__((used)) = NULL;
const enum icmp_rtt_outcome *layout_of_outcome __attribute__((used)) = NULL;
const enum icmp_rtt_side_index *layout_of_side __attribute__((used)) = NULL;
const enum icmp_rtt_direction *layout_of_direction __attribute__((used)) = NULL;
const enum icmp_rtt_family *layout_of_family __attribute__((used)) = NULL;
const enum icmp_rtt_hook *layout_of_hook __attribute__((used)) = NULL;
const enum icmp_rtt_counter *layout_of_counter __attribute__((used)) = NULL;
const enum icmp_rtt_probe *layout_of_probe __attribute__((used)) = NULL;

#include "pages.bpf.h"
#include "cpu.bpf.h"
#include "packet.bpf.h"
#include "route.bpf.h"
#include "slots.bpf.h"
#include "past.bpf.h"
#include "session.bpf.h"
#include "echo.bpf.h"
#include "transmit.bpf.h"
#include "arrival.bpf.h"
#include "receive.bpf.h"
#include "deliver.bpf.h"
#include "drop.bpf.h"
#include "sweep.bpf.h"

const struct bucket *layout_of_bucket __attribute__((used)) = NULL;
const struct slot *layout_of_slot __attribute__((used)) = NULL;
const struct sweep *layout_of_sweep __attribute__((used)) = NULL;
const enum sweep_step *layout_of_sweep_step __attribute__((used)) = NULL;

/* Stage ip_send_skb: where ip_send_skb is inlined away. The header is complete. */
SEC("?fexit/__ip_make_skb")
int fexit____ip_make_skb(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct flowi4 *flow = (struct flowi4 *)ctx[1];
	struct sk_buff *skb = (struct sk_buff *)ctx[4];

	if (flow->__fl_common.flowic_proto != IPPROTO_ICMP || !skb)
		return 0;
	if (flow_is_foreign(flow)) {
		pass_over((__u64)skb, (__u64)sk);
		return 0;
	}
	on_send(ctx, skb, sk, PROBE___ip_make_skb, FAMILY_IPV4, true);
	return 0;
}

/* Stage ip_send_skb, where fexit is refused: the flow is not at hand at the return. */
SEC("?kretprobe/__ip_make_skb")
int kretprobe____ip_make_skb(struct pt_regs *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)PT_REGS_RC(ctx);
	struct sock *sk = skb ? BPF_CORE_READ(skb, sk) : NULL;

	if (sk && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_ICMP)
		on_send(ctx, skb, sk, PROBE___ip_make_skb, FAMILY_IPV4, false);
	return 0;
}

/* Stage ip_send_skb: ip_send_skb(net, skb), where the compiler kept it. */
SEC("?fentry/ip_send_skb")
int fentry__ip_send_skb(__u64 *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx[1];
	struct sock *sk = skb->sk;

	if (sk && sk->sk_protocol == IPPROTO_ICMP)
		on_send(ctx, skb, sk, PROBE_ip_send_skb, FAMILY_IPV4, true);
	return 0;
}

SEC("?kprobe/ip_send_skb")
int kprobe__ip_send_skb(struct pt_regs *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)PT_REGS_PARM2(ctx);
	struct sock *sk = BPF_CORE_READ(skb, sk);

	if (sk && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_ICMP)
		on_send(ctx, skb, sk, PROBE_ip_send_skb, FAMILY_IPV4, false);
	return 0;
}

/* Stage ip6_send_skb: ip6_send_skb(skb), not inlined on any kernel measured. */
SEC("?fentry/ip6_send_skb")
int fentry__ip6_send_skb(__u64 *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx[0];
	struct sock *sk = skb->sk;

	if (sk && sk->sk_protocol == IPPROTO_ICMPV6)
		on_send(ctx, skb, sk, PROBE_ip6_send_skb, FAMILY_IPV6, true);
	return 0;
}

SEC("?kprobe/ip6_send_skb")
int kprobe__ip6_send_skb(struct pt_regs *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)PT_REGS_PARM1(ctx);
	struct sock *sk = BPF_CORE_READ(skb, sk);

	if (sk && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_ICMPV6)
		on_send(ctx, skb, sk, PROBE_ip6_send_skb, FAMILY_IPV6, false);
	return 0;
}

/* Stage ip_local_out: (net, sk, skb); the first thing that ip_local_out does. */
SEC("?fentry/__ip_local_out")
int fentry____ip_local_out(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[1];

	if (sk->sk_protocol == IPPROTO_ICMP)
		on_local_out(ctx, (struct sk_buff *)ctx[2], sk, PROBE___ip_local_out,
			     FAMILY_IPV4, true);
	return 0;
}

SEC("?kprobe/__ip_local_out")
int kprobe____ip_local_out(struct pt_regs *ctx)
{
	struct sock *sk = (struct sock *)PT_REGS_PARM2(ctx);

	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_ICMP)
		on_local_out(ctx, (struct sk_buff *)PT_REGS_PARM3(ctx), sk,
			     PROBE___ip_local_out, FAMILY_IPV4, false);
	return 0;
}

/* Stage ip_local_out: the function itself, where __ip_local_out can't be had. */
SEC("?fentry/ip_local_out")
int fentry__ip_local_out(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[1];

	if (sk->sk_protocol == IPPROTO_ICMP)
		on_local_out(ctx, (struct sk_buff *)ctx[2], sk, PROBE_ip_local_out, FAMILY_IPV4,
			     true);
	return 0;
}

SEC("?kprobe/ip_local_out")
int kprobe__ip_local_out(struct pt_regs *ctx)
{
	struct sock *sk = (struct sock *)PT_REGS_PARM2(ctx);

	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_ICMP)
		on_local_out(ctx, (struct sk_buff *)PT_REGS_PARM3(ctx), sk, PROBE_ip_local_out,
			     FAMILY_IPV4, false);
	return 0;
}

/* Stage ip6_local_out: (net, sk, skb). */
SEC("?fentry/__ip6_local_out")
int fentry____ip6_local_out(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[1];

	if (sk->sk_protocol == IPPROTO_ICMPV6)
		on_local_out(ctx, (struct sk_buff *)ctx[2], sk, PROBE___ip6_local_out,
			     FAMILY_IPV6, true);
	return 0;
}

SEC("?kprobe/__ip6_local_out")
int kprobe____ip6_local_out(struct pt_regs *ctx)
{
	struct sock *sk = (struct sock *)PT_REGS_PARM2(ctx);

	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_ICMPV6)
		on_local_out(ctx, (struct sk_buff *)PT_REGS_PARM3(ctx), sk,
			     PROBE___ip6_local_out, FAMILY_IPV6, false);
	return 0;
}

SEC("?fentry/ip6_local_out")
int fentry__ip6_local_out(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[1];

	if (sk->sk_protocol == IPPROTO_ICMPV6)
		on_local_out(ctx, (struct sk_buff *)ctx[2], sk, PROBE_ip6_local_out,
			     FAMILY_IPV6, true);
	return 0;
}

SEC("?kprobe/ip6_local_out")
int kprobe__ip6_local_out(struct pt_regs *ctx)
{
	struct sock *sk = (struct sock *)PT_REGS_PARM2(ctx);

	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_ICMPV6)
		on_local_out(ctx, (struct sk_buff *)PT_REGS_PARM3(ctx), sk, PROBE_ip6_local_out,
			     FAMILY_IPV6, false);
	return 0;
}

/* Stage dev_queue_xmit: what dev_queue_xmit and its other callers share. */
SEC("?fentry/__dev_queue_xmit")
int fentry____dev_queue_xmit(__u64 *ctx)
{
	on_xmit(ctx, (struct sk_buff *)ctx[0], PROBE___dev_queue_xmit, true);
	return 0;
}

SEC("?kprobe/__dev_queue_xmit")
int kprobe____dev_queue_xmit(struct pt_regs *ctx)
{
	on_xmit(ctx, (struct sk_buff *)PT_REGS_PARM1(ctx), PROBE___dev_queue_xmit, false);
	return 0;
}

/* Stage dev_queue_xmit: the function itself, where __dev_queue_xmit can't be had. */
SEC("?fentry/dev_queue_xmit")
int fentry__dev_queue_xmit(__u64 *ctx)
{
	on_xmit(ctx, (struct sk_buff *)ctx[0], PROBE_dev_queue_xmit, true);
	return 0;
}

SEC("?kprobe/dev_queue_xmit")
int kprobe__dev_queue_xmit(struct pt_regs *ctx)
{
	on_xmit(ctx, (struct sk_buff *)PT_REGS_PARM1(ctx), PROBE_dev_queue_xmit, false);
	return 0;
}

/* Stage dev_queue_xmit, where functions can't be probed: inside __dev_queue_xmit. */
TRACEPOINT_SEC(net_dev_queue)
int tracepoint_program(net_dev_queue)(__u64 *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx[0];

	if (GET(TYPED_TRACEPOINT, skb, sk))
		on_xmit(ctx, skb, PROBE_net_dev_queue, TYPED_TRACEPOINT);
	else
		on_forward(skb, TYPED_TRACEPOINT);
	return 0;
}

/* Stage __netif_receive_skb: the only point that every receive path shares. */
TRACEPOINT_SEC(netif_receive_skb)
int tracepoint_program(netif_receive_skb)(__u64 *ctx)
{
	on_recv(ctx, (struct sk_buff *)ctx[0], PROBE_netif_receive_skb);
	return 0;
}

/* Stage ip_rcv: one packet; called through a pointer, so never inlined. */
SEC("?fentry/ip_rcv")
int fentry__ip_rcv(__u64 *ctx)
{
	on_ip_rcv(ctx, (struct sk_buff *)ctx[0], PROBE_ip_rcv, FAMILY_IPV4, true);
	return 0;
}

SEC("?kprobe/ip_rcv")
int kprobe__ip_rcv(struct pt_regs *ctx)
{
	on_ip_rcv(ctx, (struct sk_buff *)PT_REGS_PARM1(ctx), PROBE_ip_rcv, FAMILY_IPV4, false);
	return 0;
}

/* Stage ip_rcv: a list of packets, the way of NAPI and GRO. */
SEC("?fentry/ip_list_rcv")
int fentry__ip_list_rcv(__u64 *ctx)
{
	on_ip_list_rcv(ctx, (struct list_head *)ctx[0], PROBE_ip_list_rcv, FAMILY_IPV4, true);
	return 0;
}

SEC("?kprobe/ip_list_rcv")
int kprobe__ip_list_rcv(struct pt_regs *ctx)
{
	on_ip_list_rcv(ctx, (struct list_head *)PT_REGS_PARM1(ctx), PROBE_ip_list_rcv,
		       FAMILY_IPV4, false);
	return 0;
}

/* Stage ipv6_rcv: as ip_rcv. */
SEC("?fentry/ipv6_rcv")
int fentry__ipv6_rcv(__u64 *ctx)
{
	on_ip_rcv(ctx, (struct sk_buff *)ctx[0], PROBE_ipv6_rcv, FAMILY_IPV6, true);
	return 0;
}

SEC("?kprobe/ipv6_rcv")
int kprobe__ipv6_rcv(struct pt_regs *ctx)
{
	on_ip_rcv(ctx, (struct sk_buff *)PT_REGS_PARM1(ctx), PROBE_ipv6_rcv, FAMILY_IPV6, false);
	return 0;
}

/* Stage ipv6_rcv: as ip_list_rcv. */
SEC("?fentry/ipv6_list_rcv")
int fentry__ipv6_list_rcv(__u64 *ctx)
{
	on_ip_list_rcv(ctx, (struct list_head *)ctx[0], PROBE_ipv6_list_rcv, FAMILY_IPV6, true);
	return 0;
}

SEC("?kprobe/ipv6_list_rcv")
int kprobe__ipv6_list_rcv(struct pt_regs *ctx)
{
	on_ip_list_rcv(ctx, (struct list_head *)PT_REGS_PARM1(ctx), PROBE_ipv6_list_rcv,
		       FAMILY_IPV6, false);
	return 0;
}

/* Stage icmp_rcv: delivered to this host; closes what we asked, opens what we are asked. */
SEC("?fentry/icmp_rcv")
int fentry__icmp_rcv(__u64 *ctx)
{
	on_icmp_rcv(ctx, (struct sk_buff *)ctx[0], PROBE_icmp_rcv, FAMILY_IPV4, true);
	return 0;
}

SEC("?kprobe/icmp_rcv")
int kprobe__icmp_rcv(struct pt_regs *ctx)
{
	on_icmp_rcv(ctx, (struct sk_buff *)PT_REGS_PARM1(ctx), PROBE_icmp_rcv, FAMILY_IPV4,
		    false);
	return 0;
}

/* Stage icmpv6_rcv: as icmp_rcv. */
SEC("?fentry/icmpv6_rcv")
int fentry__icmpv6_rcv(__u64 *ctx)
{
	on_icmp_rcv(ctx, (struct sk_buff *)ctx[0], PROBE_icmpv6_rcv, FAMILY_IPV6, true);
	return 0;
}

SEC("?kprobe/icmpv6_rcv")
int kprobe__icmpv6_rcv(struct pt_regs *ctx)
{
	on_icmp_rcv(ctx, (struct sk_buff *)PT_REGS_PARM1(ctx), PROBE_icmpv6_rcv, FAMILY_IPV6,
		    false);
	return 0;
}

/* No stage: why one of our packets went no further. */
TRACEPOINT_SEC(kfree_skb)
int tracepoint_program(kfree_skb)(__u64 *ctx)
{
	__u32 reason = config.drop_reasons ? ctx[KFREE_SKB_REASON_ARG] : 0;

	on_drop((struct sk_buff *)ctx[0], ctx[1], reason);
	return 0;
}

/* No stage, and attached to nothing: the reader runs it, in place of a walk through a map. */
SEC("?raw_tp")
int sweep(const struct sweep *ctx)
{
	return sweep_slots(ctx);
}
