/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a CPU knows of the skbs under way on it, and what it has counted. A
 * cache but for the counters: a miss costs a second look at the packet.
 */
#ifndef CPU_BPF_H
#define CPU_BPF_H

#define ARRIVALS 64
#define WAYS 4 /* arrivals that may share a slot: a list holds skbs of several slabs */
#define LISTED_MAX 16 /* of ours in one receive list */
/* A recognised arrival that hasn't come by ip_rcv after so many others was
 * bridged or dropped: longer than any list that one poll delivers. */
#define STRAY_LIMIT 256

/* Names an echo; of an IPv4 one the rest of the addresses is zero. */
struct echo_key {
	__u32 netns;
	__u16 id;
	__u16 seq;
	__u32 direction;
	__u32 local;
	__u32 remote;
	__u32 local_rest[3];
	__u32 remote_rest[3];
};


/* An skb on its way out that was recognised at a hook before. */
struct transmit_tag {
	__u64 skb; /* 0 once a device has it */
	__u64 sk;
	__u64 word; /* of its session: see struct slot */
	__u64 number;
	__u64 left; /* skb, which this still tells then */
};

/*
 * An skb that arrived on this CPU, not yet known to be delivered here. A time
 * that its session has been given is zero again.
 */
struct arrival {
	__u64 skb;	/* 0: done with */
	__u64 since_ns; /* of its arrival; 0: done with */
	__u64 dev;
	__u64 recv_ns;
	__u64 ip_rcv_ns;
	struct echo_key key;
	__u32 number; /* of the slot of its session, where word isn't 0 */
	__u64 word;
	__u32 stray;	 /* the arrival device is not the one asked for */
	__u8 recv_probe;
	__u8 ip_rcv_probe;
	__u8 fragment; /* the first of several: what is put together may be another skb */
	__u8 slot;     /* its own index */
	__u16 cpu;
	__u16 sum; /* see sum_without_type() */
};

struct cpu_state {
	struct icmp_rtt_counters counters;
	__u64 number; /* set by the reader */
	__u64 pending; /* arrivals recognised and not yet seen by ip_rcv */
	__u64 strays;  /* others that ip_rcv has seen since */
	__u64 refused;	 /* an skb that arrived with an echo of the other direction */
	__u64 refused_matches; /* and its addresses are those asked for */
	__u64 delivered; /* an skb that icmp_rcv has seen: that it frees it is no drop */
	__u64 delivered_head; /* where the data of the reply is that has last ended an echo */
	__u64 number_of; /* see there */
	__u64 found_count;
	__u64 found[LISTED_MAX]; /* of a receive list, slots of those that are ours */
	struct arrival arrival[ARRIVALS];
};

/*
 * Key: CPU number (as many entries as there are possible CPUs, set by the
 * reader); value: struct cpu_state. Arrivals are overwritten, or marked
 * as done with; never deleted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu_state);
} cpus SEC(".maps");

/*
 * How many CPUs have pending arrivals: while there are none, ip_rcv has
 * nothing to look for and leaves at once.
 */
static __u64 cpus_pending;

/* How many CPUs have refused an skb: while there are none, no arrival has to end that. */
static __u64 cpus_refusing;

#define PASSED_OVER 1024
#define TRANSMIT_TAGS 1024

/*
 * What is on its way out, by skb. Shared by all CPUs: one that waits for its
 * neighbour's address is sent by whichever receives that. One that was overwritten is
 * looked at again.
 */
static struct transmit_tag transmit_tags[TRANSMIT_TAGS];

/*
 * ICMP packets that aren't ours, by skb: mark_of(skb, sk). Shared by all CPUs;
 * one that was overwritten is looked at again.
 */
static __u64 passed_over[PASSED_OVER];

static __always_inline struct cpu_state *this_cpu(void)
{
	__u32 number = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&cpus, &number);
}

static __always_inline void count(struct cpu_state *cpu, enum icmp_rtt_counter which)
{
	add_atomic(&cpu->counters.value[which], 1);
}

