/* SPDX-License-Identifier: MIT */
/* Limits of this process, which a VMM that is started in the same way has, too. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "check.h"

#define MIB		1048576.0
#define ENOUGH_MAPPINGS 262144
#define ENOUGH_FILES	512 /* beside what are open now */
#define NO_LIMIT	((uint64_t)1 << 60)

static void check_mappings(void)
{
	char value[32];
	unsigned long most;

	if (!read_line("/proc/sys/vm/max_map_count", value, sizeof(value)))
		return;
	most = strtoul(value, NULL, 10);
	if (check.host)
		say("vm.max_map_count", most < ENOUGH_MAPPINGS ? WARNING : FINE,
		    "sysctl vm.max_map_count=1000000, for hosts that are "
		    "created afterwards",
		    "%lu, of which shared pages may have %ju: the more, the "
		    "longer guests read them in place",
		    most, check.stats.share_mappings_limit);
	else
		say("vm.max_map_count", most < ENOUGH_MAPPINGS ? WARNING : FINE,
		    "sysctl vm.max_map_count=1000000", "%lu", most);
}

static rlim_t limit_of(int resource)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	getrlimit((__rlimit_resource_t)resource, &limit);
	return limit.rlim_cur;
}

/* For buffers that the kernel need not look up at each read. */
static void check_memlock(void)
{
	rlim_t limit = limit_of(RLIMIT_MEMLOCK);
	bool used = check.stats.features & OVC_FEATURE_FIXED_BUFS;
	char text[32] = "unlimited";

	if (limit != RLIM_INFINITY)
		snprintf(text, sizeof(text), "%.1f MiB", (double)limit / MIB);
	say("RLIMIT_MEMLOCK", used || !check.host ? FINE : WARNING,
	    "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity)", "%s%s",
	    text,
	    used       ? ": the library's buffers are registered" :
	    check.host ? ": io_uring has no registered buffers" :
			 "");
}

static unsigned open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned nr = 0;

	while (dir && readdir(dir))
		nr++;
	if (dir)
		closedir(dir);
	return nr;
}

static void check_files(void)
{
	rlim_t limit = limit_of(RLIMIT_NOFILE);
	unsigned nr = open_files();

	say("RLIMIT_NOFILE", limit < nr + ENOUGH_FILES ? WARNING : FINE,
	    "ulimit -n 65536 (systemd: LimitNOFILE=65536)",
	    "%ju descriptors, of which about %u are open with a host; a VM "
	    "has one for its swap",
	    (uintmax_t)limit, nr);
}

static void check_file_size(void)
{
	rlim_t limit = limit_of(RLIMIT_FSIZE);

	if (limit == RLIM_INFINITY)
		say("RLIMIT_FSIZE", FINE, NULL, "unlimited");
	else
		say("RLIMIT_FSIZE", WARNING,
		    "ulimit -f unlimited (systemd: LimitFSIZE=infinity)",
		    "swap files may be %.1f MiB at most", (double)limit / MIB);
}

void check_limits(void)
{
	check_mappings();
	check_memlock();
	check_files();
	check_file_size();
}

/* ---- the memory cgroup --------------------------------------------------------- */

/* Its path in the hierarchy that has the memory controller; returns the version, 0
 * where it cannot be read. */
static int find_cgroup(char *path, size_t len)
{
	FILE *file = fopen("/proc/self/cgroup", "re");
	char line[1024], name[1024];
	int version = 0;

	while (file && version != 1 && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%*d:memory:%1023s", name) == 1)
			version = 1;
		else if (sscanf(line, "0::%1023s", name) == 1)
			version = 2;
		else
			continue;
		snprintf(path, len, "%s", name);
	}
	if (file)
		fclose(file);
	return version;
}

static uint64_t read_limit(const char *path)
{
	char value[32];

	if (!read_line(path, value, sizeof(value)) || *value < '0' ||
	    *value > '9')
		return UINT64_MAX; /* "max" */
	return strtoull(value, NULL, 10);
}

/* The least of its limit and those above it, UINT64_MAX for none. */
static uint64_t least_limit(int version, char *cgroup)
{
	static const char *const files[] = { "memory.limit_in_bytes",
					     "memory.max", "memory.high" };
	const char *top = version == 1 ? "/sys/fs/cgroup/memory" :
					 "/sys/fs/cgroup";
	uint64_t least = UINT64_MAX, one;
	char path[1200], *slash;

	for (slash = cgroup; slash;) {
		for (int i = version == 1 ? 0 : 1; i < (version == 1 ? 1 : 3);
		     i++) {
			snprintf(path, sizeof(path), "%s%s/%s", top, cgroup,
				 files[i]);
			one = read_limit(path);
			least = one < least ? one : least;
		}
		slash = strrchr(cgroup, '/');
		if (slash)
			*slash = '\0';
	}
	return least < NO_LIMIT ? least : UINT64_MAX;
}

void check_cgroup(void)
{
	const char *cure = "systemd: MemoryMax=, MemoryHigh=; a container: "
			   "--memory";
	char path[1024] = "", name[1024];
	int version = find_cgroup(path, sizeof(path));
	uint64_t limit;

	snprintf(name, sizeof(name), "%s", path);
	limit = version ? least_limit(version, path) : UINT64_MAX;
	if (!version)
		say("memory cgroup", FINE, NULL, "none");
	else if (check.host &&
		 check.stats.budget_effective < check.stats.budget)
		say("memory cgroup", WARNING, cure,
		    "of version %d, %s: budgets over %ju MiB are cut to that",
		    version, name, check.stats.budget_effective >> 20);
	else if (limit != UINT64_MAX)
		say("memory cgroup", WARNING, cure,
		    "of version %d, %s: it may have %ju MiB", version, name,
		    limit >> 20);
	else
		say("memory cgroup", FINE, NULL, "of version %d, no limit",
		    version);
}
