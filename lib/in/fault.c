/* SPDX-License-Identifier: MIT */
/*
 * A fault thread: drains the userfaultfd, and reads swap on a ring of its own.
 *
 * One step takes up to 64 faults, as many as there are buffers for. What memory can
 * answer is answered at once. Pages in swap are read, with those behind them when
 * the faulting thread goes through memory in order; all reads of a step are started
 * with one system call. Then reads that are done are verified and filled.
 *
 * In the middle of a window that was read ahead one page is held back. Its touch
 * costs a fault but no read, and starts the next window while the guest still has
 * half of this one. A touch of a page that is still being read says that this was
 * not early enough: one more window is asked for, and from then on as many more are
 * in flight.
 *
 * Each thread is bound to a CPU and all wait for the descriptor: who runs on the
 * faulter's CPU is there first, which is best as long as memory has the answers. Once
 * nearly all faults are single reads of the disk, the others' waking up is in vain, and
 * the disk's interrupt comes where it likes: then thread 0 serves alone, on any CPU.
 *
 * A second userfaultfd has the mappings of the sharing store; what is written there is
 * for promise.c.
 *
 * Failures: a read that fails is tried again page by page; the page that then fails
 * and was asked for is poisoned. Several threads drain one descriptor: the page
 * words tell who does what, and duplicates find the page taken.
 *
 * On stop a thread first finishes its reads.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balloon/donate.h"
#include "core/budget.h"
#include "core/internal.h"
#include "core/map.h"
#include "core/meta.h"
#include "core/probation.h"
#include "in/pager.h"
#include "memory/memory.h"
#include "share/promise.h"
#include "store/slots.h"
#include "sys/fail.h"
#include "sys/thread.h"
#include "trouble/disk.h"

#define BUFFERS_MAX 1024 /* pages of I/O buffers */
#define BUFFERS_MIN 256
#define DEPTH	    256	 /* reads in flight */
#define BATCH	    64	 /* faults a step */
#define FIRST	    16	 /* pages read together with the one that was touched */
#define WINDOW	    128	 /* pages a read, at most */
#define HOLD_FROM   8	 /* pages of a window that is worth a held page */
#define LOOK	    1024 /* pages looked at for some to bring in */

struct read_io {
	struct ovc_arrival a;
	struct iovec iov;
	uint64_t buffer; /* first page of the buffers */
	uint64_t hold;	 /* page to hold back, or none */
	uint64_t since;
};

struct ovc_faulter {
	struct ovc_host *host;
	struct ovc_ring *ring;
	unsigned n;
	int cpu; /* -1: any */
	bool threaded;
	pthread_t thread;
	bool queued; /* reads wait to be submitted */

	char *buffers;
	uint64_t nr_buffers;
	struct ovc_slots free;
	void *free_bits;
	uint64_t nr_free;

	struct read_io ios[DEPTH];
	uint16_t idle[DEPTH];
	unsigned nr_idle;

	/* since the last look at how faults are answered */
	unsigned seen, reads, flying;
	bool alone; /* this is thread 0, and it is not bound */

	unsigned next_hold;
	struct ovc_request *request; /* prefetch under way */
};

#define NONE UINT64_MAX

static void on_probation(void *arg, struct ovc_region *r, uint64_t idx)
{
	const struct ovc_faulter *f = arg;

	ovc_probation_push(f->host->probation[f->n], r, idx);
}

/* ---- reads --------------------------------------------------------------- */

/* Queues a read of nr pages that the caller made READING. False: no room. */
static bool queue_read(struct ovc_faulter *f, const struct ovc_arrival *a,
		       uint64_t hold, uint64_t since)
{
	struct ovc_vm *vm = a->region->vm;
	struct ovc_ring_io io = { 0 };
	struct read_io *q;
	uint64_t got = 0, buffer;

	if (f->nr_idle && f->nr_free >= a->nr)
		got = ovc_slots_alloc(&f->free, (uint32_t)a->nr, &buffer);
	if (got < a->nr) {
		if (got)
			ovc_slots_free(&f->free, buffer, got);
		return false;
	}
	f->nr_free -= got;
	q = &f->ios[f->idle[--f->nr_idle]];
	q->a = *a;
	q->a.bytes = f->buffers + buffer * OVC_PAGE;
	q->buffer = buffer;
	q->hold = hold;
	q->since = since;
	q->iov.iov_base = f->buffers + buffer * OVC_PAGE;
	q->iov.iov_len = a->nr * OVC_PAGE;
	io.fixed = true;
	io.file = vm->index;
	io.disk = vm->disk->number;
	io.fd = ovc_swap_file(vm->swap)->fd;
	io.iov = &q->iov;
	io.nr_iov = 1;
	io.offset = a->slot * OVC_PAGE;
	io.user = (uint64_t)(q - f->ios);
	if (!ovc_ring_queue(f->ring, &io)) {
		f->idle[f->nr_idle++] = (uint16_t)(q - f->ios);
		ovc_slots_free(&f->free, buffer, got);
		f->nr_free += got;
		return false;
	}
	ovc_disk_read_begin(vm, f->n, a->nr);
	atomic_fetch_add(&a->region->ios, 1);
	f->queued = true;
	return true;
}

