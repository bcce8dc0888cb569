/* SPDX-License-Identifier: MIT */
/*
 * One look, under the library's own lock, at all that it knows: each page word fits
 * what the kernel has there; words, ring, store and counters fit each other; and what
 * the store holds for a page is what the guest wrote.
 *
 * Threads of the library's may still be at work: a look that finds fault means
 * something only when later ones find it, too.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/control.h"
#include "share/domain.h"
#include "core/internal.h"
#include "core/map.h"
#include "memory/memory.h"
#include "share/promise.h"
#include "store/shared.h"
#include "stress.h"

/* Of /proc/self/pagemap. */
#define PM_PRESENT ((uint64_t)1 << 63)
#define PM_SWAPPED ((uint64_t)1 << 62)
#define PM_FILE	   ((uint64_t)1 << 61)
#define PM_UFFD_WP ((uint64_t)1 << 57)
#define PM_TYPE	   ((uint64_t)31) /* of what is swapped */
#define PM_MARKER  ((uint64_t)31)

#define SLOTS (1u << 20) /* more than any swap file here has */

static struct {
	char why[256];
	uint64_t state[OVC_NR_STATES]; /* of one VM's pages */
	uint8_t *slots;	    /* that its words and entries name, a bit each */
	uint64_t used;	    /* of all VMs, of the ring */
	uint64_t frameless; /* staged, and still with the guest's memory */
	uint64_t promised;
	uint64_t *refs;	 /* of each page of the store */
	uint32_t *owner; /* its domain */
	uint64_t pages;	 /* how many these have room for */
} seen;

/* The first thing that is wrong is told. */
__attribute__((format(printf, 1, 2))) static void wrong(const char *fmt, ...)
{
	va_list args;

	if (seen.why[0])
		return;
	va_start(args, fmt);
	vsnprintf(seen.why, sizeof(seen.why), fmt, args);
	va_end(args);
}

static void same(const char *what, const char *of, uint64_t counted,
		 uint64_t found)
{
	if (counted != found)
		wrong("%s of %s: counted %llu, but there are %llu", what, of,
		      (unsigned long long)counted, (unsigned long long)found);
}

/* ---- what the kernel has ---------------------------------------------------- */

/* The kernel calls swapped, too, what is left of a page that was write-protected, or lost:
 * a marker, and no page. Its type tells; of a page that moves it is another one. */
static bool is_present(uint64_t map)
{
	return map & PM_PRESENT ||
	       (map & PM_SWAPPED && (map & PM_TYPE) != PM_MARKER);
}

static bool is_private(uint64_t map)
{
	return is_present(map) && !(map & PM_FILE);
}

static bool in_ring(const struct ovc_host *h, uint64_t w)
{
	enum ovc_state s = ovc_word_state(w);

	return (s == OVC_STAGED || s == OVC_WRITING || s == OVC_DOOMED) &&
	       ovc_word_value(w) < h->staging.cap;
}

static bool with_guest(uint64_t w)
{
	return ovc_word_state(w) == OVC_RESIDENT ||
	       ovc_word_state(w) == OVC_CLEAN;
}

/* A memfd's page that was read and never written is all zero, and clean to the kernel: it
 * drops such a page when it wants memory, as it likes. */
static bool may_vanish(const struct ovc_region *r, const struct shadow *s,
		       uint64_t idx)
{
	return o.pageout && r->memfd >= 0 && !s->tags[idx];
}

