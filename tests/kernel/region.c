/* SPDX-License-Identifier: MIT */
/*
 * Regions: what is refused and how that is said, and what removal and
 * destruction make of the memory.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

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
	REFUSE(&w, -EINVAL, "flags", .addr = mem, .len = PAGE, .flags = 4);
	REFUSE(&w, -EINVAL, "flags", .addr = mem, .len = PAGE,
	       .flags = OVC_REGION_UNSHARED_MEMFD | 1u << 31);
	REFUSE(&w, -EINVAL, "memfd", .addr = mem, .len = PAGE, .memfd = -2);
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
	REFUSE(&w, -EEXIST, "overlaps", .addr = w.mem, .len = w.len,
	       .gpa = OVC_GPA_NONE);
	REFUSE(&w, -EEXIST, "overlaps", .addr = mem, .len = 16 * PAGE);
	REFUSE(&w, -EEXIST, "overlaps", .addr = mem, .len = 5 * PAGE);
	REFUSE(&w, -EEXIST, "overlaps", .addr = mem + 11 * PAGE, .len = PAGE);
	/* Neighbours do not. */
	o.len = 4 * PAGE;
	o.addr = mem;
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	o.addr = mem + 12 * PAGE;
	o.gpa = 4 * PAGE;
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	world_close(&w, 0);
}

/* ---- the same bytes twice ------------------------------------------------- */

/* Both regions by address, and both VMs by name. */
static void expect_names(const void *a, const void *b, const char *vm,
			 const char *other)
{
	char name[2][32];

	snprintf(name[0], sizeof(name[0]), "%p", a);
	snprintf(name[1], sizeof(name[1]), "%p", b);
	cr_assert_not_null(strstr(ovc_error(), name[0]), "%s", ovc_error());
	cr_assert_not_null(strstr(ovc_error(), name[1]), "%s", ovc_error());
	cr_assert_not_null(strstr(ovc_error(), vm), "%s", ovc_error());
	cr_assert_not_null(strstr(ovc_error(), other), "%s", ovc_error());
}

static char *map_at(int fd, size_t len, size_t offset)
{
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			 (off_t)offset);

	cr_assert_neq(mem, MAP_FAILED, "mmap: %s", strerror(errno));
	return mem;
}

Test(region, bytes_of_a_memfd_are_in_one_region_of_a_host_only)
{
	struct ovc_vm_options v = { .size = sizeof(v), .name = "other" };
	struct ovc_region_options o = { .size = sizeof(o), .len = 8 * PAGE };
	struct ovc_vm *vm;
	struct world w;
	char *mem, *again;
	int fd, copy;

	world_open(&w, (struct plan){ .no_swap = true, .len = 16 * PAGE });
	mem = map_memory(MEMFD, 16 * PAGE, &fd);
	copy = dup(fd); /* another descriptor, the same bytes */
	again = map_at(copy, 16 * PAGE, 0);
	cr_assert_eq(ovc_vm_create(w.host, &v, &vm), 0);
	o.addr = mem + 4 * PAGE;
	o.memfd = fd;
	o.memfd_offset = 4 * PAGE;
	cr_assert_eq(ovc_vm_add_region(vm, &o), 0, "%s", ovc_error());
	REFUSE(&w, -EEXIST, "memfd", .addr = again, .len = 16 * PAGE,
	       .memfd = copy, .gpa = 64 * PAGE);
	expect_names(again, mem + 4 * PAGE, "other", "guest");
	REFUSE(&w, -EEXIST, "memfd", .addr = again, .len = 5 * PAGE,
	       .memfd = copy);
	REFUSE(&w, -EEXIST, "memfd", .addr = again + 11 * PAGE, .len = PAGE,
	       .memfd = fd, .memfd_offset = 11 * PAGE);
	/* Bytes that nobody has yet, and all of them when the region went. */
	o.addr = again + 12 * PAGE;
	o.len = 4 * PAGE;
	o.memfd_offset = 12 * PAGE;
	o.gpa = 12 * PAGE;
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	cr_assert_eq(ovc_vm_remove_region(vm, mem + 4 * PAGE, 0), 0);
	o.addr = again;
	o.len = 12 * PAGE;
	o.memfd_offset = 0;
	o.gpa = 0;
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	close(copy);
	world_close(&w, 0);
}

Test(region, two_memfds_may_have_the_same_offsets)
{
	struct ovc_region_options o = { .size = sizeof(o), .len = 8 * PAGE };
	struct world w;

	world_open(&w, (struct plan){ .no_swap = true, .len = 16 * PAGE });
	for (unsigned i = 0; i < 4; i++) {
		o.addr = map_memory(MEMFD, o.len, &o.memfd);
		o.gpa = i * o.len;
		cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	}
	world_close(&w, 0);
}

