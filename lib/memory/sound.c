/* SPDX-License-Identifier: MIT */
/*
 * Which staged pages can be read. A frame may be lost by itself (a memory error that the
 * kernel found), or be poison that was moved; a memfd's may be gone. To read one would be
 * a signal to a thread that blocks it: the end of the VMM, for one page.
 *
 * To have the kernel copy each page, who makes an error of it, costs a third of what it
 * costs to look at the page. So the kernel is asked before, for many pages at once:
 *
 *   in the window     what is mapped there (PAGEMAP_SCAN) is sound; a lost one is not
 *   of a memfd        all pages of a run are mapped into our view with one call, which
 *                     they have to be to be read, and which fails where a read would
 *
 * Of others a copy is made to find out: the host may have swapped them.
 *
 * What is lost between the question and the read, some microseconds, or found to be by
 * that very read, is a signal as of any memory of the process's.
 */
#include <string.h>

#include "memory/memory.h"
#include "out/reclaim.h"
#include "out/staging.h"

static void ask_window(struct ovc_reclaim *rc, uint64_t pos)
{
	struct ovc_host *host = rc->host;
	uint64_t nr = host->staging.cap - pos;

	rc->sound_from = pos;
	rc->sound_nr = ovc_pagemap_present(
		&host->pagemap, host->staging.window + pos * OVC_PAGE,
		nr < OVC_SOUND ? nr : OVC_SOUND);
}

/* Entries from pos on that are of neighbours, still staged, and of the memfd's own pages:
 * where the store is laid over one, to map it in would make a page there. */
static uint64_t run_from(const struct ovc_host *host, const struct ovc_entry *e,
			 uint64_t pos)
{
	const struct ovc_region *r = e->region;
	uint64_t n = 1;

	while (n < OVC_SOUND && pos + n < host->staging.cap &&
	       e[n].region == r && !e[n].frame && e[n].idx == e->idx + n &&
	       ovc_entry_named(atomic_load(&r->words[e[n].idx]), pos + n))
		n++;
	return n;
}

static void ask_view(struct ovc_reclaim *rc, const struct ovc_entry *e,
		     uint64_t pos)
{
	uint64_t nr = run_from(rc->host, e, pos);

	rc->sound_from = pos;
	rc->sound_nr = ovc_pages_map_in(e->region->view + e->idx * OVC_PAGE,
					nr * OVC_PAGE) ?
			       0 :
			       nr;
}

static bool is_known(const struct ovc_reclaim *rc, uint64_t pos)
{
	return pos - rc->sound_from < rc->sound_nr;
}

bool ovc_sound(struct ovc_reclaim *rc, const struct ovc_entry *e, uint64_t pos)
{
	struct ovc_region *r = e->region;
	_Alignas(4096) char page[OVC_PAGE];
	bool good;

	if (is_known(rc, pos))
		return true;
	if (ovc_memory_of(r, e->idx)->frames_in_window)
		ask_window(rc, pos);
	else
		ask_view(rc, e, pos);
	if (is_known(rc, pos))
		return true;
	good = !ovc_memory_read_staged(r, e->idx, pos, page);
	/* Nothing of a guest stays on a stack, which is in core dumps. */
	explicit_bzero(page, sizeof(page));
	return good;
}