static void check_kernel(const struct ovc_region *r, const struct shadow *s,
			 uint64_t idx, uint64_t w, uint64_t map, bool cached)
{
	bool present = is_present(map), private = is_private(map);
	bool laid = ovc_is_laid(r, idx), good;

	if (ovc_word_state(w) == OVC_POISONED)
		return;
	if (laid)
		good = ovc_word_state(w) == OVC_SHARED ||
		       (with_guest(w) ? private : !present);
	else if (r->memfd < 0)
		good = present == with_guest(w);
	else
		good = cached == (with_guest(w) || in_ring(r->vm->host, w)) ||
		       (!cached && may_vanish(r, s, idx));
	/* The memfd's own page gives way to what is laid over it. */
	good &= !laid || !cached;
	good &= laid || ovc_word_state(w) != OVC_SHARED;
	if (!good)
		wrong("%s page %llu is %s%s, but the kernel has it %s%s%s",
		      s->name, (unsigned long long)idx,
		      ovc_state_name(ovc_word_state(w)), laid ? ", laid" : "",
		      present ? "mapped" : "not mapped",
		      private ? ", anonymous" : "",
		      cached ? ", in the memfd" : "");
}

/* ---- words --------------------------------------------------------------------- */

static void take_page(const struct ovc_region *r, const struct shadow *s,
		      uint64_t idx, uint64_t w, uint64_t map)
{
	uint64_t page = ovc_word_value(w);
	bool broken = ovc_word_state(w) == OVC_SHARED && is_private(map);

	if (!page || page >= seen.pages ||
	    seen.owner[page] != r->vm->domain->id) {
		wrong("%s page %llu is %s as %llu, which is not its domain's",
		      s->name, (unsigned long long)idx,
		      ovc_state_name(ovc_word_state(w)),
		      (unsigned long long)page);
		return;
	}
	seen.refs[page]++;
	if (!broken &&
	    !shadow_is(ovc_shared_view(r->vm->host->store, page), s->tags[idx]))
		wrong("%s page %llu: the store has other bytes", s->name,
		      (unsigned long long)idx);
}

/* One slot may have several names. */
static void name_slot(uint64_t slot)
{
	if (slot >= SLOTS)
		wrong("a slot %llu is named", (unsigned long long)slot);
	else
		seen.slots[slot / 8] |= (uint8_t)(1 << slot % 8);
}

static void walk_word(const struct ovc_region *r, const struct shadow *s,
		      uint64_t idx, uint64_t map, bool cached)
{
	uint64_t w = atomic_load(&r->words[idx]);
	enum ovc_state state = ovc_word_state(w);

	if (ovc_word_transient(w)) {
		wrong("%s page %llu is %s", s->name, (unsigned long long)idx,
		      ovc_state_name(state));
		return;
	}
	if (ovc_word_pins(w))
		wrong("%s page %llu has pins", s->name,
		      (unsigned long long)idx);
	seen.state[state]++;
	if (state == OVC_CLEAN || state == OVC_SWAPPED)
		name_slot(ovc_word_value(w));
	if (state == OVC_STORED || state == OVC_SHARED)
		take_page(r, s, idx, w, map);
	if (in_ring(r->vm->host, w))
		seen.frameless +=
			!r->vm->host->staging.entries[ovc_word_value(w)].frame;
	if (atomic_load(&r->tracked))
		check_kernel(r, s, idx, w, map, cached);
}

/* Which pages of a memfd there are; mincore() would not tell of those that the host
 * swapped. */
static void find_cached(const struct ovc_region *r, uint64_t at, uint64_t nr,
			unsigned char *cached)
{
	off_t base = (off_t)r->memfd_offset, pos = base + (off_t)(at * PAGE);
	off_t end = pos + (off_t)(nr * PAGE), hole;

	memset(cached, 0, nr);
	while ((pos = lseek(r->memfd, pos, SEEK_DATA)) >= 0 && pos < end) {
		hole = lseek(r->memfd, pos, SEEK_HOLE);
		if (hole < 0 || hole > end)
			hole = end;
		memset(cached + (size_t)(pos - base) / PAGE - at, 1,
		       (size_t)(hole - pos) / PAGE);
		pos = hole;
	}
}

