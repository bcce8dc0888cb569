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

static void throttle(const char *dir, const char *what, unsigned most)
{
	struct stat st;

	cr_assert_eq(stat(dir, &st), 0);
	if (machine_run("echo '%u:%u %u' >/sys/fs/cgroup/blkio/"
			"blkio.throttle.read_%s_device",
			major(st.st_dev), minor(st.st_dev), most, what) &&
	    most)
		cr_skip_test("no blkio throttling (cgroup v1) here");
}

/* So many reads (iops), or bytes (bps), a second and no more from the device that a
 * directory is on. It is put back when the test ends. */
static void slow_reads(const char *dir, const char *what)
{
	struct stat st;

	cr_assert_eq(stat(dir, &st), 0);
	machine_undo("echo '%u:%u 0' >/sys/fs/cgroup/blkio/"
		     "blkio.throttle.read_%s_device",
		     major(st.st_dev), minor(st.st_dev), what);
	throttle(dir, what, 1);
}

static void fast_reads(const char *dir, const char *what)
{
	throttle(dir, what, 0);
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
	slow_reads(dir, "iops");
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
	fast_reads(dir, "iops");
	for (unsigned i = 0; i < READERS; i++) {
		pthread_join(readers[i], &bad);
		cr_assert_null(bad);
	}
	cr_assert_eq(check_pages(t.w.mem, 0, PAGES, 1), -1);
	close_two();
}

/* ---- reads that are not answered ------------------------------------------------ */

#define TOUCHED 100 /* a page that a guest waits for */
#define PINNED	500
#define READ	900

static struct {
	atomic_uint ended;
	int pin, read, read_touched, discard;
} calls;

static void *touch_it(void *arg)
{
	return is_page(t.w.mem + TOUCHED * PAGE, TOUCHED, 1) ? NULL : arg;
}

static void *pin_it(void *arg)
{
	calls.pin = ovc_vm_pin(t.w.vm, t.w.mem + PINNED * PAGE, 8 * PAGE);
	calls.ended++;
	return arg;
}

static void *read_it(void *arg)
{
	static char page[2 * PAGE];

	calls.read = ovc_vm_read(t.w.vm, t.w.mem + READ * PAGE, page, PAGE + 1);
	calls.ended++;
	return arg;
}

static void *read_what_is_touched(void *arg)
{
	static char page[PAGE];

	calls.read_touched =
		ovc_vm_read(t.w.vm, t.w.mem + TOUCHED * PAGE, page, PAGE);
	calls.ended++;
	return arg;
}

static void *discard_what_is_touched(void *arg)
{
	calls.discard = ovc_vm_discard(t.w.vm, t.w.mem + TOUCHED * PAGE, PAGE);
	calls.ended++;
	return arg;
}

static bool await_calls(unsigned nr, unsigned seconds)
{
	for (unsigned i = 0; i < seconds * 100 && calls.ended < nr; i++)
		usleep(10000);
	return calls.ended == nr;
}

/* With one byte a second, none comes in the time of a test. */
static const char *open_silent(void)
{
	const char *dir;

	need_userfaultfd();
	dir = machine_mount("ext4", 200, "-q -O ^has_journal");
	open_two(ANON, dir, 3 * LEN);
	if (!(host_stats(&t.w).features & OVC_FEATURE_DIRECT_IO))
		cr_skip_test("no O_DIRECT: the page cache would answer");
	fill_pages(t.w.mem, 0, PAGES, 1);
	cr_assert_eq(ovc_vm_reclaim(t.w.vm, t.w.mem, LEN), 0);
	slow_reads(dir, "bps");
	return dir;
}

/* They wait for half a minute of a call's, which the sanitizers change nothing of. */
#define once_is_enough()                                                \
	do {                                                            \
		if (SANITIZED)                                          \
			cr_skip_test("it takes half a minute: without " \
				     "sanitizers only");                \
	} while (0)

Test(slowdisk, a_disk_that_reads_nothing_keeps_no_caller)
{
	void *(*const begin[])(void *) = { pin_it, read_it,
					   read_what_is_touched,
					   discard_what_is_touched };
	const char *dir;
	pthread_t guest, threads[4];
	bool ended;
	void *bad;

	once_is_enough();
	dir = open_silent();
	pthread_create(&guest, NULL, touch_it, &t);
	usleep(200000);
	for (unsigned i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, begin[i], NULL);
	usleep(1000000);
	cr_expect_eq(calls.ended, 0, "the disk answered");
	/* The other VM, and its disk, go on. */
	fill_pages(t.mem, 0, PAGES, SEED_B);
	cr_expect_eq(ovc_vm_reclaim(t.b, t.mem, LEN), 0);
	cr_expect_eq(check_pages(t.mem, 0, PAGES, SEED_B), -1);
	ended = await_calls(4, 45 * PATIENCE);
	fast_reads(dir, "bps");
	cr_expect(ended, "%u of 4 calls ended", calls.ended);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	pthread_join(guest, &bad);
	cr_expect_null(bad);
	cr_expect_eq(calls.pin, -ETIMEDOUT);
	cr_expect_eq(calls.read, -ETIMEDOUT);
	cr_expect_eq(calls.read_touched, -ETIMEDOUT);
	cr_expect_eq(calls.discard, -ETIMEDOUT);
	cr_expect_eq(vm_stats(&t.w).pinned, 0);
	cr_expect_eq(ovc_vm_pin(t.w.vm, t.w.mem, LEN), 0, "%s", ovc_error());
	cr_expect_eq(check_pages(t.w.mem, 0, PAGES, 1), -1);
	cr_expect_eq(world_count_events(&t.w, OVC_EVENT_POISONED), 0);
	close_two();
}

static void *destroy_it(void *arg)
{
	ovc_vm_destroy(&t.w.vm, 0);
	calls.ended++;
	return arg;
}

Test(slowdisk, a_vm_ends_that_cannot_be_read_back)
{
	const char *dir;
	pthread_t thread;
	bool ended;

	once_is_enough();
	dir = open_silent();
	pthread_create(&thread, NULL, destroy_it, NULL);
	ended = await_calls(1, 60 * PATIENCE);
	fast_reads(dir, "bps");
	cr_expect(ended, "it waits for the disk");
	pthread_join(thread, NULL);
	ovc_vm_destroy(&t.b, OVC_THROW_AWAY);
	ovc_host_destroy(&t.w.host);
	cr_expect_null(t.w.host);
}
