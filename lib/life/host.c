/* SPDX-License-Identifier: MIT */
/*
 * The host: its budget, its threads, the map of its regions.
 *
 * Creation asks the kernel what it has, makes the ring, and starts one fault thread
 * for each CPU and the reclaim thread; each failure undoes what came before.
 *
 * Destruction takes the VMs apart first (their memory comes back), while all
 * threads run, then stops the threads, then closes the userfaultfd, on which nothing
 * is registered any more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "balancer/govern.h"
#include "core/budget.h"
#include "core/control.h"
#include "core/events.h"
#include "in/ask.h"
#include "core/internal.h"
#include "core/map.h"
#include "core/meta.h"
#include "life/dispatch.h"
#include "life/host.h"
#include "life/leave.h"
#include "memory/memory.h"
#include "out/staging.h"
#include "share/share.h"
#include "store/shared.h"
#include "sys/thread.h"

#define MIB	     ((uint64_t)1 << 20)
#define LEAST_BUDGET (8 * MIB)
#define ZEROS	     (128 * OVC_PAGE)
#define AHEAD	     512	   /* pages that may be read ahead at once */
#define STAGED_LEAST 1024	   /* pages */
#define SEGMENTS     64		   /* of staged pages that are not full */
#define CLOSE_NS     5000000000ull /* for disks, at a host's end */
#define SHARE_CPU    5		   /* percent */

/* ---- creation ------------------------------------------------------------------------------ */

static int set_reserve(struct ovc_host *host, uint64_t budget, uint64_t asked)
{
	uint64_t reserve = asked;

	if (!reserve) {
		reserve = atomic_load(&host->may);
		reserve = (reserve < budget ? reserve : budget) / 64;
		reserve = reserve < 2 * MIB ? 2 * MIB : reserve;
		reserve = reserve > 256 * MIB ? 256 * MIB : reserve;
	}
	if (budget < LEAST_BUDGET)
		return ovc_fail(-EINVAL, "budget %llu is below 8 MiB",
				(unsigned long long)budget);
	if (reserve >= budget - budget / 2)
		return ovc_fail(-EINVAL,
				"reserve %llu is half of the budget %llu or "
				"more",
				(unsigned long long)reserve,
				(unsigned long long)budget);
	atomic_store(&host->budget, budget);
	atomic_store(&host->reserve, reserve);
	return 0;
}

/* Mappings of the store have one of their own: protection that asks cannot be had
 * together with one that does not. Nothing depends on it but how much is mapped. */
static void open_laid_uffd(struct ovc_host *host)
{
	struct ovc_uffd_features *f = &host->laid_features;

	f->poison = host->uffd_features.poison;
	f->minor = host->uffd_features.minor;
	f->wp = f->wp_map = true;
	host->laid_uffd = ovc_uffd_open(0, f);
	if (host->laid_uffd >= 0 && f->wp && f->minor &&
	    f->poison == host->uffd_features.poison)
		return;
	ovc_log(host, OVC_LOG_INFO, "shared pages are not mapped: %s",
		host->laid_uffd < 0 ?
			"there is no second userfaultfd" :
			"the kernel has no write protection of shmem");
	ovc_fd_close(host->laid_uffd);
	host->laid_uffd = -1;
	host->mappings_may = host->mappings_most = 0;
}

static int open_uffd(struct ovc_host *host, int given)
{
	struct ovc_uffd_features *f = &host->uffd_features;
	const char *why = NULL;

	f->move = !(host->without & OVC_FEATURE_MOVE);
	f->poison = !(host->without & OVC_FEATURE_POISON);
	f->minor = !(host->without & OVC_FEATURE_MINOR);
	/* Written pages are found by the scan only. */
	f->wp_async = !(host->without & OVC_FEATURE_WP_ASYNC) &&
		      host->pagemap.scan;
	host->uffd = given > 0 ? ovc_uffd_take(given, f, &why) :
				 ovc_uffd_open(0, f);
	if (host->uffd >= 0) {
		open_laid_uffd(host);
		return 0;
	}
	if (given > 0)
		return ovc_fail(host->uffd, "options.userfaultfd %d: %s", given,
				why ? why : strerror(-host->uffd));
	if (host->uffd == -EPERM || host->uffd == -EACCES)
		return ovc_fail(-EPERM, "userfaultfd is not permitted: be "
					"root, have CAP_SYS_PTRACE, be allowed "
					"to open /dev/userfaultfd, or pass a "
					"descriptor in options.userfaultfd");
	return ovc_fail(host->uffd, "userfaultfd: %s", strerror(-host->uffd));
}

