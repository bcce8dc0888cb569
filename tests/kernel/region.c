/* SPDX-License-Identifier: MIT */
/*
 * Regions: what is refused and how that is said, and what removal and
 * destruction make of the memory.
 */
#include <stdatomic.h>
#include <sys/mman.h>

#include "support.h"

TestSuite(region, .timeout = 60 * PATIENCE);

/* ---- refused -------------------------------------------------------------- */

static char *map(size_t len, int prot, int flags, int fd)
{
	char *mem = mmap(NULL, len, prot, flags, fd, 0);

	cr_assert_neq(mem, MAP_FAILED, "mmap: %s", strerror(errno));
	return mem;
}

static void refuse(struct world *w, struct ovc_region_options o, int error,
		   const char *word)
{
	struct ovc_vm_stats before = vm_stats(w), after;

	o.size = sizeof(o);
	expect_error("add_region", ovc_vm_add_region(w->vm, &o), error, word);
	after = vm_stats(w);
	cr_assert_eq(before.regions, after.regions);
	cr_assert_eq(before.configured, after.configured);
	cr_assert_eq(before.swap_size, after.swap_size);
}

#define REFUSE(w, error, word, ...) \
	refuse(w, (struct ovc_region_options){ __VA_ARGS__ }, error, word)

Test(region, a_bad_shape_is_refused_by_name_and_changes_nothing)
{
	struct world w;
	char *mem;
	int fd;

	world_open(&w, (struct plan){ .len = 16 * PAGE });
	mem = map_memory(ANON, 16 * PAGE, &fd);
	REFUSE(&w, -EINVAL, "addr", .addr = NULL, .len = PAGE);
	REFUSE(&w, -EINVAL, "addr", .addr = mem + 1, .len = PAGE);
	REFUSE(&w, -EINVAL, "len", .addr = mem, .len = 0);
	REFUSE(&w, -EINVAL, "len", .addr = mem, .len = PAGE + 1);
	REFUSE(&w, -EINVAL, "len", .addr = mem,
	       .len = ((size_t)1 << 40) + PAGE);
	REFUSE(&w, -EINVAL, "wraps", .addr = (void *)(UINTPTR_MAX - PAGE + 1),
	       .len = 2 * PAGE);
	REFUSE(&w, -EINVAL, "gpa", .addr = mem, .len = PAGE, .gpa = 1);
	REFUSE(&w, -EINVAL, "gpa", .addr = mem, .len = 2 * PAGE,
	       .gpa = UINT64_MAX - PAGE + 1);
	REFUSE(&w, -EINVAL, "flags", .addr = mem, .len = PAGE, .flags = 2);
	REFUSE(&w, -EINVAL, "flags", .addr = mem, .len = PAGE,
	       .flags = OVC_REGION_UNSHARED_MEMFD | 1u << 31);
	REFUSE(&w, -EINVAL, "memfd", .addr = mem, .len = PAGE, .memfd = -1);
	REFUSE(&w, -EINVAL, "memfd", .addr = mem, .len = PAGE, .memfd = 4711);
	REFUSE(&w, -EINVAL, "memfd", .addr = mem, .len = PAGE,
	       .memfd = STDERR_FILENO);
	world_close(&w, 0);
}

Test(region, null_arguments_are_refused_by_name)
{
	struct ovc_region_options o = { .size = sizeof(o) };
	struct world w;

	world_open(&w, (struct plan){ .len = 16 * PAGE });
	expect_error("add", ovc_vm_add_region(w.vm, NULL), -EINVAL, "options");
	expect_error("add", ovc_vm_add_region(NULL, &o), -EINVAL, "vm");
	expect_error("remove", ovc_vm_remove_region(NULL, w.mem, 0), -EINVAL,
		     "vm");
	world_close(&w, 0);
}

