/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The session of an echo and its life: opened by the first hook that sees the
 * request, stamped by the others, closed by the last hook, by the same key
 * starting again, or by the reader once --timeout has passed. Whoever deletes
 * it from the map reports it: the delete succeeds for one of them alone.
 */
#ifndef SESSION_BPF_H
#define SESSION_BPF_H

#define EEXIST 17

#define EVENT_BASE_SIZE __builtin_offsetof(struct icmp_rtt_event, stack_bytes)
#define EVENT_FULL_SIZE sizeof(struct icmp_rtt_event)

/*
 * Echoes under way. Key: the first 20 bytes of struct echo_key; value: struct
 * icmp_rtt_event, up to stack_bytes when stacks are off (the reader sets the
 * value's size and the number of entries). Inserted by open_session, deleted
 * by close_session and by the reader at the timeout. Full: the echo is
 * refused and counted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(key_size, KEY_V4_SIZE);
	__uint(value_size, sizeof(struct icmp_rtt_event));
} sessions_v4 SEC(".maps");

/* The same for IPv6. Key: struct echo_key. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(key_size, sizeof(struct echo_key));
	__uint(value_size, sizeof(struct icmp_rtt_event));
} sessions_v6 SEC(".maps");

/*
 * A zeroed session to insert, or record to fill. Key: 0. Never written: the
 * value is too large for the stack of a program.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct icmp_rtt_event));
} blank SEC(".maps");

/*
 * Reports: struct icmp_rtt_event, as long as a session's value. Written by
 * close_session, read by the reader. Full: the report is lost and counted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 * 1024 * 1024);
} events SEC(".maps");

/*
 * Key: enum icmp_rtt_probe; value: how often it recognised an echo of the
 * self-test. Entry 0 is set by the reader when the test is over: the inode
 * number of its namespace may come up again.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PROBE_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} fired SEC(".maps");

/*
 * Echoes that the reader gave up, and those of ours that began again, so that a
 * late reply is told from a stray one. Key: struct echo_key, zero-filled for
 * IPv4; value: the request's sum. Inserted by the reader and by open_session,
 * deleted by nobody; full: the least recent goes.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct echo_key);
	__type(value, __u16);
} given_up SEC(".maps");

#define WAKEUP_BYTES (256 * 1024)

#define RECENT_SLOTS 16384
#define FINGERPRINT_SHIFT 17

/*
 * Fingerprints of echoes that completed, so that a second reply is told from
 * a stray one. Key: low bits of the fingerprint; value: the fingerprint, the
 * request's sum in bits 1 to 16, and bit 0, set for an echo that was reported.
 * Written by remember_completed; a later echo in the same slot replaces it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RECENT_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} recent SEC(".maps");

static __always_inline struct icmp_rtt_event *find_session(__u8 family, struct echo_key *key)
{
	if (family == FAMILY_IPV4)
		return bpf_map_lookup_elem(&sessions_v4, key);
	return bpf_map_lookup_elem(&sessions_v6, key);
}

/* Whether a request that many may answer was ever followed: only then is there a second look. */
static bool many_asked;

static __always_inline long delete_session(__u8 family, struct echo_key *key)
{
	if (family == FAMILY_IPV4)
		return bpf_map_delete_elem(&sessions_v4, key);
	return bpf_map_delete_elem(&sessions_v6, key);
}

static __always_inline __u64 fingerprint(__u8 family, const struct echo_key *key)
{
	const __u64 odd = 0x9E3779B97F4A7C15ULL;
	__u64 hash = key->netns ^ ((__u64)key->direction << 32);

	hash = hash * odd ^ ((__u32)key->id << 16 | key->seq);
	hash = hash * odd ^ key->local;
	hash = hash * odd ^ key->remote;
	if (family == FAMILY_IPV6) {
		for (int i = 0; i < 3; i++) {
			hash = hash * odd ^ key->local_rest[i];
			hash = hash * odd ^ key->remote_rest[i];
		}
	}
	hash *= odd;
	return (hash ^ hash >> 32) >> FINGERPRINT_SHIFT << FINGERPRINT_SHIFT;
}

