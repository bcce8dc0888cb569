/* SPDX-License-Identifier: MIT */
/*
 * What cannot be taken is known, counted, named and told.
 *
 * A page that the kernel refused to take (or to free) rests: 10 ms the first time,
 * twice as long each time that it is refused again, 10 s at most. It is noted in the
 * record of its chunk, which has a bit for each of its pages:
 *
 *   bit  until    the page is   the clock's hand
 *   0             free          may take it
 *   1    later    resting       passes it by
 *   1    past     due           may take it: then it is free. Refused again, it rests
 *                               twice as long
 *
 * So a page that was pinned for a moment costs two calls, and a guest whose memory is
 * locked a few calls a chunk in ten seconds.
 *
 * Why it was refused is found out from the error and from what the kernel says of the
 * page, as far as it says it: see cause_of(). A chunk has one cause, the last.
 *
 * Failures: without memory for a record, the page is made hot, so that the hand passes it
 * by for some laps, and is not counted. The records are allocated when the first page is
 * refused, and freed with the region.
 */
#include "trouble/untaken.h"

#include <errno.h>
#include <string.h>

#include "core/meta.h"
#include "core/tables.h"
#include "memory/track.h"
#include "policy/clock.h"
#include "sys/machine.h"
#include "sys/memfd.h"

#define BLOCK	      256 /* records, of 16 MiB each four */
#define FIRST_MS      10
#define STEPS	      10 /* doublings */
#define SECOND	      1000000000ull
#define TELL_FIRST_NS 200000000ull /* so that the figure says something */
#define TELL_MOST_NS  (64 * SECOND)
#define LONG	      7 /* step: pinned for longer than I/O takes */

struct rest {
	uint64_t pages;	     /* a bit each */
	uint64_t until : 48; /* ms */
	uint64_t step : 8;
	uint64_t cause : 8;
};

struct ovc_untaken_records {
	uint64_t nr;
	struct rest *blocks[];
};

/* ---- records --------------------------------------------------------------- */

static struct rest *find(const struct ovc_region *r, uint64_t idx)
{
	uint64_t n = idx / OVC_CHUNK;
	struct rest *block = r->untaken ? r->untaken->blocks[n / BLOCK] : NULL;

	return block ? &block[n % BLOCK] : NULL;
}

static struct rest *make(struct ovc_region *r, uint64_t idx)
{
	uint64_t n = idx / OVC_CHUNK;
	uint64_t nr = (r->nr - 1) / OVC_CHUNK / BLOCK + 1;
	struct rest **block;

	if (!r->untaken)
		r->untaken = ovc_meta_zalloc(sizeof(*r->untaken) +
					     nr * sizeof(*block));
	if (!r->untaken)
		return NULL;
	r->untaken->nr = nr;
	block = &r->untaken->blocks[n / BLOCK];
	if (!*block)
		*block = ovc_meta_zalloc(BLOCK * sizeof(**block));
	return *block ? &(*block)[n % BLOCK] : NULL;
}

static uint64_t bit_of(uint64_t idx)
{
	return (uint64_t)1 << idx % OVC_CHUNK;
}

/* Puts other pages, and another cause, into a record; keeps the VM's sums right. */
static void set(struct ovc_vm *vm, struct rest *s, uint64_t pages,
		enum ovc_untaken cause)
{
	atomic_fetch_sub(&vm->untaken[s->cause],
			 (uint64_t)__builtin_popcountll(s->pages));
	atomic_fetch_add(&vm->untaken[cause],
			 (uint64_t)__builtin_popcountll(pages));
	s->pages = pages;
	s->cause = cause;
	if (!pages)
		s->step = 0;
}

bool ovc_untaken_is_resting(const struct ovc_region *r, uint64_t idx,
			    uint64_t now)
{
	const struct rest *s = find(r, idx);

	return s && s->pages & bit_of(idx) && now / 1000000 < s->until;
}

