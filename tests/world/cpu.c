/* SPDX-License-Identifier: MIT */
/*
 * Looking for equal pages takes its share of the CPU that the process gets, and not of the
 * time that passes: beside others on one CPU, too.
 */
#include "world.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define LEN	(16 * MIB)
#define PERCENT 20
#define BURNERS 3	      /* other processes */
#define ENOUGH	1500000000ull /* ns of the process's CPU time */

TestSuite(cpu, .timeout = 150);

static _Atomic bool stop;

static uint64_t process_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void *be_busy(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop))
		;
	return NULL;
}

static void burn(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		;
}

static bool bind_to_one(void)
{
	cpu_set_t set;
	int cpu = sched_getcpu();

	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	return cpu >= 0 && !sched_setaffinity(0, sizeof(set), &set);
}

Test(cpu, sharing_takes_its_percent_of_what_a_busy_process_gets)
{
	struct world w;
	pthread_t busy;
	pid_t burner[BURNERS];
	uint64_t shared, all;

	skip_sanitized();
	need_userfaultfd();
	if (!bind_to_one())
		cr_skip_test("a process cannot be bound to a CPU here");
	for (unsigned i = 0; i < BURNERS; i++) {
		burner[i] = fork();
		if (!burner[i])
			burn();
	}
	/* Without the kernel's word each page is hashed in each pass; as none has an
	 * equal, a quarter of what it may take is taken. */
	world_open(&w, (struct plan){ .way = { ANON, OVC_FEATURE_WP_ASYNC },
				      .len = LEN,
				      .share = OVC_SHARE_ALWAYS,
				      .share_cpu = 4 * PERCENT });
	fill_pages(w.mem, 0, LEN / PAGE, 1);
	cr_assert_eq(pthread_create(&busy, NULL, be_busy, NULL), 0);
	/* It begins with what it was owed while nothing happened. */
	for (int i = 0; i < 4000 && host_stats(&w).share_passes < 2; i++)
		usleep(5000);
	shared = host_stats(&w).share_cpu_ns;
	all = process_ns();
	for (int i = 0; i < 12000 && process_ns() - all < ENOUGH; i++)
		usleep(10000);
	shared = host_stats(&w).share_cpu_ns - shared;
	all = process_ns() - all;
	atomic_store(&stop, true);
	pthread_join(busy, NULL);
	for (unsigned i = 0; i < BURNERS; i++) {
		kill(burner[i], SIGKILL);
		waitpid(burner[i], NULL, 0);
	}
	world_close(&w, OVC_THROW_AWAY);
	cr_assert_geq(all, ENOUGH);
	cr_assert_geq(shared * 100, all * (PERCENT / 4));
	cr_assert_leq(shared * 100, all * (PERCENT + 5),
		      "%llu of %llu ms: %.1f %%",
		      (unsigned long long)shared / 1000000,
		      (unsigned long long)all / 1000000,
		      100.0 * (double)shared / (double)all);
}
