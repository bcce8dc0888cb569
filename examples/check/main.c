/* SPDX-License-Identifier: MIT */
/*
 * Says what this host can do for libovercommit: ovc-check(1). Exit status: 0 nothing
 * that the library needs is missing, 1 something is, 2 wrong usage.
 */
#include <argp.h>
#include <signal.h>
#include <stdio.h>

#include "check.h"

struct check check = { .swap_dir = "." };

static const struct argp_option option_table[] = {
	{ "swap-dir", 'd', "DIR", 0, "place of swap files (default .)", 0 },
	{ "json", 'j', NULL, 0, "print JSON, an object a line", 0 },
	{ NULL, 0, NULL, 0, NULL, 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	if (key == 'd')
		check.swap_dir = arg;
	else if (key == 'j')
		check.json = true;
	else if (key == ARGP_KEY_ARG)
		argp_error(state, "%s: there are options only", arg);
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

static const struct argp argp = {
	.options = option_table,
	.parser = parse_option,
	.doc = "Says what this host can do for libovercommit, for who runs it "
	       "and where it is run: each line with ok, warning or missing, "
	       "the fact, and what to do about it.\v"
	       "Exit status: 0 nothing that the library needs is missing, 1 "
	       "something is, 2 wrong option.",
};

int main(int argc, char **argv)
{
	argp_err_exit_status = 2;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);

	signal(SIGXFSZ, SIG_IGN); /* a limit that is to be told of */
	check_permission();
	check_library();
	check_kernel();
	check_io_uring();
	check_directory();
	check_limits();
	check_cgroup();
	library_close();
	check_machine();
	check_kvm();
	say_result();
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "ovc-check: not all could be written\n");
		return 1;
	}
	return check.missing != 0;
}