/* Faults that wait for the disk ask again. */
static void wake_parked(const struct ovc_host *host,
			const struct ovc_disk *disk)
{
	const struct ovc_map *map = atomic_load(&host->map);

	for (size_t i = 0; i < map->nr; i++) {
		struct ovc_region *r = map->regions[i];

		if (r->vm->disk == disk && atomic_load(&r->tracked))
			ovc_memory_wake(r, 0, r->nr);
	}
}

static void release(struct ovc_faulter *f, struct read_io *q)
{
	uint64_t nr = q->iov.iov_len / OVC_PAGE;
	struct ovc_vm *vm = q->a.region->vm;

	if (ovc_disk_read_end(vm, f->n, nr))
		wake_parked(f->host, vm->disk);

	ovc_slots_free(&f->free, q->buffer, nr);
	f->nr_free += nr;
	f->idle[f->nr_idle++] = (uint16_t)(q - f->ios);
}

static void unread(const struct ovc_arrival *a)
{
	for (uint64_t i = 0; i < a->nr; i++)
		ovc_pager_unread(a->region, a->idx + i, a->slot + i);
}

/* ---- ahead ---------------------------------------------------------------- */

/* A window being put together: contiguous in the region and in the swap. */
struct window {
	struct ovc_arrival a;
	uint64_t most; /* pages */
	uint64_t since;
	bool hold;
};

static bool flush_window(struct ovc_faulter *f, struct window *w)
{
	uint64_t hold = NONE;
	bool may, ok;

	if (!w->a.nr)
		return true;
	may = ovc_disk_may_read(w->a.region->vm, f->n, w->a.nr, f->nr_free,
				f->nr_idle);
	if (w->hold && w->a.nr >= HOLD_FROM)
		hold = w->a.idx + w->a.nr / 2;
	if (hold == w->a.demand)
		hold = NONE;
	ok = may && queue_read(f, &w->a, hold, w->since);
	if (!ok) /* who asked asks again, when it is woken */
		unread(&w->a);
	if (may && !ok && w->a.demand != NONE)
		ovc_memory_wake(w->a.region, w->a.demand, 1);
	w->a.nr = 0;
	w->a.demand = NONE;
	w->most = WINDOW;
	return ok;
}

/* Adds a page that is READING now. */
static bool add_to_window(struct ovc_faulter *f, struct window *w, uint64_t idx,
			  uint64_t slot)
{
	struct ovc_arrival *a = &w->a;

	if (a->nr &&
	    (a->nr == w->most || idx != a->idx + a->nr ||
	     slot != a->slot + a->nr) &&
	    !flush_window(f, w)) {
		ovc_pager_unread(a->region, idx, slot);
		return false;
	}
	if (!a->nr) {
		a->idx = idx;
		a->slot = slot;
	}
	a->nr++;
	return true;
}

/*
 * Brings in up to `count` pages that nobody touched yet, `stride` apart, behind
 * idx. Looks further, for what it meets first may be here or on its way: so while
 * the guest is in one window, the next is in flight and one more is asked for.
 * Pages that were never there are filled with zeros only where the touched one
 * was such a page too. Returns the index that it came to.
 */
