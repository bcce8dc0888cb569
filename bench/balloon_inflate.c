/* SPDX-License-Identifier: MIT */
/*
 * balloon-inflate, balloon-inflate-huge: a guest gives memory away.
 *
 * Half of an arena that was touched before is dropped, in random order: frames of
 * 4 KiB, 256 to a call, as a virtio-balloon device gets them, while faults are tracked;
 * or whole 2 MiB in huge pages (where the kernel has them for this kind of memory), 32 to
 * a call, as free page reporting brings them, while they are not, for tracked memory
 * gets no huge pages. The peer drops the same, in the same order, with one
 * madvise(MADV_DONTNEED) each and, for a memfd, a hole punched behind it, as QEMU's
 * device does.
 *
 * The thread that drops is bound to the first CPU. `idle`: the other CPUs have nothing
 * to do; `busy`: a thread of the same process, bound to the second, goes on touching
 * memory, as a guest's does; each flush of the TLBs then interrupts it.
 *
 * Fails where not all of it was dropped.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bench.h"

#define FRAMES 256u
#define RANGES 32u
#define HUGE   (2 * MIB)

enum kind { IDLE, BUSY, WHOLE };

struct work {
	enum kind kind;
	size_t unit;	 /* bytes */
	uint32_t *order; /* units of the arena */
	size_t nr;
};

static enum kind kind_of(const struct trial *trial)
{
	return (enum kind)trial->contest->number;
}

static void bind_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static volatile bool busy_stop;

static void *keep_touching(void *arg)
{
	volatile char *addr = arg;

	bind_to(1);
	for (size_t i = 0; !busy_stop; i++)
		addr[i % 1024 * PAGE]++;
	return NULL;
}

static int make_busy(struct trial *trial)
{
	pthread_t thread;
	char *addr;

	if (kind_of(trial) != BUSY)
		return 0;
	addr = mmap(NULL, 1024 * PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (addr == MAP_FAILED ||
	    pthread_create(&thread, NULL, keep_touching, addr))
		return fail(trial, TRIAL_FAILED, "no memory, or no thread");
	nap_ms(20);
	return 0;
}

/* Touches all of it and says what is to go; binds this thread, and the busy one. */
static int prepare(struct trial *trial, const struct arena *arena,
		   struct work *work)
{
	size_t skip;

	*work = (struct work){ .kind = kind_of(trial) };
	work->unit = work->kind == WHOLE ? HUGE : PAGE;
	skip = work->kind == WHOLE ? 0 : AWAY / PAGE;
	work->nr = arena->len / work->unit - skip;
	work->order = shuffled_runs(skip, work->nr, 1);
	if (!work->order)
		return fail(trial, TRIAL_FAILED, "no memory");
	work->nr /= 2;
	warm_frames(arena->len);
	madvise(arena->addr, arena->len,
		work->kind == WHOLE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	for (size_t at = 0; at < arena->len; at += PAGE)
		*(volatile char *)(arena->addr + at) = 1;
	bind_to(0);
	return make_busy(trial);
}

static void report(struct trial *trial, const struct work *work, uint64_t begin,
		   double cpu)
{
	double *value = trial->out->value;
	double wall = (double)(now_ns() - begin) * 1e-9;
	double bytes = (double)work->nr * (double)work->unit;

	value[GB_PER_S] = bytes / wall * 1e-9;
	/* The thread that keeps a CPU busy is no part of it. */
	value[CPU_SECONDS] = work->kind == BUSY ? wall : cpu_seconds() - cpu;
	value[CPU_US_PER_PAGE] =
		value[CPU_SECONDS] * 1e6 / (bytes / (double)PAGE);
}

static uint64_t give_frames(struct ours *ours, const struct work *work)
{
	struct ovc_donation d = { .size = sizeof(d) };
	uint64_t given = 0;

	for (size_t at = 0, n; at < work->nr; at += n) {
		n = work->nr - at < FRAMES ? work->nr - at : FRAMES;
		ovc_vm_balloon_inflate(ours->vm, work->order + at, n, &d);
		given += d.given;
	}
	return given;
}

static uint64_t give_ranges(struct ours *ours, const struct work *work)
{
	struct ovc_donation d = { .size = sizeof(d) };
	struct ovc_range range[RANGES];
	uint64_t given = 0;
	size_t n = 0;

	for (size_t i = 0; i < work->nr; i++) {
		range[n++] = (struct ovc_range){
			ours->arena.addr + work->order[i] * HUGE, HUGE
		};
		if (n < RANGES && i + 1 < work->nr)
			continue;
		ovc_vm_balloon_report(ours->vm, range, n, &d);
		given += d.given;
		n = 0;
	}
	return given * PAGE / HUGE;
}

static int ours_trial(struct trial *trial)
{
	struct work work;
	struct ours ours;
	uint64_t begin, given;
	double cpu;
	int error;

	error = kind_of(trial) == WHOLE ?
			ours_open(trial, &ours,
				  ample_budget(trial->contest->bytes), true) :
			ours_open_tracked(trial, &ours);
	if (error || prepare(trial, &ours.arena, &work))
		return -1;
	cpu = cpu_seconds();
	begin = now_ns();
	given = work.kind == WHOLE ? give_ranges(&ours, &work) :
				     give_frames(&ours, &work);
	report(trial, &work, begin, cpu);
	busy_stop = true;
	if (given != work.nr)
		return fail(trial, TRIAL_FAILED, "gave %llu of %zu",
			    (unsigned long long)given, work.nr);
	ours_close(&ours);
	free(work.order);
	return 0;
}

static int their_trial(struct trial *trial)
{
	struct arena arena;
	struct work work;
	uint64_t begin;
	int error = 0;
	double cpu;

	if (arena_map(&arena, trial->contest->bytes,
		      kind_of_memory(trial) == SIDE_MEMFD))
		return fail(trial, TRIAL_FAILED, "no memory");
	if (prepare(trial, &arena, &work))
		return -1;
	cpu = cpu_seconds();
	begin = now_ns();
	for (size_t i = 0; i < work.nr; i++)
		error |= arena_drop(&arena, work.order[i] * work.unit,
				    work.unit);
	report(trial, &work, begin, cpu);
	busy_stop = true;
	if (error)
		return fail(trial, TRIAL_FAILED, "the kernel dropped not all");
	return 0;
}

static int run(const struct options *options, enum kind kind)
{
	static const char *const param[] = { "idle", "busy", "" };
	struct contest contest = {
		.options = options,
		.name = kind == WHOLE ? "balloon-inflate-huge" :
					"balloon-inflate",
		.param = param[kind],
		.peer = "madvise",
		.peer_memfd = "madvise+punch",
		.threads = 1,
		.metrics = BIT(GB_PER_S) | CPU,
		.bytes = case_bytes(options, 512 * MIB),
		.number = kind,
		.ours = ours_trial,
		.theirs = their_trial,
	};

	return contest_run_kinds(&contest);
}

int case_balloon_inflate(const struct options *options)
{
	int status = run(options, IDLE);

	return status | run(options, BUSY);
}

int case_balloon_inflate_huge(const struct options *options)
{
	return run(options, WHOLE);
}
