/* SPDX-License-Identifier: MIT */
/*
 * A host with one VM, or more, of one region each, for a trial of the library.
 *
 * All options are the library's defaults, but for the budget, and for looking
 * for equal pages, which is off until a case asks for it, as KSM is for the
 * peers. Its fault threads are one for each CPU, bound to it. The swap file is
 * a named one that stays from round to round, as the peer's swap file does, so
 * that neither pays for disk blocks that were never written before.
 *
 * A host that the kernel does not permit makes the trial unavailable; any
 * other failure is a failed trial with the library's own sentence. On stop the
 * parent removes the swap file.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

static char swap_path[NR_SWAPS][4096];

const char *ours_swap_path(const struct options *options, unsigned which)
{
	if (!swap_path[which][0])
		snprintf(swap_path[which], sizeof(swap_path[which]),
			 "%s/ovc-bench-%d-%u.ours", options->swap_dir,
			 (int)getpid(), which);
	return swap_path[which];
}

void ours_remove_swap(void)
{
	for (unsigned i = 0; i < NR_SWAPS; i++)
		if (swap_path[i][0])
			unlink(swap_path[i]);
}

uint64_t ample_budget(size_t len)
{
	return 2 * (uint64_t)len + 128 * MIB;
}

int ours_host_with(struct trial *trial, const struct ovc_host_options *options,
		   struct ovc_host **hostp)
{
	int err = ovc_host_create(options, hostp);

	if (err == -EPERM || err == -ENOSYS)
		return fail(trial, TRIAL_UNAVAILABLE, "%s", ovc_error());
	if (err)
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	return 0;
}

int ours_host(struct trial *trial, uint64_t budget, struct ovc_host **hostp)
{
	struct ovc_host_options options = {
		.size = sizeof(options),
		.budget = budget,
		.share = OVC_SHARE_NEVER,
	};

	return ours_host_with(trial, &options, hostp);
}

int ours_join(struct trial *trial, struct ours *ours, struct ovc_host *host,
	      size_t len, const char *swap)
{
	struct ovc_vm_options options = {
		.size = sizeof(options),
		.swap = swap,
	};
	struct ovc_region_options region = {
		.size = sizeof(region),
		.len = len,
	};

	*ours = (struct ours){ 0 };
	if (arena_map(&ours->arena, len, trial->side == SIDE_MEMFD))
		return fail(trial, TRIAL_FAILED, "no memory");
	region.addr = ours->arena.addr;
	region.memfd = ours->arena.memfd;
	if (ovc_vm_create(host, &options, &ours->vm) ||
	    ovc_vm_add_region(ours->vm, &region))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	return 0;
}

int ours_open_with(struct trial *trial, struct ours *ours,
		   const struct ovc_host_options *options, size_t len,
		   const char *swap)
{
	struct ovc_host *host;

	if (ours_host_with(trial, options, &host) ||
	    ours_join(trial, ours, host, len, swap))
		return -1;
	ours->host = host;
	return 0;
}

int ours_open(struct trial *trial, struct ours *ours, uint64_t budget,
	      bool swap)
{
	struct ovc_host_options options = {
		.size = sizeof(options),
		.budget = budget,
		.share = OVC_SHARE_NEVER,
	};

	return ours_open_with(trial, ours, &options, trial->contest->bytes,
			      swap ? ours_swap_path(trial->options, 0) : NULL);
}

int ours_open_filled(struct trial *trial, struct ours *ours)
{
	if (ours_open(trial, ours, ample_budget(trial->contest->bytes), true))
		return -1;
	arena_fill(&ours->arena);
	return 0;
}

int ours_open_out(struct trial *trial, struct ours *ours)
{
	if (ours_open_filled(trial, ours))
		return -1;
	return ours_push_out(trial, ours);
}

int ours_open_tracked(struct trial *trial, struct ours *ours)
{
	if (ours_open(trial, ours, ample_budget(trial->contest->bytes), true))
		return -1;
	memset(ours->arena.addr, 1, AWAY);
	return ours_reclaim(trial, ours, 0, AWAY);
}

void ours_close(struct ours *ours)
{
	ovc_vm_destroy(&ours->vm, OVC_THROW_AWAY);
	ovc_host_destroy(&ours->host);
	arena_unmap(&ours->arena);
}

int ours_reclaim(struct trial *trial, struct ours *ours, size_t from,
		 size_t len)
{
	if (ovc_vm_reclaim(ours->vm, ours->arena.addr + from, len))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	return 0;
}

/* One page in a thousand may stay. */
int ours_check_out(struct trial *trial, struct ours *ours)
{
	struct ovc_vm_stats stats = { .size = sizeof(stats) };

	if (ovc_vm_stats(ours->vm, &stats))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	if (stats.swapped < ours->arena.len - ours->arena.len / 1000)
		return fail(trial, TRIAL_INVALID,
			    "only %llu of %zu bytes went out to swap",
			    (unsigned long long)stats.swapped, ours->arena.len);
	return 0;
}

int ours_push_out(struct trial *trial, struct ours *ours)
{
	if (ours_reclaim(trial, ours, 0, ours->arena.len))
		return -1;
	return ours_check_out(trial, ours);
}

int ours_host_stats(struct trial *trial, struct ours *ours,
		    struct ovc_host_stats *stats)
{
	*stats = (struct ovc_host_stats){ .size = sizeof(*stats) };
	if (ovc_host_stats(ours->host, stats))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	return 0;
}
