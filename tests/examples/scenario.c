/* SPDX-License-Identifier: MIT */
/*
 * scenario PROGRAM [ARGUMENT]...: runs the mini-VMM's scenario and judges what it
 * says as JSON.
 *
 * Memory must move: to the busy guests when others are idle, and back when those
 * wake up. Balloons must have brought a part of it, by targets and by reports; the
 * budget, halved, must be kept; no guest may stand still; nothing may be lost. How
 * long all of it takes depends on the machine and is only shown.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_ARGUMENTS 64

enum { BUSY, IDLE, AWAKE, FIFTH, HALVED, RESTORED, STEPS };

static const char *const names[] = {
	"busy", "idle", "awake", "fifth", "halved", "restored",
};

struct step {
	int seen;
	/* what the guests hold that the step is about, and the others */
	double before, after, others_before, others_after;
	double donated, reported, ballooned, budget, used, kept;
};

/* What the run said. */
static struct step steps[STEPS];
static double pages, verified, errors = -1; /* of all VMs */
static int right;			    /* "every page was right" */

/* The number of a key in a line; where there is none, 0. */
static double find(const char *line, const char *key)
{
	char quoted[64];
	const char *at;

	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	at = strstr(line, quoted);
	return at ? strtod(at + strlen(quoted), NULL) : 0;
}

static void read_step(struct step *step, const char *line)
{
	step->seen = 1;
	step->before = find(line, "getters_before_mib");
	step->after = find(line, "getters_after_mib");
	step->others_before = find(line, "others_before_mib");
	step->others_after = find(line, "others_after_mib");
	step->donated = find(line, "donated_mib");
	step->reported = find(line, "reported_mib");
	step->ballooned = find(line, "ballooned_mib");
	step->budget = find(line, "budget_mib");
	step->used = find(line, "used_mib");
	step->kept = find(line, "kept_s");
}

static void read_line(const char *line)
{
	char quoted[64];

	for (int i = 0; i < STEPS; i++) {
		snprintf(quoted, sizeof(quoted), "{\"step\":\"%s\"", names[i]);
		if (!strncmp(line, quoted, strlen(quoted)))
			read_step(&steps[i], line);
	}
	if (strstr(line, "\"summary\":\"total\"")) {
		pages = find(line, "pages");
		verified = find(line, "verified");
		errors = find(line, "errors");
	}
	right |= strstr(line, "\"result\":\"every page was right\"") != NULL;
}

/* Returns the exit status. */
static int run(char **argv)
{
	char *args[MAX_ARGUMENTS + 3] = { NULL }, line[1024];
	static char scenario[] = "--scenario", json[] = "--json";
	int pipes[2], i, status;
	FILE *out;
	pid_t pid;

	for (i = 0; argv[i] && i < MAX_ARGUMENTS; i++)
		args[i] = argv[i];
	args[i++] = scenario;
	args[i] = json;
	if (pipe(pipes) || (pid = fork()) < 0)
		return -1;
	if (!pid) {
		dup2(pipes[1], STDOUT_FILENO);
		close(pipes[0]);
		close(pipes[1]);
		execv(args[0], args);
		_exit(127);
	}
	close(pipes[1]);
	out = fdopen(pipes[0], "r");
	while (out && fgets(line, sizeof(line), out)) {
		if (strncmp(line, "{\"vm\"", 5))
			fputs(line, stdout);
		read_line(line);
	}
	if (out)
		fclose(out);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static int failures;

static void check(int ok, const char *what)
{
	if (ok)
		return;
	printf("failed: %s\n", what);
	failures++;
}

static void check_moves(void)
{
	const struct step *idle = &steps[IDLE], *awake = &steps[AWAKE];
	double ballooned = 0, donated = 0;

	for (int i = 0; i < STEPS; i++) {
		check(steps[i].seen, names[i]);
		check(steps[i].after > 0, "busy guests hold memory");
		if (steps[i].ballooned > ballooned)
			ballooned = steps[i].ballooned;
		donated += steps[i].donated;
	}
	check(idle->after > 1.1 * idle->before,
	      "busy guests get what idle ones had");
	check(idle->others_after < idle->others_before &&
		      idle->others_after < idle->after,
	      "idle guests lose memory");
	check(awake->after > 1.1 * awake->before &&
		      awake->others_after < awake->others_before,
	      "who wakes up gets memory again");
	check(steps[FIFTH].after > 0.5 * steps[FIFTH].others_after,
	      "who comes late gets its part");
	check(idle->reported > 0, "idle guests report what they free");
	check(ballooned > 1, "balloons held something");
	check(donated > 1, "donations freed memory");
}

static void check_budget(void)
{
	const struct step *halved = &steps[HALVED];

	check(halved->budget > 0 && halved->budget < 0.51 * steps[FIFTH].budget,
	      "the budget is halved");
	check(halved->kept >= 0 && halved->used <= 1.02 * halved->budget,
	      "the halved budget is kept");
	check(steps[RESTORED].after > 1.2 * halved->after,
	      "the restored budget is used");
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	check(!run(argv + 1), "the run ends with success");
	check_moves();
	check_budget();
	check(right && errors == 0 && pages > 0 && verified == pages,
	      "nothing is lost");
	return failures != 0;
}
