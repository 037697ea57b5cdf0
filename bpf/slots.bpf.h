/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where echoes under way lie: a table of slots, found by key, of which each is
 * claimed by one and taken by one. What happens in between is session.bpf.h's.
 */
#ifndef SLOTS_BPF_H
#define SLOTS_BPF_H

/*
 * Where an echo under way may lie: one bucket of slots, as long as a cache line.
 * A slot's word is a tag of its key, a number of uses, and a phase: whoever
 * claims, opens, takes or frees a slot changes it.
 */
#define BUCKET_SLOTS 8
#define BUCKETS_TRIED 8 /* one after the other, where the first are full */
#define NEIGHBOURS 10 /* bits: so many requests that follow each other have one first bucket */
#define SLOT_FREE 0ULL
#define SLOT_CLAIMED 1ULL /* not to be found yet */
#define SLOT_OPEN 2ULL
#define SLOT_TAKEN 3ULL /* by whoever ends the session */
#define SLOT_PHASE 3ULL
#define SLOT_USED 4ULL /* one that never was has the word zero */
#define SLOT_USE 8ULL
#define SLOT_USES 0xFFFFFFFCULL
#define SLOT_TAG 0xFFFFFFFF00000000ULL

struct bucket {
	__u64 word[BUCKET_SLOTS];
};

/* What is in a slot. Valid only together with the word that it was read under. */
struct slot {
	__u64 word;
	__u64 opened_ns;
	__u32 number; /* its own index */
	struct echo_key key;
	struct icmp_rtt_event event;
};

/*
 * Words of the slots. Key: number of a bucket; value: struct bucket (the reader
 * sets the number of entries, a power of two). Changed by claim, publish, take
 * and free_slot. An array with an own way of finding: a hash map's insert, lookups
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
 * it can). Key: struct claim; value: of no meaning. Inserted by claim, which deletes
 * it again where it came too late; deleted by take; full: as if the bucket were.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct claim);
	__type(value, __u32);
} claims SEC(".maps");

/* How many sessions lie in the nth bucket after their first, which was full; [0]: in any of them. */
static __u64 beyond[BUCKETS_TRIED];

/*
 * What tells that no session is under way: while there is none, no reply can end one. It
 * is a count, but where no hook follows the arrival: there senders on several CPUs would
 * wait for it longer than all else takes, as it passes from one to the other with every echo.
 * So it is two flags, which are written seldom. opened: a slot was claimed since the sweep
 * began to look. kept: the sweep is looking, or has found a slot in use. The sweep sets
 * kept, clears opened, and looks; a claim too late for it to see sets opened again.
 */
static union {
	__u64 any;
	struct {
		bool opened;
		bool kept;
	};
} under_way;

static __always_inline bool by_flags(void)
{
	return config.tx_close == HOOK_RECV;
}

/*
 * By whoever has claimed a slot. To read opened after the claim is seen takes a locked
 * instruction in between, as comparing and exchanging is one. Where there is none opened is
 * written each time: what is written is seen in order.
 */
static __always_inline void one_more_under_way(void)
{
	if (!by_flags()) {
		add_atomic(&under_way.any, 1);
		return;
	}
	barrier();
	if (!config.atomics || !*(volatile bool *)&under_way.opened)
		*(volatile bool *)&under_way.opened = true;
}

static __always_inline void one_less_under_way(void)
{
	if (!by_flags())
		add_atomic(&under_way.any, -1);
}

