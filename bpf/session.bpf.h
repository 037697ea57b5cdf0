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

/*
 * Where an echo under way may lie: one bucket of slots, as long as a cache line.
 * A slot's word is a tag of its key, a number of uses, and a phase: whoever
 * claims, opens, takes or frees a slot changes it.
 */
#define BUCKET_SLOTS 8
#define BUCKETS_TRIED 4 /* one after the other, where the first are full */
#define SLOT_FREE 0ULL
#define SLOT_CLAIMED 1ULL /* not to be found yet */
#define SLOT_OPEN 2ULL
#define SLOT_TAKEN 3ULL /* by whoever ends the session */
#define SLOT_PHASE 3ULL
#define SLOT_USE 4ULL
#define SLOT_USES 0xFFFFFFFCULL
#define SLOT_TAG 0xFFFFFFFF00000000ULL

struct bucket {
	__u64 word[BUCKET_SLOTS];
};

/* What is in a slot. Valid only together with the word that it was read under. */
struct slot {
	__u64 word;
	__u32 number; /* its own index */
	struct echo_key key;
	struct icmp_rtt_event event;
};

/*
 * Words of the slots. Key: number of a bucket; value: struct bucket (the reader
 * sets the number of entries, a power of two). Changed by claim, take and
 * free_slot. An array with an own way of finding: a hash map's insert, lookups
 * and delete were three quarters of what an echo cost.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bucket);
} buckets SEC(".maps");

/*
 * Echoes under way. Key: number of a slot; value: struct slot, up to the event's
 * stack_bytes when stacks are off (the reader sets the value's size and the
 * number of entries). Filled by open_session, freed by whoever ends the session:
 * the last hook, a restart, or the reader's sweep. Buckets full: the echo is
 * refused and counted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BUCKET_SLOTS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct slot));
} sessions SEC(".maps");

struct claim {
	__u64 use; /* of the slot's word */
	__u64 number;
};

/*
 * Whose a slot is, where the kernel cannot compare and exchange (one entry where
 * it can). Key: struct claim; value: of no meaning. Inserted by claim, deleted
 * by take; full: as if the bucket were.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct claim);
	__type(value, __u32);
} claims SEC(".maps");

/* Whether a first bucket was ever full: until then nothing lies in another one. */
static bool overflowed;

/* How many sessions are under way: while there are none, no reply can end one. */
static __u64 under_way;

/*
 * Reports: struct icmp_rtt_event, as far as a slot holds it. Written by emit
 * and emit_reply, read by the reader. Full: the report is lost and counted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 * 1024 * 1024);
} events SEC(".maps");

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
 * Echoes that the reader gave up, and those of ours that began again, so that a
 * late reply is told from a stray one. Key: struct echo_key, zero-filled for
 * IPv4; value: the request's sum. Inserted by account, restart_slot and the
 * sweep, deleted by nobody; full: the least recent goes.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct echo_key);
	__type(value, __u16);
} given_up SEC(".maps");

/* Set by the reader's first sweep: the inode number of the test's namespace may come up again. */
static bool self_test_over;

#define WAKEUP_BYTES (256 * 1024)

#define RECENT_SLOTS 16384
#define FINGERPRINT 0xFFFFFFFF0000FFFEULL

/*
 * Fingerprints of echoes that completed, so that a second reply is told from
 * a stray one. Key: low bits of the tag; value: the tag, the request's sum and
 * its id, and bit 0, set for an echo that was reported. Written by
 * remember_completed; a later echo in the same place replaces it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RECENT_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} recent SEC(".maps");

/* Spreads a key. Requests that follow each other lie in buckets that do. */
static __always_inline __u32 hash_of(__u8 family, const struct echo_key *key)
{
	const __u32 odd = 0x9E3779B1;
	__u32 hash = (key->netns ^ key->direction) * odd ^ key->id;

	hash = (hash ^ hash >> 16) * odd ^ key->local;
	hash = (hash ^ hash >> 16) * odd ^ key->remote;
	if (family == FAMILY_IPV6) {
		for (int i = 0; i < 3; i++)
			hash = (hash ^ hash >> 16) * odd ^ key->local_rest[i] * 3 ^
			       key->remote_rest[i];
	}
	hash = (hash ^ hash >> 16) * odd;
	return hash + key->seq;
}

static __always_inline bool same_key(__u8 family, const struct echo_key *a,
				     const struct echo_key *b)
{
	if (a->seq != b->seq || a->id != b->id || a->remote != b->remote ||
	    a->local != b->local || a->netns != b->netns || a->direction != b->direction)
		return false;
	if (family == FAMILY_IPV6) {
		for (int i = 0; i < 3; i++)
			if (a->local_rest[i] != b->local_rest[i] ||
			    a->remote_rest[i] != b->remote_rest[i])
				return false;
	}
	return true;
}

