/* SPDX-License-Identifier: MIT */
/*
 * Swap files and their failures: what cannot be opened, what is full, what comes
 * back wrong; and that nothing is left lying about.
 *
 * A bad slot is made by writing into a named swap file through a second
 * descriptor. Which slot holds a page is found by looking for its bytes.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "support.h"

TestSuite(swap, .timeout = 60 * PATIENCE);

#define NR  256
#define BAD 100 /* the page whose slot goes bad */

static const char *own_file(const char *name)
{
	static char path[600];

	snprintf(path, sizeof(path), "%s/%s", own_dir(), name);
	return path;
}

/* ---- bad slots --------------------------------------------------------------- */

static off_t find_slot(int fd, uint64_t idx, unsigned seed)
{
	_Alignas(4096) char page[PAGE];
	off_t at = 0;

	while (pread(fd, page, PAGE, at) == (ssize_t)PAGE) {
		if (is_page(page, idx, seed))
			return at;
		at += (off_t)PAGE;
	}
	cr_assert_fail("page %u is not in the swap file", (unsigned)idx);
	return -1;
}

static void spoil(const char *path, uint64_t idx, unsigned seed)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	off_t at;

	cr_assert(fd >= 0);
	at = find_slot(fd, idx, seed);
	cr_assert_eq(pwrite(fd, "garbage", 7, at + 1000), 7);
	cr_assert_eq(fsync(fd), 0);
	close(fd);
}

/* A world whose NR pages are in swap, one of them spoiled. */
static void open_with_bad_page(struct world *w, struct way way,
			       const char *path, unsigned seed)
{
	world_open(w, (struct plan){ .way = way, .swap = path });
	fill_pages(w->mem, 0, NR, seed);
	cr_assert_eq(ovc_vm_reclaim(w->vm, w->mem, NR * PAGE), 0);
	spoil(path, BAD, seed);
}

/* A kernel without memory failure handling has no BUS_MCEERR_AR to give. */
static bool kernel_has_machine_checks(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[128];
	bool has = false;

	while (f && !has && fgets(line, sizeof(line), f))
		has = !strncmp(line, "HardwareCorrupted:", 18);
	if (f)
		fclose(f);
	return has;
}

static void expect_lost(struct world *w, struct way way)
{
	bool marker = host_stats(w).features & OVC_FEATURE_POISON;
	char *bad = w->mem + BAD * PAGE;
	void *where = NULL;
	int code = 0, signal = touch_signal(bad + 8, &code, &where);

	if (marker) {
		cr_assert_eq(signal, SIGBUS, "%s: %d", way_name(way), signal);
		if (kernel_has_machine_checks())
			cr_assert_eq(code, BUS_MCEERR_AR, "%s: %d",
				     way_name(way), code);
	} else {
		cr_assert(signal == SIGBUS || signal == SIGSEGV, "%s: %d",
			  way_name(way), signal);
	}
	cr_assert_eq((char *)((uintptr_t)where & ~(PAGE - 1)), bad);
}

static struct way poison_ways[] = {
	{ ANON, 0 },
	{ MEMFD, 0 },
	{ ANON, OVC_FEATURE_POISON },
	{ MEMFD, OVC_FEATURE_POISON },
	{ ANON, OVC_FEATURE_IO_URING },
	{ MEMFD, OVC_FEATURE_IO_URING },
	{ ANON, OVC_FEATURE_DIRECT_IO },
	{ ANON, OVC_FEATURE_FIXED_BUFS | OVC_FEATURE_FIXED_FILES },
};

#define NR_POISON_WAYS (sizeof(poison_ways) / sizeof(poison_ways[0]))

ParameterizedTestParameters(swap, a_corrupted_slot_poisons_that_page_alone)
{
	return cr_make_param_array(struct way, poison_ways, NR_POISON_WAYS);
}

