/* SPDX-License-Identifier: MIT */
/*
 * A fault thread's reads of swap: begun with a buffer of its own, verified and filled
 * when they are done.
 *
 * Failures: a read that fails is tried again page by page; the page that then fails
 * and was asked for is poisoned. What arrives for a region that is out is dropped.
 */
#include <errno.h>

#include "balloon/donate.h"
#include "core/probation.h"
#include "in/ask.h"
#include "in/faulter.h"
#include "memory/memory.h"
#include "trouble/disk.h"

#define AT_ONCE 64 /* reads that are looked at together */

void ovc_faulter_on_probation(void *arg, struct ovc_region *r, uint64_t idx)
{
	const struct ovc_faulter *f = arg;

	ovc_probation_push(f->host->probation[f->n], r, idx);
}

void ovc_faulter_note_latency(struct ovc_vm *vm, uint64_t since)
{
	uint64_t ns = ovc_now_ns() - since;

	ovc_hist_add(&vm->latency, ns);
	ovc_hist_add(&vm->host->latency, ns);
}

bool ovc_read_queue(struct ovc_faulter *f, const struct ovc_arrival *a,
		    uint64_t hold, uint64_t since, struct ovc_ask *ask)
{
	struct ovc_vm *vm = a->region->vm;
	struct ovc_ring_io io = { 0 };
	struct ovc_read *q;
	uint64_t got = 0, buffer;

	if (f->nr_idle && f->nr_free >= a->nr)
		got = ovc_slots_alloc(&f->free, (uint32_t)a->nr, &buffer);
	if (got < a->nr) {
		if (got)
			ovc_slots_free(&f->free, buffer, got);
		return false;
	}
	f->nr_free -= got;
	q = &f->ios[f->idle[--f->nr_idle]];
	q->a = *a;
	q->a.bytes = f->buffers + buffer * OVC_PAGE;
	q->buffer = buffer;
	q->hold = hold;
	q->since = since;
	q->ask = ask;
	q->iov.iov_base = f->buffers + buffer * OVC_PAGE;
	q->iov.iov_len = a->nr * OVC_PAGE;
	io.fixed = true;
	io.file = vm->index;
	io.disk = vm->disk->number;
	io.fd = ovc_swap_file(vm->swap)->fd;
	io.iov = &q->iov;
	io.nr_iov = 1;
	io.offset = a->slot * OVC_PAGE;
	io.user = (uint64_t)(q - f->ios);
	if (!ovc_ring_queue(f->ring, &io)) {
		f->idle[f->nr_idle++] = (uint16_t)(q - f->ios);
		ovc_slots_free(&f->free, buffer, got);
		f->nr_free += got;
		return false;
	}
	ovc_disk_read_begin(vm, f->n, a->nr);
	atomic_fetch_add(&a->region->ios, 1);
	f->queued = true;
	return true;
}

/* Faults that wait for the disk ask again. */
static void wake_parked(const struct ovc_host *host,
			const struct ovc_disk *disk)
{
	const struct ovc_map *map = atomic_load(&host->map);

	/* Without one, who makes it wakes all: map.c. */
	for (size_t i = 0; map && i < map->nr; i++) {
		struct ovc_region *r = map->regions[i];

		if (r->vm->disk == disk && atomic_load(&r->tracked))
			ovc_memory_wake(r, 0, r->nr);
	}
}

static void release(struct ovc_faulter *f, struct ovc_read *q)
{
	uint64_t nr = q->iov.iov_len / OVC_PAGE;
	struct ovc_vm *vm = q->a.region->vm;

	if (ovc_disk_read_end(vm, f->n, nr))
		wake_parked(f->host, vm->disk);
	ovc_slots_free(&f->free, q->buffer, nr);
	f->nr_free += nr;
	f->idle[f->nr_idle++] = (uint16_t)(q - f->ios);
}

void ovc_read_undo(const struct ovc_arrival *a)
{
	for (uint64_t i = 0; i < a->nr; i++)
		ovc_pager_unread(a->region, a->idx + i, a->slot + i);
}

/* A hold that is free, after the oldest was taken away if need be; OVC_NONE if even
 * that is busy. */
static uint64_t free_hold(struct ovc_faulter *f)
{
	unsigned h = f->n * OVC_HOLDS + f->next_hold++ % OVC_HOLDS;

	ovc_pager_unhold(f->host, h);
	return atomic_load(&f->host->holds[h].region) ? OVC_NONE : h;
}

