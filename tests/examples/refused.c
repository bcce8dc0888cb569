/* SPDX-License-Identifier: MIT */
/*
 * refused PROGRAM: gives the mini-VMM options that are wrong, one at a time. Each
 * must end it with 2, before it runs anything, and with a sentence on standard
 * error that names what is wrong.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "child.h"

static const struct {
	const char *args[6]; /* end with NULL */
	const char *says;
} wrong[] = {
	{ { "--shares", "0" }, "--shares: 0: must be a number" },
	{ { "--shares", "1000," }, "nothing: must be a number" },
	{ { "--shares", "2000,x" }, "x: must be a number" },
	{ { "--shares", "1000001" }, "1000001: must be" },
	{ { "--vms", "2", "--shares", "1,2,3" }, "3 numbers for 2 VMs" },
	{ { "--min", "-1" }, "-1: must be a number" },
	{ { "--mem", "64M", "--min", "65M" }, "more than its memory" },
	{ { "--min", "64M", "--limit", "32M" }, "or its limit" },
	{ { "--vms", "2", "--budget", "64M", "--min", "40M" }, "no room" },
	{ { "--limit", "4K" }, "at least 1M" },
	{ { "--budget", "512MB" },
	  "--budget: 512MB: must be a number of bytes" },
	{ { "--budget", "512m" }, "with K, M or G behind it" },
	{ { "--budget", "4M" }, "--budget: 4M: must be from 8M to 1P" },
	{ { "--mem", "1T" }, "1T: must be a number of bytes" },
	{ { "--mem", "99999999999999999999" }, "must be a number" },
	{ { "--vms", "1K" }, "--vms: 1K: must be a number from 1 to 1000" },
	{ { "--kvm", "--no-kvm" }, "one of them" },
	{ { "--limit", "64M,big" }, "big: must be a number" },
	{ { "--tax", "100" }, "100: must be a number from 0 to 99" },
	{ { "--tax", "" }, "must be a number" },
	{ { "--balloon", "maybe" }, "maybe: must be off or on" },
	{ { "--policy-trace" }, "requires an argument" },
	{ { "--scenario", "--vms", "3" }, "the scenario has four" },
	{ { "--scenario", "--budget", "16M" }, "needs a budget of 32M" },
	{ { "--scenario", "--seconds", "0" }, "--seconds above 0" },
	{ { "--share", "perhaps" }, "must be no or yes" },
	{ { "--swap-dir", "missing/dir" }, "--swap-dir: missing/dir: no such" },
	{ { "--swap-dir", "/dev/null" }, "/dev/null: is no directory" },
};

struct said {
	size_t length;
	char text[4096];
};

static void keep(void *arg, const char *line)
{
	struct said *said = arg;
	size_t room = sizeof(said->text) - said->length;
	int wrote = snprintf(said->text + said->length, room, "%s", line);

	said->length += (size_t)wrote < room ? (size_t)wrote : room - 1;
}

static int run(char *program, const char *const *args, struct said *said)
{
	char *argv[] = { program, NULL }, *more[7] = { NULL }, copy[6][32];

	for (int i = 0; i < 6 && args[i]; i++) {
		snprintf(copy[i], sizeof(copy[i]), "%s", args[i]);
		more[i] = copy[i];
	}
	return child_run(argv, more, STDERR_FILENO, keep, said);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct said said = { 0 };
		int status = run(argv[1], wrong[i].args, &said);

		if (status == 2 && strstr(said.text, wrong[i].says))
			continue;
		child_failures++;
		printf("failed: %s %s: exit status %d, said: %s\n",
		       wrong[i].args[0],
		       wrong[i].args[1] ? wrong[i].args[1] : "", status,
		       said.text);
	}
	return child_failures != 0;
}
