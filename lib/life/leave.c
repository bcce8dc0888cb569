/* SPDX-License-Identifier: MIT */
/*
 * A region ends: its memory is the VMM's alone again. The caller's thread does it, a few
 * pages at a time, while the guests of this region and of others run; control is held for
 * a few hundred pages at most.
 *
 *   room        (control) would all of it fit into the budget, beside what cannot be
 *               taken from others? Otherwise nothing is changed
 *   leave       (control) nothing of it is staged, read ahead or shared any more
 *   bring back  each page, from wherever it is, as a pin does: it is charged, so that
 *               others are reclaimed for it. Or each page ends where it is
 *   ordinary    (control) no page of the store is mapped there any more
 *   gone        (control) who has an I/O of it under way forgets what comes of it
 *   unregister  all is there by now, so that nobody waits
 *   forget      (a job) the ring's entries, and what is held back
 *   out         (control) of the map and of the budget; and freed
 *
 * Failures: what cannot be read, or has no room where the VM ends, is poisoned. A disk
 * that does not answer keeps an I/O, and the tables and frames that this is of: the region
 * is out all the same, and goes to a grave, which reclaim empties when the answer comes.
 * Likewise the VM, with its file.
 */
#include "life/leave.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/check.h"
#include "balancer/sample.h"
#include "balloon/donate.h"
#include "core/budget.h"
#include "core/control.h"
#include "core/job.h"
#include "core/map.h"
#include "core/tables.h"
#include "in/pager.h"
#include "in/range.h"
#include "life/grave.h"
#include "life/members.h"
#include "life/room.h"
#include "memory/memory.h"
#include "out/reclaim.h"
#include "share/lay.h"
#include "share/promise.h"
#include "share/share.h"

#define GROUP	  512	/* pages whose words are looked at together */
#define PIECE	  65536 /* pages that are unregistered with one call */
#define TRIES	  8
#define SLACK	  64		/* pages that come and go meanwhile */
#define SHORT_NS  1000000000ull /* in which no memory was freed at all */
#define SILENT_NS 1000000ull /* for one read more, of a disk that is silent */

struct leaving {
	struct ovc_region *r;
	enum ovc_leave_how how;
	bool full;   /* there is no room for more */
	bool mute;   /* the disk does not answer */
	bool silent; /* it did not when somebody's read was waited for, either */
	uint64_t lost; /* pages that are poisoned */
};

/* ---- bringing back ----------------------------------------------------------- */

/* It has no room: poison, since what it was cannot be had. */
static int give_up(struct leaving *l, uint64_t idx)
{
	struct ovc_host *host = l->r->vm->host;
	struct ovc_touched t;
	uint64_t since = 0;

	for (unsigned round = 0;; round++) {
		uint64_t w = atomic_load(&l->r->words[idx]);
		enum ovc_state s = ovc_word_state(w);

		if (s == OVC_RESIDENT || s == OVC_CLEAN || s == OVC_EMPTY)
			return 0;
		if (s == OVC_POISONED || ovc_pager_give_up(l->r, idx)) {
			l->lost++;
			return -EIO;
		}
		/* One that is held back has its bytes in the swap, too. Of one
		 * that is staged there is a frame. */
		if (s == OVC_STAGED && ovc_word_value(w) >= host->staging.cap)
			ovc_pager_give_back_held(l->r, idx, w);
		else if (s == OVC_STAGED || s == OVC_WRITING || s == OVC_DOOMED)
			ovc_pager_touch(l->r, idx, true, false, &t);
		ovc_host_pause(host, round);
		if (!ovc_waited_for(&since, round,
				    l->silent ? SILENT_NS : OVC_ANSWER_NS))
			continue;
		/* A disk does not answer who reads it. If it does so yet, in
		 * time, the page is what it was. */
		if (s == OVC_READING) {
			l->silent = true;
			ovc_memory_poison(l->r, idx);
			l->lost++;
			return -EIO;
		}
	}
}

