/* SPDX-License-Identifier: MIT */
/*
 * Merge: pages with equal bytes get to be one page of the store.
 *
 *   find     the hints say where a page with this hash was seen: in the store, or
 *            with a guest. None: note this one.
 *   stage    the page, and the other where a guest has it, are taken from their
 *            guests: what is staged does not change
 *   compare  byte by byte; an equal hash proves nothing
 *   store    of two guests' pages one is copied to the store, runs to runs
 *   settle   both let go of their frames: the store has the bytes. Pages whose run
 *            is worth a mapping are mapped (lay.c), so that guests go on reading
 *            them without a fault; others are copied when they are touched.
 *   zero     a page of zeros needs no store: it is dropped, and reads as zero
 *
 * A touch at any time before settling puts the page back, and nothing has happened.
 * Pages that differ are put back by us.
 *
 * Failures: a store that is full or cannot grow, a page that cannot be staged: its
 * guest keeps it. References are taken before the page word names the store, and
 * dropped where it did not come to that.
 */
#include <string.h>

#include "core/budget.h"
#include "in/pager.h"
#include "memory/memory.h"
#include "out/reclaim.h"
#include "out/staging.h"
#include "share/domain.h"
#include "share/promise.h"
#include "share/share.h"
#include "store/shared.h"

#define BATCH OVC_SHARE_CHUNK /* pairs at once */

struct spot {
	struct ovc_region *region;
	uint64_t idx;
	uint64_t pos; /* in the ring, once claimed; else 0 and not to be used */
};

enum kind { ZERO, KNOWN, PAIR };

struct pair {
	enum kind kind;
	struct spot one, other; /* other: of PAIR */
	uint64_t hash;
	uint64_t page;		 /* of the store; 0: none yet */
	bool good;		 /* equal, byte by byte */
	const struct pair *lead; /* an earlier pair with the same other page */
};

struct batch {
	struct ovc_host *host;
	struct ovc_domain *domain;
	struct pair pair[BATCH];
	unsigned nr;
	uint64_t saved, *collisions;
};

static ovc_word *word_of(const struct spot *s)
{
	return &s->region->words[s->idx];
}

static bool same(const struct spot *a, const struct spot *b)
{
	return a->region == b->region && a->idx == b->idx;
}

/* ---- finding -------------------------------------------------------------- */

/* To be hashed again in the next pass. */
static void try_again(const struct spot *s)
{
	atomic_fetch_and(&s->region->marks[s->idx], (uint8_t)~OVC_MARK_HASHED);
}

/* May it be taken from its guest, and is that worth while? One that was touched after
 * it had been shared needs a mapping, or it would come and go. */
static bool mergeable(const struct spot *s)
{
	const struct ovc_region *r = s->region;
	const struct ovc_host *host = r->vm->host;
	uint64_t w = atomic_load(word_of(s));
	enum ovc_state state = ovc_word_state(w);

	if ((state != OVC_RESIDENT && state != OVC_CLEAN) || ovc_word_pins(w) ||
	    r->leaving || r->direct ||
	    atomic_load(&r->marks[s->idx]) & OVC_MARK_OFF)
		return false;
	return !ovc_clock_freq(ovc_word_heat(w)) ||
	       (r->mappable &&
		atomic_load(&host->mappings) + 2 < host->mappings_most);
}

/* Notes where a hash was seen. Who has to make room for it is looked at anew in the
 * next pass. */
static void note(const struct batch *b, uint64_t hash, const struct spot *s)
{
	uint64_t gone = ovc_hints_note(&b->domain->hints, hash,
				       s->region->number + s->idx);
	struct spot other;

	if (gone && !(gone & OVC_HINT_STORE) &&
	    ovc_domain_find(b->host, b->domain, gone, &other.region,
			    &other.idx))
		try_again(&other);
}

