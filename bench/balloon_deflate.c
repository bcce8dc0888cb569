/* SPDX-License-Identifier: MIT */
/*
 * balloon-deflate: a guest takes memory back from its balloon and uses it again.
 *
 * Half of an arena is in the balloon, while faults are tracked. Timed are calls of 256
 * frames that take it back, each followed by a write to each of these pages: `scattered`
 * frames, or whole `chunks` of 64 pages in a row. The peer is plain memory: it writes to
 * the same pages, in the same order, after they were dropped with
 * madvise(MADV_DONTNEED) and, for a memfd, a hole punched; only the writes are timed.
 *
 * The thread is not bound to a CPU. Fails where a page was not zero, or not taken back.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"

#define AWAY   MIB /* pushed out, to begin tracking */
#define FRAMES 256u
#define CHUNK  64u

static bool is_memfd(const struct trial *trial)
{
	return trial->options->side[SIDE_MEMFD];
}

/* The pages that go and come back; *nr of them, a multiple of FRAMES. */
static uint32_t *make_order(struct trial *trial, const struct arena *arena,
			    size_t *nr)
{
	size_t unit = trial->contest->number != 0 ? CHUNK : 1;
	size_t pages = (arena->len - AWAY) / PAGE, half;
	uint32_t *unit_at = shuffled(pages / unit);
	uint32_t *order = malloc(pages * sizeof(*order));

	half = pages / 2 & -(size_t)FRAMES;
	for (size_t i = 0; unit_at && order && i < half; i++)
		order[i] = (uint32_t)(AWAY / PAGE + unit_at[i / unit] * unit +
				      i % unit);
	free(unit_at);
	*nr = half;
	if (!order)
		fail(trial, TRIAL_FAILED, "no memory");
	return order;
}

static void touch_all(const struct arena *arena)
{
	warm_frames(arena->len);
	madvise(arena->addr, arena->len, MADV_NOHUGEPAGE);
	for (size_t at = 0; at < arena->len; at += PAGE)
		*(volatile char *)(arena->addr + at) = 1;
}

/* Pages that are not zero. */
static uint64_t touch_frames(const struct arena *arena, const uint32_t *frame)
{
	uint64_t wrong = 0;

	for (unsigned i = 0; i < FRAMES; i++) {
		volatile uint64_t *word = arena_page(arena, frame[i]);

		word[1] = 1;
		wrong += word[0] != 0;
	}
	return wrong;
}

static int report(struct trial *trial, size_t nr, uint64_t begin, double cpu,
		  uint64_t wrong)
{
	double *value = trial->out->value;
	double wall = (double)(now_ns() - begin) * 1e-9;

	value[GB_PER_S] = (double)(nr * PAGE) / wall * 1e-9;
	value[CPU_SECONDS] = cpu_seconds() - cpu;
	value[CPU_US_PER_PAGE] = value[CPU_SECONDS] * 1e6 / (double)nr;
	if (wrong)
		return fail(trial, TRIAL_FAILED, "%llu pages were not zero",
			    (unsigned long long)wrong);
	return 0;
}

static int ours_trial(struct trial *trial)
{
	struct ovc_deflation d = { .size = sizeof(d) };
	uint64_t begin, wrong = 0, taken = 0;
	struct ours ours;
	uint32_t *order;
	double cpu;
	size_t nr;

	if (ours_open(trial, &ours, ample_budget(trial->contest->bytes), true))
		return -1;
	memset(ours.arena.addr, 1, AWAY);
	if (ours_reclaim(trial, &ours, 0, AWAY))
		return -1;
	order = make_order(trial, &ours.arena, &nr);
	if (!order)
		return -1;
	touch_all(&ours.arena);
	ovc_vm_balloon_inflate(ours.vm, order, nr, NULL);
	cpu = cpu_seconds();
	begin = now_ns();
	for (size_t at = 0; at < nr; at += FRAMES) {
		ovc_vm_balloon_deflate(ours.vm, order + at, FRAMES, &d);
		taken += d.taken;
		wrong += touch_frames(&ours.arena, order + at);
	}
	if (report(trial, nr, begin, cpu, wrong))
		return -1;
	if (taken != nr)
		return fail(trial, TRIAL_FAILED, "took back %llu of %zu",
			    (unsigned long long)taken, nr);
	ours_close(&ours);
	free(order);
	return 0;
}

static int drop(const struct arena *arena, size_t at)
{
	int error = madvise(arena->addr + at, PAGE, MADV_DONTNEED);

	if (!error && arena->memfd)
		error = fallocate(arena->memfd,
				  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  (off_t)at, (off_t)PAGE);
	return error;
}

static int their_trial(struct trial *trial)
{
	struct arena arena;
	uint64_t begin, wrong = 0;
	uint32_t *order;
	int error = 0;
	double cpu;
	size_t nr;

	if (arena_map(&arena, trial->contest->bytes, is_memfd(trial)))
		return fail(trial, TRIAL_FAILED, "no memory");
	order = make_order(trial, &arena, &nr);
	if (!order)
		return -1;
	touch_all(&arena);
	for (size_t i = 0; i < nr; i++)
		error |= drop(&arena, order[i] * PAGE);
	if (error)
		return fail(trial, TRIAL_FAILED, "the kernel dropped not all");
	cpu = cpu_seconds();
	begin = now_ns();
	for (size_t at = 0; at < nr; at += FRAMES)
		wrong += touch_frames(&arena, order + at);
	return report(trial, nr, begin, cpu, wrong);
}

int case_balloon_deflate(const struct options *options)
{
	static const char *const param[] = { "scattered", "chunks" };
	int status = 0;

	for (int i = 0; i < 4; i++) {
		enum side side = i % 2 ? SIDE_MEMFD : SIDE_ANON;
		struct options one = *options;
		struct contest contest = {
			.options = &one,
			.name = "balloon-deflate",
			.param = param[i / 2],
			.peer = "first-touch",
			.threads = 1,
			.metrics = BIT(GB_PER_S) | CPU,
			.bytes = case_bytes(options, 256 * MIB),
			.number = i / 2,
			.ours = ours_trial,
			.theirs = their_trial,
		};

		if (!options->side[side])
			continue;
		/* Plain memory of the same kind: a contest each. */
		one.side[SIDE_ANON] = side == SIDE_ANON;
		one.side[SIDE_MEMFD] = side == SIDE_MEMFD;
		status |= contest_run(&contest);
	}
	return status;
}
