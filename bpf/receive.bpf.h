/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The way in: from the device to ICMP. What is stamped on arrival is kept with
 * the skb until it is known whose it is.
 */
#ifndef RECEIVE_BPF_H
#define RECEIVE_BPF_H

#define LIST_MAX 64
#define ESTALE 116

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

/*
 * First fragments of requests, which are put together on any CPU, in the skb of
 * any fragment. Key: as it arrived; value: the arrival. Inserted at ip_rcv,
 * deleted at icmp_rcv; full: the least recent goes.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct echo_key);
	__type(value, struct arrival);
} fragments SEC(".maps");

static __always_inline struct arrival_stacks *stacks_of_arrival(const struct arrival *arrival)
{
	__u32 key = arrival->cpu * TAGS + arrival->slot;

	return bpf_map_lookup_elem(&arrival_stacks, &key);
}

static __always_inline void keep_stack(void *ctx, const struct arrival *arrival, const int which)
{
	struct arrival_stacks *stacks;

	if (!config.stacks)
		return;
	stacks = stacks_of_arrival(arrival);
	if (stacks)
		stacks->bytes[which] = bpf_get_stack(ctx, stacks->stack[which],
						     sizeof(stacks->stack[which]), 0);
}

/* Whether the stacks of a fragment, long after it arrived, are still its own. */
static __always_inline bool still_kept(const struct arrival *arrival)
{
	__u32 key = arrival->cpu;
	const struct cpu_state *cpu = bpf_map_lookup_elem(&cpus, &key);

	return cpu && cpu->arrival[arrival->slot & (TAGS - 1)].since_ns == arrival->since_ns;
}

static __always_inline void move_stack(struct icmp_rtt_event *session,
				       const struct arrival *arrival, const int hook)
{
	struct arrival_stacks *stacks;

	if (!config.stacks)
		return;
	stacks = stacks_of_arrival(arrival);
	if (!stacks)
		return;
	if (arrival->fragment && !still_kept(arrival)) {
		session->stack_bytes[hook] = -ESTALE;
		return;
	}
	session->stack_bytes[hook] = stacks->bytes[hook - HOOK_RECV];
	bpf_probe_read_kernel(session->stack[hook], sizeof(session->stack[hook]),
			      stacks->stack[hook - HOOK_RECV]);
}

static __always_inline void move_stamp(struct icmp_rtt_event *session,
				       const struct arrival *arrival, const int hook, __u8 probe,
				       __u64 ts_ns)
{
	if (!ts_ns || session->ts_ns[hook])
		return;
	session->skb[hook] = arrival->skb;
	session->cpu[hook] = arrival->cpu;
	session->probe[hook] = probe;
	move_stack(session, arrival, hook);
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
		move_stamp(session, arrival, HOOK_RECV, arrival->recv_probe, arrival->recv_ns);
	move_stamp(session, arrival, HOOK_IP_RCV, arrival->ip_rcv_probe, arrival->ip_rcv_ns);
	arrival->recv_ns = 0;
	arrival->ip_rcv_ns = 0;
}

/* A bridge hands the skb of a port on as its own: one packet that arrives twice. */
static __always_inline bool arrived_before(const struct arrival *arrival, struct sk_buff *skb,
					   const struct packet *packet)
{
	return arrival->skb == (__u64)skb && arrival->recv_ns && arrival->key.id == packet->id &&
	       arrival->key.seq == packet->seq && arrival->key.local == packet->daddr[0] &&
	       arrival->key.remote == packet->saddr[0];
}

static __always_inline bool same_echo(const struct echo_key *a, const struct echo_key *b)
{
	return a->id == b->id && a->seq == b->seq && a->local == b->local &&
	       a->remote == b->remote;
}

/* The session of what has arrived, if it is known by now: opens or stamps it. */
static __always_inline void on_recv_session(struct cpu_state *cpu, struct net_device *dev,
					    struct arrival *arrival, const int family, __u64 now)
{
	struct icmp_rtt_event *session;

