/* SPDX-License-Identifier: MIT */
/*
 * Swap meets sharing: a page that is about to be written, and whose bytes are in a slot
 * of the same file already, takes a reference to that slot instead.
 *
 *   find     the hints of what was written lately say which page had this checksum. It
 *            is still in swap, and its slot's checksum is the same.
 *   borrow   that page, as a reader does: its slot stays
 *   read     the slot, into a buffer of ours; nobody waits for that
 *   compare  equal: the slot gets a reference, and the page is settled there.
 *            Otherwise it is written as if we had not looked.
 *   give the other page back
 *
 * Pages whose slots lie side by side are read together, RUN at most. No more than CHECKS
 * reads are under way: what comes when there are so many is written at once. Hints are of
 * the last pages that were written, by all VMs with sharing.
 *
 * A touch of the page meanwhile puts it back, as ever. A touch of the borrowed one waits
 * for the read, and reads again. A region that goes is freed when what is under way of it
 * is done.
 */
#include <string.h>

#include "balloon/donate.h"
#include "core/meta.h"
#include "in/pager.h"
#include "memory/memory.h"
#include "out/reclaim.h"
#include "policy/hints.h"
#include "share/domain.h"
#include "trouble/disk.h"

#define CHECKS 4
#define RUN    64    /* pages of a check */
#define COVERS 65536 /* pages of hints: 768 KiB */

struct item {
	struct ovc_entry *e;
	uint64_t pos, sum;
	struct ovc_region *other; /* whose page idx is borrowed */
	uint64_t idx, slot;
};

struct check {
	struct ovc_write *io; /* NULL: free */
	bool open;	      /* not read yet: it may grow */
	unsigned nr;
	struct item item[RUN];
};

struct ovc_dedupe {
	struct ovc_hints hints;
	void *memory;
	char *buffers;
	struct check check[CHECKS];
};

#define BUFFERS (CHECKS * RUN * OVC_PAGE)

static bool enabled(const struct ovc_vm *vm)
{
	return !vm->share_off &&
	       atomic_load(&vm->host->share_mode) != OVC_SHARE_NEVER;
}

static struct ovc_dedupe *make(struct ovc_host *host)
{
	struct ovc_dedupe *d = ovc_meta_zalloc(sizeof(*d));

	if (!d)
		return NULL;
	if (ovc_pages_reserve(BUFFERS, (void **)&d->buffers))
		d->buffers = NULL;
	if (ovc_pages_reserve(ovc_hints_bytes(COVERS), &d->memory))
		d->memory = NULL;
	if (!d->buffers || !d->memory) {
		ovc_dedupe_destroy(&d);
		return NULL;
	}
	ovc_hints_init(&d->hints, d->memory, COVERS);
	atomic_fetch_add(&host->tables, ovc_hints_bytes(COVERS) + BUFFERS);
	return d;
}

void ovc_dedupe_destroy(struct ovc_dedupe **dp)
{
	struct ovc_dedupe *d = *dp;

	if (!d)
		return;
	ovc_pages_release(d->buffers, BUFFERS);
	ovc_pages_release(d->memory, ovc_hints_bytes(COVERS));
	ovc_meta_free(d);
	*dp = NULL;
}

/* Of a file's own: checksums of different files are different keys. */
static uint64_t key_of(const struct ovc_vm *vm, uint64_t sum)
{
	return (sum ^ (uint64_t)vm->index << 48) * 0x9e3779b97f4a7c15u;
}

void ovc_dedupe_note(struct ovc_reclaim *rc, const struct ovc_entry *e,
		     uint64_t slot)
{
	const struct ovc_vm *vm = e->region->vm;

	if (!enabled(vm))
		return;
	if (!rc->dedupe)
		rc->dedupe = make(rc->host);
	if (rc->dedupe)
		ovc_hints_note(&rc->dedupe->hints,
			       key_of(vm, ovc_swap_sum(vm->swap, slot)),
			       e->region->number + e->idx);
}

/* A page of the VM in swap whose slot has that checksum, made ours. */
static bool borrow(struct ovc_reclaim *rc, struct ovc_vm *vm, uint64_t sum,
		   struct item *c)
{
	uint64_t where[OVC_HINT_WAYS], w;
	unsigned n = ovc_hints_find(&rc->dedupe->hints, key_of(vm, sum), where);

	for (unsigned i = 0; i < n; i++) {
		if (!ovc_domain_find(rc->host, vm->domain, where[i], &c->other,
				     &c->idx) ||
		    c->other->vm != vm || c->other->leaving)
			continue;
		w = atomic_load(&c->other->words[c->idx]);
		c->slot = ovc_word_value(w);
		if (ovc_word_state(w) != OVC_SWAPPED ||
		    ovc_swap_sum(vm->swap, c->slot) != sum)
			continue;
		if (ovc_page_try(&c->other->words[c->idx], &w, OVC_EV_LOOK,
				 c->slot) == OVC_ACT_COPY)
			return true;
	}
	return false;
}

/* The check that a page with this slot goes with: one that is open and ends before it,
 * or a new one. NULL: all are busy. */
