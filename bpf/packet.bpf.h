/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From an skb to what identifies its echo: which header is read, from where,
 * and whether it can be read there at all.
 *
 * At the netif_receive_skb tracepoint skb->data is the network header, because
 * the kernel resets skb->network_header only after it; at every other hook
 * skb->network_header is right (and at __dev_queue_xmit skb->data is not: it
 * is the link header).
 */
#ifndef PACKET_BPF_H
#define PACKET_BPF_H

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88A8
#define VLAN_HLEN 4

#define IPPROTO_HOPOPTS 0
#define IPPROTO_ICMP 1
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_ICMPV6 58
#define IPPROTO_NONE 59
#define IPPROTO_DSTOPTS 60
#define IPPROTO_RAW 255

#define IP_MF 0x2000
#define IP_OFFSET 0x1FFF
#define IP6_OFFSET 0xFFF8
#define IP6_MF 0x0001
#define IPV4_IHL_MIN 5
#define IPV4_WITHOUT_OPTIONS 0x45 /* how such a header begins */
#define IPV4_SADDR 12
#define IPV4_DADDR 16
#define IPV6_SADDR 8
#define IPV6_HLEN 40
#define IPV6_EXTENSIONS_MAX 6

#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMPV6_INFOMSG_MASK 0x80
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129
#define ICMP_HLEN 8

/*
 * Reads a member of a kernel structure: with a load where the program holds a
 * typed pointer (fentry, fexit, tp_btf), with the helper elsewhere. @typed is
 * a constant, so each program carries one of the two.
 */
#define GET(typed, pointer, member) \
	((typed) ? (pointer)->member : BPF_CORE_READ(pointer, member))
#define GET_BITFIELD(typed, pointer, member)                      \
	((typed) ? BPF_CORE_READ_BITFIELD(pointer, member) :      \
		   BPF_CORE_READ_BITFIELD_PROBED(pointer, member))

/* A tracepoint's skb, for what is not done for every packet: see compat.bpf.h. */
static __always_inline struct sk_buff *untrusted(struct sk_buff *skb)
{
	if (TYPED_TRACEPOINT && config.typed_headers)
		return bpf_rdonly_cast(skb, bpf_core_type_id_kernel(struct sk_buff));
	return skb;
}

enum packet_kind {
	PACKET_FOREIGN, /* not ICMP */
	PACKET_OTHER,	/* ICMP, and neither an echo nor an error */
	PACKET_REQUEST,
	PACKET_REPLY,
	PACKET_ERROR, /* an ICMP error; inner is where the packet it quotes begins */
	PACKET_UNREADABLE,
};

struct packet {
	__u32 saddr[4];
	__u32 daddr[4];
	__u16 id;
	__u16 seq;
	__be16 checksum;
	__u8 kind;
	__u8 type;
	__u8 code;
	__u8 fragment; /* the first of several */
	__u32 inner;   /* offset from the network header */
};

/* The network header of an skb, or of a packet that an ICMP error quotes. */
struct header {
	const void *at;
	struct sk_buff *skb;
	__u32 skipped; /* bytes from where the skb's own begins */
	__u32 offset;  /* of the skb's own, where it has not just arrived */
	__u8 family; /* 0: neither IPv4 nor IPv6 */
	bool arrived; /* skb->data is the skb's own, and skb->network_header isn't */
};

static __always_inline __u8 family_of(__be16 protocol)
{
	if (protocol == bpf_htons(ETH_P_IP))
		return FAMILY_IPV4;
	if (protocol == bpf_htons(ETH_P_IPV6))
		return FAMILY_IPV6;
	return 0;
}

static __always_inline bool family_wanted(__u8 family)
{
	return family & config.families;
}

/* Where the header is that comes @skipped bytes after the skb's own. */
static __always_inline void set_start(struct header *header, const bool typed)
{
	struct sk_buff *skb = header->skb;

	if (header->arrived) {
		header->at = GET(typed, skb, data) + header->skipped;
	} else {
		header->offset = GET(typed, skb, network_header);
		header->at = GET(typed, skb, head) + header->offset + header->skipped;
	}
}

/* Where skb->network_header is right. The caller knows the family. */
static __always_inline struct header header_by_offset(struct sk_buff *skb, __u8 family,
						      const bool typed)
{
	struct header header = { .skb = skb, .family = family };

	set_start(&header, typed);
	return header;
}

/*
 * How many bytes from the header on lie in the linear part; below zero where that
 * ends before it begins. Asked for late: it costs loads.
 */
static __always_inline __s32 linear_bytes(const struct header *header, const bool typed)
{
	struct sk_buff *skb = header->skb;

	if (header->arrived)
		return GET(typed, skb, len) - GET(typed, skb, data_len) - header->skipped;
	return GET(typed, skb, tail) - header->offset - header->skipped;
}