/* So that a child of fork() is told from us at the price of a look at memory. */
static int make_here(struct ovc_host *host)
{
	void *page;
	int error = ovc_pages_make_wiped(&page);

	if (error)
		return error;
	*(char *)page = 1;
	host->here = page;
	host->process = ovc_process();
	return 0;
}

/* A quarter of the budget may be staged; and each VM has a segment that is not full. */
static int make_staging(struct ovc_host *host)
{
	uint64_t share = atomic_load(&host->budget) / OVC_PAGE / 4;

	share = share < STAGED_LEAST ? STAGED_LEAST : share;
	return ovc_staging_create(host, share + SEGMENTS * OVC_SEGMENT);
}

static int make_buffers(struct ovc_host *host, unsigned nr)
{
	uint64_t holds = (uint64_t)nr * OVC_HOLDS;
	uint64_t pages = 1 + holds + ovc_faulter_buffer_pages(host, nr) * nr;
	int error = ovc_pages_reserve(ZEROS, (void **)&host->zeros);

	host->holds = ovc_meta_zalloc(holds * sizeof(*host->holds));
	if (!host->holds)
		error = -ENOMEM;
	if (!error)
		error = ovc_pages_reserve(holds * OVC_PAGE,
					  (void **)&host->hold_frames);
	host->hold_frames_len = holds * OVC_PAGE;
	host->buffers = pages * OVC_PAGE;
	return error;
}

static int start_threads(struct ovc_host *host, unsigned asked)
{
	bool threads = !ovc_host_dispatched(host);
	unsigned nr = ovc_cpus() < 8 ? ovc_cpus() : 8;
	int error;

	if (asked)
		nr = asked;
	if (!threads)
		nr = 1;
	host->fault_wake = ovc_notify_create();
	if (host->fault_wake < 0)
		return host->fault_wake;
	host->reclaim_wake = ovc_notify_create();
	if (host->reclaim_wake < 0)
		return host->reclaim_wake;
	error = make_buffers(host, nr);
	ovc_host_recount(host);
	for (unsigned i = 0; !error && i < nr; i++) {
		error = ovc_faulter_create(host, i, threads, nr,
					   threads ? ovc_cpu(i) : -1,
					   &host->faulters[i]);
		host->nr_faulters += !error;
	}
	if (!error)
		error = ovc_reclaim_create(host, threads, &host->reclaim);
	if (!error)
		error = ovc_share_create(host, threads, &host->share);
	return error;
}

static void note_features(struct ovc_host *host)
{
	const struct ovc_uffd_features *f = &host->uffd_features;
	struct ovc_ring *ring = host->fault_ring[0];
	uint32_t bits = OVC_FEATURE_DIRECT_IO | OVC_FEATURE_TMPFILE;

	bits &= ~host->without;
	bits |= f->move ? OVC_FEATURE_MOVE : 0;
	bits |= f->poison ? OVC_FEATURE_POISON : 0;
	bits |= f->minor ? OVC_FEATURE_MINOR : 0;
	bits |= f->wp_async ? OVC_FEATURE_WP_ASYNC : 0;
	bits |= host->pagemap.scan ? OVC_FEATURE_PAGEMAP_SCAN : 0;
	bits |= host->batch_advise ? OVC_FEATURE_BATCH_ADVISE : 0;
	bits |= ovc_ring_is_uring(ring) ? OVC_FEATURE_IO_URING : 0;
	bits |= ovc_ring_has_buffers(ring) ? OVC_FEATURE_FIXED_BUFS : 0;
	bits |= ovc_ring_has_files(ring) ? OVC_FEATURE_FIXED_FILES : 0;
	bits |= ovc_meta_is_jemalloc() ? OVC_FEATURE_JEMALLOC : 0;
	host->features = bits;
	for (unsigned i = 0; i < 32; i++)
		if (ovc_feature_name(1u << i))
			ovc_log(host, OVC_LOG_DEBUG, "feature %s: %s",
				ovc_feature_name(1u << i),
				bits & 1u << i ? "used" : "not used");
}

