/* SPDX-License-Identifier: MIT */
/*
 * Two VMs, each with a disk of its own. The disk of one takes writes and is silent, or
 * answers one read a second: that is that VM's trouble, and the other goes on.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "world.h"

#define LEN    (64 * MIB)
#define PAGES  (LEN / PAGE)
#define SEED_B 9

TestSuite(slowdisk, .timeout = 170);

/* The first VM, on the slow disk, is the world's. */
struct two {
	struct world w;
	struct ovc_vm *b;
	char *mem; /* b's */
};

static struct two t;
static atomic_bool stop;

static void open_two(enum kind kind, const char *slow, uint64_t budget)
{
	struct ovc_vm_options vo = { .size = sizeof(vo),
				     .name = "b",
				     .swap = swap_dir() };
	struct ovc_region_options ro = { .size = sizeof(ro), .len = LEN };

	world_open(&t.w, (struct plan){ .way.kind = kind,
					.budget = budget,
					.len = LEN,
					.swap = slow });
	cr_assert_eq(ovc_vm_create(t.w.host, &vo, &t.b), 0, "%s", ovc_error());
	ro.addr = t.mem = map_memory(kind, LEN, &ro.memfd);
	cr_assert_eq(ovc_vm_add_region(t.b, &ro), 0, "%s", ovc_error());
}

static void close_two(void)
{
	ovc_vm_destroy(&t.b, OVC_THROW_AWAY);
	world_close(&t.w, OVC_THROW_AWAY);
}

static uint64_t held_by_a(void)
{
	struct ovc_vm_stats s = vm_stats(&t.w);

	return s.resident + s.staged;
}

/* A guest that writes all it has, again and again. */
static void *write_all(void *arg)
{
	_Atomic uint64_t *pages = arg;

	for (unsigned round = 0; !stop; round++)
		for (uint64_t i = 0; i < PAGES && !stop; i++) {
			make_page(t.w.mem + i * PAGE, i, round);
			++*pages;
		}
	return NULL;
}

/* Passes of the other VM over all of its memory, each page checked before it is written
 * again. */
static void pass(unsigned from, unsigned to)
{
	for (unsigned round = from; round < to; round++)
		for (uint64_t i = 0; i < PAGES; i++) {
			char *page = t.mem + i * PAGE;

			cr_assert(is_page(page, i, SEED_B + round),
				  "round %u, page %llu", round,
				  (unsigned long long)i);
			make_page(page, i, SEED_B + round + 1);
		}
}

ParameterizedTestParameters(slowdisk,
			    a_disk_that_takes_no_writes_is_its_vms_own)
{
	static enum kind kinds[] = { ANON, MEMFD };

	return cr_make_param_array(enum kind, kinds, 2);
}

ParameterizedTest(enum kind *kind, slowdisk,
		  a_disk_that_takes_no_writes_is_its_vms_own)
{
	const char *dir;
	_Atomic uint64_t pages = 0;
	uint64_t before, held;
	pthread_t guest;

	need_userfaultfd();
	dir = machine_mount("ext4", 200, "-q -O ^has_journal");
	open_two(*kind, dir, LEN);
	cr_assert_eq(pthread_create(&guest, NULL, write_all, &pages), 0);
	fill_pages(t.mem, 0, PAGES, SEED_B);
	pass(0, 1);
	machine_freeze(dir, 100);
	pass(1, 4);
	/* All of what its own VM could have taken it has by now. */
	before = pages;
	held = held_by_a();
	pass(4, 6);
	cr_assert_leq(held_by_a(), (held > LEN / 2 ? held : LEN / 2) + MIB / 4,
		      "%llu KiB more",
		      (unsigned long long)(held_by_a() - held) >> 10);
	cr_assert(world_event(&t.w, OVC_EVENT_STUCK, NULL));
	machine_thaw(dir);
	for (unsigned i = 0; i < 4000 && pages < before + PAGES; i++)
		usleep(5000);
	cr_assert_geq(pages, before + PAGES, "it does not go on");
	stop = true;
	pthread_join(guest, NULL);
	close_two();
}

/* ---- reads ------------------------------------------------------------------ */

#define READERS 64

static void *read_some(void *arg)
{
	uint64_t i = (uint64_t)(uintptr_t)arg * 7919;

	for (unsigned n = 0; !stop && n < 64; n++, i += 101)
		if (!is_page(t.w.mem + i % PAGES * PAGE, i % PAGES, 1))
			return (void *)1;
	return NULL;
}

/* One read a second from the device that a directory is on. False: it cannot be had. */
static bool slow_reads(const char *dir)
{
	struct stat st;
	char path[] = "/sys/fs/cgroup/blkio/blkio.throttle.read_iops_device";

	cr_assert_eq(stat(dir, &st), 0);
	machine_undo("echo '%u:%u 0' >%s", major(st.st_dev), minor(st.st_dev),
		     path);
	return !machine_run("echo '%u:%u 1' >%s", major(st.st_dev),
			    minor(st.st_dev), path);
}

static void fast_reads(const char *dir)
{
	struct stat st;

	cr_assert_eq(stat(dir, &st), 0);
	machine_run("echo '%u:%u 0' "
		    ">/sys/fs/cgroup/blkio/blkio.throttle.read_iops_device",
		    major(st.st_dev), minor(st.st_dev));
}

ParameterizedTestParameters(slowdisk, a_disk_that_hardly_reads_is_its_vms_own)
{
	static enum kind kinds[] = { ANON, MEMFD };

	return cr_make_param_array(enum kind, kinds, 2);
}

ParameterizedTest(enum kind *kind, slowdisk,
		  a_disk_that_hardly_reads_is_its_vms_own)
{
	pthread_t readers[READERS];
	const char *dir;
	void *bad;

	need_userfaultfd();
	dir = machine_mount("ext4", 200, "-q -O ^has_journal");
	open_two(*kind, dir, 3 * LEN);
	if (!(host_stats(&t.w).features & OVC_FEATURE_DIRECT_IO))
		cr_skip_test("no O_DIRECT: the page cache would answer");
	fill_pages(t.w.mem, 0, PAGES, 1);
	fill_pages(t.mem, 0, PAGES, SEED_B);
	cr_assert_eq(ovc_vm_reclaim(t.w.vm, t.w.mem, LEN), 0);
	cr_assert_eq(ovc_vm_reclaim(t.b, t.mem, LEN), 0);
	if (!slow_reads(dir))
		cr_skip_test("no blkio throttling (cgroup v1) here");
	for (uintptr_t i = 0; i < READERS; i++)
		cr_assert_eq(pthread_create(&readers[i], NULL, read_some,
					    (void *)i),
			     0);
	usleep(300000);
	for (unsigned round = 0; round < 4; round++) {
		cr_assert_eq(check_pages(t.mem, 0, PAGES, SEED_B), -1);
		cr_assert_eq(ovc_vm_reclaim(t.b, t.mem, LEN), 0);
	}
	stop = true;
	fast_reads(dir);
	for (unsigned i = 0; i < READERS; i++) {
		pthread_join(readers[i], &bad);
		cr_assert_null(bad);
	}
	cr_assert_eq(check_pages(t.w.mem, 0, PAGES, 1), -1);
	close_two();
}