ParameterizedTest(struct way *way, swap,
		  a_corrupted_slot_poisons_that_page_alone)
{
	const char *path = own_file("slots");
	struct seen_event e;
	struct world w;

	open_with_bad_page(&w, *way, path, 1);
	cr_assert_eq(check_pages(w.mem, 0, BAD, 1), -1);
	expect_lost(&w, *way);
	expect_lost(&w, *way); /* for ever */
	cr_assert_eq(check_pages(w.mem, BAD + 1, NR - BAD - 1, 1), -1);
	cr_assert_eq(vm_stats(&w).poisoned, PAGE);
	cr_assert_eq(vm_stats(&w).read_errors, 1);
	cr_assert(world_event(&w, OVC_EVENT_POISONED, &e));
	cr_assert_eq(e.error, EBADMSG);
	cr_assert_eq(e.vm, w.vm);
	cr_assert_str_eq(e.vm_name, "guest");
	cr_assert_eq(e.addr, w.mem + BAD * PAGE);
	cr_assert_eq(e.gpa, WORLD_GPA + BAD * PAGE);
	cr_assert_eq(e.len, PAGE);
	cr_assert(e.has_text);
	cr_assert_eq(world_count_events(&w, OVC_EVENT_POISONED), 1);
	world_close(&w, OVC_THROW_AWAY);
}

ParameterizedTestParameters(swap,
			    a_lost_page_that_was_discarded_goes_with_others)
{
	return cr_make_param_array(struct way, poison_ways, NR_POISON_WAYS);
}

/* Where the kernel has no poison, such a page has a mapping of its own. */
ParameterizedTest(struct way *way, swap,
		  a_lost_page_that_was_discarded_goes_with_others)
{
	const char *path = own_file("slots");
	struct world w;

	open_with_bad_page(&w, *way, path, 1);
	expect_lost(&w, *way);
	cr_assert_eq(ovc_vm_discard(w.vm, w.mem + BAD * PAGE, PAGE), 0);
	for (unsigned seed = 2; seed < 4; seed++) {
		fill_pages(w.mem, 0, NR, seed);
		cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
		cr_assert_eq(vm_stats(&w).swapped, NR * PAGE, "%s",
			     way_name(*way));
		if (seed == 2)
			cr_assert_eq(check_pages(w.mem, 0, NR, seed), -1);
	}
	world_close(&w, 0); /* brings all back */
}

ParameterizedTestParameters(swap, calls_on_a_corrupted_slot_give_eio)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, swap, calls_on_a_corrupted_slot_give_eio)
{
	const char *path = own_file("slots");
	char *bad, buf[PAGE];
	struct world w;

	world_open(&w, (struct plan){ .way = *way, .swap = path });
	bad = w.mem + BAD * PAGE;
	fill_pages(w.mem, 0, NR, 2);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	spoil(path, BAD, 2);
	expect_error("read", ovc_vm_read(w.vm, bad, buf, PAGE), -EIO, "read");
	expect_error("pin", ovc_vm_pin(w.vm, w.mem, NR * PAGE), -EIO, "pin");
	cr_assert_eq(vm_stats(&w).pinned, 0);
	cr_assert_eq(vm_stats(&w).poisoned, PAGE);
	expect_error("read", ovc_vm_read(w.vm, bad, buf, PAGE), -EIO, "read");
	expect_error("pin", ovc_vm_pin(w.vm, bad, PAGE), -EIO, "pin");
	expect_error("remove", ovc_vm_remove_region(w.vm, w.mem, 0), -EIO,
		     "poisoned");
	cr_assert_eq(vm_stats(&w).regions, 0);
	cr_assert_eq(check_pages(w.mem, 0, BAD, 2), -1);
	cr_assert_eq(check_pages(w.mem, BAD + 1, NR - BAD - 1, 2), -1);
	world_close(&w, OVC_THROW_AWAY);
}

ParameterizedTestParameters(swap, a_discard_heals_a_poisoned_page)
{
	static struct way ways[] = { { ANON, 0 }, { MEMFD, 0 } };

	return cr_make_param_array(struct way, ways, 2);
}