/*
 * Where @size bytes are that lie @offset bytes behind the start of the header: in
 * the linear part or in a page; NULL: not all in one of them.
 */
static __always_inline const void *bytes_at(const struct header *header, __u32 offset, __u32 size,
					    const bool typed)
{
	__s32 linear = linear_bytes(header, typed);
	struct sk_buff *skb = header->skb;
	struct words head;

	if (linear >= (__s32)(offset + size))
		return header->at + offset;
	/* A pointer that was loaded may be no number to the verifier. */
	if (linear > (__s32)offset || !GET(typed, skb, data_len) || !read_words(&skb->head, &head))
		return NULL;
	return (const void *)place_in_page(head.first + GET(typed, skb, end), offset - linear,
					   size);
}

/* On arrival skb->data is the network header. */
static __always_inline struct header header_on_arrival(struct sk_buff *skb, __u8 family,
						       __u32 skipped)
{
	struct header header = {
		.skb = skb, .skipped = skipped, .family = family, .arrived = true
	};

	set_start(&header, TYPED_TRACEPOINT);
	return header;
}

/* Steps over VLAN tags that are still in the data; how many bytes they take. */
static __always_inline __u32 skip_tags(struct sk_buff *skb, __be16 *protocol)
{
	struct header header = header_on_arrival(skb, 0, 0);
	const void *tag;
	__u32 skipped = 0;

	/* See compat.bpf.h: loops. */
#pragma unroll
	for (int tags = 0; tags < 2; tags++) {
		if (*protocol != bpf_htons(ETH_P_8021Q) && *protocol != bpf_htons(ETH_P_8021AD))
			break;
		tag = bytes_at(&header, skipped, VLAN_HLEN, TYPED_TRACEPOINT);
		if (!tag || bpf_probe_read_kernel(protocol, sizeof(*protocol), tag + 2))
			break;
		skipped += VLAN_HLEN;
	}
	return skipped;
}

/*
 * Where the header is. Of most packets all is linear: if that is too short, it
 * shows when ICMP's header is looked for.
 */
static __always_inline const void *header_at(const struct header *header, __u32 size,
					     const bool typed)
{
	struct sk_buff *skb = header->skb;

	if (!GET(typed, skb, data_len))
		return header->at;
	return bytes_at(header, 0, size, typed);
}

static __always_inline __u8 kind_of_v4(__u8 type)
{
	switch (type) {
	case ICMP_ECHO:
		return PACKET_REQUEST;
	case ICMP_ECHOREPLY:
		return PACKET_REPLY;
	case ICMP_DEST_UNREACH:
	case ICMP_SOURCE_QUENCH:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETERPROB:
		return PACKET_ERROR;
	default:
		return PACKET_OTHER;
	}
}

static __always_inline __u8 kind_of_v6(__u8 type)
{
	if (type == ICMPV6_ECHO_REQUEST)
		return PACKET_REQUEST;
	if (type == ICMPV6_ECHO_REPLY)
		return PACKET_REPLY;
	return type & ICMPV6_INFOMSG_MASK ? PACKET_OTHER : PACKET_ERROR;
}

/* The ICMP header @offset bytes behind the network header. */
static __always_inline void parse_icmp(struct header *header, __u32 offset,
				       struct packet *packet, const bool typed)
{
	const void *at = bytes_at(header, offset, ICMP_HLEN, typed);
	struct icmphdr icmp;

	packet->kind = PACKET_UNREADABLE;
	if (!at)
		return;
	if (typed && config.typed_headers) {
		const struct icmphdr *cast =
			bpf_rdonly_cast(at, bpf_core_type_id_kernel(struct icmphdr));

		icmp.type = cast->type;
		icmp.code = cast->code;
		icmp.checksum = cast->checksum;
		icmp.un.echo.id = cast->un.echo.id;
		icmp.un.echo.sequence = cast->un.echo.sequence;
	} else if (bpf_probe_read_kernel(&icmp, sizeof(icmp), at)) {
		return;
	}
	packet->type = icmp.type;
	packet->code = icmp.code;
	packet->checksum = icmp.checksum;
	packet->id = bpf_ntohs(icmp.un.echo.id);
	packet->seq = bpf_ntohs(icmp.un.echo.sequence);
	packet->kind = header->family == FAMILY_IPV4 ? kind_of_v4(icmp.type) :
						       kind_of_v6(icmp.type);
	packet->inner = offset + ICMP_HLEN;
}

/* What follows an IPv4 header that begins with this byte. */
static __always_inline void parse_after_v4(struct header *header, __u8 version_ihl,
					   struct packet *packet, const bool typed)
{
	if ((version_ihl & 0xF) >= IPV4_IHL_MIN)
		parse_icmp(header, (version_ihl & 0xF) * 4, packet, typed);
}

