/* SPDX-License-Identifier: MIT */
/*
 * sharing PROGRAM [ARGUMENT]...: runs the mini-VMM with sharing and without, and
 * compares what it says of both as JSON.
 *
 * The guests have more in common than the budget. With sharing they must be seen
 * to save memory, and to lose some of that where they write; and less of what
 * they have in common may be swapped than without, where some of it must be. So
 * neither run can be right by doing nothing.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "child.h"

/* MiB; where nothing disturbs it is 30 and more. Page tables and code are less. */
#define LEAST 2

/* What one run said, in MiB. */
struct run {
	int status;	/* as of exit() */
	unsigned lines; /* of JSON */
	unsigned vms;	/* a bit for each VM that shared pages at some time */
	double saved;	/* the most at any time */
	double shared;	/* likewise, of one VM or all */
	double broken;	/* at the end */
	double phase_filled; /* in the common phase */
	double phase_swapped;
	double budget;
};

static void read_line(void *arg, const char *line)
{
	struct run *run = arg;
	double value;
	unsigned vm;

	fputs(line, stdout);
	if (*line == '{')
		run->lines++;
	if (child_number(line, "saved_mib", &value) && value > run->saved)
		run->saved = value;
	if (child_number(line, "shared_mib", &value) && value > run->shared)
		run->shared = value;
	if (sscanf(line, "{\"vm\":\"vm%u\"", &vm) == 1 &&
	    child_number(line, "shared_mib", &value) && value > LEAST)
		run->vms |= 1u << vm % 32;
	if (strstr(line, "\"sharing\":true"))
		child_number(line, "broken_mib", &run->broken);
	if (strstr(line, "\"common_phase\":true")) {
		child_number(line, "filled_mib", &run->phase_filled);
		child_number(line, "swap_out_mib", &run->phase_swapped);
	}
	if (strstr(line, "\"result\":"))
		child_number(line, "budget_mib", &run->budget);
}

static struct run run(char **argv, char *share)
{
	static char option[] = "--share";
	char *more[] = { option, share, NULL };
	struct run run = { .status = -1 };

	run.status = child_run(argv, more, STDOUT_FILENO, read_line, &run);
	return run;
}

int main(int argc, char **argv)
{
	static char yes[] = "yes", no[] = "no";
	struct run with, without;

	if (argc < 2)
		return 2;
	with = run(argv + 1, yes);
	without = run(argv + 1, no);

	child_check(!with.status, "sharing: the run ends with success");
	child_check(!without.status, "not sharing: the run ends with success");
	child_check(with.lines > 5 && without.lines > 5,
		    "both runs print JSON");
	child_check(with.phase_filled > with.budget && with.budget > 0,
		    "guests have more in common than the budget");
	child_check(with.saved > LEAST, "sharing saves memory");
	child_check(with.vms & 1 && with.vms & 2, "both VMs share pages");
	child_check(with.broken > LEAST,
		    "shared pages that are written are broken");
	child_check(without.saved == 0 && without.shared == 0 &&
			    without.broken == 0,
		    "not sharing: nothing is shared");
	child_check(without.phase_swapped > 0,
		    "not sharing: some of what is common is swapped");
	child_check(with.phase_swapped < without.phase_swapped,
		    "sharing: less of what is common is swapped");
	return child_failures != 0;
}
