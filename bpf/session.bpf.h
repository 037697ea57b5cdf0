/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The session of an echo and its life: opened by the first hook that sees the
 * request, stamped by the others, closed by the last hook, by the same key
 * starting again, or by the reader once --timeout has passed. Whoever takes its
 * slot reports it: that succeeds for one of them alone.
 */
#ifndef SESSION_BPF_H
#define SESSION_BPF_H

#define EVENT_BASE_SIZE __builtin_offsetof(struct icmp_rtt_event, stack_bytes)
#define EVENT_FULL_SIZE sizeof(struct icmp_rtt_event)

enum { EVENTS_BYTES = 4 * 1024 * 1024 };

/*
 * Reports: struct icmp_rtt_event, as far as a slot holds it. Written by emit
 * and emit_reply, read by the reader. Full: the report is lost and counted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_BYTES);
} events SEC(".maps");

/* One more than where the reader was when it had left no room; 0: not since the last sweep. */
static __u64 full_at;

/*
 * Room for a record; NULL: there is none. While the reader has not gone on since there
 * was none, nobody takes the buffer's lock to learn that again: senders that flood us
 * would wait for each other.
 */
static __always_inline struct icmp_rtt_event *reserve(void)
{
	const __u64 taken = BPF_RINGBUF_HDR_SZ + (config.stacks ? EVENT_FULL_SIZE : EVENT_BASE_SIZE);
	struct icmp_rtt_event *record;
	__u64 at;

	if (full_at && bpf_ringbuf_query(&events, BPF_RB_CONS_POS) + 1 == full_at)
		return NULL;
	if (config.stacks)
		record = bpf_ringbuf_reserve(&events, EVENT_FULL_SIZE, 0);
	else
		record = bpf_ringbuf_reserve(&events, EVENT_BASE_SIZE, 0);
	if (!record) {
		/* It may have gone on meanwhile, or the buffer was refused for another reason. */
		at = bpf_ringbuf_query(&events, BPF_RB_CONS_POS);
		if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) + taken >= EVENTS_BYTES)
			full_at = at + 1;
	}
	return record;
}

/* The wire-side hooks saw the echo, but never on the device that was asked for. */
static __always_inline bool elsewhere(const struct icmp_rtt_event *session)
{
	return config.ifindex && session->other_interface && !session->ts_ns[HOOK_XMIT] &&
	       !session->ts_ns[HOOK_RECV];
}

static __always_inline void account(struct cpu_state *cpu, struct slot *slot, __u8 outcome,
				    const bool lost)
{
	/* Of one that was answered all the same, a copy was dropped: no loss. */
	if (outcome != OUTCOME_COMPLETE && slot->event.drop_side)
		count(cpu, COUNTER_DROPS);
	switch (outcome) {
	case OUTCOME_OPEN:
		count(cpu, COUNTER_EXPIRED);
		remember_given_up(slot, true); /* one that finds no room stays open */
		break;
	case OUTCOME_RESTARTED:
		count(cpu, COUNTER_RESTARTED);
		if (lost)
			count(cpu, COUNTER_RESTARTED_LOST);
		if (slot->key.direction == DIRECTION_TX)
			remember_given_up(slot, !lost);
		break;
	default:
		count(cpu, COUNTER_COMPLETE);
		count(cpu, lost ? COUNTER_EVENTS_LOST : COUNTER_REPORTED);
		remember_completed(slot, !lost);
	}
}

#define WAKEUP_BYTES (256 * 1024)
#define ASKED_EACH 16 /* reports of a CPU */

/* Where the buffer was written to when the reader was last woken. */
static __u64 woken_at;

/*
 * The reader looks into the buffer ten times a second or more; waking it for each
 * record would cost more than all the hooks of an echo together. Nor is one
 * that lags woken again before as much has been written anew: to a virtual
 * machine the interrupt that wakes it is a way out to its host.
 */
static __always_inline __u64 wakeup(const struct cpu_state *cpu)
{
	__u64 written;

	if (cpu->counters.value[COUNTER_REPORTED] % ASKED_EACH ||
	    bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < WAKEUP_BYTES)
		return BPF_RB_NO_WAKEUP;
	written = bpf_ringbuf_query(&events, BPF_RB_PROD_POS);
	if (written - woken_at < WAKEUP_BYTES)
		return BPF_RB_NO_WAKEUP;
	woken_at = written;
	return BPF_RB_FORCE_WAKEUP;
}

#define LINE 64 /* bytes, of a cache */

