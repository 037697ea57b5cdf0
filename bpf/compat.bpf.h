/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Every difference between kernels that the programs have to know of, each
 * with the commit that made it. What a kernel offers is found out by the
 * reader and told in icmp_rtt_config, never guessed from a version number.
 */
#ifndef COMPAT_BPF_H
#define COMPAT_BPF_H

/*
 * a35b9af4ec2c ("bpf: Add a kfunc for generic type cast"), v6.2: lets a
 * program read headers through a typed pointer, with no helper call, and so
 * also under lockdown=confidentiality. Weak: on older kernels the call is dead
 * code behind config.typed_headers.
 */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

/*
 * c504e5c2f964 ("net: skb: introduce kfree_skb_reason()"), v5.17: the
 * kfree_skb tracepoint gained a third argument, the drop reason. The verifier
 * refuses a read past the last argument, so it is read only behind
 * config.drop_reasons.
 */
#define KFREE_SKB_REASON_ARG 2

#endif