static bool find_other(const struct batch *b, const struct spot *one,
		       uint64_t hash, struct pair *p)
{
	struct ovc_domain *d = b->domain;
	uint64_t where[OVC_HINT_WAYS];
	unsigned n = ovc_hints_find(&d->hints, hash, where);

	for (unsigned i = 0; i < n; i++) {
		uint64_t page = where[i] & ~OVC_HINT_STORE;

		if (page != where[i]) {
			if (!ovc_shared_is(b->host->store, page, d->id, hash))
				continue;
			*p = (struct pair){ .kind = KNOWN, .page = page };
			return true;
		}
		*p = (struct pair){ .kind = PAIR };
		if (ovc_domain_find(b->host, d, page, &p->other.region,
				    &p->other.idx) &&
		    !same(one, &p->other) && mergeable(&p->other) &&
		    atomic_load(&p->other.region->marks[p->other.idx]) &
			    OVC_MARK_HASHED)
			return true;
	}
	return false;
}

/* ---- staging, comparing ------------------------------------------------------ */

/* Of a page that was claimed. Once it is put back, the guest may write a memfd's. */
static const char *bytes_of(const struct spot *s)
{
	return ovc_pager_view(s->region, s->idx, s->pos);
}

/* A staged page gets to be WRITING. */
static bool claim(struct spot *s)
{
	uint64_t w = atomic_load(word_of(s));

	s->pos = ovc_word_value(w);
	return ovc_word_state(w) == OVC_STAGED &&
	       s->pos < s->region->vm->host->staging.cap &&
	       ovc_page_try(word_of(s), &w, OVC_EV_CLAIM, s->pos) !=
		       OVC_ACT_RACED;
}

/* The same to read its bytes. One that cannot be read goes back, and is lost by that. */
static bool claim_sound(struct spot *s)
{
	struct ovc_host *host = s->region->vm->host;

	return claim(s) &&
	       ovc_sound(host->reclaim, &host->staging.entries[s->pos], s->pos);
}

/* Is it still? Then its bytes are what they were when it was claimed: to stage it
 * again takes control, which we have. */
static bool claimed(const struct spot *s)
{
	uint64_t w = atomic_load(word_of(s));

	return ovc_word_state(w) == OVC_WRITING && ovc_word_value(w) == s->pos;
}

/* Stages one spot of each pair; neighbours of one region together. */
static void stage_spots(const struct batch *b, bool other)
{
	uint64_t idx[OVC_CHUNK];
	const struct spot *last = NULL;
	unsigned n = 0;

	for (unsigned i = 0; i < b->nr; i++) {
		const struct pair *p = &b->pair[i];
		const struct spot *s = other ? &p->other : &p->one;

		if (other && p->kind != PAIR)
			continue;
		if (n == OVC_CHUNK ||
		    (n && (s->region != last->region || s->idx <= last->idx))) {
			ovc_stage_pages(last->region, idx, n);
			n = 0;
		}
		idx[n++] = s->idx;
		last = s;
	}
	if (n)
		ovc_stage_pages(last->region, idx, n);
}

/* The pair that claimed this pair's other page, where that is an earlier one; else
 * NULL. Its number is noted in the page's ring entry. */
static const struct pair *leader(const struct batch *b, const struct pair *p)
{
	const struct ovc_staging *s = &b->host->staging;
	uint64_t w = atomic_load(word_of(&p->other)), pos = ovc_word_value(w);
	const struct pair *q;

	if (ovc_word_state(w) != OVC_WRITING || pos >= s->cap ||
	    s->entries[pos].wslot >= b->nr)
		return NULL;
	q = &b->pair[s->entries[pos].wslot];
	return q < p && same(&q->other, &p->other) ? q : NULL;
}

static bool equal(const struct pair *p)
{
	return !memcmp(bytes_of(&p->one), bytes_of(&p->other), OVC_PAGE);
}

static void compare_pair(struct batch *b, struct pair *p)
{
	if (!claim_sound(&p->one))
		return;
	switch (p->kind) {
	case ZERO:
		p->good = ovc_is_zero(bytes_of(&p->one));
		break;
	case KNOWN:
		p->good = !memcmp(bytes_of(&p->one),
				  ovc_shared_view(b->host->store, p->page),
				  OVC_PAGE);
		break;
	case PAIR:
		p->lead = leader(b, p);
		if (p->lead)
			p->other.pos = p->lead->other.pos;
		else if (!claim_sound(&p->other))
			return;
		else
			b->host->staging.entries[p->other.pos].wslot =
				(uint64_t)(p - b->pair);
		p->good = equal(p);
		/* Of bytes that may have changed nothing is known. */
		if (!claimed(&p->other)) {
			p->good = false;
			return;
		}
		break;
	}
	if (p->good || !claimed(&p->one))
		return;
	++*b->collisions;
	/* A hint has few bits of the hash. Where they misled us, this page takes
	 * the place of the other, so that its equals find it. */
	if (p->kind == PAIR)
		ovc_hints_move(&b->domain->hints, p->hash,
			       p->other.region->number + p->other.idx,
			       p->one.region->number + p->one.idx);
}

