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
#include "run.h"
#include "sys/fail.h"

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

void complain(struct run *r, const char *what, const void *where,
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

bool again(struct run *r, int error, unsigned tries)
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

/* A call that could not read a page may have been the first to know. */
static void look_for_lost(struct run *r)
{
	struct ovc_vm_stats s = { .size = sizeof(s) };

	for (unsigned k = 0; k < r->nr; k++) {
		ovc_vm_stats(run_vm(r, k), &s);
		r->lost |= s.poisoned != 0;
	}
}

/* ---- guests ------------------------------------------------------------- */

/* EAGAIN, EINTR and ENOMEM are not the disk's word, and reads are repeated. */
bool may_lose(const struct run *r)
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
	enum deed deed;
	unsigned from, to;
	atomic_bool done;
};

static const char *const names[] = {
	[WRITE] = "guest writes",
	[WRITE_EQUAL] = "guest writes what others have",
	[VERIFY] = "guest verifies",
	[SCATTER] = "guest verifies here and there",
};

/* Each eighth page is zeros. */
static enum outcome do_one(struct run *r, struct guest *g, size_t at,
			   enum deed deed)
{
	if (deed == VERIFY || deed == SCATTER)
		return guest_verify(g, at);
	if (!(at % 8))
		return guest_write(g, at, 0);
	return guest_write(g, at, deed == WRITE ? ++r->tag : 1 + at % EQUAL);
}

static void *work(void *arg)
{
	struct work *w = arg;
	struct run *r = w->r;

	for (unsigned k = 0; k < r->nr; k++) {
		struct guest *g = &r->guest[k];
		size_t first = g->nr * w->from / 16;
		size_t nr = g->nr * w->to / 16 - first;

		for (size_t i = 0; i < nr && !r->bad; i++) {
			size_t at =
				first + (w->deed == SCATTER ? i * 769 % nr : i);

			if (!(i % 64))
				step(names[w->deed]);
			note(r, g, at, do_one(r, g, at, w->deed));
		}
	}
	atomic_store(&w->done, true);
	return NULL;
}

