/* SPDX-License-Identifier: MIT */
/*
 * rebalance: half of an idle VM's memory goes to a busy VM of the same size, on a
 * budget of one and a half such VMs.
 *
 * `balloon`: the idle VM's balloon is asked to hold that half, and the busy VM's,
 * which does, to hold nothing. Their drivers follow in turns, 256 frames to a call
 * as a virtio-balloon device gets them; the busy VM then writes to the pages that it
 * got. The frames are in order in pieces of 4 MiB, as a guest's allocator gives them
 * out that has memory free, or, `balloon,scattered`, in random order. The peer does
 * what QEMU's device does, step by step of 256 frames: plain memory, one
 * madvise(MADV_DONTNEED) a page and, for a memfd, a hole punched behind it; for the
 * other VM MADV_WILLNEED and the same writes. A script that asks for the steps, and
 * waits for each, is left out: it only adds to the peer's time.
 *
 * `swap`: the idle VM's limit is set to the half, and the busy VM writes to new memory
 * meanwhile, in order. Timed until it has done that and the idle VM is within its limit.
 * The peer is a memory cgroup with a swap file, whose limit is lowered in 16 steps; a
 * process outside of it writes to as much new memory after each step, while the
 * next one is under way.
 *
 * Nothing is bound to a CPU. Fails where not all was moved, or a page was not zero. On
 * stop the peer's second process ends with the first.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define FRAMES	1024u /* pages of 4 MiB: the largest block of an allocator */
#define CALL	256u
#define STEPS	16u
#define WAIT_NS 60000000000u

enum way { BALLOON, SCATTERED, SWAP };

static enum way way_of(const struct trial *trial)
{
	return (enum way)trial->contest->number;
}

struct clock {
	uint64_t wall;
	double cpu;
};

static struct clock start_clock(void)
{
	return (struct clock){ now_ns(), cpu_seconds() };
}

static void stop_clock(struct trial *trial, struct clock from, double more_cpu)
{
	trial->out->value[WALL_SECONDS] = (double)(now_ns() - from.wall) * 1e-9;
	trial->out->value[CPU_SECONDS] = cpu_seconds() - from.cpu + more_cpu;
}

/* Writes to a page, and says whether it was anything but zero. */
static uint64_t touch_new(const struct arena *arena, size_t idx)
{
	volatile uint64_t *word = arena_page(arena, idx);

	word[1] = 1;
	return word[0] != 0;
}

static void touch_half(const struct arena *arena)
{
	for (size_t i = 0; i < arena->len / PAGE / 2; i++)
		arena_page(arena, i)[0] = 1;
}

static int check_zero(struct trial *trial, uint64_t wrong)
{
	if (wrong)
		return fail(trial, TRIAL_FAILED, "%llu pages were not zero",
			    (unsigned long long)wrong);
	return 0;
}

/* The frames of an arena's second half, in the order in which they go. */
static uint32_t *make_order(struct trial *trial)
{
	size_t unit = way_of(trial) == SCATTERED ? 1 : FRAMES;
	size_t half = trial->contest->bytes / PAGE / 2;
	uint32_t *order = shuffled_runs(half, half, unit);

	if (!order)
		fail(trial, TRIAL_FAILED, "no memory");
	return order;
}

/* ---- Ours ------------------------------------------------------------------ */

struct pair {
	struct ours idle, busy; /* the host is idle's */
	size_t half;		/* bytes */
};

/* A twentieth more than both hold: what the library keeps for itself, and free. */
static int pair_open(struct trial *trial, struct pair *pair)
{
	size_t len = trial->contest->bytes;
	struct ovc_host_options options = {
		.size = sizeof(options),
		.budget = (len + len / 2) / 20 * 21 + 16 * MIB,
		.share = OVC_SHARE_NEVER,
	};

	pair->half = len / 2;
	warm_frames(len + len / 2);
	if (ours_open_with(trial, &pair->idle, &options, len,
			   ours_swap_path(trial->options, 0)) ||
	    ours_join(trial, &pair->busy, pair->idle.host, len, NULL))
		return -1;
	arena_fill(&pair->idle.arena);
	touch_half(&pair->busy.arena);
	return 0;
}