/* An IPv4 header without options and the ICMP header behind it. */
union v4_headers {
	struct {
		__u8 version_ihl;
		__u8 tos;
		__be16 tot_len;
		__be16 id;
		__be16 frag_off;
		__u8 ttl;
		__u8 protocol;
		__sum16 check;
		__be32 saddr;
		__be32 daddr;
		__u8 type;
		__u8 code;
		__sum16 checksum;
		__be16 echo_id;
		__be16 echo_sequence;
	};
	struct {
		__u64 word[3];
		__u32 last;
	};
};

#define V4_HEADERS 28

/* Reads as much of both as it takes to turn a packet away; false: it could not. */
static __always_inline bool read_v4(const void *at, union v4_headers *raw, const bool typed)
{
	const struct icmphdr *icmp;

	if (!typed || !config.typed_headers)
		return !bpf_probe_read_kernel(raw, V4_HEADERS, at);
	raw->word[1] = word_at(at + 8);
	if (raw->protocol != IPPROTO_ICMP)
		return true;
	raw->word[0] = word_at(at);
	raw->word[2] = word_at(at + 16);
	icmp = bpf_rdonly_cast(at + sizeof(struct iphdr), bpf_core_type_id_kernel(struct icmphdr));
	raw->last = icmp->un.gateway;
	return true;
}

static __always_inline void parse_v4(struct header *header, struct packet *packet,
				     const bool typed)
{
	const void *at = header_at(header, sizeof(struct iphdr), typed);
	union v4_headers raw;
	__u16 fragment;

	packet->kind = PACKET_UNREADABLE;
	if (!at)
		return;
	packet->kind = PACKET_FOREIGN;
	if (!read_v4(at, &raw, typed) || raw.protocol != IPPROTO_ICMP)
		return;
	packet->kind = PACKET_OTHER;
	fragment = bpf_ntohs(raw.frag_off);
	if (fragment & IP_OFFSET)
		return;
	packet->saddr[0] = raw.saddr;
	packet->daddr[0] = raw.daddr;
	packet->fragment = !!(fragment & IP_MF);
	if ((raw.version_ihl & 0xF) != IPV4_IHL_MIN ||
	    bytes_at(header, 0, V4_HEADERS, typed) != at) {
		parse_after_v4(header, raw.version_ihl, packet, typed);
		return;
	}
	packet->type = raw.type;
	packet->code = raw.code;
	packet->checksum = raw.checksum;
	packet->id = bpf_ntohs(raw.echo_id);
	packet->seq = bpf_ntohs(raw.echo_sequence);
	packet->kind = kind_of_v4(raw.type);
	packet->inner = V4_HEADERS;
}

/*
 * The sum that an ICMP message's checksum covers, less its type: the same for a
 * request and for its reply, and another one for a request with other data.
 */
static __always_inline __u16 sum_without_type(const struct packet *packet)
{
	__u32 sum = (__u16)~bpf_ntohs(packet->checksum) + (__u16)~(packet->type << 8);

	sum = (sum & 0xFFFF) + (sum >> 16);
	/* 0xFFFF stands for zero, too; without a branch, which is verified both ways. */
	return sum + ((sum + 1) >> 16);
}

static __always_inline bool is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS ||
	       next == IPPROTO_FRAGMENT;
}

/* The least that an extension header has. */
union extension {
	struct {
		__u8 next;
		__u8 length;
		__be16 fragment;
	};
	__u64 word;
};

static __always_inline bool read_extension(struct header *header, __u32 offset,
					   union extension *extension, const bool typed)
{
	const void *at;

	set_start(header, typed);
	at = bytes_at(header, offset, sizeof(*extension), typed);
	if (!at)
		return false;
	if (!typed)
		return !bpf_probe_read_kernel(extension, sizeof(*extension), at);
	extension->word = word_at(at);
	return true;
}

/*
 * Where the walk over extension headers has come to: the next header's type in the
 * lowest 8 bits, its offset in the 16 above.
 */
#define CURSOR_OFFSET 8
#define CURSOR_ARRIVED (1 << 24) /* of struct header */
#define CURSOR_FRAGMENT (1 << 25) /* it is the first of several */
#define CURSOR_LOST (1 << 26) /* not to be read */

/*
 * Steps over one extension header of an skb, whose network header @skipped bytes come
 * before. A global function, as find_tagged is: what it returns is any number to the
 * verifier, and the next step the same as this one.
 */
