/* SPDX-License-Identifier: MIT */
/*
 * refused PROGRAM: gives the mini-VMM options that are wrong, one at a time. Each
 * must end it with 2, before it runs anything, and with a sentence on standard
 * error that names what is wrong.
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
	const char *args[6]; /* end with NULL */
	const char *says;
} wrong[] = {
	{ { "--shares", "0" }, "0: must be a number" },
	{ { "--shares", "1000," }, "must be a number" },
	{ { "--shares", "2000,x" }, "x: must be a number" },
	{ { "--shares", "1000001" }, "1000001: must be" },
	{ { "--vms", "2", "--shares", "1,2,3" }, "3 numbers for 2 VMs" },
	{ { "--min", "-1" }, "-1: must be a number" },
	{ { "--mem", "64M", "--min", "65M" }, "more than its memory" },
	{ { "--min", "64M", "--limit", "32M" }, "or its limit" },
	{ { "--vms", "2", "--budget", "64M", "--min", "40M" }, "no room" },
	{ { "--limit", "4K" }, "at least 1M" },
	{ { "--limit", "64M,big" }, "big: must be a number" },
	{ { "--tax", "100" }, "100: must be a number from 0 to 99" },
	{ { "--tax", "" }, "must be a number" },
	{ { "--balloon", "maybe" }, "maybe: must be off or on" },
	{ { "--policy-trace" }, "requires an argument" },
	{ { "--scenario", "--vms", "3" }, "the scenario has four" },
	{ { "--scenario", "--budget", "16M" }, "needs a budget of 32M" },
	{ { "--scenario", "--seconds", "0" }, "--seconds above 0" },
	{ { "--share", "perhaps" }, "must be no or yes" },
};

/* Returns the exit status; what was said is in `said`. */
static int run(char *program, const char *const *args, char *said, size_t size)
{
	char *argv[8] = { program }, copy[6][32];
	int pipes[2], i, status;
	size_t length = 0;
	ssize_t got;
	pid_t pid;

	for (i = 0; i < 6 && args[i]; i++) {
		snprintf(copy[i], sizeof(copy[i]), "%s", args[i]);
		argv[i + 1] = copy[i];
	}
	if (pipe(pipes) || (pid = fork()) < 0)
		return -1;
	if (!pid) {
		dup2(pipes[1], STDERR_FILENO);
		close(pipes[0]);
		close(pipes[1]);
		execv(program, argv);
		_exit(127);
	}
	close(pipes[1]);
	while (length < size - 1 &&
	       (got = read(pipes[0], said + length, size - 1 - length)) > 0)
		length += (size_t)got;
	said[length] = 0;
	close(pipes[0]);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
	int failures = 0;

	if (argc < 2)
		return 2;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char said[4096];
		int status = run(argv[1], wrong[i].args, said, sizeof(said));

		if (status == 2 && strstr(said, wrong[i].says))
			continue;
		failures++;
		printf("failed: %s %s: exit status %d, said: %s\n",
		       wrong[i].args[0],
		       wrong[i].args[1] ? wrong[i].args[1] : "", status, said);
	}
	return failures != 0;
}
