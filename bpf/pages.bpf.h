/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Headers that a driver left in a page. Of a large frame many copy little into
 * the skb's own buffer (virtio_net the link header alone: see compat.bpf.h), and
 * the kernel pulls each header in only where it reads it, later than most hooks.
 *
 * A page is where the kernel maps all memory: page_address() of a machine with
 * 64 bits, by the two bases that the reader has found the addresses of.
 */
#ifndef PAGES_BPF_H
#define PAGES_BPF_H

#define PAGE_BYTES 4096

struct words {
	__u64 first;
	__u64 second;
};

/*
 * A word of kernel memory, as a number, with no helper call: behind
 * config.typed_headers. Any structure will do that begins with an integer of that
 * length.
 */
static __always_inline __u64 word_at(const void *at)
{
	const struct timespec64 *cast =
		bpf_rdonly_cast(at, bpf_core_type_id_kernel(struct timespec64));

	return cast->tv_sec;
}

/* The same, by a helper call where it must be. */
static __always_inline bool read_word(const void *at, __u64 *word)
{
	if (config.typed_headers) {
		*word = word_at(at);
		return true;
	}
	return !bpf_probe_read_kernel(word, sizeof(*word), at);
}

/* Two of them. */
static __always_inline bool read_words(const void *at, struct words *words)
{
	if (config.typed_headers) {
		words->first = word_at(at);
		words->second = word_at(at + sizeof(words->first));
		return true;
	}
	return !bpf_probe_read_kernel(words, sizeof(*words), at);
}

static __always_inline __u8 fragments_of(__u64 shared_info)
{
	if (config.typed_headers) {
		const struct skb_shared_info *cast = bpf_rdonly_cast(
			(void *)shared_info, bpf_core_type_id_kernel(struct skb_shared_info));

		return cast->nr_frags;
	}
	return BPF_CORE_READ((struct skb_shared_info *)shared_info, nr_frags);
}

/*
 * Where @size bytes lie that are @offset bytes into the first page fragment of an
 * skb; 0: they are not all there. A global function, as find_tagged is.
 */
__noinline __u64 place_in_page(__u64 shared_info, __u32 offset, __u32 size)
{
	__u64 page, direct, vmemmap;
	struct words fragment;

	if (!config.page_offset_base_at || !config.vmemmap_base_at || !fragments_of(shared_info))
		return 0;
	/* The page, or what stands for it; 32 bits of length and 32 of offset. */
	if (!read_words((void *)shared_info +
				bpf_core_field_offset(struct skb_shared_info, frags),
			&fragment) ||
	    !read_word((void *)config.page_offset_base_at, &direct) ||
	    !read_word((void *)config.vmemmap_base_at, &vmemmap))
		return 0;
	page = fragment.first;
	if (page & NOT_A_PAGE || page < vmemmap)
		return 0;
	if ((__u64)offset + size > (__u32)fragment.second)
		return 0;
	return direct + (page - vmemmap) / bpf_core_type_size(struct page) * PAGE_BYTES +
	       (fragment.second >> 32) + offset;
}

#endif
