/* SPDX-License-Identifier: MIT */
/*
 * stress [threads] [scale] [iters] [seed] [options]: guests over budget against a
 * shadow copy. Plain C, so that it runs under every sanitizer.
 *
 * Two VMs of two regions each (scale MiB a region) share a third of their memory.
 * Guests write, verify and rewrite pages; callers discard, pin, reclaim, prefetch,
 * overwrite, read and ask for statistics; one controller changes limits and the
 * budget, removes and adds regions while guests use them, and creates and destroys
 * VMs of its own. A page's lock is held only where its bytes must be known.
 *
 * In the end every page must be right, through the library and after it has gone;
 * the statistics must add up; no descriptor, thread or mapping may be left. Exit 1
 * otherwise; a hang aborts (watch.c).
 */
#include <errno.h>
#include <dirent.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "overcommit.h"
#include "shadow.h"
#include "watch.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature) /* clang's way to say it */
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define MIB	((size_t)1 << 20)
#define VMS	2
#define REGIONS 2
#define EXTRA	512 /* pages of the controller's own VMs */

struct place {
	struct shadow mem;
	struct ovc_vm *vm;
	/* Held for reading by calls on the range, for writing by removal. */
	pthread_rwlock_t calls;
};

static struct {
	unsigned threads, scale;
	unsigned long iters, seed;
	bool anon, memfd, dispatch, sparse;
	uint32_t without;
	const char *dir;
} o = { 4, 16, 20000, 1, true, true, false, false, 0, NULL };

static struct ovc_host *host;
static struct ovc_vm *vms[VMS];
static struct place places[VMS * REGIONS];
static uint64_t budget;
static pthread_mutex_t control = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool done;
static _Atomic uint64_t next_tag;
static _Atomic unsigned failures, stuck, refused, moves_failed;

/* ---- odds and ends -------------------------------------------------------- */

static void fail(const char *what, long is)
{
	fprintf(stderr, "stress: FAILED: %s: %ld (%s)\n", what, is,
		ovc_error());
	atomic_fetch_add(&failures, 1);
}

static uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1du >> 16;
}

static uint64_t random_state(unsigned n)
{
	return (o.seed + 1) * 0x9e3779b97f4a7c15u ^
	       (n + 1) * 0xd1b54a32d192ed03u;
}

/* Mostly bytes of their own, sometimes zeros, sometimes equal to others. */
static uint64_t some_tag(uint64_t *rnd)
{
	uint64_t r = random_next(rnd) % 16;

	if (r < 2)
		return 0;
	if (r < 4)
		return 1 + random_next(rnd) % EQUAL_TAGS;
	return atomic_fetch_add(&next_tag, 1);
}

/* Three of four touches go to an eighth of the memory. */
static size_t some_page(const struct shadow *s, uint64_t *rnd)
{
	uint64_t r = random_next(rnd);

	return random_next(rnd) % (r % 4 ? s->nr / 8 : s->nr);
}

static void on_event(const struct ovc_event *e, void *opaque)
{
	(void)opaque;
	if (e->type == OVC_EVENT_STUCK) {
		atomic_fetch_add(&stuck, 1);
		return;
	}
	if (e->type == OVC_EVENT_MEMORY_FAILED) {
		atomic_fetch_add(&moves_failed, 1);
		return;
	}
	fprintf(stderr, "stress: FAILED: event %d: %s, %p + %zu\n", e->type,
		e->text, e->addr, e->len);
	atomic_fetch_add(&failures, 1);
}

/* ---- guests --------------------------------------------------------------- */

