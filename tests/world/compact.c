/* SPDX-License-Identifier: MIT */
/*
 * The kernel moves pages, as it does whenever it wants larger pieces of free memory: for
 * some microseconds there is a page whose frame is nowhere to be seen.
 */
#include "world.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define NR (128 * MIB / PAGE)

TestSuite(compact, .timeout = 120);

static _Atomic int compacting;

static void *compact(void *arg)
{
	int fd = open("/proc/sys/vm/compact_memory", O_WRONLY | O_CLOEXEC);

	(void)arg;
	if (fd >= 0 && write(fd, "1", 1) != 1)
		perror("compact_memory");
	close(fd);
	atomic_store(&compacting, 0);
	return NULL;
}

/* Reads all pages again and again while the kernel compacts. Returns how many were wrong. */
static uint64_t read_meanwhile(struct world *w)
{
	_Alignas(4096) char page[PAGE];
	uint64_t wrong = 0;
	pthread_t t;

	atomic_store(&compacting, 1);
	cr_assert_eq(pthread_create(&t, NULL, compact, NULL), 0);
	for (uint64_t i = 0; atomic_load(&compacting); i = (i + 1) % NR) {
		cr_assert_eq(ovc_vm_read(w->vm, w->mem + i * PAGE, page, PAGE),
			     0, "%s", ovc_error());
		wrong += !is_page(page, i, 1);
	}
	pthread_join(t, NULL);
	return wrong;
}

/* Makes holes between pages, so that there is something to compact. */
static void scatter(char *mem, size_t len)
{
	for (size_t at = 0; at < len; at += 2 * PAGE)
		mem[at] = mem[at + PAGE] = 1;
	for (size_t at = 0; at < len; at += 2 * PAGE)
		madvise(mem + at, PAGE, MADV_DONTNEED);
}

static void read_while_moved(struct world *w, enum kind kind)
{
	uint64_t wrong = 0;
	int none;
	char *other = map_memory(ANON, 2 * NR * PAGE, &none);

	for (unsigned round = 0; round < 5; round++) {
		scatter(other, 2 * NR * PAGE);
		/* Protected: clean, since they came back and were only read. */
		cr_assert_eq(ovc_vm_reclaim(w->vm, w->mem, w->len), 0);
		for (uint64_t i = 0; i < NR; i++)
			(void)*(volatile char *)(w->mem + i * PAGE);
		wrong += read_meanwhile(w);
	}
	munmap(other, 2 * NR * PAGE);
	cr_assert_eq(wrong, 0, "kind %d: %llu pages", kind,
		     (unsigned long long)wrong);
	cr_assert_eq(check_pages(w->mem, 0, NR, 1), -1);
}

ParameterizedTestParameters(compact, a_page_that_is_being_moved_is_read_right)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, compact,
		  a_page_that_is_being_moved_is_read_right)
{
	struct world w;

	machine_lock();
	if (access("/proc/sys/vm/compact_memory", W_OK))
		cr_skip_test("this kernel does not compact");
	world_open(&w, (struct plan){ .way = *way,
				      .budget = 512 * MIB,
				      .len = NR * PAGE });
	fill_pages(w.mem, 0, NR, 1);
	read_while_moved(&w, way->kind);
	world_close(&w, OVC_THROW_AWAY);
}
