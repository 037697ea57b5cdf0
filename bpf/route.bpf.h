/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the route that the kernel has chosen for a packet says about it: whether it is
 * for us, and whether several hosts may answer it.
 */
#ifndef ROUTE_BPF_H
#define ROUTE_BPF_H

#define SKB_DST_NOREF 1UL
#define DST_FAKE_RTABLE 0x0010 /* include/net/dst.h */
#define DST_METADATA 0x0080
#define RTN_LOCAL 2 /* include/uapi/linux/rtnetlink.h; what lies between these is for us */
#define RTN_BROADCAST 3
#define RTN_MULTICAST 5
#define RTF_LOCAL 0x80000000 /* include/uapi/linux/ipv6_route.h */
#define RTF_ANYCAST 0x00100000

/* Where an skb's route is, or what stands in for it. */
static __always_inline unsigned long dst_of(struct sk_buff *skb, const bool typed)
{
	return GET(typed, skb, _skb_refdst) & ~SKB_DST_NOREF;
}

/*
 * Zero: none was chosen yet, or it has been let go. What a tunnel says of a packet
 * (collect_md), or a bridge's stand-in (br_netfilter), lies in the same place until there is.
 */
static __always_inline unsigned long route_of(struct sk_buff *skb, const bool typed)
{
	unsigned long route = dst_of(skb, typed);

	if (route && BPF_CORE_READ((struct dst_entry *)route, flags) &
			     (DST_FAKE_RTABLE | DST_METADATA))
		return 0;
	return route;
}

/*
 * Whether a bridge is about to hand a packet to another of its ports: br_netfilter has given
 * it a stand-in for a route, and it is that port's. One for this host is the bridge's own by then.
 */
static __always_inline bool is_bridged_on(struct sk_buff *skb, const bool typed)
{
	unsigned long route = dst_of(skb, typed);
	struct net_device *dev = GET(typed, skb, dev);

	return route && dev &&
	       BPF_CORE_READ((struct dst_entry *)route, flags) & DST_FAKE_RTABLE &&
	       GET(typed, dev, rx_handler);
}

/* The device that the route leads to; NULL: there is no route. */
static __always_inline struct net_device *device_of_route(struct sk_buff *skb, const bool typed)
{
	unsigned long route = route_of(skb, typed);

	return route ? BPF_CORE_READ((struct dst_entry *)route, dev) : NULL;
}

static __always_inline __u16 type_of_v4(unsigned long route)
{
	return BPF_CORE_READ((struct rtable *)route, rt_type);
}

static __always_inline __u32 flags_of_v6(unsigned long route)
{
	return BPF_CORE_READ((struct rt6_info *)route, rt6i_flags);
}

/*
 * Whether a packet that we send is a broadcast. The device may have let its route go
 * (IFF_XMIT_DST_RELEASE); then the frame tells.
 */
static __always_inline bool sent_to_all(struct sk_buff *skb, const bool typed)
{
	unsigned long route = route_of(skb, typed);
	__u8 first;

	if (route)
		return type_of_v4(route) == RTN_BROADCAST;
	/* A device without a link header (tun, wireguard) has one peer. */
	if (GET(typed, skb, data) == GET(typed, skb, head) + GET(typed, skb, network_header))
		return false;
	return !bpf_probe_read_kernel(&first, sizeof(first), GET(typed, skb, data)) && first & 1;
}

/* Whether a packet was delivered to us by an address that others have, too. */
static __always_inline bool is_for_many(struct sk_buff *skb, __u8 family, const bool typed)
{
	unsigned long route = route_of(skb, typed);

	if (!route)
		return false;
	return family == FAMILY_IPV4 ? type_of_v4(route) == RTN_BROADCAST :
				       !!(flags_of_v6(route) & RTF_ANYCAST);
}

/* Whether a packet is known to be for another host. */
static __always_inline bool is_routed_on(struct sk_buff *skb, __u8 family, const bool typed)
{
	unsigned long route = route_of(skb, typed);
	__u16 type;

	if (!route)
		return false;
	if (family == FAMILY_IPV6)
		return !(flags_of_v6(route) & (RTF_LOCAL | RTF_ANYCAST));
	type = type_of_v4(route);
	return type < RTN_LOCAL || type > RTN_MULTICAST;
}

#endif