static void pair_close(struct pair *pair)
{
	ours_close(&pair->busy);
	ours_close(&pair->idle);
}

static int check_tracked(struct trial *trial, struct pair *pair)
{
	struct ovc_host_stats stats;

	if (ours_host_stats(trial, &pair->idle, &stats))
		return -1;
	if (!stats.tracked)
		return fail(trial, TRIAL_FAILED, "faults were not tracked");
	return 0;
}

/* A VM's balloon, followed by its driver. */
struct driver {
	struct ovc_vm *vm;
	int fd;
	const uint32_t *order;
	uint64_t holds, target; /* frames */
};

static int driver_start(struct trial *trial, struct driver *driver,
			struct ovc_vm *vm, const uint32_t *order)
{
	struct ovc_balloon_options options = {
		.size = sizeof(options),
		.flags = OVC_BALLOON_DRIVER,
	};

	*driver = (struct driver){ .vm = vm, .order = order };
	if (ovc_vm_balloon_set(vm, &options))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	driver->fd = ovc_vm_balloon_fd(vm);
	if (driver->fd < 0)
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	return 0;
}

static void driver_look(struct driver *driver)
{
	struct pollfd poll_fd = { .fd = driver->fd, .events = POLLIN };
	uint64_t bytes;

	if (poll(&poll_fd, 1, 0) != 1 ||
	    ovc_vm_balloon_target(driver->vm, &bytes))
		return;
	driver->target = bytes / PAGE;
}

/* One call: true while there is more to do. */
static bool driver_inflate(struct driver *driver)
{
	uint64_t nr;

	driver_look(driver);
	if (driver->holds >= driver->target)
		return false;
	nr = driver->target - driver->holds;
	nr = nr < CALL ? nr : CALL;
	ovc_vm_balloon_inflate(driver->vm, driver->order + driver->holds, nr,
			       NULL);
	driver->holds += nr;
	ovc_vm_balloon_reached(driver->vm, driver->holds * PAGE);
	return true;
}

/* The frames go as they came. Returns how many, the first at `*frame`. */
static uint64_t driver_deflate(struct driver *driver, const uint32_t **frame,
			       uint64_t at)
{
	uint64_t nr;

	driver_look(driver);
	if (driver->holds <= driver->target)
		return 0;
	nr = driver->holds - driver->target;
	nr = nr < CALL ? nr : CALL;
	*frame = driver->order + at;
	ovc_vm_balloon_deflate(driver->vm, *frame, nr, NULL);
	driver->holds -= nr;
	ovc_vm_balloon_reached(driver->vm, driver->holds * PAGE);
	return nr;
}

static int ask(struct trial *trial, struct driver *driver, uint64_t bytes)
{
	if (ovc_vm_balloon_ask(driver->vm, bytes))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	return 0;
}

static int check_balloons(struct trial *trial, struct pair *pair)
{
	struct ovc_vm_stats idle = { .size = sizeof(idle) };
	struct ovc_vm_stats busy = { .size = sizeof(busy) };

	if (ovc_vm_stats(pair->idle.vm, &idle) ||
	    ovc_vm_stats(pair->busy.vm, &busy))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	if (idle.ballooned != pair->half || busy.ballooned)
		return fail(trial, TRIAL_FAILED,
			    "balloons of %llu and %llu bytes",
			    (unsigned long long)idle.ballooned,
			    (unsigned long long)busy.ballooned);
	return 0;
}

static int move_by_balloon(struct trial *trial, struct pair *pair,
			   const uint32_t *order)
{
	struct driver idle, busy;
	const uint32_t *frame;
	uint64_t wrong = 0, at = 0, nr;
	struct clock clock;
	bool more = true;

	if (driver_start(trial, &idle, pair->idle.vm, order) ||
	    driver_start(trial, &busy, pair->busy.vm, order) ||
	    ask(trial, &busy, pair->half))
		return -1;
	while (driver_inflate(&busy))
		;
	clock = start_clock();
	if (ask(trial, &idle, pair->half) || ask(trial, &busy, 0))
		return -1;
	while (more) {
		more = driver_inflate(&idle);
		nr = driver_deflate(&busy, &frame, at);
		for (uint64_t i = 0; i < nr; i++)
			wrong += touch_new(&pair->busy.arena, frame[i]);
		more |= nr > 0;
		at += nr;
	}
	stop_clock(trial, clock, 0);
	if (check_zero(trial, wrong))
		return -1;
	return check_balloons(trial, pair);
}