static __always_inline struct bucket *bucket_at(__u32 number)
{
	return bpf_map_lookup_elem(&buckets, &number);
}

static __always_inline struct slot *slot_at(__u32 number)
{
	return bpf_map_lookup_elem(&sessions, &number);
}

/* The compiler is kept from adding before it has tested, which verifiers do not have. */
static __always_inline struct icmp_rtt_event *session_in(struct slot *slot)
{
	if (!slot)
		return NULL;
	barrier_var(slot);
	return &slot->event;
}

static __always_inline struct slot *slot_of_session(struct icmp_rtt_event *session)
{
	return (void *)session - __builtin_offsetof(struct slot, event);
}

/*
 * One more than the number of the first open slot with the tag of @hash, not
 * before @way of bucket @number; 0: there is none. A global function: the
 * verifier goes through it once, and callers know no more of the result than
 * that it is a number. That spares most of the time that loading takes.
 */
__noinline int find_tagged(__u32 hash, __u32 number, __u32 way)
{
	__u64 tag_and_phase = (__u64)hash << 32 | SLOT_OPEN;
	struct bucket *bucket = bucket_at(number);

	if (!bucket)
		return 0;
	for (__u32 i = 0; i < BUCKET_SLOTS; i++)
		if (i >= way && (bucket->word[i] & (SLOT_TAG | SLOT_PHASE)) == tag_and_phase)
			return number * BUCKET_SLOTS + i + 1;
	return 0;
}

/* The same in the buckets after the first, where another has the first's place. */
__noinline int find_beyond(__u32 hash)
{
	for (__u32 tried = 1; tried < BUCKETS_TRIED; tried++) {
		int found = find_tagged(hash, (hash + tried) & config.bucket_mask, 0);

		if (found)
			return found;
	}
	return 0;
}

/* Of keys with one tag two can be told apart in one bucket. */
static __always_inline struct slot *find_slot(__u8 family, const struct echo_key *key)
{
	__u32 hash = hash_of(family, key);
	__u32 number = hash & config.bucket_mask;
	__u32 found = find_tagged(hash, number, 0);
	struct slot *slot;

	if (found) {
		slot = slot_at(found - 1);
		if (slot && same_key(family, &slot->key, key))
			return slot;
		found = find_tagged(hash, number, (found - 1) % BUCKET_SLOTS + 1);
	}
	if (!found && overflowed)
		found = find_beyond(hash);
	if (!found)
		return NULL;
	slot = slot_at(found - 1);
	return slot && same_key(family, &slot->key, key) ? slot : NULL;
}

static __always_inline struct icmp_rtt_event *find_session(__u8 family,
							    const struct echo_key *key)
{
	return under_way ? session_in(find_slot(family, key)) : NULL;
}

/* The session that was found under @word; NULL if it has ended since. */
static __always_inline struct icmp_rtt_event *session_alive_at(__u32 number, __u64 word)
{
	struct bucket *bucket = bucket_at(number / BUCKET_SLOTS);

	if (!bucket || bucket->word[number % BUCKET_SLOTS] != word)
		return NULL;
	return session_in(slot_at(number));
}

/*
 * The word under which the session found is that of @key; 0: it has ended since.
 * Read before the key is, so that it cannot be that of a later one.
 */
static __always_inline __u64 word_of(struct icmp_rtt_event *session, __u8 family,
				     const struct echo_key *key)
{
	struct slot *slot = slot_of_session(session);
	__u64 word = *(volatile __u64 *)&slot->word;

	barrier();
	return same_key(family, &slot->key, key) ? word : 0;
}

/* Whether a request that many may answer was ever followed: only then is there a second look. */
static bool many_asked;

/* Of two that want a free slot, one gets it. */
static __always_inline bool claim(__u64 *word, __u32 number, __u64 from, __u64 to)
{
	struct claim claim = { .use = from & SLOT_USES, .number = number };

	if (config.atomics)
		return __sync_val_compare_and_swap(word, from, to) == from;
	if (bpf_map_update_elem(&claims, &claim, &number, BPF_NOEXIST))
		return false;
	if (*(volatile __u64 *)word == from) {
		*(volatile __u64 *)word = to;
		return true;
	}
	bpf_map_delete_elem(&claims, &claim); /* it was used and freed since it was looked at */
	return false;
}

/*
 * Of those that want to end a session, one does, and no later one in its slot:
 * where the slot's word is, for free_slot; NULL for the others.
 */