static struct check *check_for(struct ovc_reclaim *rc, const struct ovc_vm *vm,
			       uint64_t slot)
{
	struct ovc_dedupe *d = rc->dedupe;
	struct check *new = NULL;

	for (struct check *c = d->check; c < d->check + CHECKS; c++) {
		if (!c->io)
			new = c;
		else if (c->open && c->nr < RUN && c->io->vm == vm &&
			 c->item[c->nr - 1].slot + 1 == slot)
			return c;
	}
	if (!new || rc->nr_idle < OVC_DEPTH / 2 || !ovc_disk_may_write(vm))
		return NULL;
	new->io = &rc->ios[rc->idle[--rc->nr_idle]];
	new->io->check = true;
	new->io->since = ovc_now_ns();
	new->io->vm = (struct ovc_vm *)(uintptr_t)vm;
	ovc_disk_begin(new->io->vm);
	new->open = true;
	new->nr = 0;
	return new;
}

bool ovc_dedupe_try(struct ovc_reclaim *rc, struct ovc_entry *e, uint64_t pos,
		    uint64_t sum)
{
	struct ovc_vm *vm = e->region->vm;
	struct item item = { .e = e, .pos = pos, .sum = sum };
	struct check *c;

	if (!rc->dedupe || e->region->leaving || !enabled(vm) ||
	    !borrow(rc, vm, sum, &item))
		return false;
	c = check_for(rc, vm, item.slot);
	if (!c) {
		ovc_pager_end(item.other, item.idx, OVC_EV_READ_CANCEL,
			      item.slot);
		return false;
	}
	c->item[c->nr++] = item;
	atomic_fetch_add(&item.other->ios, 1);
	e->busy = 1;
	rc->writing++;
	return true;
}

static char *buffer_of(const struct ovc_dedupe *d, const struct check *c)
{
	return d->buffers + (size_t)(c - d->check) * RUN * OVC_PAGE;
}

void ovc_dedupe_flush(struct ovc_reclaim *rc)
{
	struct ovc_dedupe *d = rc->dedupe;

	for (struct check *c = d ? d->check : NULL; d && c < d->check + CHECKS;
	     c++) {
		struct ovc_ring_io op;

		if (!c->io || !c->open)
			continue;
		c->open = false;
		c->io->nr = c->nr;
		c->io->iov[0] =
			(struct iovec){ buffer_of(d, c), c->nr * OVC_PAGE };
		op = (struct ovc_ring_io){
			.file = c->io->vm->index,
			.disk = c->io->vm->disk->number,
			.fd = ovc_swap_file(c->io->vm->swap)->fd,
			.iov = c->io->iov,
			.nr_iov = 1,
			.offset = c->item[0].slot * OVC_PAGE,
			.user = (uint64_t)(c->io - rc->ios),
		};
		if (!ovc_ring_queue(rc->ring, &op))
			ovc_bug("the reclaim ring is full", 0);
	}
}

/* The bytes in the slot are those of the page, which gets to live there. */
static bool settle(struct ovc_reclaim *rc, const struct item *c,
		   const char *bytes)
{
	struct ovc_region *r = c->e->region;
	struct ovc_vm *vm = r->vm;
	_Alignas(4096) char page[OVC_PAGE];
	bool same = !ovc_memory_read_staged(r, c->e->idx, c->pos, page) &&
		    !memcmp(bytes, page, OVC_PAGE);

	/* Nothing of a guest stays on a stack, which is in core dumps. */
	explicit_bzero(page, sizeof(page));
	if (!same || !ovc_swap_ref(vm->swap, c->slot))
		return false;
	if (ovc_settle_to(rc, c->e, c->pos, ovc_home_slot(c->slot)))
		OVC_COUNT(vm, spared, 1);
	else
		ovc_swap_free(vm->swap, c->slot);
	return true;
}

static void item_done(struct ovc_reclaim *rc, const struct item *c,
		      const char *bytes)
{
	uint64_t w = atomic_load(&c->e->region->words[c->e->idx]);
	bool busy;

	c->e->busy = 0;
	rc->writing--;
	/* One that was put back is done with, whatever it was. */
	if (ovc_word_state(w) == OVC_WRITING && ovc_word_value(w) == c->pos &&
	    (!bytes || !settle(rc, c, bytes)))
		ovc_settle_write(rc, c->e, c->pos, c->sum);
	ovc_pager_end(c->other, c->idx, OVC_EV_READ_CANCEL, c->slot);
	if (atomic_load(&c->other->gone))
		ovc_drop_begin(c->other, c->idx, &busy);
	atomic_fetch_sub(&c->other->ios, 1);
}

void ovc_dedupe_done(struct ovc_reclaim *rc, struct ovc_write *io, int result)
{
	struct ovc_dedupe *d = rc->dedupe;
	struct check *c = d->check;

	while (c->io != io)
		c++;
	for (unsigned i = 0; i < c->nr; i++)
		item_done(rc, &c->item[i],
			  result == (int)(c->nr * OVC_PAGE) ?
				  buffer_of(d, c) + i * OVC_PAGE :
				  NULL);
	c->io = NULL;
}