void ovc_untaken_clear(struct ovc_region *r, uint64_t idx)
{
	struct rest *s = find(r, idx);

	if (s && s->pages & bit_of(idx))
		set(r->vm, s, s->pages & ~bit_of(idx), s->cause);
}

void ovc_untaken_free(struct ovc_region *r)
{
	struct ovc_untaken_records *u = r->untaken;

	for (uint64_t i = 0; u && i < u->nr; i++) {
		for (unsigned k = 0; u->blocks[i] && k < BLOCK; k++)
			set(r->vm, &u->blocks[i][k], 0, 0);
		ovc_meta_free(u->blocks[i]);
	}
	ovc_meta_free(u);
	r->untaken = NULL;
}

/* ---- why ------------------------------------------------------------------- */

static const char *const texts[OVC_UNTAKEN_NR] = {
	[OVC_UNTAKEN_LOCKED] =
		"it is locked (mlock, mlockall): munlock() it, or do not lock "
		"guests that are to be overcommitted",
	[OVC_UNTAKEN_SHARED] =
		"a child of fork() shares it: end the child, or leave the "
		"region's MADV_DONTFORK as it is",
	[OVC_UNTAKEN_MERGED] = "the kernel merged it with equal pages (KSM): "
			       "madvise(MADV_UNMERGEABLE)",
	[OVC_UNTAKEN_REGISTERED] =
		"another userfaultfd has it: unregister it there",
	[OVC_UNTAKEN_SEALED] =
		"its memfd is sealed against writing: nothing of it can be "
		"freed",
	[OVC_UNTAKEN_PINNED] =
		"somebody else has it pinned (direct I/O, a device): it can be "
		"taken when that ends",
	[OVC_UNTAKEN_REFUSED] = "the kernel refuses",
};

const char *ovc_untaken_text(enum ovc_untaken cause)
{
	return texts[cause];
}

/*
 * EBUSY of UFFDIO_MOVE: the page is not this process's alone, or something holds it. The
 * page map knows how often a page is mapped, not whether it once was more often; such
 * pages were made our own when the region was added.
 */
static enum ovc_untaken why_busy(const struct ovc_host *host, const void *addr)
{
	if (ovc_pages_is_alone(&host->pagemap, addr))
		return OVC_UNTAKEN_PINNED;
	return ovc_machine_merged(&host->proc) ? OVC_UNTAKEN_MERGED :
						 OVC_UNTAKEN_SHARED;
}

static enum ovc_untaken cause_of(const struct ovc_region *r, uint64_t idx,
				 int error)
{
	char *addr = ovc_page_addr(r, idx);

	if (error == -EINVAL && ovc_pages_are_locked(addr))
		return OVC_UNTAKEN_LOCKED;
	if (error == -EPERM && r->memfd >= 0 && ovc_memfd_is_sealed(r->memfd))
		return OVC_UNTAKEN_SEALED;
	if (error == -EBUSY && r->memfd < 0)
		return why_busy(r->vm->host, addr);
	return OVC_UNTAKEN_REFUSED;
}

/* ---- telling --------------------------------------------------------------- */

static bool is_time(struct ovc_vm *vm, enum ovc_untaken cause, uint64_t now)
{
	struct ovc_told *t = &vm->told[cause];

	if (!t->next || now > t->next + 2 * TELL_MOST_NS) {
		t->next = now + TELL_FIRST_NS;
		t->wait = SECOND;
	}
	if (now < t->next)
		return false;
	t->next = now + t->wait;
	t->wait = 2 * t->wait < TELL_MOST_NS ? 2 * t->wait : TELL_MOST_NS;
	return true;
}

static void tell(struct ovc_vm *vm, enum ovc_untaken cause, int error)
{
	if (!is_time(vm, cause, ovc_now_ns()))
		return;
	ovc_log(vm->host, OVC_LOG_WARNING,
		"%s: %llu KiB cannot be taken: %s (%s)", vm->name,
		(unsigned long long)ovc_untaken_bytes(vm, cause) >> 10,
		texts[cause],
		error == -ENOMEM ? "is vm.max_map_count reached?" :
				   strerror(-error));
}

