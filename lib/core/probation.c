/* SPDX-License-Identifier: MIT */
/*
 * The queue of pages on probation, one of each fault thread: one writer, which is that
 * thread, and one reader, reclaim. What does not fit is left to the clock's hand.
 */
#include "core/probation.h"

#include <errno.h>

#include "core/meta.h"

#define MOST 2048 /* pages; a power of two */

struct ovc_probation {
	_Atomic uint64_t head, tail;
	struct {
		struct ovc_region *region;
		uint64_t idx;
	} page[MOST];
};

int ovc_probation_create(struct ovc_probation **pp)
{
	*pp = ovc_meta_zalloc(sizeof(**pp));
	return *pp ? 0 : -ENOMEM;
}

void ovc_probation_destroy(struct ovc_probation **pp)
{
	ovc_meta_free(*pp);
	*pp = NULL;
}

void ovc_probation_push(struct ovc_probation *p, struct ovc_region *r,
			uint64_t idx)
{
	uint64_t head = atomic_load_explicit(&p->head, memory_order_relaxed);

	if (head - atomic_load_explicit(&p->tail, memory_order_acquire) == MOST)
		return;
	p->page[head % MOST].region = r;
	p->page[head % MOST].idx = idx;
	atomic_store_explicit(&p->head, head + 1, memory_order_release);
}

uint64_t ovc_probation_waiting(const struct ovc_host *host)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < host->nr_faulters; i++) {
		const struct ovc_probation *p = host->probation[i];

		n += atomic_load(&p->head) - atomic_load(&p->tail);
	}
	return n;
}

bool ovc_probation_pop(struct ovc_host *host, unsigned *turn,
		       struct ovc_region **r, uint64_t *idx)
{
	for (unsigned i = 0; i < host->nr_faulters; i++) {
		unsigned n = (*turn)++ % host->nr_faulters;
		struct ovc_probation *p = host->probation[n];
		uint64_t tail =
			atomic_load_explicit(&p->tail, memory_order_relaxed);

		if (tail ==
		    atomic_load_explicit(&p->head, memory_order_acquire))
			continue;
		*r = p->page[tail % MOST].region;
		*idx = p->page[tail % MOST].idx;
		atomic_store_explicit(&p->tail, tail + 1, memory_order_release);
		return true;
	}
	return false;
}

void ovc_probation_forget(const struct ovc_host *host,
			  const struct ovc_region *region)
{
	for (unsigned i = 0; i < host->nr_faulters; i++) {
		struct ovc_probation *p = host->probation[i];
		uint64_t head = atomic_load(&p->head);

		for (uint64_t n = atomic_load(&p->tail); n < head; n++)
			if (p->page[n % MOST].region == region)
				p->page[n % MOST].region = NULL;
	}
}
