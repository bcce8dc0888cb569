/* SPDX-License-Identifier: MIT */
/*
 * A region's life: added (the kernel's alone), tracked (track.c), brought back
 * (leave.c), freed.
 *
 * Failures: each undoes what came before.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/check.h"
#include "balloon/frames.h"
#include "core/internal.h"
#include "core/meta.h"
#include "core/tables.h"
#include "memory/advice.h"
#include "memory/memory.h"
#include "policy/hints.h"
#include "share/promise.h"
#include "sys/memfd.h"
#include "trouble/untaken.h"

/* ---- creation ------------------------------------------------------------------ */

static size_t words_len(const struct ovc_region *r)
{
	return (r->nr * sizeof(ovc_word) + OVC_PAGE - 1) & ~(OVC_PAGE - 1);
}

/* A bit for each 512 pages. */
static size_t groups_len(const struct ovc_region *r)
{
	return ((r->nr / 512 + 64) / 64 * 8 + OVC_PAGE - 1) & ~(OVC_PAGE - 1);
}

/* Of those whose words are in use, and of those whose marks are. */
static size_t touched_len(const struct ovc_region *r)
{
	return 2 * groups_len(r);
}

/* Numbers that no region has now. Once all were used they begin anew: hints that are
 * left of a region that is gone are wrong, as any hint may be. */
static uint64_t take_numbers(struct ovc_host *host, uint64_t nr)
{
	const struct ovc_map *map = atomic_load(&host->map);
	uint64_t at = host->next_number;

	if (at + nr >= OVC_HINT_STORE)
		at = 1;
	for (size_t i = 0; map && i < map->nr; i++) {
		const struct ovc_region *r = map->regions[i];

		if (at < r->number + r->nr && r->number < at + nr) {
			at = r->number + r->nr;
			i = (size_t)-1; /* from the first again */
		}
	}
	host->next_number = at + nr;
	return at;
}

static size_t marks_len(const struct ovc_region *r)
{
	return (r->nr + OVC_PAGE - 1) & ~(OVC_PAGE - 1);
}

/* A memfd that others map, too, must keep its pages. */
static bool may_map(const struct ovc_host *host,
		    const struct ovc_region_options *o)
{
	return host->laid_uffd >= 0 && !(o->flags & OVC_REGION_DIRECT_IO) &&
	       (!o->memfd || o->flags & OVC_REGION_UNSHARED_MEMFD);
}

int ovc_region_create(struct ovc_vm *vm, const struct ovc_region_options *o,
		      struct ovc_region **regionp)
{
	struct ovc_region *r;
	void *words, *touched, *marks = NULL;
	struct ovc_mapping m;
	int error = ovc_region_check(vm, o, &m);

	if (error)
		return error;
	r = ovc_meta_zalloc(sizeof(*r));
	if (!r)
		return ovc_fail(-ENOMEM, "add_region: out of memory");
	r->vm = vm;
	r->memory = o->memfd ? &ovc_memory_memfd : &ovc_memory_anon;
	r->base = o->addr;
	r->nr = o->len / OVC_PAGE;
	r->gpa = o->gpa;
	r->id = vm->host->next_region_id++;
	r->memfd = -1;
	r->refused = OVC_UNTAKEN_NR;
	r->memfd_offset = o->memfd_offset;
	r->device = m.device;
	r->inode = m.inode;
	error = ovc_pages_reserve(words_len(r), &words);
	r->words = error ? NULL : words;
	if (!error)
		error = ovc_pages_reserve(touched_len(r), &touched);
	r->touched = error ? NULL : touched;
	r->marked = error ? NULL : r->touched + groups_len(r) / 8;
	if (!error)
		error = ovc_pages_reserve(marks_len(r), &marks);
	r->marks = marks;
	r->map_flags = m.traits;
	pthread_mutex_init(&r->advice_lock, NULL);
	if (!error)
		error = ovc_advice_read(r);
	r->mapped_from = UINT64_MAX;
	r->unmapped_from = UINT64_MAX;
	r->mappable = may_map(vm->host, o);
	r->direct = o->flags & OVC_REGION_DIRECT_IO;
	r->number = take_numbers(vm->host, r->nr);
	if (!error && o->memfd)
		error = ovc_memfd_map(&vm->host->proc, o->memfd,
				      o->memfd_offset, o->len, &r->memfd,
				      &r->view);
	if (error) {
		ovc_region_free(r);
		return ovc_fail(error, "add_region: no room for its tables: %s",
				strerror(-error));
	}
	error = ovc_region_own(r);
	if (error)
		ovc_log(vm->host, OVC_LOG_WARNING,
			"%s: region %p is not wholly the guest's own: %s; what "
			"others share of it cannot be taken",
			vm->name, (void *)r->base, strerror(-error));
	if (!r->mappable)
		ovc_log(vm->host, OVC_LOG_DEBUG,
			"%s: shared pages of region %p are not mapped: %s",
			vm->name, (void *)r->base,
			vm->host->laid_uffd >= 0 ?
				"others may map its memfd (no "
				"OVC_REGION_UNSHARED_MEMFD)" :
				"no userfaultfd for it");
	*regionp = r;
	return 0;
}

/* Pins that nobody took back end with their region. */
static void drop_pins(struct ovc_region *r)
{
	uint64_t nr = 0;

	for (uint64_t i = 0; i < r->nr; i++) {
		if (!(i % 512) && !ovc_region_touched(r, i)) {
			i += 511;
			continue;
		}
		nr += ovc_word_pins(atomic_load(&r->words[i])) != 0;
	}
	atomic_fetch_sub(&r->vm->pinned, nr);
	atomic_fetch_sub(&r->vm->host->pinned, nr);
}

void ovc_region_free(struct ovc_region *r)
{
	uint64_t pages = 0, marks = 0;

	for (uint64_t i = 0; r->touched && i < groups_len(r) / 8; i++) {
		pages += (uint64_t)__builtin_popcountll(
			atomic_load(&r->touched[i]));
		marks += (uint64_t)__builtin_popcountll(
			atomic_load(&r->marked[i]));
	}
	if (pages)
		drop_pins(r);
	atomic_fetch_sub(&r->vm->host->tables,
			 pages * OVC_PAGE + marks * OVC_MARKS);
	ovc_untaken_free(r);
	ovc_promise_free(r);
	ovc_frames_free(r);
	ovc_advice_free(r);
	ovc_memfd_unmap(r->memfd, r->view, r->nr * OVC_PAGE);
	ovc_pages_release(r->words, words_len(r));
	ovc_pages_release(r->touched, touched_len(r));
	ovc_pages_release(r->marks, marks_len(r));
	ovc_meta_free(r);
}
