/* SPDX-License-Identifier: MIT */
/*
 * Shared pages that guests have mapped.
 *
 * A run of LEAST pages is worth a mapping, and so is a shorter one whose pages the
 * guest is known to read; the last eighth of the mappings is kept for runs of LONG
 * pages, whenever they are found. What is not mapped stays STORED, and the guest's touch
 * copies it. Mappings are counted as edges between neighbours that lie in different
 * ones, as far as that can be seen; the kernel is asked each few seconds how many there
 * really are.
 *
 * A guest's write to a SHARED page is the kernel's business and seen later
 * (ovc_broken_find()); promise.c sees to it that there is memory for it.
 *
 * What is laid stays laid: a guest's pages there are private copies, absent, or in
 * swap, as anywhere. New ordinary memory cannot take the place of an absent page,
 * for a touch between its mapping and its registration would read zeros. Where all
 * pages are present it can: that is done for a memfd when nearly all of a run is
 * private, which makes it one mapping with its neighbours again. For anonymous memory
 * it would not (the kernel joins no mappings whose pages were moved), so that it is
 * done at the region's end only.
 *
 * Failures: where a mapping cannot be had the pages stay STORED, and the limit is
 * taken to be what is in use. A page that cannot be taken away from the guest stays
 * SHARED.
 */
#include "share/lay.h"

#include <errno.h>
#include <string.h>

#include "core/budget.h"
#include "core/events.h"
#include "core/tables.h"
#include "in/pager.h"
#include "memory/memory.h"
#include "share/broken.h"
#include "share/promise.h"
#include "sys/memfd.h"

#define LEAST 4	 /* pages that are worth a mapping */
#define LONG  32 /* that the last mappings are for */
#define TRIES 3

/* ---- mappings ----------------------------------------------------------------- */

static bool shared_at(const struct ovc_region *r, uint64_t idx, uint64_t *page)
{
	uint64_t w = atomic_load(&r->words[idx]);

	*page = ovc_word_value(w);
	return ovc_word_state(w) == OVC_SHARED;
}

/* Do two neighbours, idx - 1 and idx, lie in one mapping? */
static bool joined(const struct ovc_region *r, uint64_t idx)
{
	bool laid = ovc_is_laid(r, idx);
	uint64_t a, b;

	if (laid != ovc_is_laid(r, idx - 1))
		return false;
	if (!laid || !shared_at(r, idx - 1, &a) || !shared_at(r, idx, &b))
		return true;
	return b == a + 1;
}

static uint64_t edges(const struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	uint64_t n = 0;

	for (uint64_t i = idx ? idx : 1; i <= idx + nr && i < r->nr; i++)
		n += !joined(r, i);
	return n;
}

/* How many mappings more there are with nr pages of the store laid at idx. */
static int64_t added(const struct ovc_region *r, uint64_t idx, uint64_t nr,
		     uint64_t page)
{
	uint64_t other;
	int64_t n = -(int64_t)edges(r, idx, nr);

	if (idx)
		n += !shared_at(r, idx - 1, &other) || other + 1 != page;
	if (idx + nr < r->nr)
		n += !shared_at(r, idx + nr, &other) || other != page + nr;
	return n;
}

/* Said once: the reader may want to raise the limit, and need not hear of each page. */
static void no_mapping(struct ovc_host *host, uint64_t nr)
{
	if (!atomic_fetch_add(&host->unmapped, nr))
		ovc_log(host, OVC_LOG_INFO,
			"sharing uses all of the %llu mappings that it may: "
			"single pages are shared without one, and copied when "
			"they are touched; raise share_mappings or sysctl "
			"vm.max_map_count",
			(unsigned long long)host->mappings_most);
}

bool ovc_lay_run(struct ovc_region *r, uint64_t idx, uint64_t nr, uint64_t page,
		 bool want)
{
	struct ovc_host *host = r->vm->host;
	uint64_t used = atomic_load(&host->mappings), most;
	int64_t more;

	if (!r->mappable || (nr < LEAST && !want))
		return false;
	/* The last ones are for long runs. */
	most = host->mappings_most;
	most -= nr < LONG ? most / 8 : 0;
	more = added(r, idx, nr, page);
	if (more > 0 && used + (uint64_t)more > most) {
		no_mapping(host, nr);
		return false;
	}
	if (!ovc_promise(r, idx, nr))
		return false;
	if (ovc_laid_lay(r, idx, nr, page)) {
		ovc_promise_undo(r, idx, nr);
		/* The limit was lowered, or others use more than we left. */
		host->mappings_most = used;
		no_mapping(host, nr);
		return false;
	}
	atomic_fetch_add(&host->mappings, (uint64_t)more);
	if (idx < r->mapped_from)
		r->mapped_from = idx;
	return true;
}

/* ---- unmapping ------------------------------------------------------------------ */

/* The guest gets the copy again that it had made. */
static void keep_private(struct ovc_region *r, uint64_t idx, uint64_t k,
			 uint64_t page)
{
	ovc_charge_force(r->vm, 1);
	ovc_laid_give_back(r, idx, ovc_laid_taken(r->vm->host, k));
	ovc_broken(r, page);
	ovc_pager_end(r, idx, OVC_EV_KEPT, 0);
}

