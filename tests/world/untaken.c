/* SPDX-License-Identifier: MIT */
/*
 * Memory that the kernel does not let us take: it is refused when it is added where that
 * can be known, cured where it can be, and otherwise counted by its cause, told, and not
 * tried all the time.
 */
#include "world.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define BUDGET (48 * MIB)
#define LEN    (80 * MIB)
#define PAGES  (LEN / PAGE)

static struct world w;

static int add(char *mem, size_t len, int memfd)
{
	struct ovc_region_options o = {
		.size = sizeof(o), .addr = mem, .len = len, .memfd = memfd
	};

	return ovc_vm_add_region(w.vm, &o);
}

static char *filled(enum kind kind, int *memfd)
{
	char *mem = map_memory(kind, LEN, memfd);

	fill_pages(mem, 0, PAGES, 1);
	return mem;
}

static bool is_over(void)
{
	struct ovc_host_stats s = host_stats(&w);

	return s.used > s.budget;
}

/* Waits until the budget is kept. */
static bool is_kept(unsigned seconds)
{
	for (unsigned i = 0; i < seconds * 50 && is_over(); i++)
		usleep(20000);
	return !is_over();
}

static uint64_t untaken(void)
{
	struct ovc_vm_stats s = vm_stats(&w);
	uint64_t sum = 0;

	for (unsigned i = 0; i < OVC_UNTAKEN_NR; i++)
		sum += s.untaken[i];
	return sum;
}

static bool wait_untaken(enum ovc_untaken cause, uint64_t least, uint64_t most)
{
	for (unsigned i = 0; i < 1500; i++) {
		uint64_t now = vm_stats(&w).untaken[cause];

		if (now >= least && now <= most)
			return true;
		usleep(20000);
	}
	return false;
}

static void check_kept_and_right(const char *mem)
{
	cr_assert(is_kept(30), "%zu KiB are refused", (size_t)untaken() >> 10);
	cr_assert_eq(untaken(), 0);
	cr_assert_eq(check_pages(mem, 0, PAGES, 1), -1);
}

/* ---- fork ----------------------------------------------------------------- */

Test(untaken, a_fork_that_is_long_over_hinders_nothing)
{
	int memfd;
	char *mem = filled(ANON, &memfd);
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
	world_open(&w, (struct plan){ .budget = BUDGET });
	cr_assert_eq(add(mem, LEN, 0), 0, "%s", ovc_error());
	check_kept_and_right(mem);
	world_close(&w, OVC_THROW_AWAY);
}

Test(untaken, memory_that_a_living_child_shares_is_reclaimed)
{
	int memfd;
	char *mem = filled(ANON, &memfd);
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	world_open(&w, (struct plan){ .budget = BUDGET });
	cr_assert_eq(add(mem, LEN, 0), 0, "%s", ovc_error());
	check_kept_and_right(mem);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	world_close(&w, OVC_THROW_AWAY);
}

Test(untaken, a_fork_while_nothing_is_tracked_hinders_nothing)
{
	int memfd;
	char *mem = map_memory(ANON, LEN, &memfd);
	pid_t pid;

	world_open(&w, (struct plan){ .budget = 512 * MIB });
	cr_assert_eq(add(mem, LEN, 0), 0, "%s", ovc_error());
	fill_pages(mem, 0, PAGES, 1);
	cr_assert_eq(host_stats(&w).tracked, 0);
	pid = fork();
	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
	cr_assert_eq(ovc_host_set_budget(w.host, BUDGET), 0);
	check_kept_and_right(mem);
	world_close(&w, OVC_THROW_AWAY);
}

Test(untaken, children_get_a_region_again_when_it_was_removed)
{
	int memfd;
	char *mem = map_memory(ANON, LEN, &memfd);

	world_open(&w, (struct plan){ .budget = 512 * MIB });
	cr_assert_eq(add(mem, LEN, 0), 0, "%s", ovc_error());
	cr_assert(smaps_flag(mem, " dc"));
	cr_assert_eq(ovc_vm_remove_region(w.vm, mem, 0), 0);
	cr_assert_not(smaps_flag(mem, " dc"));
	madvise(mem, LEN, MADV_DONTFORK);
	cr_assert_eq(add(mem, LEN, 0), 0, "%s", ovc_error());
	cr_assert_eq(ovc_vm_remove_region(w.vm, mem, 0), 0);
	cr_assert(smaps_flag(mem, " dc"), "it was the VMM's own wish");
	world_close(&w, OVC_THROW_AWAY);
}

