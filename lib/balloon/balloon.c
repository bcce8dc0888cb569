/* SPDX-License-Identifier: MIT */
/*
 * The balloon: frames that come and go.
 *
 * They arrive by guest frame number, in any order, or as ranges of addresses. Numbers are
 * sorted a piece at a time, joined to runs, found in the VM's regions, and handed on
 * region by region (donate.c, refill.c); ranges are runs already. What the guest says is never
 * believed: what is no frame of the VM is counted and left alone. What its driver is told
 * and tells is in driver.c.
 *
 * Failures: no memory for the bits of a region's frames leaves these frames the guest's,
 * and is returned when all other frames are done.
 */
#include "balloon/balloon.h"

#include <errno.h>
#include <string.h>

#include "balloon/donate.h"
#include "balloon/frames.h"
#include "balloon/refill.h"
#include "core/control.h"

#define PIECE	    512 /* frames handled at once */
#define ROUND_UP(x) (((x) + OVC_PAGE - 1) & ~(OVC_PAGE - 1))

/* ---- frames ---------------------------------------------------------------- */

/* By a byte at a time, lowest first: a comparison costs as much as dropping a page. */
static void sort_frames(uint32_t *frame, size_t nr)
{
	uint32_t other[PIECE], *from = frame, *to = other;

	for (unsigned shift = 0; shift < 32; shift += 8) {
		uint32_t at[257] = { 0 }, *swap = from;

		for (size_t i = 0; i < nr; i++)
			at[(from[i] >> shift & 255) + 1]++;
		if (at[(from[0] >> shift & 255) + 1] == nr)
			continue; /* all the same */
		for (unsigned i = 1; i < 256; i++)
			at[i] += at[i - 1];
		for (size_t i = 0; i < nr; i++)
			to[at[from[i] >> shift & 255]++] = from[i];
		from = to;
		to = swap;
	}
	if (from != frame)
		memcpy(frame, from, nr * sizeof(*frame));
}

static bool is_rising(const uint32_t *frame, size_t nr)
{
	for (size_t i = 1; i < nr; i++)
		if (frame[i] <= frame[i - 1])
			return false;
	return true;
}

/* Sorts a copy. Frames that are there twice go; how many is added to *twice. */
static size_t take_frames(const uint32_t *pfns, size_t nr, uint32_t *frame,
			  uint64_t *twice)
{
	size_t out = 1;

	memcpy(frame, pfns, nr * sizeof(*frame));
	if (is_rising(frame, nr))
		return nr;
	sort_frames(frame, nr);
	for (size_t i = 1; i < nr; i++)
		if (frame[i] != frame[i - 1])
			frame[out++] = frame[i];
	*twice += nr - out;
	return out;
}

/* None that has no guest physical address, since its gpa is above all frames'. */
static bool holds(const struct ovc_region *r, uint64_t gpa)
{
	return gpa >= r->gpa && gpa - r->gpa < r->nr * OVC_PAGE;
}

/* The last that begins no later is the one, if any. */
static struct ovc_region *find_frame(const struct ovc_vm *vm, uint32_t frame)
{
	uint64_t gpa = (uint64_t)frame * OVC_PAGE;
	unsigned lo = 0, hi = vm->nr_regions;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (vm->by_gpa[mid]->gpa <= gpa)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo && holds(vm->by_gpa[lo - 1], gpa) ? vm->by_gpa[lo - 1] : NULL;
}

/* Frames in a row, from frame[*at] on, that are of one region: as runs of it. */
struct section {
	struct ovc_region *r;
	size_t nr;
	struct ovc_run run[PIECE];
};

static void add_frame(struct section *s, uint64_t idx)
{
	struct ovc_run *last = s->nr ? &s->run[s->nr - 1] : NULL;

	if (last && last->idx + last->nr == idx)
		last->nr++;
	else
		s->run[s->nr++] = (struct ovc_run){ .idx = idx, .nr = 1 };
}

/* The next section of rising frames; false behind the last. Skips frames of no region. */
static bool next_section(struct ovc_vm *vm, const uint32_t *frame, size_t nr,
			 size_t *at, struct section *s, uint64_t *outside)
{
	s->r = NULL;
	s->nr = 0;
	ovc_control_lock(vm->host);
	while (*at < nr && !(s->r = find_frame(vm, frame[*at]))) {
		++*outside;
		++*at;
	}
	ovc_control_unlock(vm->host);
	for (; *at < nr; ++*at) {
		uint64_t gpa = (uint64_t)frame[*at] * OVC_PAGE;

		if (!s->r || !holds(s->r, gpa))
			break;
		add_frame(s, (gpa - s->r->gpa) / OVC_PAGE);
	}
	return s->r;
}

/* ---- inflate, report --------------------------------------------------------- */

