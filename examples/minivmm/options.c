/* SPDX-License-Identifier: MIT */
/*
 * The command line. What is wrong is said in a sentence, and ends the program with
 * 2, before anything was set up.
 */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../kvm/guest.h"
#include "vmm.h"

/* Keys of options without a letter. */
enum { MIN = 256, LIMIT, BALLOON, TRACE, SCENARIO, KVM };

static const struct argp_option option_table[] = {
	{ "vms", 'n', "N", 0, "virtual machines (default 4)", 0 },
	{ "vcpus", 'c', "N", 0, "virtual CPUs of each (default 1)", 0 },
	{ "mem", 'm', "SIZE", 0,
	  "memory of each VM (default 256M; scenario: 160M)", 0 },
	{ "budget", 'b', "SIZE", 0,
	  "memory for all VMs (default 512M; scenario: 256M)", 0 },
	{ "shares", 'w', "N,...", 0,
	  "of each VM, when there is not enough (default 1000)", 0 },
	{ "min", MIN, "SIZE,...", 0, "that each VM is guaranteed (default 0)",
	  0 },
	{ "limit", LIMIT, "SIZE,...", 0,
	  "that each VM may hold (default 0: no limit)", 0 },
	{ "tax", 'x', "PERCENT", 0, "on idle memory, 0 to 99 (default 75)", 0 },
	{ "balloon", BALLOON, "on|off", 0,
	  "guests have a balloon driver (default on)", 0 },
	{ "policy-trace", TRACE, "FILE", 0,
	  "write each decision of the policy there, or to standard output "
	  "with -",
	  0 },
	{ "scenario", SCENARIO, NULL, 0,
	  "four VMs: two become idle and wake up, a fifth comes, the budget is "
	  "halved and restored",
	  0 },
	{ "memory-kind", 'k', "KIND", 0,
	  "guest memory: anon, private (default), or memfd, shared", 0 },
	{ "share", 'p', "yes|no", 0,
	  "keep equal pages of guests once (default yes)", 0 },
	{ "common", 'o', "PERCENT", 0,
	  "of its memory a guest has in common (default 60; scenario: 40)", 0 },
	{ "seconds", 's', "N", 0,
	  "of changes at random; twice that to fill what is common (default "
	  "10). Scenario: the time it goes by, a step lasts 2 to 7 times that "
	  "(default 3)",
	  0 },
	{ "swap-dir", 'd', "DIR", 0, "place of swap files (default .)", 0 },
	{ "seed", 'r', "N", 0, "another one: other pages (default 1)", 0 },
	{ "kvm", KVM, NULL, 0,
	  "guest code in KVM, even where that emulates the CPU", 0 },
	{ "no-kvm", 't', NULL, 0, "guest code on threads, not in KVM", 0 },
	{ "json", 'j', NULL, 0, "print JSON, an object a line", 0 },
	{ NULL, 0, NULL, 0, NULL, 0 },
};

/* Of options whose default is another one in the scenario. */
#define NOT_GIVEN UINT64_MAX

/* Sizes as they are given: 512M. */
struct text {
	char text[24];
};

static struct text size_text(uint64_t size)
{
	static const char units[] = "KMGTPE";
	struct text t;
	int unit = -1;

	while (size && size % 1024 == 0) {
		size /= 1024;
		unit++;
	}
	if (unit < 0)
		snprintf(t.text, sizeof(t.text), "%ju", size);
	else
		snprintf(t.text, sizeof(t.text), "%ju%c", size, units[unit]);
	return t;
}

/* Digits; `end` is behind them. False: there are none, or too many. */
static bool digits(const char *arg, uint64_t *n, char **end)
{
	errno = 0;
	*n = strtoull(arg, end, 10);
	return *arg >= '0' && *arg <= '9' && !errno;
}

/* A number; otherwise the program ends. */
static uint64_t number(struct argp_state *state, const char *option,
		       const char *arg, uint64_t min, uint64_t max)
{
	char *end;
	uint64_t n;

	if (!digits(arg, &n, &end) || *end || n < min || n > max)
		argp_error(state, "--%s: %s: must be a number from %ju to %ju",
			   option, *arg ? arg : "nothing", min, max);
	return n;
}

/* Digits, and perhaps K, M or G; otherwise the program ends. */
static uint64_t size(struct argp_state *state, const char *option,
		     const char *arg, uint64_t min, uint64_t max)
{
	static const char units[] = "KMG";
	const char *unit = NULL;
	unsigned shift = 0;
	char *end;
	uint64_t n;
	bool ok = digits(arg, &n, &end);

	if (ok && *end)
		unit = strchr(units, *end);
	if (unit)
		shift = 10 * (unsigned)(unit - units + 1);
	if (!ok || end[unit != NULL])
		argp_error(state,
			   "--%s: %s: must be a number of bytes, or one with "
			   "K, M or G behind it (KiB, MiB, GiB), like 512M",
			   option, *arg ? arg : "nothing");
	if (n > max >> shift || n << shift < min)
		argp_error(state, "--%s: %s: must be from %s to %s", option,
			   arg, size_text(min).text, size_text(max).text);
	return n << shift;
}

