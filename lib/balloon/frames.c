/* SPDX-License-Identifier: MIT */
/*
 * The bits of frames.h, and how many of them are set.
 *
 * A bit is set before its page is dropped and cleared by who takes the page into use,
 * each with one atomic operation that says who was first; the sum of a VM's follows
 * from that. Nothing fails but the allocation, and nothing is done on stop: the bits
 * end with the region.
 */
#include "balloon/frames.h"

#include <errno.h>

#include "core/meta.h"

static uint64_t nr_words(const struct ovc_region *r)
{
	return (r->nr + 63) / 64;
}

static uint64_t nr_block_words(const struct ovc_region *r)
{
	/* The first and the last 2 MiB may be there in part only. */
	return (r->nr / 512 + 2 + 63) / 64;
}

int ovc_frames_make(struct ovc_region *r)
{
	uint64_t nr = nr_words(r) + nr_block_words(r);
	_Atomic uint64_t *bits;

	if (atomic_load(&r->frames))
		return 0;
	bits = ovc_meta_zalloc(nr * sizeof(*bits));
	if (!bits)
		return -ENOMEM;
	atomic_store(&r->frames, bits);
	return 0;
}

void ovc_frames_forget(struct ovc_region *r)
{
	_Atomic uint64_t *bits = atomic_load(&r->frames);
	uint64_t nr = 0;

	for (uint64_t i = 0; bits && i < nr_words(r); i++)
		nr += (uint64_t)__builtin_popcountll(
			atomic_exchange(&bits[i], 0));
	atomic_fetch_sub(&r->vm->balloon.held, nr);
}

void ovc_frames_free(struct ovc_region *r)
{
	ovc_frames_forget(r);
	ovc_meta_free(atomic_exchange(&r->frames, NULL));
}

bool ovc_frames_put(struct ovc_region *r, uint64_t idx)
{
	_Atomic uint64_t *word = &atomic_load(&r->frames)[idx / 64];
	uint64_t bit = (uint64_t)1 << (idx % 64);

	if (atomic_fetch_or(word, bit) & bit)
		return false;
	atomic_fetch_add(&r->vm->balloon.held, 1);
	return true;
}

bool ovc_frames_take(struct ovc_region *r, uint64_t idx)
{
	_Atomic uint64_t *bits = atomic_load(&r->frames);
	uint64_t bit = (uint64_t)1 << (idx % 64);

	if (!bits || !(atomic_fetch_and(&bits[idx / 64], ~bit) & bit))
		return false;
	atomic_fetch_sub(&r->vm->balloon.held, 1);
	return true;
}

static _Atomic uint64_t *block(struct ovc_region *r, uint64_t idx,
			       uint64_t *bit)
{
	uint64_t n = ((uintptr_t)r->base / OVC_PAGE % 512 + idx) / 512;

	*bit = (uint64_t)1 << (n % 64);
	return &atomic_load(&r->frames)[nr_words(r) + n / 64];
}

bool ovc_frames_look(struct ovc_region *r, uint64_t idx)
{
	uint64_t bit;
	_Atomic uint64_t *word = block(r, idx, &bit);

	return !(atomic_load(word) & bit) &&
	       !(atomic_fetch_or(word, bit) & bit);
}

void ovc_frames_unlook(struct ovc_region *r, uint64_t idx)
{
	uint64_t bit;
	_Atomic uint64_t *word = block(r, idx, &bit);

	if (atomic_load(word) & bit)
		atomic_fetch_and(word, ~bit);
}
