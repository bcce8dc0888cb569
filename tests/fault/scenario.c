/* SPDX-License-Identifier: MIT */
/*
 * One life of a host, with every call in it, two regions (anonymous and memfd) and
 * a shadow of their bytes.
 *
 * A call may fail once, if a failure was injected; done again it must succeed. A
 * page may be lost only if a read was made to fail, and then its touch is a SIGBUS.
 * Without an injected failure nothing may fail at all.
 *
 * In dispatch mode guest memory is touched by a thread, while this one dispatches.
 */
#include "fault.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "overcommit.h"
#include "sys/fail.h"

struct run {
	const struct scenario *s;
	int error; /* what is injected */
	struct ovc_host *host;
	struct ovc_vm *vm;
	struct guest guest[2];
	uint64_t tag;
	bool lost;	 /* a page is */
	unsigned pinned; /* a bit for each region */
	bool bad;
	char swap[4096];
};

static const char *_Atomic doing = "";
static atomic_ulong steps, bus_errors;

void step(const char *what)
{
	atomic_store(&doing, what);
	atomic_fetch_add(&steps, 1);
}

const char *step_now(void)
{
	return atomic_load(&doing);
}

unsigned long step_count(void)
{
	return atomic_load(&steps);
}

unsigned long pages_lost(void)
{
	return atomic_exchange(&bus_errors, 0);
}

static void complain(struct run *r, const char *what, const void *where,
		     long long value)
{
	const char *failed = ovc_sys_fail_what();

	if (!r->bad)
		fprintf(stderr,
			"fault: %s: WRONG: %s (%p, %lld) while: %s; made to "
			"fail: %s with %s\n",
			r->s->name, what, where, value, step_now(),
			failed ? failed : "nothing", strerror(r->error));
	r->bad = true;
}

/* ---- calls -------------------------------------------------------------- */

/* May this call be tried once more? Says so if it should not have failed. */
static bool again(struct run *r, int error, unsigned tries)
{
	if (!error)
		return false;
	if (!ovc_sys_fail_what())
		complain(r, ovc_error(), NULL, error);
	else if (tries < 3)
		return true;
	else if (error != -EIO || !r->lost)
		complain(r, ovc_error(), NULL, error);
	return false;
}