/*
 * The low half of a pointer as a number. The verifier lets a typed pointer be
 * compared and stored, but not calculated with, except by a 32-bit move, which
 * the compiler has to be kept from taking apart.
 */
static __always_inline __u32 low_half(__u64 pointer)
{
	__u32 low;

	asm volatile("%0 = %1" : "=w"(low) : "w"((__u32)pointer));
	return low;
}

/*
 * The same number, of which the verifier knows nothing any more: what follows where several
 * ways meet is gone through once, and not for each of them. @any: one that it knows nothing of.
 */
static __always_inline __u32 any_number(__u32 number, __u32 any)
{
	asm volatile("%0 += %1; %0 -= %1" : "+w"(number) : "w"(any));
	return number;
}

/*
 * A typed pointer as a number, for a global function: what was written to a map is
 * one when it is read. Where a softirq may come between, see is_number_of.
 */
static __always_inline __u64 number_of(struct cpu_state *cpu, const void *pointer)
{
	*(volatile __u64 *)&cpu->number_of = (__u64)pointer;
	return *(volatile __u64 *)&cpu->number_of;
}

static __always_inline bool is_number_of(__u64 number, const void *pointer)
{
	return (__u32)number == low_half((__u64)pointer);
}

/* Where an skb belongs in a table of so many places, a power of two. */
static __always_inline __u32 place_of(__u64 skb, __u32 places)
{
	return low_half(skb) >> 8 & (places - 1);
}

/* ------------------------------------------------------------- transmit */

static __always_inline __u64 mark_of(__u64 skb, __u64 sk)
{
	return (__u64)low_half(skb) << 32 | low_half(sk);
}

static __always_inline __u64 *mark_slot(__u64 skb)
{
	return &passed_over[place_of(skb, PASSED_OVER)];
}

static __always_inline void pass_over(__u64 skb, __u64 sk)
{
	*mark_slot(skb) = mark_of(skb, sk);
}

static __always_inline bool was_passed_over(__u64 skb, __u64 sk)
{
	return *mark_slot(skb) == mark_of(skb, sk);
}

static __always_inline struct transmit_tag *tag_of(__u64 skb)
{
	return &transmit_tags[place_of(skb, TRANSMIT_TAGS)];
}

/*
 * A softirq, or another CPU, may use the same tag between any two lines: what tells whose
 * it is goes first and comes last.
 */
static __always_inline void tag(__u64 skb, __u64 sk, __u32 number, __u64 word)
{
	struct transmit_tag *tag = tag_of(skb);

	*(volatile __u64 *)&tag->skb = 0;
	*(volatile __u64 *)&tag->left = 0;
	barrier();
	tag->sk = sk;
	tag->number = number;
	tag->word = word;
	barrier();
	*(volatile __u64 *)&tag->skb = skb;
	*(volatile __u64 *)&tag->left = skb;
	*mark_slot(skb) = 0;
}

/* What a tag tells, if it is that of an skb: @at, where it tells whose, is looked at twice. */
static __always_inline bool read_tag(const struct transmit_tag *tag, const volatile __u64 *at,
				     __u64 skb, __u64 sk, __u32 *number, __u64 *word)
{
	if (*at != skb || tag->sk != sk)
		return false;
	*number = tag->number;
	*word = tag->word;
	barrier();
	return *at == skb;
}

/* Whether an skb was tagged; where its session is, unless another came between. */
static __always_inline bool recall(__u64 skb, __u64 sk, __u32 *number, __u64 *word)
{
	const struct transmit_tag *tag = tag_of(skb);

	return read_tag(tag, &tag->skb, skb, sk, number, word);
}

/* The same, whether it has left or not. */
static __always_inline bool recall_left(__u64 skb, __u64 sk, __u32 *number, __u64 *word)
{
	const struct transmit_tag *tag = tag_of(skb);

	return read_tag(tag, &tag->left, skb, sk, number, word);
}

/*
 * A device has it. A lower one may get it next, or it is dropped, when its headers may be
 * translated. The next packet at this address may not have been seen before it leaves.
 */
