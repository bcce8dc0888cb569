/* SPDX-License-Identifier: MIT */
/*
 * Stage: the coldest pages are taken from the guest and queue in the ring.
 *
 * What comes first are pages on probation, oldest first; then what the clock's hand
 * finds as it goes through memory by address, a chunk at a time (policy/clock.c
 * decides). A range call takes whatever it can.
 *
 * Shared pages come last, when there was nothing else.
 *
 * Failures: a page that the kernel will not take stays with the guest, rests (untaken.c),
 * and its place in the ring is lost until the tail passes; one that is not there (the
 * VMM dropped it) is forgotten. A region of which all that could be tried rests is not
 * visited for a while.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/budget.h"
#include "core/probation.h"
#include "core/tables.h"
#include "in/pager.h"
#include "memory/memory.h"
#include "out/reclaim.h"
#include "out/staging.h"
#include "share/domain.h"
#include "share/lay.h"
#include "store/shared.h"
#include "trouble/disk.h"
#include "trouble/untaken.h"

#define REST_NS 20000000ull /* of a region's hand */

/* Prepares one page: STAGING, with an entry. False: it is no candidate. */
static bool prepare(struct ovc_region *r, uint64_t idx, uint64_t w,
		    struct ovc_taken *t)
{
	uint64_t pos = ovc_staging_next(r->vm);
	struct ovc_entry *e;
	bool clean = ovc_word_state(w) == OVC_CLEAN;

	if (pos == OVC_NO_PLACE ||
	    ovc_page_try(&r->words[idx], &w, OVC_EV_STAGE, 0) != OVC_ACT_TAKE)
		return false;
	*t = (struct ovc_taken){ .idx = idx, .pos = pos, .clean = clean };
	e = ovc_entry_at(r->vm->host, pos);
	e->region = r;
	r->entries++;
	e->idx = idx;
	e->frame = e->busy = e->settled = 0;
	atomic_store(&e->slot, clean ? ovc_word_value(w) : OVC_NO_SLOT);
	ovc_staging_push(r->vm);
	return true;
}

static void note_clean(struct ovc_vm *vm, bool kept)
{
	atomic_fetch_add_explicit(kept ? &vm->clean_kept : &vm->clean_lost, 1,
				  memory_order_relaxed);
	if (atomic_load(&vm->clean_kept) + atomic_load(&vm->clean_lost) < 1024)
		return;
	atomic_store(&vm->clean_kept, atomic_load(&vm->clean_kept) / 2);
	atomic_store(&vm->clean_lost, atomic_load(&vm->clean_lost) / 2);
}

static void taken(struct ovc_region *r, struct ovc_entry *e,
		  const struct ovc_taken *t)
{
	struct ovc_vm *vm = r->vm;
	uint64_t slot = atomic_load(&e->slot);
	enum ovc_action action;
	struct ovc_touched touched;

	if (slot != OVC_NO_SLOT) {
		note_clean(vm, t->clean);
		if (!t->clean) {
			atomic_store(&e->slot, OVC_NO_SLOT);
			ovc_swap_free(vm->swap, slot);
		}
	}
	e->frame = ovc_memory_of(r, t->idx)->frames_in_window;
	atomic_fetch_sub(&vm->resident, 1);
	atomic_fetch_add(&vm->staged, 1);
	if (ovc_page_end(&r->words[t->idx], OVC_EV_TAKEN, t->pos, &action) &
	    OVC_W_WANTED)
		/* Nobody knows if it will be written: a clean one keeps its slot. */
		ovc_pager_touch(r, t->idx, slot == OVC_NO_SLOT || !t->clean,
				false, &touched);
}

/* The guest still has it, or nobody does. */
static void not_taken(struct ovc_region *r, struct ovc_entry *e,
		      const struct ovc_taken *t)
{
	struct ovc_vm *vm = r->vm;
	uint64_t slot = atomic_exchange(&e->slot, OVC_NO_SLOT);
	bool gone = t->error == -ENOENT;

	ovc_entry_clear(e);
	if (slot != OVC_NO_SLOT && !gone && t->clean) {
		ovc_pager_end(r, t->idx, OVC_EV_KEPT_CLEAN, slot);
		return;
	}
	if (gone) {
		atomic_fetch_sub(&vm->resident, 1);
		ovc_uncharge(vm->host, 1);
	}
	ovc_pager_end(r, t->idx, gone ? OVC_EV_VANISHED : OVC_EV_KEPT, 0);
	if (slot != OVC_NO_SLOT)
		ovc_swap_free(vm->swap, slot);
}

