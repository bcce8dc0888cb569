/* SPDX-License-Identifier: MIT */
/*
 * Fails the n-th system call of a scenario, for n = 1, 2, 3 ... until it passes
 * without getting that far. The first 200 are done one by one, later ones with a
 * growing stride; scenarios in which memory is short take longer, and have some of
 * their calls failed, for a few seconds. Prints how many failures there were and of
 * which calls.
 *
 *	fault [--some] --swap-dir DIR [SCENARIO [N ERRNO]]
 *
 * With --some, fewer of each. With N and ERRNO, that one failure alone. A watchdog ends
 * what hangs. Exit 77: no userfaultfd.
 */
#include "fault.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "overcommit.h"
#include "sys/fail.h"

#define MIB	 ((uint64_t)1 << 20)
#define ONCE	 200 /* calls that are failed one by one */
#define SOME	 20  /* the same with --some */
#define HANGING	 20  /* seconds; no single step takes a tenth of that */
#define NAMES	 64
#define MOST_BAD 5 /* failures of ours, after which a scenario is left */
#define GOLDEN	 0.618034

#define ALL	  (((uint32_t)1 << 12) - 1)
#define FALLBACKS (ALL & ~(uint32_t)(OVC_FEATURE_POISON | OVC_FEATURE_MINOR))
#define SMALL	  .pages = 96, .budget = 12 * MIB
#define SHARE	  .pages = 256, .budget = 16 * MIB, .share = true
#define OVER	  .pages = 1024, .budget = 8 * MIB, .seconds = 8

static const struct scenario scenarios[] = {
	{ "small", SMALL },
	{ "small-dispatch", SMALL, .named = true, .dispatch = true },
	{ "small-fallbacks", SMALL, .without = FALLBACKS },
	{ "share", SHARE },
	{ "share-dispatch", SHARE, .dispatch = true },
	{ "share-fallbacks", SHARE, .without = FALLBACKS },
	{ "over", OVER, .named = true },
	{ "over-fallbacks", OVER, .without = FALLBACKS },
};
#define NR_SCENARIOS (sizeof(scenarios) / sizeof(scenarios[0]))

static bool some;

static const int errors[] = { ENOMEM, EIO, ENOSPC, EAGAIN, EINTR };
#define NR_ERRORS (sizeof(errors) / sizeof(errors[0]))

/* ---- the watchdog -------------------------------------------------------- */

static struct {
	const char *name;
	unsigned long n;
	int error;
} now;

static void *watch(void *arg)
{
	unsigned long seen = 0;
	unsigned same = 0;

	(void)arg;
	for (;;) {
		const char *what = ovc_sys_fail_what();

		sleep(1);
		same = step_count() == seen ? same + 1 : 0;
		seen = step_count();
		if (same < HANGING)
			continue;
		fprintf(stderr,
			"fault: %s: HANG in: %s; call %lu was to fail with "
			"%s, and it was: %s\n",
			now.name, step_now(), now.n, strerror(now.error),
			what ? what : "none so far");
		_exit(1);
	}
	return NULL;
}

/* ---- tally ----------------------------------------------------------------- */

static struct {
	const char *name;
	unsigned count;
} tally[NAMES];

static void count(const char *what)
{
	for (unsigned i = 0; i < NAMES; i++) {
		if (tally[i].name && strcmp(tally[i].name, what))
			continue;
		tally[i].name = what;
		tally[i].count++;
		return;
	}
}

static void report(const struct scenario *s, unsigned failures,
		   unsigned long calls, double seconds)
{
	printf("%s: %u failures of %lu calls, %.1f s:", s->name, failures,
	       calls, seconds);
	for (unsigned i = 0; i < NAMES && tally[i].name; i++)
		printf("%s %s %u", i ? "," : "", tally[i].name, tally[i].count);
	printf("\n");
	fflush(stdout);
	memset(tally, 0, sizeof(tally));
}

/* ---- runs ------------------------------------------------------------------- */

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* 1: the call failed as it was told; 0: the scenario ended before; -1: bad. */
static int run_one(const struct scenario *s, const char *dir, unsigned long n,
		   int error)
{
	const char *what;
	bool good;

	now.name = s->name;
	now.n = n;
	now.error = error;
	ovc_sys_fail_nth(n, error);
	good = scenario_run(s, dir, error);
	what = ovc_sys_fail_what();
	if (what)
		count(what);
	if (!good)
		fprintf(stderr, "fault: again: --swap-dir %s %s %lu %d\n", dir,
			s->name, n, error);
	return good ? what != NULL : -1;
}