ParameterizedTest(struct way *way, swap, a_discard_heals_a_poisoned_page)
{
	const char *path = own_file("slots");
	struct world w;

	open_with_bad_page(&w, *way, path, 3);
	expect_lost(&w, *way);
	cr_assert_eq(ovc_vm_discard(w.vm, w.mem + BAD * PAGE, PAGE), 0, "%s",
		     ovc_error());
	cr_assert_eq(touch_signal(w.mem + BAD * PAGE, NULL, NULL), 0);
	cr_assert(is_zero(w.mem + BAD * PAGE));
	cr_assert_eq(vm_stats(&w).poisoned, 0);
	world_close(&w, OVC_THROW_AWAY);
}

ParameterizedTestParameters(swap, a_truncated_file_is_eio)
{
	return cr_make_param_array(struct way, poison_ways, NR_POISON_WAYS);
}

ParameterizedTest(struct way *way, swap, a_truncated_file_is_eio)
{
	const char *path = own_file("slots");
	struct seen_event e;
	char buf[PAGE];
	struct world w;

	world_open(&w, (struct plan){ .way = *way, .swap = path });
	fill_pages(w.mem, 0, NR, 4);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	cr_assert_eq(truncate(path, 0), 0);
	cr_assert_eq(ovc_vm_read(w.vm, w.mem, buf, PAGE), -EIO);
	expect_lost(&w, *way);
	cr_assert(world_event(&w, OVC_EVENT_POISONED, &e));
	cr_assert_eq(e.error, EIO, "%s: %d", way_name(*way), e.error);
	cr_assert_eq(e.addr, w.mem + BAD * PAGE);
	world_close(&w, OVC_THROW_AWAY);
}

/* ---- a full disk -------------------------------------------------------------- */

ParameterizedTestParameters(swap, a_full_disk_keeps_pages_until_there_is_space)
{
	static struct way ways[] = { { ANON, 0 },
				     { MEMFD, 0 },
				     { ANON, OVC_FEATURE_IO_URING },
				     { MEMFD, OVC_FEATURE_IO_URING } };

	return cr_make_param_array(struct way, ways, 4);
}

ParameterizedTest(struct way *way, swap,
		  a_full_disk_keeps_pages_until_there_is_space)
{
	const char *dir = own_tmpfs(2 * MIB);
	struct seen_event e;
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .swap = dir,
				      .len = 8 * MIB,
				      .vm_flags = OVC_VM_SPARSE_SWAP });
	fill_pages(w.mem, 0, w.len / PAGE, 5);
	expect_error("reclaim", ovc_vm_reclaim(w.vm, w.mem, w.len), -ENOSPC,
		     "swap");
	cr_assert(world_event(&w, OVC_EVENT_WRITE_FAILED, &e));
	cr_assert_eq(e.error, ENOSPC);
	cr_assert_eq(e.vm, w.vm);
	cr_assert_gt(vm_stats(&w).write_errors, 0);
	cr_assert_geq(vm_stats(&w).resident, 5 * MIB);
	resize_tmpfs(dir, 64 * MIB);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0, "%s", ovc_error());
	cr_assert(world_event(&w, OVC_EVENT_WRITE_RECOVERED, &e));
	cr_assert_eq(e.vm, w.vm);
	cr_assert_eq(vm_stats(&w).swapped, w.len);
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 5), -1);
	cr_assert_eq(world_count_events(&w, OVC_EVENT_POISONED), 0);
	world_close(&w, OVC_THROW_AWAY);
}