static void touch_one(struct watched *w, struct shadow *s, uint64_t *rnd)
{
	size_t idx = some_page(s, rnd);
	uint64_t r = random_next(rnd) % 8;

	shadow_lock(s, idx);
	if (r < 4) {
		watch(w, "guest verifies", shadow_page(s, idx));
		if (!shadow_verify(s, idx))
			atomic_fetch_add(&failures, 1);
	} else if (r < 6) {
		watch(w, "guest writes", shadow_page(s, idx));
		shadow_write(s, idx, some_tag(rnd));
	} else {
		watch(w, "guest rewrites", shadow_page(s, idx));
		shadow_rewrite(s, idx, (unsigned)random_next(rnd));
	}
	shadow_unlock(s, idx);
}

/* A guest goes through memory in order, as far as a few windows of read-ahead. */
static void scan(struct watched *w, struct shadow *s, uint64_t *rnd)
{
	size_t idx = random_next(rnd) % s->nr;

	for (size_t i = 0; i < 256 && idx < s->nr; i++, idx++) {
		shadow_lock(s, idx);
		watch(w, "guest scans", shadow_page(s, idx));
		if (!shadow_verify(s, idx))
			atomic_fetch_add(&failures, 1);
		shadow_unlock(s, idx);
	}
}

static void *guest(void *arg)
{
	unsigned n = (unsigned)(uintptr_t)arg;
	struct watched *w = watch_join("guest", n);
	uint64_t rnd = random_state(n);

	for (unsigned long i = 0; i < o.iters && !atomic_load(&failures); i++) {
		struct shadow *s =
			&places[random_next(&rnd) % (VMS * REGIONS)].mem;

		if (random_next(&rnd) % 512)
			touch_one(w, s, &rnd);
		else
			scan(w, s, &rnd);
	}
	watch_leave(w);
	return NULL;
}

/* ---- callers --------------------------------------------------------------- */

/* A range within one stripe, whose lock then covers it. */
struct range {
	size_t idx, nr, len;
	char *addr;
};

static struct range some_range(const struct shadow *s, uint64_t *rnd,
			       size_t most)
{
	struct range r = { some_page(s, rnd), 0, 0, NULL };
	size_t left = STRIPE - r.idx % STRIPE;

	if (left > s->nr - r.idx)
		left = s->nr - r.idx;
	if (left > most)
		left = most;
	r.nr = 1 + random_next(rnd) % left;
	r.len = r.nr * PAGE;
	r.addr = shadow_page(s, r.idx);
	return r;
}

static void do_discard(struct watched *w, struct place *p, uint64_t *rnd)
{
	struct range r = some_range(&p->mem, rnd, STRIPE);
	int error;

	shadow_lock(&p->mem, r.idx);
	watch(w, "discard", r.addr);
	error = ovc_vm_discard(p->vm, r.addr, r.len);
	if (!error)
		memset(&p->mem.tags[r.idx], 0, r.nr * sizeof(uint64_t));
	else if (error != -EBUSY)
		fail("discard", error);
	if (random_next(rnd) % 2 && !shadow_verify(&p->mem, r.idx))
		atomic_fetch_add(&failures, 1);
	shadow_unlock(&p->mem, r.idx);
}

static void do_overwrite(struct watched *w, struct place *p, uint64_t *rnd)
{
	struct range r = some_range(&p->mem, rnd, 16);
	int error;

	shadow_lock(&p->mem, r.idx);
	watch(w, "overwrite", r.addr);
	error = ovc_vm_overwrite(p->vm, r.addr, r.len);
	if (error)
		fail("overwrite", error);
	for (size_t i = 0; i < r.nr; i++)
		shadow_write(&p->mem, r.idx + i, some_tag(rnd));
	shadow_unlock(&p->mem, r.idx);
}

static void do_read(struct watched *w, struct place *p, uint64_t *rnd)
{
	static _Thread_local char copy[16 * 4096] __attribute__((aligned(8)));
	struct range r = some_range(&p->mem, rnd, 16);
	int error;

	shadow_lock(&p->mem, r.idx);
	watch(w, "read", r.addr);
	error = ovc_vm_read(p->vm, r.addr, copy, r.len);
	if (error)
		fail("read", error);
	for (size_t i = 0; !error && i < r.nr; i++)
		if (!shadow_verify_copy(&p->mem, r.idx + i, copy + i * PAGE))
			atomic_fetch_add(&failures, 1);
	shadow_unlock(&p->mem, r.idx);
}

