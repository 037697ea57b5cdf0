/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a packet's arrival has kept, until the session is known that it is for.
 */
#ifndef ARRIVAL_BPF_H
#define ARRIVAL_BPF_H

#define ESTALE 116

/* From a port to its bridge, within one softirq: as it is, and where a hypervisor may stop it. */
#define BRIDGED_NS 1000000
#define SOFTIRQ_NS 10000000
/* From there to ICMP, by the slowest of emulators: held for longer, its skb alone tells nothing. */
#define HELD_NS 100000000

struct arrival_stacks {
	__s64 bytes[2];
	__u64 stack[2][ICMP_RTT_STACK_DEPTH];
};

/*
 * Stacks of arrivals, until their session is found. Key: CPU * ARRIVALS + slot of
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
 * deleted at icmp_rcv or where it is dropped; full: the least recent goes.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct echo_key);
	__type(value, struct arrival);
} fragments SEC(".maps");

static __always_inline struct arrival_stacks *stacks_of_arrival(const struct arrival *arrival)
{
	__u32 key = arrival->cpu * ARRIVALS + arrival->slot;

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

	return cpu && cpu->arrival[arrival->slot & (ARRIVALS - 1)].since_ns == arrival->since_ns;
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
 * Forgets how a reply came in that was dropped on its way to ICMP, as another one has come.
 * A global function, as find_tagged is.
 */
__noinline int arrive_anew(__u32 number)
{
	struct slot *slot = slot_at(number);
	struct icmp_rtt_event *session;

	if (!slot)
		return 0;
	session = &slot->event;
	for (int hook = HOOK_RECV; hook <= HOOK_IP_RCV; hook++) {
		session->ts_ns[hook] = 0;
		session->skb[hook] = 0;
	}
	session->side[SIDE_RECEIVE].ifindex = 0;
	session->drop_side = 0;
	session->arrival_gone = 0;
	note_task(session, SIDE_RECEIVE);
	return 0;
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
	else if (session->arrival_gone)
		arrive_anew(slot_of_session(session)->number);
	if (arrival->recv_ns && arrival->stray && !dev_wanted)
		session->other_interface = 1;
	else
		move_stamp(session, arrival, HOOK_RECV, arrival->recv_probe, arrival->recv_ns);
	move_stamp(session, arrival, HOOK_IP_RCV, arrival->ip_rcv_probe, arrival->ip_rcv_ns);
	arrival->recv_ns = 0;
	arrival->ip_rcv_ns = 0;
}

/*
 * A bridge hands the skb of a port on as its own, ifb what tc gave it: one packet that arrives
 * twice, and has the index of a device from the first time (__netif_receive_skb_core() sets it
 * behind the tracepoint). What has none is another one, to which the same memory was given.
 */
static __always_inline bool is_same_packet(const struct arrival *arrival, struct sk_buff *skb,
					   const struct packet *packet)
{
	return arrival->skb == (__u64)skb && GET(TYPED_TRACEPOINT, skb, skb_iif) &&
	       arrival->key.id == packet->id &&
	       arrival->key.seq == packet->seq && arrival->key.local == packet->daddr[0] &&
	       arrival->key.remote == packet->saddr[0];
}

/*
 * What its session has not been given yet is that of the port. In another namespace it
 * was only on its way to here (a veth keeps the skb). Long before, it was another request
 * with the same id and sequence, of which nobody has heard since.
 */
static __always_inline bool arrived_before(const struct arrival *arrival, struct sk_buff *skb,
					   const struct packet *packet, __u32 netns, __u64 now)
{
	return arrival->recv_ns && is_same_packet(arrival, skb, packet) &&
	       arrival->key.netns == netns && now - arrival->since_ns < SOFTIRQ_NS;
}

static __always_inline bool same_echo(const struct echo_key *a, const struct echo_key *b)
{
	return a->id == b->id && a->seq == b->seq && a->local == b->local &&
	       a->remote == b->remote;
}

/*
 * Of those arrivals of a CPU that may share a place, the one of an echo: one more than
 * its slot; 0: there is none. @place: CPU * ARRIVALS + slot of the first; @since_ns: that
 * of an earlier one with the same id and sequence is before. A global function, as
 * find_tagged is.
 */
