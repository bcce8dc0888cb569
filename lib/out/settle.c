/* SPDX-License-Identifier: MIT */
/*
 * Classify: where a staged page lives from now on.
 *
 *   all zero       nowhere
 *   clean          its slot has it already
 *   in a slot      of the same file, by another page (dedupe.c): that slot has two
 *                  from now on
 *   raw            a slot that it is written to (writeback.c)
 *   equal to one of the store (merge.c says so)   the store, and mapped where the
 *                  guest still reads it and a mapping can be had
 *   put back meanwhile   nothing; the slot that it was written to is free again
 *
 * Then it lets go of its frame: evict.c.
 *
 * Failures: a page that cannot be read goes back, and is lost by that. What a write
 * could not take goes back, too.
 */
#include <errno.h>
#include <string.h>

#include "core/budget.h"
#include "core/events.h"
#include "in/pager.h"
#include "memory/memory.h"
#include "out/reclaim.h"
#include "out/staging.h"
#include "trouble/disk.h"

bool ovc_is_zero(const char *page)
{
	const uint64_t *w = (const void *)page;

	for (unsigned i = 0; i < OVC_PAGE / 8; i += 8)
		if (w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] |
		    w[i + 5] | w[i + 6] | w[i + 7])
			return false;
	return true;
}

/*
 * Classifies a page that is WRITING. Its old slot, if it has one, is good for a
 * memfd; for anonymous memory only if the bytes agree (see memory/anon.c).
 */
static void classify(struct ovc_reclaim *rc, struct ovc_entry *e, uint64_t pos)
{
	struct ovc_region *r = e->region;
	struct ovc_vm *vm = r->vm;
	uint64_t slot = atomic_exchange(&e->slot, OVC_NO_SLOT);
	const char *bytes = ovc_pager_view(r, e->idx, pos);
	uint64_t sum;

	if (slot != OVC_NO_SLOT && !e->frame) {
		if (ovc_settle_to(rc, e, pos, ovc_home_slot(slot)))
			OVC_COUNT(vm, clean, 1);
		else
			ovc_swap_free(vm->swap, slot);
		return;
	}
	if (ovc_is_zero(bytes)) {
		if (ovc_settle_to(rc, e, pos, ovc_home_slot(OVC_NO_SLOT)))
			OVC_COUNT(vm, zero, 1);
		if (slot != OVC_NO_SLOT)
			ovc_swap_free(vm->swap, slot);
		return;
	}
	sum = ovc_swap_checksum(bytes);
	if (slot != OVC_NO_SLOT) {
		if (sum == ovc_swap_sum(vm->swap, slot) &&
		    ovc_settle_to(rc, e, pos, ovc_home_slot(slot))) {
			OVC_COUNT(vm, clean, 1);
			return;
		}
		ovc_swap_free(vm->swap, slot);
	}
	if (!ovc_dedupe_try(rc, e, pos, sum))
		ovc_settle_write(rc, e, pos, sum);
}

/* A page whose frame cannot be read: to put it back finds that out, too, and poisons it. Its
 * slot is not known to be as good. */
static void lose(struct ovc_reclaim *rc, struct ovc_entry *e, uint64_t pos)
{
	uint64_t slot = atomic_exchange(&e->slot, OVC_NO_SLOT);

	if (slot != OVC_NO_SLOT && !e->frame) {
		if (!ovc_settle_to(rc, e, pos, ovc_home_slot(slot)))
			ovc_swap_free(e->region->vm->swap, slot);
		return;
	}
	if (slot != OVC_NO_SLOT)
		ovc_swap_free(e->region->vm->swap, slot);
	ovc_settle_put_back(rc, e, pos);
}