static int bring_in(struct leaving *l, uint64_t idx, bool write)
{
	uint64_t patience = l->how == OVC_LEAVE_ALL ? OVC_PATIENCE_NS :
						      SHORT_NS;
	int error = -ENOMEM;

	if (!l->full && !l->mute)
		error = ovc_range_bring_in(l->r, idx, l->r->nr - idx, write,
					   patience);
	if (error == -ENOMEM || error == -ETIMEDOUT) {
		if (l->how == OVC_LEAVE_ALL)
			return -ETIMEDOUT;
		l->full |= error == -ENOMEM;
		l->mute |= error == -ETIMEDOUT;
		error = give_up(l, idx);
	}
	return error;
}

/* Ends a page where it is. Its memory, where the guest has it, is not ours to drop. */
static void throw_away(struct leaving *l, uint64_t idx)
{
	struct ovc_region *r = l->r;
	uint64_t since = 0;

	for (unsigned round = 0;; round++) {
		enum ovc_state s = ovc_word_state(atomic_load(&r->words[idx]));
		bool busy, had;

		if (s == OVC_EMPTY || s == OVC_RESIDENT || s == OVC_POISONED)
			return;
		if (s == OVC_CLEAN) {
			ovc_range_give_up_slot(r, idx);
			continue;
		}
		if (ovc_drop_begin(r, idx, &busy)) {
			had = ovc_drop_end(r, idx);
			atomic_fetch_sub(&r->vm->resident, had);
			ovc_uncharge(r->vm->host, had);
			return;
		}
		if (!busy || (s == OVC_READING && l->mute))
			return;
		ovc_host_pause(r->vm->host, round);
		l->mute |= s == OVC_READING &&
			   ovc_waited_for(&since, round, OVC_ANSWER_NS);
	}
}

static int bring_back_one(struct leaving *l, uint64_t idx)
{
	struct ovc_region *r = l->r;
	int error = 0;

	/* Where nothing is mapped there is nobody to bring it to. */
	if (l->how == OVC_LEAVE_NONE || (idx >= r->hole && idx < r->hole_end)) {
		throw_away(l, idx);
		return 0;
	}
	switch (ovc_word_state(atomic_load(&r->words[idx]))) {
	case OVC_EMPTY:
		/* Memory that is put in the place of the store's has it all. */
		if (ovc_is_laid(r, idx))
			error = bring_in(l, idx, true);
		break;
	case OVC_RESIDENT:
	case OVC_CLEAN:
		break;
	case OVC_POISONED:
		l->lost++;
		return -EIO;
	default:
		error = bring_in(l, idx, false);
		break;
	}
	/* One that came along with another may be clean. */
	ovc_range_give_up_slot(r, idx);
	return error;
}

static void unmap_group(struct ovc_region *r, uint64_t idx)
{
	ovc_control_lock(r->vm->host);
	if (r->mapped_from != UINT64_MAX)
		ovc_lay_unmap(r, idx,
			      r->nr - idx < GROUP ? r->nr - idx : GROUP);
	ovc_control_unlock(r->vm->host);
}

static int bring_back(struct leaving *l)
{
	struct ovc_region *r = l->r;
	int error = 0, e;

	for (uint64_t i = 0; i < r->nr; i++) {
		/* Words that were never touched are all EMPTY. */
		if (!(i % GROUP) && !ovc_region_touched(r, i)) {
			i += GROUP - 1;
			continue;
		}
		if (!(i % GROUP) && l->how != OVC_LEAVE_NONE)
			unmap_group(r, i);
		e = bring_back_one(l, i);
		if (e == -ETIMEDOUT)
			return e;
		error = e ? e : error;
	}
	return error;
}

static int make_ordinary(struct leaving *l)
{
	struct ovc_host *host = l->r->vm->host;
	int error = 0;
	bool more;

	do {
		ovc_control_lock(host);
		more = ovc_lay_end(l->r, l->how == OVC_LEAVE_NONE, &error);
		ovc_control_unlock(host);
	} while (more);
	return error;
}

/* ---- unregistering ------------------------------------------------------------- */

/* Whatever else is mapped there now is not ours to unregister. */
static void unregister_one(void *arg, char *from, size_t len)
{
	ovc_uffd_unregister(*(int *)arg, from, len);
}

