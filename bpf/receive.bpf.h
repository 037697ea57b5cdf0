/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The way in, from the device to IP. What is stamped is kept with the skb until it
 * is known whose it is.
 */
#ifndef RECEIVE_BPF_H
#define RECEIVE_BPF_H

#define LIST_MAX 64

#define PACKET_BROADCAST 1 /* include/uapi/linux/if_packet.h */
#define PACKET_MULTICAST 2
#define PACKET_OTHERHOST 3
#define PACKET_OUTGOING 4
#define PACKET_LOOPBACK 5 /* a copy, for this host, of what it sends to many */
#define PACKET_TYPES 7 /* all bits of it */

/*
 * The bits of pkt_type are the lowest of their byte, which the kernel itself relies on
 * (PKT_TYPE_MAX in include/linux/skbuff.h): told without the shifts of any bit field.
 */
static __always_inline __u8 pkt_type_of(struct sk_buff *skb, const bool typed)
{
	const __u8 *at = (void *)skb + bpf_core_field_offset(struct sk_buff, pkt_type);
	__u8 bits = 0;

	if (typed)
		bits = *(const volatile __u8 *)at;
	else
		bpf_probe_read_kernel(&bits, sizeof(bits), at);
	return bits & PACKET_TYPES;
}

/*
 * A request that we are to answer: opens its session. One to a group of hosts is
 * answered by an address of our own.
 */
static __always_inline struct icmp_rtt_event *open_receive(struct cpu_state *cpu,
							    struct sk_buff *skb, __u8 family,
							    struct echo_key *key, __u64 now,
							    const bool typed)
{
	struct icmp_rtt_event *session;
	struct echo_key exact;
	bool many = is_multicast(family, key->local);

	/* On arrival it may be overheard. If it is for our bridge, it arrives there, too. */
	if (config.rx_open == HOOK_RECV && pkt_type_of(skb, typed) == PACKET_OTHERHOST)
		return NULL;
	if (!request_wanted(cpu, family, key) || !tracing(DIRECTION_RX))
		return NULL;
	if (!many && family == FAMILY_IPV4)
		many = pkt_type_of(skb, typed) == PACKET_BROADCAST;
	if (!many && config.rx_open != HOOK_RECV)
		many = is_for_many(skb, family, typed);
	exact = *key;
	if (many) {
		many_answered = true;
		any_local(key);
	}
	session = open_session(cpu, family, key, now, false);
	if (session && many) {
		session->local[0] = exact.local;
		for (int i = 0; i < 3; i++)
			session->local[i + 1] = exact.local_rest[i];
	}
	return session;
}

/* The session of what has arrived, if it is known by now: opens or stamps it. */
static __always_inline void on_recv_session(struct cpu_state *cpu, struct sk_buff *skb,
					    struct net_device *dev, struct arrival *arrival,
					    const int family, __u64 now)
{
	struct echo_key *key = &arrival->key;
	struct icmp_rtt_event *session;
	struct echo_key asked;
	__u64 word = 0;

	if (key->direction == DIRECTION_RX) {
		if (config.rx_open != HOOK_RECV)
			return;
		asked = *key;
		key = &asked;
		session = open_receive(cpu, skb, family, key, now, TYPED_TRACEPOINT);
		if (session) {
			arrival->number = slot_of_session(session)->number;
			word = word_of(session, family, key);
			arrival->word = word;
		} else if (pkt_type_of(skb, TYPED_TRACEPOINT) != PACKET_OTHERHOST) {
			release_arrival(arrival); /* no other hook waits for it */
		}
	} else {
		/* Overheard, or for a device above this one, as ip_rcv will tell then. */
		if (pkt_type_of(skb, TYPED_TRACEPOINT) == PACKET_OTHERHOST)
			return;
		/* Behind NAT it may still be one of ours: icmp_rcv will tell. */
		if (!arrival_matches(family, key))
			return;
		session = find_receive(family, key, arrival->sum, &word);
	}
	if (!session)
		return;
	/* Of a lower device (vlan, bond): ip_rcv tells whether it is for the one asked for. */
	if (arrival->stray) {
		/* Where there is none its answer may tell; without one it was elsewhere. */
		if (key->direction == DIRECTION_RX)
			session->other_interface = 1;
		return;
	}
	adopt(session, arrival, true);
	/* A bridge hands on what its port has received: the last device is whose it is. */
	if (!session->side[SIDE_RECEIVE].ifindex || session->skb[HOOK_RECV] == arrival->skb)
		note_device(session, SIDE_RECEIVE, dev, TYPED_TRACEPOINT);
	arrival->number = slot_of_session(session)->number;
	arrival->word = word;
}

