/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The end of the way in: what ICMP is handed ends an echo that we sent, opens one
 * that we are to answer, or tells of one that failed.
 */
#ifndef DELIVER_BPF_H
#define DELIVER_BPF_H

/* Whether a request was to this address: an error about another is of an echo that is over. */
static __always_inline bool is_to(const struct icmp_rtt_event *session, __u8 family,
				  const __u32 *remote)
{
	if (session->remote[0] != remote[0])
		return false;
	return family == FAMILY_IPV4 ||
	       (session->remote[1] == remote[1] && session->remote[2] == remote[2] &&
		session->remote[3] == remote[3]);
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
	session = find_echo(header->family, &key, NULL);
	if (!session || session->error_ts_ns || !is_to(session, header->family, quoted.daddr) ||
	    request_of(header->family, &key, session, sum_without_type(&quoted)) ==
		    REQUEST_EARLIER)
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
					 struct echo_key *key, __u16 sum, const int probe,
					 __u64 skb, __u64 now)
{
	struct echo_key any = *key;
	const struct given_up *late;
	__u64 completed;

	any_remote(&any);
	completed = find_completed(family, key);
	if (!completed)
		completed = find_completed(family, &any);
	late = bpf_map_lookup_elem(&given_up, key);
	if (!late)
		late = bpf_map_lookup_elem(&given_up, &any);
	/* Of two requests of this key, one of which was answered, it may be the other's. */
	if (completed && !(late && late->sum == sum && sum_of(completed) != sum)) {
		count(cpu, COUNTER_DUPLICATE_REPLIES);
		if (completed & 1)
			emit_reply(cpu, family, key, sum, OUTCOME_DUPLICATE, HOOK_ICMP_RCV, probe,
				   skb, now);
	} else if (late) {
		count(cpu, COUNTER_LATE_REPLIES);
		if (late->told)
			emit_reply(cpu, family, key, sum, OUTCOME_LATE, HOOK_ICMP_RCV, probe, skb,
				   now);
	} else if (addresses_match(family, key) && (!config.netns || key->netns == config.netns)) {
		count(cpu, COUNTER_UNMATCHED_REPLIES);
	}
}

/* A session that its packet's delivery opens or finds; NULL, and counted, if there is none. */
static __always_inline struct icmp_rtt_event *
session_at_icmp(struct cpu_state *cpu, struct sk_buff *skb, __u8 family,
		const struct packet *packet, struct echo_key *key, const int probe, __u64 now,
		const bool typed)
{
	struct icmp_rtt_event *session;
	__u16 sum;

	if (packet->kind == PACKET_REQUEST)
		return open_receive(cpu, skb, family, key, now, typed);
	cpu->delivered = (__u64)skb;
	if (!tracing(DIRECTION_TX) || !arrival_matches(family, key))
		return NULL;
	sum = sum_without_type(packet);
	session = find_receive(family, key, sum, NULL);
	if (!session)
		on_unmatched(cpu, family, key, sum, probe, (__u64)skb, now);
	return session;
}