/* Unmaps pages that are STAGING, which were mapped from page[]. */
static void unmap_run(struct ovc_region *r, uint64_t idx, uint64_t nr,
		      const uint64_t *page)
{
	struct ovc_host *host = r->vm->host;
	uint8_t bits[OVC_LAID_WINDOW];
	int got = ovc_laid_take(r, idx, nr, bits);

	for (uint64_t k = 0; k < nr; k++) {
		if (got < 0 || k >= (uint64_t)got) {
			ovc_pager_end(r, idx + k, OVC_EV_MAPPED, page[k]);
		} else if (ovc_laid_is_private(bits[k])) {
			keep_private(r, idx + k, k, page[k]);
		} else {
			atomic_fetch_sub(&r->vm->mapped, 1);
			ovc_pager_end(r, idx + k, OVC_EV_TO_STORE, page[k]);
		}
	}
	if (got > 0)
		ovc_laid_release(host, (uint64_t)got);
}

void ovc_lay_unmap(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	uint64_t page[OVC_LAID_WINDOW], n = 0;

	for (uint64_t i = idx; i < idx + nr; i++) {
		uint64_t w = atomic_load(&r->words[i]);
		bool ours = ovc_word_state(w) == OVC_SHARED;

		page[n] = ovc_word_value(w);
		ours = ours && ovc_page_try(&r->words[i], &w, OVC_EV_STAGE,
					    0) == OVC_ACT_TAKE;
		n += ours;
		if (n && (!ours || n == OVC_LAID_WINDOW || i + 1 == idx + nr)) {
			unmap_run(r, i + ours - n, n, page);
			n = 0;
		}
	}
}

/* ---- folding -------------------------------------------------------------------- */

/* Takes a page in hand whose bytes are present, or makes them so. */
static bool borrow(struct ovc_region *r, uint64_t idx, bool fill)
{
	uint64_t w = atomic_load(&r->words[idx]);
	struct ovc_touched t;

	if (fill && ovc_word_state(w) == OVC_EMPTY)
		ovc_pager_touch(r, idx, true, false, &t);
	w = atomic_load(&r->words[idx]);
	/* At the region's end pins end, too. */
	return ovc_word_state(w) == OVC_RESIDENT &&
	       (fill || !ovc_word_pins(w)) &&
	       ovc_page_try(&r->words[idx], &w, OVC_EV_LOOK, 0) == OVC_ACT_COPY;
}

/* Folds the longest runs of at most a window that can be taken in hand. */
static int fold_range(struct ovc_region *r, uint64_t idx, uint64_t nr,
		      bool fill)
{
	uint64_t n = 0;
	int error = 0, e;

	for (uint64_t i = idx; i < idx + nr; i++) {
		bool ours = ovc_is_laid(r, i) && borrow(r, i, fill);

		n += ours;
		if (!n || (ours && n < OVC_LAID_WINDOW && i + 1 < idx + nr))
			continue;
		e = ovc_laid_fold(r, i + ours - n, n);
		error = error ? error : e;
		for (; n; n--)
			ovc_pager_end(r, i + ours - n, OVC_EV_FILLED, 0);
	}
	return error;
}

void ovc_lay_fold(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	uint64_t laid = 0, own = 0;

	if (r->memfd < 0 || r->mapped_from == UINT64_MAX)
		return;
	for (uint64_t i = idx; i < idx + nr; i++) {
		enum ovc_state s = ovc_word_state(atomic_load(&r->words[i]));

		laid += ovc_is_laid(r, i);
		own += ovc_is_laid(r, i) && s == OVC_RESIDENT;
	}
	if (laid && own >= laid - laid / 8)
		fold_range(r, idx, nr, false);
}

static void keep_bytes(struct ovc_region *r, uint64_t idx)
{
	struct iovec iov = { ovc_page_addr(r, idx), OVC_PAGE };

	ovc_memfd_write(r->memfd, r->memfd_offset + idx * OVC_PAGE, &iov, 1);
}

/* What could not be made ordinary: the VMM is told, and a memfd gets the bytes at
 * least. */
static int still_laid(struct ovc_region *r, uint64_t idx, uint64_t nr,
		      int error)
{
	uint64_t left = 0;

	for (uint64_t i = idx; i < idx + nr; i++) {
		if (!ovc_is_laid(r, i))
			continue;
		left++;
		if (r->view &&
		    ovc_word_state(atomic_load(&r->words[i])) == OVC_RESIDENT)
			keep_bytes(r, i);
	}
	if (!left)
		return 0;
	ovc_event_post(r->vm->host, OVC_EVENT_MEMORY_FAILED, -error, r->vm, r,
		       idx, nr);
	return error ? error : -EIO;
}

/* The next run of laid pages, of a window at most. */
static uint64_t next_laid(const struct ovc_region *r, uint64_t *idx)
{
	uint64_t n = 0;

	while (*idx < r->nr &&
	       (!ovc_region_touched(r, *idx) || !ovc_is_laid(r, *idx)))
		++*idx;
	while (n < OVC_LAID_WINDOW && *idx + n < r->nr &&
	       ovc_is_laid(r, *idx + n))
		n++;
	return n;
}

bool ovc_lay_end(struct ovc_region *r, bool throw_away, int *error)
{
	uint64_t idx = r->mapped_from, n;
	int e = 0;

	if (idx == UINT64_MAX)
		return false;
	n = next_laid(r, &idx);
	for (unsigned t = 0; n && t < TRIES; t++) {
		e = throw_away ? ovc_laid_clear(r, idx, n) :
				 fold_range(r, idx, n, true);
		if (!e)
			break;
	}
	if (n)
		e = still_laid(r, idx, n, e);
	*error = *error ? *error : e;
	r->mapped_from = n ? idx + n : UINT64_MAX;
	return n;
}