/* ---- storing --------------------------------------------------------------------- */

/* Did the store get the bytes that were compared? The guest may have got its page
 * back, and written it, while it was copied. */
static bool stored_well(const struct batch *b, const struct pair *p)
{
	if (claimed(&p->other))
		return true;
	return !memcmp(bytes_of(&p->one),
		       ovc_shared_view(b->host->store, p->page), OVC_PAGE) &&
	       claimed(&p->one);
}

static bool store_run(struct batch *b, struct pair **new, uint64_t first,
		      unsigned nr)
{
	struct ovc_shared *store = b->host->store;
	struct iovec iov[BATCH];

	for (unsigned i = 0; i < nr; i++) {
		iov[i].iov_base = (char *)(uintptr_t)bytes_of(&new[i]->other);
		iov[i].iov_len = OVC_PAGE;
		ovc_shared_set_hash(store, first + i, new[i]->hash);
	}
	if (ovc_shared_write(store, first, iov, nr)) {
		ovc_shared_give_back(store, first, nr);
		return false;
	}
	for (unsigned i = 0; i < nr; i++) {
		new[i]->page = first + i;
		if (stored_well(b, new[i])) {
			/* Ours, until it is known who else has one. */
			ovc_shared_ref(store, first + i);
			continue;
		}
		ovc_shared_give_back(store, first + i, 1);
		new[i]->page = 0;
	}
	return true;
}

static bool has_room(struct ovc_host *host, uint64_t nr)
{
	ovc_promise_make_room(host);
	return atomic_load(&host->used) + nr <= atomic_load(&host->allowed);
}

/* Copies one of each pair of guests' pages to the store. */
static void store_new(struct batch *b)
{
	struct pair *new[BATCH];
	unsigned n = 0;

	for (struct pair *p = b->pair; p < b->pair + b->nr; p++)
		if (p->kind == PAIR && p->good && !p->lead)
			new[n++] = p;
	for (unsigned at = 0, got; at < n; at += got) {
		uint64_t first;

		/* For a moment there is a frame more for each. */
		if (!has_room(b->host, n - at))
			return;
		got = (unsigned)ovc_shared_take(b->host->store, n - at,
						b->domain->id, &first);
		if (!got)
			return;
		ovc_charge_force(new[at]->one.region->vm, got);
		b->domain->stored += got;
		if (!store_run(b, new + at, first, got))
			return;
	}
}

/* ---- settling ---------------------------------------------------------------------- */

/* The page lets go of its frame. False: it was touched meanwhile. */
static bool settle(struct batch *b, const struct spot *s, uint64_t page)
{
	struct ovc_reclaim *rc = b->host->reclaim;
	struct ovc_entry *e = &b->host->staging.entries[s->pos];
	struct ovc_vm *vm = s->region->vm;
	struct ovc_home home = { .kind = OVC_HOME_NOWHERE };
	uint64_t slot;

	if (!claimed(s))
		return false;
	slot = atomic_exchange(&e->slot, OVC_NO_SLOT);
	if (page) {
		home.kind = OVC_HOME_STORE;
		home.at = page;
		home.map =
			ovc_clock_freq(ovc_word_heat(atomic_load(word_of(s))));
		ovc_shared_ref(b->host->store, page);
		atomic_fetch_add(&b->domain->refs, 1);
	}
	if (!ovc_settle_to(rc, e, s->pos, home)) {
		if (page)
			ovc_domain_unref(vm, page);
		page = 0;
	} else if (!page) {
		OVC_COUNT(vm, share_zero, 1);
		page = 1;
	}
	/* Its copy in swap is of no more use. */
	if (slot != OVC_NO_SLOT)
		ovc_swap_free(vm->swap, slot);
	return page;
}

/* Somebody who reads a staged page has it for a moment. Left alone it would stay staged, where
 * nobody looks for equal pages. */
