/* SPDX-License-Identifier: MIT */
/*
 * Guests that have pages in common, for either side of a contest.
 *
 * For ours each guest is a VM with one region, all in one sharing domain, on a
 * host whose budget is never short; the memfds are nobody else's. For the peer
 * it is mergeable memory. The cases do the same with both: open, fill, start
 * the clock, share, wait until so many bytes are saved. What is saved is what
 * the guests share less what it takes to keep it once, which KSM counts the
 * same way.
 *
 * CPU time is all that the process spends outside of the waiting thread,
 * whichever thread of the library's does it, and ksmd's.
 *
 * A side that does not get there in two minutes fails its trial. Everything
 * goes with the process.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "bench.h"

#define WAIT_NS 120000000000u

static int add_vm(struct trial *trial, struct guests *guests, unsigned i)
{
	struct ovc_vm_options options = {
		.size = sizeof(options),
		.domain = "bench",
	};
	struct ovc_region_options region = {
		.size = sizeof(region),
		.addr = guests->arena[i].addr,
		.len = guests->arena[i].len,
		.memfd = guests->arena[i].memfd,
		.flags = guests->arena[i].memfd ? OVC_REGION_UNSHARED_MEMFD : 0,
	};

	if (ovc_vm_create(guests->host, &options, &guests->vm[i]) ||
	    ovc_vm_add_region(guests->vm[i], &region))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	return 0;
}

static int add_guest(struct trial *trial, struct guests *guests, unsigned i)
{
	size_t len = trial->contest->bytes / guests->nr & -(2 * MIB);

	if (arena_map(&guests->arena[i], len, guests->side == SIDE_MEMFD))
		return fail(trial, TRIAL_FAILED, "no memory");
	if (guests->side == SIDE_PEER)
		return peer_ksm_offer(trial, &guests->arena[i]);
	return add_vm(trial, guests, i);
}

int guests_open(struct trial *trial, struct guests *guests, unsigned nr,
		enum ksm_pace pace)
{
	size_t bytes = trial->contest->bytes;
	int err;

	*guests = (struct guests){ .side = trial->side, .nr = nr };
	warm_frames(bytes + bytes / 2);
	if (guests->side == SIDE_PEER)
		err = peer_ksm_open(trial, pace);
	else
		err = ours_host(trial, ample_budget(bytes), &guests->host);
	for (unsigned i = 0; i < nr && !err; i++)
		err = add_guest(trial, guests, i);
	return err;
}

static size_t id_of(const struct guests *guests, unsigned guest, size_t idx)
{
	return guests->id[guest] ? guests->id[guest][idx] : idx;
}

void guests_fill(const struct guests *guests)
{
	for (unsigned i = 0; i < guests->nr; i++) {
		const struct arena *arena = &guests->arena[i];

		for (size_t idx = 0; idx < arena->len / PAGE; idx++)
			page_fill(arena_page(arena, idx),
				  id_of(guests, i, idx));
	}
}

int guests_share(struct trial *trial, struct guests *guests, unsigned cpu)
{
	if (guests->side == SIDE_PEER)
		return peer_ksm_run(trial, true);
	if (ovc_host_set_share(guests->host, OVC_SHARE_ALWAYS, cpu))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	return 0;
}

int guests_pause(struct trial *trial, struct guests *guests)
{
	if (guests->side == SIDE_PEER)
		return peer_ksm_run(trial, false);
	if (ovc_host_set_share(guests->host, OVC_SHARE_NEVER, 0))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	return 0;
}

int guests_saved(struct trial *trial, struct guests *guests, uint64_t *bytes)
{
	struct ovc_host_stats stats = { .size = sizeof(stats) };

	if (guests->side == SIDE_PEER)
		return peer_ksm_saved(trial, bytes);
	if (ovc_host_stats(guests->host, &stats))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	*bytes = stats.shared_bytes > stats.store_bytes ?
			 stats.shared_bytes - stats.store_bytes :
			 0;
	return 0;
}

int guests_wait(struct trial *trial, struct guests *guests, uint64_t bytes)
{
	uint64_t end = now_ns() + WAIT_NS;
	uint64_t saved;

	for (;;) {
		if (guests_saved(trial, guests, &saved))
			return -1;
		if (saved >= bytes)
			return 0;
		if (now_ns() > end)
			break;
		nap_ms(1);
	}
	return fail(trial, TRIAL_FAILED,
		    "only %llu of %llu bytes were saved after two minutes",
		    (unsigned long long)saved, (unsigned long long)bytes);
}

static double thread_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

double guests_cpu(const struct guests *guests)
{
	double cpu = cpu_seconds() - thread_seconds();

	return guests->side == SIDE_PEER ? cpu + peer_ksm_cpu() : cpu;
}

int guests_check(struct trial *trial, const struct guests *guests,
		 unsigned guest)
{
	const struct arena *arena = &guests->arena[guest];
	size_t wrong = 0;

	for (size_t idx = 0; idx < arena->len / PAGE; idx++)
		wrong += !page_is(arena_page(arena, idx),
				  id_of(guests, guest, idx));
	if (wrong)
		return fail(trial, TRIAL_FAILED,
			    "%zu of %zu pages held wrong bytes", wrong,
			    arena->len / PAGE);
	return 0;
}

void guests_close(struct guests *guests)
{
	if (guests->side == SIDE_PEER)
		peer_ksm_close();
	for (unsigned i = 0; i < guests->nr; i++)
		ovc_vm_destroy(&guests->vm[i], OVC_THROW_AWAY);
	ovc_host_destroy(&guests->host);
	for (unsigned i = 0; i < guests->nr; i++) {
		arena_unmap(&guests->arena[i]);
		free(guests->id[i]);
	}
}
