/* SPDX-License-Identifier: MIT */
/*
 * What happens to a process that nobody asked it about: the kernel compacts memory, the
 * host swaps guests' pages, the disk is slow. Each is a thread beside the workers, and
 * needs something of the machine: without it the run is a skip. (A disk that stands still
 * is made by tests/stress/apart, from outside: who dies while it does could not start it
 * again.)
 *
 *   --compact    makes holes between pages of its own, and has the kernel move all pages
 *                together
 *   --pageout    gives pages of guests to the host's swap, a few at a time
 *   --slow-disk  makes each read and write take so many microseconds longer, one after the
 *                other: by the library's stand-in for io_uring
 *   --snapshot   reads all pages in turn, as who saves a VM does
 *
 * A run in which the kernel did nothing of what was asked for says so, and is a skip.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stress.h"
#include "sys/fail.h"
#include "watch.h"

#define COMPACT	 "/proc/sys/vm/compact_memory"
#define HOLES	 (64 * MIB)
#define PAGE_OUT 64 /* pages at once */

static uint64_t moved_before, swapped_before;

/* A count of /proc/vmstat. */
static uint64_t kernel_count(const char *name)
{
	FILE *f = fopen("/proc/vmstat", "re");
	unsigned long long n = 0, value;
	char is[64];

	while (f && fscanf(f, "%63s %llu", is, &value) == 2)
		if (!strcmp(is, name))
			n = value;
	if (f)
		fclose(f);
	return n;
}

/* ---- the actors ------------------------------------------------------------ */

static void make_holes(char *mem)
{
	for (size_t at = 0; at < HOLES; at += PAGE)
		mem[at] = 1;
	for (size_t at = 0; at < HOLES; at += 2 * PAGE)
		madvise(mem + at, PAGE, MADV_DONTNEED);
}

static void *compacts(void *arg)
{
	struct watched *w = watch_join("compaction", 0);
	int fd = open(COMPACT, O_WRONLY | O_CLOEXEC);
	char *mem = mmap(NULL, HOLES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (fd < 0 || mem == MAP_FAILED)
		abort();
	madvise(mem, HOLES, MADV_NOHUGEPAGE);
	while (!atomic_load(&done) && !atomic_load(&failures)) {
		watch(w, "makes holes", mem);
		make_holes(mem);
		watch(w, "compacts", NULL);
		if (write(fd, "1", 1) != 1)
			fail(COMPACT, -errno);
	}
	munmap(mem, HOLES);
	close(fd);
	watch_leave(w);
	return arg;
}

static void *pages_out(void *arg)
{
	struct watched *w = watch_join("host swap", 0);
	uint64_t rnd = random_state(3000);

	while (!atomic_load(&done) && !atomic_load(&failures)) {
		struct shadow *s =
			&places[random_next(&rnd) % (VMS * REGIONS)].mem;
		size_t idx = random_next(&rnd) % (s->nr - PAGE_OUT);

		watch(w, "pages out", shadow_page(s, idx));
		if (madvise(shadow_page(s, idx), PAGE_OUT * PAGE,
			    MADV_PAGEOUT) &&
		    errno != EAGAIN)
			fail("pageout", -errno);
		usleep(500);
	}
	watch_leave(w);
	return arg;
}

static void *snapshots(void *arg)
{
	static char copy[STRIPE * 4096] __attribute__((aligned(8)));
	struct watched *w = watch_join("snapshot", 0);

	for (size_t n = 0; !atomic_load(&done) && !atomic_load(&failures);
	     n++) {
		struct place *p = &places[n % (VMS * REGIONS)];
		struct shadow *s = &p->mem;
		size_t first = n / (VMS * REGIONS) * STRIPE % s->nr, nr;
		int error;

		nr = s->nr - first < STRIPE ? s->nr - first : STRIPE;
		watch(w, "waits for a region", s->addr);
		pthread_rwlock_rdlock(&p->calls);
		shadow_lock(s, first);
		watch(w, "saves", shadow_page(s, first));
		error = ovc_vm_read(p->vm, shadow_page(s, first), copy,
				    nr * PAGE);
		if (error)
			fail("read", error);
		for (size_t i = 0; !error && i < nr; i++)
			if (!shadow_verify_copy(s, first + i, copy + i * PAGE))
				atomic_fetch_add(&failures, 1);
		shadow_unlock(s, first);
		pthread_rwlock_unlock(&p->calls);
	}
	watch_leave(w);
	return arg;
}

unsigned actors(void *(*fn[ACTORS])(void *arg))
{
	unsigned n = 0;

	if (o.compact)
		fn[n++] = compacts;
	if (o.pageout)
		fn[n++] = pages_out;
	if (o.snapshot)
		fn[n++] = snapshots;
	return n;
}

/* ---- what they need, and what they did ------------------------------------- */

static bool has_swap(void)
{
	FILE *f = fopen("/proc/swaps", "re");
	unsigned lines = 0;
	int c;

	while (f && (c = fgetc(f)) != EOF)
		lines += c == '\n';
	if (f)
		fclose(f);
	return lines > 1;
}

const char *actors_lack(void)
{
	if (o.compact && access(COMPACT, W_OK))
		return "the kernel does not compact, or not for us";
	if (o.pageout && !has_swap())
		return "the host has no swap: see tests/stress/apart";
	moved_before = kernel_count("pgmigrate_success");
	swapped_before = kernel_count("pswpout");
	ovc_sys_slow_down(o.slow_us);
	return NULL;
}

const char *actors_idle(void)
{
	uint64_t moved = kernel_count("pgmigrate_success") - moved_before;
	uint64_t swapped = kernel_count("pswpout") - swapped_before;

	if (o.compact)
		printf("stress: the kernel moved %llu pages\n",
		       (unsigned long long)moved);
	if (o.pageout)
		printf("stress: the host swapped %llu pages\n",
		       (unsigned long long)swapped);
	if (o.compact && !moved)
		return "the kernel moved no page";
	if (o.pageout && !swapped)
		return "the host swapped no page";
	return NULL;
}