static int wait_for_limit(struct trial *trial, struct pair *pair)
{
	uint64_t until = now_ns() + WAIT_NS;
	struct ovc_vm_stats stats = { .size = sizeof(stats) };

	do {
		if (ovc_vm_stats(pair->idle.vm, &stats))
			return fail(trial, TRIAL_FAILED, "%s", ovc_error());
		if (stats.resident + stats.staged <= pair->half)
			return 0;
		nap_ms(1);
	} while (now_ns() < until);
	return fail(trial, TRIAL_FAILED, "after a minute the idle VM held %llu",
		    (unsigned long long)(stats.resident + stats.staged));
}

static int move_by_swap(struct trial *trial, struct pair *pair)
{
	size_t pages = pair->half / PAGE;
	struct clock clock = start_clock();
	uint64_t wrong = 0;

	if (ovc_vm_set_limit(pair->idle.vm, pair->half))
		return fail(trial, TRIAL_FAILED, "%s", ovc_error());
	for (size_t i = pages; i < 2 * pages; i++)
		wrong += touch_new(&pair->busy.arena, i);
	if (wait_for_limit(trial, pair))
		return -1;
	stop_clock(trial, clock, 0);
	return check_zero(trial, wrong);
}

static int ours_trial(struct trial *trial)
{
	uint32_t *order = make_order(trial);
	struct pair pair;

	if (!order || pair_open(trial, &pair) || check_tracked(trial, &pair) ||
	    (way_of(trial) == SWAP ? move_by_swap(trial, &pair) :
				     move_by_balloon(trial, &pair, order)))
		return -1;
	pair_close(&pair);
	free(order);
	return 0;
}

/* ---- Peer: as QEMU's balloon does ---------------------------------------------- */

/* One step: frames of the idle VM's, as many of the busy one's. */
static uint64_t step(const struct arena *idle, const struct arena *busy,
		     const uint32_t *frame, int *error)
{
	uint64_t wrong = 0;

	for (unsigned i = 0; i < CALL; i++)
		*error |= arena_drop(idle, frame[i] * PAGE, PAGE);
	for (unsigned i = 0; i < CALL; i++)
		madvise(busy->addr + frame[i] * PAGE, PAGE, MADV_WILLNEED);
	for (unsigned i = 0; i < CALL; i++)
		wrong += touch_new(busy, frame[i]);
	return wrong;
}

static int qemu_trial(struct trial *trial)
{
	bool memfd = kind_of_memory(trial) == SIDE_MEMFD;
	size_t len = trial->contest->bytes;
	uint32_t *order = make_order(trial);
	struct arena idle, busy;
	struct clock clock;
	uint64_t wrong = 0;
	int error = 0;

	if (!order)
		return -1;
	warm_frames(len + len / 2);
	if (arena_map(&idle, len, memfd) || arena_map(&busy, len, memfd))
		return fail(trial, TRIAL_FAILED, "no memory");
	arena_fill(&idle);
	touch_half(&busy);
	clock = start_clock();
	for (size_t at = 0; at < len / PAGE / 2; at += CALL)
		wrong += step(&idle, &busy, order + at, &error);
	stop_clock(trial, clock, 0);
	if (error)
		return fail(trial, TRIAL_FAILED, "the kernel dropped not all");
	return check_zero(trial, wrong);
}

/* ---- Peer: the kernel's swap ------------------------------------------------------ */

struct busy {
	pid_t pid;
	int go, done; /* pipes: a byte a step; CPU seconds in the end */
};

/* The busy VM's process: outside of the cgroup. */
static void busy_run(const struct arena *arena, int go, int done)
{
	size_t pages = arena->len / PAGE;
	uint64_t wrong = 0;
	double cpu = cpu_seconds();
	char byte;

	for (size_t i = 0; i < STEPS; i++) {
		if (read(go, &byte, 1) != 1)
			_exit(1);
		for (size_t k = pages * i / STEPS; k < pages * (i + 1) / STEPS;
		     k++)
			wrong += touch_new(arena, k);
	}
	cpu = cpu_seconds() - cpu;
	if (wrong || write(done, &cpu, sizeof(cpu)) != sizeof(cpu))
		_exit(1);
	_exit(0);
}

