/* SPDX-License-Identifier: MIT */
/*
 * Results as lines of JSON, or as a table for people.
 *
 * A line a metric and a kind of memory. `ratio` is above 1 where ours is ahead:
 * ours / theirs where more is better, theirs / ours where less is. Bytes are
 * compared with a page added to both, since none at all is what one hopes for.
 * What is not known is null in JSON and - in the table.
 */
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench.h"

static const struct {
	const char *name;
	bool more_is_better;
} metrics[NR_METRICS] = {
	[P50_US] = { "p50_us", false },
	[P99_US] = { "p99_us", false },
	[P999_US] = { "p999_us", false },
	[PER_S] = { "per_s", true },
	[GB_PER_S] = { "gb_per_s", true },
	[CPU_US_PER_PAGE] = { "cpu_us_per_page", false },
	[WALL_SECONDS] = { "seconds", false },
	[CPU_SECONDS] = { "seconds", false },
	[HALF_SECONDS] = { "seconds", false },
	[MOST_SECONDS] = { "seconds", false },
	[BYTES_PER_GIB] = { "bytes_per_gib", false },
	[BYTES_WRITTEN] = { "bytes_written", false },
	[UP_POINTS] = { "error_points", false },
	[DOWN_POINTS] = { "error_points", false },
};

#define FIELD 16

/* Whole numbers from 1000 on, four digits below. */
static const char *number(char text[FIELD], bool known, double value,
			  const char *unknown)
{
	if (!known)
		snprintf(text, FIELD, "%s", unknown);
	else
		snprintf(text, FIELD, value >= 1000 ? "%.0f" : "%.4g", value);
	return text;
}

static bool ratio_of(enum metric metric, double ours, double theirs,
		     double *ratio)
{
	if (metric == BYTES_WRITTEN) {
		ours += (double)PAGE;
		theirs += (double)PAGE;
	}
	if (ours <= 0 || theirs <= 0)
		return false;
	*ratio = metrics[metric].more_is_better ? ours / theirs : theirs / ours;
	return true;
}

static void machine_line(void)
{
	struct utsname name;
	int cluster = -1;
	FILE *file = fopen("/proc/sys/vm/page-cluster", "re");

	if (file) {
		if (fscanf(file, "%d", &cluster) != 1)
			cluster = -1;
		fclose(file);
	}
	uname(&name);
	printf("Linux %s, %ld CPUs, vm.page-cluster %d\n", name.release,
	       sysconf(_SC_NPROCESSORS_ONLN), cluster);
}

void output_begin(const struct options *options)
{
	if (options->json)
		return;
	machine_line();
	printf("Medians of %u interleaved rounds; swap in %s.\n"
	       "Touching threads are not bound to CPUs; the fault threads of "
	       "the library and of the\nuserfaultfd loop are, one to each "
	       "CPU. CPU time is that of the process and, for KSM, of\nksmd: "
	       "what other kernel threads (kswapd, kworker, interrupts) spend "
	       "for either side\nis not in it. ratio above 1: ours is "
	       "ahead.\n\n",
	       options->rounds, options->swap_dir);
	printf("%-15s %-15s %-6s %3s %-19s %10s %10s %6s  %s\n", "case",
	       "metric", "memory", "thr", "param", "ours", "theirs", "ratio",
	       "peer");
}

/* Seconds of one kind, and points, are told from others by the param. */
static const char *param_of(const struct contest *contest, enum metric metric,
			    char text[64])
{
	static const char *const kind[NR_METRICS] = {
		[CPU_SECONDS] = "cpu",	[HALF_SECONDS] = "50",
		[MOST_SECONDS] = "90",	[UP_POINTS] = "up",
		[DOWN_POINTS] = "down",
	};

	if (!kind[metric])
		return contest->param;
	snprintf(text, 64, "%s%s%s", contest->param,
		 contest->param[0] ? "," : "", kind[metric]);
	return text;
}

static void output_line(const struct contest *contest, enum metric metric,
			const char *memory, const struct result *ours,
			const struct result *theirs)
{
	bool json = contest->options->json;
	const char *unknown = json ? "null" : "-";
	char a[FIELD], b[FIELD], c[FIELD], param[64];
	double ratio = 0;
	bool known = ours->known[metric] && theirs->known[metric] &&
		     ratio_of(metric, ours->median[metric],
			      theirs->median[metric], &ratio);

	number(a, ours->known[metric], ours->median[metric], unknown);
	number(b, theirs->known[metric], theirs->median[metric], unknown);
	snprintf(c, sizeof(c), known ? "%.3f" : unknown, ratio);
	if (json)
		printf("{\"case\":\"%s\",\"metric\":\"%s\",\"memory\":\"%s\","
		       "\"threads\":%u,\"param\":\"%s\",\"ours\":%s,"
		       "\"peer\":\"%s\",\"theirs\":%s,\"ratio\":%s}\n",
		       contest->name, metrics[metric].name, memory,
		       contest->threads, param_of(contest, metric, param), a,
		       contest->peer ? contest->peer : "", b, c);
	else
		printf("%-15s %-15s %-6s %3u %-19s %10s %10s %6s  %s\n",
		       contest->name, metrics[metric].name, memory,
		       contest->threads, param_of(contest, metric, param), a, b,
		       c, contest->peer ? contest->peer : "-");
}

void output_lines(const struct contest *contest,
		  const struct result results[NR_SIDES])
{
	static const char *const memory[] = { "anon", "memfd" };

	for (int side = SIDE_ANON; side <= SIDE_MEMFD; side++) {
		if (!contest->options->side[side])
			continue;
		for (enum metric i = 0; i < NR_METRICS; i++)
			if (contest->metrics & BIT(i))
				output_line(
					contest, i,
					contest->no_memory ? "" : memory[side],
					&results[side], &results[SIDE_PEER]);
	}
	fflush(stdout);
}