	if (arrival->key.direction == DIRECTION_RX) {
		if (config.rx_open != HOOK_RECV ||
		    !request_wanted(cpu, family, &arrival->key) || !tracing(DIRECTION_RX))
			return;
		session = open_session(cpu, family, &arrival->key);
	} else {
		/* Behind NAT it may still be one of ours: icmp_rcv will tell. */
		if (!addresses_match(family, &arrival->key))
			return;
		session = find_receive(family, &arrival->key, arrival->sum);
	}
	if (!session)
		return;
	/* Of a lower device (vlan, bond): ip_rcv tells whether it is for the one asked for. */
	if (arrival->stray) {
		if (config.tx_close == HOOK_RECV)
			session->other_interface = 1;
		return;
	}
	/* A bridge hands on what its port has received: the last device is whose it is. */
	if (!session->side[SIDE_RECEIVE].ifindex || session->skb[HOOK_RECV] == arrival->skb)
		note_device(session, SIDE_RECEIVE, dev, TYPED_TRACEPOINT);
	adopt(session, arrival, true);
	arrival->number = slot_of_session(session)->number;
	arrival->word = word_of(session, family, &arrival->key);
	if (arrival->key.direction == DIRECTION_TX && config.tx_close == HOOK_RECV &&
	    session->ts_ns[HOOK_RECV])
		complete_session(cpu, session, arrival->word, now);
}

/*
 * A request while only replies are waited for, or the other way round: icmp_rcv
 * counts it as what it is, and needs no second look at the packet.
 */
static __always_inline void refuse_direction(struct cpu_state *cpu, __u64 skb, const int family,
					     const struct packet *packet)
{
	cpu->refused_matches =
		packet->kind == PACKET_REQUEST &&
		in_prefix(packet->daddr, config.local, config.local_mask, family) &&
		in_prefix(packet->saddr, config.remote, config.remote_mask, family);
	refuse(cpu, skb);
}

/*
 * Arrival. What is stamped here is kept with the skb: which namespace and
 * which device it is for is only known at ip_rcv (macvlan, vlan, bond hand the
 * skb on without coming by here again), whose it is behind NAT at icmp_rcv.
 */
static __always_inline void on_recv_family(void *ctx, struct sk_buff *skb, const int probe,
					   const int family, __u32 skipped)
{
	struct header header = header_on_arrival(skb, family, skipped);
	struct net_device *dev;
	struct arrival *arrival;
	struct cpu_state *cpu;
	struct packet packet;
	__u32 direction;
	__u64 now;

	parse(&header, &packet, TYPED_TRACEPOINT);
	if (packet.kind == PACKET_FOREIGN)
		return;
	cpu = this_cpu();
	if (!cpu)
		return;
	refuse_none(cpu);
	cpu->delivered = 0;
	if (packet.kind == PACKET_UNREADABLE)
		count(cpu, COUNTER_UNPARSED);
	if (packet.kind != PACKET_REQUEST && packet.kind != PACKET_REPLY) {
		/* A later fragment may be what its packet is put together in. */
		arrival = find_arrival(cpu, (__u64)skb);
		if (arrival)
			release_arrival(arrival);
		return;
	}
	direction = direction_of(packet.kind, SIDE_RECEIVE);
	if (!(direction & config.directions) && config.rx_open != HOOK_RECV) {
		refuse_direction(cpu, (__u64)skb, family, &packet);
		return;
	}
	now = bpf_ktime_get_ns();
	arrival = claim_arrival(cpu, (__u64)skb);
	dev = GET(TYPED_TRACEPOINT, skb, dev);
	if (!arrived_before(arrival, skb, &packet)) {
		arrival->skb = (__u64)skb;
		arrival->recv_ns = now;
		arrival->recv_probe = probe;
		arrival->fragment = packet.fragment;
		keep_stack(ctx, arrival, 0);
	}
	arrival->since_ns = now;
	make_key(family, &packet, SIDE_RECEIVE, direction, netns_of_device(dev, TYPED_TRACEPOINT),
		 &arrival->key);
	arrival->sum = sum_without_type(&packet);
	arrival->dev = (__u64)dev;
	arrival->ip_rcv_ns = 0;
	arrival->word = 0;
	arrival->stray = !device_wanted(dev, TYPED_TRACEPOINT);
	expect(cpu);
	if (!is_self_test(arrival->key.netns, probe))
		on_recv_session(cpu, dev, arrival, family, now);
}

/*
 * No reply can end anything, and whatever else comes by is looked at where it is
 * delivered, if there is a hook.
 */
static __always_inline bool nothing_awaited(void)
{
	return !tracing(DIRECTION_RX) && config.rx_open != HOOK_RECV && !under_way && !cpus_refusing &&
	       !self_testing();
}

