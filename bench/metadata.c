/* SPDX-License-Identifier: MIT */
/*
 * metadata: the library's own memory for a GiB of guest memory.
 *
 * Once with everything in memory and no pressure, once with everything swapped
 * out, and once with everything in memory and looked at for equal pages, of
 * which there are none. What is the host's own, whatever the region's size, is
 * counted in. There is no peer.
 *
 * Invalid where not everything went out, or was not looked at in a minute.
 */
#include "bench.h"

#define WAIT_NS 60000000000u

enum { RESIDENT, SWAPPED, SHARING };

/* Until every page was hashed, but one in a thousand. */
static int look_at_all(struct trial *trial, struct ours *ours)
{
	uint64_t end = now_ns() + WAIT_NS;
	size_t len = ours->arena.len;
	struct ovc_host_stats stats;

	if (ovc_host_set_share(ours->host, OVC_SHARE_ALWAYS, 100))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	do {
		nap_ms(5);
		if (ours_host_stats(trial, ours, &stats))
			return -1;
		if (stats.hashed_bytes >= len - len / 1000)
			return 0;
	} while (now_ns() < end);
	return fail(trial, TRIAL_INVALID, "only %llu bytes were hashed",
		    (unsigned long long)stats.hashed_bytes);
}

static int prepare(struct trial *trial, struct ours *ours)
{
	if (ours_open_filled(trial, ours))
		return -1;
	if (trial->contest->number == SWAPPED)
		return ours_push_out(trial, ours);
	if (trial->contest->number == SHARING)
		return look_at_all(trial, ours);
	return 0;
}

static int ours_trial(struct trial *trial)
{
	struct ovc_host_stats stats;
	struct ours ours;

	if (prepare(trial, &ours) || ours_host_stats(trial, &ours, &stats))
		return -1;
	trial->out->value[BYTES_PER_GIB] =
		(double)stats.metadata / (double)ours.arena.len * (double)GIB;
	ours_close(&ours);
	return 0;
}

int case_metadata(const struct options *options)
{
	static const char *const param[] = { "swapped=none", "swapped=all",
					     "sharing=on" };
	int status = 0;

	for (int what = RESIDENT; what <= SHARING; what++) {
		struct contest contest = {
			.options = options,
			.name = "metadata",
			.param = param[what],
			.threads = 1,
			.metrics = BIT(BYTES_PER_GIB),
			.bytes = case_bytes(options, GIB),
			.number = what,
			.ours = ours_trial,
		};

		status |= contest_run(&contest);
	}
	return status;
}
