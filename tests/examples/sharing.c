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
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_ARGUMENTS 64

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

/* The number of a key in a line; where there is none, 0 and false. */
static int find(const char *line, const char *key, double *value)
{
	char quoted[64];
	const char *at;

	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	at = strstr(line, quoted);
	*value = at ? strtod(at + strlen(quoted), NULL) : 0;
	return at != NULL;
}

static void read_line(struct run *run, const char *line)
{
	double value;
	unsigned vm;

	if (*line == '{')
		run->lines++;
	if (find(line, "saved_mib", &value) && value > run->saved)
		run->saved = value;
	if (find(line, "shared_mib", &value) && value > run->shared)
		run->shared = value;
	if (sscanf(line, "{\"vm\":\"vm%u\"", &vm) == 1 &&
	    find(line, "shared_mib", &value) && value > LEAST)
		run->vms |= 1u << vm % 32;
	if (strstr(line, "\"sharing\":true"))
		find(line, "broken_mib", &run->broken);
	if (strstr(line, "\"common_phase\":true")) {
		find(line, "filled_mib", &run->phase_filled);
		find(line, "swap_out_mib", &run->phase_swapped);
	}
	if (strstr(line, "\"result\":"))
		find(line, "budget_mib", &run->budget);
}

static struct run run(char **argv, char *share)
{
	char *args[MAX_ARGUMENTS + 3] = { NULL }, line[1024];
	static char option[] = "--share";
	struct run run = { .status = -1 };
	int pipes[2], i, status;
	FILE *out;
	pid_t pid;

	for (i = 0; argv[i] && i < MAX_ARGUMENTS; i++)
		args[i] = argv[i];
	args[i++] = option;
	args[i] = share;
	if (pipe(pipes) || (pid = fork()) < 0)
		return run;
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
		fputs(line, stdout);
		read_line(&run, line);
	}
	if (out)
		fclose(out);
	if (waitpid(pid, &status, 0) == pid && WIFEXITED(status))
		run.status = WEXITSTATUS(status);
	return run;
}

static int failures;

static void check(int ok, const char *what)
{
	if (ok)
		return;
	printf("failed: %s\n", what);
	failures++;
}

int main(int argc, char **argv)
{
	static char yes[] = "yes", no[] = "no";
	struct run with, without;

	if (argc < 2)
		return 2;
	with = run(argv + 1, yes);
	without = run(argv + 1, no);

	check(!with.status, "sharing: the run ends with success");
	check(!without.status, "not sharing: the run ends with success");
	check(with.lines > 5 && without.lines > 5, "both runs print JSON");
	check(with.phase_filled > with.budget && with.budget > 0,
	      "guests have more in common than the budget");
	check(with.saved > LEAST, "sharing saves memory");
	check(with.vms & 1 && with.vms & 2, "both VMs share pages");
	check(with.broken > LEAST, "shared pages that are written are broken");
	check(without.saved == 0 && without.shared == 0 && without.broken == 0,
	      "not sharing: nothing is shared");
	check(without.phase_swapped > 0,
	      "not sharing: some of what is common is swapped");
	check(with.phase_swapped < without.phase_swapped,
	      "sharing: less of what is common is swapped");
	return failures != 0;
}