static void check_resident(const struct range *r)
{
	unsigned char bits[16];

	if (mincore(r->addr, r->len, bits))
		fail("mincore", -errno);
	for (size_t i = 0; i < r->nr; i++)
		if (!(bits[i] & 1))
			fail("a pinned page is not resident", (long)i);
}

/* While it is pinned a device may write, and must find it where it was. */
static void do_pin(struct watched *w, struct place *p, uint64_t *rnd)
{
	struct range r = some_range(&p->mem, rnd, 16);
	int error;

	watch(w, "pin", r.addr);
	error = ovc_vm_pin(p->vm, r.addr, r.len);
	if (error == -ENOMEM) {
		atomic_fetch_add(&refused, 1);
		return;
	}
	if (error) {
		fail("pin", error);
		return;
	}
	watch(w, "use what is pinned", r.addr);
	check_resident(&r);
	shadow_lock(&p->mem, r.idx);
	shadow_write(&p->mem, r.idx, some_tag(rnd));
	shadow_unlock(&p->mem, r.idx);
	if (!(random_next(rnd) % 4))
		usleep(500);
	check_resident(&r);
	watch(w, "unpin", r.addr);
	error = ovc_vm_unpin(p->vm, r.addr, r.len);
	if (error)
		fail("unpin", error);
}

static void do_reclaim(struct watched *w, struct place *p, uint64_t *rnd)
{
	struct range r = some_range(&p->mem, rnd, STRIPE);
	int error;

	watch(w, "reclaim", r.addr);
	error = ovc_vm_reclaim(p->vm, r.addr, r.len);
	if (error)
		fail("reclaim", error);
}

static void do_prefetch(struct watched *w, struct place *p, uint64_t *rnd)
{
	struct range r = some_range(&p->mem, rnd, STRIPE);
	int error;

	watch(w, "prefetch", r.addr);
	error = ovc_vm_prefetch(p->vm, r.addr, r.len);
	if (error && error != -EAGAIN)
		fail("prefetch", error);
}

static void do_stats(struct watched *w, struct place *p, uint64_t *rnd)
{
	struct ovc_vm_stats v = { .size = sizeof(v) };
	struct ovc_host_stats h = { .size = sizeof(h) };
	int error;

	watch(w, "stats", NULL);
	error = random_next(rnd) % 2 ? ovc_vm_stats(p->vm, &v) :
				       ovc_host_stats(host, &h);
	if (error)
		fail("stats", error);
}

static void *caller(void *arg)
{
	static void (*const ops[])(struct watched *, struct place *,
				   uint64_t *) = {
		do_discard, do_overwrite, do_read,     do_read,
		do_pin,	    do_reclaim,	  do_prefetch, do_stats,
	};
	unsigned n = (unsigned)(uintptr_t)arg;
	struct watched *w = watch_join("caller", n);
	uint64_t rnd = random_state(1000 + n);

	while (!atomic_load(&done) && !atomic_load(&failures)) {
		struct place *p = &places[random_next(&rnd) % (VMS * REGIONS)];

		watch(w, "waits for a region", p->mem.addr);
		pthread_rwlock_rdlock(&p->calls);
		ops[random_next(&rnd) % (sizeof(ops) / sizeof(ops[0]))](w, p,
									&rnd);
		pthread_rwlock_unlock(&p->calls);
	}
	watch_leave(w);
	return NULL;
}

/* ---- control --------------------------------------------------------------- */

static int add_region(struct ovc_vm *vm, const struct shadow *s, uint64_t gpa)
{
	struct ovc_region_options r = {
		.size = sizeof(r),
		.addr = s->addr,
		.len = s->nr * PAGE,
		.gpa = gpa,
		.memfd = s->memfd ? s->fd : 0,
	};

	return ovc_vm_add_region(vm, &r);
}

