/* SPDX-License-Identifier: MIT */
/*
 * A contest: each side in turn, round after round, each trial in a child
 * process; then the medians.
 *
 * Every round begins with another side, so that none always follows the same
 * one. With five rounds or more, one that is not counted goes before: it is the
 * first to write to the swap files' blocks. A trial that says it is invalid is
 * tried again, twice, and then its side takes no further part; a side with
 * fewer than half of its rounds has no result.
 *
 * A side that is unavailable or failed is said once, with the reason, and left
 * out from then on; that of ours makes the program's exit status 1. A trial
 * that takes minutes is killed by its alarm. On a signal the running child is
 * killed and the contest ends without output.
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define TRIES	      3
#define TRIAL_SECONDS 240

#define KILLED "killed, as by the kernel where a cgroup's memory is all hot"

struct lane {
	bool out; /* not in use, or no more */
	bool failed;
	unsigned kills;
	unsigned nr[NR_METRICS];
	double *values[NR_METRICS]; /* room for a value each round */
};

static const char *const side_name[NR_SIDES] = { "anon", "memfd", "peer" };
static volatile pid_t child;

void contest_kill(bool wait)
{
	pid_t pid = child;

	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	if (wait)
		waitpid(pid, NULL, 0);
}

void remark(struct trial *trial, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(trial->out->why, sizeof(trial->out->why), format, args);
	va_end(args);
}

/* ---- One trial -------------------------------------------------------- */

static void run_child(struct trial *trial, const sigset_t *mask)
{
	static const int caught[] = { SIGINT,  SIGTERM, SIGHUP,	 SIGPIPE,
				      SIGQUIT, SIGABRT, SIGSEGV, SIGBUS,
				      SIGFPE,  SIGILL };
	const struct contest *contest = trial->contest;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		signal(caught[i], SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	alarm(TRIAL_SECONDS + 4 * trial->options->seconds + contest->seconds);
	trial->out->why[0] = '\0';
	for (int i = 0; i < NR_METRICS; i++)
		trial->out->value[i] = NAN;
	if ((trial->side == SIDE_PEER ? contest->theirs :
					contest->ours)(trial) == 0)
		trial->out->verdict = TRIAL_OK;
	/* Not exit(): the machine is the parent's to clean up. */
	_exit(0);
}

static void reap(struct trial *trial)
{
	int status;

	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	child = 0;
	if (interrupted || !WIFSIGNALED(status))
		return;
	if (WTERMSIG(status) == SIGALRM)
		fail(trial, TRIAL_FAILED, "took too long");
	else if (WTERMSIG(status) == SIGKILL && trial->side == SIDE_PEER)
		fail(trial, TRIAL_INVALID, KILLED);
	else
		fail(trial, TRIAL_FAILED, "died of signal %d (%s)",
		     WTERMSIG(status), strsignal(WTERMSIG(status)));
}

/* Signals wait while `child` is not yet known to their handler. */
static void run_trial(struct trial *trial)
{
	sigset_t all, mask;
	pid_t pid;

	fail(trial, TRIAL_FAILED, "said nothing");
	fflush(NULL);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &mask);
	pid = interrupted ? -1 : fork();
	if (pid == 0)
		run_child(trial, &mask);
	child = pid;
	sigprocmask(SIG_SETMASK, &mask, NULL);
	if (pid > 0)
		reap(trial);
	else
		fail(trial, TRIAL_FAILED, "fork: %s", strerror(errno));
}

/* ---- Rounds ----------------------------------------------------------- */

static void keep(struct lane *lane, const struct outcome *out)
{
	for (int i = 0; i < NR_METRICS; i++)
		if (!isnan(out->value[i]))
			lane->values[i][lane->nr[i]++] = out->value[i];
}

static void note(const struct contest *contest, enum side side,
		 const char *what, const char *why)
{
	const char *who = side == SIDE_PEER ? contest->peer : side_name[side];

	say("%s%s%s, %s: %s%s", contest->name, contest->param[0] ? " " : "",
	    contest->param, who, what, why);
}

static void take_turn(struct trial *trial, struct lane *lane, bool counts)
{
	struct outcome *out = trial->out;

	for (int try = 0; try < TRIES && !interrupted; try++) {
		run_trial(trial);
		if (interrupted)
			return;
		if (out->verdict != TRIAL_INVALID)
			break;
		if (!strcmp(out->why, KILLED))
			trial->kills = ++lane->kills;
		note(trial->contest, trial->side, "invalid round: ", out->why);
	}
	if (out->verdict == TRIAL_OK && counts)
		keep(lane, out);
	if (out->verdict == TRIAL_OK) {
		if (out->why[0])
			note(trial->contest, trial->side, "", out->why);
		return;
	}
	lane->out = true;
	lane->failed = out->verdict == TRIAL_FAILED;
	note(trial->contest, trial->side,
	     lane->failed ? "FAILED: " : "no further rounds: ", out->why);
}

static unsigned rounds_of(const struct contest *contest)
{
	unsigned rounds = contest->options->rounds;

	return contest->rounds && contest->rounds < rounds ? contest->rounds :
							     rounds;
}