static uint64_t go_ahead(struct ovc_faulter *f, struct window *w, uint64_t idx,
			 unsigned count, int64_t stride, bool zeros)
{
	struct ovc_region *r = w->a.region;
	uint64_t at = idx;

	for (unsigned looked = 0; count && looked < LOOK; looked++) {
		struct ovc_touched t;
		enum ovc_state s;

		at += (uint64_t)stride;
		if (at >= r->nr)
			break;
		s = ovc_word_state(atomic_load(&r->words[at]));
		if (s != OVC_SWAPPED && s != OVC_STAGED &&
		    (s != OVC_EMPTY || !zeros))
			continue;
		switch (ovc_pager_touch(r, at, zeros, true, &t)) {
		case OVC_TOUCH_READ:
			if (!add_to_window(f, w, at, t.slot))
				return at;
			count--;
			break;
		case OVC_TOUCH_DONE:
			if (t.cold)
				on_probation(f, r, at);
			count--;
			break;
		case OVC_TOUCH_STARVED:
			return at;
		default:
			break;
		}
	}
	return at;
}

/* ---- one fault -------------------------------------------------------------- */

static void note_latency(struct ovc_vm *vm, uint64_t since)
{
	uint64_t ns = ovc_now_ns() - since;

	ovc_hist_add(&vm->latency, ns);
	ovc_hist_add(&vm->host->latency, ns);
}

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
	struct window w = {
		.a = { .region = r, .demand = NONE, .write = fault->write },
		.most = WINDOW,
		.since = since
	};
	int64_t stride = 1;
	unsigned count;

	count_fault(r->vm);
	if (touch == OVC_TOUCH_DONE)
		note_latency(r->vm, since);
	if (t.cold)
		on_probation(f, r, idx);
	f->seen++;
	f->reads += touch == OVC_TOUCH_READ;
	f->flying += DEPTH - f->nr_idle;
	if (touch == OVC_TOUCH_READ) {
		w.a.demand = idx;
		w.most = FIRST;
		if (!add_to_window(f, &w, idx, t.slot))
			return;
	} else if (touch == OVC_TOUCH_STARVED || touch == OVC_TOUCH_LOST) {
		return;
	}
	/* A page that is on its way (OVC_TOUCH_WAIT) means that the reads of its
	 * stream come late: one more window is asked for, too. */
	count = ovc_stream_hit(&host->streams, fault->tid, r->id, idx, &stride);
	if (count) {
		w.hold = stride == 1;
		go_ahead(f, &w, idx, count, stride, t.empty);
	}
	flush_window(f, &w);
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
	note_latency(vm, since);
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

/* ---- reads that are done ------------------------------------------------------ */

/* A hold that is free, after the oldest was taken away if need be; NONE if even
 * that is busy. */
static uint64_t free_hold(struct ovc_faulter *f)
{
	unsigned h = f->n * OVC_HOLDS + f->next_hold++ % OVC_HOLDS;

	ovc_pager_unhold(f->host, h);
	return atomic_load(&f->host->holds[h].region) ? NONE : h;
}

static bool hold_back(struct ovc_faulter *f, const struct read_io *q)
{
	uint64_t k = q->hold - q->a.idx, h = free_hold(f);

	return h != NONE && !atomic_load(&q->a.region->leaving) &&
	       ovc_pager_hold(q->a.region, q->hold, q->a.slot + k,
			      q->a.bytes + k * OVC_PAGE, (unsigned)h);
}

static void arrived(struct ovc_faulter *f, struct read_io *q)
{
	struct ovc_arrival a = q->a;

	if (q->hold != NONE && hold_back(f, q)) {
		uint64_t k = q->hold - q->a.idx;

		a.nr = k;
		if (a.nr)
			ovc_pager_arrived(&a, on_probation, f);
		a = q->a;
		a.idx += k + 1;
		a.slot += k + 1;
		a.nr -= k + 1;
		a.bytes += (k + 1) * OVC_PAGE;
	}
	if (a.nr)
		ovc_pager_arrived(&a, on_probation, f);
	if (q->a.demand != NONE)
		note_latency(q->a.region->vm, q->since);
}

/* A read failed: each page is read by itself if somebody waits for it, so that
 * only the bad one is lost. */