#define CALL(r, expr)                                      \
	do {                                               \
		for (unsigned n_ = 1;; n_++) {             \
			step(#expr);                       \
			if (!again(r, expr, n_) || r->bad) \
				break;                     \
		}                                          \
	} while (0)

/* A call that could not read a page may have been the first to know. */
static void look_for_lost(struct run *r)
{
	struct ovc_vm_stats s = { .size = sizeof(s) };

	ovc_vm_stats(r->vm, &s);
	r->lost |= s.poisoned != 0;
}

/* ---- guests ------------------------------------------------------------- */

/* EAGAIN, EINTR and ENOMEM are not the disk's word, and reads are repeated. */
static bool may_lose(const struct run *r)
{
	const char *what = ovc_sys_fail_what();

	return what && (r->error == EIO || r->error == ENOSPC) &&
	       (!strcmp(what, "io completion") || !strcmp(what, "pread") ||
		!strcmp(what, "preadv"));
}

static void note(struct run *r, const struct guest *g, size_t idx,
		 enum outcome outcome)
{
	if (outcome == PAGE_WRONG)
		complain(r, "LOST BYTES", guest_page(g, idx), (long long)idx);
	if (outcome == PAGE_LOST && !may_lose(r))
		complain(r, "SIGBUS", guest_page(g, idx), (long long)idx);
	if (outcome != PAGE_LOST)
		return;
	r->lost = true;
	atomic_fetch_add(&bus_errors, 1);
}

/* What a guest does: from, to are parts of 16 of each region. */
struct work {
	struct run *r;
	bool write;
	bool scattered;
	unsigned from, to;
	atomic_bool done;
};

static void *work(void *arg)
{
	struct work *w = arg;
	struct run *r = w->r;

	for (unsigned k = 0; k < 2; k++) {
		struct guest *g = &r->guest[k];
		size_t first = g->nr * w->from / 16;
		size_t nr = g->nr * w->to / 16 - first;

		for (size_t i = 0; i < nr && !r->bad; i++) {
			size_t at = first + (w->scattered ? i * 769 % nr : i);

			if (!(i % 64))
				step(w->write ? "guest writes" :
						"guest verifies");
			/* Each eighth page is zeros. */
			if (w->write)
				note(r, g, at,
				     guest_write(g, at, at % 8 ? ++r->tag : 0));
			else
				note(r, g, at, guest_verify(g, at));
		}
	}
	atomic_store(&w->done, true);
	return NULL;
}

static void guests(struct run *r, bool write, bool scattered, unsigned from,
		   unsigned to)
{
	struct work w = { r, write, scattered, from, to, false };
	struct pollfd p = { .events = POLLIN };
	pthread_t thread;

	if (!r->s->dispatch || !r->host) {
		work(&w);
		return;
	}
	if (pthread_create(&thread, NULL, work, &w)) {
		complain(r, "pthread_create", NULL, 0);
		return;
	}
	p.fd = ovc_host_fd(r->host);
	while (!atomic_load(&w.done)) {
		poll(&p, 1, 1);
		ovc_host_dispatch(r->host);
	}
	pthread_join(thread, NULL);
}

static void write_pages(struct run *r, unsigned from, unsigned to)
{
	guests(r, true, false, from, to);
}

static void verify_pages(struct run *r, bool scattered)
{
	guests(r, false, scattered, 0, 16);
}

/* ---- ranges, in parts of 16 ---------------------------------------------- */

typedef int range_fn(struct ovc_vm *vm, void *addr, size_t len);

/* Returns for which regions it succeeded, a bit for each. */
static unsigned ranges(struct run *r, const char *name, range_fn *fn,
		       unsigned from, unsigned to)
{
	unsigned good = 0;

	for (unsigned k = 0; k < 2 && !r->bad; k++) {
		struct guest *g = &r->guest[k];
		size_t first = g->nr * from / 16, nr = g->nr * to / 16 - first;
		int error = 1;

		for (unsigned n = 1; error; n++) {
			step(name);
			error = fn(r->vm, guest_page(g, first), nr * PAGE);
			look_for_lost(r);
			if (!again(r, error, n))
				break;
		}
		good |= error ? 0 : 1u << k;
	}
	return good;
}
#define RANGES(r, fn, from, to) ranges(r, #fn, fn, from, to)

static void forget(struct run *r, unsigned from, unsigned to)
{
	for (unsigned k = 0; k < 2; k++) {
		struct guest *g = &r->guest[k];
		size_t first = g->nr * from / 16;

		memset(&g->tags[first], 0,
		       (g->nr * to / 16 - first) * sizeof(g->tags[0]));
	}
}

/* Reads with ovc_vm_read(), which sees what the guest would. */
static void read_pages(struct run *r)
{
	char page[4096] __attribute__((aligned(8)));

	for (unsigned k = 0; k < 2; k++) {
		struct guest *g = &r->guest[k];

		for (size_t i = 0; i < g->nr && !r->bad; i += 3) {
			int error = 1;

			for (unsigned n = 1; error; n++) {
				step("ovc_vm_read");
				error = ovc_vm_read(r->vm, guest_page(g, i),
						    page, PAGE);
				look_for_lost(r);
				if (!again(r, error, n))
					break;
			}
			if (!error && !guest_is(g, i, page))
				complain(r, "LOST BYTES in ovc_vm_read",
					 guest_page(g, i), (long long)i);
		}
	}
}

/* Pages that are read by themselves: these are lost if their read fails, where
 * one of many is read again. */
static void lonely_pages(struct run *r)
{
	for (unsigned k = 0; k < 2; k++) {
		struct guest *g = &r->guest[k];

		for (unsigned i = 1; i < 6 && !r->bad; i++) {
			int error =
				ovc_vm_reclaim(r->vm, guest_page(g, i), PAGE);

			again(r, error, 1);
		}
	}
	guests(r, false, true, 0, 1);
}

static void unpin(struct run *r)
{
	for (unsigned k = 0; k < 2; k++) {
		struct guest *g = &r->guest[k];

		if (r->pinned & 1u << k)
			CALL(r, ovc_vm_unpin(r->vm, guest_page(g, g->nr / 16),
					     (g->nr * 2 / 16 - g->nr / 16) *
						     PAGE));
	}
}

/* ---- slots ----------------------------------------------------------------- */

static bool is_empty(const struct run *r, struct ovc_vm_stats *v,
		     struct ovc_host_stats *h)
{
	*v = (struct ovc_vm_stats){ .size = sizeof(*v) };
	*h = (struct ovc_host_stats){ .size = sizeof(*h) };
	ovc_vm_stats(r->vm, v);
	ovc_host_stats(r->host, h);
	return !v->swap_used && !v->resident && !v->staged && !v->swapped &&
	       !v->poisoned && h->used == h->metadata + h->buffers;
}

/*
 * All given away: nothing may be in use. What was staged when it was discarded has
 * its slot until it is settled, and a page that read-ahead held back until it is
 * touched; so everything is touched and discarded once more.
 */
static void check_empty(struct run *r)
{
	struct ovc_vm_stats v;
	struct ovc_host_stats h;

	RANGES(r, ovc_vm_discard, 0, 16);
	forget(r, 0, 16);
	verify_pages(r, false);
	RANGES(r, ovc_vm_discard, 0, 16);
	for (unsigned i = 0; i < 2000 && !r->bad; i++) {
		RANGES(r, ovc_vm_reclaim, 0, 16);
		step("wait for slots");
		if (is_empty(r, &v, &h))
			return;
		usleep(1000);
	}
	if (r->bad)
		return;
	fprintf(stderr,
		"fault: slots %llu, resident %llu, staged %llu, swapped %llu, "
		"poisoned %llu, used %llu, metadata %llu, buffers %llu\n",
		(unsigned long long)v.swap_used, (unsigned long long)v.resident,
		(unsigned long long)v.staged, (unsigned long long)v.swapped,
		(unsigned long long)v.poisoned, (unsigned long long)h.used,
		(unsigned long long)h.metadata, (unsigned long long)h.buffers);
	complain(r, "LEAK: all was discarded, and memory or slots are used",
		 NULL, 0);
}

/* ---- the life --------------------------------------------------------------- */

static int add_region(struct run *r, unsigned k)
{
	const struct guest *g = &r->guest[k];
	struct ovc_region_options o = {
		.size = sizeof(o),
		.addr = g->addr,
		.len = g->nr * PAGE,
		.gpa = (uint64_t)k << 32,
		.memfd = g->fd < 0 ? 0 : g->fd,
	};

	return ovc_vm_add_region(r->vm, &o);
}

static void begin(struct run *r)
{
	struct ovc_host_options h = {
		.size = sizeof(h),
		.budget = r->s->budget,
		.fault_threads = 2,
		.without = r->s->without,
		.flags = r->s->dispatch ? OVC_HOST_DISPATCH : 0,
	};
	struct ovc_vm_options v = {
		.size = sizeof(v),
		.swap = r->swap,
		.flags = r->s->named ? OVC_VM_SPARSE_SWAP : 0,
	};

	CALL(r, ovc_host_create(&h, &r->host));
	if (r->host)
		CALL(r, ovc_vm_create(r->host, &v, &r->vm));
	for (unsigned k = 0; r->vm && k < 2; k++)
		CALL(r, add_region(r, k));
}

static void live(struct run *r)
{
	write_pages(r, 0, 16);
	RANGES(r, ovc_vm_reclaim, 0, 8);
	verify_pages(r, false);
	r->pinned = RANGES(r, ovc_vm_pin, 1, 2);
	write_pages(r, 0, 4);
	RANGES(r, ovc_vm_reclaim, 0, 16);
	RANGES(r, ovc_vm_prefetch, 4, 12);
	verify_pages(r, true);
	RANGES(r, ovc_vm_reclaim, 6, 16);
	read_pages(r);
	lonely_pages(r);
	unpin(r);
	RANGES(r, ovc_vm_overwrite, 12, 14);
	write_pages(r, 12, 14);
	RANGES(r, ovc_vm_discard, 4, 8);
	forget(r, 4, 8);
	guests(r, false, true, 4, 14);
}

/* The memory must be as it was when the library has left it. */
static void end(struct run *r)
{
	int error;

	write_pages(r, 0, 10);
	RANGES(r, ovc_vm_reclaim, 4, 10);
	step("ovc_vm_remove_region");
	error = ovc_vm_remove_region(r->vm, r->guest[0].addr, 0);
	if (error && !may_lose(r))
		complain(r, ovc_error(), NULL, error);
}

static void destroy(struct run *r)
{
	step("ovc_vm_destroy");
	ovc_vm_destroy(&r->vm, 0);
	step("ovc_host_destroy");
	ovc_host_destroy(&r->host);
}

static void check_file(struct run *r)
{
	struct stat st;

	if (r->s->named && !stat(r->swap, &st) && st.st_size)
		complain(r, "the swap file was not emptied", NULL, st.st_size);
	if (r->s->named)
		unlink(r->swap);
}

bool scenario_run(const struct scenario *s, const char *dir, int error)
{
	struct run r = { .s = s, .error = error };
	struct held before;

	snprintf(r.swap, sizeof(r.swap), "%s%s", dir,
		 s->named ? "/fault.swap" : "");
	held_now(&before);
	for (unsigned k = 0; k < 2; k++)
		if (guest_create(&r.guest[k], s->pages, k == 1))
			return false;
	begin(&r);
	if (!r.bad)
		live(&r);
	if (!r.bad)
		check_empty(&r);
	if (!r.bad)
		end(&r);
	destroy(&r);
	if (!r.bad)
		verify_pages(&r, false);
	check_file(&r);
	for (unsigned k = 0; k < 2; k++)
		guest_destroy(&r.guest[k]);
	if (!held_no_more(&before))
		complain(&r, "LEAK", NULL, 0);
	return !r.bad;
}