/* Another tmpfs counts its inodes from the same number on. */
Test(region, two_files_of_one_inode_number_are_told_apart_by_their_device)
{
	struct ovc_region_options o = { .size = sizeof(o), .len = 8 * PAGE };
	struct stat st[2];
	struct world w;
	char path[2][160];

	need_root();
	world_open(&w, (struct plan){ .no_swap = true, .len = 16 * PAGE });
	for (unsigned i = 0; i < 2; i++) {
		snprintf(path[i], sizeof(path[i]), "%s/memory",
			 own_tmpfs(4 * MIB));
		o.memfd = open(path[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		cr_assert(o.memfd > 0, "%s: %s", path[i], strerror(errno));
		cr_assert_eq(ftruncate(o.memfd, 8 * PAGE), 0);
		cr_assert_eq(fstat(o.memfd, &st[i]), 0);
		o.addr = map_at(o.memfd, o.len, 0);
		o.gpa = i * o.len;
		cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	}
	cr_assert_neq(st[0].st_dev, st[1].st_dev);
	cr_assert_eq(st[0].st_ino, st[1].st_ino);
	world_close(&w, 0);
}

Test(region, guest_physical_addresses_of_a_vm_do_not_overlap)
{
	struct ovc_region_options o = { .size = sizeof(o), .len = 8 * PAGE };
	struct ovc_vm *vm;
	struct world w;
	char *mem;
	int fd;

	world_open(&w, (struct plan){ .no_swap = true, .len = 16 * PAGE });
	mem = map_memory(ANON, 64 * PAGE, &fd);
	o.addr = mem;
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	/* The default, twice: what to do is in the sentence. */
	REFUSE(&w, -EEXIST, "OVC_GPA_NONE", .addr = mem + 8 * PAGE,
	       .len = PAGE);
	expect_names(mem + 8 * PAGE, mem, "guest", "gpa");
	REFUSE(&w, -EEXIST, "gpa", .addr = mem + 8 * PAGE, .len = 8 * PAGE,
	       .gpa = WORLD_GPA - 7 * PAGE);
	expect_names(mem + 8 * PAGE, w.mem, "guest", "gpa");
	REFUSE(&w, -EEXIST, "gpa", .addr = mem + 8 * PAGE, .len = PAGE,
	       .gpa = WORLD_GPA + 15 * PAGE);
	/* Another guest has addresses of its own. */
	cr_assert_eq(ovc_vm_create(w.host, NULL, &vm), 0);
	o.addr = mem + 8 * PAGE;
	cr_assert_eq(ovc_vm_add_region(vm, &o), 0, "%s", ovc_error());
	/* As many without one as you like. */
	for (unsigned i = 2; i < 8; i++) {
		o.addr = mem + i * 8 * PAGE;
		o.gpa = OVC_GPA_NONE;
		cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	}
	cr_assert_eq(vm_stats(&w).regions, 8);
	world_close(&w, 0);
}

Test(region, a_memfd_of_minus_one_is_none)
{
	struct ovc_region_options o = { .size = sizeof(o), .len = 8 * PAGE };
	struct world w;
	char *mem;
	int fd;

	world_open(&w, (struct plan){ .len = 16 * PAGE });
	o.addr = mem = map_memory(ANON, o.len, &fd);
	o.memfd = -1;
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	fill_pages(mem, 0, 8, 1);
	cr_assert_eq(ovc_vm_reclaim(w.vm, mem, o.len), 0);
	cr_assert_eq(vm_stats(&w).swapped, 8 * PAGE);
	cr_assert_eq(check_pages(mem, 0, 8, 1), -1);
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

/* ---- what a memfd was given ahead of its use --------------------------------- */

static uint64_t pages_of(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512 / PAGE;
}

/* Pages that fallocate() got, some of them, and far from each other. */
Test(region, what_is_allocated_and_was_never_touched_counts)
{
	struct ovc_region_options o = { .size = sizeof(o), .len = 64 * MIB };
	uint64_t used;
	struct world w;

	world_open(&w, (struct plan){ .way = { .kind = MEMFD } });
	o.gpa = (uint64_t)1 << 40;
	o.addr = map_memory(MEMFD, o.len, &o.memfd);
	if (syscall(451, o.memfd, (uint64_t[2]){ 0, 0 }, (uint64_t[5]){ 0 },
		    0)) {
		world_close(&w, 0);
		cr_skip_test("no cachestat() here (before Linux 6.5)");
	}
	cr_assert_eq(fallocate(o.memfd, 0, 3 * PAGE, 5 * PAGE), 0);
	cr_assert_eq(fallocate(o.memfd, 0, 9001 * PAGE, 1000 * PAGE), 0);
	cr_assert_eq(fallocate(o.memfd, 0, o.len - PAGE, PAGE), 0);
	make_page((char *)o.addr + 4 * PAGE, 4, 1);
	make_page((char *)o.addr + 5000 * PAGE, 5000, 1);
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	cr_expect_eq(vm_stats(&w).resident, 1007 * PAGE, "%llu",
		     (unsigned long long)vm_stats(&w).resident / PAGE);
	used = host_stats(&w).used;
	/* Tracking begins. */
	cr_assert_eq(ovc_vm_reclaim(w.vm, o.addr, PAGE), 0, "%s", ovc_error());
	cr_expect_eq(vm_stats(&w).resident, 1007 * PAGE, "%llu",
		     (unsigned long long)vm_stats(&w).resident / PAGE);
	cr_expect_geq(host_stats(&w).used, 1007 * PAGE);
	cr_expect_leq(host_stats(&w).used, used + 1008 * PAGE);
	/* It is the guest's to read and to write, ... */
	cr_expect(is_zero((char *)o.addr + 3 * PAGE));
	make_page((char *)o.addr + 9001 * PAGE, 9001, 1);
	cr_expect_eq(vm_stats(&w).resident, 1007 * PAGE);
	/* ... and goes like other memory. */
	cr_assert_eq(ovc_vm_reclaim(w.vm, o.addr, o.len), 0, "%s", ovc_error());
	cr_expect_eq(vm_stats(&w).resident, 0);
	cr_expect_eq(pages_of(o.memfd), 0);
	cr_expect_eq(vm_stats(&w).swapped, 3 * PAGE);
	cr_expect(is_page((char *)o.addr + 9001 * PAGE, 9001, 1));
	cr_expect(is_page((char *)o.addr + 5000 * PAGE, 5000, 1));
	cr_expect(is_zero((char *)o.addr + 9002 * PAGE));
	world_close(&w, 0);
}