/* ---- KSM ------------------------------------------------------------------ */

static long merging(void)
{
	FILE *f = fopen("/proc/self/ksm_merging_pages", "re");
	long nr = -1;

	if (f && fscanf(f, "%ld", &nr) != 1)
		nr = -1;
	if (f)
		fclose(f);
	return nr;
}

/* Memory of which each page is there twice, merged by the kernel. */
static char *merged(size_t len)
{
	int memfd;
	char *mem = map_memory(ANON, len, &memfd);

	for (size_t i = 0; i < len / PAGE; i++)
		make_page(mem + i * PAGE, i / 2, 1);
	if (madvise(mem, len, MADV_MERGEABLE) || merging() < 0)
		cr_skip_test("no KSM here");
	machine_lock();
	if (!machine_set("/sys/kernel/mm/ksm/pages_to_scan", "20000") ||
	    !machine_set("/sys/kernel/mm/ksm/run", "1"))
		cr_skip_test("KSM is not ours to start");
	for (unsigned i = 0;
	     i < 1500 && merging() < (long)(len / PAGE * 9 / 10); i++)
		usleep(20000);
	if (merging() < (long)(len / PAGE / 2))
		cr_skip_test("the kernel merged only %ld pages", merging());
	return mem;
}

Test(untaken, pages_that_the_kernel_merged_are_reclaimed)
{
	char *mem = merged(LEN);

	world_open(&w, (struct plan){ .budget = BUDGET });
	cr_assert_eq(add(mem, LEN, 0), 0, "%s", ovc_error());
	cr_assert(is_kept(30), "%zu KiB are refused", (size_t)untaken() >> 10);
	for (size_t i = 0; i < PAGES; i++)
		cr_assert(is_page(mem + i * PAGE, i / 2, 1));
	cr_assert_eq(untaken(), 0);
	world_close(&w, OVC_THROW_AWAY);
}

Test(untaken, pages_that_are_merged_later_are_counted_as_merged)
{
	char *mem;

	world_open(&w, (struct plan){ .budget = 512 * MIB });
	mem = map_memory(ANON, LEN, &(int){ 0 });
	cr_assert_eq(add(mem, LEN, 0), 0, "%s", ovc_error());
	for (size_t i = 0; i < PAGES; i++)
		make_page(mem + i * PAGE, i / 2, 1);
	if (madvise(mem, LEN, MADV_MERGEABLE) || merging() < 0)
		cr_skip_test("no KSM here");
	machine_lock();
	if (!machine_set("/sys/kernel/mm/ksm/pages_to_scan", "20000") ||
	    !machine_set("/sys/kernel/mm/ksm/run", "1"))
		cr_skip_test("KSM is not ours to start");
	for (unsigned i = 0; i < 1500 && merging() < (long)PAGES / 2; i++)
		usleep(20000);
	if (merging() < (long)PAGES / 2)
		cr_skip_test("the kernel merged only %ld pages", merging());
	if (!(host_stats(&w).features & OVC_FEATURE_MOVE))
		cr_skip_test("without UFFDIO_MOVE they are taken");
	cr_assert_eq(ovc_host_set_budget(w.host, BUDGET), 0);
	cr_assert(wait_untaken(OVC_UNTAKEN_MERGED, MIB, LEN));
	/* What the sentence says. */
	cr_assert_eq(madvise(mem, LEN, MADV_UNMERGEABLE), 0);
	cr_assert(is_kept(30));
	world_close(&w, OVC_THROW_AWAY);
}

/* ---- mlock ---------------------------------------------------------------- */

ParameterizedTestParameters(untaken, locked_memory_is_refused_when_it_is_added)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, untaken,
		  locked_memory_is_refused_when_it_is_added)
{
	int memfd;
	char *mem = map_memory(way->kind, LEN, &memfd);

	if (mlock2(mem + LEN / 2, PAGE, MLOCK_ONFAULT))
		cr_skip_test("mlock2: %s", strerror(errno));
	world_open(&w, (struct plan){ 0 });
	expect_error("locked", add(mem, LEN, memfd), -EINVAL, "locked");
	cr_assert_eq(unlock_memory(mem, LEN), 0);
	cr_assert_eq(add(mem, LEN, memfd), 0, "%s", ovc_error());
	world_close(&w, OVC_THROW_AWAY);
}

