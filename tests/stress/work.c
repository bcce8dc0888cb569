/* SPDX-License-Identifier: MIT */
/*
 * Who works at the same time: guests that touch, callers of [any] calls, one
 * controller, and in dispatch mode the thread that dispatches.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stress.h"
#include "watch.h"

#define EXTRA 512 /* pages of the controller's own VMs */

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

void *guest(void *arg)
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
			       size_t most, bool hot)
{
	struct range r = { hot ? some_page(s, rnd) : random_next(rnd) % s->nr,
			   0, 0, NULL };
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
	struct range r = some_range(&p->mem, rnd, STRIPE, true);
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

/* Which pages a donation took can be seen where some were pinned. */
static void note_gone(struct shadow *s, const struct range *r, bool all)
{
	for (size_t i = r->idx; i < r->idx + r->nr; i++)
		if (all || shadow_is(shadow_page(s, i), 0))
			s->tags[i] = 0;
}

/* Frames go into the balloon, in any order, and come out again. */
static void do_balloon(struct watched *w, struct place *p, uint64_t *rnd)
{
	struct range r = some_range(&p->mem, rnd, STRIPE, true);
	uint64_t gpa = (uint64_t)(p - places) << 40, turn = random_next(rnd);
	struct ovc_donation d = { .size = sizeof(d) };
	struct ovc_deflation back = { .size = sizeof(back) };
	uint32_t pfns[STRIPE];
	int error;

	for (size_t i = 0; i < r.nr; i++)
		pfns[i] = (uint32_t)(gpa / PAGE + r.idx + (i + turn) % r.nr);
	shadow_lock(&p->mem, r.idx);
	watch(w, "inflate", r.addr);
	error = ovc_vm_balloon_inflate(p->vm, pfns, r.nr, &d);
	if (error)
		fail("balloon_inflate", error);
	if (d.given + d.pinned != r.nr)
		fail("frames are neither given nor refused",
		     (long)(r.nr - d.given - d.pinned));
	note_gone(&p->mem, &r, !d.pinned);
	if (random_next(rnd) % 2 && !shadow_verify(&p->mem, r.idx))
		atomic_fetch_add(&failures, 1);
	watch(w, "deflate", r.addr);
	error = ovc_vm_balloon_deflate(p->vm, pfns, r.nr, &back);
	if (error)
		fail("balloon_deflate", error);
	if (back.taken + back.refused != r.nr)
		fail("frames are neither taken nor refused",
		     (long)(r.nr - back.taken - back.refused));
	if (random_next(rnd) % 2 && !shadow_verify(&p->mem, r.idx))
		atomic_fetch_add(&failures, 1);
	shadow_unlock(&p->mem, r.idx);
}

static void do_overwrite(struct watched *w, struct place *p, uint64_t *rnd)
{
	struct range r = some_range(&p->mem, rnd, 16, true);
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
	struct range r = some_range(&p->mem, rnd, 16, true);
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

	if (o.pageout)
		return; /* it may be in the host's swap */
	if (mincore(r->addr, r->len, bits))
		fail("mincore", -errno);
	for (size_t i = 0; i < r->nr; i++)
		if (!(bits[i] & 1))
			fail("a pinned page is not resident", (long)i);
}

/* While it is pinned a device may write, and must find it where it was. */
static void do_pin(struct watched *w, struct place *p, uint64_t *rnd)
{
	struct range r = some_range(&p->mem, rnd, 16, true);
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
	struct range r = some_range(&p->mem, rnd, STRIPE, true);
	int error;

	watch(w, "reclaim", r.addr);
	error = ovc_vm_reclaim(p->vm, r.addr, r.len);
	if (error)
		fail("reclaim", error);
}

static void do_prefetch(struct watched *w, struct place *p, uint64_t *rnd)
{
	struct range r = some_range(&p->mem, rnd, STRIPE, true);
	int error;

	watch(w, "prefetch", r.addr);
	error = ovc_vm_prefetch(p->vm, r.addr, r.len);
	if (error && error != -EAGAIN)
		fail("prefetch", error);
}

/* Bytes that others have, too, and in the same order: what sharing is made for. */
static void do_fill_common(struct watched *w, struct place *p, uint64_t *rnd)
{
	struct range r = some_range(&p->mem, rnd, STRIPE, false);
	uint64_t first = random_next(rnd) % EQUAL_TAGS;
	bool zero = !(random_next(rnd) % 4);

	shadow_lock(&p->mem, r.idx);
	watch(w, "fills with common bytes", r.addr);
	for (size_t i = 0; i < r.nr; i++)
		shadow_write(&p->mem, r.idx + i,
			     zero ? 0 : 1 + (first + i) % EQUAL_TAGS);
	shadow_unlock(&p->mem, r.idx);
}

static void do_set_sharing(struct watched *w, struct place *p, uint64_t *rnd)
{
	struct range r = some_range(&p->mem, rnd, STRIPE, false);
	int error;

	watch(w, "set_sharing", r.addr);
	error = ovc_vm_set_sharing(p->vm, r.addr, r.len,
				   random_next(rnd) % 4 != 0);
	if (error)
		fail("set_sharing", error);
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

void *caller(void *arg)
{
	static void (*const ops[])(struct watched *, struct place *,
				   uint64_t *) = {
		do_discard,
		do_balloon,
		do_overwrite,
		do_read,
		do_read,
		do_pin,
		do_reclaim,
		do_prefetch,
		do_stats,
		/* where pages are shared */
		do_fill_common,
		do_fill_common,
		do_read,
		do_set_sharing,
	};
	unsigned nr = o.share == OVC_SHARE_NEVER ? 9 : 13;
	unsigned n = (unsigned)(uintptr_t)arg;
	struct watched *w = watch_join("caller", n);
	uint64_t rnd = random_state(1000 + n);

	while (!atomic_load(&done) && !atomic_load(&failures)) {
		struct place *p = &places[random_next(&rnd) % (VMS * REGIONS)];

		watch(w, "waits for a region", p->mem.addr);
		pthread_rwlock_rdlock(&p->calls);
		ops[random_next(&rnd) % nr](w, p, &rnd);
		pthread_rwlock_unlock(&p->calls);
	}
	watch_leave(w);
	return NULL;
}

/* ---- control --------------------------------------------------------------- */

int add_region(struct ovc_vm *vm, const struct shadow *s, uint64_t gpa)
{
	struct ovc_region_options r = {
		.size = sizeof(r),
		.addr = s->addr,
		.len = s->nr * PAGE,
		.gpa = gpa,
		.memfd = s->memfd ? s->fd : 0,
		.flags = o.unshared ? OVC_REGION_UNSHARED_MEMFD : 0,
	};

	return ovc_vm_add_region(vm, &r);
}

struct ovc_vm *create_vm(bool apart)
{
	struct ovc_vm_options v = {
		.size = sizeof(v),
		.swap = o.dir,
		.flags = o.sparse ? OVC_VM_SPARSE_SWAP : 0,
		.domain = apart ? NULL : "all",
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
	error = ovc_vm_set_shares(vm, 0, 0);
	if (!error)
		error = ovc_vm_set_limit(vm, limit);
	if (error)
		fail("set_limit", error);
	watch(w, "set_shares", NULL);
	error = ovc_vm_set_shares(vm, (uint32_t)(random_next(rnd) % 5000),
				  limit ? 0 : budget / 8);
	if (error && error != -ENOMEM)
		fail("set_shares", error);
	watch(w, "set_budget", NULL);
	if (to < 12 * MIB)
		to = 12 * MIB;
	error = ovc_host_set_budget(host, to);
	if (error)
		fail("set_budget", error);
	pthread_mutex_unlock(&control);
}

/* What is shared stays so while nobody looks. */
static void change_share(struct watched *w, uint64_t *rnd)
{
	static const uint32_t modes[] = { OVC_SHARE_UNDER_PRESSURE,
					  OVC_SHARE_NEVER, OVC_SHARE_ALWAYS };
	int error;

	for (unsigned i = 0; i < 2; i++) {
		uint32_t mode = i ? o.share : modes[random_next(rnd) % 3];

		pthread_mutex_lock(&control);
		watch(w, "set_share", NULL);
		error = ovc_host_set_share(host, mode, i ? 100 : 30);
		if (error)
			fail("set_share", error);
		pthread_mutex_unlock(&control);
		if (!i)
			usleep(5000);
	}
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
	/* With the least budget, or limit, it may not fit; or not any more, where the
	 * others' guarantees are made use of meanwhile. */
	if (error && error != -ENOMEM && error != -ETIMEDOUT)
		fail("remove_region", error);
	watch(w, "add_region", p->mem.addr);
	if (!error)
		error = add_region(p->vm, &p->mem, (uint64_t)n << 40);
	else
		error = 0;
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
	vm = create_vm(random_next(rnd) % 4 == 0);
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

void *controller(void *arg)
{
	struct watched *w = watch_join("control", 0);
	uint64_t rnd = random_state(2000);

	while (!atomic_load(&done) && !atomic_load(&failures)) {
		uint64_t r = random_next(&rnd) %
			     (o.share == OVC_SHARE_NEVER ? 8 : 9);

		if (r == 8)
			change_share(w, &rnd);
		else if (r < 4)
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

atomic_bool dispatch_stop;

void *dispatcher(void *arg)
{
	struct watched *w = watch_join("dispatch", 0);
	struct pollfd p = { .fd = ovc_host_fd(host), .events = POLLIN };
	struct ovc_event e = { .size = sizeof(e) };

	while (!atomic_load(&dispatch_stop)) {
		watch(w, "polls", NULL);
		poll(&p, 1, 100);
		/* Beside whatever others call: they wait for it. */
		watch(w, "dispatches", NULL);
		if (ovc_host_dispatch(host))
			fail("dispatch", 0);
		while (ovc_host_next_event(host, &e) == 1)
			on_event(&e, NULL);
	}
	watch_leave(w);
	return arg;
}
