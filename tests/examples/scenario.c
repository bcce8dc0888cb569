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
#include <string.h>
#include <unistd.h>

#include "child.h"

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

static double find(const char *line, const char *key)
{
	double value;

	child_number(line, key, &value);
	return value;
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

static void read_line(void *arg, const char *line)
{
	char quoted[64];

	(void)arg;
	if (strncmp(line, "{\"vm\"", 5))
		fputs(line, stdout);

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

static void check_moves(void)
{
	const struct step *idle = &steps[IDLE], *awake = &steps[AWAKE];
	double ballooned = 0, donated = 0;

	for (int i = 0; i < STEPS; i++) {
		child_check(steps[i].seen, names[i]);
		child_check(steps[i].after > 0, "busy guests hold memory");
		if (steps[i].ballooned > ballooned)
			ballooned = steps[i].ballooned;
		donated += steps[i].donated;
	}
	child_check(idle->after > 1.1 * idle->before,
		    "busy guests get what idle ones had");
	child_check(idle->others_after < idle->others_before &&
			    idle->others_after < idle->after,
		    "idle guests lose memory");
	child_check(awake->after > 1.1 * awake->before &&
			    awake->others_after < awake->others_before,
		    "who wakes up gets memory again");
	child_check(steps[FIFTH].after > 0.5 * steps[FIFTH].others_after,
		    "who comes late gets its part");
	child_check(idle->reported > 0, "idle guests report what they free");
	child_check(ballooned > 1, "balloons held something");
	child_check(donated > 1, "donations freed memory");
}

static void check_budget(void)
{
	const struct step *halved = &steps[HALVED];

	child_check(halved->budget > 0 &&
			    halved->budget < 0.51 * steps[FIFTH].budget,
		    "the budget is halved");
	child_check(halved->kept >= 0 && halved->used <= 1.02 * halved->budget,
		    "the halved budget is kept");
	child_check(steps[RESTORED].after > 1.2 * halved->after,
		    "the restored budget is used");
}

int main(int argc, char **argv)
{
	static char scenario[] = "--scenario", json[] = "--json";
	char *more[] = { scenario, json, NULL };

	if (argc < 2)
		return 2;
	child_check(!child_run(argv + 1, more, STDOUT_FILENO, read_line, NULL),
		    "the run ends with success");
	check_moves();
	check_budget();
	child_check(right && errors == 0 && pages > 0 && verified == pages,
		    "nothing is lost");
	return child_failures != 0;
}