/* Looks at one entry of the ring; true: it is (or will be) on its way out. */
bool ovc_settle_one(struct ovc_reclaim *rc, struct ovc_entry *e, uint64_t pos)
{
	uint64_t w;

	if (!e->region || e->busy)
		return false;
	w = atomic_load(&e->region->words[e->idx]);
	if (!ovc_entry_named(w, pos)) {
		ovc_entry_finish(e);
		return false;
	}
	if (ovc_word_state(w) == OVC_DOOMED)
		return ovc_settle_to(rc, e, pos, ovc_home_slot(OVC_NO_SLOT));
	if (ovc_word_state(w) != OVC_STAGED ||
	    ovc_page_try(&e->region->words[e->idx], &w, OVC_EV_CLAIM, pos) ==
		    OVC_ACT_RACED)
		return false;
	if (!ovc_sound(rc, e, pos)) {
		lose(rc, e, pos);
		return false;
	}
	classify(rc, e, pos);
	return true;
}

/* Writes, and drops, what was put together. */
void ovc_settle_flush(struct ovc_reclaim *rc)
{
	if (rc->batch_nr)
		ovc_write_batch(rc);
	ovc_dedupe_flush(rc);
	ovc_settle_drops(rc);
	ovc_sound_forget(rc);
}

/* Would the VM hold less than it is guaranteed if one page more went? */
static bool is_guaranteed(const struct ovc_reclaim *rc, const struct ovc_vm *vm)
{
	uint64_t min = atomic_load(&vm->min);
	uint64_t entitled = atomic_load(&vm->entitled), going;

	if (!min)
		return false;
	going = vm->writing + (rc->batch_vm == vm ? rc->batch_nr : 0);
	return ovc_vm_held(vm) <= going + (min < entitled ? min : entitled);
}

/* A page that was staged, and that is not to go. */
static void keep(struct ovc_reclaim *rc, struct ovc_entry *e, uint64_t pos)
{
	uint64_t w = atomic_load(&e->region->words[e->idx]);

	if (e->busy || !ovc_entry_named(w, pos) ||
	    ovc_word_state(w) != OVC_STAGED ||
	    ovc_page_try(&e->region->words[e->idx], &w, OVC_EV_CLAIM, pos) ==
		    OVC_ACT_RACED)
		return;
	ovc_entry_free_slot(e);
	ovc_settle_put_back(rc, e, pos);
}

/* Settles up to `want` of a segment; what is guaranteed is kept, unless it is `due`
 * whatever is. Returns how many are on their way out. */
static uint64_t settle_segment(struct ovc_reclaim *rc, struct ovc_segment *seg,
			       uint64_t want, bool due)
{
	const struct ovc_staging *s = &rc->host->staging;
	uint64_t got = 0;

	while (got < want && seg->next < seg->head &&
	       ovc_disk_may_write(seg->vm)) {
		uint64_t pos = ovc_segment_first(s, seg) + seg->next++;
		struct ovc_entry *e = ovc_entry_at(rc->host, pos);

		if (!due && e->region &&
		    (atomic_load(&e->region->leaving) ||
		     is_guaranteed(rc, seg->vm)))
			keep(rc, e, pos);
		got += ovc_settle_one(rc, e, pos);
	}
	return got;
}

/* What was given back and staged again behind `next` would keep a tail from passing. */
void ovc_settle_tails(struct ovc_reclaim *rc)
{
	const struct ovc_staging *s = &rc->host->staging;

	for (const struct ovc_segment *seg = s->oldest; seg; seg = seg->newer) {
		uint64_t first = ovc_segment_first(s, seg);

		for (unsigned n = seg->tail;
		     n < seg->next && ovc_disk_may_write(seg->vm); n++) {
			struct ovc_entry *e = &s->entries[first + n];

			if (e->busy)
				break;
			ovc_settle_one(rc, e, first + n);
		}
	}
	ovc_settle_flush(rc);
	ovc_staging_advance(rc->host);
}

/* The oldest `want` pages that wait. */
void ovc_settle(struct ovc_reclaim *rc, uint64_t want)
{
	for (struct ovc_segment *seg = rc->host->staging.oldest; seg && want;
	     seg = seg->newer)
		want -= settle_segment(rc, seg, want, false);
	ovc_settle_flush(rc);
}