/* Whether it is a request whose session was opened at a bridge's port: arrives at the bridge. */
static __always_inline bool on_recv_again(struct cpu_state *cpu, struct sk_buff *skb,
					  const struct packet *packet)
{
	struct arrival *arrival = find_arrival(cpu, (__u64)skb);
	struct net_device *dev = GET(TYPED_TRACEPOINT, skb, dev);
	struct icmp_rtt_event *session;

	if (!arrival || !arrival->word || !is_same_packet(arrival, skb, packet) ||
	    arrival->key.netns != netns_of_device(dev, TYPED_TRACEPOINT) ||
	    bpf_ktime_get_ns() - arrival->since_ns >= BRIDGED_NS)
		return false;
	session = session_alive_at(arrival->number, arrival->word);
	if (!session)
		return false;
	if (device_wanted(dev, TYPED_TRACEPOINT)) {
		session->other_interface = 0; /* that of its port; the answer's may be another */
		note_device(session, SIDE_RECEIVE, dev, TYPED_TRACEPOINT);
		adopt(session, arrival, true);
	}
	return true;
}

/*
 * Whether the hooks that follow this one will not see what arrives now. The softirq that
 * brings it may have come in the middle of another kprobe, or of something else that the
 * kernel runs no program of a kprobe within: until it ends all that are hit are left out
 * (kprobe_ftrace_handler() and trace_call_bpf(), by these two variables of a CPU).
 */
static __always_inline bool kprobes_skipped(const struct cpu_state *cpu)
{
	__u64 base = 0, kprobe = 0;
	__u32 active = 0;

	if (!config.kprobes)
		return false;
	if (bpf_probe_read_kernel(&base, sizeof(base),
				  (void *)(config.__per_cpu_offset_at +
					   cpu->number * sizeof(base))) ||
	    bpf_probe_read_kernel(&kprobe, sizeof(kprobe),
				  (void *)(base + config.current_kprobe_at)) ||
	    bpf_probe_read_kernel(&active, sizeof(active),
				  (void *)(base + config.bpf_prog_active_at)))
		return false;
	return kprobe || active;
}

/*
 * A reply where no hook follows this one: if it is of an echo of ours, that ends here.
 * @unseen: such hooks are there, and will not see it.
 */
static __always_inline void on_last_recv(void *ctx, struct cpu_state *cpu, struct sk_buff *skb,
					 const struct packet *packet, const int probe,
					 const int family, const bool unseen)
{
	struct net_device *dev = GET(TYPED_TRACEPOINT, skb, dev);
	struct icmp_rtt_event *session;
	struct echo_key key;
	__u64 word = 0;
	__u64 now;

	if (tracing(DIRECTION_RX))
		release_earlier(cpu, (__u64)skb);
	if (!under_way.any && !self_testing())
		return;
	make_key(family, packet, SIDE_RECEIVE, DIRECTION_TX, netns_of_device(dev, TYPED_TRACEPOINT),
		 &key);
	if (is_self_test(key.netns, probe) || !arrival_matches(family, &key))
		return;
	/* Overheard, unless a device above this one (bridge, macvlan) is what it is for. */
	if (pkt_type_of(skb, TYPED_TRACEPOINT) == PACKET_OTHERHOST &&
	    !GET(TYPED_TRACEPOINT, dev, rx_handler))
		return;
	now = bpf_ktime_get_ns();
	session = find_receive(family, &key, sum_without_type(packet), &word);
	if (!session)
		return;
	cpu->delivered = (__u64)skb;
	if (!device_wanted(dev, TYPED_TRACEPOINT)) {
		/* The one above it may be. */
		if (!unseen)
			end_elsewhere(cpu, session, word);
		return;
	}
	cpu->delivered_head = (__u64)GET(TYPED_TRACEPOINT, skb, head);
	note_device(session, SIDE_RECEIVE, dev, TYPED_TRACEPOINT);
	note_task(session, SIDE_RECEIVE);
	stamp(ctx, cpu, session, HOOK_RECV, probe, (__u64)skb, now);
	complete_session(cpu, session, word, now);
}

/*
 * A request while only replies are waited for, or the other way round: icmp_rcv
 * counts it as what it is, and needs no second look at the packet. Where there is
 * no such hook, it is counted here.
 */
