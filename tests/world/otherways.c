/* SPDX-License-Identifier: MIT */
/*
 * Who gets at a guest's memory by another way than the guest does: direct reads into it,
 * other processes that map its memfd. And what memory counts as in use that nobody
 * touched.
 */
#include "world.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define NR ((uint64_t)1024)

TestSuite(otherways, .timeout = 60);

/* ---- direct reads --------------------------------------------------------- */

static void refuse_direct(struct way way)
{
	struct ovc_region_options o = { .size = sizeof(o),
					.len = NR * PAGE,
					.gpa = OVC_GPA_NONE,
					.flags = OVC_REGION_DIRECT_IO };
	struct world w;

	world_open(&w, (struct plan){ .way = { ANON, way.without } });
	o.addr = map_memory(way.kind, o.len, &o.memfd);
	expect_error("add_region", ovc_vm_add_region(w.vm, &o), -ENOTSUP,
		     "DIRECT_IO");
	world_close(&w, 0);
}

Test(otherways, what_nobody_can_tell_is_refused)
{
	refuse_direct((struct way){ ANON, OVC_FEATURE_MOVE });
	refuse_direct((struct way){ MEMFD, 0 });
}

static _Atomic bool stop;

/* Keeps the budget short, and reclaim at work. */
static void *press(void *arg)
{
	struct world *w = arg;

	while (!atomic_load(&stop))
		for (uint64_t i = NR; i < 8 * NR && !atomic_load(&stop); i++)
			w->mem[i * PAGE]++;
	return NULL;
}

static int file_of_pages(void)
{
	char path[300], *bytes;
	int fd;

	snprintf(path, sizeof(path), "%s/direct", own_dir());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	cr_assert(fd >= 0);
	bytes = malloc(NR * PAGE);
	cr_assert_not_null(bytes);
	fill_pages(bytes, 0, NR, 1);
	cr_assert_eq(write(fd, bytes, NR * PAGE), (ssize_t)(NR * PAGE));
	cr_assert_eq(fsync(fd), 0);
	free(bytes);
	close(fd);
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	unlink(path);
	if (fd < 0)
		cr_skip_test("no O_DIRECT here: %s", strerror(errno));
	return fd;
}