static int unregister_run(const struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	int error = -ENOMEM, fd = ovc_memory_uffd(r, idx);
	char *addr = ovc_page_addr(r, idx);

	/* The kernel may need memory to split a mapping. */
	for (unsigned i = 0; i < TRIES && error; i++)
		error = ovc_uffd_unregister(fd, addr, nr * OVC_PAGE);
	if (error == -EINVAL)
		error = ovc_pages_each_mapping(&r->vm->host->proc, addr,
					       nr * OVC_PAGE, unregister_one,
					       &fd);
	return error;
}

/* The pages are back and the region goes, also where this fails. */
static void unregister(const struct ovc_region *r)
{
	bool mixed = atomic_load(&r->promises);
	int error = 0, e;

	/* One run, unless something could not be made ordinary. */
	for (uint64_t i = 0, n; i < r->nr; i += n) {
		n = r->nr - i < PIECE ? r->nr - i : PIECE;
		for (uint64_t k = 1; mixed && k < n; k++)
			if (ovc_is_laid(r, i + k) != ovc_is_laid(r, i))
				n = k;
		e = unregister_run(r, i, n);
		error = error ? error : e;
	}
	if (error)
		ovc_log(r->vm->host, OVC_LOG_ERROR,
			"%s: region %p cannot be unregistered: %s; where it is "
			"still mapped, a touch of an absent page hangs until "
			"the userfaultfd is closed",
			r->vm->name, (void *)r->base, strerror(-error));
}

/* ---- what the VMM unmapped ------------------------------------------------- */

static void find_hole(struct ovc_region *r)
{
	size_t len;
	char *at;

	if (!ovc_pages_hole(&r->vm->host->proc, r->base, r->nr * OVC_PAGE, &at,
			    &len))
		return;
	r->hole = (uint64_t)(at - r->base) / OVC_PAGE;
	r->hole_end = r->hole + len / OVC_PAGE;
}

/* The sentence, where some of the region was not there any more. */
static int tell_hole(const struct ovc_region *r, int error)
{
	uint64_t from = r->hole, to = r->hole_end;

	if (from >= to) {
		from = atomic_load(&r->unmapped_from);
		to = atomic_load(&r->unmapped_to);
	}
	if (from >= to)
		return error;
	return ovc_fail(-EFAULT,
			"remove_region: of the region at %p the range from %p "
			"to %p was unmapped, or mapped anew, before; the rest "
			"of it is removed. Remove a region first, then unmap "
			"it",
			(void *)r->base, (void *)ovc_page_addr(r, from),
			(void *)ovc_page_addr(r, to));
}

/* ---- forgetting ------------------------------------------------------------------ */

struct forget {
	struct ovc_job job;
	struct ovc_region *r;
};

static enum ovc_job_came forget_step(struct ovc_reclaim *rc,
				     struct ovc_job *job)
{
	struct ovc_region *r = ((struct forget *)job)->r;

	return ovc_reclaim_forget(rc, r) ? OVC_CAME_TO_END : OVC_CAME_NOWHERE;
}

/* Prefetches of a region that goes are forgotten; one that is under way sees that
 * the region is leaving, and ends. */
static void drop_requests(struct ovc_host *host, const struct ovc_region *r)
{
	for (unsigned i = 0; i < OVC_MAX_REQUESTS; i++) {
		struct ovc_request *q = &host->requests[i];
		int ready = OVC_SLOT_READY;

		if (q->region != r)
			continue;
		if (atomic_compare_exchange_strong(&q->state, &ready,
						   OVC_SLOT_BUSY))
			atomic_store(&q->state, OVC_SLOT_FREE);
		for (unsigned round = 0;
		     q->region == r && atomic_load(&q->state) == OVC_SLOT_BUSY;
		     round++) {
			ovc_wake_faulters(host);
			ovc_host_pause(host, round);
		}
	}
}

static uint64_t count_resident(struct ovc_region *r, uint64_t *lost)
{
	uint64_t nr = 0;

	*lost = 0;
	for (uint64_t i = 0; i < r->nr; i++) {
		enum ovc_state s = ovc_word_state(atomic_load(&r->words[i]));

		if (!(i % GROUP) && !ovc_region_touched(r, i)) {
			i += GROUP - 1;
			continue;
		}
		nr += s == OVC_RESIDENT;
		*lost += s == OVC_POISONED;
	}
	return nr;
}