static __always_inline void refuse_direction(struct cpu_state *cpu, __u64 skb, const int family,
					     const struct packet *packet)
{
	bool matches = packet->kind == PACKET_REQUEST &&
		       in_prefix(packet->daddr, config.local, config.local_mask, family) &&
		       in_prefix(packet->saddr, config.remote, config.remote_mask, family) &&
		       started;

	if (config.rx_open != HOOK_RECV) {
		cpu->refused_matches = matches;
		refuse(cpu, skb);
	} else if (matches) {
		count(cpu, COUNTER_OTHER_DIRECTION);
	}
}

/*
 * Whether an arrival is for none of our addresses, where replies are waited for and
 * no hook follows this one: told by one load.
 */
static __always_inline bool is_for_others(const struct header *header)
{
	const struct iphdr *ip;
	const void *at;
	__u32 daddr;

	if (config.tx_close != HOOK_RECV || tracing(DIRECTION_RX) || !config.typed_headers ||
	    header->family != FAMILY_IPV4 || self_testing())
		return false;
	at = header_at(header, sizeof(*ip), TYPED_TRACEPOINT);
	ip = bpf_rdonly_cast(at, bpf_core_type_id_kernel(struct iphdr));
	if (!at)
		return false;
	daddr = ip->daddr;
	return !in_prefix(&daddr, config.local, config.local_mask, FAMILY_IPV4);
}

/* No hook tells of an skb that tc has sent elsewhere: what its arrival has kept is still there. */
static __always_inline void on_recv_foreign(struct sk_buff *skb)
{
	struct cpu_state *cpu;

	if (!cpus_pending)
		return;
	cpu = this_cpu();
	if (cpu)
		release_earlier(cpu, (__u64)skb);
}

/* Keeps with the skb what is known of its arrival, for the hooks that follow. */
static __always_inline void keep_arrival(void *ctx, struct cpu_state *cpu, struct sk_buff *skb,
					 const struct packet *packet, const int probe,
					 const int family)
{
	__u64 now = bpf_ktime_get_ns();
	struct arrival *arrival = claim_arrival(cpu, (__u64)skb);
	struct net_device *dev = GET(TYPED_TRACEPOINT, skb, dev);
	bool stray = !device_wanted(dev, TYPED_TRACEPOINT);
	__u32 netns = netns_of_device(dev, TYPED_TRACEPOINT);

	if (arrived_before(arrival, skb, packet, netns, now)) {
		stray &= arrival->stray;
		expect_fewer(cpu, 1, 0); /* ip_rcv sees it once */
	} else {
		arrival->skb = (__u64)skb;
		arrival->recv_ns = now;
		arrival->recv_probe = probe;
		arrival->fragment = packet->fragment;
		keep_stack(ctx, arrival, 0);
	}
	arrival->since_ns = now;
	make_key(family, packet, SIDE_RECEIVE, direction_of(packet->kind, SIDE_RECEIVE), netns,
		 &arrival->key);
	arrival->sum = sum_without_type(packet);
	arrival->dev = (__u64)dev;
	arrival->ip_rcv_ns = 0;
	arrival->word = 0;
	arrival->stray = stray;
	expect(cpu);
	if (!is_self_test(arrival->key.netns, probe))
		on_recv_session(cpu, skb, dev, arrival, family, now);
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
	struct cpu_state *cpu;
	struct packet packet;
	__u32 direction;
	bool unseen;

	if (is_for_others(&header))
		return;
	parse(&header, &packet, TYPED_TRACEPOINT);
	if (packet.kind == PACKET_FOREIGN) {
		on_recv_foreign(skb);
		return;
	}
	skb = untrusted(skb);
	cpu = this_cpu();
	if (!cpu)
		return;
	refuse_none(cpu);
	nothing_delivered(cpu);
	unseen = config.tx_close != HOOK_RECV && kprobes_skipped(cpu);
	if (unseen)
		count(cpu, COUNTER_SKIPPED);
	/* Where there is a hook behind this one, that counts what is ICMP for sure. */
	if (packet.kind == PACKET_UNREADABLE && config.tx_close == HOOK_RECV)
		count(cpu, COUNTER_UNPARSED);
	if (packet.kind != PACKET_REQUEST && packet.kind != PACKET_REPLY) {
		/* A later fragment may be what its packet is put together in. */
		release_earlier(cpu, (__u64)skb);
		return;
	}
	direction = direction_of(packet.kind, SIDE_RECEIVE);
	if (!(direction & config.directions)) {
		refuse_direction(cpu, (__u64)skb, family, &packet);
		return;
	}
	/* What is put together of fragments goes on when its last one comes. */
	if (packet.fragment)
		unseen = false;
	if (unseen || config.tx_close == HOOK_RECV) {
		if (direction == DIRECTION_TX) {
			on_last_recv(ctx, cpu, skb, &packet, probe, family, unseen);
			return;
		}
		if (on_recv_again(cpu, skb, &packet))
			return;
	}
	if (unseen) { /* It is answered unseen: there is no more to tell of it. */
		release_earlier(cpu, (__u64)skb);
		return;
	}
	keep_arrival(ctx, cpu, skb, &packet, probe, family);
}