static void wait_for_reader(const struct spot *s)
{
	for (unsigned i = 0; i < 64; i++) {
		if (ovc_word_state(atomic_load(word_of(s))) != OVC_FILLING)
			return;
		ovc_nap(i);
	}
}

/* Of a page that was merged nothing is left to do. */
static void put_back(struct batch *b, struct spot *s)
{
	wait_for_reader(s);
	if (claimed(s) || claim(s))
		ovc_settle_put_back(b->host->reclaim,
				    &b->host->staging.entries[s->pos], s->pos);
	try_again(s);
}

static void settle_pairs(struct batch *b)
{
	/* All of one side, then all of the other: runs stay runs. */
	for (struct pair *p = b->pair; p < b->pair + b->nr; p++) {
		if (p->lead)
			p->page = p->lead->page;
		if (p->good && (p->kind == ZERO || p->page))
			b->saved += settle(b, &p->one, p->page);
	}
	for (struct pair *p = b->pair; p < b->pair + b->nr; p++) {
		if (p->kind != PAIR || !p->good || !p->page || p->lead)
			continue;
		settle(b, &p->other, p->page);
		ovc_hints_move(&b->domain->hints, p->hash,
			       p->other.region->number + p->other.idx,
			       OVC_HINT_STORE | p->page);
	}
	ovc_settle_drops(b->host->reclaim);
	for (struct pair *p = b->pair; p < b->pair + b->nr; p++) {
		put_back(b, &p->one);
		if (p->kind == PAIR)
			put_back(b, &p->other);
	}
	ovc_settle_drops(b->host->reclaim);
	for (struct pair *p = b->pair; p < b->pair + b->nr; p++)
		if (p->kind == PAIR && p->good && p->page && !p->lead)
			ovc_shared_unref(b->host->store, p->page);
}

static void run(struct batch *b)
{
	if (!b->nr)
		return;
	/* What finds no room in the ring is tried again. */
	stage_spots(b, false);
	stage_spots(b, true);
	ovc_sound_forget(b->host->reclaim);
	for (unsigned i = 0; i < b->nr; i++)
		compare_pair(b, &b->pair[i]);
	store_new(b);
	settle_pairs(b);
	ovc_staging_advance(b->host);
	ovc_staging_collect(b->host);
	b->nr = 0;
}

/* The store is made when it is first needed: eight times the budget at most, which
 * takes address space and no memory. */
static bool have_store(struct ovc_host *host)
{
	uint64_t pages = 8 * atomic_load(&host->budget) / OVC_PAGE;

	if (pages < (uint64_t)1 << 18)
		pages = (uint64_t)1 << 18;
	if (pages > (uint64_t)1 << 28)
		pages = (uint64_t)1 << 28;
	if (!host->store && ovc_shared_create(pages, &host->store))
		host->store = NULL;
	if (!host->laid_window &&
	    ovc_pages_reserve(OVC_LAID_WINDOW * OVC_PAGE,
			      (void **)&host->laid_window))
		host->laid_window = NULL;
	return host->store && host->laid_window;
}

uint64_t ovc_merge(struct ovc_host *host, const struct ovc_hashed *h,
		   unsigned from, unsigned to, uint64_t *collisions)
{
	struct ovc_vm *vm = h->region->vm;
	unsigned most = host->staging.cap / 8 < BATCH ?
				(unsigned)host->staging.cap / 8 :
				BATCH;
	struct batch b = { .host = host,
			   .domain = vm->domain,
			   .collisions = collisions };

	/* Without memory for hints there are none yet. */
	if (!vm->domain->hints_memory || !have_store(host))
		return 0;
	for (unsigned i = from; i < to; i++) {
		struct spot one = { .region = h->region, .idx = h->idx[i] };
		struct pair p = { .kind = ZERO };
		bool zero = h->hash[i] == b.domain->zero_hash;

		if (zero && vm->share_zero_off)
			continue;
		if (!mergeable(&one)) {
			try_again(&one);
			continue;
		}
		if (!zero && !find_other(&b, &one, h->hash[i], &p)) {
			note(&b, h->hash[i], &one);
			continue;
		}
		p.one = one;
		p.hash = h->hash[i];
		b.pair[b.nr++] = p;
		if (b.nr == most)
			run(&b);
	}
	run(&b);
	return b.saved;
}