/* Spreads a key. Those of requests that follow each other do so, too. */
static __always_inline __u32 hash_of(__u8 family, const struct echo_key *key)
{
	const __u32 odd = 0x9E3779B1;
	__u32 hash = (key->netns ^ key->direction) * odd ^ key->id;

	hash = (hash ^ hash >> 16) * odd ^ key->local ^ key->remote * 5;
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

/*
 * The first bucket to try. Of echoes that follow each other, one at a time, several
 * take the same slot: memory that is at hand.
 */
static __always_inline __u32 first_bucket(__u32 hash)
{
	return hash >> NEIGHBOURS & config.bucket_mask;
}

/*
 * Those after it. The second is another for each of the echoes that follow each
 * other, so that those of one sender fill the table to its last slot. The rest differ
 * for any two keys: of many senders a few in a hundred are refused before the table
 * is nine tenths full.
 */
static __always_inline __u32 further_bucket(__u32 hash, __u32 tried)
{
	__u32 spread = (hash ^ hash >> 16) * 0x85EBCA6B;

	if (tried == 1)
		return hash & config.bucket_mask;
	spread = (spread ^ spread >> 13) * 0xC2B2AE35;
	return (spread + tried * (spread >> 16 | 1)) & config.bucket_mask;
}

/* Which of the buckets after its first a slot is in. A global function, as find_tagged is. */
__noinline int try_of(__u32 hash, __u32 slot)
{
	int tried = 1;

	while (tried < BUCKETS_TRIED - 1 && further_bucket(hash, tried) != slot / BUCKET_SLOTS)
		tried++;
	return tried;
}

static __always_inline void count_beyond(__u32 hash, __u32 slot, const int more)
{
	if (slot / BUCKET_SLOTS == first_bucket(hash))
		return;
	add_atomic(&beyond[0], more);
	add_atomic(&beyond[try_of(hash, slot) & (BUCKETS_TRIED - 1)], more);
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

/* Whether a slot's word is that of an open one with the tag of @hash. */
static __always_inline bool is_open(__u64 word, __u32 hash)
{
	return (word & (SLOT_TAG | SLOT_PHASE)) == ((__u64)hash << 32 | SLOT_OPEN);
}

/*
 * One more than the number of the first open slot with the tag of @hash, not
 * before @way of bucket @number; 0: there is none. A global function: the
 * verifier goes through it once, and callers know no more of the result than
 * that it is a number. That spares most of the time that loading takes.
 */
__noinline int find_tagged(__u32 hash, __u32 number, __u32 way)
{
	struct bucket *bucket = bucket_at(number);
	/* The first free one is claimed: behind one that was never used there is none. */
	const __u64 last = config.atomics ? 0 : ~0ULL;
	__u64 word;
	__u32 i = 0;

	if (!bucket)
		return 0;
	for (; i < BUCKET_SLOTS; i++) {
		word = *(volatile __u64 *)&bucket->word[i];
		if (word == last)
			return 0;
		if (i >= way && is_open(word, hash))
			break;
	}
	return i < BUCKET_SLOTS ? number * BUCKET_SLOTS + i + 1 : 0;
}

/* Whether the first slot of the bucket has that tag, as that of an echo alone under way has. */
static __always_inline bool is_first(__u32 hash, __u32 number)
{
	struct bucket *bucket = bucket_at(number);

	return bucket && is_open(bucket->word[0], hash);
}

/* The same in those buckets after the first that any session lies in. */
__noinline int find_beyond(__u32 hash)
{
	for (__u32 tried = 1; tried < BUCKETS_TRIED; tried++) {
		int found;

		if (!beyond[tried])
			continue;
		found = find_tagged(hash, further_bucket(hash, tried), 0);
		if (found)
			return found;
	}
	return 0;
}

/*
 * Whether a slot is that of @key. @word: NULL, or takes the word under which it is; 0: it has
 * ended since. Read before the key is, so that it cannot be that of a later one.
 */
static __always_inline bool is_slot_of(struct slot *slot, __u8 family, const struct echo_key *key,
				       __u64 *word)
{
	__u64 read = *(volatile __u64 *)&slot->word;

	barrier();
	if (!same_key(family, &slot->key, key))
		return false;
	if (word)
		*word = read;
	return true;
}

/*
 * Of keys with one tag two can be told apart in one bucket.
 * @word: see is_slot_of.
 */
static __always_inline struct slot *find_slot(__u8 family, const struct echo_key *key, __u64 *word)
{
	__u32 hash = hash_of(family, key);
	__u32 number = first_bucket(hash);
	__u32 found = is_first(hash, number) ? number * BUCKET_SLOTS + 1 :
					       find_tagged(hash, number, 0);
	struct slot *slot;

	found = any_number(found, hash);
	if (found) {
		slot = slot_at(found - 1);
		if (slot && is_slot_of(slot, family, key, word))
			return slot;
		found = find_tagged(hash, number, (found - 1) % BUCKET_SLOTS + 1);
	}
	if (!found && beyond[0])
		found = find_beyond(hash);
	if (!found)
		return NULL;
	slot = slot_at(found - 1);
	return slot && is_slot_of(slot, family, key, word) ? slot : NULL;
}

static __always_inline struct icmp_rtt_event *find_session(__u8 family,
							    const struct echo_key *key, __u64 *word)
{
	return under_way.any ? session_in(find_slot(family, key, word)) : NULL;
}

/* The session that was found under @word; NULL if it has ended since. */
static __always_inline struct icmp_rtt_event *session_alive_at(__u32 number, __u64 word)
{
	struct bucket *bucket = bucket_at(number / BUCKET_SLOTS);

	if (!bucket || bucket->word[number % BUCKET_SLOTS] != word)
		return NULL;
	return session_in(slot_at(number));
}

/* The word under which the session found is that of @key; 0: it has ended since. */
static __always_inline __u64 word_of(struct icmp_rtt_event *session, __u8 family,
				     const struct echo_key *key)
{
	__u64 word = 0;

	is_slot_of(slot_of_session(session), family, key, &word);
	return word;
}

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
	__u32 number = slot->number;
	__u32 hash = slot->word >> 32;

	one_less_under_way();
	*(volatile __u64 *)place = ((slot->word + SLOT_USE) & SLOT_USES) | SLOT_USED;
	count_beyond(hash, number, -1);
}

/*
 * One more than the number of a slot of bucket @number that is ours now; 0: it
 * is full, or another came first. A global function, as find_tagged is.
 */
__noinline int claim_tagged(__u32 hash, __u32 number)
{
	struct bucket *bucket = bucket_at(number);
	struct slot *slot;
	__u64 *place;
	__u64 word;
	__u32 way = 0;

	if (!bucket)
		return 0;
	while (way < BUCKET_SLOTS &&
	       (*(volatile __u64 *)&bucket->word[way] & SLOT_PHASE) != SLOT_FREE)
		way++;
	if (way == BUCKET_SLOTS)
		return 0;
	way = any_number(way, hash) & (BUCKET_SLOTS - 1);
	number = number * BUCKET_SLOTS + way;
	place = &bucket->word[way];
	word = *(volatile __u64 *)place & SLOT_USES;
	slot = slot_at(number);
	if (!slot || !claim(place, number, word | SLOT_FREE,
			    (__u64)hash << 32 | word | SLOT_CLAIMED))
		return 0;
	*(volatile __u64 *)&slot->word = 0; /* until its key is there: see word_of */
	slot->number = number;
	return number + 1;
}

/* The same in the buckets after the first. */
__noinline int claim_beyond(__u32 hash)
{
	for (__u32 tried = 1; tried < BUCKETS_TRIED; tried++) {
		int claimed = claim_tagged(hash, further_bucket(hash, tried));

		if (!claimed)
			continue;
		count_beyond(hash, claimed - 1, 1);
		return claimed;
	}
	return 0;
}

static __always_inline struct slot *claim_slot(__u8 family, const struct echo_key *key)
{
	__u32 hash = hash_of(family, key);
	__u32 claimed = claim_tagged(hash, first_bucket(hash));

	if (!claimed) /* another may have come first: that is no reason to go further */
		claimed = claim_tagged(hash, first_bucket(hash));
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

#endif
