/* SPDX-License-Identifier: MIT */
/*
 * What is done with a page whatever kind of memory it is: ordinary of either kind, or
 * with the store mapped there. Runs are cut where the kind changes.
 */
#include <string.h>

#include "memory/advice.h"
#include "memory/memory.h"
#include "sys/memfd.h"

static size_t same_kind(const struct ovc_region *r, const struct ovc_taken *t,
			size_t nr)
{
	bool laid = ovc_is_laid(r, t->idx);
	size_t n = 1;

	while (n < nr && ovc_is_laid(r, t[n].idx) == laid)
		n++;
	return n;
}

void ovc_memory_stage(struct ovc_region *r, struct ovc_taken *t, size_t nr)
{
	for (size_t i = 0, n; i < nr; i += n) {
		n = same_kind(r, t + i, nr - i);
		ovc_memory_of(r, t[i].idx)->stage(r, t + i, n);
	}
}

int ovc_memory_stage_bytes(struct ovc_region *r, uint64_t idx, uint64_t pos,
			   const void *bytes)
{
	if (ovc_memory_of(r, idx)->frames_in_window)
		return ovc_private_stage_bytes(r, pos, bytes);
	return ovc_cached_write(r, idx, bytes);
}

int ovc_memory_write_staged(struct ovc_region *r, uint64_t idx, uint64_t pos,
			    const void *bytes)
{
	const struct ovc_memory *m = ovc_memory_of(r, idx);

	if (m->frames_in_window)
		return ovc_pages_copy(m->view(r, idx, pos), bytes, OVC_PAGE);
	return ovc_cached_write(r, idx, bytes);
}

int ovc_memory_read_staged(struct ovc_region *r, uint64_t idx, uint64_t pos,
			   void *page)
{
	const struct ovc_memory *m = ovc_memory_of(r, idx);
	bool written;

	if (m->frames_in_window)
		return ovc_pages_copy(page, m->view(r, idx, pos), OVC_PAGE);
	return m->read(r, idx, page, &written);
}

void ovc_memory_mend(struct ovc_region *r, uint64_t idx)
{
	struct ovc_host *host = r->vm->host;
	char *addr = ovc_page_addr(r, idx);
	void *fresh = NULL;
	int error;

	if (ovc_is_unmapped(r, idx))
		return;
	if (host->uffd_features.poison) {
		/* To punch a memfd would not take the marker away. */
		ovc_pages_dontneed(addr, OVC_PAGE);
		return;
	}
	if (ovc_is_laid(r, idx)) {
		ovc_laid_clear(r, idx, 1);
		return;
	}
	if (r->memfd >= 0)
		error = ovc_memfd_remap(r->memfd,
					r->memfd_offset + idx * OVC_PAGE, addr,
					OVC_PAGE);
	else
		error = ovc_pages_make(OVC_PAGE, ovc_advice_of(r, idx), &fresh);
	if (!error && r->memfd >= 0)
		ovc_advice_apply(r, idx, 1, OVC_MAP_ALL);
	else if (!error)
		error = ovc_pages_move_over(fresh, addr, OVC_PAGE);
	if (error && fresh)
		ovc_pages_release(fresh, OVC_PAGE);
	if (!error)
		error = ovc_uffd_register(host->uffd, addr, OVC_PAGE,
					  r->memfd >= 0,
					  host->uffd_features.wp_async);
	if (error)
		ovc_log(host, OVC_LOG_ERROR,
			"%s: a poisoned page that was discarded stays "
			"inaccessible (error %d)",
			r->vm->name, -error);
}