static int build(struct ovc_host *host, const struct ovc_host_options *o)
{
	int error;

	atomic_store(&host->budget, o->budget);
	ovc_host_look_at_cgroup(host, ovc_now_ns());
	error = set_reserve(host, o->budget, o->reserve);
	if (error)
		return error;
	error = ovc_govern_create(o, &host->govern);
	if (error)
		return error;
	error = ovc_pagemap_open(&host->pagemap,
				 !(host->without & OVC_FEATURE_PAGEMAP_SCAN));
	if (error)
		return ovc_fail(error, "/proc/self/pagemap: %s",
				strerror(-error));
	host->batch_advise = !(host->without & OVC_FEATURE_BATCH_ADVISE) &&
			     ovc_pages_can_batch();
	error = open_uffd(host, o->userfaultfd);
	if (error)
		return error;
	error = make_here(host);
	if (!error)
		error = make_staging(host);
	if (!error)
		error = ovc_host_remap(host);
	if (!error)
		error = ovc_events_create(host, o->event, &host->events);
	if (!error)
		error = start_threads(host, o->fault_threads);
	if (!error)
		note_features(host);
	if (!error && ovc_host_dispatched(host))
		error = ovc_dispatch_create(host);
	if (error)
		return ovc_fail(error, "host_create: %s", strerror(-error));
	ovc_host_recount(host);
	if (atomic_load(&host->allowed) <
	    2 * atomic_load(&host->reserve) / OVC_PAGE)
		return ovc_fail(-EINVAL,
				"budget: after %llu KiB for the library itself "
				"less than twice the reserve is left; raise "
				"it%s, or have fewer fault threads",
				(unsigned long long)(ovc_host_metadata(host) +
						     host->buffers) >>
					10,
				ovc_host_budget(host) < o->budget ?
					" and the memory cgroup's limit" :
					"");
	return 0;
}

/* Undoes what was built, whole or in part. No VM is left. */
static void take_apart(struct ovc_host *host, int keep_fd)
{
	ovc_events_stop(host->events);
	atomic_store(&host->stop, true);
	if (host->fault_wake >= 0)
		ovc_notify_post(host->fault_wake);
	if (host->reclaim_wake >= 0)
		ovc_notify_post(host->reclaim_wake);
	ovc_share_destroy(&host->share);
	ovc_reclaim_destroy(&host->reclaim);
	ovc_govern_destroy(&host->govern);
	for (unsigned i = 0; i < host->nr_faulters; i++)
		ovc_faulter_destroy(&host->faulters[i]);
	ovc_meta_free(atomic_load(&host->map));
	if (host->uffd != keep_fd)
		ovc_fd_close(host->uffd);
	ovc_fd_close(host->laid_uffd);
	ovc_staging_destroy(host);
	ovc_pages_release(host->hold_frames, host->hold_frames_len);
	ovc_pages_release(host->zeros, ZEROS);
	ovc_pages_release(host->here, OVC_PAGE);
	if (host->store)
		ovc_shared_destroy(&host->store);
	ovc_pages_release(host->laid_window, OVC_LAID_WINDOW * OVC_PAGE);
	ovc_events_destroy(&host->events);
	ovc_meta_free(host->holds);
	ovc_pagemap_close(&host->pagemap);
	ovc_proc_close(&host->proc);
	ovc_cgroup_close(&host->cgroup);
	ovc_fd_close(host->epoll);
	ovc_fd_close(host->timer);
	ovc_fd_close(host->fault_wake);
	ovc_fd_close(host->reclaim_wake);
	pthread_mutex_destroy(&host->control);
	ovc_meta_free(host);
}

