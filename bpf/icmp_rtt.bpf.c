// SPDX-License-Identifier: GPL-2.0-only
/*
 * The programs: a few lines each, one per place of the kernel that can stand
 * for a stage, around one handler per hook. None is loaded unless the reader's
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

#include "packet.bpf.h"
#include "session.bpf.h"

#define AF_PACKET 17
#define SOCK_BROADCAST_BIT 6 /* enum sock_flags, SOCK_BROADCAST; include/net/sock.h */

#define TAGS 64
#define LIST_MAX 64
#define LISTED_MAX 16 /* of ours in one list */
/* A recognised arrival that hasn't come by ip_rcv after so many others was
 * bridged or dropped: longer than any list that one poll delivers. */
#define STRAY_LIMIT 256

/* An skb on its way out that was recognised at a hook before. */
struct transmit_tag {
	__u64 skb;
	__u64 sk;
	struct echo_key key;
	__u32 family;
};

/* An skb that arrived on this CPU, not yet known to be delivered here. */
struct arrival {
	__u64 skb;
	__u64 recv_ns;
	__u64 ip_rcv_ns;
	struct echo_key key;
	__u32 stray;	 /* the arrival device is not the one asked for */
	__u8 recv_probe;
	__u8 ip_rcv_probe;
	__u8 reserved[2];
};

struct cpu_state {
	__u64 pending; /* arrivals recognised and not yet seen by ip_rcv */
	__u64 strays;  /* others that ip_rcv has seen since */
	__u64 found_count;
	__u64 found[LISTED_MAX]; /* of a receive list, those that are ours */
	__u64 passed_over[TAGS]; /* ICMP packets that aren't ours: mark_of(skb, sk) */
	struct transmit_tag transmit[TAGS];
	struct arrival arrival[TAGS];
};

/*
 * What each CPU knows of the skbs under way on it: a cache, a miss costs a
 * second look at the packet. Key: CPU number; value: struct cpu_state. Entries
 * are overwritten, never deleted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu_state);
} cpus SEC(".maps");

struct arrival_stacks {
	__s64 bytes[2];
	__u64 stack[2][ICMP_RTT_STACK_DEPTH];
};

/*
 * Stacks of arrivals, until their session is found. Key: CPU * TAGS + slot of
 * the arrival (one entry when stacks are off). Overwritten, never deleted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arrival_stacks);
} arrival_stacks SEC(".maps");

static __always_inline struct cpu_state *this_cpu(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&cpus, &cpu);
}

/*
 * The low half of a pointer as a number. The verifier lets a typed pointer be
 * compared and stored, but not calculated with, except by a 32-bit move, which
 * the compiler has to be kept from taking apart.
 */
static __always_inline __u32 low_half(__u64 pointer)
{
	__u32 low;

	asm volatile("%0 = %1" : "=w"(low) : "w"((__u32)pointer));
	return low;
}

static __always_inline __u32 slot_of(__u64 skb)
{
	return low_half(skb) >> 8 & (TAGS - 1);
}

/* ------------------------------------------------------------- identity */

static __always_inline bool in_prefix(__u32 address, __u32 rest0, __u32 rest1, __u32 rest2,
				      const volatile __u32 *prefix, const volatile __u32 *mask,
				      __u8 family)
{
	if ((address & mask[0]) != prefix[0])
		return false;
	if (family == FAMILY_IPV4)
		return true;
	return (rest0 & mask[1]) == prefix[1] && (rest1 & mask[2]) == prefix[2] &&
	       (rest2 & mask[3]) == prefix[3];
}

static __always_inline bool addresses_match(__u8 family, const struct echo_key *key)
{
	return in_prefix(key->local, key->local_rest[0], key->local_rest[1], key->local_rest[2],
			 config.local, config.local_mask, family) &&
	       in_prefix(key->remote, key->remote_rest[0], key->remote_rest[1],
			 key->remote_rest[2], config.remote, config.remote_mask, family);
}

static __always_inline __u32 direction_of(__u8 kind, const int side)
{
	if (side == SIDE_TRANSMIT)
		return kind == PACKET_REQUEST ? DIRECTION_TX : DIRECTION_RX;
	return kind == PACKET_REQUEST ? DIRECTION_RX : DIRECTION_TX;
}

static __always_inline void make_key(__u8 family, const struct packet *packet, const int side,
				     __u32 direction, __u32 netns, struct echo_key *key)
{
	const __u32 *local = side == SIDE_TRANSMIT ? packet->saddr : packet->daddr;
	const __u32 *remote = side == SIDE_TRANSMIT ? packet->daddr : packet->saddr;

	key->netns = netns;
	key->id = packet->id;
	key->seq = packet->seq;
	key->direction = direction;
	key->local = local[0];
	key->remote = remote[0];
	if (family == FAMILY_IPV6) {
		for (int i = 0; i < 3; i++) {
			key->local_rest[i] = local[i + 1];
			key->remote_rest[i] = remote[i + 1];
		}
	} else {
		for (int i = 0; i < 3; i++)
			key->local_rest[i] = key->remote_rest[i] = 0;
	}
}

