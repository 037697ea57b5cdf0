/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Why one of our packets went no further.
 */
#ifndef DROP_BPF_H
#define DROP_BPF_H

#define IFF_SLAVE 0x800 /* include/uapi/linux/if.h */

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

static __always_inline bool is_cloned(struct sk_buff *skb)
{
	return GET_BITFIELD(TYPED_TRACEPOINT, skb, cloned);
}

/*
 * Whether a packet that has not come to IP was one of two or more that a device above this one
 * gets: of a bond the slave that waits drops what the other one has received, and a bridge's
 * port that is blocked what comes by another port (bond_handle_frame, br_handle_frame).
 * Nothing tells such a slave from one in use, nor such a port: of a port it is what is sent to
 * many.
 */
static __always_inline bool is_redundant(struct sk_buff *skb)
{
	struct net_device *dev = GET(TYPED_TRACEPOINT, skb, dev);
	__u8 pkt_type = pkt_type_of(skb, TYPED_TRACEPOINT);

	if (!dev)
		return false;
	return GET(TYPED_TRACEPOINT, dev, flags) & IFF_SLAVE ||
	       (GET(TYPED_TRACEPOINT, dev, rx_handler) &&
		(pkt_type == PACKET_BROADCAST || pkt_type == PACKET_MULTICAST));
}

/*
 * Whether the packet is known not to be for this host to answer, or not this one of several.
 * @at_ip: a hook saw it come to IP.
 */
static __always_inline bool passes_through(struct sk_buff *skb, __u8 family,
					   const struct echo_key *key, bool at_ip)
{
	if (pkt_type_of(skb, TYPED_TRACEPOINT) == PACKET_OTHERHOST ||
	    (!at_ip && is_redundant(skb)) || is_bridged_on(skb, TYPED_TRACEPOINT))
		return true;
	return !is_multicast(family, key->local) && is_routed_on(skb, family, TYPED_TRACEPOINT);
}

/* Whether an arrival's packet went on in another namespace, which is not where it was dropped. */
static __always_inline bool went_elsewhere(const struct arrival *arrival,
					   const struct echo_key *key)
{
	return arrival->ip_rcv_ns && arrival->key.netns != key->netns;
}

/*
 * A request that is dropped before the hook that would open its session: what
 * its arrival has kept opens one.
 */
static __always_inline struct icmp_rtt_event *open_dropped(struct cpu_state *cpu,
							    struct sk_buff *skb, __u8 family,
							    struct echo_key *key)
{
	struct arrival *arrival = find_arrival(cpu, (__u64)skb);
	struct net_device *dev = GET(TYPED_TRACEPOINT, skb, dev);
	struct icmp_rtt_event *session;

	if (!started || !(key->direction & config.directions) || !addresses_match(family, key) ||
	    (config.netns && config.netns != key->netns))
		return NULL;
	/* Of what was put together, a raw socket may have refused its copy. */
	if (!arrival && !is_cloned(skb))
		arrival = bpf_map_lookup_elem(&fragments, key);
	if (!arrival || !arrival->recv_ns || !same_echo(&arrival->key, key) ||
	    went_elsewhere(arrival, key))
		return NULL;
	if (passes_through(skb, family, key, arrival->ip_rcv_ns))
		return NULL;
	session = open_session(cpu, family, key, bpf_ktime_get_ns(), false);
	if (!session)
		return NULL;
	adopt(session, arrival, !arrival->stray);
	if (dev)
		note_device(session, SIDE_RECEIVE, dev, TYPED_TRACEPOINT);
	return session;
}

/* What a packet socket (tcpdump's) had no room for was a clone of a packet that has left. */
static __always_inline bool is_observers_copy(const struct icmp_rtt_event *session,
					      struct sk_buff *skb, const struct sock *sk)
{
	return session->ts_ns[HOOK_XMIT] && session->skb[HOOK_XMIT] != (__u64)skb && !sk &&
	       is_cloned(skb);
}

/* What was overheard is not how the echo's packet came in. */
static __always_inline void unstamp(struct icmp_rtt_event *session, __u64 skb)
{
	for (int hook = HOOK_RECV; hook <= HOOK_IP_RCV; hook++) {
		if (session->skb[hook] != skb)
			continue;
		session->ts_ns[hook] = 0;
		session->skb[hook] = 0;
		session->side[SIDE_RECEIVE].ifindex = 0;
	}
}

/*
 * Whether a reply that is freed has been handed to ICMP, where no hook saw it arrive in its
 * namespace: the device is a macvlan's or the like, and a raw socket has got its copy.
 */
static __always_inline bool is_delivered(__u32 reason)
{
	return config.tx_close == HOOK_RECV && config.no_socket && reason == config.no_socket;
}

/* Whether a request has begun to be answered: it is the answer that may get no further. */
static __always_inline bool is_answered(const struct icmp_rtt_event *session)
{
	return session->ts_ns[HOOK_SEND] || session->ts_ns[HOOK_LOCAL_OUT] ||
	       session->drop_side == SIDE_TRANSMIT + 1;
}

/*
 * What icmp_rcv is done with, as a raw socket has got its copy; or a copy of a reply that
 * has ended its echo: each raw socket of another ping refuses one.
 */
static __always_inline bool was_delivered(const struct cpu_state *cpu, struct sk_buff *skb)
{
	if (cpu->delivered == (__u64)skb)
		return true;
	return cpu->delivered_head &&
	       cpu->delivered_head == (__u64)GET(TYPED_TRACEPOINT, skb, head) &&
	       is_cloned(skb);
}

/*
 * The session of an echo one of whose packets was dropped; NULL: there is none. @key, @word:
 * those it was found by; @side: of which path the packet was.
 */
