/* SPDX-License-Identifier: MIT */
/*
 * What callers push out by range, and what is forgotten when a region goes.
 *
 * A range call is a job (job.c): the reclaim thread stages and settles the range, a
 * step at a time, with as many writes in flight as it has. Pages that were on the move
 * when it passed are looked at again.
 */
#include <errno.h>
#include <string.h>

#include "core/control.h"
#include "core/job.h"
#include "core/probation.h"
#include "memory/track.h"
#include "out/reclaim.h"
#include "out/staging.h"
#include "trouble/disk.h"
#include "trouble/untaken.h"

/* A page that read-ahead holds back is out of memory already (its buffer is ours)
 * and stays so as long as the buffer is not needed: do not wait for that. */
static bool on_its_way(const struct ovc_region *r, uint64_t idx)
{
	uint64_t w = atomic_load(&r->words[idx]);
	enum ovc_state s = ovc_word_state(w);

	if (ovc_word_value(w) >= r->vm->host->staging.cap)
		return false;
	return s == OVC_STAGED || s == OVC_WRITING || s == OVC_DOOMED;
}

struct push {
	struct ovc_job job;
	struct ovc_region *r;
	uint64_t first, end;
	uint64_t at;   /* staged as far as that */
	uint64_t look; /* and gone as far as that */
	bool moving;   /* pages were passed over that were on the move */
	unsigned passes;
	uint64_t until; /* to look for these again, ns */
};

#define PASSES	  8
#define MOVING_NS 2000000000ull
#define LOOK	  65536 /* words that are looked at in one step */

/* Settles what waits of the range. */
static void settle_range(struct ovc_reclaim *rc, struct ovc_segment *seg,
			 const struct push *p)
{
	uint64_t first = ovc_segment_first(&rc->host->staging, seg);

	for (unsigned n = seg->next;
	     n < seg->head && ovc_disk_may_write(seg->vm); n++) {
		struct ovc_entry *e = ovc_entry_at(rc->host, first + n);

		if (e->region == p->r && e->idx < p->end)
			ovc_settle_one(rc, e, first + n);
		if (n == seg->next && (!e->region || e->busy || e->settled))
			seg->next++;
	}
}

/* Stages from `at` on, as far as the ring has room, and settles all of it. */
static void push_out(struct ovc_reclaim *rc, struct push *p)
{
	uint64_t staged = 0;

	if (p->at < p->end)
		ovc_settle_room(rc, p->r->vm);
	while (p->at < p->end && staged < OVC_STAGE_STEP &&
	       ovc_staging_room(p->r->vm) > OVC_CHUNK) {
		uint64_t nr = p->end - p->at < OVC_CHUNK ? p->end - p->at :
							   OVC_CHUNK;

		staged += ovc_stage_chunk(p->r, p->at, nr, true, &p->moving);
		p->at += nr;
	}
	for (struct ovc_segment *seg = rc->host->staging.oldest; seg;
	     seg = seg->newer)
		if (seg->vm == p->r->vm)
			settle_range(rc, seg, p);
	ovc_settle_flush(rc);
}

/* What was passed over because it was on the move, is looked at again; and again for a
 * while, since who moves it may have to wait for a CPU. */
static bool begin_again(struct push *p)
{
	uint64_t now = ovc_now_ns();

	if (!p->moving)
		return false;
	if (!p->until)
		p->until = now + MOVING_NS;
	if (++p->passes >= PASSES && now >= p->until)
		return false;
	p->at = p->look = p->first;
	p->moving = false;
	return true;
}

static enum ovc_job_came push_step(struct ovc_reclaim *rc, struct ovc_job *job)
{
	struct push *p = (struct push *)job;
	uint64_t at = p->at, look = p->look, most = look + LOOK;

	push_out(rc, p);
	ovc_ring_submit(rc->ring);
	ovc_settle_tails(rc);
	while (p->look < p->at && p->look < most && !on_its_way(p->r, p->look))
		p->look++;
	if (p->look == p->end)
		return begin_again(p) ? OVC_CAME_NOWHERE : OVC_CAME_TO_END;
	return p->at > at || p->look > look ? OVC_CAME_NEARER :
					      OVC_CAME_NOWHERE;
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

/* Returns when it is done: 0, or -ETIMEDOUT. */
static int push(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	struct push p = {
		.job.step = push_step,
		.r = r,
		.first = idx,
		.end = idx + nr,
		.at = idx,
		.look = idx,
	};
	int error = ovc_job_run(r->vm->host, &p.job);

	if (!error)
		return 0;
	return ovc_fail(error,
			"reclaim: some pages stay in memory since %s's swap "
			"did not answer, or nobody called "
			"ovc_host_dispatch(), for %llu s",
			r->vm->name, OVC_PATIENCE_NS / 1000000000);
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
	int error = found ? push(r, idx, nr) : 0;

	if (error)
		return error;
	if (found)
		found = refused(r, idx, nr, &cause);
	if (!found)
		return 0;
	return ovc_fail(-EBUSY, "reclaim: %llu KiB cannot be taken: %s (%s)",
			(unsigned long long)(found * OVC_PAGE) >> 10,
			ovc_untaken_text(cause),
			strerror(atomic_load(&r->vm->refused_with)));
}

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
	last = push(r, idx, nr);
	if (last)
		return last;
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

static void forget_segment(struct ovc_reclaim *rc, struct ovc_segment *seg,
			   const struct ovc_region *region)
{
	uint64_t first = ovc_segment_first(&rc->host->staging, seg);

	for (uint64_t pos = first + seg->tail; pos < first + seg->head; pos++) {
		struct ovc_entry *e = ovc_entry_at(rc->host, pos);

		if (e->region != region || e->busy)
			continue;
		if (ovc_entry_named(atomic_load(&region->words[e->idx]), pos))
			ovc_settle_to(rc, e, pos, ovc_home_slot(OVC_NO_SLOT));
		ovc_settle_drops(rc);
		ovc_entry_finish(e);
	}
}

bool ovc_reclaim_forget(struct ovc_reclaim *rc, struct ovc_region *region)
{
	struct ovc_host *host = rc->host;

	for (struct ovc_segment *seg = host->staging.oldest;
	     seg && region->entries; seg = seg->newer)
		if (seg->vm == region->vm)
			forget_segment(rc, seg, region);
	ovc_probation_forget(host, region);
	ovc_dedupe_flush(rc);
	ovc_ring_submit(rc->ring);
	return !region->entries && !atomic_load(&region->ios);
}
