/* SPDX-License-Identifier: MIT */
/*
 * The sharing store. A page's way: taken (domain set), written, its hash noted, given
 * references; then mapped by guests or copied from; references go one by one; swept:
 * the domain is 0 again, the frame punched out, the page free.
 *
 * Pages are taken from the low end, in runs, so that the tables stay small and what
 * was a run in a guest is one in the store, which one mapping covers.
 *
 * Failures: a full store, or one that cannot grow for want of memory, shares nothing
 * new. A frame that cannot be punched out stays taken and is tried again with the
 * next sweep.
 */
#include "store/shared.h"

#include <errno.h>
#include <stdatomic.h>

#include "core/meta.h"
#include "core/page.h"
#include "store/slots.h"
#include "sys/memfd.h"
#include "sys/pages.h"

#define PAGE ((uint64_t)4096)

struct entry {
	_Atomic uint32_t refs;
	uint32_t domain; /* 0: free */
	uint64_t hash;
};

struct ovc_shared {
	int fd;
	char *view;
	uint64_t nr;   /* pages */
	uint64_t high; /* pages in use lie below */
	uint64_t most; /* what that ever was: so much of the tables is touched */
	struct ovc_slots slots;
	void *bitmap;
	struct entry *entries;
	_Atomic uint64_t dead;
};

int ovc_shared_create(uint64_t pages, struct ovc_shared **sp)
{
	struct ovc_shared *s = ovc_meta_zalloc(sizeof(*s));
	void *entries = NULL;
	uint64_t zero;
	int error;

	if (!s)
		return -ENOMEM;
	s->fd = -1;
	s->nr = pages;
	error = ovc_memfd_create(OVC_STORE_NAME, pages * PAGE, &s->fd,
				 &s->view);
	if (!error)
		error = ovc_pages_reserve(pages * sizeof(*s->entries),
					  &entries);
	s->entries = entries;
	if (!error)
		error = ovc_pages_reserve(ovc_slots_bytes(pages), &s->bitmap);
	if (error) {
		ovc_shared_destroy(&s);
		return error;
	}
	ovc_slots_init(&s->slots, s->bitmap, pages);
	/* No page has the number 0, which a word takes for none. */
	ovc_slots_alloc(&s->slots, 1, &zero);
	*sp = s;
	return 0;
}

void ovc_shared_destroy(struct ovc_shared **sp)
{
	struct ovc_shared *s = *sp;

	if (!s)
		return;
	ovc_memfd_unmap(s->fd, s->view, s->nr * PAGE);
	ovc_pages_release(s->entries, s->nr * sizeof(*s->entries));
	ovc_pages_release(s->bitmap, ovc_slots_bytes(s->nr));
	ovc_meta_free(s);
	*sp = NULL;
}

uint64_t ovc_shared_take(struct ovc_shared *s, uint32_t want, uint32_t domain,
			 uint64_t *first)
{
	uint64_t got;

	s->slots.cursor = 0;
	got = ovc_slots_alloc(&s->slots, want, first);
	for (uint64_t i = *first; got && i < *first + got; i++)
		s->entries[i].domain = domain;
	if (got && s->high < *first + got)
		s->high = *first + got;
	if (s->most < s->high)
		s->most = s->high;
	return got;
}

void ovc_shared_give_back(struct ovc_shared *s, uint64_t first, uint64_t nr)
{
	for (uint64_t i = first; i < first + nr; i++) {
		if (atomic_load(&s->entries[i].refs))
			ovc_bug("a shared page in use was given back",
				i << OVC_W_VALUE_SHIFT);
		/* For the sweep, which also frees what was written of it. */
		atomic_fetch_add(&s->dead, 1);
	}
}

int ovc_shared_write(struct ovc_shared *s, uint64_t first,
		     const struct iovec *iov, size_t nr)
{
	return ovc_memfd_write(s->fd, first * PAGE, iov, nr);
}

void ovc_shared_set_hash(struct ovc_shared *s, uint64_t page, uint64_t hash)
{
	s->entries[page].hash = hash;
}

bool ovc_shared_is(const struct ovc_shared *s, uint64_t page, uint32_t domain,
		   uint64_t hash)
{
	const struct entry *e = &s->entries[page];

	return page < s->high && e->domain == domain && e->hash == hash &&
	       atomic_load(&e->refs);
}

void ovc_shared_ref(struct ovc_shared *s, uint64_t page)
{
	if (atomic_fetch_add(&s->entries[page].refs, 1) == UINT32_MAX)
		ovc_bug("a shared page has too many references",
			page << OVC_W_VALUE_SHIFT);
}

void ovc_shared_unref(struct ovc_shared *s, uint64_t page)
{
	uint32_t was = atomic_fetch_sub(&s->entries[page].refs, 1);

	if (!was)
		ovc_bug("a shared page lost a reference that it had not",
			page << OVC_W_VALUE_SHIFT);
	if (was == 1)
		atomic_fetch_add(&s->dead, 1);
}

uint32_t ovc_shared_refs(const struct ovc_shared *s, uint64_t page)
{
	return atomic_load(&s->entries[page].refs);
}

static bool is_dead(const struct entry *e, uint32_t domain)
{
	return domain && e->domain == domain && !atomic_load(&e->refs);
}

static bool free_run(struct ovc_shared *s, uint64_t first, uint64_t nr)
{
	if (ovc_memfd_punch(s->fd, first * PAGE, nr * PAGE))
		return false;
	for (uint64_t i = first; i < first + nr; i++)
		s->entries[i].domain = 0;
	ovc_slots_free(&s->slots, first, nr);
	return true;
}

void ovc_shared_sweep(struct ovc_shared *s,
		      void (*freed)(void *arg, uint32_t domain, uint64_t nr),
		      void *arg)
{
	uint64_t end, high = 0;

	/* What is dropped from here on is for the next sweep. */
	if (!atomic_exchange(&s->dead, 0))
		return;
	for (uint64_t i = 0; i < s->high; i = end) {
		uint32_t domain = s->entries[i].domain;

		for (end = i; end < s->high; end++)
			if (!is_dead(&s->entries[end], domain))
				break;
		if (end > i && free_run(s, i, end - i)) {
			freed(arg, domain, end - i);
			continue;
		}
		/* Not punched out: again with the next sweep. */
		atomic_fetch_add(&s->dead, end - i);
		end = end > i ? end : i + 1;
		high = domain ? end : high;
	}
	s->high = high;
}

uint64_t ovc_shared_dead(const struct ovc_shared *s)
{
	return atomic_load(&s->dead);
}

const char *ovc_shared_view(const struct ovc_shared *s, uint64_t page)
{
	return s->view + page * PAGE;
}

void ovc_shared_each(const struct ovc_shared *s, uint32_t domain,
		     void (*fn)(void *arg, uint64_t page, uint64_t hash),
		     void *arg)
{
	for (uint64_t i = 0; i < s->high; i++)
		if (s->entries[i].domain == domain)
			fn(arg, i, s->entries[i].hash);
}

int ovc_shared_fd(const struct ovc_shared *s)
{
	return s->fd;
}

uint64_t ovc_shared_used(const struct ovc_shared *s)
{
	return ovc_slots_used(&s->slots) - 1;
}

uint64_t ovc_shared_metadata(const struct ovc_shared *s)
{
	return s->most * sizeof(struct entry) + ovc_slots_bytes(s->most);
}