Test(region, memory_of_the_wrong_kind_is_refused_and_changes_nothing)
{
	struct world w;
	char *anon, *shared, *readonly, *both, *priv, *exec;
	int memfd, none, other;

	world_open(&w, (struct plan){ .len = 16 * PAGE });
	anon = map_memory(ANON, 16 * PAGE, &none);
	shared = map_memory(MEMFD, 16 * PAGE, &memfd);
	map_memory(MEMFD, 16 * PAGE, &other);
	priv = map(16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, memfd);
	readonly = map(16 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	exec = map(16 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1);
	both = map(16 * PAGE, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1);
	REFUSE(&w, -EINVAL, "anonymous", .addr = shared, .len = 16 * PAGE);
	REFUSE(&w, -EINVAL, "anonymous", .addr = both, .len = 16 * PAGE);
	REFUSE(&w, -EINVAL, "anonymous", .addr = priv, .len = 16 * PAGE);
	REFUSE(&w, -EINVAL, "memfd", .addr = anon, .len = 16 * PAGE,
	       .memfd = memfd);
	REFUSE(&w, -EINVAL, "memfd", .addr = priv, .len = 16 * PAGE,
	       .memfd = memfd);
	REFUSE(&w, -EINVAL, "memfd", .addr = shared, .len = 16 * PAGE,
	       .memfd = other);
	REFUSE(&w, -EINVAL, "memfd", .addr = shared, .len = 15 * PAGE,
	       .memfd = memfd, .memfd_offset = PAGE);
	REFUSE(&w, -EINVAL, "memfd", .addr = shared, .len = 16 * PAGE,
	       .memfd = memfd, .memfd_offset = 1);
	REFUSE(&w, -EINVAL, "writable", .addr = readonly, .len = 16 * PAGE);
	REFUSE(&w, -EINVAL, "executable", .addr = exec, .len = 16 * PAGE);
	cr_assert_eq(ftruncate(memfd, 8 * PAGE), 0);
	REFUSE(&w, -EINVAL, "memfd", .addr = shared, .len = 16 * PAGE,
	       .memfd = memfd);
	world_close(&w, 0);
}

Test(region, memory_with_a_hole_is_efault_and_changes_nothing)
{
	struct world w;
	char *mem;
	int fd;

	skip_sanitized();
	world_open(&w, (struct plan){ .len = 16 * PAGE });
	mem = map_memory(ANON, 16 * PAGE, &fd);
	munmap(mem + 8 * PAGE, PAGE);
	REFUSE(&w, -EFAULT, "mapped", .addr = mem, .len = 16 * PAGE);
	REFUSE(&w, -EFAULT, "mapped", .addr = mem + 8 * PAGE, .len = PAGE);
	REFUSE(&w, -EFAULT, "mapped", .addr = mem + PAGE, .len = 8 * PAGE);
	world_close(&w, 0);
}

Test(region, hugetlb_memory_is_refused_and_changes_nothing)
{
	struct world w;
	char *mem =
		mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE,
		     -1, 0);

	if (mem == MAP_FAILED)
		cr_skip_test("no hugetlb here: %s", strerror(errno));
	world_open(&w, (struct plan){ .len = 16 * PAGE });
	REFUSE(&w, -EINVAL, "hugetlb", .addr = mem, .len = 2 * MIB);
	world_close(&w, 0);
}

Test(region, an_overlap_is_eexist_also_between_vms)
{
	struct ovc_region_options o = { .size = sizeof(o), .len = 8 * PAGE };
	struct ovc_vm *vm;
	struct world w;
	char *mem;
	int fd;

	world_open(&w, (struct plan){ .no_swap = true, .len = 16 * PAGE });
	mem = map_memory(ANON, 16 * PAGE, &fd);
	o.addr = mem + 4 * PAGE;
	cr_assert_eq(ovc_vm_create(w.host, NULL, &vm), 0);
	cr_assert_eq(ovc_vm_add_region(vm, &o), 0, "%s", ovc_error());
	REFUSE(&w, -EEXIST, "overlaps", .addr = w.mem, .len = w.len);
	REFUSE(&w, -EEXIST, "overlaps", .addr = mem, .len = 16 * PAGE);
	REFUSE(&w, -EEXIST, "overlaps", .addr = mem, .len = 5 * PAGE);
	REFUSE(&w, -EEXIST, "overlaps", .addr = mem + 11 * PAGE, .len = PAGE);
	/* Neighbours do not. */
	o.len = 4 * PAGE;
	o.addr = mem;
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	o.addr = mem + 12 * PAGE;
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	world_close(&w, 0);
}

Test(region, memfd_without_minor_faults_is_enotsup)
{
	struct world w;
	char *mem;
	int fd;

	world_open(&w, (struct plan){ .way = { ANON, OVC_FEATURE_MINOR },
				      .len = 16 * PAGE });
	mem = map_memory(MEMFD, 16 * PAGE, &fd);
	REFUSE(&w, -ENOTSUP, "minor", .addr = mem, .len = 16 * PAGE,
	       .memfd = fd);
	world_close(&w, 0);
}

Test(region, removing_what_does_not_begin_there_is_einval)
{
	struct world w;

	world_open(&w, (struct plan){ .len = 16 * PAGE });
	expect_error("remove", ovc_vm_remove_region(w.vm, w.mem + PAGE, 0),
		     -EINVAL, "no region");
	expect_error("remove", ovc_vm_remove_region(w.vm, NULL, 0), -EINVAL,
		     "no region");
	expect_error("remove", ovc_vm_remove_region(w.vm, w.mem, 2), -EINVAL,
		     "flags");
	cr_assert_eq(vm_stats(&w).regions, 1);
	world_close(&w, 0);
}