Test(otherways, direct_reads_into_a_region_that_says_so_are_right)
{
	int fd = file_of_pages();
	struct world w;
	pthread_t t;

	world_open(&w, (struct plan){ .budget = 24 * MIB,
				      .len = 8 * NR * PAGE,
				      .share = OVC_SHARE_ALWAYS,
				      .share_cpu = 100,
				      .region_flags = OVC_REGION_DIRECT_IO });
	if (!(host_stats(&w).features & OVC_FEATURE_MOVE))
		cr_skip_test("no UFFDIO_MOVE here");
	cr_assert_eq(pthread_create(&t, NULL, press, &w), 0);
	for (unsigned i = 0; i < 20; i++) {
		memset(w.mem, 0, NR * PAGE);
		cr_assert_eq(pread(fd, w.mem, NR * PAGE, 0),
			     (ssize_t)(NR * PAGE));
		cr_assert_eq(check_pages(w.mem, 0, NR, 1), -1, "round %u", i);
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	/* All of it is equal to something, and still the guest's own. */
	cr_assert_eq(vm_stats(&w).shared_bytes, 0);
	close(fd);
	world_close(&w, OVC_THROW_AWAY);
}

/* ---- other processes ------------------------------------------------------- */

/* Pages that were pinned, and others that were swapped out. */
static int look_from_outside(void *arg)
{
	const struct world *w = arg;
	char *other = mmap(NULL, w->len, PROT_READ | PROT_WRITE, MAP_SHARED,
			   w->memfd, 0);

	if (other == MAP_FAILED || check_pages(other, 0, NR / 2, 1) != -1)
		return 1;
	/* The control: what is not pinned, is not there. */
	if (!is_zero(other + (NR - 1) * PAGE))
		return 2;
	fill_pages(other, 0, NR / 2, 2);
	return 0;
}

Test(otherways, another_process_finds_what_is_pinned)
{
	struct world w;

	world_open(&w, (struct plan){ .way = { MEMFD, 0 }, .len = NR * PAGE });
	fill_pages(w.mem, 0, NR, 1);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	cr_assert_eq(ovc_vm_pin(w.vm, w.mem, NR / 2 * PAGE), 0);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	cr_assert_eq(in_child(look_from_outside, &w, 20), 0);
	cr_assert_eq(check_pages(w.mem, 0, NR / 2, 2), -1);
	cr_assert_eq(ovc_vm_unpin(w.vm, w.mem, NR / 2 * PAGE), 0);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	cr_assert_eq(check_pages(w.mem, 0, NR / 2, 2), -1);
	world_close(&w, 0);
}

/* ---- what is in memory ------------------------------------------------------ */

static uint64_t blocks(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void read_all(struct world *w)
{
	char page[PAGE];

	for (uint64_t i = 0; i < w->len / PAGE; i++)
		cr_assert_eq(ovc_vm_read(w->vm, w->mem + i * PAGE, page, PAGE),
			     0);
}

Test(otherways, a_read_gives_holes_no_memory)
{
	struct world w;

	world_open(&w, (struct plan){ .way = { MEMFD, 0 },
				      .budget = 2048 * MIB,
				      .len = NR * PAGE });
	fill_pages(w.mem, 0, 4, 1);
	cr_assert_not(vm_stats(&w).tracked);
	read_all(&w);
	cr_assert_eq(blocks(w.memfd), 4 * PAGE);
	cr_assert_eq(vm_stats(&w).resident, 4 * PAGE);
	world_close(&w, 0);
}

Test(otherways, a_page_that_was_only_read_is_no_memory)
{
	struct ovc_donation d = { .size = sizeof(d) };
	struct ovc_range range;
	struct world w;

	world_open(&w, (struct plan){ .budget = 2048 * MIB, .len = NR * PAGE });
	if (!(host_stats(&w).features & OVC_FEATURE_PAGEMAP_SCAN))
		cr_skip_test("this kernel does not tell its zero page");
	for (uint64_t i = 0; i < NR; i++)
		(void)*(volatile char *)(w.mem + i * PAGE);
	fill_pages(w.mem, 0, 4, 1);
	cr_assert_eq(vm_stats(&w).resident, 4 * PAGE);
	/* Nor is it freed when it is given. */
	range = (struct ovc_range){ .addr = w.mem, .len = w.len };
	cr_assert_eq(ovc_vm_balloon_report(w.vm, &range, 1, &d), 0);
	cr_assert_eq(d.freed, 4 * PAGE);
	world_close(&w, 0);
}

#define HUGE  (2 * MIB)
#define HUGES 16

/* Is the page a part of a larger one still, mapped so or not? */
static bool is_in_larger(const char *addr)
{
	int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int flags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0, bits = 0;

	if (map < 0 || flags < 0)
		cr_skip_test("no /proc/kpageflags here");
	cr_assert_eq(pread(map, &entry, 8, (off_t)((uintptr_t)addr / PAGE * 8)),
		     8);
	entry &= ((uint64_t)1 << 55) - 1;
	if (!entry || pread(flags, &bits, 8, (off_t)(entry * 8)) != 8)
		cr_skip_test("the kernel shows no page frames");
	close(map);
	close(flags);
	return bits >> 15 & 3; /* compound head, or tail */
}

/* All but a page of each: which is kept decides how many huge pages are whole. */
Test(otherways, a_part_of_a_huge_page_that_is_given_is_freed)
{
	uint32_t pfn[HUGES * 511];
	struct ovc_donation d = { .size = sizeof(d) };
	struct ovc_region_options o = { .size = sizeof(o),
					.len = HUGES * HUGE,
					.gpa = WORLD_GPA * 2 };
	uint64_t n = 0;
	struct world w;
	char *raw;
	int none;

	world_open(&w, (struct plan){ .budget = 2048 * MIB });
	raw = map_memory(ANON, o.len + HUGE, &none);
	o.addr = (char *)(((uintptr_t)raw + HUGE - 1) & ~(HUGE - 1));
	madvise(o.addr, o.len, MADV_HUGEPAGE);
	memset(o.addr, 7, o.len);
	if (smaps_bytes(o.addr, "AnonHugePages:") < o.len)
		cr_skip_test("no huge pages to be had");
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	for (uint32_t i = 0; i < HUGES * 512; i++)
		if (i % 512)
			pfn[n++] = (uint32_t)(o.gpa / PAGE) + i;
	cr_assert(is_in_larger(o.addr));
	cr_assert_eq(ovc_vm_balloon_inflate(w.vm, pfn, n, &d), 0);
	cr_assert_eq(d.freed, n * PAGE);
	if (d.huge < HUGES)
		cr_skip_test("this kernel does not tell huge pages");
	for (unsigned i = 0; i < HUGES; i++)
		cr_assert_not(is_in_larger((char *)o.addr + i * HUGE),
			      "%u: all of its frames are kept for one", i);
	for (unsigned i = 0; i < HUGES; i++)
		cr_assert_eq(((char *)o.addr)[i * HUGE], 7);
	world_close(&w, 0);
}
