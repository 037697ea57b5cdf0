/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whose echo a packet belongs to, whether it is asked for, and what a hook
 * notes of it: the parts that both paths share.
 */
#ifndef ECHO_BPF_H
#define ECHO_BPF_H

/*
 * Key: enum icmp_rtt_probe; value: how often it recognised an echo of the
 * self-test. Read by the reader when its echo was answered.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PROBE_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} fired SEC(".maps");

/*
 * Whether every probe is attached and the self-test over: set by the reader's first
 * sweep. An echo that began before would lack what came by in the meantime. Not so any
 * more from the last but one on, when probes are about to go.
 */
static bool started;
/* Whether the self-test is over: that stays so. */
static bool tested;

/*
 * Whether a request was ever followed that many may answer, or that one of our
 * addresses answers of many: only then is there a second look.
 */
static bool many_asked;
static bool many_answered;

static __always_inline bool in_prefix(const __u32 *address, const volatile __u32 *prefix,
				      const volatile __u32 *mask, __u8 family)
{
	if ((address[0] & mask[0]) != prefix[0])
		return false;
	if (family == FAMILY_IPV4)
		return true;
	return (address[1] & mask[1]) == prefix[1] && (address[2] & mask[2]) == prefix[2] &&
	       (address[3] & mask[3]) == prefix[3];
}

static __always_inline bool addresses_match(__u8 family, const struct echo_key *key)
{
	const __u32 local[4] = { key->local, key->local_rest[0], key->local_rest[1],
				 key->local_rest[2] };
	const __u32 remote[4] = { key->remote, key->remote_rest[0], key->remote_rest[1],
				  key->remote_rest[2] };

	return in_prefix(local, config.local, config.local_mask, family) &&
	       in_prefix(remote, config.remote, config.remote_mask, family);
}

/*
 * Whether the addresses of what arrives are those asked for: of a request to many the
 * answer comes from another one.
 */
static __always_inline bool arrival_matches(__u8 family, const struct echo_key *key)
{
	const __u32 local[4] = { key->local, key->local_rest[0], key->local_rest[1],
				 key->local_rest[2] };

	return addresses_match(family, key) ||
	       (many_asked && key->direction == DIRECTION_TX &&
		in_prefix(local, config.local, config.local_mask, family));
}

/* Constants to the verifier, which leaves out what is not asked for. */
static __always_inline bool tracing(__u32 direction)
{
	return config.directions & direction;
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

/* @address: the first word of it. */
static __always_inline bool is_multicast(__u8 family, __u32 address)
{
	if (family == FAMILY_IPV4)
		return (address & bpf_htonl(0xF0000000)) == bpf_htonl(0xE0000000);
	return (address & bpf_htonl(0xFF000000)) == bpf_htonl(0xFF000000);
}

/* The key of a request that many may answer. */
static __always_inline void any_remote(struct echo_key *key)
{
	key->remote = 0;
	for (int i = 0; i < 3; i++)
		key->remote_rest[i] = 0;
}

/* The key of a request to a group that one of our own addresses answers. */
static __always_inline void any_local(struct echo_key *key)
{
	key->local = 0;
	for (int i = 0; i < 3; i++)
		key->local_rest[i] = 0;
}

/* A session by exact key or by that of a request to many, which becomes @key. @word: see is_slot_of. */
static __always_inline struct icmp_rtt_event *find_echo(__u8 family, struct echo_key *key,
							__u64 *word)
{
	struct icmp_rtt_event *session = find_session(family, key, word);
	struct echo_key any;

	if (session || !(key->direction == DIRECTION_TX ? many_asked : many_answered))
		return session;
	any = *key;
	if (key->direction == DIRECTION_TX)
		any_remote(&any);
	else
		any_local(&any);
	session = find_session(family, &any, word);
	if (session)
		*key = any;
	return session;
}

/*
 * The session of a received packet. None for a reply that an earlier request of
 * the same key was sent.
 */
static __always_inline struct icmp_rtt_event *find_receive(__u8 family, struct echo_key *key,
							   __u16 sum, __u64 *word)
{
	struct icmp_rtt_event *session = find_echo(family, key, word);

	if (session && key->direction == DIRECTION_TX && !answers(family, key, session, sum))
		return NULL;
	return session;
}

/*
 * Whether a request at the hook that may open its session is to be followed;
 * counts, by the first thing that does not match, those that are not.
 */
static __always_inline bool request_wanted(struct cpu_state *cpu, __u8 family,
					   const struct echo_key *key)
{
	bool address = addresses_match(family, key);
	bool direction = key->direction & config.directions;

	if (!started)
		return false;
	if (!address || !direction) {
		if (direction)
			count(cpu, COUNTER_OTHER_ADDRESS);
		else if (address)
			count(cpu, COUNTER_OTHER_DIRECTION);
		return false;
	}
	if (config.netns && key->netns != config.netns) {
		count(cpu, COUNTER_OTHER_NETNS);
		return false;
	}
	return true;
}

static __always_inline bool self_testing(void)
{
	return config.self_test_netns && !tested;
}

/* No echo of ours is under way, and none begins with what arrives. */
static __always_inline bool nothing_to_end(void)
{
	return !tracing(DIRECTION_RX) && !under_way.any && !self_testing();
}

/* An echo of the self-test: it shows that the probe fires and is read right, no more. */
static __always_inline bool is_self_test(__u32 netns, const int probe)
{
	/* Or the verifier goes through what follows once more, for a namespace that it knows. */
	__u32 other = netns ^ config.self_test_netns;
	__u32 which = probe;
	__u64 *times;

	barrier_var(other);
	if (other || !self_testing())
		return false;
	times = bpf_map_lookup_elem(&fired, &which);
	if (times)
		add_atomic(times, 1);
	return true;
}

static __always_inline void stamp(void *ctx, const struct cpu_state *cpu,
				  struct icmp_rtt_event *session, const int hook, const int probe,
				  __u64 skb, __u64 now)
{
	if (session->ts_ns[hook])
		return;
	session->skb[hook] = skb;
	session->cpu[hook] = cpu->number;
	session->probe[hook] = probe;
	if (config.stacks)
		session->stack_bytes[hook] = bpf_get_stack(ctx, session->stack[hook],
							   sizeof(session->stack[hook]), 0);
	session->ts_ns[hook] = now;
}

static __always_inline void note_task(struct icmp_rtt_event *session, const int side)
{
	struct task_struct *task;

	if (config.typed_task) {
		task = bpf_get_current_task_btf();
		session->side[side].pid = task->tgid;
		*(__u64 *)&session->side[side].comm[0] = *(__u64 *)&task->comm[0];
		*(__u64 *)&session->side[side].comm[8] = *(__u64 *)&task->comm[8];
		return;
	}
	session->side[side].pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(session->side[side].comm, ICMP_RTT_NAME_LEN);
}

static __always_inline void note_task_once(struct icmp_rtt_event *session, const int side)
{
	if (!session->side[side].pid && !session->side[side].comm[0])
		note_task(session, side);
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

/* Whether it is a device of the socket's own namespace. */
static __always_inline bool is_of_netns(struct net_device *dev, struct sock *sk, const bool typed)
{
	return GET(typed, dev, nd_net.net) == GET(typed, sk, __sk_common.skc_net.net);
}

static __always_inline bool device_wanted(struct net_device *dev, const bool typed)
{
	return !config.ifindex || ((__u32)GET(typed, dev, ifindex) == config.ifindex &&
				   netns_of_device(dev, typed) == config.netns);
}

#endif