static __always_inline void on_recv(void *ctx, struct sk_buff *skb, const int probe)
{
	__be16 protocol;
	__u32 skipped = 0;

	if (nothing_awaited())
		return;
	protocol = GET(TYPED_TRACEPOINT, skb, protocol);
	if (protocol != bpf_htons(ETH_P_IP) && protocol != bpf_htons(ETH_P_IPV6))
		skipped = skip_tags(skb, &protocol);
	if (protocol == bpf_htons(ETH_P_IP)) {
		if (config.families & FAMILY_IPV4)
			on_recv_family(ctx, skb, probe, FAMILY_IPV4, skipped);
	} else if (protocol == bpf_htons(ETH_P_IPV6)) {
		if (config.families & FAMILY_IPV6)
			on_recv_family(ctx, skb, probe, FAMILY_IPV6, skipped);
	}
}

/*
 * An arrival that on_recv could not give to its session, or that another device
 * has taken over: now the device that it is really for is known.
 */
static __always_inline void on_other_device(struct sk_buff *skb, struct arrival *arrival,
					    const int family, const bool typed)
{
	struct net_device *dev = GET(typed, skb, dev);
	__u32 netns = netns_of_device(dev, typed);
	bool wanted = device_wanted(dev, typed);
	struct icmp_rtt_event *session;

	arrival->key.netns = netns;
	if (wanted)
		arrival->stray = 0;
	if (arrival->key.direction == DIRECTION_RX && config.rx_open != HOOK_RECV) {
		if (arrival->fragment)
			bpf_map_update_elem(&fragments, &arrival->key, arrival, BPF_ANY);
		return;
	}
	if (!addresses_match(family, &arrival->key))
		return;
	session = find_receive(family, &arrival->key, arrival->sum);
	if (!session)
		return;
	adopt(session, arrival, wanted);
	if (!config.ifindex || wanted)
		note_device(session, SIDE_RECEIVE, dev, typed);
}

/* An skb that on_recv recognised. Its stamp waits with it for icmp_rcv, or for its end. */
static __always_inline void reach_ip_rcv(void *ctx, struct arrival *arrival, const int probe)
{
	arrival->ip_rcv_ns = bpf_ktime_get_ns();
	arrival->ip_rcv_probe = probe;
	keep_stack(ctx, arrival, 1);
}

static __always_inline void settle_arrival(struct sk_buff *skb, struct arrival *arrival,
					   const __u32 probe, const __u32 family, const bool typed)
{
	if (is_self_test(arrival->key.netns, probe))
		return;
	if (arrival->recv_ns || arrival->fragment || arrival->dev != (__u64)GET(typed, skb, dev))
		on_other_device(skb, arrival, family, typed);
}

static __always_inline void on_ip_rcv(void *ctx, struct sk_buff *skb, const int probe,
				      const int family, const bool typed)
{
	struct icmp_rtt_event *session;
	struct cpu_state *cpu;
	struct arrival *arrival;
	struct header header;
	struct packet packet;
	struct echo_key key;

	if (!cpus_pending)
		return;
	cpu = this_cpu();
	if (!cpu || !cpu->pending)
		return;
	arrival = find_arrival(cpu, (__u64)skb);
	if (arrival && !arrival->ip_rcv_ns) {
		expect_fewer(cpu, 1, 0);
		reach_ip_rcv(ctx, arrival, probe);
		settle_arrival(skb, arrival, probe, family, typed);
		return;
	}
	/* One of ours may have become another skb on the way (a clone). */
	expect_fewer(cpu, 0, cpu->strays + 1);
	header = header_by_offset(skb, family, typed);
	parse(&header, &packet, typed);
	if (packet.kind != PACKET_REPLY || !tracing(DIRECTION_TX))
		return;
	make_key(family, &packet, SIDE_RECEIVE, DIRECTION_TX,
		 netns_of_device(GET(typed, skb, dev), typed), &key);
	session = find_receive(family, &key, sum_without_type(&packet));
	if (session)
		stamp(ctx, cpu, session, HOOK_IP_RCV, probe, (__u64)skb, bpf_ktime_get_ns());
}

/*
 * Notes the slot of a listed skb's arrival, if it is one of ours. A global
 * function, as find_tagged is.
 */
__noinline int note_listed(__u64 skb)
{
	struct cpu_state *cpu = this_cpu();
	struct arrival *arrival;

	if (!cpu)
		return 0;
	arrival = find_arrival(cpu, skb);
	if (arrival && !arrival->ip_rcv_ns) {
		cpu->found[cpu->found_count & (LISTED_MAX - 1)] = arrival->slot;
		cpu->found_count++;
	}
	return 0;
}

