/* SPDX-License-Identifier: MIT */
/*
 * The way out: stage, classify, settle.
 *
 *   stage     the coldest pages are taken from the guest and queue in the ring. A
 *             touch there puts them back: that is their second chance.
 *   classify  the oldest of the ring: all zero? same as its slot still? else raw
 *   settle    zero: the frame is dropped. Clean: dropped, the slot has it. Raw: up
 *             to 256 pages go to contiguous slots with one write; then dropped.
 *
 * Reclaim begins when half of the reserve is used up and ends when it is whole
 * again, so that writes come in large pieces. A VM over its own limit is treated
 * likewise, by itself.
 *
 * Failures: a write that fails puts its pages back; the VM's swap is left alone for
 * a second, and the VMM is told. When guests wait and nothing can be reclaimed, the
 * VMM is told each second (blame.c); they go on waiting.
 *
 * All of it runs under host->control, in steps; on stop what is in flight is waited
 * for, and what is staged stays so (regions are brought back by who removes them).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "balancer/govern.h"
#include "core/budget.h"
#include "core/events.h"
#include "core/job.h"
#include "core/meta.h"
#include "in/lost.h"
#include "life/grave.h"
#include "memory/memory.h"
#include "out/reclaim.h"
#include "out/staging.h"
#include "share/domain.h"
#include "share/promise.h"
#include "store/shared.h"
#include "trouble/blame.h"
#include "trouble/disk.h"

static void wake_starved(struct ovc_host *host)
{
	for (unsigned i = 0; i < host->end; i++) {
		struct ovc_vm *vm = host->vms[i];

		if (!vm || !atomic_load(&vm->starved))
			continue;
		/* The kernel lacks memory: not at once again. */
		if (ovc_now_ns() - atomic_load(&vm->short_at) < OVC_SHORT_NS)
			continue;
		if (!ovc_charge(vm, 1))
			continue;
		ovc_uncharge(host, 1);
		atomic_store(&vm->starved, false);
		for (unsigned k = 0; k < vm->nr_regions; k++)
			if (vm->regions[k]->registered)
				ovc_memory_wake(vm->regions[k], 0,
						vm->regions[k]->nr);
	}
}

static uint64_t reserve_pages(const struct ovc_host *host)
{
	return atomic_load(&host->reserve) / OVC_PAGE;
}

/* Pages to free so that the reserve is whole again; 0 while less than half of it
 * is used up. */
static uint64_t host_need(struct ovc_reclaim *rc)
{
	struct ovc_host *host = rc->host;
	uint64_t used = ovc_host_held(host);
	uint64_t allowed = atomic_load(&host->allowed);
	uint64_t reserve = reserve_pages(host);

	if (used + reserve / 2 > allowed)
		rc->active = true;
	if (used + reserve <= allowed)
		rc->active = false;
	return rc->active ? used + reserve - allowed : 0;
}

static uint64_t vm_need(const struct ovc_vm *vm)
{
	uint64_t limit = atomic_load(&vm->limit);
	uint64_t have = ovc_vm_held(vm);
	uint64_t margin = limit / 64 < 1024 ? limit / 64 : 1024;
	uint64_t need = 0;

	/* What is being written is as good as gone. */
	have -= vm->writing < have ? vm->writing : have;
	if (limit && have + margin / 2 > limit)
		need = have + margin - limit;
	if (have > vm->goal && have - vm->goal > need)
		need = have - vm->goal;
	return need;
}

static bool reclaim_vms(struct ovc_reclaim *rc, uint64_t now)
{
	bool over = false;

	for (unsigned i = 0; i < rc->host->end; i++) {
		struct ovc_vm *vm = rc->host->vms[i];
		unsigned chunks = 8192;
		uint64_t need = vm ? vm_need(vm) : 0;
		uint64_t staged = need ? atomic_load(&vm->staged) : 0, most;

		if (!need || now < vm->retry_at || ovc_disk_is_busy(vm))
			continue;
		over = true;
		if (need > OVC_STAGE_STEP)
			need = OVC_STAGE_STEP;
		ovc_settle_room(rc, vm);
		/* A limit is kept whatever is guaranteed. */
		most = atomic_load(&vm->limit) ? UINT64_MAX :
						 ovc_vm_not_guaranteed(vm);
		most = most < 2 * need - staged ? most : 2 * need - staged;
		if (staged < 2 * need && ovc_vm_stageable(vm, now))
			ovc_stage_vm(vm, (unsigned)most, &chunks);
		ovc_settle_vm(rc, vm, need);
	}
	return over;
}