ParameterizedTestParameters(swap, a_quota_is_kept_and_told)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, swap, a_quota_is_kept_and_told)
{
	struct world w;

	world_open(&w, (struct plan){
			       .way = *way, .swap_size = MIB, .len = 4 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 6);
	expect_error("reclaim", ovc_vm_reclaim(w.vm, w.mem, w.len), -ENOSPC,
		     "swap");
	cr_assert_leq(vm_stats(&w).swap_used, MIB);
	cr_assert_eq(vm_stats(&w).swap_size, MIB);
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 6), -1);
	cr_assert(world_event(&w, OVC_EVENT_WRITE_FAILED, NULL));
	world_close(&w, OVC_THROW_AWAY);
}

static uint64_t free_blocks(const char *dir)
{
	struct statvfs s;

	cr_assert_eq(statvfs(dir, &s), 0);
	return s.f_bfree;
}

Test(swap, a_full_disk_is_an_error_of_creation_and_gives_the_space_back)
{
	struct ovc_vm_options o = { .size = sizeof(o), .swap_size = 64 * MIB };
	const char *dir = own_tmpfs(4 * MIB);
	uint64_t before = free_blocks(dir);
	struct ovc_vm *vm = NULL;
	struct world w;

	world_open(&w, (struct plan){ .no_swap = true });
	o.swap = dir;
	expect_error("vm", ovc_vm_create(w.host, &o, &vm), -ENOSPC, "room");
	cr_assert_null(vm);
	cr_assert_eq(host_stats(&w).vms, 1);
	cr_assert_eq(free_blocks(dir), before);
	world_close(&w, 0);
}

Test(swap, a_full_disk_is_an_error_of_adding_a_region)
{
	struct ovc_region_options o = { .size = sizeof(o), .len = 64 * MIB };
	const char *dir = own_tmpfs(8 * MIB);
	uint64_t before;
	struct world w;

	world_open(&w, (struct plan){ .swap = dir, .len = 64 * PAGE });
	before = free_blocks(dir);
	o.addr = map_memory(ANON, o.len, &o.memfd);
	expect_error("add", ovc_vm_add_region(w.vm, &o), -ENOSPC, "swap");
	cr_assert_eq(vm_stats(&w).regions, 1);
	cr_assert_eq(free_blocks(dir), before);
	/* What it had still works. */
	fill_pages(w.mem, 0, 64, 7);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, 64 * PAGE), 0);
	cr_assert_eq(check_pages(w.mem, 0, 64, 7), -1);
	world_close(&w, 0);
}

ParameterizedTestParameters(swap, sparse_swap_gives_back_what_is_free)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, swap, sparse_swap_gives_back_what_is_free)
{
	const char *dir = own_tmpfs(64 * MIB);
	uint64_t empty, full, after;
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .swap = dir,
				      .len = 16 * MIB,
				      .vm_flags = OVC_VM_SPARSE_SWAP });
	empty = free_blocks(dir);
	fill_pages(w.mem, 0, w.len / PAGE, 8);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	full = free_blocks(dir);
	cr_assert_leq(full * PAGE, empty * PAGE - 16 * MIB);
	cr_assert_eq(ovc_vm_discard(w.vm, w.mem, w.len), 0);
	/* The dead are swept when somebody takes slots again. */
	fill_pages(w.mem, 0, 16, 9);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, 16 * PAGE), 0);
	/* By a thread that does nothing else. */
	for (unsigned i = 0; i < 1000; i++) {
		after = free_blocks(dir);
		if (after * PAGE >= empty * PAGE - 4 * MIB)
			break;
		usleep(10000);
	}
	cr_assert_geq(after * PAGE, empty * PAGE - 4 * MIB);
	cr_assert_eq(check_pages(w.mem, 0, 16, 9), -1);
	world_close(&w, OVC_THROW_AWAY);
}

/* ---- what cannot be opened ------------------------------------------------------- */

static void refuse(struct world *w, const char *path, int error,
		   const char *word)
{
	struct ovc_vm_options o = { .size = sizeof(o), .swap = path };
	struct ovc_vm *vm = NULL;
	unsigned fds = belongings().fds;

	expect_error(path, ovc_vm_create(w->host, &o, &vm), error, word);
	cr_assert_null(vm);
	cr_assert_eq(host_stats(w).vms, 1);
	cr_assert_eq(belongings().fds, fds);
}

