/* SPDX-License-Identifier: MIT */
/*
 * A fault thread: drains the userfaultfd, and reads swap on a ring of its own.
 *
 * One step takes up to 64 faults, as many as there are buffers for. What memory can
 * answer is answered at once. Pages in swap are read, with those behind them when
 * the faulting thread goes through memory in order; all reads of a step are started
 * with one system call. Then reads that are done are verified and filled.
 *
 * Each thread is bound to a CPU and all wait for the descriptor: who runs on the
 * faulter's CPU is there first, which is best as long as memory has the answers. Once
 * nearly all faults are single reads of the disk, the others' waking up is in vain, and
 * the disk's interrupt comes where it likes: then thread 0 serves alone, on any CPU.
 *
 * A second userfaultfd has the mappings of the sharing store; what is written there is
 * for promise.c.
 *
 * Failures: several threads drain one descriptor: the page words tell who does what,
 * and duplicates find the page taken. Of reads: reads.c.
 *
 * On stop a thread first finishes its reads.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/budget.h"
#include "core/internal.h"
#include "core/map.h"
#include "core/meta.h"
#include "core/probation.h"
#include "in/ask.h"
#include "in/faulter.h"
#include "memory/memory.h"
#include "share/promise.h"
#include "sys/fail.h"
#include "sys/thread.h"
#include "trouble/disk.h"

#define BUFFERS_MAX 1024 /* pages of I/O buffers */
#define BUFFERS_MIN 256
#define BATCH	    64 /* faults a step */
#define FIRST	    16 /* pages read together with the one that was touched */

/* ---- one fault -------------------------------------------------------------- */

static void count_fault(struct ovc_vm *vm)
{
	atomic_fetch_add_explicit(&vm->count.faults, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&vm->host->count.faults, 1,
				  memory_order_relaxed);
}

static void serve(struct ovc_faulter *f, struct ovc_region *r, uint64_t idx,
		  const struct ovc_uffd_fault *fault, uint64_t since)
{
	struct ovc_host *host = f->host;
	struct ovc_touched t;
	enum ovc_touch touch = ovc_pager_touch(r, idx, fault->write, false, &t);
	struct ovc_window w = {
		.a = { .region = r, .demand = OVC_NONE, .write = fault->write },
		.most = OVC_WINDOW,
		.since = since
	};
	int64_t stride = 1;
	unsigned count;

	count_fault(r->vm);
	if (touch == OVC_TOUCH_DONE)
		ovc_faulter_note_latency(r->vm, since);
	if (t.cold)
		ovc_faulter_on_probation(f, r, idx);
	f->seen++;
	f->reads += touch == OVC_TOUCH_READ;
	f->flying += OVC_READS - f->nr_idle;
	if (touch == OVC_TOUCH_READ) {
		w.a.demand = idx;
		w.most = FIRST;
		if (!ovc_window_add(f, &w, idx, t.slot))
			return;
	} else if (touch == OVC_TOUCH_STARVED || touch == OVC_TOUCH_LOST) {
		return;
	}
	/* A page that is on its way (OVC_TOUCH_WAIT) means that the reads of its
	 * stream come late: one more window is asked for, too. */
	count = ovc_stream_hit(&host->streams, fault->tid, r->id, idx, &stride);
	if (count) {
		w.hold = stride == 1;
		ovc_window_go_ahead(f, &w, idx, count, stride, t.empty);
	}
	ovc_window_flush(f, &w);
}

/* A page of the store that is mapped, and that the guest wants to write. */
static void serve_write(struct ovc_region *r, uint64_t idx, uint64_t since)
{
	struct ovc_vm *vm = r->vm;
	bool ok = ovc_promise_write(r, idx);

	count_fault(vm);
	if (!ok) {
		/* As in pager.c: mark, then try once more. */
		OVC_COUNT(vm, faults_waited, 1);
		atomic_store(&vm->starved, true);
		ok = ovc_promise_write(r, idx);
		ovc_kick(vm->host);
	}
	if (!ok)
		return;
	ovc_memory_wake(r, idx, 1);
	ovc_faulter_note_latency(vm, since);
}

/*
 * The process locked all of its memory (mlockall), and the kernel brings in what it can:
 * the ring's window, too, where no page may be but what moves there. It leaves a mapping
 * when it meets an error. The reclaim thread takes that away: see staging.c.
 */
static void refuse_window(struct ovc_host *host, void *addr)
{
	size_t done;

	if (!host->uffd_features.poison ||
	    ovc_uffd_poison(host->uffd, addr, OVC_PAGE))
		ovc_uffd_zeropage(host->uffd, addr, OVC_PAGE, &done);
	atomic_store(&host->window_touched, addr);
	ovc_kick(host);
}

