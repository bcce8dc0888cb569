/* SPDX-License-Identifier: MIT */
/*
 * ovc-bench: the library beside its peers, in the same run.
 *
 * Reads the options, clears away what a killed run left, runs the cases that
 * were named, or all, and prints their results.
 *
 * Exit status: 0, 1 where a case of ours failed or could not run, 2 for a
 * wrong option, and the signal's own where one ended it. On every way out but
 * SIGKILL the swap is off, its file and the cgroup removed, and the kernel's
 * settings are what they were.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "bench.h"

static const struct {
	const char *name;
	int (*run)(const struct options *options);
	const char *what;
} cases[] = {
	{ "idle-overhead", case_idle_overhead,
	  "first touches and random accesses without pressure" },
	{ "fault-zero", case_fault_zero,
	  "a fault on a page that was never there, while tracked" },
	{ "swap-in-random", case_swap_in_random,
	  "random touches of swapped memory, 1 and 8 threads" },
	{ "swap-in-seq", case_swap_in_seq, "reading swapped memory in order" },
	{ "swap-out", case_swap_out, "pushing out incompressible memory" },
	{ "swap-out-clean", case_swap_out_clean,
	  "pushing out memory that came back and was not written" },
	{ "overcommit", case_overcommit,
	  "a Zipf workload on 1 to 3 times the budget" },
	{ "metadata", case_metadata, "the library's own memory" },
	{ "share-merge", case_share_merge,
	  "sharing two guests' equal pages, in the same order" },
	{ "share-scattered", case_share_scattered,
	  "sharing two guests' equal pages, in random order" },
	{ "share-scan", case_share_scan, "looking where nothing is equal" },
	{ "share-break", case_share_break, "the first write to a shared page" },
	{ "share-converge", case_share_converge,
	  "the time until four guests share what they can" },
	{ "share-slowdown", case_share_slowdown,
	  "a guest's work while equal pages are looked for" },
	{ "policy", case_policy, "a decision for 10 to 1,000 VMs" },
	{ "balloon-inflate", case_balloon_inflate,
	  "dropping what a guest's balloon takes, 4 KiB here and there" },
	{ "balloon-inflate-huge", case_balloon_inflate_huge,
	  "dropping whole 2 MiB that a guest reports free" },
	{ "balloon-deflate", case_balloon_deflate,
	  "giving back from the balloon, and touching again" },
	{ "rebalance", case_rebalance,
	  "moving memory from an idle VM to a busy one" },
	{ "tax", case_tax,
	  "a busy VM beside an idle one, with idle memory tax" },
	{ "working-set", case_working_set,
	  "estimates of what a VM uses, and what they cost it" },
};

#define NR_CASES (sizeof(cases) / sizeof(cases[0]))

static const char usage[] =
	"usage: ovc-bench [CASE...] [OPTION...]\n"
	"\n"
	"Measures the library beside its peers: plain memory, the smallest\n"
	"userfaultfd loop, the kernel's own swap and its KSM (as root).\n"
	"Cases: --list.\n"
	"\n"
	"  --size N         memory of each case: N MiB, or with a suffix K, M\n"
	"                   or G (default: 512M, metadata and share-merge 1G,\n"
	"                   share-converge 2G, each of rebalance's two VMs 2G\n"
	"                   or an eighth of the machine's memory); overcommit and\n"
	"                   tax have half of it as budget, guests that share have\n"
	"                   equal parts of it\n"
	"  --seconds N      time to measure where a case runs for a time, and\n"
	"                   at least to warm up (default: 2)\n"
	"  --memory KIND    anon, memfd or both (default: both)\n"
	"  --rounds N       rounds, of which the median counts (default: 5,\n"
	"                   fewer only to try it out)\n"
	"  --swap-dir DIR   where swap files go (default: .)\n"
	"  --json           a line of JSON a result, instead of a table\n"
	"  --list           the cases, and nothing else\n"
	"  --help           this text, and nothing else\n"
	"\n"
	"All cases take about an hour, a third of it share-converge,\n"
	"and, in the swap directory, six times --size. The machine is left as\n"
	"it was found.\n";

/* ---- Leaving the machine as it was ------------------------------------ */

static void clean_up(void)
{
	contest_kill(true);
	peer_swap_stop();
	peer_ksm_stop();
	settings_restore();
	ours_remove_swap();
}

static void on_interrupt(int signo)
{
	interrupted = signo;
	contest_kill(false);
}

static void on_crash(int signo)
{
	signal(signo, SIG_DFL);
	clean_up();
	raise(signo);
}

static void catch_signals(void)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT };
	static const int crashes[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE,
				       SIGILL };
	struct sigaction action = { .sa_handler = on_interrupt };

	sigfillset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		sigaction(ends[i], &action, NULL);
	action.sa_handler = on_crash;
	for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
		sigaction(crashes[i], &action, NULL);
	atexit(clean_up);
}

