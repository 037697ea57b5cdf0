/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The way out: from the socket to the device. What was recognised at one hook
 * is known by its skb at the next.
 */
#ifndef TRANSMIT_BPF_H
#define TRANSMIT_BPF_H

#define AF_PACKET 17
#define SOCK_BROADCAST_BIT 6 /* enum sock_flags, SOCK_BROADCAST; include/net/sock.h */

/*
 * A request that a socket sends: opens its session. A broadcast or multicast address
 * is answered by others than it asked. That a socket may broadcast says little: some
 * libraries let all of theirs. @looked: see open_session.
 */
static __always_inline struct icmp_rtt_event *open_transmit(struct cpu_state *cpu, __u8 family,
							     struct echo_key *key,
							     const struct packet *packet,
							     struct sk_buff *skb,
							     struct sock *sk, __u64 now,
							     const bool looked, const bool typed)
{
	struct icmp_rtt_event *session;
	struct echo_key exact;
	bool many = is_multicast(family, key->remote);

	if (!request_wanted(cpu, family, key) || !tracing(DIRECTION_TX))
		return NULL;
	if (!many && sk && family == FAMILY_IPV4)
		many = GET(typed, sk, __sk_common.skc_flags) >> SOCK_BROADCAST_BIT & 1 &&
		       sent_to_all(skb, typed);
	exact = *key;
	if (many) {
		many_asked = true;
		any_remote(key);
	}
	session = open_session(cpu, family, key, now, looked);
	if (!session)
		return NULL;
	session->sum = sum_without_type(packet);
	if (many) {
		session->remote[0] = exact.remote;
		for (int i = 0; i < 3; i++)
			session->remote[i + 1] = exact.remote_rest[i];
	}
	return session;
}

/*
 * The first hook on the way out. A reply is looked at only where we answer,
 * and a packet that isn't followed is marked, so that the next hooks leave it.
 */
static __always_inline void on_send(void *ctx, struct sk_buff *skb, struct sock *sk,
				    const int probe, const int family, const bool typed)
{
	struct header header = header_by_offset(skb, family, typed);
	struct cpu_state *cpu = this_cpu();
	struct icmp_rtt_event *session = NULL;
	struct packet packet;
	struct echo_key key;
	struct slot *slot;
	__u64 word = 0;
	__u64 now;

	if (!cpu)
		return;
	parse(&header, &packet, typed);
	if (packet.kind == PACKET_UNREADABLE)
		count(cpu, COUNTER_UNPARSED);
	if (packet.kind != PACKET_REQUEST &&
	    (packet.kind != PACKET_REPLY || !tracing(DIRECTION_RX))) {
		pass_over((__u64)skb, (__u64)sk);
		return;
	}
	make_key(family, &packet, SIDE_TRANSMIT, direction_of(packet.kind, SIDE_TRANSMIT),
		 netns_of_socket(sk, typed), &key);
	if (is_self_test(key.netns, probe))
		return;
	now = bpf_ktime_get_ns();
	if (packet.kind == PACKET_REQUEST)
		session = open_transmit(cpu, family, &key, &packet, skb, sk, now, false, typed);
	else if (many_answered || addresses_match(family, &key))
		session = find_echo(family, &key, &word);
	if (!session) {
		pass_over((__u64)skb, (__u64)sk);
		return;
	}
	note_task(session, SIDE_TRANSMIT);
	stamp(ctx, cpu, session, HOOK_SEND, probe, (__u64)skb, now);
	slot = slot_of_session(session);
	tag((__u64)skb, (__u64)sk, slot->number,
	    packet.kind == PACKET_REQUEST ? slot->word : word);
}

/*
 * Whether what a socket's flow tells of an IPv4 packet is enough to leave it:
 * its addresses are the header's, and ICMP's type is in it for what raw and
 * ICMP sockets send (raw_probe_proto_opt, ping_v4_sendmsg) and zero, as that of
 * a reply, for what the kernel answers.
 */
static __always_inline bool flow_is_foreign(const struct flowi4 *flow)
{
	const bool request = flow->uli.icmpt.type == ICMP_ECHO;
	struct cpu_state *cpu;

	if (self_testing())
		return false;
	if (!request && (flow->uli.icmpt.type != ICMP_ECHOREPLY ||
			 !tracing(DIRECTION_RX)))
		return true;
	if ((flow->daddr & config.remote_mask[0]) == config.remote[0] &&
	    ((flow->saddr & config.local_mask[0]) == config.local[0] ||
	     (!request && many_answered)))
		return false;
	if (request && tracing(DIRECTION_TX)) {
		cpu = this_cpu();
		if (cpu)
			count(cpu, COUNTER_OTHER_ADDRESS);
	}
	return true;
}