__noinline __u64 step_v6(__u64 skb, __u32 skipped, __u64 cursor)
{
	struct header header = { .skipped = skipped, .arrived = cursor & CURSOR_ARRIVED };
	__u32 offset = (__u16)(cursor >> CURSOR_OFFSET);
	union extension extension;
	__u8 next = cursor;
	bool read;

	if (config.typed_headers) {
		header.skb = bpf_rdonly_cast((void *)skb, bpf_core_type_id_kernel(struct sk_buff));
		read = read_extension(&header, offset, &extension, true);
	} else {
		header.skb = (struct sk_buff *)skb;
		read = read_extension(&header, offset, &extension, false);
	}
	if (!read)
		return cursor | CURSOR_LOST;
	if (next == IPPROTO_FRAGMENT && bpf_ntohs(extension.fragment) & IP6_OFFSET)
		return IPPROTO_NONE; /* a later one: what follows is data */
	cursor &= CURSOR_ARRIVED | CURSOR_FRAGMENT;
	if (next == IPPROTO_FRAGMENT) {
		offset += sizeof(extension);
		if (bpf_ntohs(extension.fragment) & IP6_MF)
			cursor |= CURSOR_FRAGMENT;
	} else {
		offset += (extension.length + 1) * sizeof(extension);
	}
	return cursor | (__u16)offset << CURSOR_OFFSET | extension.next;
}

/*
 * Steps over extension headers until another one comes, or too many have. A function of
 * its own, so that what a program does with the outcome is verified once and not after
 * each step.
 */
__noinline __u64 walk_v6(__u64 skb, __u32 skipped, __u64 cursor)
{
	for (__u64 i = 0; i < IPV6_EXTENSIONS_MAX && is_extension(cursor); i++) {
		cursor = step_v6(skb, skipped, cursor);
		if (cursor & CURSOR_LOST)
			break;
	}
	return cursor;
}

/* What follows the extension headers, the first of which is of type @next. */
static __always_inline void parse_extended(struct header *header, __u8 next,
					   struct packet *packet, const bool typed)
{
	__u64 cursor = IPV6_HLEN << CURSOR_OFFSET | next;
	struct cpu_state *cpu = this_cpu();
	__u64 skb;

	packet->kind = PACKET_UNREADABLE;
	if (!cpu)
		return;
	skb = number_of(cpu, header->skb);
	if (!is_number_of(skb, header->skb))
		return;
	if (header->arrived)
		cursor |= CURSOR_ARRIVED;
	cursor = walk_v6(skb, header->skipped, cursor);
	/* Not to be read, or one too many. */
	if (cursor & CURSOR_LOST || is_extension(cursor))
		return;
	packet->kind = PACKET_OTHER;
	packet->fragment = !!(cursor & CURSOR_FRAGMENT);
	if ((__u8)cursor == IPPROTO_ICMPV6)
		parse_icmp(header, (__u16)(cursor >> CURSOR_OFFSET), packet, typed);
}

static __always_inline void parse_v6(struct header *header, struct packet *packet,
				     const bool typed)
{
	const void *at = header_at(header, IPV6_HLEN, typed);
	struct {
		__u32 flow;
		__be16 length;
		__u8 next;
		__u8 hop_limit;
		__u32 saddr[4];
		__u32 daddr[4];
	} raw;

	packet->kind = PACKET_UNREADABLE;
	if (!at)
		return;
	packet->kind = PACKET_FOREIGN;
	if (typed && config.typed_headers) {
		const struct ipv6hdr *ip =
			bpf_rdonly_cast(at, bpf_core_type_id_kernel(struct ipv6hdr));

		raw.next = ip->nexthdr;
		if (raw.next != IPPROTO_ICMPV6 && !is_extension(raw.next))
			return;
		for (int i = 0; i < 4; i++) {
			packet->saddr[i] = ip->saddr.in6_u.u6_addr32[i];
			packet->daddr[i] = ip->daddr.in6_u.u6_addr32[i];
		}
	} else {
		if (bpf_probe_read_kernel(&raw, sizeof(raw), at))
			return;
		__builtin_memcpy(packet->saddr, raw.saddr, sizeof(raw.saddr));
		__builtin_memcpy(packet->daddr, raw.daddr, sizeof(raw.daddr));
	}
	if (raw.next == IPPROTO_ICMPV6)
		parse_icmp(header, IPV6_HLEN, packet, typed);
	else if (is_extension(raw.next))
		parse_extended(header, raw.next, packet, typed);
}

/*
 * Fills @packet, whose kind says how far that went. A packet whose headers are
 * neither in the linear part nor in the first page is PACKET_UNREADABLE, whatever
 * it is, and so is one with more extension headers than are stepped over.
 */
static __always_inline void parse(struct header *header, struct packet *packet,
				  const bool typed)
{
	/* Whole: clang may otherwise move members around that were never set. */
	__builtin_memset(packet, 0, sizeof(*packet));
	if (header->family == FAMILY_IPV6)
		parse_v6(header, packet, typed);
	else
		parse_v4(header, packet, typed);
}

#endif