static __always_inline void remember_completed(__u8 family, const struct echo_key *key,
					       __u16 sum, const bool reported)
{
	__u64 hash = fingerprint(family, key);
	__u32 slot = hash >> FINGERPRINT_SHIFT & (RECENT_SLOTS - 1);
	__u64 *known = bpf_map_lookup_elem(&recent, &slot);

	if (known)
		*known = hash | (__u64)sum << 1 | reported;
}

/* What is known of a completed echo: see the map recent; 0: nothing. */
static __always_inline __u64 find_completed(__u8 family, const struct echo_key *key)
{
	__u64 hash = fingerprint(family, key);
	__u32 slot = hash >> FINGERPRINT_SHIFT & (RECENT_SLOTS - 1);
	__u64 *known = bpf_map_lookup_elem(&recent, &slot);

	return known && *known >> FINGERPRINT_SHIFT == hash >> FINGERPRINT_SHIFT ? *known : 0;
}

/*
 * Whether a reply with @sum answers the session's request, and not an earlier
 * one of the same key. Some hosts cut a reply's data short, so what fits
 * neither is taken for the answer.
 */
static __always_inline bool answers(__u8 family, const struct echo_key *key,
				    const struct icmp_rtt_event *session, __u16 sum)
{
	__u64 completed;
	__u16 *earlier;

	if (session->sum == sum)
		return true;
	completed = find_completed(family, key);
	if (completed && (__u16)(completed >> 1) == sum)
		return false;
	earlier = bpf_map_lookup_elem(&given_up, key);
	return !earlier || *earlier != sum;
}

/* The wire-side hooks saw the echo, but never on the device that was asked for. */
static __always_inline bool elsewhere(const struct icmp_rtt_event *session)
{
	return config.ifindex && session->other_interface && !session->ts_ns[HOOK_XMIT] &&
	       !session->ts_ns[HOOK_RECV];
}

static __always_inline void account(struct cpu_state *cpu, __u8 family,
				    const struct echo_key *key, __u16 sum, __u8 outcome,
				    const bool lost)
{
	if (outcome == OUTCOME_RESTARTED) {
		count(cpu, COUNTER_RESTARTED);
		if (lost)
			count(cpu, COUNTER_RESTARTED_LOST);
		return;
	}
	count(cpu, COUNTER_COMPLETE);
	count(cpu, lost ? COUNTER_EVENTS_LOST : COUNTER_REPORTED);
	remember_completed(family, key, sum, !lost);
}

/*
 * The reader looks into the buffer ten times a second; waking it for each
 * record would cost more than all the hooks of an echo together.
 */
static __always_inline __u64 wakeup(void)
{
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < WAKEUP_BYTES ? BPF_RB_NO_WAKEUP :
									       BPF_RB_FORCE_WAKEUP;
}

/*
 * Hands the session to the reader and deletes it; one caller of two wins. The
 * paths with and without a record are kept apart: verifiers before 6.3 forget
 * that a record was tested.
 */
static __always_inline void emit(struct cpu_state *cpu, __u8 family, struct echo_key *key,
				 struct icmp_rtt_event *session, __u8 outcome)
{
	struct icmp_rtt_event *record;
	__u16 sum = session->sum;

	if (config.stacks)
		record = bpf_ringbuf_reserve(&events, EVENT_FULL_SIZE, 0);
	else
		record = bpf_ringbuf_reserve(&events, EVENT_BASE_SIZE, 0);
	if (!record) {
		if (!delete_session(family, key))
			account(cpu, family, key, sum, outcome, true);
		return;
	}
	if (config.stacks)
		bpf_probe_read_kernel(record, EVENT_FULL_SIZE, session);
	else
		__builtin_memcpy(record, session, EVENT_BASE_SIZE);
	record->outcome = outcome;
	if (delete_session(family, key)) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return;
	}
	account(cpu, family, key, sum, outcome, false);
	bpf_ringbuf_submit(record, wakeup());
}

/* Ends a session that is not to be reported. */
static __always_inline void discard(struct cpu_state *cpu, __u8 family, struct echo_key *key,
				    const struct icmp_rtt_event *session,
				    enum icmp_rtt_counter why)
{
	__u16 sum = session->sum;

	if (delete_session(family, key))
		return;
	if (why != COUNTER_OTHER_INTERFACE)
		count(cpu, COUNTER_COMPLETE);
	count(cpu, why);
	remember_completed(family, key, sum, false);
}