ParameterizedTestParameters(untaken, memory_that_is_locked_later_is_counted)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, untaken,
		  memory_that_is_locked_later_is_counted)
{
	struct ovc_vm_stats before, after;
	int memfd;
	char *mem = map_memory(way->kind, LEN, &memfd);

	need_root();
	world_open(&w, (struct plan){ .budget = 512 * MIB });
	cr_assert_eq(add(mem, LEN, memfd), 0, "%s", ovc_error());
	fill_pages(mem, 0, PAGES, 1);
	cr_assert_eq(mlock2(mem, LEN, MLOCK_ONFAULT), 0);
	cr_assert_eq(ovc_host_set_budget(w.host, BUDGET), 0);
	cr_assert(wait_untaken(OVC_UNTAKEN_LOCKED, LEN - BUDGET, LEN),
		  "%zu KiB", (size_t)vm_stats(&w).untaken[0] >> 10);
	cr_assert_eq(vm_stats(&w).refused_with, EINVAL);
	cr_assert_eq(host_stats(&w).untaken[OVC_UNTAKEN_LOCKED],
		     vm_stats(&w).untaken[OVC_UNTAKEN_LOCKED]);
	/* It is left alone: not tried thousands of times a second. */
	sleep(1);
	before = vm_stats(&w);
	sleep(1);
	after = vm_stats(&w);
	cr_assert_lt(after.refusals - before.refusals, 3 * PAGES);
	expect_error("reclaim", ovc_vm_reclaim(w.vm, mem, MIB), -EBUSY,
		     "locked");
	cr_assert_eq(unlock_memory(mem, LEN), 0);
	cr_assert(is_kept(30));
	cr_assert_eq(ovc_vm_reclaim(w.vm, mem, LEN), 0, "%s", ovc_error());
	check_kept_and_right(mem);
	world_close(&w, OVC_THROW_AWAY);
}

static size_t resident(void)
{
	unsigned long all, rss = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (!f || fscanf(f, "%lu %lu", &all, &rss) != 2)
		rss = 0;
	if (f)
		fclose(f);
	return rss * PAGE;
}

static int grow_under_mcl_future(void *arg)
{
	struct ovc_host_options ho = { .size = sizeof(ho), .budget = BUDGET };
	struct ovc_vm_options vo = { .size = sizeof(vo), .swap = swap_dir() };
	struct ovc_region_options ro = { .size = sizeof(ro), .len = LEN };
	struct ovc_host *host;
	struct ovc_vm *vm;
	size_t before;

	(void)arg;
	ro.addr = map_memory(ANON, LEN, &(int){ 0 });
	if (mlockall(MCL_FUTURE))
		return 77;
	before = resident();
	if (ovc_host_create(&ho, &host) || ovc_vm_create(host, &vo, &vm) ||
	    ovc_vm_add_region(vm, &ro))
		return 1;
	fill_pages(ro.addr, 0, PAGES, 1);
	printf("%zu KiB more\n", (resident() - before) >> 10);
	if (resident() > before + BUDGET + 8 * MIB)
		return 2;
	return check_pages(ro.addr, 0, PAGES, 1) == -1 ? 0 : 3;
}

Test(untaken, what_the_library_maps_is_not_locked)
{
	int got;

	need_root();
	need_userfaultfd();
	skip_sanitized();
	got = in_child(grow_under_mcl_future, NULL, 60);
	if (got == 77)
		cr_skip_test("mlockall is refused");
	cr_assert_eq(got, 0, "%d", got);
}

static int lock_all(void *arg)
{
	char *mem;

	(void)arg;
	world_open(&w, (struct plan){ .budget = BUDGET, .len = 16 * MIB });
	fill_pages(w.mem, 0, 16 * MIB / PAGE, 1);
	if (mlockall(MCL_CURRENT))
		return 77;
	munlockall();
	mem = map_memory(ANON, LEN, &(int){ 0 });
	if (add(mem, LEN, 0))
		return 1;
	fill_pages(mem, 0, PAGES, 1);
	if (!is_kept(30))
		return 2;
	if (check_pages(mem, 0, PAGES, 1) != -1)
		return 3;
	return check_pages(w.mem, 0, 16 * MIB / PAGE, 1) == -1 ? 0 : 4;
}

Test(untaken, locking_all_memory_returns_and_can_be_undone)
{
	int got;

	need_root();
	need_userfaultfd();
	skip_sanitized();
	got = in_child(lock_all, NULL, 60);
	if (got == 77)
		cr_skip_test("mlockall is refused");
	cr_assert_eq(got, 0, "%d", got);
}