/* Whether a packet that is delivered while nothing is awaited has none of our addresses. */
static __always_inline bool is_strange(struct sk_buff *skb, __u8 family, const bool typed)
{
	const __u32 words = family == FAMILY_IPV4 ? 1 : 4; /* of an address */
	const __u32 saddr = family == FAMILY_IPV4 ? IPV4_SADDR : IPV6_SADDR;
	const void *at = GET(typed, skb, head) + GET(typed, skb, network_header);
	__u32 addresses[8];

	if (bpf_probe_read_kernel(addresses, 2 * words * sizeof(__u32), at + saddr))
		return false;
	return !in_prefix(&addresses[words], config.local, config.local_mask, family) ||
	       !(many_asked ||
		 in_prefix(&addresses[0], config.remote, config.remote_mask, family));
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

/* Of a port, or another lower device: where it was stamped it arrived on the one asked for. */
static __always_inline void note_asked(struct icmp_rtt_event *session)
{
	struct icmp_rtt_side *side = &session->side[SIDE_RECEIVE];

	side->ifindex = config.ifindex;
	*(__u64 *)&side->ifname[0] = config.ifname[0];
	*(__u64 *)&side->ifname[8] = config.ifname[1];
}

/* A packet of the session that was found under @word has come to ICMP. */
static __always_inline void on_delivered(void *ctx, const struct cpu_state *cpu,
					 struct icmp_rtt_event *session, __u64 word,
					 struct sk_buff *skb, struct net_device *dev, bool wanted,
					 const int probe, __u64 now, const bool typed)
{
	note_task_once(session, SIDE_RECEIVE);
	if (!session->side[SIDE_RECEIVE].ifindex) {
		if (!config.ifindex || wanted)
			note_device(session, SIDE_RECEIVE, dev, typed);
		else if (session->ts_ns[HOOK_RECV])
			note_asked(session);
	}
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
	     ((many_asked && packet->kind == PACKET_REPLY) ||
	      in_prefix(packet->saddr, config.remote, config.remote_mask, family))))
		return false;
	if (packet->kind == PACKET_REPLY)
		cpu->delivered = (__u64)skb;
	else if (tracing(DIRECTION_RX))
		count(cpu, COUNTER_OTHER_ADDRESS);
	return true;
}

/* A packet whose arrival was given to its session has come to ICMP. */
static __always_inline void on_known_delivered(void *ctx, struct cpu_state *cpu,
					       struct icmp_rtt_event *session,
					       struct arrival *arrival, struct sk_buff *skb,
					       const int probe, const bool typed)
{
	struct net_device *dev = GET(typed, skb, dev);
	__u64 now = bpf_ktime_get_ns();
	__u64 word = arrival->word;

	if (session->direction == DIRECTION_TX)
		cpu->delivered = (__u64)skb;
	/* Its other stamp is what it was found by. */
	move_stamp(session, arrival, HOOK_IP_RCV, arrival->ip_rcv_probe, arrival->ip_rcv_ns);
	release_arrival(arrival);
	on_delivered(ctx, cpu, session, word, skb, dev, device_wanted(dev, typed), probe, now,
		     typed);
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
	struct echo_key key, found;
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
	arrival = find_arrival(cpu, (__u64)skb);
	session = session_of_arrival(arrival, skb);
	if (session && arrival) {
		on_known_delivered(ctx, cpu, session, arrival, skb, probe, typed);
		return;
	}
	dev = GET(typed, skb, dev);
	header = header_by_offset(skb, family, typed);
	parse(&header, &packet, typed);
	if (packet.kind == PACKET_UNREADABLE)
		count(cpu, COUNTER_UNPARSED);
	if (packet.kind == PACKET_ERROR)
		on_error(cpu, &header, &packet, netns_of_device(dev, typed), typed);
	if (packet.kind != PACKET_REQUEST && packet.kind != PACKET_REPLY)
		return;
	/* Where the other family has no such hook, the echo has begun or ended before this one. */
	if (config.tx_close == HOOK_RECV && !self_testing())
		return;
	if (is_foreign(cpu, skb, family, &packet)) {
		release_earlier(cpu, (__u64)skb);
		return;
	}
	make_key(family, &packet, SIDE_RECEIVE, direction_of(packet.kind, SIDE_RECEIVE),
		 netns_of_device(dev, typed), &key);
	if (is_self_test(key.netns, probe))
		return;
	now = bpf_ktime_get_ns();
	found = key;
	session = session_at_icmp(cpu, skb, family, &packet, &found, probe, now, typed);
	if (!session) {
		release_earlier(cpu, (__u64)skb);
		return;
	}
	wanted = device_wanted(dev, typed);
	word = word_of(session, family, &found);
	adopt_arrival(cpu, session, skb, &key, wanted);
	on_delivered(ctx, cpu, session, word, skb, dev, wanted, probe, now, typed);
}

#endif
