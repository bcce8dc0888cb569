/* SPDX-License-Identifier: MIT */
/*
 * swap-out: pushing out incompressible memory that was never out before.
 *
 * Ours is ovc_vm_reclaim() of the whole arena, which returns when the bytes are
 * on the disk and the memory is free; the first 64 KiB went out before, so that
 * tracking has begun. The peer is one MADV_PAGEOUT of the same to a swap file,
 * timed until it returns: its last writes are then still under way and its
 * pages in the swap cache, which is in its favour.
 *
 * Invalid where not all of it went out.
 */
#include "bench.h"

#define BEFORE (64 * (size_t)1024)

static int ours_trial(struct trial *trial)
{
	size_t len = trial->contest->bytes - BEFORE;
	struct ours ours;
	uint64_t begin;
	double cpu;

	warm_frames(trial->contest->bytes);
	if (ours_open_filled(trial, &ours) ||
	    ours_reclaim(trial, &ours, 0, BEFORE))
		return -1;
	cpu = cpu_seconds();
	begin = now_ns();
	if (ours_reclaim(trial, &ours, BEFORE, len))
		return -1;
	report_bytes(trial, len, begin, cpu);
	if (ours_check_out(trial, &ours))
		return -1;
	ours_close(&ours);
	return 0;
}

static int their_trial(struct trial *trial)
{
	struct arena arena;
	uint64_t begin;
	double cpu;

	warm_frames(trial->contest->bytes);
	if (peer_swap_open_filled(trial, &arena))
		return -1;
	cpu = cpu_seconds();
	begin = now_ns();
	if (peer_swap_page_out(trial, &arena))
		return -1;
	report_bytes(trial, arena.len, begin, cpu);
	return peer_swap_settle(trial, &arena);
}

int case_swap_out(const struct options *options)
{
	struct contest contest = {
		.options = options,
		.name = "swap-out",
		.param = "",
		.peer = "kernel-swapfile",
		.threads = 1,
		.metrics = BIT(GB_PER_S) | CPU,
		.bytes = case_bytes(options, 512 * MIB),
		.swaps = true,
		.ours = ours_trial,
		.theirs = their_trial,
	};

	return contest_run(&contest);
}