/* Was it refused for good, or for a while? */
static bool is_refusal(int error)
{
	return error && error != -ENOENT && error != -EAGAIN;
}

static void note_refused(struct ovc_region *r, const struct ovc_taken *t,
			 unsigned nr)
{
	uint64_t idx[OVC_CHUNK];
	unsigned n = 0;
	int error = 0;

	for (unsigned i = 0; i < nr; i++) {
		if (is_refusal(t[i].error)) {
			error = error ? error : t[i].error;
			idx[n++] = t[i].idx;
		} else if (r->untaken) {
			ovc_untaken_clear(r, t[i].idx);
		}
	}
	if (n)
		ovc_untaken_refused(r, idx, n, error);
}

/* Stages candidates of one chunk; idx rising. Returns how many were taken. *moving: some
 * were somebody else's for a moment, or the kernel's. */
static unsigned stage_chunk(struct ovc_region *r, const uint64_t *idx,
			    const uint64_t *words, unsigned nr, bool *moving)
{
	struct ovc_taken t[OVC_CHUNK];
	unsigned got = 0, n = 0;

	for (unsigned i = 0; i < nr; i++) {
		if (prepare(r, idx[i], words[i], &t[n])) {
			n++;
			continue;
		}
		*moving = true;
		if (r->untaken) /* it is another page by now */
			ovc_untaken_clear(r, idx[i]);
	}
	if (n)
		ovc_memory_stage(r, t, n);
	for (unsigned i = 0; i < n; i++) {
		struct ovc_entry *e = &r->vm->host->staging.entries[t[i].pos];

		if (t[i].error)
			not_taken(r, e, &t[i]);
		else
			taken(r, e, &t[i]);
		got += !t[i].error;
		*moving |= t[i].error == -EAGAIN;
	}
	if (got < n || r->untaken)
		note_refused(r, t, n);
	return got;
}

static bool candidate(uint64_t w)
{
	enum ovc_state s = ovc_word_state(w);

	return (s == OVC_RESIDENT || s == OVC_CLEAN) && !ovc_word_pins(w);
}

unsigned ovc_stage_pages(struct ovc_region *r, const uint64_t *idx, unsigned nr)
{
	uint64_t own[OVC_CHUNK], words[OVC_CHUNK], now = ovc_now_ns();
	unsigned n = 0;
	bool moving = false; /* nobody asks */

	if (r->refused != OVC_UNTAKEN_NR)
		return 0;
	for (unsigned i = 0; i < nr; i++) {
		uint64_t w = atomic_load(&r->words[idx[i]]);

		if (!candidate(w) || ovc_untaken_rests(r, idx[i], now))
			continue;
		own[n] = idx[i];
		words[n++] = w;
	}
	return n ? stage_chunk(r, own, words, n, &moving) : 0;
}

/* May this VM's pages go anywhere? */
bool ovc_vm_stageable(const struct ovc_vm *vm, uint64_t now)
{
	return now >= vm->retry_at && atomic_load(&vm->resident) &&
	       !ovc_disk_is_busy(vm);
}

/*
 * The hand looks at one chunk; `all` takes whatever it can, else the clock decides.
 * *moving: some were just coming in, or going out.
 */
unsigned ovc_stage_chunk(struct ovc_region *r, uint64_t first, uint64_t nr,
			 bool all, bool *moving)
{
	uint64_t idx[OVC_CHUNK], words[OVC_CHUNK];
	uint64_t now = r->untaken && !all ? ovc_now_ns() : 0;
	unsigned n = 0;

	for (uint64_t i = first; i < first + nr; i++) {
		uint64_t w = atomic_load(&r->words[i]);
		uint32_t heat = ovc_word_heat(w), was = heat;

		*moving |= ovc_word_transient(w);
		if (!candidate(w)) {
			if (r->untaken)
				ovc_untaken_clear(r, i);
			continue;
		}
		if (now && ovc_untaken_rests(r, i, now)) {
			r->lap_rests = true;
			continue;
		}
		r->lap_open = true;
		if (!all && !ovc_clock_examine(&heat)) {
			if (heat != was)
				ovc_page_set_heat(&r->words[i], heat);
			continue;
		}
		idx[n] = i;
		words[n++] = w;
	}
	return n ? stage_chunk(r, idx, words, n, moving) : 0;
}