/* Adds up what one region's pages came to. */
static void add_up(struct ovc_donation *sum, const struct ovc_donated *d)
{
	sum->given += d->given > d->failed ? d->given - d->failed : 0;
	sum->again += d->again;
	sum->pinned += d->pinned;
	sum->huge += d->huge;
	sum->freed += d->freed * OVC_PAGE;
	sum->failed += d->failed;
}

static void count_donation(struct ovc_vm *vm, const struct ovc_donation *d,
			   _Atomic uint64_t *given)
{
	struct ovc_vm_balloon *b = &vm->balloon;

	atomic_fetch_add(given, d->given);
	atomic_fetch_add(&b->huge, d->huge);
	atomic_fetch_add(&b->refused, d->pinned + d->outside);
}

static int donate_runs(struct ovc_region *r, const struct ovc_run *runs,
		       size_t nr, enum ovc_donation_kind kind,
		       struct ovc_donation *sum)
{
	struct ovc_donated d = { 0 };
	int error = ovc_donate(r, runs, nr, kind, &d);

	if (error == -ENOMEM && !d.given && !d.again)
		for (size_t i = 0; i < nr; i++)
			sum->failed += runs[i].nr;
	add_up(sum, &d);
	return error;
}

static int inflate_piece(struct ovc_vm *vm, const uint32_t *pfns, size_t nr,
			 struct ovc_donation *sum)
{
	uint32_t frame[PIECE];
	struct section s;
	size_t at = 0;
	int error = 0;

	nr = take_frames(pfns, nr, frame, &sum->again);
	pthread_mutex_lock(&vm->pinning);
	while (next_section(vm, frame, nr, &at, &s, &sum->outside)) {
		int e = donate_runs(s.r, s.run, s.nr, OVC_BALLOONED, sum);

		error = error ? error : e;
	}
	pthread_mutex_unlock(&vm->pinning);
	return error;
}

static int donation_failed(const char *what, int error,
			   const struct ovc_donation *sum)
{
	if (!error)
		return 0;
	return ovc_fail(error,
			"%s: %llu pages could not be dropped and stay the "
			"guest's: %s; the others are done",
			what, (unsigned long long)sum->failed,
			strerror(-error));
}

int ovc_balloon_inflate(struct ovc_vm *vm, const uint32_t *pfns, size_t nr,
			struct ovc_donation *sum)
{
	int error = 0;

	for (size_t at = 0, n; at < nr; at += n) {
		int e;

		n = nr - at < PIECE ? nr - at : PIECE;
		e = inflate_piece(vm, pfns + at, n, sum);
		error = error ? error : e;
	}
	count_donation(vm, sum, &vm->balloon.inflated);
	return donation_failed("balloon_inflate", error, sum);
}

/* ---- deflate ----------------------------------------------------------------- */

/* Takes one run's frames out of the balloon, and fills them. */
static void deflate_run(struct ovc_region *r, const struct ovc_run *run,
			struct ovc_deflation *sum)
{
	uint64_t from = run->idx, end = run->idx + run->nr, n;

	for (uint64_t i = run->idx; i < end; i += n) {
		n = ovc_frames_to_huge_end(r, i);
		if (atomic_load(&r->frames))
			ovc_frames_unlook(r, i);
	}
	for (uint64_t i = from; i <= end; i++) {
		bool taken = i < end && ovc_frames_take(r, i);

		if (taken) {
			sum->taken++;
			continue;
		}
		sum->refused += i < end;
		if (i > from)
			sum->filled += ovc_refill(r, from, i - from);
		from = i + 1;
	}
}

static void deflate_piece(struct ovc_vm *vm, const uint32_t *pfns, size_t nr,
			  struct ovc_deflation *sum)
{
	uint32_t frame[PIECE];
	struct section s;
	size_t at = 0;

	nr = take_frames(pfns, nr, frame, &sum->refused);
	while (next_section(vm, frame, nr, &at, &s, &sum->outside))
		for (size_t i = 0; i < s.nr; i++)
			deflate_run(s.r, &s.run[i], sum);
}

/* What the driver said that its balloon holds is of before. */
static void count_deflation(struct ovc_vm *vm, const struct ovc_deflation *sum)
{
	struct ovc_vm_balloon *b = &vm->balloon;

	atomic_fetch_add(&b->deflated, sum->taken);
	atomic_fetch_add(&b->refused, sum->refused + sum->outside);
	if (sum->taken)
		atomic_store(&b->stale, true);
}

void ovc_balloon_deflate(struct ovc_vm *vm, const uint32_t *pfns, size_t nr,
			 struct ovc_deflation *sum)
{
	for (size_t at = 0, n; at < nr; at += n) {
		n = nr - at < PIECE ? nr - at : PIECE;
		deflate_piece(vm, pfns + at, n, sum);
	}
	count_deflation(vm, sum);
}

/* ---- ranges ------------------------------------------------------------------- */