/* A packet that isn't known by its pointer: reads its key; false: it isn't ours. */
static __always_inline bool identify(struct cpu_state *cpu, struct sk_buff *skb, __u8 family,
				     __u32 netns, struct packet *packet, struct echo_key *key,
				     const bool typed)
{
	struct header header = header_by_offset(skb, family, typed);

	parse(&header, packet, typed);
	if (packet->kind == PACKET_UNREADABLE)
		count(cpu, COUNTER_UNPARSED);
	if (packet->kind != PACKET_REQUEST &&
	    (packet->kind != PACKET_REPLY || !tracing(DIRECTION_RX)))
		return false;
	make_key(family, packet, SIDE_TRANSMIT, direction_of(packet->kind, SIDE_TRANSMIT), netns,
		 key);
	return true;
}

/* The session of an skb that was tagged. One that has ended takes no harm from a stamp. */
static __always_inline struct icmp_rtt_event *session_at(__u32 number, __u64 word)
{
	struct slot *slot = slot_at(number);

	return slot && slot->word == word ? session_in(slot) : NULL;
}

static __always_inline void on_local_out(void *ctx, struct sk_buff *skb, struct sock *sk,
					 const int probe, const int family, const bool typed)
{
	struct icmp_rtt_event *session;
	struct net_device *dev;
	struct cpu_state *cpu;
	struct packet packet;
	struct echo_key key;
	__u32 number;
	__u64 word;
	bool known;
	__u64 now;

	if (was_passed_over((__u64)skb, (__u64)sk))
		return;
	cpu = this_cpu();
	if (!cpu)
		return;
	known = recall((__u64)skb, (__u64)sk, &number, &word);
	if (!known && (!identify(cpu, skb, family, netns_of_socket(sk, typed), &packet, &key,
				 typed) ||
		       is_self_test(key.netns, probe) || !addresses_match(family, &key)))
		return;
	now = bpf_ktime_get_ns();
	session = known ? session_at(number, word) : find_echo(family, &key, &word);
	/* One that has left is that of an earlier request with the same key. */
	if (!session || session->ts_ns[HOOK_XMIT])
		return;
	if (!known)
		tag((__u64)skb, (__u64)sk, slot_of_session(session)->number, word);
	note_task_once(session, SIDE_TRANSMIT);
	/* It may get no further: without its neighbour's address no device sees it. */
	if (config.ifindex && session->direction == DIRECTION_TX) {
		dev = device_of_route(skb, typed);
		if (dev && !device_wanted(dev, false))
			session->other_interface = 1;
	}
	stamp(ctx, cpu, session, HOOK_LOCAL_OUT, probe, (__u64)skb, now);
}

/*
 * The session of a packet whose headers tell of none: one that was translated since it was
 * recognised, and is at a lower device (vlan, bridge) or was dropped.
 */
static __always_inline struct icmp_rtt_event *session_translated(struct sk_buff *skb,
								 struct sock *sk, __u64 *word)
{
	struct icmp_rtt_event *session = NULL;
	__u32 number;

	if (config.tx_open != HOOK_XMIT && !was_passed_over((__u64)skb, (__u64)sk) &&
	    recall_left((__u64)skb, (__u64)sk, &number, word))
		session = session_at(number, *word);
	return session;
}

/*
 * The session of a packet that reaches the device without having passed the
 * hooks above it: an IP_HDRINCL or AF_PACKET socket's, or any when the plan
 * has no hook above this one. A packet sent once more by a lower device (vlan,
 * bond) is the same packet.
 */
static __always_inline struct icmp_rtt_event *
open_at_device(struct cpu_state *cpu, struct sk_buff *skb, struct sock *sk,
	       struct net_device *dev, __u8 family, struct packet *packet, struct echo_key *key,
	       __u64 now, __u64 *word, const bool typed)
{
	__u32 ifindex = GET(typed, dev, ifindex);
	struct echo_key found = *key;
	struct icmp_rtt_event *session = find_echo(family, &found, word);

	if (packet->kind != PACKET_REQUEST)
		return session;
	if (!is_of_netns(dev, sk, typed))
		return session;
	if (session && (session->ts_ns[HOOK_SEND] || session->ts_ns[HOOK_LOCAL_OUT]))
		return session;
	if (session && session->skb[HOOK_XMIT] == (__u64)skb &&
	    session->side[SIDE_TRANSMIT].ifindex != ifindex)
		return session;
	if (!session) {
		session = session_translated(skb, sk, word);
		if (session && session->side[SIDE_TRANSMIT].ifindex != ifindex)
			return session;
		session = NULL;
	}
	session = open_transmit(cpu, family, key, packet, skb, sk, now, !session, typed);
	if (session) {
		*word = slot_of_session(session)->word;
		note_task(session, SIDE_TRANSMIT);
	}
	return session;
}