/* Moves a region's hand by one chunk, over words that were never used in one go.
 * Returns false at the region's end. */
static bool hand_step(struct ovc_region *r, unsigned *got)
{
	uint64_t first = r->hand, nr = r->nr - first;
	bool moving = false;

	if (!ovc_region_touched(r, first)) {
		r->hand = (first / 512 + 1) * 512;
	} else {
		if (nr > OVC_CHUNK)
			nr = OVC_CHUNK;
		*got += ovc_stage_chunk(r, first, nr, false, &moving);
		r->hand = first + nr;
	}
	if (r->hand < r->nr)
		return true;
	r->hand = 0;
	if (r->lap_rests && !r->lap_open)
		r->rest_until = ovc_now_ns() + REST_NS;
	r->lap_rests = r->lap_open = false;
	return false;
}

/* Has the hand nothing to do there now? */
static bool is_closed(const struct ovc_region *r, uint64_t now)
{
	return !atomic_load(&r->tracked) || atomic_load(&r->leaving) ||
	       r->refused != OVC_UNTAKEN_NR || now < r->rest_until;
}

/* The hand over one VM: at most a lap, until `want` pages were staged. */
unsigned ovc_stage_vm(struct ovc_vm *vm, unsigned want, unsigned *chunks)
{
	unsigned got = 0, regions = 0;
	uint64_t now = ovc_now_ns();

	while (got < want && *chunks && regions <= vm->nr_regions &&
	       ovc_staging_room(vm) > OVC_CHUNK && vm->nr_regions) {
		struct ovc_region *r = vm->regions[vm->hand % vm->nr_regions];

		--*chunks;
		if (is_closed(r, now) || !hand_step(r, &got)) {
			vm->hand++;
			regions++;
		}
	}
	return got;
}

static unsigned sweep(struct ovc_host *host, unsigned want, uint64_t now,
		      uint64_t (*may)(const struct ovc_vm *vm))
{
	unsigned got = 0, chunks = 8192, idle = 0;

	while (got < want && chunks && idle <= host->nr_vms && host->nr_vms) {
		struct ovc_vm *vm = NULL;
		unsigned some = 0;

		vm = host->vms[host->hand % OVC_MAX_VMS];
		if (vm && ovc_vm_stageable(vm, now)) {
			uint64_t most = may(vm);

			most = most < want - got ? most : want - got;
			some = ovc_stage_vm(vm, (unsigned)most, &chunks);
		}
		got += some;
		/* A VM is left when its lap is done or it has nothing. */
		if (!some || vm->hand % vm->nr_regions == 0) {
			unsigned was = host->hand;

			do {
				host->hand = (host->hand + 1) % OVC_MAX_VMS;
			} while (!host->vms[host->hand] && host->hand != was);
			idle = some ? 0 : idle + 1;
		}
	}
	return got;
}

unsigned ovc_stage_sweep(struct ovc_host *host, unsigned want, uint64_t now)
{
	unsigned got = sweep(host, want, now, ovc_vm_over);

	if (got < want)
		got += sweep(host, want - got, now, ovc_vm_not_guaranteed);
	return got;
}

/* ---- shared pages ------------------------------------------------------- */

#define SHARED_STEP 256 /* pages, and so frames, at once */

/*
 * Shared pages go last: one frame of the store is free only when all who name it have
 * let go. A page that is mapped is unmapped first; one that was not touched until the
 * next visit is staged like any other, with a copy of the store's bytes.
 */
static bool stage_stored(struct ovc_region *r, uint64_t idx)
{
	struct ovc_vm *vm = r->vm;
	struct ovc_entry *e;
	uint64_t w = atomic_load(&r->words[idx]), page = ovc_word_value(w);
	struct ovc_taken t;

	if (ovc_word_state(w) != OVC_STORED || ovc_word_pins(w) ||
	    !prepare(r, idx, w, &t))
		return false;
	e = ovc_entry_at(vm->host, t.pos);
	ovc_charge_force(vm, 1);
	if (ovc_memory_stage_bytes(r, idx, t.pos,
				   ovc_shared_view(vm->host->store, page))) {
		ovc_uncharge(vm->host, 1);
		ovc_entry_clear(e);
		ovc_pager_end(r, idx, OVC_EV_TO_STORE, page);
		return false;
	}
	atomic_fetch_sub(&vm->shared, 1);
	atomic_fetch_add(&vm->resident, 1); /* which taken() takes away */
	taken(r, e, &t);
	ovc_domain_unref(vm, page);
	return true;
}