void guests(struct run *r, enum deed deed, unsigned from, unsigned to)
{
	struct work w = { r, deed, from, to, false };
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

/* ---- ranges, in parts of 16 ---------------------------------------------- */

unsigned ranges(struct run *r, const char *name, range_fn *fn, unsigned from,
		unsigned to)
{
	unsigned good = 0;

	for (unsigned k = 0; k < r->nr && !r->bad; k++) {
		struct guest *g = &r->guest[k];
		size_t first = g->nr * from / 16, nr = g->nr * to / 16 - first;
		int error = 1;

		for (unsigned n = 1; error; n++) {
			step(name);
			error = fn(run_vm(r, k), guest_page(g, first),
				   nr * PAGE);
			look_for_lost(r);
			if (!again(r, error, n))
				break;
		}
		good |= error ? 0 : 1u << k;
	}
	return good;
}
void forget(struct run *r, unsigned from, unsigned to)
{
	for (unsigned k = 0; k < r->nr; k++) {
		struct guest *g = &r->guest[k];
		size_t first = g->nr * from / 16;

		memset(&g->tags[first], 0,
		       (g->nr * to / 16 - first) * sizeof(g->tags[0]));
	}
}

void read_pages(struct run *r)
{
	char page[4096] __attribute__((aligned(8)));

	for (unsigned k = 0; k < r->nr; k++) {
		struct guest *g = &r->guest[k];

		for (size_t i = 0; i < g->nr && !r->bad; i += 3) {
			int error = 1;

			for (unsigned n = 1; error; n++) {
				step("ovc_vm_read");
				error = ovc_vm_read(run_vm(r, k),
						    guest_page(g, i), page,
						    PAGE);
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
	guests(r, SCATTER, 0, 1);
}

void unpin(struct run *r)
{
	for (unsigned k = 0; k < r->nr; k++) {
		struct guest *g = &r->guest[k];

		if (r->pinned & 1u << k)
			CALL(r, ovc_vm_unpin(
					run_vm(r, k), guest_page(g, g->nr / 16),
					(g->nr * 2 / 16 - g->nr / 16) * PAGE));
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
	guests(r, VERIFY, 0, 16);
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

int add_region(struct run *r, unsigned k)
{
	const struct guest *g = &r->guest[k];
	struct ovc_region_options o = {
		.size = sizeof(o),
		.addr = g->addr,
		.len = g->nr * PAGE,
		.gpa = (uint64_t)k << 32,
		.memfd = g->fd < 0 ? 0 : g->fd,
		.flags = OVC_REGION_UNSHARED_MEMFD,
	};

	return ovc_vm_add_region(run_vm(r, k), &o);
}

static void begin(struct run *r)
{
	struct ovc_host_options h = {
		.size = sizeof(h),
		.budget = r->s->budget,
		.fault_threads = 2,
		.without = r->s->without,
		.flags = r->s->dispatch ? OVC_HOST_DISPATCH : 0,
		.share = r->s->share ? OVC_SHARE_ALWAYS :
				       OVC_SHARE_UNDER_PRESSURE,
		.share_cpu = r->s->share ? 100 : 0,
	};
	struct ovc_vm_options v = {
		.size = sizeof(v),
		.swap = r->swap,
		.flags = r->s->named ? OVC_VM_SPARSE_SWAP : 0,
		.domain = "all",
	};

	CALL(r, ovc_host_create(&h, &r->host));
	if (r->host)
		CALL(r, ovc_vm_create(r->host, &v, &r->vm));
	if (r->vm && r->s->share)
		CALL(r, ovc_vm_create(r->host, &v, &r->other));
	for (unsigned k = 0; r->vm && k < r->nr; k++)
		CALL(r, add_region(r, k));
}

static void live(struct run *r)
{
	guests(r, WRITE, 0, 16);
	RANGES(r, ovc_vm_reclaim, 0, 8);
	guests(r, VERIFY, 0, 16);
	r->pinned = RANGES(r, ovc_vm_pin, 1, 2);
	guests(r, WRITE, 0, 4);
	RANGES(r, ovc_vm_reclaim, 0, 16);
	RANGES(r, ovc_vm_prefetch, 4, 12);
	guests(r, SCATTER, 0, 16);
	RANGES(r, ovc_vm_reclaim, 6, 16);
	read_pages(r);
	lonely_pages(r);
	unpin(r);
	RANGES(r, ovc_vm_overwrite, 12, 14);
	guests(r, WRITE, 12, 14);
	RANGES(r, ovc_vm_discard, 4, 8);
	forget(r, 4, 8);
	guests(r, SCATTER, 4, 14);
}

/* The memory must be as it was when the library has left it. */
static void end(struct run *r)
{
	int error;

	guests(r, WRITE, 0, 10);
	RANGES(r, ovc_vm_reclaim, 4, 10);
	step("ovc_vm_remove_region");
	error = ovc_vm_remove_region(r->vm, r->guest[0].addr, 0);
	if (error && !may_lose(r))
		complain(r, ovc_error(), NULL, error);
}

static void destroy(struct run *r)
{
	step("ovc_vm_destroy");
	ovc_vm_destroy(&r->other, 0);
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
	struct run r = {
		.s = s, .error = error, .nr = s->share ? 3 : 2, .tag = EQUAL
	};
	struct held before;

	snprintf(r.swap, sizeof(r.swap), "%s%s", dir,
		 s->named ? "/fault.swap" : "");
	held_now(&before);
	for (unsigned k = 0; k < r.nr; k++)
		if (guest_create(&r.guest[k], s->pages, k == 1))
			return false;
	begin(&r);
	if (!r.bad && s->share)
		live_shared(&r);
	else if (!r.bad)
		live(&r);
	if (!r.bad && !s->share)
		check_empty(&r);
	if (!r.bad && !s->share)
		end(&r);
	destroy(&r);
	if (!r.bad)
		guests(&r, VERIFY, 0, 16);
	check_file(&r);
	for (unsigned k = 0; k < r.nr; k++)
		guest_destroy(&r.guest[k]);
	if (!held_no_more(&before))
		complain(&r, "LEAK", NULL, 0);
	return !r.bad;
}