static bool hold_back(struct ovc_faulter *f, const struct ovc_read *q)
{
	uint64_t k = q->hold - q->a.idx, h = free_hold(f);

	return h != OVC_NONE && !atomic_load(&q->a.region->leaving) &&
	       ovc_pager_hold(q->a.region, q->hold, q->a.slot + k,
			      q->a.bytes + k * OVC_PAGE, (unsigned)h);
}

static void arrived(struct ovc_faulter *f, struct ovc_read *q)
{
	struct ovc_arrival a = q->a;

	if (q->hold != OVC_NONE && hold_back(f, q)) {
		uint64_t k = q->hold - q->a.idx;

		a.nr = k;
		if (a.nr)
			ovc_pager_arrived(&a, ovc_faulter_on_probation, f);
		a = q->a;
		a.idx += k + 1;
		a.slot += k + 1;
		a.nr -= k + 1;
		a.bytes += (k + 1) * OVC_PAGE;
	}
	if (a.nr)
		ovc_pager_arrived(&a, ovc_faulter_on_probation, f);
	if (q->a.demand != OVC_NONE && !q->ask)
		ovc_faulter_note_latency(q->a.region->vm, q->since);
}

/* A read failed: each page is read by itself if somebody waits for it, so that
 * only the bad one is lost. */
static void failed(struct ovc_faulter *f, struct ovc_read *q, int error)
{
	struct ovc_region *r = q->a.region;

	for (uint64_t i = 0; i < q->a.nr; i++) {
		uint64_t idx = q->a.idx + i, slot = q->a.slot + i;
		bool asked = idx == q->a.demand ||
			     (atomic_load(&r->words[idx]) & OVC_W_WANTED);
		struct ovc_arrival one = { r,	idx,	    1,	 slot,
					   idx, q->a.write, NULL };
		/* ECANCELED: the thread that submitted it has ended. */
		bool again = error == -EAGAIN || error == -EINTR ||
			     error == -ENOMEM || error == -ECANCELED ||
			     q->a.nr > 1;

		if (!asked)
			ovc_pager_unread(r, idx, slot);
		else if (!again)
			ovc_pager_lost(r, idx, slot, error);
		else if (!ovc_read_queue(f, &one, OVC_NONE, q->since, NULL))
			/* No room: the guest asks again. */
			ovc_pager_unread(r, idx, slot),
				ovc_memory_wake(r, idx, 1);
	}
}

/* The region is out, and its memory the VMM's: nothing is filled. */
static void forsake(const struct ovc_arrival *a)
{
	bool busy;

	ovc_read_undo(a);
	for (uint64_t i = a->idx; i < a->idx + a->nr; i++)
		ovc_drop_begin(a->region, i, &busy);
}

static void arrived_or_not(struct ovc_faulter *f, struct ovc_read *q,
			   int result)
{
	struct ovc_read copy = *q;

	if (atomic_load(&q->a.region->gone)) {
		release(f, q);
		forsake(&copy.a);
	} else if (result == (int)q->iov.iov_len) {
		arrived(f, q);
		release(f, q);
	} else {
		release(f, q);
		failed(f, &copy, result < 0 ? result : -EIO);
	}
	if (copy.ask)
		ovc_ask_answer(copy.ask, 0, NULL);
}

/* What a caller looks at stays where it is. */
static void looked_at(struct ovc_faulter *f, struct ovc_read *q, int result)
{
	bool all = result == (int)q->iov.iov_len;

	ovc_ask_answer(q->ask,
		       all	  ? 0 :
		       result < 0 ? result :
				    -EIO,
		       q->a.bytes);
	release(f, q);
}

unsigned ovc_read_reap(struct ovc_faulter *f)
{
	struct ovc_ring_done done[AT_ONCE];
	unsigned nr = ovc_ring_reap(f->ring, done, AT_ONCE);

	for (unsigned i = 0; i < nr; i++) {
		struct ovc_read *q = &f->ios[done[i].user];
		struct ovc_region *r = q->a.region;

		if (q->ask && q->ask->what.to)
			looked_at(f, q, done[i].result);
		else
			arrived_or_not(f, q, done[i].result);
		/* From here on it may be freed. */
		atomic_fetch_sub(&r->ios, 1);
	}
	return nr;
}