static void die_of_interrupt(void)
{
	clean_up();
	signal(interrupted, SIG_DFL);
	raise(interrupted);
}

/* ---- Options ---------------------------------------------------------- */

static int bad(const char *option, const char *value)
{
	say("--%s %s: not understood; see --help", option, value);
	return -EINVAL;
}

static int parse_size(const char *text, size_t *bytes)
{
	char *end;
	unsigned long long number;
	unsigned shift = 20;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (*end == 'K' || *end == 'k')
		shift = 10;
	else if (*end == 'G' || *end == 'g')
		shift = 30;
	else if (*end && *end != 'M' && *end != 'm')
		return bad("size", text);
	if (errno || end == text || text[0] == '-' || (*end && end[1]) ||
	    number > (SIZE_MAX / 16) >> shift)
		return bad("size", text);
	*bytes = (size_t)number << shift;
	if (*bytes < 32 * MIB) {
		say("--size %s: at least 32 MiB", text);
		return -EINVAL;
	}
	return 0;
}

static int parse_count(const char *option, const char *text, unsigned *count)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(text, &end, 10);
	if (errno || end == text || *end || number < 1 || number > 3600)
		return bad(option, text);
	*count = (unsigned)number;
	return 0;
}

static int parse_memory(const char *text, bool side[NR_SIDES])
{
	bool both = !strcmp(text, "both");

	side[SIDE_ANON] = both || !strcmp(text, "anon");
	side[SIDE_MEMFD] = both || !strcmp(text, "memfd");
	if (!side[SIDE_ANON] && !side[SIDE_MEMFD])
		return bad("memory", text);
	return 0;
}

static int parse_dir(const char *text, const char **dir)
{
	static char path[PATH_MAX];

	*dir = realpath(text, path);
	if (*dir)
		return 0;
	say("--swap-dir %s: %s", text, strerror(errno));
	return -EINVAL;
}

static void list(void)
{
	for (size_t i = 0; i < NR_CASES; i++)
		printf("%-15s %s\n", cases[i].name, cases[i].what);
}

static int parse_one(int option, struct options *options, const char **dir)
{
	switch (option) {
	case 's':
		return parse_size(optarg, &options->bytes);
	case 't':
		return parse_count("seconds", optarg, &options->seconds);
	case 'r':
		return parse_count("rounds", optarg, &options->rounds);
	case 'm':
		return parse_memory(optarg, options->side);
	case 'd':
		*dir = optarg;
		return 0;
	case 'j':
		options->json = true;
		return 0;
	case 'l':
		list();
		exit(0);
	case 'h':
		fputs(usage, stdout);
		exit(0);
	default:
		return -EINVAL;
	}
}

static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option longs[] = {
		{ "size", required_argument, NULL, 's' },
		{ "seconds", required_argument, NULL, 't' },
		{ "memory", required_argument, NULL, 'm' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "swap-dir", required_argument, NULL, 'd' },
		{ "json", no_argument, NULL, 'j' },
		{ "list", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const char *dir = ".";
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1)
		if (parse_one(option, options, &dir))
			return -EINVAL;
	return parse_dir(dir, &options->swap_dir);
}

/* Four times what a case is told to have must be there; the case that has more
 * on its own needs half as much again. */
static int check_memory(const struct options *options)
{
	size_t bytes = case_bytes(options, GIB);
	size_t have = (size_t)sysconf(_SC_PHYS_PAGES) * PAGE;

	if (bytes <= have / 4)
		return 0;
	say("%zu MiB for a case is more than a quarter of this machine's "
	    "memory; use --size",
	    bytes / MIB);
	return -ENOMEM;
}

/* ---- Cases ------------------------------------------------------------ */

static bool named(char **names, int nr, const char *name)
{
	for (int i = 0; i < nr; i++)
		if (!strcmp(names[i], name))
			return true;
	return nr == 0;
}

static int check_names(char **names, int nr)
{
	for (int i = 0; i < nr; i++) {
		size_t known = 0;

		while (known < NR_CASES &&
		       strcmp(names[i], cases[known].name) != 0)
			known++;
		if (known == NR_CASES) {
			say("no case %s; see --list", names[i]);
			return -EINVAL;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct options options = {
		.seconds = 2,
		.rounds = 5,
		.side = { true, true, true },
	};
	int status = 0;

	if (parse_options(argc, argv, &options) ||
	    check_names(argv + optind, argc - optind))
		return 2;
	if (check_memory(&options))
		return 1;
	/* What a later run knows a living owner by. */
	prctl(PR_SET_NAME, "ovc-bench");
	for (unsigned i = 0; i < NR_SWAPS; i++)
		ours_swap_path(&options, i);
	catch_signals();
	peer_swap_sweep(options.swap_dir);
	output_begin(&options);
	for (size_t i = 0; i < NR_CASES && !interrupted; i++)
		if (named(argv + optind, argc - optind, cases[i].name))
			status |= cases[i].run(&options);
	if (interrupted)
		die_of_interrupt();
	return status;
}