static __always_inline __u64 *take(struct slot *slot, __u64 word)
{
	struct claim claim = { .use = word & SLOT_USES, .number = slot->number };
	struct bucket *bucket = bucket_at(slot->number / BUCKET_SLOTS);
	__u64 *place;

	if (!bucket)
		return NULL;
	place = &bucket->word[slot->number % BUCKET_SLOTS];
	if (config.atomics)
		return __sync_val_compare_and_swap(place, word, word | SLOT_TAKEN) == word ?
			       place :
			       NULL;
	if (bpf_map_delete_elem(&claims, &claim))
		return NULL;
	*(volatile __u64 *)place = word | SLOT_TAKEN;
	return place;
}

/* By the one that took it, and is done with it. */
static __always_inline void free_slot(struct slot *slot, __u64 *place)
{
	__sync_fetch_and_add(&under_way, -1);
	*(volatile __u64 *)place = (slot->word + SLOT_USE) & SLOT_USES;
}

static __always_inline __u64 fingerprint(__u32 tag, __u16 id)
{
	return (__u64)tag << 32 | (id & 0x7FFF) << 1;
}

static __always_inline void remember_completed(struct slot *slot, const bool reported)
{
	__u32 tag = slot->word >> 32;
	__u32 at = tag & (RECENT_SLOTS - 1);
	__u64 *known = bpf_map_lookup_elem(&recent, &at);

	if (known)
		*known = fingerprint(tag, slot->key.id) | (__u64)slot->event.sum << 16 | reported;
}