/* Pages that wait, and can go. */
static uint64_t waiting_pages(const struct ovc_staging *s)
{
	uint64_t n = 0;

	for (const struct ovc_segment *seg = s->oldest; seg; seg = seg->newer)
		if (!ovc_disk_is_busy(seg->vm))
			n += seg->head - seg->next;
	return n;
}

/* Keeps the ring filled, and settles what is needed now. */
static bool reclaim_host(struct ovc_reclaim *rc, uint64_t need, uint64_t now)
{
	struct ovc_host *host = rc->host;
	struct ovc_staging *s = &host->staging;
	uint64_t target = ovc_clock_ring_target(atomic_load(&host->allowed),
						atomic_load(&host->evicted));
	uint64_t waiting = waiting_pages(s), coming = rc->writing - rc->silent;
	uint64_t want, staged = 0;

	if (target > s->cap * 3 / 4)
		target = s->cap * 3 / 4;
	/* What is settled but still behind a write is on its way, too. */
	need = need > coming ? need - coming : 0;
	if (target < need)
		target = need;
	if (waiting < target) {
		want = target - waiting;
		if (want > OVC_STAGE_STEP)
			want = OVC_STAGE_STEP;
		staged = ovc_stage_probation(rc, (unsigned)want, now);
		if (staged < want)
			staged += ovc_stage_sweep(
				host, (unsigned)(want - staged), now);
		if (!staged && !coming && !waiting)
			staged = ovc_stage_shared(host, (unsigned)want, now);
	}
	if (need > OVC_SETTLE_STEP)
		need = OVC_SETTLE_STEP;
	ovc_settle(rc, need);
	return staged || rc->writing;
}

void ovc_reclaim_look(struct ovc_reclaim *rc)
{
	ovc_monitor_step(&rc->monitor, rc->host, ovc_now_ns());
}

static int sooner(int a, int b)
{
	if (a < 0 || b < 0)
		return a < 0 ? b : a;
	return a < b ? a : b;
}

/* A filter may have been put on since the rings were made. */
static void look_at_rings(struct ovc_reclaim *rc)
{
	struct ovc_host *host = rc->host;
	bool fell_back = ovc_ring_fell_back(rc->ring);

	if (!(atomic_load(&host->features) & OVC_FEATURE_IO_URING))
		return;
	for (unsigned i = 0; i < host->nr_faulters; i++)
		fell_back |= ovc_ring_fell_back(host->fault_ring[i]);
	if (!fell_back)
		return;
	atomic_fetch_and(&host->features, ~OVC_FEATURE_IO_URING);
	ovc_log(host, OVC_LOG_WARNING,
		"io_uring_enter is refused since a while ago (seccomp?): threads "
		"read and write swap from now on");
}

int ovc_reclaim_step(struct ovc_reclaim *rc)
{
	struct ovc_host *host = rc->host;
	uint64_t now = ovc_now_ns(), need, freed = atomic_load(&host->used);
	bool progress = ovc_settle_reap(rc) > 0, over = false;
	int wait = ovc_monitor_step(&rc->monitor, host, now), jobs;

	wait = sooner(wait, ovc_promise_watch(host, now));
	wait = sooner(wait, ovc_govern_step(host, now));
	wait = sooner(wait, ovc_host_look_at_cgroup(host, now));
	wait = sooner(wait, ovc_monitor_registered(&rc->monitor, host, now));
	ovc_host_recount(host);
	ovc_staging_unlock(host);
	ovc_disk_look(rc, now);
	look_at_rings(rc);
	wait = sooner(wait, jobs = ovc_jobs_step(rc));
	ovc_settle_tails(rc);
	ovc_staging_collect(rc->host);
	if (atomic_load(&host->tracked)) {
		over = reclaim_vms(rc, now);
		ovc_promise_make_room(host);
		need = host_need(rc);
		if (need && host->store && ovc_shared_dead(host->store) > 64)
			ovc_domain_sweep(host);
		if (need)
			progress |= reclaim_host(rc, need, now);
	} else {
		need = 0;
	}
	ovc_ring_submit(rc->ring);
	ovc_settle_tails(rc);
	if (host->graves || host->vm_graves)
		ovc_graves_look(host);
	wake_starved(host);
	progress |= atomic_load(&host->used) < freed;
	ovc_blame_step(rc, now);
	if (!need && !over && !rc->writing && !ovc_any_starved(host))
		return wait;
	if (!jobs)
		return 0;
	if (rc->writing && rc->nr_idle < 2)
		return 100; /* nothing to do before a write is done */
	if (progress && need)
		return rc->writing >= need ? 1 : 0;
	return rc->writing ? 1 : sooner(5, jobs);
}

