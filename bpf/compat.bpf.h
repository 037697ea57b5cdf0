/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every difference between kernels that the programs have to know of, each
 * with the commit that made it, or the kernels on which it was measured. What a
 * kernel offers is found out by the reader and told in icmp_rtt_config, never
 * guessed from a version number.
 */
#ifndef COMPAT_BPF_H
#define COMPAT_BPF_H

/*
 * a35b9af4ec2c ("bpf: Add a kfunc for generic type cast"), v6.2: lets a
 * program read headers through a typed pointer, with no helper call, and so
 * also under lockdown=confidentiality. Weak: on older kernels the call is dead
 * code behind config.typed_headers.
 */
#ifndef WITHOUT_KERNEL_BTF
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;
#define TYPED_TRACEPOINT true
#define TRACEPOINT_SEC(name) SEC("?tp_btf/" #name)
#define tracepoint_program(name) tp_btf__##name
#else
/*
 * The object for kernels without BTF: even a weak function of theirs would keep
 * libbpf from loading anything there, and tracepoints hand out bare addresses.
 */
#define bpf_rdonly_cast(obj, btf_id) ((void *)(obj))
#define TYPED_TRACEPOINT false
#define TRACEPOINT_SEC(name) SEC("?raw_tp/" #name)
#define tracepoint_program(name) raw_tp__##name
#endif

/*
 * 3ca1032ab7ab ("bpf: Introduce helper bpf_get_current_task_btf"), v5.11: name
 * and number of the current task by loads instead of two helpers. Behind
 * config.typed_task.
 */

/*
 * 5ffa25502b5a ("bpf: Add instructions for atomic_[cmp]xchg"), v5.12. Behind
 * config.atomics; for kernels without it, which refuse the instruction in dead
 * code as well, the reader takes it out.
 *
 * The same commit brought additions that return what was there, and clang 20 makes
 * one of every __sync_fetch_and_add(). A relaxed one, whose result nobody asks for,
 * is the plain addition of all kernels with every clang.
 */
#define add_atomic(place, number) ((void)__atomic_fetch_add(place, number, __ATOMIC_RELAXED))

/*
 * c504e5c2f964 ("net: skb: introduce kfree_skb_reason()"), v5.17: the
 * kfree_skb tracepoint gained a third argument, the drop reason. The verifier
 * refuses a read past the last argument, so it is read only behind
 * config.drop_reasons.
 */
#define KFREE_SKB_REASON_ARG 2

/*
 * 0f6925b3e8da ("virtio_net: Do not pull payload in skb->head"), v5.13: from then on
 * this driver leaves even the IP header of a large frame in a page. See pages.bpf.h.
 *
 * 21d2e6737c97 ("net: add netmem to skb_frag_t"), v6.9: a fragment holds a reference
 * in the place of its page; the lowest bit is set in one that is no page's.
 */
#define NOT_A_PAGE 1ULL

/*
 * To the verifier of newer kernels (measured: 6.12, not 6.1) a tracepoint's skb is a trusted
 * pointer: at each load of a pointer from one it looks through all of the kernel's types
 * (btf_nested_type_is_trusted() in kernel/bpf/btf.c), which took a third of all the time of
 * loading. Not so for what bpf_rdonly_cast() returns: see untrusted().
 *
 * icmpv6_rcv() of older kernels (measured: 6.1) frees an IPv6 request as dropped even after
 * it has answered it: see is_answered().
 */

/*
 * dd8657894c11 ("bpf: Count missed stats in trace_call_bpf"), v6.7: the kernel counts the
 * runs of kprobes' programs that it leaves out. Before it there is kprobes_skipped() alone.
 */

/*
 * 2589726d12a1 ("bpf: introduce bounded loops"), v5.3, takes a jump back only from a
 * jump: a loop whose last instruction is a call, which the compiler likes to make, is
 * refused on 5.10 and 6.1, and taken on 6.12. Such a loop is unrolled.
 *
 * e67ddd9b1cff ("bpf: Track spilled unbounded scalars"), v6.9: before it a verifier
 * forgets what it knows of a number of 32 bits that it has seen put on the stack, as
 * measured on 5.10 and 6.1. What bounds a loop has 64 bits.
 */

#endif