static struct ovc_vm *create_vm(void)
{
	struct ovc_vm_options v = {
		.size = sizeof(v),
		.swap = o.dir,
		.flags = o.sparse ? OVC_VM_SPARSE_SWAP : 0,
	};
	struct ovc_vm *vm = NULL;
	int error = ovc_vm_create(host, &v, &vm);

	if (error)
		fail("vm_create", error);
	return vm;
}

static void change_numbers(struct watched *w, uint64_t *rnd)
{
	struct ovc_vm *vm = vms[random_next(rnd) % VMS];
	uint64_t size = REGIONS * o.scale * MIB;
	uint64_t limit = random_next(rnd) % 2 ? size / 2 : 0;
	uint64_t to = budget - budget / 4 * (random_next(rnd) % 3);
	int error;

	pthread_mutex_lock(&control);
	watch(w, "set_limit", NULL);
	error = ovc_vm_set_limit(vm, limit);
	if (error)
		fail("set_limit", error);
	watch(w, "set_budget", NULL);
	if (to < 12 * MIB)
		to = 12 * MIB;
	error = ovc_host_set_budget(host, to);
	if (error)
		fail("set_budget", error);
	pthread_mutex_unlock(&control);
}

/* A region goes and comes back while guests write to it. */
static void move_region(struct watched *w, uint64_t *rnd)
{
	unsigned n = (unsigned)(random_next(rnd) % (VMS * REGIONS));
	struct place *p = &places[n];
	int error;

	watch(w, "waits for callers", p->mem.addr);
	pthread_rwlock_wrlock(&p->calls);
	pthread_mutex_lock(&control);
	watch(w, "remove_region", p->mem.addr);
	error = ovc_vm_remove_region(p->vm, p->mem.addr, 0);
	if (error)
		fail("remove_region", error);
	watch(w, "add_region", p->mem.addr);
	error = add_region(p->vm, &p->mem, (uint64_t)n << 40);
	if (error)
		fail("add_region", error);
	pthread_mutex_unlock(&control);
	pthread_rwlock_unlock(&p->calls);
}

struct helper {
	struct shadow mem;
	atomic_bool stop;
	uint64_t rnd;
};

/* The guest of a VM that is being destroyed. */
static void *helper(void *arg)
{
	struct helper *h = arg;
	struct watched *w = watch_join("helper", 0);

	while (!atomic_load(&h->stop))
		touch_one(w, &h->mem, &h->rnd);
	watch_leave(w);
	return NULL;
}

static void work_for_a_while(struct watched *w, struct helper *h,
			     struct ovc_vm *vm, bool tracked)
{
	for (size_t i = 0; i < h->mem.nr; i++) {
		shadow_lock(&h->mem, i);
		watch(w, "fills a new VM", shadow_page(&h->mem, i));
		shadow_write(&h->mem, i, some_tag(&h->rnd));
		shadow_unlock(&h->mem, i);
	}
	watch(w, "reclaims a new VM", h->mem.addr);
	if (tracked && ovc_vm_reclaim(vm, h->mem.addr, h->mem.nr * PAGE))
		fail("reclaim", 0);
}

