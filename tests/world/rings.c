/* SPDX-License-Identifier: MIT */
/*
 * What a caller does after a call of its own stops nobody: the kernel tells of an I/O in
 * the thread that submitted it, and that must be no caller's.
 */
#include "world.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define LEN	(320 * MIB)
#define BUDGET	(96 * MIB)
#define GUESTS	2
#define SECONDS 4
#define PAUSE	2500 /* ms that guests stand still, and the test fails */

enum then { THEN_VFORK, THEN_FSYNC, THEN_WRITE };

static struct world w;
static atomic_bool stop;
static _Atomic uint64_t touched;

/* Each writes its half, from one end to the other and again. */
static void *guest(void *arg)
{
	uint64_t nr = LEN / PAGE / GUESTS, first = (uintptr_t)arg * nr;

	for (uint64_t i = 0; !stop; i = (i + 1) % nr) {
		make_page(w.mem + (first + i) * PAGE, touched, 1);
		touched++;
	}
	return NULL;
}

/* A child that shares our memory, and that we wait for, sleeps. */
static void do_vfork(void)
{
	struct timespec nap = { .tv_sec = 4 };
	pid_t pid = vfork();

	if (!pid) {
		nanosleep(&nap, NULL);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void do_fsync(int fd)
{
	static char buf[MIB];

	if (pwrite(fd, buf, sizeof(buf), 0) != (ssize_t)sizeof(buf) ||
	    fsync(fd))
		abort();
}

/* The kernel itself reads guest memory, which may be absent. */
static void do_write(const int *ends, uint64_t n)
{
	char page[PAGE];

	if (write(ends[1], w.mem + n * 7919 % (LEN / PAGE) * PAGE, PAGE) < 0 ||
	    read(ends[0], page, PAGE) < 0)
		abort();
}

static void *caller(void *arg)
{
	enum then then = (enum then)(uintptr_t)arg;
	char path[300];
	int ends[2], fd;

	snprintf(path, sizeof(path), "%s/synced", own_dir());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || pipe(ends))
		abort();
	for (uint64_t n = 0; !stop; n++) {
		if (ovc_vm_reclaim(w.vm, w.mem + LEN - PAGE, PAGE))
			abort();
		if (then == THEN_VFORK)
			do_vfork();
		else if (then == THEN_FSYNC)
			do_fsync(fd);
		else
			do_write(ends, n);
	}
	close(fd);
	unlink(path);
	return NULL;
}

/* The longest time in which no guest got on, in ms, of some seconds. */
static unsigned watch(void)
{
	unsigned still = 0, most = 0;

	for (unsigned i = 0; i < SECONDS * PATIENCE * 100; i++) {
		uint64_t before = touched;

		usleep(10000);
		still = touched == before ? still + 10 : 0;
		most = still > most ? still : most;
	}
	return most;
}

static int run(void *arg)
{
	pthread_t t[GUESTS + 1];
	unsigned still;

	world_open(&w, (struct plan){ .budget = BUDGET, .len = LEN });
	fill_pages(w.mem, 0, LEN / PAGE, 1);
	for (uintptr_t i = 0; i < GUESTS; i++)
		pthread_create(&t[i], NULL, guest, (void *)i);
	pthread_create(&t[GUESTS], NULL, caller, arg);
	usleep(700000);
	still = watch();
	stop = true;
	if (still >= PAUSE * PATIENCE) {
		fprintf(stderr, "guests stood still for %u ms\n", still);
		_exit(1);
	}
	for (unsigned i = 0; i <= GUESTS; i++)
		pthread_join(t[i], NULL);
	world_close(&w, OVC_THROW_AWAY);
	return 0;
}

TestSuite(rings, .timeout = 120);

Test(rings, guests_go_on_while_a_caller_sits_in_vfork)
{
	need_userfaultfd();
	cr_assert_eq(in_child(run, (void *)THEN_VFORK, 60), 0);
}

Test(rings, guests_go_on_while_a_caller_syncs_files)
{
	need_userfaultfd();
	cr_assert_eq(in_child(run, (void *)THEN_FSYNC, 60), 0);
}

Test(rings, guests_go_on_while_a_caller_writes_guest_memory_to_a_pipe)
{
	need_userfaultfd();
	cr_assert_eq(in_child(run, (void *)THEN_WRITE, 60), 0);
}
