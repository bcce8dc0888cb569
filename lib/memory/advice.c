/* SPDX-License-Identifier: MIT */
/*
 * Runs of pages with the same traits, rising, each known by its end. A region whose mappings
 * are all alike, as nearly all are, has none: r->map_flags has their traits.
 *
 * The kernel does not tell what was advised but in smaps, which walks the page tables of
 * everything. So it is asked once, when the region is added; later advice comes through
 * ovc_vm_advise(), which gives and notes it.
 *
 * The lock is behind all others, and held for no system call. Failures: where there is
 * no memory for a run, nothing is noted. What cannot be applied to memory that was
 * mapped anew (the kernel has not enough memory to split a mapping) is logged.
 */
#include "memory/advice.h"

#include <errno.h>
#include <string.h>

#include "core/meta.h"

struct ovc_advice {
	size_t nr;
	struct advice_run {
		uint64_t end;
		unsigned traits;
	} run[];
};

#define KEPT \
	(OVC_MAP_HUGE | OVC_MAP_NOHUGE | OVC_MAP_DONTDUMP | OVC_MAP_DONTFORK)

static struct ovc_advice *make(size_t runs)
{
	return ovc_meta_zalloc(sizeof(struct ovc_advice) +
			       runs * sizeof(struct advice_run));
}

static void add(struct ovc_advice *a, uint64_t end, unsigned traits)
{
	struct advice_run *last = a->nr ? &a->run[a->nr - 1] : NULL;

	if (last && last->traits == traits)
		last->end = end;
	else if (!last || end > last->end)
		a->run[a->nr++] = (struct advice_run){ end, traits };
}

/* With the lock. */
static struct advice_run run_at(const struct ovc_region *r, uint64_t idx)
{
	const struct ovc_advice *a = r->advice;

	for (size_t i = 0; a && i < a->nr; i++)
		if (idx < a->run[i].end)
			return a->run[i];
	return (struct advice_run){ r->nr, r->map_flags };
}

static struct advice_run locked_run_at(struct ovc_region *r, uint64_t idx)
{
	struct advice_run run;

	pthread_mutex_lock(&r->advice_lock);
	run = run_at(r, idx);
	pthread_mutex_unlock(&r->advice_lock);
	return run;
}

/* ---- reading ---------------------------------------------------------------- */

struct reading {
	const struct ovc_region *r;
	struct ovc_advice *a; /* NULL: only counting */
	size_t nr;
};

static void read_one(void *arg, const void *end, unsigned traits)
{
	struct reading *reading = arg;
	size_t pages =
		(size_t)((const char *)end - reading->r->base) / OVC_PAGE;

	/* Somebody may map more while we read. */
	if (reading->a && reading->nr)
		add(reading->a, pages, traits);
	if (reading->a && reading->nr)
		reading->nr--;
	if (!reading->a)
		reading->nr++;
}

int ovc_advice_read(struct ovc_region *r)
{
	const struct ovc_proc *proc = &r->vm->host->proc;
	struct reading reading = { .r = r };
	size_t len = r->nr * OVC_PAGE;
	int error;

	if (!(r->map_flags & OVC_MAP_MIXED))
		return 0;
	r->map_flags &= ~(unsigned)OVC_MAP_MIXED;
	error = ovc_pages_traits(proc, r->base, len, read_one, &reading);
	if (error || !reading.nr)
		return error;
	reading.a = make(reading.nr);
	if (!reading.a)
		return -ENOMEM;
	error = ovc_pages_traits(proc, r->base, len, read_one, &reading);
	if (!error)
		r->advice = reading.a;
	else
		ovc_meta_free(reading.a);
	return error;
}

void ovc_advice_free(struct ovc_region *r)
{
	ovc_meta_free(r->advice);
	r->advice = NULL;
	pthread_mutex_destroy(&r->advice_lock);
}

/* ---- use -------------------------------------------------------------------- */

unsigned ovc_advice_of(struct ovc_region *r, uint64_t idx)
{
	return locked_run_at(r, idx).traits;
}

uint64_t ovc_advice_alike(struct ovc_region *r, uint64_t idx, uint64_t nr)
{
	uint64_t end = locked_run_at(r, idx).end;

	return end - idx < nr ? end - idx : nr;
}

void ovc_advice_apply(struct ovc_region *r, uint64_t idx, uint64_t nr,
		      unsigned traits)
{
	int error = 0, e;

	for (uint64_t end = idx + nr; idx < end;) {
		struct advice_run run = locked_run_at(r, idx);

		run.end = run.end < end ? run.end : end;
		e = ovc_pages_advise(ovc_page_addr(r, idx),
				     (run.end - idx) * OVC_PAGE,
				     (run.traits | OVC_MAP_DONTFORK) & traits);
		error = error ? error : e;
		idx = run.end;
	}
	if (error)
		ovc_log(r->vm->host, OVC_LOG_WARNING,
			"%s: what was advised of a part of region %p is lost: "
			"%s",
			r->vm->name, (void *)r->base, strerror(-error));
}

void ovc_advice_end(struct ovc_region *r)
{
	for (uint64_t idx = 0; idx < r->nr;) {
		struct advice_run run = locked_run_at(r, idx);

		if (!(run.traits & OVC_MAP_DONTFORK))
			ovc_pages_dontfork(ovc_page_addr(r, idx),
					   (run.end - idx) * OVC_PAGE, false);
		idx = run.end;
	}
}

/* With the lock: the runs as they are outside of [idx, end), and changed inside. */
static void note_all(const struct ovc_region *r, struct ovc_advice *to,
		     uint64_t idx, uint64_t end, unsigned set, unsigned clear)
{
	for (uint64_t at = 0; at < r->nr;) {
		struct advice_run run = run_at(r, at);
		bool inside = at >= idx && at < end;

		if (at < idx && run.end > idx)
			run.end = idx;
		if (inside && run.end > end)
			run.end = end;
		if (inside)
			run.traits = (run.traits & ~clear) | set;
		add(to, run.end, run.traits);
		at = run.end;
	}
}

int ovc_advice_note(struct ovc_region *r, uint64_t idx, uint64_t nr,
		    unsigned set, unsigned clear)
{
	struct ovc_advice *to, *old;

	pthread_mutex_lock(&r->advice_lock);
	old = r->advice;
	to = make((old ? old->nr : 1) + 2);
	if (to) {
		note_all(r, to, idx, idx + nr, set & KEPT, clear & KEPT);
		r->advice = to;
	}
	pthread_mutex_unlock(&r->advice_lock);
	if (to)
		ovc_meta_free(old);
	return to ? 0 : -ENOMEM;
}