/* ---- kept and given back -------------------------------------------------- */

ParameterizedTestParameters(region, what_the_memory_held_is_kept)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, region, what_the_memory_held_is_kept)
{
	struct ovc_region_options o = { .size = sizeof(o), .len = 64 * PAGE };
	struct world w;
	char *mem;

	world_open(&w, (struct plan){ .len = 16 * PAGE });
	o.addr = mem = map_memory(way->kind, o.len, &o.memfd);
	fill_pages(mem, 0, 64, 4);
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	cr_assert_eq(ovc_vm_reclaim(w.vm, mem, o.len), 0);
	cr_assert_eq(check_pages(mem, 0, 64, 4), -1);
	world_close(&w, 0);
}

ParameterizedTestParameters(region, destroy_brings_everything_back)
{
	static struct way ways[WAYS_MAX];

	return cr_make_param_array(struct way, ways, all_ways(ways));
}

ParameterizedTest(struct way *way, region, destroy_brings_everything_back)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	fill_pages(w.mem, 0, 1000, 5);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, 800 * PAGE), 0);
	cr_assert_eq(check_pages(w.mem, 100, 50, 5), -1, "%s", way_name(*way));
	ovc_vm_destroy(&w.vm, 0);
	cr_assert_eq(present_pages(w.mem, 1000 * PAGE), 1000, "%s",
		     way_name(*way));
	cr_assert_eq(check_pages(w.mem, 0, 1000, 5), -1, "%s", way_name(*way));
	cr_assert(is_zero(w.mem + 1000 * PAGE));
	/* It is the program's own again, also to write. */
	fill_pages(w.mem, 0, 1024, 6);
	cr_assert_eq(check_pages(w.mem, 0, 1024, 6), -1);
	cr_assert_not(smaps_flag(w.mem, " um"));
	world_close(&w, 0);
}

ParameterizedTestParameters(region, removal_gives_back_pages_swap_and_count)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, region,
		  removal_gives_back_pages_swap_and_count)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	fill_pages(w.mem, 0, 1024, 7);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	cr_assert_eq(vm_stats(&w).swap_used, w.len);
	cr_assert_eq(ovc_vm_remove_region(w.vm, w.mem, 0), 0, "%s",
		     ovc_error());
	cr_assert_eq(check_pages(w.mem, 0, 1024, 7), -1);
	cr_assert_eq(vm_stats(&w).regions, 0);
	cr_assert_eq(vm_stats(&w).configured, 0);
	cr_assert_eq(vm_stats(&w).swap_used, 0);
	cr_assert_eq(vm_stats(&w).resident, 0);
	cr_assert_eq(vm_stats(&w).swapped, 0);
	world_close(&w, 0);
}

ParameterizedTestParameters(region, throwing_away_reads_nothing_back)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, region, throwing_away_reads_nothing_back)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way });
	fill_pages(w.mem, 0, 1024, 8);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	cr_assert_eq(ovc_vm_remove_region(w.vm, w.mem, OVC_THROW_AWAY), 0);
	cr_assert_eq(vm_stats(&w).swap_in_bytes, 0);
	cr_assert_eq(vm_stats(&w).swap_used, 0);
	cr_assert_eq(present_pages(w.mem, w.len), 0);
	world_close(&w, OVC_THROW_AWAY);
}

struct toucher {
	volatile char *mem;
	size_t len;
	atomic_bool started;
};

static void *touch_all(void *arg)
{
	struct toucher *t = arg;

	t->started = true;
	for (size_t at = 0; at < t->len; at += PAGE)
		(void)t->mem[at];
	return NULL;
}

ParameterizedTestParameters(region, throwing_away_releases_who_waits)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

/* In dispatch mode nobody answers the fault while we do not dispatch. */
ParameterizedTest(struct way *way, region, throwing_away_releases_who_waits)
{
	struct toucher t;
	struct world w;
	pthread_t thread;

	world_open(&w, (struct plan){ .way = *way,
				      .host_flags = OVC_HOST_DISPATCH });
	fill_pages(w.mem, 0, 1024, 9);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	t = (struct toucher){ w.mem, w.len, false };
	cr_assert_eq(pthread_create(&thread, NULL, touch_all, &t), 0);
	while (!t.started)
		usleep(1000);
	usleep(20000); /* until it very likely waits */
	ovc_vm_destroy(&w.vm, OVC_THROW_AWAY);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	world_close(&w, 0);
}