/* What is known of a completed echo: see the map recent; 0: nothing. */
static __always_inline __u64 find_completed(__u8 family, const struct echo_key *key)
{
	__u32 tag = hash_of(family, key);
	__u32 at = tag & (RECENT_SLOTS - 1);
	__u64 *known = bpf_map_lookup_elem(&recent, &at);

	return known && (*known & FINGERPRINT) == fingerprint(tag, key->id) ? *known : 0;
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
	if (completed && (__u16)(completed >> 16) == sum)
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

static __always_inline void account(struct cpu_state *cpu, struct slot *slot, __u8 outcome,
				    const bool lost)
{
	switch (outcome) {
	case OUTCOME_OPEN:
		count(cpu, COUNTER_EXPIRED);
		bpf_map_update_elem(&given_up, &slot->key, &slot->event.sum, BPF_ANY);
		break;
	case OUTCOME_RESTARTED:
		count(cpu, COUNTER_RESTARTED);
		if (lost)
			count(cpu, COUNTER_RESTARTED_LOST);
		break;
	default:
		count(cpu, COUNTER_COMPLETE);
		count(cpu, lost ? COUNTER_EVENTS_LOST : COUNTER_REPORTED);
		remember_completed(slot, !lost);
	}
}

#define ASKED_EACH 16 /* reports of a CPU */

/*
 * The reader looks into the buffer ten times a second; waking it for each
 * record would cost more than all the hooks of an echo together.
 */
static __always_inline __u64 wakeup(const struct cpu_state *cpu)
{
	if (cpu->counters.value[COUNTER_REPORTED] % ASKED_EACH)
		return BPF_RB_NO_WAKEUP;
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < WAKEUP_BYTES ? BPF_RB_NO_WAKEUP :
									       BPF_RB_FORCE_WAKEUP;
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

	if (config.stacks)
		record = bpf_ringbuf_reserve(&events, EVENT_FULL_SIZE, 0);
	else
		record = bpf_ringbuf_reserve(&events, EVENT_BASE_SIZE, 0);
	if (!record) {
		place = outcome == OUTCOME_OPEN ? NULL : take(slot, word);
		if (place) {
			account(cpu, slot, outcome, true);
			free_slot(slot, place);
		}
		return false;
	}
	place = take(slot, word);
	if (!place) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return true;
	}
	if (config.stacks)
		bpf_probe_read_kernel(record, EVENT_FULL_SIZE, &slot->event);
	else
		__builtin_memcpy(record, &slot->event, EVENT_BASE_SIZE);
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

static __always_inline __u64 first_stamp(const struct icmp_rtt_event *session, __u32 first)
{
	for (__u32 i = 0; i < 3; i++)
		if (session->ts_ns[first + i])
			return session->ts_ns[first + i];
	return 0;
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

/* Ends the session of a request that was sent again. A global function, as find_tagged is. */
__noinline int restart_slot(__u32 number, __u64 word)
{
	struct cpu_state *cpu = this_cpu();
	struct slot *slot = slot_at(number);

	if (!cpu || !slot)
		return 0;
	if (slot->key.direction == DIRECTION_TX)
		bpf_map_update_elem(&given_up, &slot->key, &slot->event.sum, BPF_ANY);
	if (elsewhere(&slot->event))
		discard(cpu, slot, word, COUNTER_OTHER_INTERFACE);
	else
		emit(cpu, slot, word, OUTCOME_RESTARTED);
	return 0;
}

/*
 * One more than the number of a slot of bucket @number that is ours now; 0: it
 * is full. A global function, as find_tagged is.
 */
__noinline int claim_tagged(__u32 hash, __u32 number)
{
	struct bucket *bucket = bucket_at(number);
	struct slot *slot;
	__u64 word, mine;

	if (!bucket)
		return 0;
	number *= BUCKET_SLOTS;
	for (__u32 i = 0; i < BUCKET_SLOTS; i++) {
		word = *(volatile __u64 *)&bucket->word[i];
		if ((word & SLOT_PHASE) != SLOT_FREE)
			continue;
		mine = (__u64)hash << 32 | (word & SLOT_USES);
		slot = slot_at(number + i);
		if (!slot || !claim(&bucket->word[i], number + i, word, mine | SLOT_CLAIMED))
			continue;
		*(volatile __u64 *)&slot->word = 0; /* until its key is there: see word_of */
		slot->number = number + i;
		return number + i + 1;
	}
	return 0;
}

/* The same in the buckets after the first. */
__noinline int claim_beyond(__u32 hash)
{
	overflowed = true;
	for (__u32 tried = 1; tried < BUCKETS_TRIED; tried++) {
		int claimed = claim_tagged(hash, (hash + tried) & config.bucket_mask);

		if (claimed)
			return claimed;
	}
	return 0;
}

static __always_inline struct slot *claim_slot(__u8 family, const struct echo_key *key)
{
	__u32 hash = hash_of(family, key);
	__u32 claimed = claim_tagged(hash, hash & config.bucket_mask);

	if (!claimed)
		claimed = claim_beyond(hash);
	return claimed ? slot_at(claimed - 1) : NULL;
}

/* From now on the session is found by its key. */
static __always_inline void publish(struct slot *slot)
{
	struct bucket *bucket = bucket_at(slot->number / BUCKET_SLOTS);
	__u64 *place;
	__u64 word;

	if (!bucket)
		return;
	place = &bucket->word[slot->number % BUCKET_SLOTS];
	word = (*(volatile __u64 *)place & ~SLOT_PHASE) | SLOT_OPEN;
	barrier();
	*(volatile __u64 *)&slot->word = word;
	barrier();
	*(volatile __u64 *)place = word;
}

/* A new session; one that was under way under the same key ends first. */
static __always_inline struct icmp_rtt_event *open_session(struct cpu_state *cpu, __u8 family,
							    struct echo_key *key)
{
	struct icmp_rtt_event *session;
	struct slot *slot;
	__u64 word;

	count(cpu, COUNTER_REQUESTS);
	session = find_session(family, key);
	if (session) {
		word = word_of(session, family, key);
		if (word)
			restart_slot(slot_of_session(session)->number, word);
	}
	slot = claim_slot(family, key);
	if (!slot) {
		count(cpu, COUNTER_REFUSED);
		return NULL;
	}
	__sync_fetch_and_add(&under_way, 1);
	slot->key = *key;
	session = &slot->event;
	__builtin_memset(session, 0, EVENT_BASE_SIZE);
	if (config.stacks)
		__builtin_memset(session->stack_bytes, 0, sizeof(session->stack_bytes));
	put_key(session, family, key);
	publish(slot);
	return session;
}

/*
 * Tells the reader of a reply that ends no session. A note is not worth a
 * warning: where the ring buffer is full it is left out, the counters have it.
 */
static __always_inline void emit_reply(const struct cpu_state *cpu, __u8 family, const struct echo_key *key, __u8 outcome,
				       const int hook, const int probe, __u64 skb, __u64 now)
{
	struct icmp_rtt_event *record;

	if (config.stacks)
		record = bpf_ringbuf_reserve(&events, EVENT_FULL_SIZE, 0);
	else
		record = bpf_ringbuf_reserve(&events, EVENT_BASE_SIZE, 0);
	if (!record)
		return;
	__builtin_memset(record, 0, EVENT_BASE_SIZE);
	if (config.stacks)
		__builtin_memset(record->stack_bytes, 0, sizeof(record->stack_bytes));
	put_key(record, family, key);
	record->outcome = outcome;
	record->skb[hook] = skb;
	record->cpu[hook] = cpu->number;
	record->probe[hook] = probe;
	record->ts_ns[hook] = now;
	bpf_ringbuf_submit(record, wakeup(cpu));
}

#endif
