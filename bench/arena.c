/* SPDX-License-Identifier: MIT */
/*
 * Memory for the trials: private anonymous or a memfd, on a 2 MiB boundary,
 * filled with bytes that do not compress, and orders in which to go through it.
 *
 * Each page begins with arena_word() of its index, so that whoever touches it
 * later can tell whether it is still the page that it was.
 *
 * Failures are -errno of the mapping. Everything goes with the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define ALIGN (2 * MIB)

static int open_memfd(size_t len)
{
	int fd = memfd_create("ovc-bench", MFD_CLOEXEC);
	int err;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)len)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

int arena_map(struct arena *arena, size_t len, bool memfd)
{
	int flags = MAP_FIXED |
		    (memfd ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
	int fd = memfd ? open_memfd(len) : -1;
	char *room, *addr;

	if (memfd && fd < 0)
		return fd;
	room = mmap(NULL, len + ALIGN, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return -errno;
	addr = room + (-(uintptr_t)room & (ALIGN - 1));
	if (mmap(addr, len, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED)
		return -errno;
	if (addr > room)
		munmap(room, (size_t)(addr - room));
	if (addr < room + ALIGN)
		munmap(addr + len, (size_t)(room + ALIGN - addr));
	*arena = (struct arena){ addr, len, memfd ? fd : 0 };
	return 0;
}

void arena_unmap(struct arena *arena)
{
	if (arena->addr)
		munmap(arena->addr, arena->len);
	if (arena->memfd)
		close(arena->memfd);
	*arena = (struct arena){ 0 };
}

int arena_drop(const struct arena *arena, size_t at, size_t len)
{
	int error = madvise(arena->addr + at, len, MADV_DONTNEED);

	if (!error && arena->memfd)
		error = fallocate(arena->memfd,
				  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  (off_t)at, (off_t)len);
	return error;
}

/* splitmix64: never 0 for the indices that there are. */
uint64_t arena_word(size_t idx)
{
	uint64_t x = (uint64_t)idx + 0x9e3779b97f4a7c15u;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

void page_fill(void *page, size_t id)
{
	uint64_t *word = page;
	uint64_t state = arena_word(id);

	word[0] = state;
	for (size_t i = 1; i < PAGE / sizeof(*word); i++)
		word[i] = xorshift(&state);
}

bool page_is(const void *page, size_t id)
{
	const uint64_t *word = page;
	uint64_t state = arena_word(id);
	uint64_t wrong = word[0] ^ state;

	for (size_t i = 1; i < PAGE / sizeof(*word); i++)
		wrong |= word[i] ^ xorshift(&state);
	return !wrong;
}

void arena_fill(const struct arena *arena)
{
	for (size_t idx = 0; idx < arena->len / PAGE; idx++)
		page_fill(arena_page(arena, idx), idx);
}

void warm_frames(size_t len)
{
	char *addr = mmap(NULL, len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		return;
	for (size_t at = 0; at < len; at += PAGE)
		*(volatile char *)(addr + at) = 1;
	munmap(addr, len);
}

uint32_t *shuffled(size_t nr)
{
	uint32_t *order = malloc(nr * sizeof(*order));
	uint64_t state = 88172645463325252u;

	if (!order)
		return NULL;
	for (size_t i = 0; i < nr; i++)
		order[i] = (uint32_t)i;
	for (size_t i = nr; i > 1; i--) {
		size_t other = xorshift(&state) % i;
		uint32_t swap = order[i - 1];

		order[i - 1] = order[other];
		order[other] = swap;
	}
	return order;
}

uint32_t *shuffled_runs(size_t first, size_t nr, size_t unit)
{
	uint32_t *run = shuffled(nr / unit);
	uint32_t *order = run ? malloc(nr * sizeof(*order)) : NULL;

	for (size_t i = 0; order && i < nr; i++)
		order[i] = (uint32_t)(first + run[i / unit] * unit + i % unit);
	free(run);
	return order;
}
