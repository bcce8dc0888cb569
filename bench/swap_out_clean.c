/* SPDX-License-Identifier: MIT */
/*
 * swap-out-clean: pushing out memory that came back from swap and was not
 * written since.
 *
 * Filled, pushed out, read back whole, pushed out again; the last is measured.
 * bytes_written is what the system counted: for ours the bytes that the process
 * had written to disks (/proc/self/io), for the peer the pages swapped out.
 * The peer is MADV_PAGEOUT with a swap file that is less than half full, so
 * that the kernel keeps the slots of the pages that it read.
 *
 * Invalid where not all went out or, for the peer, not all had come from disk.
 */
#include <stdio.h>

#include "bench.h"

/* False where the kernel does not say: then it is what the library counted. */
static bool disk_bytes(uint64_t *bytes)
{
	FILE *file = fopen("/proc/self/io", "re");
	unsigned long long number;
	char line[128];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file))
		found = sscanf(line, "write_bytes: %llu", &number) == 1;
	if (file)
		fclose(file);
	if (found)
		*bytes = number;
	return found;
}

static int written(struct trial *trial, struct ours *ours, uint64_t *bytes)
{
	struct ovc_host_stats stats;

	if (disk_bytes(bytes))
		return 0;
	if (ours_host_stats(trial, ours, &stats))
		return -1;
	*bytes = stats.swap_out_bytes;
	return 0;
}

static int read_back(struct trial *trial, const struct arena *arena)
{
	struct touching touching = {
		.arena = arena,
		.nr = arena->len / PAGE,
		.threads = 1,
	};

	return touch_pages(trial, &touching);
}

static int ours_push_again(struct trial *trial, struct ours *ours)
{
	uint64_t before, after, begin;
	double cpu;

	if (written(trial, ours, &before))
		return -1;
	cpu = cpu_seconds();
	begin = now_ns();
	if (ours_reclaim(trial, ours, 0, ours->arena.len))
		return -1;
	report_bytes(trial, trial->contest->bytes, begin, cpu);
	if (written(trial, ours, &after))
		return -1;
	trial->out->value[BYTES_WRITTEN] = (double)(after - before);
	return ours_check_out(trial, ours);
}

static int ours_trial(struct trial *trial)
{
	struct ours ours;

	warm_frames(trial->contest->bytes);
	if (ours_open_out(trial, &ours) || read_back(trial, &ours.arena) ||
	    ours_push_again(trial, &ours))
		return -1;
	ours_close(&ours);
	return 0;
}

static int their_push_again(struct trial *trial, const struct arena *arena)
{
	struct peer_counts before, after;
	uint64_t begin;
	double cpu;

	peer_swap_counts(&before);
	cpu = cpu_seconds();
	begin = now_ns();
	if (peer_swap_page_out(trial, arena))
		return -1;
	report_bytes(trial, trial->contest->bytes, begin, cpu);
	if (peer_swap_settle(trial, arena))
		return -1;
	peer_swap_counts(&after);
	trial->out->value[BYTES_WRITTEN] =
		(double)(after.out - before.out) * (double)PAGE;
	return 0;
}

static int their_trial(struct trial *trial)
{
	size_t pages = trial->contest->bytes / PAGE;
	struct peer_counts before;
	struct arena arena;

	warm_frames(trial->contest->bytes);
	if (peer_swap_open_out(trial, &arena))
		return -1;
	peer_swap_counts(&before);
	if (read_back(trial, &arena) ||
	    peer_swap_check_in(trial, &before, pages / 10 * 9, 1))
		return -1;
	return their_push_again(trial, &arena);
}

int case_swap_out_clean(const struct options *options)
{
	struct contest contest = {
		.options = options,
		.name = "swap-out-clean",
		.param = "",
		.peer = "kernel-swapfile",
		.threads = 1,
		.metrics = BIT(GB_PER_S) | BIT(BYTES_WRITTEN) | CPU,
		.bytes = case_bytes(options, 512 * MIB),
		.swaps = true,
		.ours = ours_trial,
		.theirs = their_trial,
	};

	return contest_run(&contest);
}