static void tell(const struct scenario *s, unsigned failures, unsigned bad,
		 unsigned long calls, double since)
{
	unsigned long lost = pages_lost();

	report(s, failures, calls, seconds() - since);
	if (lost)
		printf("%s: pages were lost: %lu touches were a SIGBUS\n",
		       s->name, lost);
	if (bad)
		printf("%s: %u of them went wrong\n", s->name, bad);
}

/* One by one, then with a growing stride, until nothing fails any more. The
 * errnos take turns, and each scenario begins with another. */
static int run_each(const struct scenario *s, const char *dir,
		    unsigned long calls)
{
	unsigned turn = (unsigned)(s - scenarios), failures = 0, bad = 0;
	double since = seconds();
	int result = 1;

	for (unsigned long n = 1; result && bad < MOST_BAD;) {
		result = run_one(s, dir, n, errors[turn++ % NR_ERRORS]);
		failures += result != 0;
		bad += result < 0;
		n += n < (some ? SOME : ONCE) ? 1 : 1 + n / (some ? 4 : 8);
	}
	tell(s, failures, bad, calls, since);
	return bad ? -1 : 0;
}

/* For some seconds, evenly over all the calls, wherever one stops. */
static int run_some(const struct scenario *s, const char *dir,
		    unsigned long calls)
{
	unsigned turn = (unsigned)(s - scenarios), failures = 0, bad = 0;
	double since = seconds(), at = 0;

	while (seconds() - since < s->seconds / (some ? 4 : 1) &&
	       bad < MOST_BAD) {
		int result = run_one(s, dir,
				     1 + (unsigned long)(at * (double)calls),
				     errors[turn++ % NR_ERRORS]);

		failures += result != 0;
		bad += result < 0;
		at += GOLDEN;
		at -= at >= 1;
	}
	tell(s, failures, bad, calls, since);
	return bad ? -1 : 0;
}

static int run_all(const struct scenario *s, const char *dir)
{
	unsigned long calls;

	/* First without a failure: it also fills caches that stay. */
	if (run_one(s, dir, 0, 0) < 0 || run_one(s, dir, 0, 0) < 0)
		return -1;
	calls = ovc_sys_fail_seen();
	return s->seconds ? run_some(s, dir, calls) : run_each(s, dir, calls);
}

static bool no_userfaultfd(void)
{
	struct ovc_host_options o = { .size = sizeof(o), .budget = 8 * MIB };
	struct ovc_host *host = NULL;
	int error = ovc_host_create(&o, &host);

	ovc_host_destroy(&host);
	if (error == -EPERM || error == -ENOSYS)
		printf("SKIP: %s\n", ovc_error());
	return error == -EPERM || error == -ENOSYS;
}

int main(int argc, char **argv)
{
	const char *program = argv[0], *dir, *name;
	pthread_t thread;
	int bad = 0, ran = 0;

	if (argc > 1 && !strcmp(argv[1], "--some")) {
		some = true;
		argc--;
		argv++;
	}
	if (argc == 2 || (argc > 2 && strcmp(argv[1], "--swap-dir"))) {
		fprintf(stderr,
			"usage: %s [--some] --swap-dir DIR [SCENARIO [N "
			"ERRNO]]\n",
			program);
		return 2;
	}
	dir = argc > 2 ? argv[2] : ".";
	name = argc > 3 ? argv[3] : NULL;
	if (no_userfaultfd())
		return 77;
	guest_init();
	if (pthread_create(&thread, NULL, watch, NULL))
		return 1;
	for (size_t i = 0; i < NR_SCENARIOS; i++) {
		const struct scenario *s = &scenarios[i];

		if (name && strcmp(name, s->name))
			continue;
		ran++;
		if (argc > 5)
			bad |= run_one(s, dir, strtoul(argv[4], NULL, 0),
				       atoi(argv[5])) < 0;
		else
			bad |= run_all(s, dir) < 0;
	}
	return bad || !ran;
}
