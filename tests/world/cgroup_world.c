/* SPDX-License-Identifier: MIT */
/*
 * A process whose memory cgroup allows less than the budget keeps to that, and follows
 * what becomes of it: else the kernel's OOM killer would.
 */
#include "world.h"

#include <fcntl.h>
#include <sys/stat.h>

#define BUDGET (256 * MIB)
#define LEN    (192 * MIB)
#define PAGES  (LEN / PAGE)

static struct world w;
static char group[600];
static bool v2;

static bool put(const char *name, const char *value)
{
	char path[700];
	int fd;
	bool ok;

	snprintf(path, sizeof(path), "%s/%s", group, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ok = fd >= 0 && write(fd, value, strlen(value)) > 0;
	if (fd >= 0)
		close(fd);
	return ok;
}

static bool set_limit(size_t bytes)
{
	char value[32];

	snprintf(value, sizeof(value), "%zu", bytes);
	return put(v2 ? "memory.max" : "memory.limit_in_bytes", value);
}

/* A cgroup of our own, below the one that we are in. */
static void make_group(void)
{
	char line[512], own[256] = "";
	FILE *f = fopen("/proc/self/cgroup", "re");

	machine_lock();
	v2 = true;
	while (f && v2 && fgets(line, sizeof(line), f)) {
		v2 = sscanf(line, "%*d:memory:%255s", own) != 1;
		if (v2)
			sscanf(line, "0::%255s", own);
	}
	if (f)
		fclose(f);
	snprintf(group, sizeof(group), "/sys/fs/cgroup%s%s/ovc-world-%d",
		 v2 ? "" : "/memory", own, (int)getpid());
	if (mkdir(group, 0700))
		cr_skip_test("%s: %s", group, strerror(errno));
	machine_undo("for i in 1 2 3 4 5 6 7 8 9; do rmdir %s && break; "
		     "sleep 0.2; done",
		     group);
	if (!set_limit(LEN * 2))
		cr_skip_test("no memory controller in %s", group);
}

static bool is_within(size_t bytes, unsigned seconds)
{
	for (unsigned i = 0; i < seconds * 20; i++) {
		struct ovc_host_stats s = host_stats(&w);

		if (s.budget_effective <= bytes && s.used <= bytes)
			return true;
		usleep(50000);
	}
	return false;
}

static int fill_in_a_small_group(void *arg)
{
	(void)arg;
	if (!put("cgroup.procs", "0") || !set_limit(128 * MIB))
		return 77;
	world_open(&w, (struct plan){ .budget = BUDGET, .len = LEN });
	if (host_stats(&w).budget != BUDGET ||
	    host_stats(&w).budget_effective >= 128 * MIB)
		return 1;
	fill_pages(w.mem, 0, PAGES, 1);
	if (!is_within(128 * MIB, 10))
		return 2;
	return check_pages(w.mem, 0, PAGES, 1) == -1 ? 0 : 3;
}

static int shrink_and_grow(void *arg)
{
	(void)arg;
	if (!put("cgroup.procs", "0"))
		return 77;
	world_open(&w, (struct plan){ .budget = BUDGET, .len = LEN });
	if (host_stats(&w).budget_effective != BUDGET)
		return 1;
	fill_pages(w.mem, 0, PAGES, 1);
	/* Above what is held, since the kernel refuses, or kills, at once. */
	if (!set_limit(LEN - 24 * MIB) && !set_limit(LEN + 16 * MIB))
		return 77;
	if (!is_within(LEN + 16 * MIB, 10))
		return 2;
	if (check_pages(w.mem, 0, PAGES, 1) != -1)
		return 3;
	if (!set_limit(2 * LEN))
		return 4;
	for (unsigned i = 0; i < 100; i++) {
		if (host_stats(&w).budget_effective == BUDGET)
			return 0;
		usleep(50000);
	}
	return 5;
}

static void check(int (*fn)(void *arg))
{
	int got;

	need_root();
	need_userfaultfd();
	skip_sanitized();
	make_group();
	got = in_child(fn, NULL, 90);
	if (got == 77)
		cr_skip_test("the cgroup takes no process, or no limit");
	cr_assert_eq(got, 0, "%d", got);
}

Test(cgroup_world, a_limit_below_the_budget_is_kept)
{
	check(fill_in_a_small_group);
}

Test(cgroup_world, a_limit_that_changes_is_followed)
{
	check(shrink_and_grow);
}
