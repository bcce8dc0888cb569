/* SPDX-License-Identifier: MIT */
/*
 * The balloon: frames that come and go, the target, what the guest says of itself.
 *
 * Frames arrive by guest frame number, in any order. They are sorted a piece at a time,
 * joined to runs, found in the VM's regions, and handed on region by region (donate.c,
 * refill.c). What the guest says is never believed: a number that is no frame of the VM is
 * counted and left alone.
 *
 * The target is the larger of what the policy wants and what the VMM asked for, within the
 * cap. Who polls for it clears the descriptor before reading, so that no change is
 * missed. A guest out of memory lowers all three at once.
 *
 * Failures: no memory for the bits of a region's frames leaves these frames the guest's,
 * and is returned when all other frames are done. When the driver goes, so does the
 * balloon: its frames are the guest's, as empty as they are.
 */
#include "balloon.h"

#include <errno.h>
#include <string.h>

#include "donate.h"
#include "frames.h"
#include "refill.h"
#include "sys/thread.h"

#define PIECE	    512 /* frames handled at once */
#define CAP	    65	/* percent */
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

static struct ovc_region *find_frame(const struct ovc_vm *vm, uint32_t frame)
{
	for (unsigned i = 0; i < vm->nr_regions; i++)
		if (holds(vm->regions[i], (uint64_t)frame * OVC_PAGE))
			return vm->regions[i];
	return NULL;
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
	return found;
}

static int report_section(struct section *s, struct ovc_donation *sum)
{
	int error = 0;

	if (s->nr)
		error = donate_runs(s->r, s->run, s->nr, OVC_REPORTED, sum);
	s->nr = 0;
	return error;
}

/* Whole pages from addr to end, in whatever regions they are: added to the section, which
 * is reported when they are of another region, or many. */
static int report_range(struct ovc_vm *vm, const char *addr, const char *end,
			struct section *s, struct ovc_donation *sum)
{
	int error = 0, e;

	for (const char *next; addr < end; addr = next) {
		struct ovc_region *r = s->r;
		struct ovc_run run = { 0 };

		next = end;
		if (!r || !has_addr(r, addr))
			r = find_addr(vm, addr, &next);
		if (!r) {
			sum->outside += (uint64_t)(next - addr) / OVC_PAGE;
			continue;
		}
		if (ovc_page_addr(r, r->nr) < end)
			next = ovc_page_addr(r, r->nr);
		if (r != s->r || s->nr == PIECE) {
			e = report_section(s, sum);
			error = error ? error : e;
			s->r = r;
		}
		run.idx = (uint64_t)(addr - r->base) / OVC_PAGE;
		run.nr = (uint64_t)(next - addr) / OVC_PAGE;
		s->run[s->nr++] = run;
	}
	return error;
}

