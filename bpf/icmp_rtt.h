/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ABI between the BPF object and its reader, and the only owner of it:
 * the reader takes every layout and every enumerator below out of the
 * object's own BTF at start, nothing mirrors them by hand.
 *
 * Padding is explicit everywhere: the records are byte streams.
 */
#ifndef ICMP_RTT_H
#define ICMP_RTT_H

#define ICMP_RTT_STACK_DEPTH 32
#define ICMP_RTT_NAME_LEN 16

/*
 * The six points of the stack at which an echo is stamped. The first three
 * lie on the transmit path and the last three on the receive path; which of
 * the two is path 1 depends on the direction, and is the reader's business.
 */
enum icmp_rtt_hook {
	HOOK_SEND,
	HOOK_LOCAL_OUT,
	HOOK_XMIT,
	HOOK_RECV,
	HOOK_IP_RCV,
	HOOK_ICMP_RCV,
	HOOK_COUNT,
};

/* Paths of an event: index of icmp_rtt_event.side. */
enum icmp_rtt_side_index {
	SIDE_TRANSMIT,
	SIDE_RECEIVE,
	SIDE_COUNT,
};

/* Bits, so that a configuration can ask for both. */
enum icmp_rtt_direction {
	DIRECTION_TX = 1, /* this host sends the request */
	DIRECTION_RX = 2, /* this host answers it */
};

enum icmp_rtt_family {
	FAMILY_IPV4 = 1,
	FAMILY_IPV6 = 2,
};

enum icmp_rtt_outcome {
	OUTCOME_OPEN, /* still under way, and given up by the reader */
	OUTCOME_COMPLETE,
	OUTCOME_RESTARTED, /* the same key began again */
	OUTCOME_DUPLICATE, /* no echo: a reply to one that was reported as complete */
	OUTCOME_LATE,	   /* no echo: a reply to one that was given up or restarted */
	OUTCOME_AMBIGUOUS, /* complete, but by whose reply isn't known; most are told by the reader */
};

/*
 * The kernel function or tracepoint that stamped a stage. PROBE_ is followed
 * by the exact kernel name.
 */
enum icmp_rtt_probe {
	PROBE_none,
	PROBE___ip_make_skb,
	PROBE_ip_send_skb,
	PROBE___ip_local_out,
	PROBE_ip_local_out,
	PROBE___dev_queue_xmit,
	PROBE_dev_queue_xmit,
	PROBE_net_dev_queue,
	PROBE_netif_receive_skb,
	PROBE_ip_rcv,
	PROBE_ip_list_rcv,
	PROBE_icmp_rcv,
	PROBE_ip6_send_skb,
	PROBE___ip6_local_out,
	PROBE_ip6_local_out,
	PROBE_ipv6_rcv,
	PROBE_ipv6_list_rcv,
	PROBE_icmpv6_rcv,
	PROBE_kfree_skb,
	PROBE_COUNT,
};

/*
 * What became of everything that was seen; index of struct icmp_rtt_counters.
 * requests = complete + expired + restarted + other_interface + in flight + refused,
 * of which the reader takes other_interface off both sides.
 * complete = reported + below_threshold + unasked + events_lost
 */
enum icmp_rtt_counter {
	COUNTER_REQUESTS,	  /* matching echo requests seen */
	COUNTER_COMPLETE,	  /* by a reply that found its session */
	COUNTER_REPORTED,	  /* complete echoes handed to the reader */
	COUNTER_BELOW_THRESHOLD,
	COUNTER_UNASKED,	  /* complete, while only incomplete ones are asked for */
	COUNTER_EVENTS_LOST,	  /* complete, and the ring buffer was full */
	COUNTER_EXPIRED,	  /* given up by the reader */
	COUNTER_IN_FLIGHT,	  /* still open at the reader's last sweep */
	COUNTER_RESTARTED,	  /* ended by the same key starting again */
	COUNTER_RESTARTED_LOST,	  /* of those, not reported: no room, or both began at once */
	COUNTER_REFUSED,	  /* no room among the sessions */
	COUNTER_DUPLICATE_REPLIES,
	COUNTER_LATE_REPLIES,	  /* after the echo was given up, or its key started again */
	COUNTER_UNMATCHED_REPLIES,
	COUNTER_OTHER_ADDRESS,	  /* echoes passed over, by the first thing that did not match */
	COUNTER_OTHER_DIRECTION,
	COUNTER_OTHER_NETNS,
	COUNTER_OTHER_INTERFACE,  /* sessions that passed by other devices alone */
	COUNTER_UNPARSED,	  /* headers not where they can be read in place */
	COUNTER_LIST_TRUNCATED,	  /* receive list longer than the program may walk */
	COUNTER_SKIPPED,	  /* ICMP that arrived while the kernel ran no kprobe */
	COUNTER_DROPS,		  /* of our packets, where that ended the echo */
	COUNTER_ICMP_ERRORS,	  /* that quote one of our requests */
	COUNTER_COUNT,
};