/* A VM's whole life. Nothing is known of memory that was thrown away. */
static void live_and_die(struct watched *w, uint64_t *rnd)
{
	bool throw_away = random_next(rnd) % 2;
	bool memfd = o.memfd && (!o.anon || random_next(rnd) % 2);
	struct helper h = { .rnd = random_next(rnd) | 1 };
	struct ovc_vm *vm;
	pthread_t thread;

	if (shadow_create(&h.mem, "extra", memfd, EXTRA)) {
		fail("memory", -errno);
		return;
	}
	pthread_mutex_lock(&control);
	watch(w, "vm_create", NULL);
	vm = create_vm();
	if (!vm || add_region(vm, &h.mem, 0))
		fail("add_region", 0);
	pthread_mutex_unlock(&control);
	work_for_a_while(w, &h, vm, random_next(rnd) % 4 != 0);
	if (!throw_away && pthread_create(&thread, NULL, helper, &h))
		abort();
	if (!throw_away)
		usleep(2000);
	pthread_mutex_lock(&control);
	watch(w, throw_away ? "vm_destroy, thrown away" : "vm_destroy",
	      h.mem.addr);
	ovc_vm_destroy(&vm, throw_away ? OVC_THROW_AWAY : 0);
	pthread_mutex_unlock(&control);
	if (!throw_away) {
		atomic_store(&h.stop, true);
		pthread_join(thread, NULL);
		watch(w, "verifies what a VM left", h.mem.addr);
		if (shadow_verify_all(&h.mem))
			fail("pages are wrong after destroy", 0);
	}
	shadow_destroy(&h.mem);
}

static void *controller(void *arg)
{
	struct watched *w = watch_join("control", 0);
	uint64_t rnd = random_state(2000);

	while (!atomic_load(&done) && !atomic_load(&failures)) {
		uint64_t r = random_next(&rnd) % 8;

		if (r < 4)
			change_numbers(w, &rnd);
		else if (r < 5)
			move_region(w, &rnd);
		else
			live_and_die(w, &rnd);
		watch(w, "sleeps", NULL);
		usleep(3000);
	}
	watch_leave(w);
	return arg;
}

/* ---- dispatch mode ------------------------------------------------------------ */

static atomic_bool dispatch_stop;

static void *dispatcher(void *arg)
{
	struct watched *w = watch_join("dispatch", 0);
	struct pollfd p = { .fd = ovc_host_fd(host), .events = POLLIN };

	while (!atomic_load(&dispatch_stop)) {
		watch(w, "polls", NULL);
		poll(&p, 1, 100);
		watch(w, "dispatches", NULL);
		pthread_mutex_lock(&control);
		if (ovc_host_dispatch(host))
			fail("dispatch", 0);
		pthread_mutex_unlock(&control);
	}
	watch_leave(w);
	return arg;
}

/* ---- checks at rest ------------------------------------------------------------ */

struct sums {
	uint64_t nonzero, present;
	bool anon_only;
};

static struct sums sums_of(unsigned v)
{
	struct sums s = { 0, 0, true };

	for (unsigned i = 0; i < REGIONS; i++) {
		const struct shadow *m = &places[v * REGIONS + i].mem;

		s.nonzero += shadow_nonzero(m) * PAGE;
		s.present += shadow_present(m) * PAGE;
		s.anon_only &= !m->memfd;
	}
	return s;
}

/* One look; `why` says what does not add up. Reclaim may still be at work. */
static const char *adds_up(unsigned v)
{
	struct ovc_vm_stats s = { .size = sizeof(s) };
	struct sums sum = sums_of(v);
	uint64_t held;

	if (ovc_vm_stats(vms[v], &s))
		return "stats fail";
	held = s.resident + s.staged + s.swapped;
	if (held + s.zero + s.poisoned != s.configured)
		return "resident + staged + swapped + zero + poisoned is not "
		       "what is configured";
	if (s.configured != REGIONS * o.scale * MIB)
		return "configured is wrong";
	if (s.poisoned || s.read_errors || s.write_errors)
		return "errors were counted";
	if (s.pinned)
		return "pins are left";
	if (held < sum.nonzero)
		return "fewer pages are held than have bytes";
	if (s.swap_used < s.swapped || s.swap_used > held)
		return "swap_used is impossible";
	/* Of a memfd, staged pages are present too, and the ones held back by
	 * read-ahead are staged and not present. */
	if (sum.anon_only ? sum.present != s.resident :
			    sum.present < s.resident ||
				    sum.present > s.resident + s.staged)
		return "resident is not what the kernel says";
	return NULL;
}

