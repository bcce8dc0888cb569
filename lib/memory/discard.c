/* SPDX-License-Identifier: MIT */
/*
 * Runs of pages that are dropped for good, many with one system call.
 *
 * Private pages (anonymous ones, and those laid from the store) go with one
 * process_madvise, which flushes the TLBs once. Pages of a memfd take two: the first
 * unmaps them from the guest, so that the second, which punches them out of the file
 * through our own mapping, finds nothing mapped that it would have to flush page by page.
 * (The kernel flushes for each page that was written all the same, before it forgets in
 * its page table that it was.) Long runs are punched at once: one flush, either way.
 *
 * Failures: then each run is tried by itself, and has its own error. To drop a page twice
 * does no harm, as long as it is the caller's.
 */
#include "memory/memory.h"

#define AT_ONCE 256
#define LONG	64 /* pages */

static bool is_cached(const struct ovc_region *r, uint64_t idx)
{
	return r->view && !ovc_is_laid(r, idx);
}

static bool discard_many(struct ovc_region *r, const struct ovc_run *runs,
			 size_t nr)
{
	struct iovec unmap[AT_ONCE], punch[AT_ONCE];
	size_t nr_unmap = 0, nr_punch = 0;

	for (size_t i = 0; i < nr; i++) {
		const struct ovc_run *run = &runs[i];
		size_t len = run->nr * OVC_PAGE;
		bool cached = is_cached(r, run->idx);

		if (cached)
			punch[nr_punch++] =
				(struct iovec){ r->view + run->idx * OVC_PAGE,
						len };
		if (!cached || run->nr < LONG)
			unmap[nr_unmap++] =
				(struct iovec){ ovc_page_addr(r, run->idx),
						len };
	}
	return !ovc_pages_dontneed_many(true, unmap, nr_unmap) &&
	       !ovc_pages_remove_many(punch, nr_punch);
}

void ovc_memory_discard(struct ovc_region *r, struct ovc_run *runs, size_t nr)
{
	for (size_t at = 0, n; at < nr; at += n) {
		bool done;

		n = nr - at < AT_ONCE ? nr - at : AT_ONCE;
		done = n > 1 && r->vm->host->batch_advise &&
		       discard_many(r, runs + at, n);
		for (size_t i = at; i < at + n; i++)
			runs[i].error = done ? 0 :
					       ovc_memory_of(r, runs[i].idx)
							->discard(r,
								  runs[i].idx,
								  runs[i].nr);
	}
}