/* The VMM, and what else is in the process, keep a quarter, at least 4,096. */
static uint64_t share_mappings(const struct ovc_proc *proc, uint64_t asked)
{
	uint64_t most = ovc_pages_max_mappings();
	uint64_t have = ovc_pages_mappings(proc);
	uint64_t keep = most / 4 > 4096 ? most / 4 : 4096;

	/* Not known how many there are: none are to be had. */
	have = have < most ? have : most;
	most = most > keep + have ? most - keep - have : 0;
	return asked && asked < most ? asked : most;
}

void ovc_host_share(struct ovc_host *host, uint32_t mode, uint32_t cpu)
{
	atomic_store(&host->share_mode, mode);
	atomic_store(&host->share_cpu, cpu ? cpu : SHARE_CPU);
	ovc_share_kick(host);
}

int ovc_host_build(const struct ovc_host_options *o, struct ovc_host **hostp)
{
	struct ovc_host *host = ovc_meta_zalloc(sizeof(*host));
	int error;

	if (!host)
		return ovc_fail(-ENOMEM, "host_create: out of memory");
	host->uffd = host->laid_uffd = host->epoll = host->timer =
		host->pagemap.fd = -1;
	host->fault_wake = host->reclaim_wake = host->share_wake = -1;
	ovc_cgroup_open(&host->cgroup);
	atomic_store(&host->may, UINT64_MAX);
	host->proc = (struct ovc_proc)OVC_PROC_NONE;
	ovc_proc_open(&host->proc);
	pthread_mutex_init(&host->control, NULL);
	ovc_asks_init(host);
	host->flags = o->flags;
	host->without = o->without;
	host->reserve_asked = o->reserve;
	host->next_number = 1;
	host->mappings_may = share_mappings(&host->proc, o->share_mappings);
	host->mappings_most = host->mappings_may;
	ovc_host_share(host, o->share, o->share_cpu);
	atomic_store(&host->share_factor, 1);
	host->log = o->log;
	host->opaque = o->opaque;
	error = build(host, o);
	if (error)
		take_apart(host, o->userfaultfd);
	else
		*hostp = host;
	return error;
}

void ovc_host_end(struct ovc_host *host)
{
	if (ovc_host_dispatched(host))
		ovc_dispatch_take_over(host);
	ovc_control_lock(host);
	atomic_store(&host->ending, true);
	for (unsigned i = 0; i < host->end; i++)
		for (unsigned k = 0;
		     host->vms[i] && k < host->vms[i]->nr_regions; k++)
			ovc_leave_begin(host->vms[i]->regions[k]);
	ovc_control_unlock(host);
}

static bool all_closed(struct ovc_host *host)
{
	bool closed;

	ovc_control_lock(host);
	closed = !host->graves && !host->vm_graves;
	ovc_control_unlock(host);
	return closed && !atomic_load(&host->burying);
}

/* The log is not called any more, nor events told; threads end when the disk answers. */
static void abandon(struct ovc_host *host)
{
	ovc_log(host, OVC_LOG_ERROR,
		"host_destroy: a disk does not answer; what is left of the "
		"host stays in memory, and its threads, until the process ends");
	ovc_events_stop(host->events);
	ovc_control_lock(host);
	host->log = NULL;
	ovc_control_unlock(host);
	atomic_store(&host->stop, true);
	ovc_notify_post(host->fault_wake);
	ovc_notify_post(host->reclaim_wake);
	ovc_share_destroy(&host->share);
}

void ovc_host_unbuild(struct ovc_host *host)
{
	uint64_t since = 0;

	for (unsigned round = 0; !all_closed(host); round++) {
		ovc_kick_always(host);
		ovc_host_pause(host, round);
		if (!ovc_waited_for(&since, round, CLOSE_NS))
			continue;
		abandon(host);
		return;
	}
	take_apart(host, -1);
}

int ovc_host_resize(struct ovc_host *host, uint64_t budget)
{
	int error;

	ovc_control_lock(host);
	error = set_reserve(host, budget, host->reserve_asked);
	ovc_host_recount(host);
	ovc_control_unlock(host);
	ovc_kick_always(host);
	return error;
}
