/* SPDX-License-Identifier: MIT */
/*
 * share-break: the first write to a page that is shared.
 *
 * Two guests with equal pages share them all, but for one in a hundred; then
 * nothing is looked for any more, and one thread writes to each page of the
 * second guest, once and in random order. Once right after sharing, and once
 * after the guest has read all pages in order, so that they are mapped. The
 * peer is KSM, which leaves them mapped when it merges.
 *
 * Fails where a page of either guest is not what it should be.
 */
#include <stdlib.h>

#include "bench.h"

static int touch(struct trial *trial, const struct arena *arena,
		 const uint32_t *order, bool write)
{
	struct touching touching = {
		.arena = arena,
		.order = order,
		.nr = arena->len / PAGE,
		.threads = 1,
		.write = write,
	};

	return touch_pages(trial, &touching);
}

static int share_all(struct trial *trial, struct guests *guests)
{
	size_t len;

	if (guests_open(trial, guests, 2, KSM_FASTEST))
		return -1;
	guests_fill(guests);
	len = guests->arena[0].len;
	if (guests_share(trial, guests, 100) ||
	    guests_wait(trial, guests, len - len / 100))
		return -1;
	return guests_pause(trial, guests);
}

static int trial_run(struct trial *trial)
{
	bool read = trial->contest->number != 0;
	struct guests guests;
	uint32_t *order;

	if (share_all(trial, &guests))
		return -1;
	order = shuffled(guests.arena[1].len / PAGE);
	if (!order)
		return fail(trial, TRIAL_FAILED, "no memory");
	if ((read && touch(trial, &guests.arena[1], NULL, false)) ||
	    touch(trial, &guests.arena[1], order, true) ||
	    guests_check(trial, &guests, 0))
		return -1;
	guests_close(&guests);
	free(order);
	return 0;
}

int case_share_break(const struct options *options)
{
	static const char *const param[] = { "read=no", "read=yes" };
	int status = 0;

	for (int read = 0; read <= 1; read++) {
		struct contest contest = {
			.options = options,
			.name = "share-break",
			.param = param[read],
			.peer = "ksm",
			.threads = 1,
			.metrics = BIT(P50_US) | BIT(P99_US),
			.bytes = case_bytes(options, 512 * MIB),
			.number = read,
			.ksm = true,
			.ours = trial_run,
			.theirs = trial_run,
		};

		status |= contest_run(&contest);
	}
	return status;
}