/* ---- other userfaultfds ----------------------------------------------------- */

static int other_userfaultfd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd;

	need_userfaultfd();
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		cr_skip_test("userfaultfd: %s", strerror(errno));
	cr_assert_eq(ioctl(fd, UFFDIO_API, &api), 0);
	return fd;
}

static void take(int fd, char *mem, size_t len)
{
	struct uffdio_register r = { .range = { (uintptr_t)mem, len },
				     .mode = UFFDIO_REGISTER_MODE_MISSING };

	cr_assert_eq(ioctl(fd, UFFDIO_REGISTER, &r), 0, "%s", strerror(errno));
}

Test(untaken, memory_of_another_userfaultfd_is_refused)
{
	int memfd, other = other_userfaultfd();
	char *mem = map_memory(ANON, LEN, &memfd);

	world_open(&w, (struct plan){ 0 });
	take(other, mem + LEN / 2, PAGE);
	expect_error("another's", add(mem, LEN, 0), -EBUSY, "userfaultfd");
	close(other);
	cr_assert_eq(add(mem, LEN, 0), 0, "%s", ovc_error());
	world_close(&w, OVC_THROW_AWAY);
}

static _Atomic unsigned warnings;

static void count_warning(int level, const char *line, void *opaque)
{
	(void)line;
	(void)opaque;
	warnings += level <= OVC_LOG_WARNING;
}

Test(untaken, memory_that_another_userfaultfd_takes_later_is_counted)
{
	struct ovc_host_options ho = { .size = sizeof(ho),
				       .budget = 512 * MIB,
				       .log = count_warning };
	struct ovc_vm_options vo = { .size = sizeof(vo), .swap = swap_dir() };
	int memfd, other = other_userfaultfd();
	char *mem = map_memory(ANON, LEN, &memfd);

	cr_assert_eq(ovc_host_create(&ho, &w.host), 0);
	cr_assert_eq(ovc_vm_create(w.host, &vo, &w.vm), 0);
	cr_assert_eq(add(mem, LEN, 0), 0, "%s", ovc_error());
	fill_pages(mem, 0, PAGES, 1);
	take(other, mem, LEN);
	cr_assert_eq(ovc_host_set_budget(w.host, BUDGET), 0);
	cr_assert(wait_untaken(OVC_UNTAKEN_REGISTERED, LEN / 2, LEN));
	sleep(3);
	cr_assert(warnings > 0 && warnings <= 6, "%u lines", warnings);
	close(other);
	check_kept_and_right(mem);
	ovc_vm_destroy(&w.vm, OVC_THROW_AWAY);
	ovc_host_destroy(&w.host);
}

/* ---- mappings ---------------------------------------------------------------- */

static int add_at_the_limit(void *arg)
{
	size_t step = 2 * PAGE, len = 64 * MIB;
	char *mem, *many;
	int error;

	(void)arg;
	world_open(&w, (struct plan){ 0 });
	mem = map_memory(ANON, LEN, &(int){ 0 });
	/* Mappings of a page each, with holes, until there can be no more. */
	for (;;) {
		many = mmap(NULL, len, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (many == MAP_FAILED)
			break;
		for (size_t at = 0; at < len; at += step)
			if (mprotect(many + at, PAGE, PROT_READ))
				break;
	}
	/* A part of a mapping: to register it takes one more. */
	error = add(mem + MIB, LEN - 2 * MIB, 0);
	return error == -ENOMEM && strstr(ovc_error(), "max_map_count") ? 0 : 1;
}

Test(untaken, too_many_mappings_are_said)
{
	need_userfaultfd();
	skip_sanitized();
	cr_assert_eq(in_child(add_at_the_limit, NULL, 60), 0);
}

/* ---- files -------------------------------------------------------------------- */

Test(untaken, a_file_that_is_not_memory_is_refused)
{
	const char *dir = machine_mount("ext4", 96, "-q");
	char path[256], *mem;
	int fd;

	snprintf(path, sizeof(path), "%s/ram", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert(fd > 0 && !ftruncate(fd, 8 * MIB));
	mem = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	cr_assert_neq(mem, MAP_FAILED);
	world_open(&w, (struct plan){ 0 });
	expect_error("a file", add(mem, 8 * MIB, fd), -EINVAL, "file system");
	world_close(&w, OVC_THROW_AWAY);
	munmap(mem, 8 * MIB);
	close(fd);
}
