/* SPDX-License-Identifier: MIT */
/*
 * Runs an example and hands on what it says, line by line. A child that cannot be
 * started ends with 127, as in a shell.
 */
#include "child.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int child_failures;

static void append(char **args, int *nr, char *const *list)
{
	for (; list && *list && *nr < CHILD_ARGUMENTS; list++)
		args[(*nr)++] = *list;
}

int child_run(char *const *argv, char *const *more, int fd,
	      void (*line)(void *arg, const char *line), void *arg)
{
	char *args[CHILD_ARGUMENTS + 1] = { NULL }, text[1024];
	int pipes[2], nr = 0, status;
	FILE *out;
	pid_t pid;

	append(args, &nr, argv);
	append(args, &nr, more);
	if (pipe(pipes) || (pid = fork()) < 0)
		return -1;
	if (!pid) {
		dup2(pipes[1], fd);
		close(pipes[0]);
		close(pipes[1]);
		execv(args[0], args);
		_exit(127);
	}
	close(pipes[1]);
	out = fdopen(pipes[0], "r");
	while (out && fgets(text, sizeof(text), out))
		line(arg, text);
	if (out)
		fclose(out);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

bool child_number(const char *line, const char *key, double *value)
{
	char quoted[64];
	const char *at;

	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	at = strstr(line, quoted);
	*value = at ? strtod(at + strlen(quoted), NULL) : 0;
	return at != NULL;
}

void child_check(bool ok, const char *what)
{
	if (ok)
		return;
	printf("failed: %s\n", what);
	child_failures++;
}
