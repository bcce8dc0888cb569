/* SPDX-License-Identifier: MIT */
/*
 * The cache of hints. A bucket is chosen by the upper half of the hash, scaled to the
 * number of buckets, which so need not be a power of two; the tag is of the lower
 * half.
 */
#include "policy/hints.h"

#include <stdbool.h>

#define WHERE_BITS 40
#define WHERE_MASK (((uint64_t)1 << WHERE_BITS) - 1)

static uint64_t buckets_for(uint64_t pages)
{
	/* Two thirds full: then one page in 10,000 finds its bucket full. */
	uint64_t n = (pages + pages / 2 + OVC_HINT_WAYS - 1) / OVC_HINT_WAYS;

	return n ? n : 1;
}

size_t ovc_hints_bytes(uint64_t pages)
{
	return buckets_for(pages) * OVC_HINT_WAYS * sizeof(uint64_t);
}

void ovc_hints_init(struct ovc_hints *h, void *mem, uint64_t pages)
{
	h->entry = mem;
	h->buckets = buckets_for(pages);
}

static uint64_t *bucket_of(const struct ovc_hints *h, uint64_t hash)
{
	return h->entry + ((hash >> 32) * h->buckets >> 32) * OVC_HINT_WAYS;
}

static uint64_t entry_of(uint64_t hash, uint64_t where)
{
	return hash << WHERE_BITS | where;
}

static bool is_tagged(uint64_t entry, uint64_t hash)
{
	return entry && !((entry ^ hash << WHERE_BITS) & ~WHERE_MASK);
}

unsigned ovc_hints_find(const struct ovc_hints *h, uint64_t hash,
			uint64_t where[OVC_HINT_WAYS])
{
	const uint64_t *b = bucket_of(h, hash);
	unsigned n = 0;

	for (unsigned i = 0; i < OVC_HINT_WAYS; i++)
		if (is_tagged(b[i], hash) && b[i] & OVC_HINT_STORE)
			where[n++] = b[i] & WHERE_MASK;
	for (unsigned i = 0; i < OVC_HINT_WAYS; i++)
		if (is_tagged(b[i], hash) && !(b[i] & OVC_HINT_STORE))
			where[n++] = b[i] & WHERE_MASK;
	return n;
}

/* Whose place a new entry takes; NULL where all are the store's and it is not. */
static uint64_t *victim(uint64_t *b, uint64_t hash, uint64_t where)
{
	for (unsigned i = 0; i < OVC_HINT_WAYS; i++)
		if (!b[i])
			return &b[i];
	/* From a place that differs from hash to hash: no entry is favoured. */
	for (unsigned i = 0; i < OVC_HINT_WAYS; i++) {
		uint64_t *e = &b[(hash + i) % OVC_HINT_WAYS];

		if (!(*e & OVC_HINT_STORE))
			return e;
	}
	return where & OVC_HINT_STORE ? &b[hash % OVC_HINT_WAYS] : NULL;
}

uint64_t ovc_hints_note(struct ovc_hints *h, uint64_t hash, uint64_t where)
{
	return ovc_hints_move(h, hash, where, where);
}

uint64_t ovc_hints_move(struct ovc_hints *h, uint64_t hash, uint64_t from,
			uint64_t to)
{
	uint64_t *b = bucket_of(h, hash), *at = NULL, *there = NULL;
	uint64_t forgotten = 0;

	for (unsigned i = 0; i < OVC_HINT_WAYS; i++) {
		if (b[i] == entry_of(hash, from))
			at = &b[i];
		if (b[i] == entry_of(hash, to))
			there = &b[i];
	}
	if (there) { /* known already: `from` is what there is too much of */
		if (at && at != there)
			*at = 0;
		return 0;
	}
	if (!at) {
		at = victim(b, hash, to);
		forgotten = at ? *at & WHERE_MASK : to;
	}
	if (at)
		*at = entry_of(hash, to);
	return forgotten;
}