struct icmp_rtt_counters {
	__u64 value[COUNTER_COUNT];
};

/* Set before load; zero means off, unless said otherwise. */
struct icmp_rtt_config {
	/* Prefixes in network byte order; IPv4 uses the first word alone. */
	__u32 local[4];
	__u32 local_mask[4];
	__u32 remote[4];
	__u32 remote_mask[4];
	__u64 min_rtt_ns;
	__u32 netns;   /* inode of the only network namespace looked at */
	__u32 ifindex; /* the only device whose wire-side stages count; needs netns */
	/* Inode of the self-test's own namespace: an echo there opens no session,
	 * and is counted, by probe, in the map fired. */
	__u32 self_test_netns;
	__u8 families; /* bits of icmp_rtt_family; never zero */
	__u8 directions; /* bits of icmp_rtt_direction; never zero */
	__u8 stacks;
	__u8 only_incomplete;
	__u8 typed_headers; /* this kernel has bpf_rdonly_cast */
	__u8 drop_reasons;  /* this kernel's kfree_skb tracepoint gives a reason */
	/* The hook that opens and the hook that closes an echo, by direction:
	 * the outermost ones that this run's plan covers. One that we answer is
	 * closed where it leaves. */
	__u8 tx_open; /* of whichever family has it */
	__u8 rx_open;
	__u8 tx_close;
	__u8 no_socket; /* this kernel's drop reason of that name; 0: none */
	__u8 atomics;	 /* this kernel can compare and exchange */
	__u8 typed_task; /* this kernel has bpf_get_current_task_btf */
	__u8 kprobes; /* those follow the arrival in this run's plan, and all three _at are known */
	__u8 unused[3];
	__u32 bucket_mask; /* number of buckets of sessions, less one */
	__u64 ifname[2];   /* that of ifindex, as in icmp_rtt_side */
	/* Addresses of the kernel's variables of these names, less _at: both or none. */
	__u64 page_offset_base_at;
	__u64 vmemmap_base_at;
	/* The first is that of each CPU's variables, to which the others' addresses are added. */
	__u64 __per_cpu_offset_at;
	__u64 current_kprobe_at;
	__u64 bpf_prog_active_at;
};

struct icmp_rtt_side {
	__u32 pid;     /* of the task that was current at the path's first stamp */
	__u32 ifindex; /* 0: no device was seen */
	char comm[ICMP_RTT_NAME_LEN];
	char ifname[ICMP_RTT_NAME_LEN];
};

/*
 * A session while under way, and the record that reports it when it ends.
 * A stamp of zero means that the hook did not see the echo.
 */
struct icmp_rtt_event {
	__u64 ts_ns[HOOK_COUNT]; /* CLOCK_MONOTONIC */
	__u64 skb[HOOK_COUNT];
	__u16 cpu[HOOK_COUNT];
	__u8 probe[HOOK_COUNT]; /* enum icmp_rtt_probe */
	__u8 family;
	__u8 direction;
	__u8 outcome;
	__u8 other_interface; /* a wire-side hook saw it on another device than asked */
	__u16 id;  /* host byte order */
	__u16 seq; /* host byte order */
	__u8 error_type; /* ICMP error that quotes the request; error_ts_ns says if any */
	__u8 error_code;
	__u8 drop_hook; /* last hook that had seen the packet; HOOK_COUNT: none had */
	__u8 drop_side; /* 1 + enum icmp_rtt_side_index; 0: no drop seen */
	__u16 sum; /* of the request that we send: see sum_without_type() */
	__u8 arrival_gone; /* the reply whose arrival is stamped was dropped: another one may come */
	__u32 netns;	   /* inode number */
	__u32 drop_reason; /* enum skb_drop_reason of the running kernel; 0: none given */
	__u64 drop_ip; /* kernel address */
	__u64 drop_ts_ns;
	__u32 local[4]; /* network byte order; IPv4 uses the first word alone */
	__u32 remote[4];
	__u32 error_from[4];
	__u64 error_ts_ns; /* 0: no ICMP error was seen */
	struct icmp_rtt_side side[SIDE_COUNT];
	/* Present only when config.stacks is set; the record ends here otherwise.
	 * stack_bytes: > 0 length, 0 hook not seen, < 0 errno of the walk. */
	__s32 stack_bytes[HOOK_COUNT];
	__u64 stack[HOOK_COUNT][ICMP_RTT_STACK_DEPTH];
};

#endif