/* What is done with the pages of ranges: a section at a time. */
struct sorting {
	struct ovc_vm *vm;
	int (*fn)(struct section *s, void *sum);
	void *sum;
	uint64_t outside; /* pages */
	int error;	  /* the first */
	struct section s;
};

static void end_section(struct sorting *sort)
{
	int error = sort->s.nr ? sort->fn(&sort->s, sort->sum) : 0;

	sort->error = sort->error ? sort->error : error;
	sort->s.nr = 0;
}

static bool has_addr(const struct ovc_region *r, const char *addr)
{
	return addr >= r->base && addr < ovc_page_addr(r, r->nr);
}

/* The region at addr, and where before `end` it, or what is none, ends. */
static struct ovc_region *find_addr(struct ovc_vm *vm, const char *addr,
				    const char **end)
{
	struct ovc_region *found = NULL;

	ovc_control_lock(vm->host);
	for (unsigned i = 0; i < vm->nr_regions && !found; i++) {
		struct ovc_region *r = vm->regions[i];

		if (has_addr(r, addr))
			found = r;
		else if (r->base > addr && r->base < *end)
			*end = r->base;
	}
	ovc_control_unlock(vm->host);
	if (found && ovc_page_addr(found, found->nr) < *end)
		*end = ovc_page_addr(found, found->nr);
	return found;
}

/* Whole pages from addr to end, in whatever regions they are. */
static void sort_range(struct sorting *sort, const char *addr, const char *end)
{
	struct section *s = &sort->s;

	for (const char *next; addr < end; addr = next) {
		struct ovc_region *r = s->r;

		next = end;
		if (!r || !has_addr(r, addr))
			r = find_addr(sort->vm, addr, &next);
		else if (ovc_page_addr(r, r->nr) < end)
			next = ovc_page_addr(r, r->nr);
		if (!r) {
			sort->outside += (uint64_t)(next - addr) / OVC_PAGE;
			continue;
		}
		if (r != s->r || s->nr == PIECE)
			end_section(sort);
		s->r = r;
		s->run[s->nr++] = (struct ovc_run){
			.idx = (uint64_t)(addr - r->base) / OVC_PAGE,
			.nr = (uint64_t)(next - addr) / OVC_PAGE,
		};
	}
}

static void sort_ranges(struct sorting *sort, const struct ovc_range *ranges,
			size_t nr)
{
	sort->s.r = NULL;
	sort->s.nr = 0;
	for (size_t i = 0; i < nr; i++) {
		uintptr_t begin = (uintptr_t)ranges[i].addr;
		uintptr_t end = begin + ranges[i].len;

		/* The whole pages of it; one that wraps around has none. */
		if (end < begin || begin > UINTPTR_MAX - OVC_PAGE)
			continue;
		sort_range(sort, (const char *)ROUND_UP(begin),
			   (const char *)(end & ~(OVC_PAGE - 1)));
	}
	end_section(sort);
}

static int report_section(struct section *s, void *sum)
{
	return donate_runs(s->r, s->run, s->nr, OVC_REPORTED, sum);
}

static int inflate_section(struct section *s, void *sum)
{
	return donate_runs(s->r, s->run, s->nr, OVC_BALLOONED, sum);
}

static int deflate_section(struct section *s, void *sum)
{
	for (size_t i = 0; i < s->nr; i++)
		deflate_run(s->r, &s->run[i], sum);
	return 0;
}

static int donate_ranges(struct ovc_vm *vm, const struct ovc_range *ranges,
			 size_t nr, struct ovc_donation *sum,
			 int (*fn)(struct section *s, void *sum))
{
	struct sorting sort = { .vm = vm, .fn = fn, .sum = sum };

	pthread_mutex_lock(&vm->pinning);
	sort_ranges(&sort, ranges, nr);
	pthread_mutex_unlock(&vm->pinning);
	sum->outside += sort.outside;
	return sort.error;
}

int ovc_balloon_report(struct ovc_vm *vm, const struct ovc_range *ranges,
		       size_t nr, struct ovc_donation *sum)
{
	int error = donate_ranges(vm, ranges, nr, sum, report_section);

	count_donation(vm, sum, &vm->balloon.reported);
	return donation_failed("balloon_report", error, sum);
}

int ovc_balloon_inflate_ranges(struct ovc_vm *vm,
			       const struct ovc_range *ranges, size_t nr,
			       struct ovc_donation *sum)
{
	int error = donate_ranges(vm, ranges, nr, sum, inflate_section);

	count_donation(vm, sum, &vm->balloon.inflated);
	return donation_failed("balloon_inflate_ranges", error, sum);
}

void ovc_balloon_deflate_ranges(struct ovc_vm *vm,
				const struct ovc_range *ranges, size_t nr,
				struct ovc_deflation *sum)
{
	struct sorting sort = { .vm = vm, .fn = deflate_section, .sum = sum };

	sort_ranges(&sort, ranges, nr);
	sum->outside += sort.outside;
	count_deflation(vm, sum);
}
