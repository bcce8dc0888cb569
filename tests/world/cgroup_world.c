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

/* Our cgroup's path in the hierarchy that has the memory controller, if that is version 1. */
static bool find_v1(char own[256])
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	bool found = false;
	char line[512];

	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%*d:memory:%255s", own) == 1;
	if (f)
		fclose(f);
	return found;
}

static bool has_memory(const char *mount)
{
	return !machine_run("grep -qw memory %s/cgroup.controllers", mount);
}

/* Where version 2 is mounted; if it is not, it is for this test. The library looks for what
 * is mounted, as we do. */
static void find_v2(char mount[256])
{
	char line[1024];
	FILE *f = fopen("/proc/self/mounts", "re");

	*mount = '\0';
	while (f && !*mount && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %255s cgroup2 ", mount) != 1 ||
		    !strstr(line, " cgroup2 "))
			*mount = '\0';
	if (f)
		fclose(f);
	if (*mount)
		return;
	snprintf(mount, 256, "%s/cgroup2", own_dir());
	if (machine_run("mkdir %s && mount -t cgroup2 none %s", mount, mount))
		cr_skip_test("this kernel mounts no cgroup2");
	machine_undo("umount %s; rmdir %s; rmdir %s", mount, mount, own_dir());
}

/* A cgroup of our own: of version 1 below the one that we are in; of version 2 below its
 * root, since a cgroup with processes has no children with controllers there. */
static void make_group(void)
{
	char own[256] = "", mount[256];

	machine_lock();
	if (v2) {
		find_v2(mount);
		if (!has_memory(mount))
			cr_skip_test("the memory controller is version 1's "
				     "here, %s lacks it",
				     mount);
		machine_run("echo +memory >%s/cgroup.subtree_control", mount);
		snprintf(group, sizeof(group), "%s/ovc-world-%d", mount,
			 (int)getpid());
	} else {
		if (!find_v1(own))
			cr_skip_test("the memory controller is not version "
				     "1's here");
		snprintf(group, sizeof(group),
			 "/sys/fs/cgroup/memory%s/ovc-world-%d", own,
			 (int)getpid());
	}
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

static unsigned versions[] = { 1, 2 };

ParameterizedTestParameters(cgroup_world, a_limit_below_the_budget_is_kept)
{
	return cr_make_param_array(unsigned, versions, 2);
}

ParameterizedTest(unsigned *version, cgroup_world,
		  a_limit_below_the_budget_is_kept)
{
	v2 = *version == 2;
	check(fill_in_a_small_group);
}

ParameterizedTestParameters(cgroup_world, a_limit_that_changes_is_followed)
{
	return cr_make_param_array(unsigned, versions, 2);
}

ParameterizedTest(unsigned *version, cgroup_world,
		  a_limit_that_changes_is_followed)
{
	v2 = *version == 2;
	check(shrink_and_grow);
}