static __always_inline bool is_multicast(__u8 family, const struct echo_key *key)
{
	if (family == FAMILY_IPV4)
		return (key->remote & bpf_htonl(0xF0000000)) == bpf_htonl(0xE0000000);
	return (key->remote & bpf_htonl(0xFF000000)) == bpf_htonl(0xFF000000);
}

/* The key of a request that many may answer. */
static __always_inline void any_remote(struct echo_key *key)
{
	key->remote = 0;
	for (int i = 0; i < 3; i++)
		key->remote_rest[i] = 0;
}

/*
 * Whether a request at the hook that may open its session is to be followed;
 * counts, by the first thing that does not match, those that are not.
 */
static __always_inline bool request_wanted(__u8 family, const struct echo_key *key)
{
	bool address = addresses_match(family, key);
	bool direction = key->direction & config.directions;

	if (!address || !direction) {
		if (direction)
			count(COUNTER_OTHER_ADDRESS);
		else if (address)
			count(COUNTER_OTHER_DIRECTION);
		return false;
	}
	if (config.netns && key->netns != config.netns) {
		count(COUNTER_OTHER_NETNS);
		return false;
	}
	return true;
}

/* An echo of the self-test: it shows that the probe fires and is read right, no more. */
static __always_inline bool is_self_test(__u32 netns, const int probe)
{
	__u32 which = PROBE_none;
	__u64 *times;

	if (!config.self_test_netns || netns != config.self_test_netns)
		return false;
	times = bpf_map_lookup_elem(&fired, &which);
	if (times && *times)
		return false;
	which = probe;
	times = bpf_map_lookup_elem(&fired, &which);
	if (times)
		__sync_fetch_and_add(times, 1);
	return true;
}

/* --------------------------------------------------------------- stamps */

static __always_inline void stamp(void *ctx, struct icmp_rtt_event *session, const int hook,
				  const int probe, __u64 skb, __u64 now)
{
	if (session->ts_ns[hook])
		return;
	session->skb[hook] = skb;
	session->cpu[hook] = bpf_get_smp_processor_id();
	session->probe[hook] = probe;
	if (config.stacks)
		session->stack_bytes[hook] = bpf_get_stack(ctx, session->stack[hook],
							   sizeof(session->stack[hook]), 0);
	session->ts_ns[hook] = now;
}

static __always_inline void note_task(struct icmp_rtt_event *session, const int side)
{
	session->side[side].pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(session->side[side].comm, ICMP_RTT_NAME_LEN);
}

static __always_inline void note_device(struct icmp_rtt_event *session, const int side,
					struct net_device *dev, const bool typed)
{
	session->side[side].ifindex = GET(typed, dev, ifindex);
	if (typed) {
		*(__u64 *)&session->side[side].ifname[0] = *(__u64 *)&dev->name[0];
		*(__u64 *)&session->side[side].ifname[8] = *(__u64 *)&dev->name[8];
	} else {
		BPF_CORE_READ_INTO(&session->side[side].ifname, dev, name);
	}
}

static __always_inline __u32 netns_of_device(struct net_device *dev, const bool typed)
{
	if (typed)
		return dev->nd_net.net->ns.inum;
	return BPF_CORE_READ(dev, nd_net.net, ns.inum);
}