/* One of a list's: number() or size(). */
typedef uint64_t parse_one(struct argp_state *state, const char *option,
			   const char *arg, uint64_t min, uint64_t max);

/* Numbers or sizes with commas between; otherwise the program ends. */
static void list(struct argp_state *state, const char *option, char *arg,
		 parse_one *parse, uint64_t min, uint64_t max,
		 struct figures *figures)
{
	char *comma;

	figures->nr = 0;
	do {
		comma = strchr(arg, ',');
		if (comma)
			*comma = 0;
		if (figures->nr == MOST_VMS)
			argp_error(state,
				   "--%s: a list of more than %u numbers",
				   option, MOST_VMS);
		figures->figure[figures->nr++] =
			parse(state, option, arg, min, max);
		arg = comma ? comma + 1 : NULL;
	} while (arg);
}

/* Whether it is the second; if it is neither, the program ends. */
static bool choice(struct argp_state *state, const char *option,
		   const char *arg, const char *first, const char *second)
{
	if (strcmp(arg, first) && strcmp(arg, second))
		argp_error(state, "--%s: %s: must be %s or %s", option, arg,
			   first, second);
	return !strcmp(arg, second);
}

uint64_t figure_of(const struct figures *figures, unsigned id)
{
	if (!figures->nr)
		return 0;
	return figures->figure[id < figures->nr ? id : figures->nr - 1];
}

/* `slow` is for a scenario on an emulated CPU. */
static void set_default(uint64_t *value, uint64_t usually, uint64_t scenario,
			uint64_t slow)
{
	if (*value == NOT_GIVEN)
		*value = !vmm.scenario ? usually : vmm.slow ? slow : scenario;
}

/* KVM, unless it is not to be had, or emulates each instruction of the guest. */
static void open_kvm(struct argp_state *state)
{
	double slowness;

	if (vmm.no_kvm) {
		say(NULL, "--no-kvm: the guests' code runs on threads");
		return;
	}
	vmm.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vmm.kvm_fd < 0 && vmm.want_kvm)
		argp_error(state, "--kvm: /dev/kvm: %s; %s", strerror(errno),
			   kvm_cure(errno));
	if (vmm.kvm_fd < 0) {
		say(NULL,
		    "/dev/kvm: %s: the guests' code runs on threads (to have KVM, "
		    "%s)",
		    strerror(errno), kvm_cure(errno));
		return;
	}
	slowness = kvm_slowness(vmm.kvm_fd);
	vmm.slow = slowness > KVM_EMULATED;
	if (vmm.want_kvm || (slowness > 0 && !vmm.slow))
		return;
	if (vmm.slow)
		say(NULL,
		    "/dev/kvm emulates the CPU here, %.0f times slower: the "
		    "guests' code runs on threads (--kvm: in KVM all the same)",
		    slowness);
	else
		say(NULL,
		    "/dev/kvm runs no guest: %s: the guests' code runs on "
		    "threads",
		    strerror(errno));
	close(vmm.kvm_fd);
	vmm.kvm_fd = -1;
	vmm.slow = false;
}

static void check_list(struct argp_state *state, const char *name,
		       const struct figures *figures)
{
	if (figures->nr > vmm.vms + vmm.scenario)
		argp_error(state, "--%s: %u numbers for %u VMs", name,
			   figures->nr, vmm.vms + vmm.scenario);
}

/* What the library would refuse, too, but for a VM that nobody named. */
static void check_figures(struct argp_state *state)
{
	uint64_t min, limit, sum = 0;
	unsigned i;

	for (i = 0; i < vmm.vms + vmm.scenario; i++) {
		min = figure_of(&vmm.min, i);
		limit = figure_of(&vmm.limit, i);
		sum += min;
		if (limit && limit < 1 << 20)
			argp_error(state,
				   "--limit: %s for vm%u: must be 0 or at "
				   "least 1M",
				   size_text(limit).text, i);
		if (min > vmm.mem || (limit && min > limit))
			argp_error(state,
				   "--min: %s for vm%u: more than its memory "
				   "or its limit",
				   size_text(min).text, i);
	}
	if (sum >= vmm.budget)
		argp_error(state,
			   "--min: %ju MiB for all VMs: the budget of %ju MiB "
			   "has no room for them",
			   sum >> 20, vmm.budget >> 20);
}