static void failed(struct ovc_faulter *f, struct read_io *q, int error)
{
	struct ovc_region *r = q->a.region;

	for (uint64_t i = 0; i < q->a.nr; i++) {
		uint64_t idx = q->a.idx + i, slot = q->a.slot + i;
		bool asked = idx == q->a.demand ||
			     (atomic_load(&r->words[idx]) & OVC_W_WANTED);
		struct ovc_arrival one = { r,	idx,	    1,	 slot,
					   idx, q->a.write, NULL };
		/* ECANCELED: the thread that submitted it has ended. */
		bool again = error == -EAGAIN || error == -EINTR ||
			     error == -ENOMEM || error == -ECANCELED ||
			     q->a.nr > 1;

		if (!asked)
			ovc_pager_unread(r, idx, slot);
		else if (!again)
			ovc_pager_lost(r, idx, slot, error);
		else if (!queue_read(f, &one, NONE, q->since))
			/* No room: the guest asks again. */
			ovc_pager_unread(r, idx, slot),
				ovc_memory_wake(r, idx, 1);
	}
}

/* The region is out, and its memory the VMM's: nothing is filled. */
static void forsake(const struct ovc_arrival *a)
{
	bool busy;

	unread(a);
	for (uint64_t i = a->idx; i < a->idx + a->nr; i++)
		ovc_drop_begin(a->region, i, &busy);
}

static unsigned reap(struct ovc_faulter *f)
{
	struct ovc_ring_done done[BATCH];
	unsigned nr = ovc_ring_reap(f->ring, done, BATCH);

	for (unsigned i = 0; i < nr; i++) {
		struct read_io *q = &f->ios[done[i].user];
		struct read_io copy = *q;

		if (atomic_load(&q->a.region->gone)) {
			release(f, q);
			forsake(&copy.a);
		} else if (done[i].result == (int)q->iov.iov_len) {
			arrived(f, q);
			release(f, q);
		} else {
			release(f, q);
			failed(f, &copy,
			       done[i].result < 0 ? done[i].result : -EIO);
		}
		/* From here on it may be freed. */
		atomic_fetch_sub(&copy.a.region->ios, 1);
	}
	return nr;
}

/* ---- prefetch --------------------------------------------------------------------- */

static struct ovc_request *next_request(struct ovc_host *host)
{
	if (!atomic_exchange(&host->have_requests, false))
		return NULL;
	for (unsigned i = 0; i < OVC_MAX_REQUESTS; i++) {
		struct ovc_request *q = &host->requests[i];
		int ready = OVC_SLOT_READY;

		if (atomic_compare_exchange_strong(&q->state, &ready,
						   OVC_SLOT_BUSY)) {
			/* Others may find the rest. */
			atomic_store(&host->have_requests, true);
			return q;
		}
	}
	return NULL;
}

/* Takes a prefetch one window further, when there is room for it. */
static bool prefetch(struct ovc_faulter *f)
{
	struct ovc_request *q = f->request;
	struct window w = { .a = { .demand = NONE }, .most = WINDOW };
	uint64_t step;

	if (!q)
		q = f->request = next_request(f->host);
	if (!q || (!q->region->leaving &&
		   (f->nr_free < f->nr_buffers / 2 || f->nr_idle < DEPTH / 2)))
		return false;
	if (!q->nr || q->region->leaving || !ovc_room_ahead(q->region->vm, 1)) {
		f->request = NULL;
		atomic_store(&q->state, OVC_SLOT_FREE);
		return true;
	}
	step = q->nr < WINDOW ? q->nr : WINDOW;
	if (step > f->nr_buffers / 2)
		step = f->nr_buffers / 2;
	w.a.region = q->region;
	w.since = ovc_now_ns();
	for (uint64_t i = 0; i < step; i++) {
		uint64_t at = q->idx + i;
		uint64_t word = atomic_load(&q->region->words[at]);
		struct ovc_touched t;

		if (ovc_word_state(word) != OVC_SWAPPED &&
		    ovc_word_state(word) != OVC_STAGED)
			continue;
		if (ovc_pager_touch(q->region, at, false, true, &t) ==
			    OVC_TOUCH_READ &&
		    !add_to_window(f, &w, at, t.slot))
			break;
	}
	flush_window(f, &w);
	q->idx += step;
	q->nr -= step;
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
	did |= reap(f) > 0;
	did |= prefetch(f);
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
	fds[3] = f->nr_idle == DEPTH ? -1 : ovc_ring_fd(f->ring);
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
		if (atomic_load(&host->stop) && f->nr_idle == DEPTH) {
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
		.depth = DEPTH,
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
	for (f->nr_idle = 0; f->nr_idle < DEPTH; f->nr_idle++)
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
	while (f->ring && f->nr_idle < DEPTH) {
		ovc_ring_wait(f->ring, 10);
		reap(f);
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