static void print_vm(unsigned v)
{
	struct ovc_vm_stats s = { .size = sizeof(s) };

	ovc_vm_stats(vms[v], &s);
	fprintf(stderr,
		"stress: VM %u: configured %llu resident %llu (present %llu) "
		"staged %llu swapped %llu zero %llu poisoned %llu pinned %llu "
		"swap_used %llu nonzero %llu\n",
		v, (unsigned long long)s.configured / PAGE,
		(unsigned long long)s.resident / PAGE,
		(unsigned long long)sums_of(v).present / PAGE,
		(unsigned long long)s.staged / PAGE,
		(unsigned long long)s.swapped / PAGE,
		(unsigned long long)s.zero / PAGE,
		(unsigned long long)s.poisoned / PAGE,
		(unsigned long long)s.pinned / PAGE,
		(unsigned long long)s.swap_used / PAGE,
		(unsigned long long)sums_of(v).nonzero / PAGE);
}

static void check_stats(void)
{
	struct ovc_host_stats h = { .size = sizeof(h) };
	const char *why[VMS];
	unsigned bad = 0;

	for (unsigned round = 0; round < 100; round++) {
		bad = 0;
		for (unsigned v = 0; v < VMS; v++)
			bad += (why[v] = adds_up(v)) != NULL;
		ovc_host_stats(host, &h);
		if (!bad && h.used <= h.budget)
			break;
		usleep(30000);
	}
	for (unsigned v = 0; v < VMS; v++)
		if (why[v]) {
			fail(why[v], (long)v);
			print_vm(v);
		}
	if (h.used > h.budget)
		fail("more is used than the budget, KiB",
		     (long)((h.used - h.budget) / 1024));
	printf("stress: faults %llu, in %llu MiB, out %llu MiB, clean %llu MiB, "
	       "zero %llu MiB, put back %llu MiB; %u pins refused, %u times "
	       "stuck, %u moves failed\n",
	       (unsigned long long)h.faults,
	       (unsigned long long)h.swap_in_bytes >> 20,
	       (unsigned long long)h.swap_out_bytes >> 20,
	       (unsigned long long)h.clean_bytes >> 20,
	       (unsigned long long)h.zero_bytes >> 20,
	       (unsigned long long)h.put_back_bytes >> 20,
	       atomic_load(&refused), atomic_load(&stuck),
	       atomic_load(&moves_failed));
}

static unsigned entries(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned nr = 0;

	while (d && readdir(d))
		nr++;
	if (d)
		closedir(d);
	return nr;
}

/* Descriptors; but not the pipes to a sanitizer's symbolizer, which it starts when
 * it first has something to say. The library opens none. */
static unsigned descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	unsigned nr = 0;

	while (d && (e = readdir(d))) {
		char to[6] = "";

		nr += !(readlinkat(dirfd(d), e->d_name, to, 5) == 5 &&
			!strcmp(to, "pipe:") && SANITIZED);
	}
	if (d)
		closedir(d);
	return nr;
}

static unsigned mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned nr = 0;
	int c;

	while (f && (c = fgetc(f)) != EOF)
		nr += c == '\n';
	if (f)
		fclose(f);
	return nr;
}

struct left {
	unsigned fds, threads, mappings;
};

static struct left what_is_left(void)
{
	struct left l = { descriptors(), 0, 0 };

	l.mappings = mappings();
	l.threads = entries("/proc/self/task");
	return l;
}