static __always_inline __u64 first_stamp(const struct icmp_rtt_event *session, __u32 first)
{
	for (__u32 i = 0; i < 3; i++)
		if (session->ts_ns[first + i])
			return session->ts_ns[first + i];
	return 0;
}

/* The last hook has stamped the session. */
static __always_inline void complete_session(struct cpu_state *cpu, __u8 family, struct echo_key *key,
					     struct icmp_rtt_event *session, __u64 now)
{
	__u64 start;

	count(cpu, COUNTER_REPLIES);
	if (elsewhere(session)) {
		discard(cpu, family, key, session, COUNTER_OTHER_INTERFACE);
		return;
	}
	if (config.only_incomplete) {
		discard(cpu, family, key, session, COUNTER_UNASKED);
		return;
	}
	if (config.min_rtt_ns) {
		start = first_stamp(session, key->direction == DIRECTION_TX ? HOOK_SEND :
									      HOOK_RECV);
		if (now - start < config.min_rtt_ns) {
			discard(cpu, family, key, session, COUNTER_BELOW_THRESHOLD);
			return;
		}
	}
	emit(cpu, family, key, session, OUTCOME_COMPLETE);
}

/*
 * An int: before d7ba4cc900bf ("bpf: return long from bpf_map_ops funcs"), v6.4, the
 * upper half of what a map operation returns is not that of a negative number.
 */
static __always_inline int insert_blank(__u8 family, struct echo_key *key)
{
	__u32 zero = 0;
	void *value = bpf_map_lookup_elem(&blank, &zero);

	if (!value)
		return -1;
	if (family == FAMILY_IPV4)
		return bpf_map_update_elem(&sessions_v4, key, value, BPF_NOEXIST);
	return bpf_map_update_elem(&sessions_v6, key, value, BPF_NOEXIST);
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

/* Ends the session of a request that was sent again. */
static __always_inline void restart(struct cpu_state *cpu, __u8 family, struct echo_key *key,
				    struct icmp_rtt_event *session)
{
	__u16 sum = session->sum;

	if (key->direction == DIRECTION_TX)
		bpf_map_update_elem(&given_up, key, &sum, BPF_ANY);
	if (elsewhere(session))
		discard(cpu, family, key, session, COUNTER_OTHER_INTERFACE);
	else
		emit(cpu, family, key, session, OUTCOME_RESTARTED);
}

/* A new session; one that was under way under the same key ends first. */
static __always_inline struct icmp_rtt_event *open_session(struct cpu_state *cpu, __u8 family,
							    struct echo_key *key)
{
	struct icmp_rtt_event *session;
	int err;

	count(cpu, COUNTER_REQUESTS);
	err = insert_blank(family, key);
	if (err == -EEXIST) {
		session = find_session(family, key);
		if (session)
			restart(cpu, family, key, session);
		err = insert_blank(family, key);
	}
	session = err ? NULL : find_session(family, key);
	if (!session) {
		count(cpu, COUNTER_REFUSED);
		return NULL;
	}
	put_key(session, family, key);
	return session;
}

/*
 * Tells the reader of a reply that ends no session. A note is not worth a
 * warning: where the ring buffer is full it is left out, the counters have it.
 */
static __always_inline void emit_reply(__u8 family, const struct echo_key *key, __u8 outcome,
				       const int hook, const int probe, __u64 skb, __u64 now)
{
	__u32 zero = 0;
	struct icmp_rtt_event *blank_event = bpf_map_lookup_elem(&blank, &zero);
	struct icmp_rtt_event *record;

	if (!blank_event)
		return;
	if (config.stacks)
		record = bpf_ringbuf_reserve(&events, EVENT_FULL_SIZE, 0);
	else
		record = bpf_ringbuf_reserve(&events, EVENT_BASE_SIZE, 0);
	if (!record)
		return;
	if (config.stacks)
		bpf_probe_read_kernel(record, EVENT_FULL_SIZE, blank_event);
	else
		bpf_probe_read_kernel(record, EVENT_BASE_SIZE, blank_event);
	put_key(record, family, key);
	record->outcome = outcome;
	record->skb[hook] = skb;
	record->cpu[hook] = bpf_get_smp_processor_id();
	record->probe[hook] = probe;
	record->ts_ns[hook] = now;
	bpf_ringbuf_submit(record, wakeup());
}

#endif
