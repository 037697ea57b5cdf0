/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is kept of echoes that have ended, so that a further reply is told for
 * what it is, and no reply is taken for another request's.
 */
#ifndef PAST_BPF_H
#define PAST_BPF_H

struct given_up {
	__u16 sum; /* the request's */
	__u16 told; /* it was reported */
};

/*
 * Echoes that the reader gave up, and those of ours that began again, so that a
 * late reply is told from a stray one. Key: struct echo_key, zero-filled for
 * IPv4; value: see struct given_up. Inserted by account, restart_slot and the
 * sweep, deleted by nobody; as many as there are slots, set by the reader; full:
 * the least recent goes.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct echo_key);
	__type(value, struct given_up);
} given_up SEC(".maps");

static __always_inline void remember_given_up(struct slot *slot, bool told)
{
	struct given_up value = { .sum = slot->event.sum, .told = told };

	bpf_map_update_elem(&given_up, &slot->key, &value, BPF_ANY);
}

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

static __always_inline __u16 sum_of(__u64 completed)
{
	return completed >> 16;
}

/* Which request a message of the session's key is about, as far as sums tell. */
enum request {
	REQUEST_OWN,	 /* the session's, or there was no other */
	REQUEST_EARLIER, /* one that was answered, given up or restarted */
	REQUEST_ANY,	 /* it fits none, and there were others */
};

static __always_inline enum request request_of(__u8 family, const struct echo_key *key,
					       const struct icmp_rtt_event *session, __u16 sum)
{
	const struct given_up *earlier;
	__u64 completed;

	if (session->sum == sum)
		return REQUEST_OWN;
	completed = find_completed(family, key);
	if (completed && sum_of(completed) == sum)
		return REQUEST_EARLIER;
	earlier = bpf_map_lookup_elem(&given_up, key);
	if (earlier && earlier->sum == sum)
		return REQUEST_EARLIER;
	return completed || earlier ? REQUEST_ANY : REQUEST_OWN;
}

/*
 * Whether a reply with @sum answers the session's request, and not an earlier
 * one of the same key. Some hosts cut a reply's data short, so what fits
 * neither is taken for the answer; but if there were earlier ones, of which but the
 * last one's sum is known, it may be that to any of them.
 */
static __always_inline bool answers(__u8 family, const struct echo_key *key,
				    struct icmp_rtt_event *session, __u16 sum)
{
	enum request request = request_of(family, key, session, sum);

	if (request == REQUEST_ANY)
		session->outcome = OUTCOME_AMBIGUOUS;
	return request != REQUEST_EARLIER;
}

#endif