/* The oldest `want` pages of one VM. */
void ovc_settle_vm(struct ovc_reclaim *rc, const struct ovc_vm *vm,
		   uint64_t want)
{
	for (struct ovc_segment *seg = rc->host->staging.oldest; seg && want;
	     seg = seg->newer)
		if (seg->vm == vm)
			want -= settle_segment(rc, seg, want, true);
	ovc_settle_flush(rc);
}

/* No segment is free for what the VM is to stage: the oldest pages go though they need
 * not. */
void ovc_settle_room(struct ovc_reclaim *rc, const struct ovc_vm *vm)
{
	if (ovc_staging_room(vm) <= OVC_CHUNK)
		ovc_settle(rc, OVC_SETTLE_STEP);
}

/* ---- writes that are done ---------------------------------------------- */

static void written(struct ovc_reclaim *rc, struct ovc_write *io, uint64_t good,
		    int error)
{
	struct ovc_vm *vm = io->vm;

	for (unsigned i = 0; i < io->nr; i++) {
		struct ovc_entry *e = ovc_entry_at(rc->host, io->pos[i]);

		e->busy = 0;
		if (i < good &&
		    ovc_settle_to(rc, e, io->pos[i], ovc_home_slot(e->wslot))) {
			ovc_dedupe_note(rc, e, e->wslot);
			continue;
		}
		ovc_swap_free(vm->swap, e->wslot);
		if (i >= good)
			ovc_settle_put_back(rc, e, io->pos[i]);
	}
	ovc_settle_drops(rc);
	rc->writing -= io->nr;
	vm->writing -= io->nr;
	OVC_COUNT(vm, swap_out, good);
	/* Started by a thread that has ended since: nothing is wrong with the swap.
	 * And of what becomes of a VM that is out nobody wants to know. */
	if ((error == -ECANCELED && good < io->nr) || atomic_load(&vm->ending))
		return;
	if (good < io->nr) {
		struct ovc_entry *e = ovc_entry_at(rc->host, io->pos[good]);

		ovc_write_failed(vm, error, e->region, e->region ? e->idx : 0,
				 io->nr - good);
	} else if (atomic_exchange(&vm->write_error, 0)) {
		ovc_event_post(vm->host, OVC_EVENT_WRITE_RECOVERED, 0, vm, NULL,
			       0, 0);
	}
}

/* What kept the rest of a write from the disk: the kernel may only say how much went. */
static int why_not_all(struct ovc_reclaim *rc, const struct ovc_write *io,
		       uint64_t good, int result)
{
	const struct ovc_entry *e;

	if (good == io->nr || (result < 0 && result != -ENOSPC))
		return result;
	e = ovc_entry_at(rc->host, io->pos[good]);
	return ovc_file_short(ovc_swap_file(io->vm->swap),
			      result < 0 ? result : 0,
			      (e->wslot + 1) * OVC_PAGE);
}

unsigned ovc_settle_reap(struct ovc_reclaim *rc)
{
	struct ovc_ring_done done[OVC_DEPTH];
	unsigned nr = ovc_ring_reap(rc->ring, done, OVC_DEPTH);

	for (unsigned i = 0; i < nr; i++) {
		struct ovc_write *io = &rc->ios[done[i].user];
		int result = done[i].result;
		uint64_t good = result > 0 ? (uint64_t)result / OVC_PAGE : 0;

		if (io->check)
			ovc_dedupe_done(rc, io, result);
		else
			written(rc, io, good,
				why_not_all(rc, io, good, result));
		io->since = 0;
		ovc_disk_end(io->vm);
		rc->idle[rc->nr_idle++] = (uint8_t)done[i].user;
	}
	/* What was checked in vain is to be written. */
	ovc_settle_flush(rc);
	return nr;
}