static __always_inline void leave_tag(__u64 skb)
{
	*(volatile __u64 *)&tag_of(skb)->skb = 0;
}

/* It is dropped, or of a socket whose packets pass no hook that tags: nothing tells whose it is. */
static __always_inline void forget(__u64 skb)
{
	struct transmit_tag *tag = tag_of(skb);

	if (*(volatile __u64 *)&tag->skb == skb)
		*(volatile __u64 *)&tag->skb = 0;
	if (*(volatile __u64 *)&tag->left == skb)
		*(volatile __u64 *)&tag->left = 0;
}

/* -------------------------------------------------------------- receive */

static __always_inline __u32 first_way(__u64 skb)
{
	return place_of(skb, ARRIVALS / WAYS) * WAYS;
}

/* One of the places that an skb's arrival may have; to the verifier it is any of all. */
static __always_inline __u32 any_way(__u64 skb, __u32 way)
{
	return any_number(first_way(skb) + way, low_half(skb)) & (ARRIVALS - 1);
}

/* What is kept of an skb that was recognised on its arrival at @cpu; NULL for another one. */
static __always_inline struct arrival *find_arrival(struct cpu_state *cpu, __u64 skb)
{
	__u32 first = first_way(skb);
	__u32 way = 0;

	while (way < WAYS && cpu->arrival[first + way].skb != skb)
		way++;
	return way < WAYS ? &cpu->arrival[any_way(skb, way)] : NULL;
}

/* A place for an skb: the first if it is free, else its own of before, else that of the oldest. */
static __always_inline struct arrival *claim_arrival(struct cpu_state *cpu, __u64 skb)
{
	__u32 first = first_way(skb);
	__u64 oldest_ns = ~0ULL;
	__u32 claimed = 0;
	struct arrival *arrival;

	for (int way = 0; way < WAYS && cpu->arrival[first].since_ns; way++) {
		arrival = &cpu->arrival[first + way];
		if (arrival->skb == skb) {
			claimed = way;
			break;
		}
		if (arrival->since_ns < oldest_ns) {
			oldest_ns = arrival->since_ns;
			claimed = way;
		}
	}
	claimed = any_way(skb, claimed);
	arrival = &cpu->arrival[claimed];
	arrival->slot = claimed;
	arrival->cpu = cpu->number;
	return arrival;
}

static __always_inline void release_arrival(struct arrival *arrival)
{
	arrival->skb = 0;
	arrival->since_ns = 0;
}

/* Of an earlier packet, in an skb that is another's by now. */
static __always_inline void release_earlier(struct cpu_state *cpu, __u64 skb)
{
	struct arrival *arrival = find_arrival(cpu, skb);

	if (arrival)
		release_arrival(arrival);
}

/* Another packet is on its way: its skb and its data may lie where those of the last did. */
static __always_inline void nothing_delivered(struct cpu_state *cpu)
{
	cpu->delivered = 0;
	cpu->delivered_head = 0;
}

static __always_inline void refuse(struct cpu_state *cpu, __u64 skb)
{
	if (!cpu->refused)
		add_atomic(&cpus_refusing, 1);
	cpu->refused = skb;
}

static __always_inline void refuse_none(struct cpu_state *cpu)
{
	if (!cpu->refused)
		return;
	cpu->refused = 0;
	add_atomic(&cpus_refusing, -1);
}

static __always_inline void expect(struct cpu_state *cpu)
{
	if (!cpu->pending++)
		add_atomic(&cpus_pending, 1);
	cpu->strays = 0;
}

static __always_inline void expect_fewer(struct cpu_state *cpu, __u64 arrived, __u64 strays)
{
	cpu->strays = strays;
	if (!cpu->pending)
		return;
	if (strays <= STRAY_LIMIT && arrived < cpu->pending) {
		cpu->pending -= arrived;
		return;
	}
	cpu->pending = 0;
	add_atomic(&cpus_pending, -1);
}

#endif
