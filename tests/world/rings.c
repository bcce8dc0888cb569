/* SPDX-License-Identifier: MIT */
/*
 * What a caller does after a call of its own stops nobody: the kernel tells of an I/O in
 * the thread that submitted it, and that must be no caller's. And who goes into a jail
 * that has no io_uring when guests are swapping swaps on.
 */
#include "world.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
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

/* ---- io_uring is refused when it is in use ---------------------------------- */

struct refusal {
	bool dispatch;
	unsigned error;
	bool threads; /* are refused, too */
};

#define JAIL_LEN    (48 * MIB)
#define JAIL_BUDGET (16 * MIB)

static atomic_uint rounds[GUESTS];

/* Each fills its half, and looks whether it is all there. */
static void *checker(void *arg)
{
	uint64_t nr = JAIL_LEN / PAGE / GUESTS, n = (uintptr_t)arg;

	for (unsigned seed = 1; !stop; seed++) {
		long bad;

		fill_pages(w.mem, n * nr, nr, seed);
		bad = check_pages(w.mem, n * nr, nr, seed);
		if (bad != -1) {
			fprintf(stderr, "page %ld is wrong\n", bad);
			_exit(4);
		}
		rounds[n]++;
	}
	return NULL;
}

/* The descriptor alone tells when. */
static void *dispatcher(void *arg)
{
	struct pollfd p = { .fd = ovc_host_fd(w.host), .events = POLLIN };
	atomic_bool *over = arg;

	while (!*over)
		if (poll(&p, 1, 100) > 0 && ovc_host_dispatch(w.host))
			abort();
	return NULL;
}

/* For all threads, those of the library, too. */
static bool refuse(unsigned nr, unsigned error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			SECCOMP_FILTER_FLAG_TSYNC, &program);
}

/* Until each guest did so many rounds more. */
static void await_rounds(unsigned more)
{
	for (unsigned i = 0; i < GUESTS; i++)
		for (unsigned was = rounds[i]; rounds[i] < was + more;)
			usleep(5000);
}

static int run_jailed(void *arg)
{
	const struct refusal *r = arg;
	atomic_bool over = false;
	pthread_t t[GUESTS + 1];
	uint64_t out, in;

	world_open(&w, (struct plan){ .budget = JAIL_BUDGET,
				      .len = JAIL_LEN,
				      .host_flags = r->dispatch ?
							    OVC_HOST_DISPATCH :
							    0 });
	if (!(host_stats(&w).features & OVC_FEATURE_IO_URING))
		return 77;
	/* So that memory is tracked from the beginning. */
	if (ovc_vm_reclaim(w.vm, w.mem, w.len))
		return 2;
	if (r->dispatch)
		pthread_create(&t[GUESTS], NULL, dispatcher, &over);
	for (uintptr_t i = 0; i < GUESTS; i++)
		pthread_create(&t[i], NULL, checker, (void *)i);
	await_rounds(1);
	if (!refuse(SYS_io_uring_enter, r->error) ||
	    (r->threads &&
	     !(refuse(SYS_clone, EPERM) && refuse(SYS_clone3, EPERM))))
		return 77;
	out = host_stats(&w).swap_out_bytes;
	in = host_stats(&w).swap_in_bytes;
	await_rounds(3);
	if (host_stats(&w).swap_out_bytes < out + JAIL_LEN ||
	    host_stats(&w).swap_in_bytes < in + JAIL_LEN)
		return 3;
	if (host_stats(&w).features & OVC_FEATURE_IO_URING ||
	    !world_logged(&w, "io_uring_enter"))
		return 4;
	stop = true;
	for (unsigned i = 0; i < GUESTS; i++)
		pthread_join(t[i], NULL);
	over = true;
	if (r->dispatch)
		pthread_join(t[GUESTS], NULL);
	world_close(&w, OVC_THROW_AWAY);
	return 0;
}

ParameterizedTestParameters(rings, guests_go_on_when_io_uring_is_refused_later)
{
	static struct refusal all[] = {
		{ false, EPERM, false },  { true, EPERM, false },
		{ false, ENOSYS, false }, { false, EPERM, true },
		{ true, EACCES, true },
	};

	/* Of threads and of dispatch one each, where all takes four times as long. */
	return cr_make_param_array(struct refusal, all,
				   SANITIZED ? 2 :
					       sizeof(all) / sizeof(all[0]));
}

ParameterizedTest(struct refusal *r, rings,
		  guests_go_on_when_io_uring_is_refused_later)
{
	int got;

	need_userfaultfd();
	got = in_child(run_jailed, r, 100);
	if (got == 77)
		cr_skip_test("no io_uring, or no filter, here");
	cr_assert_eq(got, 0, "%s%s: %d", r->dispatch ? "dispatch" : "threads",
		     r->threads ? ", no new ones" : "", got);
}