/* What follows reach_ip_rcv, for an skb of a list. As note_listed. */
__noinline int settle_listed(__u32 slot, __u32 probe, __u32 family)
{
	struct cpu_state *cpu = this_cpu();
	struct arrival *arrival;
	struct sk_buff *skb;

	if (!cpu)
		return 0;
	arrival = &cpu->arrival[slot & (TAGS - 1)];
	skb = (struct sk_buff *)arrival->skb;
	settle_arrival(skb, arrival, probe, family, false);
	return 0;
}

/*
 * A list is walked only when one of ours has arrived on this CPU: once to find
 * them, then each is looked at. What is listed and found is passed on by way of
 * the map: what is read from there is a number to the verifier, like any other.
 * The counters have 64 bits because verifiers before 6.8 forget a spilled one
 * of 32.
 */
static __always_inline void on_ip_list_rcv(void *ctx, struct list_head *list, const int probe,
					   const int family, const bool typed)
{
	struct arrival *arrival;
	struct list_head *node;
	struct cpu_state *cpu;
	__u64 found;
	__u64 i;

	if (!cpus_pending)
		return;
	cpu = this_cpu();
	if (!cpu || !cpu->pending)
		return;
	cpu->found_count = 0;
	node = GET(typed, list, next);
	for (i = 0; i < LIST_MAX && node && node != list; i++) {
		*(volatile __u64 *)&cpu->listed = (__u64)node;
		note_listed(*(volatile __u64 *)&cpu->listed);
		node = GET(typed, node, next);
	}
	found = cpu->found_count;
	if (i == LIST_MAX || found > LISTED_MAX)
		count(cpu, COUNTER_LIST_TRUNCATED);
	expect_fewer(cpu, found, cpu->strays + i - found);
	for (i = 0; i < LISTED_MAX && i < cpu->found_count; i++) {
		arrival = &cpu->arrival[cpu->found[i] & (TAGS - 1)];
		reach_ip_rcv(ctx, arrival, probe);
		settle_listed(cpu->found[i], probe, family);
	}
}

/* An ICMP error that quotes one of our requests. */
static __always_inline void on_error(struct cpu_state *cpu, struct header *header, const struct packet *packet,
				     __u32 netns, const bool typed)
{
	struct header inner = {
		.at = header->at + packet->inner,
		.skb = header->skb,
		.skipped = packet->inner,
		.offset = header->offset,
		.family = header->family,
	};
	struct icmp_rtt_event *session;
	struct packet quoted;
	struct echo_key key;

	if (!tracing(DIRECTION_TX))
		return;
	parse(&inner, &quoted, typed);
	if (quoted.kind != PACKET_REQUEST)
		return;
	make_key(header->family, &quoted, SIDE_TRANSMIT, DIRECTION_TX, netns, &key);
	session = find_echo(header->family, &key);
	if (!session || session->error_ts_ns)
		return;
	count(cpu, COUNTER_ICMP_ERRORS);
	session->error_type = packet->type;
	session->error_code = packet->code;
	session->error_from[0] = packet->saddr[0];
	if (header->family == FAMILY_IPV6)
		for (int i = 1; i < 4; i++)
			session->error_from[i] = packet->saddr[i];
	session->error_ts_ns = bpf_ktime_get_ns();
}

/*
 * A reply whose echo isn't under way: a second one, a late one, or a stray. One
 * that belongs to a reported echo is noted.
 */
static __always_inline void on_unmatched(struct cpu_state *cpu, __u8 family,
					 struct echo_key *key, const int probe, __u64 skb,
					 __u64 now)
{
	struct echo_key any = *key;
	__u64 completed;

	any_remote(&any);
	completed = find_completed(family, key);
	if (!completed)
		completed = find_completed(family, &any);
	if (completed) {
		count(cpu, COUNTER_DUPLICATE_REPLIES);
		if (completed & 1)
			emit_reply(cpu, family, key, OUTCOME_DUPLICATE, HOOK_ICMP_RCV, probe, skb, now);
	} else if (bpf_map_lookup_elem(&given_up, key) || bpf_map_lookup_elem(&given_up, &any)) {
		count(cpu, COUNTER_LATE_REPLIES);
		emit_reply(cpu, family, key, OUTCOME_LATE, HOOK_ICMP_RCV, probe, skb, now);
	} else {
		count(cpu, COUNTER_UNMATCHED_REPLIES);
	}
}