/* io_uring's kernel threads, which also count as tasks, end a little later. */
static void check_left(struct left before)
{
	struct left now = what_is_left();

	for (unsigned i = 0; i < 100 && now.threads > before.threads; i++) {
		usleep(30000);
		now = what_is_left();
	}
	if (now.fds != before.fds)
		fail("descriptors are left over", (long)now.fds - before.fds);
	if (now.threads != before.threads)
		fail("threads are left over",
		     (long)now.threads - before.threads);
	/* The C library keeps a few stacks and arenas. */
	if (!SANITIZED && now.mappings > before.mappings + 16)
		fail("mappings are left over",
		     (long)now.mappings - before.mappings);
}

/* ---- the run ---------------------------------------------------------------------- */

static void set_up(void)
{
	struct ovc_host_options h = {
		.size = sizeof(h),
		.flags = o.dispatch ? OVC_HOST_DISPATCH : 0,
		.without = o.without,
		.event = on_event,
	};
	pthread_rwlockattr_t attr;
	int error;

	budget = VMS * REGIONS * o.scale * MIB / 3;
	if (budget < 12 * MIB)
		budget = 12 * MIB;
	h.budget = budget;
	error = ovc_host_create(&h, &host);
	if (error == -EPERM || error == -ENOSYS) {
		printf("stress: skipped: %s\n", ovc_error());
		exit(77);
	}
	if (error) {
		fail("host_create", error);
		exit(1);
	}
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(
		&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	for (unsigned i = 0; i < VMS * REGIONS; i++) {
		struct place *p = &places[i];
		bool memfd = o.memfd && (!o.anon || i % 2);
		char name[32];

		if (i % REGIONS == 0)
			vms[i / REGIONS] = create_vm();
		snprintf(name, sizeof(name), "vm%u/%s%u", i / REGIONS,
			 memfd ? "memfd" : "anon", i % REGIONS);
		p->vm = vms[i / REGIONS];
		pthread_rwlock_init(&p->calls, &attr);
		if (!p->vm ||
		    shadow_create(&p->mem, name, memfd, o.scale * MIB / PAGE) ||
		    add_region(p->vm, &p->mem, (uint64_t)i << 40)) {
			fail("no memory, VM or region", (long)i);
			exit(1);
		}
	}
}

static void take_down(void)
{
	for (unsigned i = 0; i < VMS * REGIONS; i++) {
		if (shadow_verify_all(&places[i].mem))
			fail("pages are wrong after the host is gone", (long)i);
		shadow_destroy(&places[i].mem);
		pthread_rwlock_destroy(&places[i].calls);
	}
}

static void start(pthread_t *thread, void *(*fn)(void *), uintptr_t n)
{
	if (pthread_create(thread, NULL, fn, (void *)n))
		abort();
}

static void go(void)
{
	unsigned nr = o.threads + o.threads / 2 + 2;
	pthread_t *t = calloc(nr, sizeof(*t)), dispatch;
	unsigned n = 0;

	atomic_store(&done, false);
	atomic_store(&dispatch_stop, false);
	if (o.dispatch)
		start(&dispatch, dispatcher, 0);
	for (unsigned i = 0; i < o.threads; i++)
		start(&t[n++], guest, i);
	for (unsigned i = 0; i < o.threads / 2 + 1; i++)
		start(&t[n++], caller, i);
	start(&t[n++], controller, 0);
	for (unsigned i = 0; i < n; i++) {
		if (i == o.threads)
			atomic_store(&done, true);
		pthread_join(t[i], NULL);
	}
	if (o.dispatch)
		pthread_mutex_lock(&control);
	ovc_host_set_budget(host, budget);
	if (o.dispatch)
		pthread_mutex_unlock(&control);
	for (unsigned i = 0; i < VMS * REGIONS; i++)
		if (shadow_verify_all(&places[i].mem))
			fail("pages are wrong at the end", (long)i);
	check_stats();
	atomic_store(&dispatch_stop, true);
	if (o.dispatch)
		pthread_join(dispatch, NULL);
	free(t);
}

/* One by one, or all with the host. */
static void destroy_all(void)
{
	struct watched *w = watch_join("main", 0);

	watch(w, "vm_destroy", vms[0]);
	if (o.seed % 2)
		ovc_vm_destroy(&vms[0], 0);
	watch(w, "host_destroy", host);
	ovc_host_destroy(&host);
	watch_leave(w);
}

static void run(void)
{
	watch_start();
	set_up();
	go();
	destroy_all();
	take_down();
	watch_stop();
}

/* ---- options -------------------------------------------------------------------------- */

static void usage(void)
{
	printf("usage: stress [threads] [scale] [iters] [seed] [options]\n"
	       "  threads    guests; there are half as many callers (4)\n"
	       "  scale      MiB of each of the four regions (16)\n"
	       "  iters      touches of each guest (20000)\n"
	       "  seed       of all random numbers (1)\n"
	       "  --memory-kind anon|memfd|both\n"
	       "  --without FEATURE   as ovc_feature_name() has it; may be "
	       "repeated; or all\n"
	       "  --dispatch          no threads of the library's own\n"
	       "  --sparse            sparse swap files\n"
	       "  --swap-dir DIR      ($TMPDIR, or the working directory)\n");
}

static uint32_t feature(const char *name)
{
	/* Without minor faults there is no memfd memory. */
	if (!strcmp(name, "all"))
		return ((1u << 12) - 1) & ~OVC_FEATURE_MINOR;
	for (unsigned i = 0; i < 32; i++) {
		const char *is = ovc_feature_name(1u << i);

		if (is && !strcmp(is, name))
			return 1u << i;
	}
	return 0;
}

static bool take_kind(const char *kind)
{
	o.anon = strcmp(kind, "memfd") != 0;
	o.memfd = strcmp(kind, "anon") != 0;
	return !o.anon || !o.memfd || !strcmp(kind, "both");
}

/* Returns how many arguments it took, 0 for a bad one. */
static int take_option(char **arg, int left)
{
	if (!strcmp(arg[0], "--dispatch"))
		o.dispatch = true;
	else if (!strcmp(arg[0], "--sparse"))
		o.sparse = true;
	else if (left < 2)
		return 0;
	else if (!strcmp(arg[0], "--memory-kind"))
		return take_kind(arg[1]) ? 2 : 0;
	else if (!strcmp(arg[0], "--without") && feature(arg[1]))
		return o.without |= feature(arg[1]), 2;
	else if (!strcmp(arg[0], "--swap-dir"))
		return o.dir = arg[1], 2;
	else
		return 0;
	return 1;
}

static bool take_arguments(int argc, char **argv)
{
	unsigned long numbers[4] = { o.threads, o.scale, o.iters, o.seed };
	unsigned n = 0;

	for (int i = 1, took; i < argc; i += took) {
		took = 1;
		if (argv[i][0] == '-')
			took = take_option(argv + i, argc - i);
		else if (n < 4)
			numbers[n++] = strtoul(argv[i], NULL, 0);
		else
			took = 0;
		if (!took)
			return false;
	}
	o.threads = (unsigned)numbers[0];
	o.scale = (unsigned)numbers[1];
	o.iters = numbers[2];
	o.seed = numbers[3];
	return o.threads && o.threads <= 64 && o.scale && o.iters;
}

int main(int argc, char **argv)
{
	struct left before;
	unsigned long iters;

	o.dir = getenv("TMPDIR") ? getenv("TMPDIR") : ".";
	if (!take_arguments(argc, argv)) {
		usage();
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	atomic_store(&next_tag, EQUAL_TAGS + 1);
	/* Once for what is made once in a process, then in earnest. */
	iters = o.iters;
	o.iters = iters / 20 + 1;
	run();
	before = what_is_left();
	o.iters = iters;
	if (!atomic_load(&failures))
		run();
	if (!atomic_load(&failures))
		check_left(before);
	printf("stress: %s\n", atomic_load(&failures) ? "FAILED" : "ok");
	return atomic_load(&failures) != 0;
}