/* An address that is no region's: it was removed, or lies in the ring's window. Let
 * whoever waits go on. */
static void serve_stranger(struct ovc_host *host, void *addr)
{
	struct ovc_staging *s = &host->staging;
	char *a = addr;

	if (s->window && a >= s->window && a < s->window + s->cap * OVC_PAGE)
		refuse_window(host, addr);
	ovc_uffd_wake(host->uffd, addr, OVC_PAGE);
	if (host->laid_uffd >= 0)
		ovc_uffd_wake(host->laid_uffd, addr, OVC_PAGE);
}

static int drain(struct ovc_faulter *f, int fd)
{
	struct ovc_uffd_fault faults[BATCH];
	const struct ovc_map *map;
	uint64_t room = f->nr_free < f->nr_idle ? f->nr_free : f->nr_idle;
	uint64_t since;
	int nr;

	if (!room)
		return 0;
	nr = ovc_uffd_read(fd, faults, room < BATCH ? (int)room : BATCH);
	if (!nr)
		return 0;
	since = ovc_now_ns();
	map = atomic_load(&f->host->map);
	for (int i = 0; i < nr; i++) {
		void *addr = (void *)faults[i].addr;
		struct ovc_region *r = ovc_map_find(map, addr);
		uint64_t idx;

		if (!r) {
			serve_stranger(f->host, addr);
			continue;
		}
		idx = (faults[i].addr - (uintptr_t)r->base) / OVC_PAGE;
		ovc_sys_preempt(OVC_PREEMPT_FAULT, idx);
		if (faults[i].wp)
			serve_write(r, idx, since);
		else
			serve(f, r, idx, &faults[i], since);
		/* It waits in a mapping that is no more, where what fills the page
		 * wakes nobody: it is to ask again. */
		if (fd != ovc_memory_uffd(r, idx))
			ovc_uffd_wake(fd, addr, OVC_PAGE);
	}
	return nr;
}

/* ---- what callers ask for ------------------------------------------------------ */

static bool take_ask(struct ovc_faulter *f)
{
	struct ovc_ask *ask = ovc_ask_take(f->host);
	struct ovc_arrival a = { 0 };
	bool look;

	if (!ask)
		return false;
	look = ask->what.to;
	a.region = ask->what.region;
	a.idx = a.demand = ask->what.idx;
	a.nr = ask->what.nr;
	a.slot = ask->what.slot;
	a.write = ask->what.write;
	if (ovc_disk_may_read(a.region->vm, f->n, a.nr, f->nr_free,
			      f->nr_idle) &&
	    ovc_read_queue(f, &a, OVC_NONE, ovc_now_ns(), ask))
		return true;
	if (!ovc_ask_answer(ask, -EAGAIN, NULL) && !look)
		ovc_read_undo(&a);
	return true;
}

/* ---- the step, and the thread ---------------------------------------------------- */

bool ovc_faulter_step(struct ovc_faulter *f)
{
	bool did;

	atomic_fetch_add(&f->host->steps[f->n], 1);
	did = drain(f, f->host->uffd) > 0;
	if (atomic_load(&f->host->laid))
		did |= drain(f, f->host->laid_uffd) > 0;
	if (f->queued) {
		ovc_ring_submit(f->ring);
		f->queued = false;
	}
	did |= ovc_read_reap(f) > 0;
	for (unsigned i = 0; i < BATCH && take_ask(f); i++)
		did = true;
	did |= ovc_prefetch_step(f);
	if (f->queued) {
		ovc_ring_submit(f->ring);
		f->queued = false;
	}
	atomic_fetch_add(&f->host->steps[f->n], 1);
	return did;
}

#define LOOK_EVERY 64 /* faults */

/* Decides whether one thread should serve alone, by the faults of late. */
static void choose_solo(struct ovc_faulter *f)
{
	struct ovc_host *host = f->host;
	bool solo = atomic_load_explicit(&host->solo, memory_order_relaxed);
	bool disk, single;

	if (f->seen < LOOK_EVERY)
		return;
	disk = f->reads * 8 > f->seen * (solo ? 5 : 7);
	single = f->flying < f->seen * (solo ? 3 : 2);
	f->seen = f->reads = f->flying = 0;
	if (solo == (disk && single))
		return;
	atomic_store(&host->solo, !solo);
	ovc_wake_faulters(host);
}