static void walk_region(const struct ovc_region *r, const struct shadow *s,
			int pagemap)
{
	uint64_t map[512];
	unsigned char cached[512] = { 0 };

	for (uint64_t at = 0, n; at < r->nr; at += n) {
		uintptr_t first = (uintptr_t)ovc_page_addr(r, at) / PAGE;

		n = r->nr - at < 512 ? r->nr - at : 512;
		if (pread(pagemap, map, n * 8, (off_t)(first * 8)) !=
		    (ssize_t)(n * 8))
			abort();
		if (r->view)
			find_cached(r, at, n, cached);
		for (uint64_t i = 0; i < n; i++)
			walk_word(r, s, at + i, map[i], cached[i] & 1);
	}
}

/* What guests may write of the store's pages unasked, or have written unseen, is
 * promised. */
static void check_promises(const struct ovc_region *r, int pagemap)
{
	_Atomic uint32_t *promises = atomic_load(&r->promises);
	uint64_t map[OVC_PIECE];

	for (uint64_t at = 0, n; promises && at < r->nr; at += n) {
		uintptr_t first = (uintptr_t)ovc_page_addr(r, at) / PAGE;
		uint64_t said = atomic_load(&promises[at / OVC_PIECE]);
		uint64_t free = 0;

		n = r->nr - at < OVC_PIECE ? r->nr - at : OVC_PIECE;
		if (pread(pagemap, map, n * 8, (off_t)(first * 8)) !=
		    (ssize_t)(n * 8))
			abort();
		for (uint64_t i = 0; i < n; i++)
			free += ovc_word_state(atomic_load(
					&r->words[at + i])) == OVC_SHARED &&
				is_present(map[i]) &&
				(!(map[i] & PM_UFFD_WP) || is_private(map[i]));
		if (free > said)
			wrong("%s page %llu: %llu pages may be written unasked, "
			      "and %llu are promised",
			      r->vm->name, (unsigned long long)at,
			      (unsigned long long)free,
			      (unsigned long long)said);
		seen.promised += said;
	}
}

static const struct shadow *shadow_of(const struct ovc_region *r)
{
	for (unsigned i = 0; i < VMS * REGIONS; i++)
		if (places[i].mem.addr == r->base)
			return &places[i].mem;
	abort();
}

/* ---- a VM, the ring, the store ---------------------------------------------- */

/* Slots that wait in the ring, or with a page that is held back. */
static void name_waiting(const struct ovc_vm *vm)
{
	const struct ovc_host *h = vm->host;
	const struct ovc_staging *ring = &h->staging;

	for (uint64_t i = 0; i < ring->high; i++) {
		const struct ovc_entry *e = &ring->entries[i];

		if (e->region && e->region->vm == vm &&
		    atomic_load(&e->slot) != OVC_NO_SLOT)
			name_slot(atomic_load(&e->slot));
		if (e->busy)
			wrong("the ring is being written");
	}
	for (unsigned i = 0; i < h->nr_faulters * OVC_HOLDS; i++) {
		const struct ovc_region *r = atomic_load(&h->holds[i].region);

		if (r && r->vm == vm &&
		    atomic_load(&h->holds[i].slot) != OVC_NO_SLOT)
			name_slot(atomic_load(&h->holds[i].slot));
	}
}

static uint64_t slots_named(void)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < SLOTS / 8; i++)
		n += (unsigned)__builtin_popcount(seen.slots[i]);
	return n;
}

static void walk_vm(const struct ovc_vm *vm, int pagemap)
{
	const uint64_t *n = seen.state;

	memset(seen.state, 0, sizeof(seen.state));
	memset(seen.slots, 0, SLOTS / 8);
	for (unsigned k = 0; k < vm->nr_regions; k++)
		walk_region(vm->regions[k], shadow_of(vm->regions[k]), pagemap);
	for (unsigned k = 0; k < vm->nr_regions; k++)
		check_promises(vm->regions[k], pagemap);
	same("resident", vm->name, atomic_load(&vm->resident),
	     n[OVC_RESIDENT] + n[OVC_CLEAN]);
	same("staged", vm->name, atomic_load(&vm->staged),
	     n[OVC_STAGED] + n[OVC_WRITING] + n[OVC_DOOMED]);
	same("swapped", vm->name, atomic_load(&vm->swapped), n[OVC_SWAPPED]);
	same("shared", vm->name, atomic_load(&vm->shared),
	     n[OVC_STORED] + n[OVC_SHARED]);
	same("mapped", vm->name, atomic_load(&vm->mapped), n[OVC_SHARED]);
	name_waiting(vm);
	same("slots", vm->name, ovc_swap_used(vm->swap), slots_named());
	seen.used += n[OVC_RESIDENT] + n[OVC_CLEAN];
}