Test(swap, a_directory_that_does_not_exist_is_enoent)
{
	struct world w;

	world_open(&w, (struct plan){ .no_swap = true });
	refuse(&w, own_file("missing/file"), -ENOENT, "missing/file");
	world_close(&w, 0);
}

Test(swap, a_directory_that_is_not_writable_is_eacces)
{
	struct world w;

	need_root();
	world_open(&w, (struct plan){ .no_swap = true });
	chmod(own_dir(), 0500);
	cr_assert_eq(seteuid(65534), 0);
	refuse(&w, own_dir(), -EACCES, own_dir());
	refuse(&w, own_file("slots"), -EACCES, "slots");
	cr_assert_eq(seteuid(0), 0);
	cr_assert_eq(count_files(own_dir()), 0);
	world_close(&w, 0);
}

Test(swap, a_symbolic_link_is_eloop_and_its_target_untouched)
{
	char target[600];
	struct stat st;
	struct world w;
	int fd;

	snprintf(target, sizeof(target), "%s", own_file("target"));
	fd = open(target, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_eq(write(fd, "kept", 4), 4);
	cr_assert_eq(symlink("target", own_file("link")), 0);
	cr_assert_eq(symlink("nothing", own_file("dangling")), 0);
	world_open(&w, (struct plan){ .no_swap = true });
	refuse(&w, own_file("link"), -ELOOP, "symbolic link");
	refuse(&w, own_file("dangling"), -ELOOP, "symbolic link");
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq(st.st_size, 4);
	cr_assert_eq(count_files(own_dir()), 3);
	world_close(&w, 0);
}

Test(swap, a_file_in_use_is_ebusy_and_what_it_holds_untouched)
{
	const char *path = own_file("slots");
	struct world w, other;

	world_open(&other, (struct plan){ .swap = path });
	fill_pages(other.mem, 0, NR, 10);
	cr_assert_eq(ovc_vm_reclaim(other.vm, other.mem, NR * PAGE), 0);
	world_open(&w, (struct plan){ .no_swap = true });
	refuse(&w, path, -EBUSY, "in use");
	cr_assert_eq(check_pages(other.mem, 0, NR, 10), -1);
	world_close(&other, 0);
	world_close(&w, 0);
}

Test(swap, a_named_file_is_private_and_left_empty)
{
	const char *path = own_file("slots");
	struct stat st;
	struct world w;

	umask(0);
	world_open(&w, (struct plan){ .swap = path });
	fill_pages(w.mem, 0, NR, 11);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode, S_IFREG | 0600);
	cr_assert_geq((size_t)st.st_blocks * 512, w.len, "not preallocated");
	world_close(&w, 0);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_size, 0);
}

/* ---- killed ------------------------------------------------------------------- */

static void live_until_killed(struct way way, const char *dir, int ready)
{
	struct world w;

	world_open(&w, (struct plan){ .way = way, .swap = dir });
	fill_pages(w.mem, 0, NR, 12);
	if (ovc_vm_reclaim(w.vm, w.mem, NR * PAGE) || write(ready, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

ParameterizedTestParameters(swap, a_killed_process_leaves_no_file)
{
	static struct way ways[] = { { ANON, 0 },
				     { MEMFD, 0 },
				     { ANON, OVC_FEATURE_TMPFILE } };

	return cr_make_param_array(struct way, ways, 3);
}

ParameterizedTest(struct way *way, swap, a_killed_process_leaves_no_file)
{
	const char *dir = own_dir();
	int ends[2], status;
	pid_t pid;
	char c;

	need_userfaultfd();
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[0]);
		live_until_killed(*way, dir, ends[1]);
	}
	close(ends[1]);
	cr_assert_eq(read(ends[0], &c, 1), 1);
	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	cr_assert_eq(count_files(dir), 0);
}