static void progress(const struct contest *contest, unsigned round,
		     unsigned rounds)
{
	if (!isatty(STDERR_FILENO))
		return;
	if (round < rounds)
		fprintf(stderr, "\r\033[K%s %s: round %u of %u", contest->name,
			contest->param, round + 1, rounds);
	else
		fprintf(stderr, "\r\033[K");
}

static void run_rounds(const struct contest *contest, struct lane *lanes,
		       struct outcome *out)
{
	const struct options *options = contest->options;
	unsigned counted = rounds_of(contest);
	unsigned skip = counted >= 5 && !contest->warms_up ? 1 : 0;
	unsigned rounds = counted + skip;

	for (unsigned round = 0; round < rounds && !interrupted; round++) {
		progress(contest, round, rounds);
		for (unsigned i = 0; i < NR_SIDES && !interrupted; i++) {
			enum side side = (round + i) % NR_SIDES;
			struct trial trial = { options, contest, side,
					       lanes[side].kills, out };

			if (!lanes[side].out)
				take_turn(&trial, &lanes[side], round >= skip);
		}
	}
	progress(contest, rounds, rounds);
}

/* ---- Results ---------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, unsigned nr)
{
	qsort(values, nr, sizeof(*values), compare);
	return (values[(nr - 1) / 2] + values[nr / 2]) / 2;
}

static void conclude(const struct contest *contest, struct lane *lane,
		     struct result *result)
{
	for (int i = 0; i < NR_METRICS; i++) {
		result->known[i] = !lane->failed && lane->nr[i] &&
				   2 * lane->nr[i] >= rounds_of(contest);
		if (result->known[i])
			result->median[i] =
				median(lane->values[i], lane->nr[i]);
	}
}

/*
 * Three times what the largest arena has: in a swap that is more than half full
 * the kernel frees the slots of the pages that it reads.
 */
static size_t swap_bytes(const struct options *options)
{
	return case_bytes(options, 512 * MIB) / 2 * 9 + 64 * MIB;
}

/* What the peer needs of the machine. */
static int prepare_peer(const struct contest *contest, char *why,
			size_t why_size)
{
	if (contest->swaps)
		return peer_swap_start(contest->options,
				       swap_bytes(contest->options), why,
				       why_size);
	return contest->ksm ? peer_ksm_start(why, why_size) : 0;
}

static int prepare_lanes(const struct contest *contest, struct lane *lanes)
{
	char why[240];

	for (int side = 0; side < NR_SIDES; side++) {
		lanes[side].out = !contest->options->side[side];
		for (int i = 0; i < NR_METRICS; i++) {
			lanes[side].values[i] = calloc(contest->options->rounds,
						       sizeof(double));
			if (!lanes[side].values[i])
				return -ENOMEM;
		}
	}
	if (!contest->theirs) {
		lanes[SIDE_PEER].out = true;
	} else if (prepare_peer(contest, why, sizeof(why))) {
		lanes[SIDE_PEER].out = true;
		note(contest, SIDE_PEER, "not run: ", why);
	}
	return 0;
}

static int finish(const struct contest *contest, struct lane *lanes)
{
	struct result results[NR_SIDES] = { 0 };
	int status = 0;

	for (int side = 0; side < NR_SIDES; side++) {
		conclude(contest, &lanes[side], &results[side]);
		for (int i = 0; i < NR_METRICS; i++)
			free(lanes[side].values[i]);
		if (side != SIDE_PEER && contest->options->side[side] &&
		    (lanes[side].out ||
		     !results[side].known[__builtin_ctz(contest->metrics)]))
			status = 1;
	}
	if (!interrupted)
		output_lines(contest, results);
	return status;
}

int contest_run(const struct contest *contest)
{
	struct lane lanes[NR_SIDES] = { 0 };
	struct outcome *out;

	if (interrupted)
		return 1;
	out = mmap(NULL, sizeof(*out), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (out == MAP_FAILED || prepare_lanes(contest, lanes)) {
		say("no memory");
		return 1;
	}
	run_rounds(contest, lanes, out);
	if (contest->ksm)
		peer_ksm_stop();
	munmap(out, sizeof(*out));
	return finish(contest, lanes);
}

/* ---- A contest for each kind of memory ---------------------------------- */

int contest_run_kinds(const struct contest *contest)
{
	int status = 0;

	for (enum side side = SIDE_ANON; side <= SIDE_MEMFD; side++) {
		struct options options = *contest->options;
		struct contest one = *contest;

		if (!options.side[side])
			continue;
		options.side[SIDE_ANON] = side == SIDE_ANON;
		options.side[SIDE_MEMFD] = side == SIDE_MEMFD;
		one.options = &options;
		if (side == SIDE_MEMFD && contest->peer_memfd)
			one.peer = contest->peer_memfd;
		status |= contest_run(&one);
	}
	return status;
}

enum side kind_of_memory(const struct trial *trial)
{
	return trial->options->side[SIDE_MEMFD] ? SIDE_MEMFD : SIDE_ANON;
}