int ovc_balloon_report(struct ovc_vm *vm, const struct ovc_range *ranges,
		       size_t nr, struct ovc_donation *sum)
{
	struct section s;
	int error = 0, e;

	s.r = NULL;
	s.nr = 0;
	pthread_mutex_lock(&vm->pinning);
	for (size_t i = 0; i < nr; i++) {
		uintptr_t begin = (uintptr_t)ranges[i].addr;
		uintptr_t end = begin + ranges[i].len;

		/* The whole pages of it; one that wraps around has none. */
		if (end < begin || begin > UINTPTR_MAX - OVC_PAGE)
			continue;
		begin = ROUND_UP(begin);
		end &= ~(OVC_PAGE - 1);
		e = report_range(vm, (const char *)begin, (const char *)end, &s,
				 sum);
		error = error ? error : e;
	}
	e = report_section(&s, sum);
	pthread_mutex_unlock(&vm->pinning);
	count_donation(vm, sum, &vm->balloon.reported);
	return donation_failed("balloon_report", error ? error : e, sum);
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

void ovc_balloon_deflate(struct ovc_vm *vm, const uint32_t *pfns, size_t nr,
			 struct ovc_deflation *sum)
{
	for (size_t at = 0, n; at < nr; at += n) {
		n = nr - at < PIECE ? nr - at : PIECE;
		deflate_piece(vm, pfns + at, n, sum);
	}
	atomic_fetch_add(&vm->balloon.deflated, sum->taken);
	atomic_fetch_add(&vm->balloon.refused, sum->refused + sum->outside);
}

/* ---- the target --------------------------------------------------------------- */

static uint64_t most(const struct ovc_vm *vm)
{
	return atomic_load(&vm->configured) * vm->balloon.cap / 100 * OVC_PAGE;
}

/* Needs the lock. */
static void settle_target(struct ovc_vm *vm)
{
	struct ovc_vm_balloon *b = &vm->balloon;
	uint64_t target = b->wanted > b->asked ? b->wanted : b->asked;

	if (target > most(vm))
		target = most(vm);
	target = b->driver ? target & ~(OVC_PAGE - 1) : 0;
	if (atomic_exchange(&b->target, target) != target && b->fd >= 0)
		ovc_notify_post(b->fd);
}

void ovc_balloon_set_target(struct ovc_vm *vm, uint64_t bytes)
{
	struct ovc_vm_balloon *b = &vm->balloon;

	pthread_mutex_lock(&b->lock);
	if (b->driver)
		b->wanted = bytes;
	settle_target(vm);
	pthread_mutex_unlock(&b->lock);
}

static int no_driver(const char *what, const struct ovc_vm *vm)
{
	return ovc_fail(-ENODEV,
			"%s: the guest of %s has no balloon driver; say so "
			"with ovc_vm_balloon_set() when it has",
			what, vm->name);
}

int ovc_balloon_ask(struct ovc_vm *vm, uint64_t bytes)
{
	struct ovc_vm_balloon *b = &vm->balloon;
	uint64_t cap;
	bool driver;

	pthread_mutex_lock(&b->lock);
	driver = b->driver;
	cap = most(vm);
	if (driver && bytes <= cap) {
		b->asked = bytes;
		settle_target(vm);
	}
	pthread_mutex_unlock(&b->lock);
	if (!driver)
		return no_driver("balloon_ask", vm);
	if (bytes > cap)
		return ovc_fail(-EINVAL,
				"balloon_ask: %llu bytes are more than the "
				"balloon's cap of %llu",
				(unsigned long long)bytes,
				(unsigned long long)cap);
	return 0;
}

uint64_t ovc_balloon_target(struct ovc_vm *vm)
{
	struct ovc_vm_balloon *b = &vm->balloon;
	uint64_t target;

	pthread_mutex_lock(&b->lock);
	if (b->fd >= 0)
		ovc_notify_clear(b->fd);
	target = atomic_load(&b->target);
	pthread_mutex_unlock(&b->lock);
	return target;
}

int ovc_balloon_fd(struct ovc_vm *vm)
{
	struct ovc_vm_balloon *b = &vm->balloon;
	int fd;

	pthread_mutex_lock(&b->lock);
	if (b->fd < 0) {
		b->fd = ovc_notify_create();
		/* A target that was set before is news, too. */
		if (b->fd >= 0 && atomic_load(&b->target))
			ovc_notify_post(b->fd);
	}
	fd = b->fd;
	pthread_mutex_unlock(&b->lock);
	if (fd < 0)
		return ovc_fail(fd, "balloon_fd: no eventfd: %s",
				strerror(-fd));
	return fd;
}

int ovc_balloon_oom(struct ovc_vm *vm, uint64_t bytes, uint64_t *pages)
{
	struct ovc_vm_balloon *b = &vm->balloon;
	uint64_t held = atomic_load(&b->held) * OVC_PAGE, left;
	bool driver, on_oom;

	bytes = bytes < held ? ROUND_UP(bytes) : held;
	left = held - bytes;
	pthread_mutex_lock(&b->lock);
	driver = b->driver;
	on_oom = b->on_oom;
	if (driver && on_oom) {
		b->wanted = b->wanted < left ? b->wanted : left;
		b->asked = b->asked < left ? b->asked : left;
		settle_target(vm);
	}
	pthread_mutex_unlock(&b->lock);
	if (!driver)
		return no_driver("balloon_oom", vm);
	if (!on_oom)
		return ovc_fail(-ENOTSUP, "balloon_oom: deflate on OOM was "
					  "not negotiated; see "
					  "OVC_BALLOON_DEFLATE_ON_OOM");
	*pages = bytes / OVC_PAGE;
	return 0;
}

/* ---- the driver ----------------------------------------------------------------- */

static void forget_guest(struct ovc_vm_balloon *b)
{
	for (size_t i = 0; i < OVC_BALLOON_S_NR; i++)
		b->guest[i] = OVC_UNKNOWN;
}

void ovc_balloon_init(struct ovc_vm *vm)
{
	struct ovc_vm_balloon *b = &vm->balloon;

	pthread_mutex_init(&b->lock, NULL);
	b->fd = -1;
	b->cap = CAP;
	forget_guest(b);
}

void ovc_balloon_end(struct ovc_vm *vm)
{
	ovc_fd_close(vm->balloon.fd);
	pthread_mutex_destroy(&vm->balloon.lock);
}

void ovc_balloon_set(struct ovc_vm *vm, const struct ovc_balloon_options *o)
{
	struct ovc_vm_balloon *b = &vm->balloon;

	pthread_mutex_lock(&b->lock);
	b->driver = o->flags & OVC_BALLOON_DRIVER;
	b->on_oom = o->flags & OVC_BALLOON_DEFLATE_ON_OOM;
	b->cap = o->cap ? o->cap : CAP;
	if (!b->driver) {
		b->wanted = b->asked = 0;
		atomic_store(&b->reached, 0);
		forget_guest(b);
	}
	settle_target(vm);
	pthread_mutex_unlock(&b->lock);
	if (o->flags & OVC_BALLOON_DRIVER)
		return;
	ovc_control_lock(vm->host);
	for (unsigned i = 0; i < vm->nr_regions; i++)
		ovc_frames_forget(vm->regions[i]);
	ovc_control_unlock(vm->host);
}

int ovc_balloon_reached(struct ovc_vm *vm, uint64_t bytes)
{
	struct ovc_vm_balloon *b = &vm->balloon;
	bool driver;

	pthread_mutex_lock(&b->lock);
	driver = b->driver;
	if (driver)
		atomic_store(&b->reached, bytes);
	pthread_mutex_unlock(&b->lock);
	return driver ? 0 : no_driver("balloon_reached", vm);
}

/* ---- what the guest says of itself ------------------------------------------------ */

static int check_guest(const uint64_t *guest)
{
	static const struct {
		uint16_t tag;
		const char *name;
	} parts[] = {
		{ OVC_BALLOON_S_MEMFREE, "free" },
		{ OVC_BALLOON_S_AVAIL, "available" },
		{ OVC_BALLOON_S_CACHES, "cached" },
	};
	uint64_t total = guest[OVC_BALLOON_S_MEMTOT];

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		uint64_t part = guest[parts[i].tag];

		if (part != OVC_UNKNOWN && total != OVC_UNKNOWN && part > total)
			return ovc_fail(-EINVAL,
					"balloon_stats: the guest has %llu "
					"bytes %s of %llu in all, which cannot "
					"be; all of it is left out",
					(unsigned long long)part, parts[i].name,
					(unsigned long long)total);
	}
	return 0;
}

