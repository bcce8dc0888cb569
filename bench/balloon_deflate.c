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
#include <stdlib.h>
#include <sys/mman.h>

#include "bench.h"

#define FRAMES 256u
#define CHUNK  64u

/* The pages that go and come back; *nr of them, a multiple of FRAMES. */
static uint32_t *make_order(struct trial *trial, const struct arena *arena,
			    size_t *nr)
{
	size_t unit = trial->contest->number != 0 ? CHUNK : 1;
	size_t pages = (arena->len - AWAY) / PAGE;
	uint32_t *order = shuffled_runs(AWAY / PAGE, pages, unit);

	*nr = pages / 2 & -(size_t)FRAMES;
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
	report_bytes(trial, nr * PAGE, begin, cpu);
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

	if (ours_open_tracked(trial, &ours))
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

static int their_trial(struct trial *trial)
{
	struct arena arena;
	uint64_t begin, wrong = 0;
	uint32_t *order;
	int error = 0;
	double cpu;
	size_t nr;

	if (arena_map(&arena, trial->contest->bytes,
		      kind_of_memory(trial) == SIDE_MEMFD))
		return fail(trial, TRIAL_FAILED, "no memory");
	order = make_order(trial, &arena, &nr);
	if (!order)
		return -1;
	touch_all(&arena);
	for (size_t i = 0; i < nr; i++)
		error |= arena_drop(&arena, order[i] * PAGE, PAGE);
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

	for (int chunks = 0; chunks <= 1; chunks++) {
		struct contest contest = {
			.options = options,
			.name = "balloon-deflate",
			.param = param[chunks],
			.peer = "first-touch",
			.threads = 1,
			.metrics = BIT(GB_PER_S) | CPU,
			.bytes = case_bytes(options, 256 * MIB),
			.number = chunks,
			.ours = ours_trial,
			.theirs = their_trial,
		};

		status |= contest_run_kinds(&contest);
	}
	return status;
}
