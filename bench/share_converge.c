/* SPDX-License-Identifier: MIT */
/*
 * share-converge: how long it takes until four guests share what they can.
 *
 * A third of each guest's memory is the same in all four, in pieces of 1 to
 * 512 pages that lie at other places and in another order in each; the rest is
 * its own. One who knew it all would save three of the four copies of that
 * third: the seconds are those to 50 and to 90 percent of it, "cpu" the CPU
 * seconds to 90. Ours takes 5 % of a CPU. The peer is KSM as the kernel sets
 * it by default, 100 pages each 20 ms, and, in a contest of its own, KSM with
 * its advisor, where it has one.
 *
 * A side has ten minutes; what it has not reached by then has no value. One
 * round only: at its default KSM looks at 2 GiB in 105 seconds and merges in
 * its second pass, and its advisor aims at 200 seconds a pass. Fails where a
 * byte of a guest is not what it was.
 */
#include <math.h>
#include <stdlib.h>

#include "bench.h"

#define GUESTS	    4
#define CPU_PERCENT 5
#define SECONDS	    600
#define ROUNDS	    1
#define MAX_PIECE   512

/* What only one guest has; what all have begins at 0. */
#define OWN(guest, idx) (((guest) + 1u) << 28 | (uint32_t)(idx))

struct piece {
	uint32_t first;
	uint32_t nr;
};

/* ---- Layout ----------------------------------------------------------- */

/* Cuts pages 0 to nr - 1 into pieces; as many of 1 to 2 pages as of 256 to 512,
 * and so on between. Returns how many. */
static size_t cut(struct piece *piece, uint32_t nr)
{
	uint64_t state = arena_word(nr);
	uint32_t at = 0;
	size_t pieces = 0;

	while (at < nr) {
		uint32_t most = 2u << xorshift(&state) % 9;
		uint32_t len = most / 2 +
			       (uint32_t)(xorshift(&state) % (most / 2 + 1));

		piece[pieces++] = (struct piece){
			.first = at,
			.nr = len < nr - at ? len : nr - at,
		};
		at += piece[pieces - 1].nr;
	}
	return pieces;
}

static void shuffle(struct piece *piece, size_t nr, uint64_t *state)
{
	for (size_t i = nr; i > 1; i--) {
		size_t other = xorshift(state) % i;
		struct piece swap = piece[i - 1];

		piece[i - 1] = piece[other];
		piece[other] = swap;
	}
}

/* All pieces in another order, with pages of the guest's own between them. */
static void lay_out(uint32_t *id, size_t pages, unsigned guest,
		    struct piece *piece, size_t pieces, uint32_t common)
{
	uint64_t state = arena_word(guest);
	size_t own = pages - common, at = 0;

	shuffle(piece, pieces, &state);
	for (size_t i = 0; i < pieces; i++) {
		size_t gap = xorshift(&state) % (2 * own / (pieces - i) + 1);

		gap = gap < own ? gap : own;
		own -= gap;
		for (; gap; gap--, at++)
			id[at] = OWN(guest, at);
		for (uint32_t k = 0; k < piece[i].nr; k++)
			id[at++] = piece[i].first + k;
	}
	for (; at < pages; at++)
		id[at] = OWN(guest, at);
}

/* Sets how many pages all guests have in common. */
static int arrange(struct trial *trial, struct guests *guests, uint32_t *common)
{
	size_t pages = guests->arena[0].len / PAGE;
	struct piece *piece;
	size_t pieces;

	*common = (uint32_t)(pages / 3);
	piece = calloc(*common, sizeof(*piece));
	if (!piece)
		return fail(trial, TRIAL_FAILED, "no memory");
	pieces = cut(piece, *common);
	for (unsigned i = 0; i < guests->nr; i++) {
		guests->id[i] = malloc(pages * sizeof(uint32_t));
		if (!guests->id[i])
			return fail(trial, TRIAL_FAILED, "no memory");
		lay_out(guests->id[i], pages, i, piece, pieces, *common);
	}
	free(piece);
	return 0;
}

/* ---- Trial ------------------------------------------------------------ */

/* `all` bytes are what one who knew would save. */
static int measure(struct trial *trial, struct guests *guests, uint64_t all)
{
	double *value = trial->out->value;
	double cpu = guests_cpu(guests);
	uint64_t begin = now_ns(), saved;
	double wall;

	if (guests_share(trial, guests, CPU_PERCENT))
		return -1;
	do {
		nap_ms(5);
		wall = (double)(now_ns() - begin) * 1e-9;
		if (guests_saved(trial, guests, &saved))
			return -1;
		if (isnan(value[HALF_SECONDS]) && saved >= all / 2)
			value[HALF_SECONDS] = wall;
		if (saved >= all / 10 * 9)
			value[MOST_SECONDS] = wall;
	} while (isnan(value[MOST_SECONDS]) && wall < SECONDS);
	if (isnan(value[MOST_SECONDS]))
		remark(trial, "only %.1f %% of what can be saved in %d seconds",
		       100 * (double)saved / (double)all, SECONDS);
	else
		value[CPU_SECONDS] = guests_cpu(guests) - cpu;
	return 0;
}

static int trial_run(struct trial *trial)
{
	struct guests guests;
	uint32_t common;

	if (guests_open(trial, &guests, GUESTS,
			(enum ksm_pace)trial->contest->number) ||
	    arrange(trial, &guests, &common))
		return -1;
	guests_fill(&guests);
	if (measure(trial, &guests, (GUESTS - 1) * (uint64_t)common * PAGE))
		return -1;
	for (unsigned i = 0; i < guests.nr; i++)
		if (guests_check(trial, &guests, i))
			return -1;
	guests_close(&guests);
	return 0;
}

int case_share_converge(const struct options *options)
{
	static const struct {
		const char *peer;
		enum ksm_pace pace;
	} paces[] = {
		{ "ksm-default", KSM_DEFAULT },
		{ "ksm-advisor", KSM_ADVISOR },
	};
	int status = 0;

	for (size_t i = 0; i < sizeof(paces) / sizeof(paces[0]); i++) {
		struct contest contest = {
			.options = options,
			.name = "share-converge",
			.param = "",
			.peer = paces[i].peer,
			.threads = 1,
			.metrics = BIT(HALF_SECONDS) | BIT(MOST_SECONDS) |
				   BIT(CPU_SECONDS),
			.bytes = case_bytes(options, 2 * GIB),
			.number = paces[i].pace,
			.rounds = ROUNDS,
			.seconds = SECONDS,
			.ksm = true,
			.ours = trial_run,
			.theirs = trial_run,
		};

		status |= contest_run(&contest);
	}
	return status;
}