/*
 * No reply can end anything, and whatever else comes by is looked at where it is
 * delivered, if there is a hook.
 */
static __always_inline bool nothing_awaited(void)
{
	return nothing_to_end() && config.rx_open != HOOK_RECV && !cpus_refusing;
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
 * An arrival in the namespace of a lower device was given to a session there: that
 * one's echo has the same addresses, and this packet is not for it.
 */
static __always_inline void take_back(struct arrival *arrival)
{
	struct icmp_rtt_event *session = session_alive_at(arrival->number, arrival->word);
	struct cpu_state *cpu;

	/* One that was opened by it has no other packet, and nothing to be given up by. */
	if (config.rx_open == HOOK_RECV && session && arrival->key.direction == DIRECTION_RX) {
		cpu = this_cpu();
		if (cpu)
			disown(cpu, slot_of_session(session), arrival->word);
	} else if (session && session->skb[HOOK_RECV] == arrival->skb && session->ts_ns[HOOK_RECV]) {
		arrival->recv_ns = session->ts_ns[HOOK_RECV];
		session->ts_ns[HOOK_RECV] = 0;
		session->skb[HOOK_RECV] = 0;
		session->side[SIDE_RECEIVE].ifindex = 0;
	}
	arrival->word = 0;
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

	if (arrival->word && arrival->key.netns != netns)
		take_back(arrival);
	arrival->key.netns = netns;
	if (wanted)
		arrival->stray = 0;
	if (arrival->key.direction == DIRECTION_RX && config.rx_open != HOOK_RECV) {
		if (arrival->fragment)
			bpf_map_update_elem(&fragments, &arrival->key, arrival, BPF_ANY);
		return;
	}
	/* IP drops what was overheard. */
	if (pkt_type_of(skb, typed) == PACKET_OTHERHOST || !arrival_matches(family, &arrival->key))
		return;
	session = find_receive(family, &arrival->key, arrival->sum, NULL);
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
	struct icmp_rtt_event *session;

	if (is_self_test(arrival->key.netns, probe))
		return;
	if (arrival->recv_ns || arrival->fragment || arrival->dev != (__u64)GET(typed, skb, dev))
		on_other_device(skb, arrival, family, typed);
	/* Else icmp_rcv takes it. */
	if (config.rx_open == HOOK_RECV && arrival->word) {
		session = session_alive_at(arrival->number, arrival->word);
		if (session)
			move_stamp(session, arrival, HOOK_IP_RCV, arrival->ip_rcv_probe,
				   arrival->ip_rcv_ns);
	}
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
	session = find_receive(family, &key, sum_without_type(&packet), NULL);
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
	arrival = &cpu->arrival[slot & (ARRIVALS - 1)];
	skb = (struct sk_buff *)arrival->skb;
	settle_arrival(skb, arrival, probe, family, false);
	return 0;
}

/*
 * A list is walked only when one of ours has arrived on this CPU: once to find
 * them, then each is looked at. What is found is passed on by way of the map:
 * what is read from there is a number to the verifier, like any other. The
 * counters have 64 bits for the verifiers of compat.bpf.h.
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
		note_listed(number_of(cpu, node));
		node = GET(typed, node, next);
	}
	found = cpu->found_count;
	if ((i == LIST_MAX && node != list) || found > LISTED_MAX)
		count(cpu, COUNTER_LIST_TRUNCATED);
	expect_fewer(cpu, found, cpu->strays + i - found);
	for (i = 0; i < LISTED_MAX && i < cpu->found_count; i++) {
		arrival = &cpu->arrival[cpu->found[i] & (ARRIVALS - 1)];
		reach_ip_rcv(ctx, arrival, probe);
		settle_listed(cpu->found[i], probe, family);
	}
}

#endif
