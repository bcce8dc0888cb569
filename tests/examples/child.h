/* SPDX-License-Identifier: MIT */
/* An example as a child process, and what it says. */
#ifndef EXAMPLES_CHILD_H
#define EXAMPLES_CHILD_H

#include <stdbool.h>

#define CHILD_ARGUMENTS 64 /* at most, those of all lists together */

/* Runs argv[0] with the arguments of both lists, which end with NULL; calls for each line
 * that it writes to `fd`. Returns its exit status, -1 where it has none. */
int child_run(char *const *argv, char *const *more, int fd,
	      void (*line)(void *arg, const char *line), void *arg);

/* The number of a key in a line of JSON; where there is none, 0 and false. */
bool child_number(const char *line, const char *key, double *value);

/* Says what was to be, where it is not, and counts that. */
extern int child_failures;
void child_check(bool ok, const char *what);

#endif