static void note_page(void *arg, uint64_t page, uint64_t hash)
{
	(void)hash;
	if (page >= seen.pages) {
		wrong("the store has a page %llu", (unsigned long long)page);
		return;
	}
	if (seen.owner[page])
		wrong("two domains have page %llu", (unsigned long long)page);
	seen.owner[page] = *(const uint32_t *)arg;
}

/* Whose each page of the store is; also those of domains that are gone. */
static void look_at_store(const struct ovc_host *h)
{
	seen.pages = (uint64_t)1 << 18;
	seen.refs = calloc(seen.pages, sizeof(*seen.refs));
	seen.owner = calloc(seen.pages, sizeof(*seen.owner));
	seen.slots = malloc(SLOTS / 8);
	if (!seen.refs || !seen.owner || !seen.slots)
		abort();
	for (uint32_t d = 1; h->store && d <= h->next_domain; d++)
		ovc_shared_each(h->store, d, note_page, &d);
}

static void check_domain(const struct ovc_domain *d)
{
	uint64_t refs = 0, stored = 0;

	for (uint64_t p = 0; p < seen.pages; p++) {
		refs += seen.owner[p] == d->id ? seen.refs[p] : 0;
		stored += seen.owner[p] == d->id;
	}
	same("references", "a domain", atomic_load(&d->refs), refs);
	same("pages", "a domain", d->stored, stored);
}

static void check_store(const struct ovc_host *h)
{
	uint64_t used = 0, dead = 0;

	for (uint64_t p = 1; p < seen.pages; p++) {
		used += seen.owner[p] != 0;
		dead += seen.owner[p] && !seen.refs[p];
		if (ovc_shared_refs(h->store, p) != seen.refs[p])
			wrong("page %llu of the store has %u references, and "
			      "%llu words name it",
			      (unsigned long long)p,
			      ovc_shared_refs(h->store, p),
			      (unsigned long long)seen.refs[p]);
	}
	same("pages", "the store", ovc_shared_used(h->store), used);
	/* One that was taken up again is counted until the next sweep. */
	if (ovc_shared_dead(h->store) < dead)
		wrong("%llu dead pages of the store, of which %llu are known",
		      (unsigned long long)dead,
		      (unsigned long long)ovc_shared_dead(h->store));
	for (const struct ovc_domain *d = h->domains; d; d = d->next)
		check_domain(d);
	seen.used += used;
}

static void check_used(const struct ovc_host *h)
{
	const struct ovc_staging *ring = &h->staging;

	for (uint64_t i = 0; i < ring->high; i++)
		seen.used += ring->entries[i].frame;
	same("promised", "the host", atomic_load(&h->promised), seen.promised);
	same("used", "the host", atomic_load(&h->used),
	     seen.used + seen.frameless + seen.promised);
}

const char *walk(void)
{
	static char why[256];
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	memset(&seen, 0, sizeof(seen));
	ovc_host_quiesce(host);
	ovc_control_lock(host);
	look_at_store(host);
	for (unsigned i = 0; i < host->end; i++)
		if (host->vms[i])
			walk_vm(host->vms[i], pagemap);
	if (host->store)
		check_store(host);
	check_used(host);
	ovc_control_unlock(host);
	close(pagemap);
	free(seen.refs);
	free(seen.owner);
	free(seen.slots);
	snprintf(why, sizeof(why), "%s", seen.why);
	return why[0] ? why : NULL;
}