/*
 * Reads from each line of a record that is about to be written. The reader's CPU had them
 * last: fetched by loads they come all at once, by the stores one after the other, for
 * which the next locked instruction waits. With tracepoints alone, where that was sampled;
 * where functions are probed the instructions of an echo are counted instead.
 */
static __always_inline void fetch(const struct icmp_rtt_event *record)
{
#pragma unroll
	for (__u32 at = 0; at < EVENT_BASE_SIZE; at += LINE)
		*(volatile __u64 *)((void *)record + at);
}

/*
 * Hands the session to the reader and ends it; one caller of two wins. Returns
 * false where there is no room for the record: then the session is ended all
 * the same, unless it is one that the reader gives up, who comes again.
 */
static __always_inline bool emit(struct cpu_state *cpu, struct slot *slot, __u64 word,
				 __u8 outcome)
{
	struct icmp_rtt_event *record;
	__u64 *place;

	record = reserve();
	if (!record) {
		place = outcome == OUTCOME_OPEN ? NULL : take(slot, word);
		if (place) {
			account(cpu, slot, outcome, true);
			free_slot(slot, place);
		}
		return false;
	}
	if (config.tx_close == HOOK_RECV)
		fetch(record);
	place = take(slot, word);
	if (!place) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		/* Given up this very moment: its reply is too late. */
		if (outcome == OUTCOME_COMPLETE && slot->key.direction == DIRECTION_TX)
			count(cpu, COUNTER_LATE_REPLIES);
		return true;
	}
	if (config.stacks)
		bpf_probe_read_kernel(record, EVENT_FULL_SIZE, &slot->event);
	else
		__builtin_memcpy(record, &slot->event, EVENT_BASE_SIZE);
	if (outcome != OUTCOME_COMPLETE || !slot->event.outcome) /* else see answers() and restart_slot() */
		record->outcome = outcome;
	account(cpu, slot, outcome, false);
	free_slot(slot, place);
	bpf_ringbuf_submit(record, wakeup(cpu));
	return true;
}

/* Ends a session that is not to be reported. */
static __always_inline void discard(struct cpu_state *cpu, struct slot *slot, __u64 word,
				    enum icmp_rtt_counter why)
{
	__u64 *place = take(slot, word);

	if (!place)
		return;
	if (why != COUNTER_OTHER_INTERFACE)
		count(cpu, COUNTER_COMPLETE);
	count(cpu, why);
	remember_completed(slot, false);
	free_slot(slot, place);
}

/* Ends a session that was opened for a request which this host is not to answer. */
static __always_inline void disown(struct cpu_state *cpu, struct slot *slot, __u64 word)
{
	__u64 *place = take(slot, word);

	if (!place)
		return;
	add_atomic(&cpu->counters.value[COUNTER_REQUESTS], -1);
	count(cpu, COUNTER_OTHER_ADDRESS);
	free_slot(slot, place);
}

static __always_inline __u64 first_stamp(const struct icmp_rtt_event *session, __u32 first)
{
	for (__u32 i = 0; i < 3; i++)
		if (session->ts_ns[first + i])
			return session->ts_ns[first + i];
	return 0;
}

/* Whether a hook has noted its packet; not so of one that another CPU is only just opening. */
static __always_inline bool is_stamped(const struct icmp_rtt_event *session)
{
	__u64 any = *(const volatile __u8 *)&session->other_interface;

	for (int i = 0; i < HOOK_COUNT; i++)
		any |= *(const volatile __u64 *)&session->ts_ns[i];
	return any;
}

/* A global function, as find_tagged is. */
__noinline int complete_slot(__u32 number, __u64 word, __u64 now, __u32 cpu_number)
{
	struct cpu_state *cpu = bpf_map_lookup_elem(&cpus, &cpu_number);
	struct slot *slot = slot_at(number);
	struct icmp_rtt_event *session;
	__u64 start;

	if (!cpu || !slot)
		return 0;
	session = &slot->event;
	if (elsewhere(session)) {
		discard(cpu, slot, word, COUNTER_OTHER_INTERFACE);
		return 0;
	}
	if (config.only_incomplete) {
		discard(cpu, slot, word, COUNTER_UNASKED);
		return 0;
	}
	if (config.min_rtt_ns) {
		start = first_stamp(session, slot->key.direction == DIRECTION_TX ? HOOK_SEND :
										    HOOK_RECV);
		if (!start) /* it left, or came in, by another device than the one asked for */
			start = slot->opened_ns;
		if (now - start < config.min_rtt_ns) {
			discard(cpu, slot, word, COUNTER_BELOW_THRESHOLD);
			return 0;
		}
	}
	emit(cpu, slot, word, OUTCOME_COMPLETE);
	return 0;
}