static __always_inline struct icmp_rtt_event *
session_dropped(struct cpu_state *cpu, struct sk_buff *skb, struct sock *sk, __u8 family,
		const struct packet *packet, __u32 netns, struct echo_key *key, __u64 *word,
		int *side)
{
	struct icmp_rtt_event *session = NULL;

	*side = SIDE_TRANSMIT;
	make_key(family, packet, SIDE_TRANSMIT, direction_of(packet->kind, SIDE_TRANSMIT), netns,
		 key);
	if (pkt_type_of(skb, TYPED_TRACEPOINT) != PACKET_LOOPBACK)
		session = find_echo(family, key, word);
	if (!session && sk)
		session = session_translated(skb, sk, word);
	if (session)
		return session;
	*side = SIDE_RECEIVE;
	make_key(family, packet, SIDE_RECEIVE, direction_of(packet->kind, SIDE_RECEIVE), netns,
		 key);
	session = find_receive(family, key, sum_without_type(packet), word);
	if (!session && tracing(DIRECTION_RX) && packet->kind == PACKET_REQUEST)
		session = open_dropped(cpu, skb, family, key);
	return session;
}

/* Whether what was dropped is no loss to the echo: it has left, or was read, before that. */
static __always_inline bool is_no_loss(const struct icmp_rtt_event *session, struct sk_buff *skb,
				       const struct sock *sk, const struct net_device *dev,
				       int side, __u8 pkt_type)
{
	if (side == SIDE_TRANSMIT && is_observers_copy(session, skb, sk))
		return true;
	/*
	 * It has come in again, by another device of this host, or its sender was handed a copy
	 * (with a time stamp, and has not read it): it has left.
	 */
	if (side == SIDE_TRANSMIT && pkt_type >= PACKET_BROADCAST && pkt_type <= PACKET_OUTGOING)
		return true;
	/* What a socket has received, and its owner has not read, is of no device any more. */
	return !dev && (side == SIDE_RECEIVE || session->ts_ns[HOOK_XMIT]);
}

/* Whether a received packet's end is none that a drop is noted for: its session is seen to. */
static __always_inline bool is_settled(struct cpu_state *cpu, struct sk_buff *skb, __u8 family,
				       const struct packet *packet, const struct echo_key *key,
				       struct icmp_rtt_event *session, __u64 word, __u32 reason)
{
	/* As that one was: its answer may have gone no further. */
	if (packet->kind == PACKET_REQUEST && is_answered(session))
		return true;
	if (packet->kind == PACKET_REPLY && is_delivered(reason)) {
		complete_session(cpu, session, word, bpf_ktime_get_ns());
		return true;
	}
	if (packet->kind == PACKET_REQUEST && session->skb[HOOK_RECV] == (__u64)skb &&
	    passes_through(skb, family, key, session->ts_ns[HOOK_IP_RCV])) {
		disown(cpu, slot_of_session(session), word);
		return true;
	}
	return false;
}

/*
 * Notes on the echo's session that one of its packets was freed as dropped. It
 * stays open: what was dropped may have been a copy.
 */
static __always_inline void on_drop(struct sk_buff *skb, __u64 location, __u32 reason)
{
	struct icmp_rtt_event *session;
	struct cpu_state *cpu;
	struct net_device *dev;
	struct header header;
	struct packet packet;
	struct echo_key key;
	struct sock *sk;
	__u64 word = 0;
	__u8 family, pkt_type;
	__u32 netns;
	int side;

	if (nothing_to_end())
		return;
	skb = untrusted(skb);
	cpu = this_cpu();
	sk = GET(TYPED_TRACEPOINT, skb, sk);
	if (!cpu || (!sk && was_delivered(cpu, skb)))
		return;
	family = family_of(GET(TYPED_TRACEPOINT, skb, protocol));
	if (!family_wanted(family))
		return;
	header = header_by_offset(skb, family, TYPED_TRACEPOINT);
	parse(&header, &packet, TYPED_TRACEPOINT);
	if (packet.kind != PACKET_REQUEST && packet.kind != PACKET_REPLY)
		return;
	packet.kind = any_number(packet.kind, location); /* what follows is verified once for both */
	dev = GET(TYPED_TRACEPOINT, skb, dev);
	if (dev)
		netns = netns_of_device(dev, TYPED_TRACEPOINT);
	else if (sk)
		netns = netns_of_socket(sk, TYPED_TRACEPOINT);
	else
		return;
	/* Its IPv6 request may be freed as dropped even after it was answered: see compat.bpf.h. */
	if (is_self_test(netns, PROBE_kfree_skb))
		return;
	session = session_dropped(cpu, skb, sk, family, &packet, netns, &key, &word, &side);
	if (!session)
		return;
	pkt_type = pkt_type_of(skb, TYPED_TRACEPOINT);
	if (is_no_loss(session, skb, sk, dev, side, pkt_type))
		return;
	if (side == SIDE_TRANSMIT) {
		forget((__u64)skb);
	} else if (is_settled(cpu, skb, family, &packet, &key, session, word, reason)) {
		return;
	} else if (pkt_type == PACKET_OTHERHOST) {
		unstamp(session, (__u64)skb);
	} else {
		adopt_arrival(cpu, session, skb, &key,
			      dev && device_wanted(dev, TYPED_TRACEPOINT));
		session->arrival_gone = packet.kind == PACKET_REPLY &&
					session->skb[HOOK_RECV] == (__u64)skb;
	}
	session->drop_side = side + 1;
	session->drop_hook = last_hook(session, side);
	session->drop_ip = location;
	session->drop_reason = reason;
	session->drop_ts_ns = bpf_ktime_get_ns();
}

#endif
