/* SPDX-License-Identifier: MIT */
/*
 * A page whose next home is known lets go of its frame: DROPPING, then the frame is
 * freed, with neighbours' in one call, then the word names the home.
 *
 * Failures: a frame that the kernel will not drop goes back to the guest, as it was. A
 * page that was put back meanwhile is left alone.
 */
#include "core/budget.h"
#include "core/events.h"
#include "in/pager.h"
#include "memory/memory.h"
#include "out/reclaim.h"
#include "out/staging.h"
#include "share/domain.h"
#include "share/lay.h"
#include "trouble/untaken.h"

static void set_evicted(struct ovc_region *r, uint64_t idx)
{
	struct ovc_host *host = r->vm->host;
	uint64_t pages = atomic_load(&host->allowed);
	uint64_t n = atomic_fetch_add(&host->evicted, 1);
	uint32_t now = (uint32_t)(n >> ovc_clock_shift(pages));
	uint64_t w = atomic_load(&r->words[idx]);

	ovc_page_set_heat(&r->words[idx],
			  ovc_clock_evict(ovc_word_heat(w), now));
}

/* The page is DROPPING, and its frame is gone, or goes with the ring's window. */
static void dropped(struct ovc_region *r, struct ovc_entry *e,
		    struct ovc_home home, bool mapped)
{
	struct ovc_vm *vm = r->vm;
	uint64_t idx = e->idx;

	atomic_fetch_sub(&vm->staged, 1);
	e->settled = 1;
	OVC_COUNT(vm, freed, 1);
	if (!e->frame)
		ovc_uncharge(vm->host, 1);
	switch (home.kind) {
	case OVC_HOME_NOWHERE:
		ovc_pager_end(r, idx, OVC_EV_TO_EMPTY, 0);
		break;
	case OVC_HOME_SLOT:
		set_evicted(r, idx);
		atomic_fetch_add(&vm->swapped, 1);
		ovc_pager_end(r, idx, OVC_EV_TO_SWAP, home.at);
		break;
	case OVC_HOME_STORE:
		if (!mapped)
			atomic_fetch_and(&r->marks[idx],
					 (uint8_t)~OVC_MARK_OWN);
		atomic_fetch_add(&vm->shared, 1);
		atomic_fetch_add(&vm->mapped, mapped);
		OVC_COUNT(vm, merged, 1);
		ovc_pager_end(r, idx, mapped ? OVC_EV_MAPPED : OVC_EV_TO_STORE,
			      home.at);
		break;
	}
}

/* The kernel would not drop it: the guest gets it back, as it was. */
static void not_dropped(struct ovc_region *r, const struct ovc_drop *d,
			int error)
{
	struct ovc_entry *e = d->e;
	uint64_t pos = d->pos, idx;
	enum ovc_action action;

	ovc_page_end(&r->words[e->idx], OVC_EV_UNWRITTEN, pos, &action);
	if (d->home.kind == OVC_HOME_NOWHERE) { /* reads as zero now */
		ovc_entry_free_slot(e);
		ovc_memory_write_staged(r, e->idx, pos, r->vm->host->zeros);
	}
	ovc_pager_put_back(r, e->idx, pos, OVC_NO_SLOT, true);
	if (d->home.kind == OVC_HOME_SLOT)
		ovc_swap_free(r->vm->swap, d->home.at);
	if (d->home.kind == OVC_HOME_STORE)
		ovc_domain_unref(r->vm, d->home.at);
	idx = e->idx;
	ovc_untaken_refused(r, &idx, 1, error);
	ovc_event_post(r->vm->host, OVC_EVENT_MEMORY_FAILED, -error, r->vm, r,
		       idx, 1);
}

/* Do two drops go with one call? Neighbours do that have the same fate. */
static bool go_together(const struct ovc_drop *a, const struct ovc_drop *b,
			uint64_t distance)
{
	if (b->e->region != a->e->region || b->e->idx != a->e->idx + distance ||
	    b->e->frame != a->e->frame || b->home.kind != a->home.kind ||
	    b->home.map != a->home.map)
		return false;
	return a->home.kind != OVC_HOME_STORE ||
	       b->home.at == a->home.at + distance;
}

/* Frees the frames of pages that wait to be dropped, neighbours with one call. */
void ovc_settle_drops(struct ovc_reclaim *rc)
{
	for (unsigned i = 0, n; i < rc->nr_drops; i += n) {
		const struct ovc_drop *d = &rc->drops[i];
		struct ovc_region *r = d->e->region;
		bool mapped = false;
		int error;

		for (n = 1; i + n < rc->nr_drops; n++)
			if (!go_together(d, &d[n], n))
				break;
		/* The memory of a region that is out is not ours to drop. */
		error = atomic_load(&r->gone) ? 0 :
						ovc_memory_of(r, d->e->idx)
							->drop(r, d->e->idx, n);
		if (!error && d->home.kind == OVC_HOME_STORE)
			mapped = ovc_lay_run(r, d->e->idx, n, d->home.at,
					     d->home.map);
		for (unsigned k = 0; k < n; k++) {
			d[k].e->busy = 0;
			if (error)
				not_dropped(r, &d[k], error);
			else
				dropped(r, d[k].e, d[k].home, mapped);
		}
	}
	rc->nr_drops = 0;
}

bool ovc_settle_to(struct ovc_reclaim *rc, struct ovc_entry *e, uint64_t pos,
		   struct ovc_home home)
{
	struct ovc_region *r = e->region;
	enum ovc_state s;
	uint64_t w;

	do {
		w = atomic_load(&r->words[e->idx]);
		s = ovc_word_state(w);
		if (ovc_word_value(w) != pos ||
		    (s != OVC_WRITING && s != OVC_DOOMED))
			return false;
		if (s == OVC_DOOMED && home.kind != OVC_HOME_NOWHERE)
			return false;
	} while (ovc_page_try(&r->words[e->idx], &w, OVC_EV_SETTLE, 0) !=
		 OVC_ACT_DROP);
	/* Runs of the store's pages are mapped with one call. */
	if (e->frame && home.kind != OVC_HOME_STORE) {
		dropped(r, e, home, false);
		return true;
	}
	e->busy = 1;
	rc->drops[rc->nr_drops++] = (struct ovc_drop){ e, pos, home };
	if (rc->nr_drops == OVC_CLUSTER)
		ovc_settle_drops(rc);
	return true;
}

void ovc_settle_put_back(struct ovc_reclaim *rc, struct ovc_entry *e,
			 uint64_t pos)
{
	struct ovc_region *r = e->region;
	uint64_t w;

	do {
		w = atomic_load(&r->words[e->idx]);
		if (ovc_word_value(w) == pos &&
		    ovc_word_state(w) == OVC_DOOMED) {
			ovc_settle_to(rc, e, pos, ovc_home_slot(OVC_NO_SLOT));
			return;
		}
		if (ovc_word_value(w) != pos ||
		    ovc_word_state(w) != OVC_WRITING)
			return;
	} while (ovc_page_try(&r->words[e->idx], &w, OVC_EV_UNWRITTEN, pos) !=
		 OVC_ACT_PUT);
	if (e->frame)
		ovc_charge_force(r->vm, 1);
	if (ovc_pager_put_back(r, e->idx, pos, OVC_NO_SLOT, true) && e->frame)
		ovc_uncharge(r->vm->host, 1);
}