/* ---- noting ---------------------------------------------------------------- */

/* Pages of one chunk. */
static void note(struct ovc_region *r, const uint64_t *idx, unsigned nr,
		 enum ovc_untaken cause, uint64_t now)
{
	struct rest *s = make(r, *idx);
	uint64_t pages = 0;

	for (unsigned i = 0; i < nr; i++) {
		pages |= bit_of(idx[i]);
		if (!s)
			ovc_page_set_heat(&r->words[idx[i]],
					  ovc_clock_put_back(OVC_CLOCK_HOT));
	}
	if (!s)
		return;
	if (s->pages & pages && now / 1000000 >= s->until && s->step < STEPS)
		s->step++;
	s->until = now / 1000000 + ((uint64_t)FIRST_MS << s->step);
	set(r->vm, s, s->pages | pages, cause);
}

void ovc_untaken_refused(struct ovc_region *r, const uint64_t *idx, unsigned nr,
			 int error)
{
	enum ovc_untaken cause = cause_of(r, *idx, error);
	uint64_t now = ovc_now_ns();
	const struct rest *s;

	atomic_fetch_add(&r->vm->refusals, nr);
	atomic_store(&r->vm->refused_with, -error);
	for (unsigned i = 0, n; i < nr; i += n) {
		for (n = 1; i + n < nr; n++)
			if (idx[i + n] / OVC_CHUNK != idx[i] / OVC_CHUNK)
				break;
		note(r, idx + i, n, cause, now);
	}
	s = find(r, *idx);
	if (cause != OVC_UNTAKEN_PINNED || (s && s->step >= LONG))
		tell(r->vm, cause, error);
	/* No page of a sealed file can ever be freed. */
	if (cause == OVC_UNTAKEN_SEALED)
		ovc_untaken_region(r, cause, error);
}

void ovc_untaken_region(struct ovc_region *r, enum ovc_untaken cause, int error)
{
	r->refused = cause;
	if (cause == OVC_UNTAKEN_NR)
		return;
	ovc_untaken_free(r); /* all of it counts, whatever was tried */
	atomic_store(&r->vm->refused_with, -error);
	tell(r->vm, cause, error);
}

/* Pages that the guest has, of a region that is refused as a whole. */
static uint64_t count(const struct ovc_region *r)
{
	uint64_t nr = 0;

	if (!atomic_load(&r->tracked))
		return ovc_region_untracked_resident(r) / OVC_PAGE;
	for (uint64_t i = 0; i < r->nr; i++) {
		enum ovc_state s;

		if (!(i % 512) && !ovc_region_touched(r, i)) {
			i += 511;
			continue;
		}
		s = ovc_word_state(atomic_load(&r->words[i]));
		nr += s == OVC_RESIDENT || s == OVC_CLEAN;
	}
	return nr;
}

uint64_t ovc_untaken_in(const struct ovc_region *r, uint64_t idx, uint64_t nr,
			enum ovc_untaken *cause)
{
	uint64_t found = 0;

	if (r->refused != OVC_UNTAKEN_NR) {
		*cause = r->refused;
		return nr;
	}
	for (uint64_t i = idx; r->untaken && i < idx + nr; i++) {
		const struct rest *s = find(r, i);

		if (!s || !s->pages) {
			i |= OVC_CHUNK - 1;
			continue;
		}
		if (!(s->pages & bit_of(i)))
			continue;
		*cause = s->cause;
		found++;
	}
	return found;
}

uint64_t ovc_untaken_bytes(const struct ovc_vm *vm, enum ovc_untaken cause)
{
	uint64_t pages = atomic_load(&vm->untaken[cause]);

	for (unsigned i = 0; i < vm->nr_regions; i++)
		if (vm->regions[i]->refused == cause)
			pages += count(vm->regions[i]);
	return pages * OVC_PAGE;
}