/* ---- the thread -------------------------------------------------------- */

/* What is in flight ends where it was begun. */
static void finish(struct ovc_reclaim *rc)
{
	while (rc->nr_idle < OVC_DEPTH) {
		ovc_ring_wait(rc->ring, 10);
		pthread_mutex_lock(&rc->host->control);
		ovc_settle_reap(rc);
		pthread_mutex_unlock(&rc->host->control);
	}
}

static void *run(void *arg)
{
	struct ovc_reclaim *rc = arg;
	struct ovc_host *host = rc->host;

	ovc_ring_own(rc->ring);
	while (!atomic_load(&host->stop)) {
		int fds[2], wait;
		bool writing;

		ovc_events_log(host);
		/* Callers first, but not for ever: guests may wait for us. */
		for (unsigned i = 0;
		     i < 64 && atomic_load(&host->control_waiting); i++)
			ovc_nap(i);
		/* Before the step: who is short of memory after it looked must
		 * find the bell unrung. */
		atomic_store(&host->kicked, false);
		atomic_store(&host->reclaim_waits, true);
		pthread_mutex_lock(&host->control);
		atomic_store(&host->reclaim_waits, false);
		wait = ovc_reclaim_step(rc);
		writing = rc->writing > 0;
		pthread_mutex_unlock(&host->control);
		if (!wait)
			continue;
		fds[0] = host->reclaim_wake;
		fds[1] = writing ? ovc_ring_fd(rc->ring) : -1;
		ovc_poll_first(fds, 2, wait);
		ovc_notify_clear(host->reclaim_wake);
	}
	finish(rc);
	return NULL;
}

int ovc_reclaim_create(struct ovc_host *host, bool thread,
		       struct ovc_reclaim **rp)
{
	struct ovc_reclaim *rc = ovc_meta_zalloc(sizeof(*rc));
	struct ovc_ring_options o = {
		.depth = OVC_DEPTH,
		.files = OVC_MAX_VMS,
		.io_uring = !(host->without & OVC_FEATURE_IO_URING),
		.fixed_files = !(host->without & OVC_FEATURE_FIXED_FILES),
	};
	int error;

	if (!rc)
		return -ENOMEM;
	rc->host = host;
	for (rc->nr_idle = 0; rc->nr_idle < OVC_DEPTH; rc->nr_idle++)
		rc->idle[rc->nr_idle] = (uint8_t)rc->nr_idle;
	error = ovc_ring_create(&o, &rc->ring);
	host->write_ring = rc->ring;
	if (!error && thread) {
		error = ovc_thread_start(&rc->thread, "ovc-reclaim", run, rc);
		rc->threaded = !error;
	}
	if (error) {
		ovc_reclaim_destroy(&rc);
		return error;
	}
	*rp = rc;
	return 0;
}

void ovc_reclaim_destroy(struct ovc_reclaim **rp)
{
	struct ovc_reclaim *rc = *rp;

	if (!rc)
		return;
	if (rc->threaded)
		pthread_join(rc->thread, NULL);
	if (rc->ring) {
		ovc_ring_own(rc->ring);
		finish(rc);
		ovc_ring_destroy(&rc->ring);
	}
	ovc_dedupe_destroy(&rc->dedupe);
	ovc_meta_free(rc);
	*rp = NULL;
}