/* A session that its packet's delivery opens or finds; NULL, and counted, if there is none. */
static __always_inline struct icmp_rtt_event *
session_at_icmp(struct cpu_state *cpu, struct sk_buff *skb, __u8 family,
		const struct packet *packet, struct echo_key *key, const int probe, __u64 now)
{
	struct icmp_rtt_event *session;

	if (packet->kind == PACKET_REQUEST) {
		if (!request_wanted(cpu, family, key) || !tracing(DIRECTION_RX))
			return NULL;
		return open_session(cpu, family, key);
	}
	cpu->delivered = (__u64)skb;
	if (!tracing(DIRECTION_TX) || !addresses_match(family, key))
		return NULL;
	session = find_receive(family, key, sum_without_type(packet));
	if (!session)
		on_unmatched(cpu, family, key, probe, (__u64)skb, now);
	return session;
}

/*
 * The arrival of an echo whose packet has another skb by now: ip_rcv goes on with
 * a clone where a packet socket of one protocol (a DHCP client's, say) has taken
 * the skb as well. One more than its slot; 0: there is none. A global function:
 * see find_tagged.
 */
__noinline int find_arrival_of(__u32 number, __u16 id, __u16 seq, __u32 local, __u32 remote)
{
	struct cpu_state *cpu = bpf_map_lookup_elem(&cpus, &number);
	const struct echo_key key = { .id = id, .seq = seq, .local = local, .remote = remote };

	if (!cpu)
		return 0;
	for (int i = 0; i < TAGS; i++) {
		struct arrival *arrival = &cpu->arrival[i];

		if (arrival->skb && arrival->ip_rcv_ns && same_echo(&arrival->key, &key))
			return i + 1;
	}
	return 0;
}

/*
 * What the arrival has kept. One that was delivered on another CPU than it
 * arrived on (by way of a queue of nftables, say) has left it there.
 */
static __always_inline void adopt_arrival(struct cpu_state *cpu, struct icmp_rtt_event *session,
					  struct sk_buff *skb, struct echo_key *key, bool wanted)
{
	__u32 number = cpu->number;
	struct arrival *arrival;
	__u32 found;

	if (session->ts_ns[HOOK_RECV] && session->cpu[HOOK_RECV] != number) {
		number = session->cpu[HOOK_RECV];
		cpu = bpf_map_lookup_elem(&cpus, &number);
	}
	if (!cpu)
		return;
	arrival = find_arrival(cpu, (__u64)skb);
	/* What was put together may have the skb that an earlier first fragment had. */
	if (arrival && (arrival->key.id != key->id || arrival->key.seq != key->seq))
		arrival = NULL;
	if (!arrival) {
		found = find_arrival_of(number, key->id, key->seq, key->local, key->remote);
		if (found)
			arrival = &cpu->arrival[(found - 1) & (TAGS - 1)];
	}
	if (!arrival && tracing(DIRECTION_RX) && key->direction == DIRECTION_RX)
		arrival = bpf_map_lookup_elem(&fragments, key);
	if (!arrival) {
		/* Its IP header was not where on_recv can read it: a driver's page fragment. */
		if (!session->ts_ns[HOOK_RECV])
			count(cpu, COUNTER_UNPARSED);
		return;
	}
	adopt(session, arrival, wanted);
	release_arrival(arrival);
	if (tracing(DIRECTION_RX) && arrival->fragment)
		bpf_map_delete_elem(&fragments, key);
}

/* Whether a packet that is delivered while nothing is awaited has none of our addresses. */
static __always_inline bool is_strange(struct sk_buff *skb, __u8 family, const bool typed)
{
	const void *at = GET(typed, skb, head) + GET(typed, skb, network_header);
	__u32 addresses[8];

	if (family == FAMILY_IPV4) {
		if (bpf_probe_read_kernel(addresses, 8, at + IPV4_SADDR))
			return false;
		return !in_prefix(&addresses[1], config.local, config.local_mask, family) ||
		       !in_prefix(&addresses[0], config.remote, config.remote_mask, family);
	}
	if (bpf_probe_read_kernel(addresses, 32, at + IPV6_SADDR))
		return false;
	return !in_prefix(&addresses[4], config.local, config.local_mask, family) ||
	       !in_prefix(&addresses[0], config.remote, config.remote_mask, family);
}

/* The session that was given what the arrival of its packet has kept; NULL: look at the packet. */
static __always_inline struct icmp_rtt_event *session_of_arrival(const struct arrival *arrival,
								  struct sk_buff *skb)
{
	struct icmp_rtt_event *session;