static __always_inline void on_xmit_session(void *ctx, struct cpu_state *cpu, struct sk_buff *skb,
					    struct icmp_rtt_event *session, __u64 word,
					    const int probe, __u64 now, const bool typed)
{
	struct net_device *dev = GET(typed, skb, dev);

	nothing_delivered(cpu);
	if (!device_wanted(dev, typed)) {
		if (session->direction == DIRECTION_RX)
			end_elsewhere(cpu, session, word);
		else
			session->other_interface = 1;
		/* So that a lower device knows the packet again. */
		if (!session->ts_ns[HOOK_XMIT])
			session->skb[HOOK_XMIT] = (__u64)skb;
		return;
	}
	if (!session->ts_ns[HOOK_XMIT])
		note_device(session, SIDE_TRANSMIT, dev, typed);
	note_task_once(session, SIDE_TRANSMIT);
	stamp(ctx, cpu, session, HOOK_XMIT, probe, (__u64)skb, now);
	if (session->direction == DIRECTION_RX) /* where it leaves an echo that we answer ends */
		complete_session(cpu, session, word, now);
}

/* A VLAN device without reorder_hdr has written its tag already, and says so in the protocol. */
static __always_inline __u8 family_at_device(struct sk_buff *skb, const bool typed)
{
	__be16 protocol = GET(typed, skb, protocol);
	const unsigned char *head;
	__u8 version;

	if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
		return family_of(protocol);
	head = GET(typed, skb, head);
	if (bpf_probe_read_kernel(&version, sizeof(version),
				  head + GET(typed, skb, network_header)))
		return 0;
	version >>= 4;
	return version == 4 ? FAMILY_IPV4 : version == 6 ? FAMILY_IPV6 : 0;
}

/*
 * Whether it is an answer of this host's, where only what we ask is followed and no
 * hook comes before this one: told by two loads.
 */
static __always_inline bool is_own_answer(struct sk_buff *skb, const bool typed)
{
	const void *at;

	if (config.tx_open != HOOK_XMIT || tracing(DIRECTION_RX) || !typed ||
	    !config.typed_headers || skb->protocol != bpf_htons(ETH_P_IP) || skb->data_len)
		return false;
	at = header_by_offset(skb, FAMILY_IPV4, typed).at;
	return (__u8)word_at(at) == IPV4_WITHOUT_OPTIONS &&
	       (__u8)(word_at(at + IPV4_DADDR) >> 32) == ICMP_ECHOREPLY;
}

/*
 * What leaves without a socket was handed on: a request that was taken for one to this
 * host, where no hook follows its arrival, was for another. Not for the hooks at functions:
 * those come with hooks that follow, but where one family alone lacks its last one.
 */
static __always_inline void on_forward(struct sk_buff *skb, const bool typed)
{
	struct icmp_rtt_event *session;
	struct arrival *arrival;
	struct cpu_state *cpu;
	struct header header;
	struct packet packet;
	__u8 family;

	if (config.rx_open != HOOK_RECV || !tracing(DIRECTION_RX) || !under_way.any)
		return;
	cpu = this_cpu();
	if (!cpu)
		return;
	arrival = find_arrival(cpu, (__u64)skb);
	barrier_var(arrival); /* or the compiler tests the skb once more in its place */
	if (!arrival || !arrival->word || arrival->key.direction != DIRECTION_RX)
		return;
	family = family_at_device(skb, typed);
	if (!family_wanted(family))
		return;
	header = header_by_offset(skb, family, typed);
	parse(&header, &packet, typed);
	if (packet.kind != PACKET_REQUEST || packet.id != arrival->key.id ||
	    packet.seq != arrival->key.seq)
		return;
	session = session_alive_at(arrival->number, arrival->word);
	if (session)
		disown(cpu, slot_of_session(session), arrival->word);
	release_arrival(arrival);
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
	__u32 number;
	__u8 family;
	__u64 word = 0;
	__u64 now;

	if (!sk)
		return;
	protocol = GET(typed, sk, sk_protocol);
	if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6) {
		if (config.tx_open != HOOK_XMIT && was_passed_over((__u64)skb, (__u64)sk))
			return;
		if (protocol == IPPROTO_ICMP && is_own_answer(skb, typed))
			return;
	} else if (protocol != IPPROTO_RAW &&
		   GET(typed, sk, __sk_common.skc_family) != AF_PACKET) {
		return;
	} else if (config.tx_open != HOOK_XMIT) {
		/* They pass no hook above: a mark or a tag is of a socket that was here before. */
		forget((__u64)skb);
	}
	cpu = this_cpu();
	if (!cpu)
		return;
	if (config.tx_open != HOOK_XMIT &&
	    recall((__u64)skb, (__u64)sk, &number, &word)) {
		leave_tag((__u64)skb);
		now = bpf_ktime_get_ns();
		session = session_at(number, word);
	} else {
		family = family_at_device(skb, typed);
		if (!family_wanted(family))
			return;
		dev = GET(typed, skb, dev);
		if (!identify(cpu, skb, family, netns_of_device(dev, typed), &packet, &key,
			      typed) ||
		    is_self_test(key.netns, probe))
			return;
		now = bpf_ktime_get_ns();
		session = open_at_device(cpu, skb, sk, dev, family, &packet, &key, now, &word,
					 typed);
	}
	if (session)
		on_xmit_session(ctx, cpu, skb, session, word, probe, now, typed);
}

#endif
