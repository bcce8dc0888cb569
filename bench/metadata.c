/* SPDX-License-Identifier: MIT */
/*
 * metadata: the library's own memory for a GiB of guest memory.
 *
 * Once with everything in memory and no pressure, once with everything swapped
 * out. What is the host's own, whatever the region's size, is counted in. There
 * is no peer.
 *
 * Invalid where not everything went out.
 */
#include "bench.h"

static int ours_trial(struct trial *trial)
{
	struct ovc_host_stats stats;
	struct ours ours;

	if (ours_open_filled(trial, &ours))
		return -1;
	if (trial->contest->number != 0 && ours_push_out(trial, &ours))
		return -1;
	if (ours_host_stats(trial, &ours, &stats))
		return -1;
	trial->out->value[BYTES_PER_GIB] =
		(double)stats.metadata / (double)ours.arena.len * (double)GIB;
	ours_close(&ours);
	return 0;
}

int case_metadata(const struct options *options)
{
	static const char *const param[] = { "swapped=none", "swapped=all" };
	int status = 0;

	for (int all = 0; all <= 1; all++) {
		struct contest contest = {
			.options = options,
			.name = "metadata",
			.param = param[all],
			.threads = 1,
			.metrics = BIT(BYTES_PER_GIB),
			.bytes = case_bytes(options, GIB),
			.number = all,
			.ours = ours_trial,
		};

		status |= contest_run(&contest);
	}
	return status;
}