/* The last hook has stamped the session that was found under @word. */
static __always_inline void complete_session(const struct cpu_state *cpu,
					     struct icmp_rtt_event *session, __u64 word, __u64 now)
{
	if (word)
		complete_slot(slot_of_session(session)->number, word, now, cpu->number);
}

/* Seen on another device than the one asked for, where it may end: so it does, if it was never on that. */
static __always_inline void end_elsewhere(const struct cpu_state *cpu,
					  struct icmp_rtt_event *session, __u64 word)
{
	session->other_interface = 1;
	if (elsewhere(session))
		complete_session(cpu, session, word, 0);
}

static __always_inline void put_key(struct icmp_rtt_event *event, __u8 family,
				    const struct echo_key *key)
{
	event->family = family;
	event->direction = key->direction;
	event->id = key->id;
	event->seq = key->seq;
	event->netns = key->netns;
	event->local[0] = key->local;
	event->remote[0] = key->remote;
	if (family == FAMILY_IPV6) {
		__builtin_memcpy(&event->local[1], key->local_rest, sizeof(key->local_rest));
		__builtin_memcpy(&event->remote[1], key->remote_rest, sizeof(key->remote_rest));
	}
}

/*
 * Ends the session of a request that was sent again. The outcome of the next one, should a
 * reply end it: it may be that to the first request. Of ours the reader knows more (see
 * icmp_rtt/unanswered.py), if it learns of the first. A global function, as find_tagged is.
 */
__noinline int restart_slot(__u32 number, __u64 word)
{
	struct cpu_state *cpu = this_cpu();
	struct slot *slot = slot_at(number);
	bool sent, told = false;

	if (!cpu || !slot)
		return OUTCOME_COMPLETE;
	sent = slot->key.direction == DIRECTION_TX;
	if (elsewhere(&slot->event)) {
		if (sent)
			remember_given_up(slot, false);
		discard(cpu, slot, word, COUNTER_OTHER_INTERFACE);
	} else {
		told = emit(cpu, slot, word, OUTCOME_RESTARTED);
	}
	return sent && told ? OUTCOME_COMPLETE : OUTCOME_AMBIGUOUS;
}

/*
 * A new session; one that was under way under the same key ends first. Of two requests
 * of one key at the same moment the first alone is followed: there is nothing to tell of
 * the other that would tell them apart. @looked: the caller has just found none of that key.
 */
static __always_inline struct icmp_rtt_event *open_session(struct cpu_state *cpu, __u8 family,
							    struct echo_key *key, __u64 now,
							    const bool looked)
{
	struct icmp_rtt_event *session = NULL;
	__u8 outcome = OUTCOME_COMPLETE;
	struct slot *slot;
	__u64 word = 0;

	count(cpu, COUNTER_REQUESTS);
	if (!looked)
		session = find_session(family, key, &word);
	if (session) {
		if (word && !is_stamped(session)) {
			count(cpu, COUNTER_RESTARTED);
			count(cpu, COUNTER_RESTARTED_LOST);
			return NULL;
		}
		if (word)
			outcome = restart_slot(slot_of_session(session)->number, word);
	}
	slot = claim_slot(family, key);
	if (!slot) {
		count(cpu, COUNTER_REFUSED);
		return NULL;
	}
	one_more_under_way();
	slot->key = *key;
	slot->opened_ns = now;
	session = &slot->event;
	__builtin_memset(session, 0, EVENT_BASE_SIZE);
	if (config.stacks)
		__builtin_memset(session->stack_bytes, 0, sizeof(session->stack_bytes));
	put_key(session, family, key);
	session->outcome = outcome;
	publish(slot);
	return session;
}

/*
 * Tells the reader of a reply that ends no session. A note is not worth a
 * warning: where the ring buffer is full it is left out, the counters have it.
 */
static __always_inline void emit_reply(const struct cpu_state *cpu, __u8 family,
				       const struct echo_key *key, __u16 sum, __u8 outcome,
				       const int hook, const int probe, __u64 skb, __u64 now)
{
	struct icmp_rtt_event *record;

	record = reserve();
	if (!record)
		return;
	__builtin_memset(record, 0, EVENT_BASE_SIZE);
	if (config.stacks)
		__builtin_memset(record->stack_bytes, 0, sizeof(record->stack_bytes));
	put_key(record, family, key);
	record->sum = sum;
	record->outcome = outcome;
	record->skb[hook] = skb;
	record->cpu[hook] = cpu->number;
	record->probe[hook] = probe;
	record->ts_ns[hook] = now;
	bpf_ringbuf_submit(record, wakeup(cpu));
}

#endif
