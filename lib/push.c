/* SPDX-License-Identifier: MIT */
/*
 * What callers push out by range, and what is forgotten when a region goes.
 *
 * A range call does reclaim's work itself, holding control for a step at a time, with
 * as many writes in flight as reclaim has; between steps it polls. Pages that were on
 * the move when it passed are looked at again.
 */
#include <errno.h>
#include <string.h>

#include "reclaim.h"
#include "untaken.h"

/* A page that read-ahead holds back is out of memory already (its buffer is ours)
 * and stays so as long as the buffer is not needed: do not wait for that. */
static bool on_its_way(const struct ovc_region *r, uint64_t idx)
{
	uint64_t w = atomic_load(&r->words[idx]);
	enum ovc_state s = ovc_word_state(w);

	if (ovc_word_value(w) >= r->vm->host->ring.cap)
		return false;
	return s == OVC_STAGED || s == OVC_WRITING || s == OVC_DOOMED;
}

/* Stages from *at on, as far as the ring has room, and settles all of it. */
static void push_out(struct ovc_reclaim *rc, struct ovc_region *r, uint64_t *at,
		     uint64_t end, bool *moving)
{
	struct ovc_staging *s = &rc->host->ring;
	uint64_t first;

	if (*at < end)
		ovc_settle_room(rc);
	first = s->head;
	while (*at < end && s->head - first < OVC_STAGE_STEP &&
	       ovc_ring_room(rc->host) > OVC_CHUNK) {
		uint64_t nr = end - *at < OVC_CHUNK ? end - *at : OVC_CHUNK;

		ovc_stage_chunk(r, *at, nr, true, moving);
		*at += nr;
	}
	for (uint64_t n = s->next; n < s->head; n++) {
		struct ovc_entry *e = ovc_entry_at(rc->host, n);

		if (rc->nr_idle < 2)
			break;
		if (e->region == r && e->idx < end)
			ovc_settle_one(rc, e, n % s->cap);
		if (n == s->next && (!e->region || e->busy || e->settled))
			s->next++;
	}
	ovc_settle_flush(rc);
}

static int start_tracking(struct ovc_region *r)
{
	struct ovc_host *host = r->vm->host;
	int error = 0;

	ovc_control_lock(host);
	if (!r->tracked)
		error = ovc_region_track(r);
	if (!error)
		atomic_store(&host->tracked, true);
	ovc_control_unlock(host);
	return error;
}

/* One pass over a range. Returns whether pages were passed over because they were
 * on the move at that moment. */
static bool push_out_all(struct ovc_region *r, uint64_t idx, uint64_t end)
{
	struct ovc_host *host = r->vm->host;
	struct ovc_reclaim *rc = host->reclaim;
	uint64_t at = idx, look = idx;
	bool moving = false;
	int ring = ovc_ring_fd(rc->ring);

	while (look < end) {
		ovc_control_lock(host);
		ovc_settle_reap(rc);
		ovc_ring_advance(rc);
		push_out(rc, r, &at, end, &moving);
		ovc_ring_submit(rc->ring);
		ovc_ring_advance(rc);
		ovc_control_unlock(host);
		while (look < at && !on_its_way(r, look))
			look++;
		/* The ring itself is touched with control only. */
		if (look < end)
			ovc_poll_first(&ring, 1, at < end ? 0 : 1);
	}
	return moving;
}

static uint64_t refused(const struct ovc_region *r, uint64_t idx, uint64_t nr,
			enum ovc_untaken *cause)
{
	uint64_t found;

	ovc_control_lock(r->vm->host);
	found = ovc_untaken_in(r, idx, nr, cause);
	ovc_control_unlock(r->vm->host);
	return found;
}

/* What was refused for a moment is tried once more. */
static int tell_refused(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	enum ovc_untaken cause = OVC_UNTAKEN_REFUSED;
	uint64_t found = refused(r, idx, nr, &cause);

	if (found)
		push_out_all(r, idx, idx + nr);
	if (found)
		found = refused(r, idx, nr, &cause);
	if (!found)
		return 0;
	return ovc_fail(-EBUSY, "reclaim: %llu KiB cannot be taken: %s",
			(unsigned long long)(found * OVC_PAGE) >> 10,
			ovc_untaken_text(cause));
}

#define PASSES 8

int ovc_reclaim_range(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	uint64_t errors = atomic_load(&r->vm->count.write_errors);
	int last = start_tracking(r);
	const char *why;

	if (last)
		return ovc_fail(last,
				"reclaim: the region cannot be tracked: "
				"%s",
				strerror(-last));
	/* A guest can touch a page a moment before its fill is finished. */
	for (unsigned i = 0; i < PASSES && push_out_all(r, idx, idx + nr); i++)
		ovc_host_pause(r->vm->host, i);
	if (atomic_load(&r->vm->count.write_errors) == errors)
		return tell_refused(r, idx, nr);
	last = atomic_load(&r->vm->last_error);
	ovc_control_lock(r->vm->host);
	why = ovc_swap_error(r->vm->swap, last);
	ovc_control_unlock(r->vm->host);
	return ovc_fail(-last,
			"reclaim: some pages stay in memory since %s's swap "
			"could not be written: %s",
			r->vm->name, why);
}

void ovc_reclaim_tidy(struct ovc_reclaim *rc)
{
	ovc_settle_reap(rc);
	ovc_ring_advance(rc);
	ovc_ring_collect(rc);
	ovc_ring_submit(rc->ring);
}

void ovc_reclaim_forget(struct ovc_reclaim *rc, struct ovc_region *region)
{
	struct ovc_host *host = rc->host;
	struct ovc_staging *s = &host->ring;

	for (uint64_t n = s->tail; n < s->head; n++) {
		struct ovc_entry *e = ovc_entry_at(host, n);

		while (e->region == region && e->busy) {
			ovc_ring_wait(rc->ring, 10);
			ovc_settle_reap(rc);
		}
		if (e->region != region)
			continue;
		if (ovc_entry_named(atomic_load(&region->words[e->idx]),
				    n % s->cap))
			ovc_settle_to(rc, e, n % s->cap,
				      ovc_home_slot(OVC_NO_SLOT));
		ovc_settle_drops(rc);
		ovc_entry_finish(e);
	}
	for (unsigned i = 0; i < host->nr_faulters; i++) {
		struct ovc_probation *p =
			ovc_faulter_probation(host->faulters[i]);
		uint64_t head = atomic_load(&p->head);

		for (uint64_t n = atomic_load(&p->tail); n < head; n++)
			if (p->page[n % OVC_PROBATION].region == region)
				p->page[n % OVC_PROBATION].region = NULL;
	}
}