static __always_inline __u32 netns_of_socket(struct sock *sk, const bool typed)
{
	if (typed)
		return sk->__sk_common.skc_net.net->ns.inum;
	return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

static __always_inline bool device_wanted(struct net_device *dev, __u32 netns, const bool typed)
{
	return !config.ifindex ||
	       ((__u32)GET(typed, dev, ifindex) == config.ifindex && netns == config.netns);
}

/* ------------------------------------------------------------- transmit */

static __always_inline __u64 mark_of(__u64 skb, __u64 sk)
{
	return (__u64)low_half(skb) << 32 | low_half(sk);
}

static __always_inline void pass_over(struct cpu_state *cpu, __u64 skb, __u64 sk)
{
	cpu->passed_over[slot_of(skb)] = mark_of(skb, sk);
}

static __always_inline bool was_passed_over(const struct cpu_state *cpu, __u64 skb, __u64 sk)
{
	return cpu->passed_over[slot_of(skb)] == mark_of(skb, sk);
}

/* A softirq may use the same slot between any two lines: skb goes first and comes last. */
static __always_inline void tag(struct cpu_state *cpu, __u64 skb, __u64 sk, __u8 family,
				const struct echo_key *key)
{
	struct transmit_tag *tag = &cpu->transmit[slot_of(skb)];

	*(volatile __u64 *)&tag->skb = 0;
	tag->sk = sk;
	tag->key = *key;
	tag->family = family;
	*(volatile __u64 *)&tag->skb = skb;
	cpu->passed_over[slot_of(skb)] = 0;
}

static __always_inline bool recall(const struct cpu_state *cpu, __u64 skb, __u64 sk,
				   __u8 family, struct echo_key *key)
{
	const struct transmit_tag *tag = &cpu->transmit[slot_of(skb)];

	if (*(volatile __u64 *)&tag->skb != skb || tag->sk != sk || tag->family != family)
		return false;
	*key = tag->key;
	return *(volatile __u64 *)&tag->skb == skb;
}

/*
 * A request that a socket sends: opens its session. A socket that may
 * broadcast, or a multicast address, is answered by others than it asked.
 */
static __always_inline struct icmp_rtt_event *open_transmit(__u8 family, struct echo_key *key,
							     struct sock *sk, const bool typed)
{
	struct icmp_rtt_event *session;
	struct echo_key exact;
	bool many = is_multicast(family, key);

	if (!request_wanted(family, key))
		return NULL;
	if (!many && sk)
		many = GET(typed, sk, __sk_common.skc_flags) >> SOCK_BROADCAST_BIT & 1;
	if (!many)
		return open_session(family, key);
	exact = *key;
	any_remote(key);
	session = open_session(family, key);
	if (session) {
		session->remote[0] = exact.remote;
		for (int i = 0; i < 3; i++)
			session->remote[i + 1] = exact.remote_rest[i];
	}
	return session;
}

/* The first hook on the way out: the address match has not been made yet. */
static __always_inline void on_send(void *ctx, struct sk_buff *skb, struct sock *sk,
				    const int probe, const int family, const bool typed)
{
	struct header header = header_by_offset(skb, family, typed);
	struct cpu_state *cpu = this_cpu();
	struct icmp_rtt_event *session = NULL;
	struct packet packet;
	struct echo_key key;
	__u64 now;

	if (!cpu)
		return;
	parse(&header, &packet, typed);
	if (packet.kind == PACKET_UNREADABLE)
		count(COUNTER_UNPARSED);
	if (packet.kind != PACKET_REQUEST && packet.kind != PACKET_REPLY) {
		pass_over(cpu, (__u64)skb, (__u64)sk);
		return;
	}
	make_key(family, &packet, SIDE_TRANSMIT, direction_of(packet.kind, SIDE_TRANSMIT),
		 netns_of_socket(sk, typed), &key);
	if (is_self_test(key.netns, probe))
		return;
	now = bpf_ktime_get_ns();
	if (packet.kind == PACKET_REQUEST)
		session = open_transmit(family, &key, sk, typed);
	else if (config.directions & DIRECTION_RX && addresses_match(family, &key))
		session = find_session(family, &key);
	if (!session) {
		pass_over(cpu, (__u64)skb, (__u64)sk);
		return;
	}
	note_task(session, SIDE_TRANSMIT);
	stamp(ctx, session, HOOK_SEND, probe, (__u64)skb, now);
	tag(cpu, (__u64)skb, (__u64)sk, family, &key);
}

/* A packet that isn't known by its pointer: reads its key; false: it isn't ours. */
static __always_inline bool identify(struct sk_buff *skb, __u8 family, __u32 netns,
				     struct packet *packet, struct echo_key *key,
				     const bool typed)
{
	struct header header = header_by_offset(skb, family, typed);

	parse(&header, packet, typed);
	if (packet->kind == PACKET_UNREADABLE)
		count(COUNTER_UNPARSED);
	if (packet->kind != PACKET_REQUEST && packet->kind != PACKET_REPLY)
		return false;
	make_key(family, packet, SIDE_TRANSMIT, direction_of(packet->kind, SIDE_TRANSMIT), netns,
		 key);
	return true;
}

/* A session by exact key or, of what we sent, by the key that many may answer. */
static __always_inline struct icmp_rtt_event *find_echo(__u8 family, struct echo_key *key)
{
	struct icmp_rtt_event *session = find_session(family, key);
	struct echo_key any;

	if (session || key->direction != DIRECTION_TX)
		return session;
	any = *key;
	any_remote(&any);
	session = find_session(family, &any);
	if (session)
		*key = any;
	return session;
}

static __always_inline void on_local_out(void *ctx, struct sk_buff *skb, struct sock *sk,
					 const int probe, const int family, const bool typed)
{
	struct cpu_state *cpu = this_cpu();
	struct icmp_rtt_event *session;
	struct packet packet;
	struct echo_key key;
	__u64 now;

	if (!cpu || was_passed_over(cpu, (__u64)skb, (__u64)sk))
		return;
	if (!recall(cpu, (__u64)skb, (__u64)sk, family, &key)) {
		if (!identify(skb, family, netns_of_socket(sk, typed),
			      &packet, &key, typed) ||
		    is_self_test(key.netns, probe) || !addresses_match(family, &key))
			return;
	}
	now = bpf_ktime_get_ns();
	session = find_echo(family, &key);
	if (!session)
		return;
	if (!session->side[SIDE_TRANSMIT].pid && !session->side[SIDE_TRANSMIT].comm[0])
		note_task(session, SIDE_TRANSMIT);
	stamp(ctx, session, HOOK_LOCAL_OUT, probe, (__u64)skb, now);
	tag(cpu, (__u64)skb, (__u64)sk, family, &key);
}

/*
 * The session of a packet that reaches the device without having passed the
 * hooks above it: an IP_HDRINCL or AF_PACKET socket's, or any when the plan
 * has no hook above this one. A packet sent once more by a lower device (vlan,
 * bond) is the same packet.
 */
static __always_inline struct icmp_rtt_event *
open_at_device(struct sk_buff *skb, struct sock *sk, struct net_device *dev, __u8 family,
	       __u32 netns, struct packet *packet, struct echo_key *key, const bool typed)
{
	struct icmp_rtt_event *session = find_echo(family, key);

	if (packet->kind != PACKET_REQUEST)
		return session;
	if (netns_of_socket(sk, typed) != netns)
		return session;
	if (session && (session->ts_ns[HOOK_SEND] || session->ts_ns[HOOK_LOCAL_OUT]))
		return session;
	if (session && session->skb[HOOK_XMIT] == (__u64)skb &&
	    session->side[SIDE_TRANSMIT].ifindex != (__u32)GET(typed, dev, ifindex))
		return session;
	session = open_transmit(family, key, sk, typed);
	if (session)
		note_task(session, SIDE_TRANSMIT);
	return session;
}

static __always_inline void on_xmit_session(void *ctx, struct sk_buff *skb,
					    struct icmp_rtt_event *session,
					    struct echo_key *key, __u8 family, const int probe,
					    __u64 now, const bool typed)
{
	struct net_device *dev = GET(typed, skb, dev);
	__u32 netns = netns_of_device(dev, typed);

	if (!device_wanted(dev, netns, typed)) {
		session->other_interface = 1;
		return;
	}
	if (!session->ts_ns[HOOK_XMIT])
		note_device(session, SIDE_TRANSMIT, dev, typed);
	if (!session->side[SIDE_TRANSMIT].pid && !session->side[SIDE_TRANSMIT].comm[0])
		note_task(session, SIDE_TRANSMIT);
	stamp(ctx, session, HOOK_XMIT, probe, (__u64)skb, now);
	if (key->direction == DIRECTION_RX && config.rx_close == HOOK_XMIT)
		complete_session(family, key, session, now);
}

static __always_inline void on_xmit(void *ctx, struct sk_buff *skb, const int probe,
				    const bool typed)
{
	struct sock *sk = GET(typed, skb, sk);
	struct icmp_rtt_event *session;
	struct net_device *dev;
	struct cpu_state *cpu;
	struct packet packet;
	struct echo_key key;
	__u16 protocol;
	__u8 family;
	__u64 now;

	if (!sk)
		return;
	protocol = GET(typed, sk, sk_protocol);
	if (protocol != IPPROTO_ICMP && protocol != IPPROTO_ICMPV6 && protocol != IPPROTO_RAW &&
	    GET(typed, sk, __sk_common.skc_family) != AF_PACKET)
		return;
	family = family_of(GET(typed, skb, protocol));
	if (!family_wanted(family))
		return;
	cpu = this_cpu();
	if (!cpu || was_passed_over(cpu, (__u64)skb, (__u64)sk))
		return;
	if (recall(cpu, (__u64)skb, (__u64)sk, family, &key)) {
		now = bpf_ktime_get_ns();
		session = find_session(family, &key);
	} else {
		dev = GET(typed, skb, dev);
		if (!identify(skb, family, netns_of_device(dev, typed), &packet, &key, typed) ||
		    is_self_test(key.netns, probe))
			return;
		now = bpf_ktime_get_ns();
		session = open_at_device(skb, sk, dev, family, key.netns, &packet, &key, typed);
	}
	if (session)
		on_xmit_session(ctx, skb, session, &key, family, probe, now, typed);
}

/* -------------------------------------------------------------- receive */

static __always_inline struct arrival_stacks *stacks_of_arrival(__u64 skb)
{
	__u32 key = bpf_get_smp_processor_id() * TAGS + slot_of(skb);

	return bpf_map_lookup_elem(&arrival_stacks, &key);
}

static __always_inline void keep_stack(void *ctx, __u64 skb, const int which)
{
	struct arrival_stacks *stacks;

	if (!config.stacks)
		return;
	stacks = stacks_of_arrival(skb);
	if (stacks)
		stacks->bytes[which] = bpf_get_stack(ctx, stacks->stack[which],
						     sizeof(stacks->stack[which]), 0);
}

static __always_inline void move_stack(struct icmp_rtt_event *session, __u64 skb, const int hook)
{
	struct arrival_stacks *stacks;

	if (!config.stacks)
		return;
	stacks = stacks_of_arrival(skb);
	if (!stacks)
		return;
	session->stack_bytes[hook] = stacks->bytes[hook - HOOK_RECV];
	bpf_probe_read_kernel(session->stack[hook], sizeof(session->stack[hook]),
			      stacks->stack[hook - HOOK_RECV]);
}

static __always_inline void move_stamp(struct icmp_rtt_event *session, __u64 skb, const int hook,
				       __u8 probe, __u64 ts_ns)
{
	if (!ts_ns || session->ts_ns[hook])
		return;
	session->skb[hook] = skb;
	session->cpu[hook] = bpf_get_smp_processor_id();
	session->probe[hook] = probe;
	move_stack(session, skb, hook);
	session->ts_ns[hook] = ts_ns;
}

/*
 * Gives a session what its packet's arrival has kept. @dev_wanted: the device
 * at hand is the one asked for, so the arrival counts though it was stamped on
 * a lower device.
 */
static __always_inline void adopt(struct icmp_rtt_event *session, struct arrival *arrival,
				  bool dev_wanted)
{
	if (!session->ts_ns[HOOK_RECV] && !session->ts_ns[HOOK_IP_RCV])
		note_task(session, SIDE_RECEIVE);
	if (arrival->recv_ns && arrival->stray && !dev_wanted)
		session->other_interface = 1;
	else
		move_stamp(session, arrival->skb, HOOK_RECV, arrival->recv_probe,
			   arrival->recv_ns);
	move_stamp(session, arrival->skb, HOOK_IP_RCV, arrival->ip_rcv_probe,
		   arrival->ip_rcv_ns);
	arrival->recv_ns = 0;
	arrival->ip_rcv_ns = 0;
}

/* A bridge hands the skb of a port on as its own: one packet that arrives twice. */
static __always_inline bool same_echo(const struct echo_key *a, const struct echo_key *b)
{
	return a->id == b->id && a->seq == b->seq && a->local == b->local &&
	       a->remote == b->remote;
}

/*
 * Arrival. What is stamped here is kept with the skb: which namespace and
 * which device it is for is only known at ip_rcv (macvlan, vlan, bond hand the
 * skb on without coming by here again), whose it is behind NAT at icmp_rcv.
 */
static __always_inline void on_recv(void *ctx, struct sk_buff *skb, const int probe)
{
	struct header header = header_on_arrival(skb);
	struct icmp_rtt_event *session;
	struct arrival *arrival;
	struct cpu_state *cpu;
	struct packet packet;
	struct net_device *dev;
	struct echo_key key;
	__u32 direction;
	bool again;
	__u64 now;

	if (!family_wanted(header.family))
		return;
	parse(&header, &packet, true);
	if (packet.kind == PACKET_UNREADABLE)
		count(COUNTER_UNPARSED);
	if (packet.kind != PACKET_REQUEST && packet.kind != PACKET_REPLY)
		return;
	direction = direction_of(packet.kind, SIDE_RECEIVE);
	if (!(direction & config.directions) && config.rx_open != HOOK_RECV)
		return;
	now = bpf_ktime_get_ns();
	cpu = this_cpu();
	if (!cpu)
		return;
	dev = skb->dev;
	arrival = &cpu->arrival[slot_of((__u64)skb)];
	make_key(header.family, &packet, SIDE_RECEIVE, direction, netns_of_device(dev, true),
		 &key);
	again = arrival->skb == (__u64)skb && arrival->recv_ns && same_echo(&arrival->key, &key);
	arrival->key = key;
	if (!again) {
		arrival->skb = (__u64)skb;
		arrival->recv_ns = now;
		arrival->recv_probe = probe;
		keep_stack(ctx, (__u64)skb, 0);
	}
	arrival->ip_rcv_ns = 0;
	arrival->stray = !device_wanted(dev, arrival->key.netns, true);
	cpu->pending++;
	cpu->strays = 0;
	if (is_self_test(arrival->key.netns, probe))
		return;
	if (direction == DIRECTION_RX) {
		if (config.rx_open != HOOK_RECV || !request_wanted(header.family, &arrival->key))
			return;
		session = open_session(header.family, &arrival->key);
	} else {
		session = find_echo(header.family, &arrival->key);
	}
	if (!session)
		return;
	/* Of a lower device (vlan, bond): ip_rcv tells whether it is for the one asked for. */
	if (arrival->stray) {
		if (config.tx_close == HOOK_RECV)
			session->other_interface = 1;
		return;
	}
	if (!session->side[SIDE_RECEIVE].ifindex)
		note_device(session, SIDE_RECEIVE, dev, true);
	adopt(session, arrival, true);
	if (direction == DIRECTION_TX && config.tx_close == HOOK_RECV &&
	    session->ts_ns[HOOK_RECV])
		complete_session(header.family, &arrival->key, session, now);
}

static __always_inline void arrival_done(struct cpu_state *cpu)
{
	cpu->strays = 0;
	if (cpu->pending)
		cpu->pending--;
}

/* An skb that on_recv recognised, now with the device that it is really for. */
static __always_inline void on_ip_rcv_arrival(void *ctx, struct sk_buff *skb,
					      struct arrival *arrival, const int probe,
					      const int family, const bool typed)
{
	struct net_device *dev = GET(typed, skb, dev);
	__u32 netns = netns_of_device(dev, typed);
	bool wanted = device_wanted(dev, netns, typed);
	struct icmp_rtt_event *session;

	if (is_self_test(netns, probe))
		return;
	arrival->ip_rcv_ns = bpf_ktime_get_ns();
	arrival->ip_rcv_probe = probe;
	arrival->key.netns = netns;
	keep_stack(ctx, (__u64)skb, 1);
	if (wanted)
		arrival->stray = 0;
	if (arrival->key.direction == DIRECTION_RX && config.rx_open != HOOK_RECV)
		return;
	session = find_echo(family, &arrival->key);
	if (!session)
		return;
	adopt(session, arrival, wanted);
	if (!config.ifindex || wanted)
		note_device(session, SIDE_RECEIVE, dev, typed);
}

static __always_inline void on_ip_rcv(void *ctx, struct sk_buff *skb, const int probe,
				      const int family, const bool typed)
{
	struct cpu_state *cpu = this_cpu();
	struct icmp_rtt_event *session;
	struct arrival *arrival;
	struct header header;
	struct packet packet;
	struct echo_key key;

	if (!cpu || !cpu->pending)
		return;
	arrival = &cpu->arrival[slot_of((__u64)skb)];
	if (arrival->skb == (__u64)skb && !arrival->ip_rcv_ns) {
		arrival_done(cpu);
		on_ip_rcv_arrival(ctx, skb, arrival, probe, family, typed);
		return;
	}
	/* One of ours may have become another skb on the way (a clone). */
	if (++cpu->strays > STRAY_LIMIT)
		cpu->pending = 0;
	header = header_by_offset(skb, family, typed);
	parse(&header, &packet, typed);
	if (packet.kind != PACKET_REPLY || !(config.directions & DIRECTION_TX))
		return;
	make_key(family, &packet, SIDE_RECEIVE, DIRECTION_TX,
		 netns_of_device(GET(typed, skb, dev), typed), &key);
	session = find_echo(family, &key);
	if (session)
		stamp(ctx, session, HOOK_IP_RCV, probe, (__u64)skb, bpf_ktime_get_ns());
}

/* Not inlined: the verifier would otherwise go through it for each turn of a loop anew. */
static __noinline int on_ip_rcv_listed(void *ctx, __u64 skb, struct arrival *arrival, int probe,
				       int family)
{
	on_ip_rcv_arrival(ctx, (struct sk_buff *)skb, arrival, probe, family, false);
	return 0;
}

/*
 * A list is walked only when one of ours has arrived on this CPU: once to find
 * them, then each is looked at. How many were found is kept in the map, where
 * the verifier doesn't tell one number from another. The counters have 64 bits because verifiers
 * before 6.8 forget a spilled one of 32.
 */
static __always_inline void on_ip_list_rcv(void *ctx, struct list_head *list, const int probe,
					   const int family, const bool typed)
{
	struct cpu_state *cpu = this_cpu();
	struct list_head *node;
	struct arrival *arrival;
	__u64 found;
	__u64 i;

	if (!cpu || !cpu->pending)
		return;
	cpu->found_count = 0;
	node = GET(typed, list, next);
	for (i = 0; i < LIST_MAX && node && node != list; i++) {
		arrival = &cpu->arrival[slot_of((__u64)node)];
		if (arrival->skb == (__u64)node && !arrival->ip_rcv_ns) {
			cpu->found[cpu->found_count & (LISTED_MAX - 1)] = (__u64)node;
			cpu->found_count++;
		}
		node = GET(typed, node, next);
	}
	found = cpu->found_count;
	if (i == LIST_MAX || found > LISTED_MAX)
		count(COUNTER_LIST_TRUNCATED);
	cpu->strays += i - found;
	cpu->pending = cpu->strays > STRAY_LIMIT || cpu->pending < found ? 0 :
									    cpu->pending - found;
	for (i = 0; i < LISTED_MAX && i < cpu->found_count; i++) {
		__u64 skb = cpu->found[i];

		on_ip_rcv_listed(ctx, skb, &cpu->arrival[skb >> 8 & (TAGS - 1)], probe, family);
	}
}

/* An ICMP error that quotes one of our requests. */
static __always_inline void on_error(struct header *header, const struct packet *packet,
				     __u32 netns, const bool typed)
{
	struct header inner = {
		.at = header->at + packet->inner,
		.readable = header->readable > packet->inner ? header->readable - packet->inner : 0,
		.family = header->family,
	};
	struct icmp_rtt_event *session;
	struct packet quoted;
	struct echo_key key;

	if (!(config.directions & DIRECTION_TX))
		return;
	parse(&inner, &quoted, typed);
	if (quoted.kind != PACKET_REQUEST)
		return;
	make_key(header->family, &quoted, SIDE_TRANSMIT, DIRECTION_TX, netns, &key);
	session = find_echo(header->family, &key);
	if (!session || session->error_ts_ns)
		return;
	count(COUNTER_ICMP_ERRORS);
	session->error_type = packet->type;
	session->error_code = packet->code;
	session->error_from[0] = packet->saddr[0];
	if (header->family == FAMILY_IPV6)
		for (int i = 1; i < 4; i++)
			session->error_from[i] = packet->saddr[i];
	session->error_ts_ns = bpf_ktime_get_ns();
}

/* A reply whose echo isn't under way: a second one, a late one, or a stray. */
static __always_inline void on_unmatched(__u8 family, struct echo_key *key)
{
	struct echo_key any = *key;

	any_remote(&any);
	if (!addresses_match(family, key))
		return;
	if (completed_recently(family, key) || completed_recently(family, &any))
		count(COUNTER_DUPLICATE_REPLIES);
	else if (bpf_map_lookup_elem(&given_up, key) || bpf_map_lookup_elem(&given_up, &any))
		count(COUNTER_LATE_REPLIES);
	else
		count(COUNTER_UNMATCHED_REPLIES);
}

/*
 * Delivered to this host: the addresses are final. Looks at the packet anew,
 * because reassembly may have made it another skb.
 */
static __always_inline void on_icmp_rcv(void *ctx, struct sk_buff *skb, const int probe,
					const int family, const bool typed)
{
	struct header header = header_by_offset(skb, family, typed);
	struct net_device *dev = GET(typed, skb, dev);
	struct icmp_rtt_event *session;
	struct arrival *arrival;
	struct cpu_state *cpu;
	struct packet packet;
	struct echo_key key;
	bool wanted;
	__u64 now;

	parse(&header, &packet, typed);
	if (packet.kind == PACKET_OTHER)
		return;
	if (packet.kind == PACKET_UNREADABLE) {
		count(COUNTER_UNPARSED);
		return;
	}
	if (packet.kind == PACKET_ERROR) {
		on_error(&header, &packet, netns_of_device(dev, typed), typed);
		return;
	}
	cpu = this_cpu();
	if (!cpu)
		return;
	make_key(family, &packet, SIDE_RECEIVE, direction_of(packet.kind, SIDE_RECEIVE),
		 netns_of_device(dev, typed), &key);
	if (is_self_test(key.netns, probe))
		return;
	if (packet.kind == PACKET_REQUEST) {
		if (!request_wanted(family, &key))
			return;
		now = bpf_ktime_get_ns();
		session = open_session(family, &key);
	} else {
		if (!(config.directions & DIRECTION_TX))
			return;
		now = bpf_ktime_get_ns();
		session = find_echo(family, &key);
		if (!session) {
			on_unmatched(family, &key);
			return;
		}
	}
	if (!session)
		return;
	wanted = device_wanted(dev, key.netns, typed);
	arrival = &cpu->arrival[slot_of((__u64)skb)];
	if (arrival->skb == (__u64)skb && arrival->key.id == key.id && arrival->key.seq == key.seq)
		adopt(session, arrival, wanted);
	if (!session->side[SIDE_RECEIVE].pid && !session->side[SIDE_RECEIVE].comm[0])
		note_task(session, SIDE_RECEIVE);
	if (!session->side[SIDE_RECEIVE].ifindex && (!config.ifindex || wanted))
		note_device(session, SIDE_RECEIVE, dev, typed);
	stamp(ctx, session, HOOK_ICMP_RCV, probe, (__u64)skb, now);
	if (key.direction == DIRECTION_TX && config.tx_close == HOOK_ICMP_RCV)
		complete_session(family, &key, session, now);
}

/* ---------------------------------------------------------------- drops */

/* The last hook of a path that was stamped; HOOK_COUNT if none was. */
static __always_inline __u8 last_hook(const struct icmp_rtt_event *session, int side)
{
	if (side == SIDE_TRANSMIT)
		return session->ts_ns[HOOK_XMIT]      ? HOOK_XMIT :
		       session->ts_ns[HOOK_LOCAL_OUT] ? HOOK_LOCAL_OUT :
		       session->ts_ns[HOOK_SEND]      ? HOOK_SEND :
							HOOK_COUNT;
	return session->ts_ns[HOOK_ICMP_RCV] ? HOOK_ICMP_RCV :
	       session->ts_ns[HOOK_IP_RCV]   ? HOOK_IP_RCV :
	       session->ts_ns[HOOK_RECV]     ? HOOK_RECV :
					       HOOK_COUNT;
}

/*
 * Notes on the echo's session that one of its packets was freed as dropped. It
 * stays open: what was dropped may have been a copy.
 */
static __always_inline void on_drop(struct sk_buff *skb, __u64 location, __u32 reason)
{
	__u8 family = family_of(skb->protocol);
	struct icmp_rtt_event *session;
	struct net_device *dev;
	struct header header;
	struct packet packet;
	struct echo_key key;
	struct sock *sk;
	__u32 netns;
	int side;

	if (!family_wanted(family))
		return;
	header = header_by_offset(skb, family, true);
	parse(&header, &packet, true);
	if (packet.kind != PACKET_REQUEST && packet.kind != PACKET_REPLY)
		return;
	dev = skb->dev;
	sk = skb->sk;
	if (dev)
		netns = netns_of_device(dev, true);
	else if (sk)
		netns = netns_of_socket(sk, true);
	else
		return;
	side = SIDE_TRANSMIT;
	make_key(family, &packet, SIDE_TRANSMIT, direction_of(packet.kind, SIDE_TRANSMIT), netns,
		 &key);
	session = find_echo(family, &key);
	if (!session) {
		side = SIDE_RECEIVE;
		make_key(family, &packet, SIDE_RECEIVE, direction_of(packet.kind, SIDE_RECEIVE),
			 netns, &key);
		session = find_echo(family, &key);
		if (!session && key.direction == DIRECTION_RX &&
		    key.direction & config.directions && addresses_match(family, &key) &&
		    (!config.netns || config.netns == netns)) {
			struct cpu_state *cpu = this_cpu();
			struct arrival *arrival;

			if (!cpu)
				return;
			arrival = &cpu->arrival[slot_of((__u64)skb)];
			if (arrival->skb != (__u64)skb || !arrival->recv_ns ||
			    !same_echo(&arrival->key, &key))
				return;
			session = open_session(family, &key);
			if (session) {
				adopt(session, arrival, !arrival->stray);
				if (dev)
					note_device(session, SIDE_RECEIVE, dev, true);
			}
		}
	}
	if (!session)
		return;
	count(COUNTER_DROPS);
	session->drop_side = side + 1;
	session->drop_hook = last_hook(session, side);
	session->drop_ip = location;
	session->drop_reason = reason;
	session->drop_ts_ns = bpf_ktime_get_ns();
}

/* ------------------------------------------------------------- programs */

/* Stage ip_send_skb: where ip_send_skb is inlined away. The header is complete. */
SEC("?fexit/__ip_make_skb")
int fexit____ip_make_skb(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct flowi4 *flow = (struct flowi4 *)ctx[1];
	struct sk_buff *skb = (struct sk_buff *)ctx[4];

	if (flow->__fl_common.flowic_proto != IPPROTO_ICMP || !skb)
		return 0;
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
SEC("?tp_btf/net_dev_queue")
int tp_btf__net_dev_queue(__u64 *ctx)
{
	on_xmit(ctx, (struct sk_buff *)ctx[0], PROBE_net_dev_queue, true);
	return 0;
}

/* Stage __netif_receive_skb: the only point that every receive path shares. */
SEC("?tp_btf/netif_receive_skb")
int tp_btf__netif_receive_skb(__u64 *ctx)
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
SEC("?tp_btf/kfree_skb")
int tp_btf__kfree_skb(__u64 *ctx)
{
	__u32 reason = config.drop_reasons ? ctx[KFREE_SKB_REASON_ARG] : 0;

	on_drop((struct sk_buff *)ctx[0], ctx[1], reason);
	return 0;
}
