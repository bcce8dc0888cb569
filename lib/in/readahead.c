/* SPDX-License-Identifier: MIT */
/*
 * What a fault thread reads before it is touched: windows behind a page that was, and
 * what a caller asked for (prefetch).
 *
 * In the middle of a window that was read ahead one page is held back. Its touch
 * costs a fault but no read, and starts the next window while the guest still has
 * half of this one. A touch of a page that is still being read says that this was
 * not early enough: one more window is asked for, and from then on as many more are
 * in flight.
 *
 * Failures: where there is no buffer, or the disk may have no more in flight, the
 * window is given up; who waits for one of its pages asks again.
 */
#include "core/budget.h"
#include "in/faulter.h"
#include "memory/memory.h"
#include "trouble/disk.h"

#define HOLD_FROM 8    /* pages of a window that is worth a held page */
#define LOOK	  1024 /* pages looked at for some to bring in */

bool ovc_window_flush(struct ovc_faulter *f, struct ovc_window *w)
{
	uint64_t hold = OVC_NONE;
	bool may, ok;

	if (!w->a.nr)
		return true;
	may = ovc_disk_may_read(w->a.region->vm, f->n, w->a.nr, f->nr_free,
				f->nr_idle);
	if (w->hold && w->a.nr >= HOLD_FROM)
		hold = w->a.idx + w->a.nr / 2;
	if (hold == w->a.demand)
		hold = OVC_NONE;
	ok = may && ovc_read_queue(f, &w->a, hold, w->since, NULL);
	if (!ok) /* who asked asks again, when it is woken */
		ovc_read_undo(&w->a);
	if (may && !ok && w->a.demand != OVC_NONE)
		ovc_memory_wake(w->a.region, w->a.demand, 1);
	w->a.nr = 0;
	w->a.demand = OVC_NONE;
	w->most = OVC_WINDOW;
	return ok;
}

bool ovc_window_add(struct ovc_faulter *f, struct ovc_window *w, uint64_t idx,
		    uint64_t slot)
{
	struct ovc_arrival *a = &w->a;

	if (a->nr &&
	    (a->nr == w->most || idx != a->idx + a->nr ||
	     slot != a->slot + a->nr) &&
	    !ovc_window_flush(f, w)) {
		ovc_pager_unread(a->region, idx, slot);
		return false;
	}
	if (!a->nr) {
		a->idx = idx;
		a->slot = slot;
	}
	a->nr++;
	return true;
}

uint64_t ovc_window_go_ahead(struct ovc_faulter *f, struct ovc_window *w,
			     uint64_t idx, unsigned count, int64_t stride,
			     bool zeros)
{
	struct ovc_region *r = w->a.region;
	uint64_t at = idx;

	for (unsigned looked = 0; count && looked < LOOK; looked++) {
		struct ovc_touched t;
		enum ovc_state s;

		at += (uint64_t)stride;
		if (at >= r->nr)
			break;
		s = ovc_word_state(atomic_load(&r->words[at]));
		if (s != OVC_SWAPPED && s != OVC_STAGED &&
		    (s != OVC_EMPTY || !zeros))
			continue;
		switch (ovc_pager_touch(r, at, zeros, true, &t)) {
		case OVC_TOUCH_READ:
			if (!ovc_window_add(f, w, at, t.slot))
				return at;
			count--;
			break;
		case OVC_TOUCH_DONE:
			if (t.cold)
				ovc_faulter_on_probation(f, r, at);
			count--;
			break;
		case OVC_TOUCH_STARVED:
			return at;
		default:
			break;
		}
	}
	return at;
}

/* ---- prefetch ----------------------------------------------------------------- */

static struct ovc_request *next_request(struct ovc_host *host)
{
	if (!atomic_exchange(&host->have_requests, false))
		return NULL;
	for (unsigned i = 0; i < OVC_MAX_REQUESTS; i++) {
		struct ovc_request *q = &host->requests[i];
		int ready = OVC_SLOT_READY;

		if (atomic_compare_exchange_strong(&q->state, &ready,
						   OVC_SLOT_BUSY)) {
			/* Others may find the rest. */
			atomic_store(&host->have_requests, true);
			return q;
		}
	}
	return NULL;
}

bool ovc_prefetch_step(struct ovc_faulter *f)
{
	struct ovc_request *q = f->request;
	struct ovc_window w = { .a = { .demand = OVC_NONE },
				.most = OVC_WINDOW };
	uint64_t step;

	if (!q)
		q = f->request = next_request(f->host);
	if (!q || (!q->region->leaving && (f->nr_free < f->nr_buffers / 2 ||
					   f->nr_idle < OVC_READS / 2)))
		return false;
	if (!q->nr || q->region->leaving || !ovc_room_ahead(q->region->vm, 1)) {
		f->request = NULL;
		atomic_store(&q->state, OVC_SLOT_FREE);
		return true;
	}
	step = q->nr < OVC_WINDOW ? q->nr : OVC_WINDOW;
	if (step > f->nr_buffers / 2)
		step = f->nr_buffers / 2;
	w.a.region = q->region;
	w.since = ovc_now_ns();
	for (uint64_t i = 0; i < step; i++) {
		uint64_t at = q->idx + i;
		uint64_t word = atomic_load(&q->region->words[at]);
		struct ovc_touched t;

		if (ovc_word_state(word) != OVC_SWAPPED &&
		    ovc_word_state(word) != OVC_STAGED)
			continue;
		if (ovc_pager_touch(q->region, at, false, true, &t) ==
			    OVC_TOUCH_READ &&
		    !ovc_window_add(f, &w, at, t.slot))
			break;
	}
	ovc_window_flush(f, &w);
	q->idx += step;
	q->nr -= step;
	return true;
}