/* The library would make a file of that name where nothing is. */
static void check_swap_dir(struct argp_state *state)
{
	char path[PATH_MAX];
	const char *where = realpath(vmm.swap_dir, path); /* of "." */
	struct stat st;

	where = where ? where : vmm.swap_dir;
	if (stat(where, &st))
		argp_error(state, "--swap-dir: %s: %s", where,
			   errno == ENOENT ? "no such directory; make it first "
					     "(mkdir -p)" :
					     strerror(errno));
	if (!S_ISDIR(st.st_mode))
		argp_error(state,
			   "--swap-dir: %s: is no directory, and each VM "
			   "needs a file of its own in one",
			   where);
	if (access(where, W_OK | X_OK))
		argp_error(state,
			   "--swap-dir: %s: %s; choose a directory in which "
			   "you may make files",
			   where, strerror(errno));
}

static void finish(struct argp_state *state)
{
	if (vmm.scenario && vmm.vms)
		argp_error(state, "--vms: the scenario has four, and a fifth");
	if (!vmm.vms)
		vmm.vms = 4;
	if (vmm.want_kvm && vmm.no_kvm)
		argp_error(state, "--kvm and --no-kvm: one of them");
	check_swap_dir(state);
	open_kvm(state);
	set_default(&vmm.mem, 256 << 20, 160 << 20, 40 << 20);
	set_default(&vmm.budget, 512 << 20, 256 << 20, 72 << 20);
	set_default(&vmm.common, 60, 40, 40);
	set_default(&vmm.seconds, 10, 3, 3);
	vmm.files = vmm.scenario ? (100 - vmm.common) / 3 : 0;
	vmm.heap = vmm.scenario ? (100 - vmm.common) / 4 : 0;
	vmm.mem -= vmm.mem % OVC_PAGE_SIZE;
	if (vmm.scenario && (vmm.budget < 32 << 20 || !vmm.seconds))
		argp_error(state, "--scenario: needs a budget of 32M or more, "
				  "for it is halved, and --seconds above 0");
	check_list(state, "shares", &vmm.shares);
	check_list(state, "min", &vmm.min);
	check_list(state, "limit", &vmm.limit);
	check_figures(state);
}

static error_t parse_figures(int key, char *arg, struct argp_state *state)
{
	if (key == 'w')
		list(state, "shares", arg, number, 1, 1000000, &vmm.shares);
	else if (key == MIN)
		list(state, "min", arg, size, 0, 64ull << 30, &vmm.min);
	else if (key == LIMIT)
		list(state, "limit", arg, size, 0, 64ull << 30, &vmm.limit);
	else if (key == 'x')
		vmm.tax = number(state, "tax", arg, 0, 99);
	else if (key == BALLOON)
		vmm.balloon = choice(state, "balloon", arg, "off", "on");
	else if (key == TRACE)
		vmm.trace = arg;
	else if (key == SCENARIO)
		vmm.scenario = true;
	else if (key == KVM)
		vmm.want_kvm = true;
	else if (key == ARGP_KEY_END)
		finish(state);
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	if (key == 'n')
		vmm.vms = (unsigned)number(state, "vms", arg, 1, MOST_VMS);
	else if (key == 'c')
		vmm.vcpus = (unsigned)number(state, "vcpus", arg, 1, 64);
	else if (key == 'm')
		vmm.mem = size(state, "mem", arg, 4 << 20, 64ull << 30);
	else if (key == 'b')
		vmm.budget = size(state, "budget", arg, 8 << 20, 1ull << 50);
	else if (key == 's')
		vmm.seconds = number(state, "seconds", arg, 0, 1000000);
	else if (key == 'o')
		vmm.common = number(state, "common", arg, 0, 100);
	else if (key == 'r')
		vmm.seed = number(state, "seed", arg, 0, UINT32_MAX);
	else if (key == 'd')
		vmm.swap_dir = arg;
	else if (key == 't')
		vmm.no_kvm = true;
	else if (key == 'j')
		vmm.json = true;
	else if (key == 'k')
		vmm.memfd = choice(state, "memory-kind", arg, "anon", "memfd");
	else if (key == 'p')
		vmm.share = choice(state, "share", arg, "no", "yes");
	else
		return parse_figures(key, arg, state);
	return 0;
}

static const struct argp argp = {
	.options = option_table,
	.parser = parse_option,
	.doc = "Runs guests that together have more memory than the budget, "
	       "and verifies every page of them. Each guest fills what all "
	       "guests have in common, over so many seconds that it is found "
	       "to be the same and need not be swapped, and rests a little; "
	       "then it fills the rest with what no other has, changes pages "
	       "at random, reads some in order, idles, and verifies all.\v"
	       "Where there is no KVM, or one that emulates the CPU, the "
	       "guests' code runs on threads; the scenario with --kvm has "
	       "smaller VMs there (40M in 72M). "
	       "Sizes are in bytes, or with K, M or G. Of lists, the last "
	       "number is for all further VMs, too. Ctrl-C ends it, a second "
	       "one at once. Exit status: 0 every page was right, 1 wrong pages "
	       "or failure, 2 wrong option, 130 interrupted.",
};

void options_parse(int argc, char **argv)
{
	vmm.mem = vmm.budget = vmm.common = vmm.seconds = NOT_GIVEN;
	argp_err_exit_status = 2;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
}
