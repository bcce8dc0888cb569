/* SPDX-License-Identifier: MIT */
/*
 * Classify and settle: where a staged page lives from now on.
 *
 *   all zero       nowhere: its frame is dropped
 *   clean          its slot has it already: dropped
 *   in a slot      of the same file, by another page (dedupe.c): that slot has two
 *                  from now on; dropped
 *   raw            up to 256 pages go to contiguous slots with one write; then
 *                  dropped
 *   equal to one of the store (merge.c says so)   the store: dropped, and mapped
 *                  where the guest still reads it and a mapping can be had
 *   put back meanwhile   nothing; the slot that it was written to is free again
 *
 * Failures: a write that fails puts its pages back; the VM's swap is left alone for
 * a second, and the VMM is told. A frame that the kernel will not drop goes back to
 * the guest.
 */
#include <errno.h>
#include <string.h>

#include "budget.h"
#include "disk.h"
#include "domain.h"
#include "events.h"
#include "govern.h"
#include "lay.h"
#include "memory/memory.h"
#include "pager.h"
#include "reclaim.h"
#include "untaken.h"

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

/* A slot that the entry still has is of no more use. */
static void free_slot(struct ovc_entry *e)
{
	uint64_t slot = atomic_exchange(&e->slot, OVC_NO_SLOT);

	if (slot != OVC_NO_SLOT)
		ovc_swap_free(e->region->vm->swap, slot);
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
		free_slot(e);
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

bool ovc_entry_named(uint64_t w, uint64_t pos)
{
	enum ovc_state s = ovc_word_state(w);

	return ovc_word_value(w) == pos &&
	       (s == OVC_STAGED || s == OVC_WRITING || s == OVC_DOOMED ||
		s == OVC_FILLING || s == OVC_DROPPING);
}

/* A memfd's page that was put back while we looked at it, and then thrown away, came to
 * life again by our look: a page of zeros that nobody is charged for. */
static void drop_looked_at(struct ovc_region *r, uint64_t idx)
{
	uint64_t w = atomic_load(&r->words[idx]);

	if (!r->view || ovc_is_laid(r, idx) || ovc_word_state(w) != OVC_EMPTY ||
	    ovc_page_try(&r->words[idx], &w, OVC_EV_FAULT, 0) != OVC_ACT_ZERO)
		return;
	r->memory->drop(r, idx, 1);
	ovc_pager_end(r, idx, OVC_EV_UNFILLED, 0);
}

/* Nobody names the entry any more: its slot, if it still has one, is free. */
void ovc_entry_finish(struct ovc_entry *e)
{
	free_slot(e);
	if (!e->frame && !e->settled && !atomic_load(&e->region->gone))
		drop_looked_at(e->region, e->idx);
	ovc_entry_clear(e);
}

bool ovc_is_zero(const char *page)
{
	const uint64_t *w = (const void *)page;

	for (unsigned i = 0; i < OVC_PAGE / 8; i += 8)
		if (w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] |
		    w[i + 5] | w[i + 6] | w[i + 7])
			return false;
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

/* Writing failed: the VM's swap rests for a while. */
static void write_failed(struct ovc_vm *vm, int error,
			 const struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	atomic_store(&vm->last_error, -error);
	OVC_COUNT(vm, write_errors, 1);
	vm->retry_at = ovc_now_ns() + OVC_RETRY_NS;
	if (!atomic_load(&vm->write_error))
		vm->failing_since = ovc_now_ns();
	if (atomic_exchange(&vm->write_error, -error) != -error) {
		const struct ovc_news news = {
			.type = OVC_EVENT_WRITE_FAILED,
			.error = -error,
			.vm = vm,
			.region = r,
			.idx = idx,
			.len = nr * OVC_PAGE,
			.words = ovc_swap_error(vm->swap, -error),
		};

		ovc_events_tell(vm->host, &news);
		ovc_log(vm->host, OVC_LOG_WARNING,
			"%s: swap-out failed: %s; pages stay in memory",
			vm->name, news.words);
	}
}

static void batch_put_back(struct ovc_reclaim *rc, unsigned from, int error)
{
	struct ovc_entry *first = ovc_entry_at(rc->host, rc->batch[from]);

	if (error)
		write_failed(rc->batch_vm, error, first->region, first->idx,
			     rc->batch_nr - from);
	for (unsigned i = from; i < rc->batch_nr; i++) {
		struct ovc_entry *e = ovc_entry_at(rc->host, rc->batch[i]);

		e->busy = 0;
		ovc_settle_put_back(rc, e, rc->batch[i]);
	}
}

/* Starts one write of nr pages of the batch to contiguous slots. */
static void start_write(struct ovc_reclaim *rc, unsigned from, unsigned nr,
			uint64_t slot)
{
	struct ovc_write *io = &rc->ios[rc->idle[--rc->nr_idle]];
	struct ovc_vm *vm = rc->batch_vm;
	unsigned runs = 0;
	struct ovc_ring_io op = {
		.write = true,
		.file = vm->index,
		.disk = vm->disk->number,
		.fd = ovc_swap_file(vm->swap)->fd,
		.iov = io->iov,
		.offset = slot * OVC_PAGE,
		.user = (uint64_t)(io - rc->ios),
	};

	io->check = false;
	io->since = ovc_now_ns();
	io->vm = vm;
	io->nr = nr;
	for (unsigned i = 0; i < nr; i++) {
		uint64_t pos = rc->batch[from + i];
		struct ovc_entry *e = ovc_entry_at(rc->host, pos);
		char *at = ovc_pager_view(e->region, e->idx, pos);

		ovc_swap_set_sum(vm->swap, slot + i, rc->batch_sum[from + i]);
		e->wslot = slot + i;
		io->pos[i] = pos;
		if (runs && (char *)io->iov[runs - 1].iov_base +
					    io->iov[runs - 1].iov_len ==
				    at)
			io->iov[runs - 1].iov_len += OVC_PAGE;
		else
			io->iov[runs++] = (struct iovec){ at, OVC_PAGE };
	}
	op.nr_iov = runs;
	rc->writing += nr;
	vm->writing += nr;
	ovc_disk_begin(vm);
	if (!ovc_ring_queue(rc->ring, &op))
		ovc_bug("the reclaim ring is full", 0);
}

/* Writes the batch out, in as few pieces as its swap has room for. */
static void flush_batch(struct ovc_reclaim *rc)
{
	struct ovc_vm *vm = rc->batch_vm;
	unsigned at = 0;
	bool full = false; /* out of writes in flight is no failure */

	while (at < rc->batch_nr && vm->swap && rc->nr_idle &&
	       (!at || ovc_disk_may_write(vm))) {
		uint64_t slot;
		uint64_t got =
			ovc_swap_take(vm->swap, rc->batch_nr - at, &slot);

		full = !got;
		if (full)
			break;
		start_write(rc, at, (unsigned)got, slot);
		at += (unsigned)got;
	}
	if (at < rc->batch_nr) {
		if (!vm->swap)
			vm->retry_at = ovc_now_ns() + OVC_RETRY_NS;
		batch_put_back(rc, at, full ? -ENOSPC : 0);
	}
	rc->batch_nr = 0;
}

void ovc_settle_write(struct ovc_reclaim *rc, struct ovc_entry *e, uint64_t pos,
		      uint64_t sum)
{
	if (rc->batch_nr &&
	    (rc->batch_vm != e->region->vm || rc->batch_nr == OVC_CLUSTER))
		flush_batch(rc);
	rc->batch_vm = e->region->vm;
	rc->batch[rc->batch_nr] = pos;
	rc->batch_sum[rc->batch_nr++] = sum;
	e->busy = 1;
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
		    OVC_ACT_BUG)
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
		flush_batch(rc);
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
		    OVC_ACT_BUG)
		return;
	free_slot(e);
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

		write_failed(vm, error, e->region, e->region ? e->idx : 0,
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