static unsigned stage_shared_of(struct ovc_region *r, unsigned want,
				unsigned *chunks)
{
	unsigned got = 0;

	while (got < want && *chunks && ovc_staging_room(r->vm) > OVC_CHUNK) {
		uint64_t first = r->shared_hand, nr = r->nr - first;

		--*chunks;
		nr = nr < OVC_CHUNK ? nr : OVC_CHUNK;
		for (uint64_t i = first; i < first + nr; i++)
			got += stage_stored(r, i);
		ovc_lay_unmap(r, first, nr);
		r->shared_hand = first + nr < r->nr ? first + nr : 0;
		if (!r->shared_hand)
			break;
	}
	return got;
}

/* Has a VM somewhere to put them? Each takes a frame on its way. */
static bool has_swap(const struct ovc_vm *vm, uint64_t now)
{
	return vm && vm->swap && now >= vm->retry_at && !ovc_disk_is_busy(vm) &&
	       atomic_load(&vm->shared) &&
	       ovc_swap_used(vm->swap) * OVC_PAGE < ovc_swap_size(vm->swap);
}

unsigned ovc_stage_shared(struct ovc_host *host, unsigned want, uint64_t now)
{
	unsigned got = 0, chunks = 256;

	want = want < SHARED_STEP ? want : SHARED_STEP;
	for (unsigned i = 0; i < host->end && got < want && chunks; i++) {
		struct ovc_vm *vm = host->vms[host->shared_hand++ % host->end];

		for (unsigned k = 0; has_swap(vm, now) && k < vm->nr_regions;
		     k++)
			if (!vm->regions[k]->leaving &&
			    atomic_load(&vm->regions[k]->tracked))
				got += stage_shared_of(vm->regions[k],
						       want - got, &chunks);
	}
	return got;
}

/* ---- probation --------------------------------------------------------- */

static int by_index(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Stages pages that are not in order, all of one region. */
static unsigned stage_scattered(struct ovc_region *r, uint64_t *idx,
				unsigned nr)
{
	uint64_t words[OVC_CHUNK], now = ovc_now_ns();
	unsigned n = 0;
	bool moving = false; /* nobody asks */

	if (r->refused != OVC_UNTAKEN_NR)
		return 0;
	qsort(idx, nr, sizeof(*idx), by_index);
	for (unsigned i = 0; i < nr; i++) {
		uint64_t w = atomic_load(&r->words[idx[i]]);

		if ((n && idx[n - 1] == idx[i]) || !candidate(w) ||
		    ovc_untaken_rests(r, idx[i], now) ||
		    ovc_clock_freq(ovc_word_heat(w)))
			continue;
		idx[n] = idx[i];
		words[n++] = w;
	}
	return n ? stage_chunk(r, idx, words, n, &moving) : 0;
}

/* The oldest on probation, beyond those that may stay. */
unsigned ovc_stage_probation(struct ovc_reclaim *rc, unsigned want,
			     uint64_t now)
{
	struct ovc_host *host = rc->host;
	uint64_t stay = ovc_clock_probation_limit(atomic_load(&host->allowed));
	uint64_t waiting = ovc_probation_waiting(host);
	uint64_t idx[OVC_CHUNK], one;
	struct ovc_region *last = NULL, *r;
	unsigned n = 0, got = 0;

	while (waiting > stay && got + n < want && host->staging.nr_free &&
	       ovc_probation_pop(host, &rc->probation_turn, &r, &one)) {
		waiting--;
		if (!r || r->leaving || !ovc_vm_stageable(r->vm, now) ||
		    !ovc_vm_not_guaranteed(r->vm))
			continue;
		if (n == OVC_CHUNK || (n && r != last)) {
			got += stage_scattered(last, idx, n);
			n = 0;
		}
		last = r;
		idx[n++] = one;
	}
	if (n)
		got += stage_scattered(last, idx, n);
	return got;
}