	if (!arrival || !arrival->word || arrival->fragment)
		return NULL;
	session = session_alive_at(arrival->number, arrival->word);
	return session && session->skb[HOOK_RECV] == (__u64)skb ? session : NULL;
}

/* A packet of the session that was found under @word has come to ICMP. */
static __always_inline void on_delivered(void *ctx, const struct cpu_state *cpu,
					 struct icmp_rtt_event *session, __u64 word,
					 struct sk_buff *skb, struct net_device *dev, bool wanted,
					 const int probe, __u64 now, const bool typed)
{
	if (!session->side[SIDE_RECEIVE].pid && !session->side[SIDE_RECEIVE].comm[0])
		note_task(session, SIDE_RECEIVE);
	if (!session->side[SIDE_RECEIVE].ifindex && (!config.ifindex || wanted))
		note_device(session, SIDE_RECEIVE, dev, typed);
	stamp(ctx, cpu, session, HOOK_ICMP_RCV, probe, (__u64)skb, now);
	if (session->direction == DIRECTION_TX && config.tx_close == HOOK_ICMP_RCV)
		complete_session(cpu, session, word, now);
}

/* One of ours by its addresses; no self-test's is. Counts, as request_wanted, those that are not. */
static __always_inline bool is_foreign(struct cpu_state *cpu, struct sk_buff *skb, __u8 family,
				       const struct packet *packet)
{
	if (self_testing() ||
	    (in_prefix(packet->daddr, config.local, config.local_mask, family) &&
	     in_prefix(packet->saddr, config.remote, config.remote_mask, family)))
		return false;
	if (packet->kind == PACKET_REPLY)
		cpu->delivered = (__u64)skb;
	else if (tracing(DIRECTION_RX))
		count(cpu, COUNTER_OTHER_ADDRESS);
	return true;
}

/*
 * Delivered to this host: the addresses are final. Looks at the packet anew
 * unless its arrival was given to a session, because reassembly may have made
 * it another skb and NAT another echo.
 */
static __always_inline void on_icmp_rcv(void *ctx, struct sk_buff *skb, const int probe,
					const int family, const bool typed)
{
	struct icmp_rtt_event *session;
	struct arrival *arrival;
	struct net_device *dev;
	struct cpu_state *cpu;
	struct header header;
	struct packet packet;
	struct echo_key key;
	bool wanted;
	__u64 word;
	__u64 now;

	if (nothing_awaited() && is_strange(skb, family, typed))
		return;
	cpu = this_cpu();
	if (!cpu)
		return;
	if (cpu->refused == (__u64)skb) {
		refuse_none(cpu);
		cpu->delivered = (__u64)skb;
		if (cpu->refused_matches)
			count(cpu, COUNTER_OTHER_DIRECTION);
		return;
	}
	dev = GET(typed, skb, dev);
	arrival = find_arrival(cpu, (__u64)skb);
	session = session_of_arrival(arrival, skb);
	if (session && arrival) {
		now = bpf_ktime_get_ns();
		if (session->direction == DIRECTION_TX)
			cpu->delivered = (__u64)skb;
		wanted = device_wanted(dev, typed);
		word = arrival->word;
		adopt(session, arrival, wanted);
		release_arrival(arrival);
		on_delivered(ctx, cpu, session, word, skb, dev, wanted, probe, now, typed);
		return;
	}
	header = header_by_offset(skb, family, typed);
	parse(&header, &packet, typed);
	if (packet.kind == PACKET_UNREADABLE)
		count(cpu, COUNTER_UNPARSED);
	if (packet.kind == PACKET_ERROR)
		on_error(cpu, &header, &packet, netns_of_device(dev, typed), typed);
	if ((packet.kind != PACKET_REQUEST && packet.kind != PACKET_REPLY) ||
	    is_foreign(cpu, skb, family, &packet))
		return;
	make_key(family, &packet, SIDE_RECEIVE, direction_of(packet.kind, SIDE_RECEIVE),
		 netns_of_device(dev, typed), &key);
	if (is_self_test(key.netns, probe))
		return;
	now = bpf_ktime_get_ns();
	session = session_at_icmp(cpu, skb, family, &packet, &key, probe, now);
	if (!session)
		return;
	wanted = device_wanted(dev, typed);
	word = word_of(session, family, &key);
	adopt_arrival(cpu, session, skb, &key, wanted);
	on_delivered(ctx, cpu, session, word, skb, dev, wanted, probe, now, typed);
}

#endif