int ovc_balloon_guest_stats(struct ovc_vm *vm,
			    const struct ovc_balloon_stat *stats, size_t nr)
{
	struct ovc_vm_balloon *b = &vm->balloon;
	uint64_t guest[OVC_BALLOON_S_NR];
	bool driver;
	int error;

	pthread_mutex_lock(&b->lock);
	driver = b->driver;
	memcpy(guest, b->guest, sizeof(guest));
	for (size_t i = 0; i < nr; i++)
		if (stats[i].tag < OVC_BALLOON_S_NR)
			guest[stats[i].tag] = stats[i].value;
	error = driver ? check_guest(guest) : 0;
	if (driver && !error)
		memcpy(b->guest, guest, sizeof(guest));
	pthread_mutex_unlock(&b->lock);
	return driver ? error : no_driver("balloon_stats", vm);
}

void ovc_balloon_tell(struct ovc_vm *vm, struct ovc_policy_vm *to)
{
	struct ovc_vm_balloon *b = &vm->balloon;

	pthread_mutex_lock(&b->lock);
	to->flags |= b->driver ? OVC_POLICY_VM_BALLOON : 0;
	to->ballooned = atomic_load(&b->held) * OVC_PAGE;
	/* Its own: what the VMM asked for is no wish of the policy's, which would
	 * keep it when the VMM has taken it back. */
	to->balloon_target = b->wanted;
	to->balloon_reached = atomic_load(&b->reached);
	to->guest_free = b->guest[OVC_BALLOON_S_MEMFREE];
	to->guest_available = b->guest[OVC_BALLOON_S_AVAIL];
	to->guest_total = b->guest[OVC_BALLOON_S_MEMTOT];
	pthread_mutex_unlock(&b->lock);
}

void ovc_balloon_fill_stats(struct ovc_vm *vm, struct ovc_vm_stats *s)
{
	struct ovc_vm_balloon *b = &vm->balloon;

	s->ballooned = atomic_load(&b->held) * OVC_PAGE;
	s->balloon_target = atomic_load(&b->target);
	s->balloon_reached = atomic_load(&b->reached);
	s->inflated_bytes = atomic_load(&b->inflated) * OVC_PAGE;
	s->deflated_bytes = atomic_load(&b->deflated) * OVC_PAGE;
	s->deflated_by_touch = atomic_load(&b->touched) * OVC_PAGE;
	s->reported_bytes = atomic_load(&b->reported) * OVC_PAGE;
	s->balloon_refused = atomic_load(&b->refused);
	s->huge_broken = atomic_load(&b->huge);
	pthread_mutex_lock(&b->lock);
	memcpy(s->guest, b->guest, sizeof(b->guest));
	pthread_mutex_unlock(&b->lock);
}