static int busy_start(struct trial *trial, struct busy *busy)
{
	struct arena arena;
	int go[2], done[2];

	if (arena_map(&arena, trial->contest->bytes / 2, false) ||
	    pipe2(go, O_CLOEXEC) || pipe2(done, O_CLOEXEC))
		return fail(trial, TRIAL_FAILED, "no memory, or no pipe");
	busy->pid = fork();
	if (busy->pid < 0)
		return fail(trial, TRIAL_FAILED, "no process");
	if (busy->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(go[1]);
		busy_run(&arena, go[0], done[1]);
	}
	close(go[0]);
	close(done[1]);
	busy->go = go[1];
	busy->done = done[0];
	return 0;
}

static int lower_limit(struct trial *trial, struct busy *busy)
{
	size_t half = trial->contest->bytes / 2;
	uint64_t usage = peer_swap_usage();

	for (size_t i = 1; i <= STEPS; i++)
		if (peer_swap_limit(trial, usage - half * i / STEPS) ||
		    write(busy->go, "", 1) != 1)
			return -1;
	return 0;
}

static int check_swapped(struct trial *trial, const struct peer_counts *before)
{
	uint64_t pages = trial->contest->bytes / 2 / PAGE;
	struct peer_counts now;

	peer_swap_counts(&now);
	if (now.out - before->out < pages - pages / 100)
		return fail(trial, TRIAL_INVALID,
			    "%llu of %llu pages were swapped out",
			    (unsigned long long)(now.out - before->out),
			    (unsigned long long)pages);
	return 0;
}

static int swap_trial(struct trial *trial)
{
	struct peer_counts before;
	struct clock clock;
	struct arena arena;
	struct busy busy = { 0 };
	double cpu;

	warm_frames(trial->contest->bytes / 2 * 3);
	if (busy_start(trial, &busy) || peer_swap_open_filled(trial, &arena))
		return -1;
	peer_swap_counts(&before);
	clock = start_clock();
	if (lower_limit(trial, &busy))
		return -1;
	if (read(busy.done, &cpu, sizeof(cpu)) != sizeof(cpu))
		return fail(trial, TRIAL_FAILED, "pages were not zero");
	stop_clock(trial, clock, cpu);
	waitpid(busy.pid, NULL, 0);
	return check_swapped(trial, &before);
}

/* ---- The case ----------------------------------------------------------------------- */

/* 2 GiB, where a machine has eight times as much. */
static size_t vm_bytes(const struct options *options)
{
	size_t have = (size_t)sysconf(_SC_PHYS_PAGES) * PAGE / 8;
	size_t bytes = case_bytes(options, have < 2 * GIB ? have : 2 * GIB);

	return bytes & -(8 * MIB);
}

static int run_balloon(const struct options *options, enum way way)
{
	struct contest contest = {
		.options = options,
		.name = "rebalance",
		.param = way == SCATTERED ? "balloon,scattered" : "balloon",
		.peer = "madvise",
		.peer_memfd = "madvise+punch",
		.threads = 1,
		.metrics = BIT(WALL_SECONDS) | BIT(CPU_SECONDS),
		.bytes = vm_bytes(options),
		.number = way,
		.ours = ours_trial,
		.theirs = qemu_trial,
	};

	return contest_run_kinds(&contest);
}

static int run_swap(const struct options *options)
{
	struct contest contest = {
		.options = options,
		.name = "rebalance",
		.param = "swap",
		.peer = "kernel-swapfile",
		.threads = 1,
		.metrics = BIT(WALL_SECONDS) | BIT(CPU_SECONDS),
		.bytes = vm_bytes(options),
		.number = SWAP,
		.swaps = true,
		.ours = ours_trial,
		.theirs = swap_trial,
	};

	return contest_run(&contest);
}

int case_rebalance(const struct options *options)
{
	int status = run_balloon(options, BALLOON);

	status |= run_balloon(options, SCATTERED);
	return status | run_swap(options);
}
