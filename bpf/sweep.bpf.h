/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The end of sessions that no packet ends: the reader has the kernel look
 * through them, so that whatever ends one is on the same side.
 */
#ifndef SWEEP_BPF_H
#define SWEEP_BPF_H

enum sweep_step {
	SWEEP_SLOTS = 256, /* in one run */
};

/* What a run of the program is told. */
struct sweep {
	__u64 oldest_ns; /* a session begun at or before it is given up */
	__u64 first;	 /* slot to begin with */
	__u64 last_time; /* whatever is open now stays so: it is counted, and that is all */
	__u64 ending;	 /* from now on nothing begins */
};

/*
 * When we began to answer, if our answer has left by another device than the one
 * asked for: no lower one has turned out to be that. 0: it has not.
 */
static __always_inline __u64 answered_elsewhere_ns(const struct icmp_rtt_event *session)
{
	if (session->direction != DIRECTION_RX || !session->other_interface)
		return 0;
	/* That device had no room for it. */
	if (session->drop_side == SIDE_TRANSMIT + 1)
		return 0;
	/* Seen by the device alone, which has kept no time of it: it is not below any threshold. */
	if (config.tx_open == HOOK_XMIT)
		return ~0ULL;
	return session->ts_ns[HOOK_LOCAL_OUT] ? session->ts_ns[HOOK_LOCAL_OUT] :
						session->ts_ns[HOOK_SEND];
}

/*
 * The stamp of ip_rcv waits with the packet's arrival until icmp_rcv takes it, or
 * until the packet is dropped. One that is held for longer (in a queue of nftables, say)
 * is looked up when its session is given up. Its place may be taken meanwhile.
 */
static __always_inline void adopt_held(struct icmp_rtt_event *session)
{
	__u64 word = slot_of_session(session)->word;
	__u32 number = session->cpu[HOOK_RECV];
	struct arrival *arrival;
	struct cpu_state *cpu;

	if (!session->ts_ns[HOOK_RECV] || session->ts_ns[HOOK_IP_RCV])
		return;
	cpu = bpf_map_lookup_elem(&cpus, &number);
	if (!cpu)
		return;
	arrival = find_arrival(cpu, session->skb[HOOK_RECV]);
	if (!arrival || arrival->word != word)
		return;
	move_stamp(session, arrival, HOOK_IP_RCV, arrival->ip_rcv_probe, arrival->ip_rcv_ns);
	barrier();
	if (*(volatile __u64 *)&arrival->word != word ||
	    *(volatile __u64 *)&arrival->skb != session->skb[HOOK_RECV])
		session->ts_ns[HOOK_IP_RCV] = 0;
}

/* Ends a session without a report; what comes for it now is late. */
static __always_inline void leave(struct cpu_state *cpu, struct slot *slot, __u64 word,
				  enum icmp_rtt_counter why)
{
	__u64 *place = take(slot, word);

	if (!place)
		return;
	count(cpu, why);
	remember_given_up(slot, false);
	free_slot(slot, place);
}

/* Whether a slot was in use when this sweep came by. */
static bool in_use;
/* Added to by a locked instruction, which keeps apart what comes before and after. */
static __u64 fence;

/* Before the first slot is looked at: see under_way. */
static __always_inline void begin_sweep(void)
{
	if (!by_flags())
		return;
	in_use = false;
	*(volatile bool *)&under_way.kept = true;
	barrier();
	*(volatile bool *)&under_way.opened = false;
	barrier();
	add_atomic(&fence, 1);
	barrier();
}

/* After the last one. */
static __always_inline void end_sweep(void)
{
	if (by_flags())
		*(volatile bool *)&under_way.kept = in_use;
}

static __always_inline bool is_last(const struct sweep *sweep)
{
	return sweep->first + SWEEP_SLOTS >= (config.bucket_mask + 1ULL) * BUCKET_SLOTS;
}

/*
 * Looks at one slot; whether there is a session in it that goes on. A global
 * function, which the verifier goes through once, and not for each turn of the
 * loop around it.
 */
__noinline int sweep_slot(__u32 number, __u64 oldest_ns, __u32 last_time)
{
	struct cpu_state *cpu = this_cpu();
	struct bucket *bucket = bucket_at(number / BUCKET_SLOTS);
	struct slot *slot = slot_at(number);
	__u64 answered_ns;
	__u64 word;

	if (!bucket || !slot || !cpu)
		return 0;
	word = *(volatile __u64 *)&bucket->word[number % BUCKET_SLOTS];
	if ((word & SLOT_PHASE) == SLOT_FREE)
		return 0;
	in_use = true;
	if ((word & SLOT_PHASE) != SLOT_OPEN)
		return 0;
	if (!last_time && (slot->opened_ns > oldest_ns || !is_stamped(&slot->event)))
		return 1;
	if (elsewhere(&slot->event)) {
		leave(cpu, slot, word, COUNTER_OTHER_INTERFACE);
		return 0;
	}
	if (last_time) {
		leave(cpu, slot, word, COUNTER_IN_FLIGHT);
		return 0;
	}
	adopt_held(&slot->event);
	answered_ns = answered_elsewhere_ns(&slot->event);
	if (answered_ns) {
		complete_slot(number, word, answered_ns, cpu->number);
		return 0;
	}
	return !emit(cpu, slot, word, OUTCOME_OPEN);
}

/* How many sessions go on, of those in the slots that are looked through. */
static __always_inline int sweep_slots(const struct sweep *sweep)
{
	__u64 oldest_ns = sweep->oldest_ns;
	__u32 last_time = sweep->last_time;
	__u32 first = sweep->first;
	int open = 0;

	started = !sweep->ending;
	tested = true;
	full_at = 0;
	if (!under_way.any)
		return 0;
	if (!first)
		begin_sweep();
	for (__u32 i = 0; i < SWEEP_SLOTS; i++)
		open += sweep_slot(first + i, oldest_ns, last_time);
	if (is_last(sweep))
		end_sweep();
	return open;
}

#endif