__noinline int find_among(__u32 place, __u32 id_seq, __u32 local, __u32 remote, __u64 since_ns)
{
	const struct echo_key key = {
		.id = id_seq >> 16, .seq = id_seq, .local = local, .remote = remote
	};
	__u32 number = place / ARRIVALS, first = place & (ARRIVALS - WAYS);
	struct cpu_state *cpu = bpf_map_lookup_elem(&cpus, &number);

	if (!cpu)
		return 0;
	for (int way = 0; way < WAYS; way++) {
		struct arrival *arrival = &cpu->arrival[first + way];

		if (arrival->skb && arrival->ip_rcv_ns && arrival->since_ns >= since_ns &&
		    same_echo(&arrival->key, &key))
			return first + way + 1;
	}
	return 0;
}

/*
 * The arrival of an echo whose packet has another skb by now: ip_rcv goes on with
 * a clone where a packet socket of one protocol (a DHCP client's, say) has taken
 * the skb as well. One more than its slot; 0: there is none. A global function.
 */
__noinline int find_arrival_of(__u32 number, __u32 id_seq, __u32 local, __u32 remote,
				__u64 since_ns)
{
	int found = 0;

	for (int first = 0; first < ARRIVALS && !found; first += WAYS)
		found = find_among(number * ARRIVALS + first, id_seq, local, remote, since_ns);
	return found;
}

/*
 * What arrived before is of an earlier packet: before the request was sent that it would be
 * the reply to, or long before the session of a request was opened.
 */
static __always_inline __u64 arrived_since_ns(struct icmp_rtt_event *session)
{
	__u64 opened_ns = slot_of_session(session)->opened_ns;

	return session->direction == DIRECTION_TX ? opened_ns : opened_ns - HELD_NS;
}

/*
 * Whether it is that of an earlier packet which had the same skb: by its time, or it came
 * from somewhere else. A translated request keeps where it came from.
 */
static __always_inline bool is_earlier(const struct arrival *arrival, const struct echo_key *key,
				       struct icmp_rtt_event *session, __u64 since_ns)
{
	return arrival->since_ns < since_ns ||
	       (session->direction != DIRECTION_TX && arrival->key.remote != key->remote);
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
	__u64 since_ns;
	__u32 found;

	if (session->arrival_gone)
		arrive_anew(slot_of_session(session)->number);
	if (session->ts_ns[HOOK_RECV] && session->cpu[HOOK_RECV] != number) {
		number = session->cpu[HOOK_RECV];
		cpu = bpf_map_lookup_elem(&cpus, &number);
	}
	if (!cpu)
		return;
	arrival = find_arrival(cpu, (__u64)skb);
	/*
	 * The skb may be one that another echo had, and this one arrived in another. If
	 * none is found, the id has been translated, but for what was put together.
	 */
	if (!arrival || arrival->key.id != key->id || arrival->key.seq != key->seq) {
		since_ns = arrived_since_ns(session);
		found = find_arrival_of(number, key->id << 16 | key->seq, key->local, key->remote,
					since_ns);
		if (found)
			arrival = &cpu->arrival[(found - 1) & (ARRIVALS - 1)];
		else if (arrival && (arrival->fragment || is_earlier(arrival, key, session,
							     since_ns)))
			arrival = NULL;
	}
	if (!arrival && tracing(DIRECTION_RX) && key->direction == DIRECTION_RX)
		arrival = bpf_map_lookup_elem(&fragments, key);
	if (!arrival) {
		/*
		 * Its headers were not where on_recv can read them, or its place was needed.
		 * Where no hook follows on_recv, that keeps nothing of a reply.
		 */
		if (config.tx_close != HOOK_RECV && !session->ts_ns[HOOK_RECV] &&
		    !session->other_interface)
			count(cpu, COUNTER_UNPARSED);
		return;
	}
	adopt(session, arrival, wanted);
	release_arrival(arrival);
	if (tracing(DIRECTION_RX) && arrival->fragment)
		bpf_map_delete_elem(&fragments, key);
}

#endif