/* Out of the VM's figures; and of the host's budget, unless the host ends. */
static void uncount(struct ovc_region *r)
{
	struct ovc_vm *vm = r->vm;
	uint64_t lost, nr = count_resident(r, &lost);

	atomic_fetch_sub(&vm->resident, nr);
	atomic_fetch_sub(&vm->poisoned, lost);
	if (!atomic_load(&vm->host->ending))
		ovc_uncharge(vm->host, nr);
}

/* ---- all of it --------------------------------------------------------------------- */

void ovc_leave_begin(struct ovc_region *r)
{
	atomic_store(&r->leaving, true);
	ovc_sample_forget(r->vm, r);
}

static int begin(struct leaving *l)
{
	struct ovc_region *r = l->r;
	struct ovc_host *host = r->vm->host;
	uint64_t absent = ovc_room_absent(r), missing = 0;

	ovc_control_lock(host);
	if (l->how == OVC_LEAVE_ALL && atomic_load(&r->tracked))
		missing = ovc_room_missing(r->vm, r, absent, SLACK);
	if (!missing)
		ovc_leave_begin(r);
	ovc_control_unlock(host);
	if (missing)
		return ovc_fail(-ENOMEM,
				"remove_region: %llu MiB of it are absent, and "
				"the budget, or the VM's limit, is %llu KiB "
				"short of them: raise it, or say "
				"OVC_THROW_AWAY",
				(unsigned long long)absent * OVC_PAGE >> 20,
				(unsigned long long)missing * OVC_PAGE >> 10);
	ovc_share_quiesce(host);
	drop_requests(host, r);
	find_hole(r);
	return 0;
}

static int end_tracking(struct leaving *l)
{
	struct ovc_region *r = l->r;
	struct ovc_host *host = r->vm->host;
	struct forget f = { .job.step = forget_step,
			    .job.patience = OVC_ANSWER_NS,
			    .r = r };
	int error = bring_back(l), laid;

	if (error == -ETIMEDOUT) {
		atomic_store(&r->leaving, false);
		return ovc_fail(error,
				"remove_region: memory, or the swap of %s, was "
				"waited for in vain for %llu s",
				r->vm->name, OVC_PATIENCE_NS / 1000000000);
	}
	laid = make_ordinary(l);
	ovc_control_lock(host);
	atomic_store(&r->gone, true);
	ovc_control_unlock(host);
	unregister(r);
	/* Who served a fault of it until now has counted it, and put it on
	 * probation, afterwards; later ones find nothing registered. */
	ovc_host_quiesce(host);
	ovc_job_run(host, &f.job);
	if (l->lost)
		ovc_log(host, OVC_LOG_ERROR,
			"%s: %llu KiB of region %p could not be read, or had no "
			"room, and are poisoned",
			r->vm->name,
			(unsigned long long)l->lost * OVC_PAGE >> 10,
			(void *)r->base);
	return error ? error : laid;
}

/* A page that was being read while all was thrown away may have been held back. No fault
 * thread looks at the region any more. */
static void drop_held(struct ovc_region *r)
{
	struct ovc_host *host = r->vm->host;
	bool busy;

	for (unsigned i = 0; i < host->nr_faulters * OVC_HOLDS; i++)
		if (atomic_load(&host->holds[i].region) == r)
			ovc_drop_begin(r, host->holds[i].idx, &busy);
}

int ovc_leave(struct ovc_region *r, enum ovc_leave_how how)
{
	struct leaving l = { .r = r, .how = how };
	struct ovc_host *host = r->vm->host;
	int error = begin(&l);

	if (error)
		return error;
	if (r->registered)
		error = end_tracking(&l);
	if (error == -ETIMEDOUT)
		return error;
	error = tell_hole(r, error);
	ovc_region_disown(r);
	ovc_control_lock(host);
	if (r->registered) {
		ovc_promise_end(r);
		drop_held(r);
		ovc_pager_check_unheld(host, r);
		uncount(r);
		atomic_store(&r->tracked, false);
	}
	ovc_vm_take_out(r);
	if (ovc_bury_region(r))
		r = NULL;
	ovc_control_unlock(host);
	if (r)
		ovc_region_free(r);
	return error;
}