/* Waits as is right for this thread now. */
static void rest(struct ovc_faulter *f)
{
	struct ovc_host *host = f->host;
	bool solo = atomic_load(&host->solo);
	bool late = f->request || ovc_ring_behind(f->ring);
	int fds[4];

	if (!f->n && f->cpu >= 0 && solo != f->alone) {
		f->alone = solo;
		if (solo)
			ovc_thread_unbind();
		else
			ovc_thread_bind(f->cpu);
	}
	fds[0] = host->fault_wake;
	fds[1] = solo && f->n ? -1 : host->uffd;
	fds[2] = solo && f->n ? -1 : host->laid_uffd;
	fds[3] = f->nr_idle == OVC_READS ? -1 : ovc_ring_fd(f->ring);
	/* On stop the eventfd stays readable, for all to see. */
	if (ovc_poll_first(fds, 4, late ? 1 : -1) && !atomic_load(&host->stop))
		ovc_notify_clear(host->fault_wake);
}

static void *run(void *arg)
{
	struct ovc_faulter *f = arg;
	struct ovc_host *host = f->host;

	ovc_ring_own(f->ring);
	if (f->cpu >= 0)
		ovc_thread_bind(f->cpu);
	for (;;) {
		if (ovc_faulter_step(f))
			continue;
		if (atomic_load(&host->stop) && f->nr_idle == OVC_READS) {
			/* One of us may have read the count before it saw
			 * `stop`: each that goes tells the others. */
			ovc_wake_faulters(host);
			return NULL;
		}
		choose_solo(f);
		rest(f);
	}
}

/* Buffers of all fault threads together are about 1/128 of the budget. */
uint64_t ovc_faulter_buffer_pages(const struct ovc_host *host, unsigned nr)
{
	uint64_t share = atomic_load(&host->budget) / OVC_PAGE / 128 / nr;

	if (share < BUFFERS_MIN)
		return BUFFERS_MIN;
	return share > BUFFERS_MAX ? BUFFERS_MAX : share;
}

int ovc_faulter_create(struct ovc_host *host, unsigned n, bool thread,
		       unsigned nr, int cpu, struct ovc_faulter **fp)
{
	struct ovc_faulter *f = ovc_meta_zalloc(sizeof(*f));
	struct ovc_ring_options o = {
		.depth = OVC_READS,
		.buffers_len = ovc_faulter_buffer_pages(host, nr) * OVC_PAGE,
		.files = OVC_MAX_VMS,
		.io_uring = !(host->without & OVC_FEATURE_IO_URING),
		.fixed_buffers = !(host->without & OVC_FEATURE_FIXED_BUFS),
		.fixed_files = !(host->without & OVC_FEATURE_FIXED_FILES),
	};
	int error = -ENOMEM;
	char name[16];

	if (!f)
		return -ENOMEM;
	f->host = host;
	f->n = n;
	f->cpu = cpu;
	for (f->nr_idle = 0; f->nr_idle < OVC_READS; f->nr_idle++)
		f->idle[f->nr_idle] = (uint16_t)f->nr_idle;
	f->nr_buffers = f->nr_free = ovc_faulter_buffer_pages(host, nr);
	f->free_bits = ovc_meta_zalloc(ovc_slots_bytes(f->nr_buffers));
	if (f->free_bits) {
		ovc_slots_init(&f->free, f->free_bits, f->nr_buffers);
		error = ovc_pages_reserve(f->nr_buffers * OVC_PAGE,
					  (void **)&f->buffers);
	}
	o.buffers = f->buffers;
	if (!error)
		error = ovc_ring_create(&o, &f->ring);
	host->fault_ring[n] = f->ring;
	if (!error)
		error = ovc_probation_create(&host->probation[n]);
	snprintf(name, sizeof(name), "ovc-fault/%u", n);
	if (!error && thread) {
		error = ovc_thread_start(&f->thread, name, run, f);
		f->threaded = !error;
	}
	if (error) {
		ovc_faulter_destroy(&f);
		return error;
	}
	*fp = f;
	return 0;
}

/* The host has set `stop` and made fault_wake readable. */
void ovc_faulter_destroy(struct ovc_faulter **fp)
{
	struct ovc_faulter *f = *fp;

	if (!f)
		return;
	if (f->threaded)
		pthread_join(f->thread, NULL);
	if (f->ring)
		ovc_ring_own(f->ring);
	while (f->ring && f->nr_idle < OVC_READS) {
		ovc_ring_wait(f->ring, 10);
		ovc_read_reap(f);
	}
	if (f->ring)
		ovc_ring_destroy(&f->ring);
	f->host->fault_ring[f->n] = NULL;
	ovc_probation_destroy(&f->host->probation[f->n]);
	ovc_pages_release(f->buffers, f->nr_buffers * OVC_PAGE);
	ovc_meta_free(f->free_bits);
	ovc_meta_free(f);
	*fp = NULL;
}
