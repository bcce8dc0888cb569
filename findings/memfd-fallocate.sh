#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Linux 6.12: memory that fallocate() gave a memfd is in use, but hard to see.
#
# fallocate() on a memfd takes the pages at once. Until each is read or written
# for the first time, though, mincore() calls them absent and lseek(SEEK_DATA) a
# hole: only st_blocks and the machine's free memory show them. A program
# that asks mincore() or SEEK_DATA what a guest holds misses all that was
# preallocated. Reading is enough to make a page visible.
. "$(dirname "$0")/common/common.sh"

package linux-image-6.12.117+deb12-cloud-amd64=6.12.117-1~deb12u1
package busybox-static=1:1.35.0-4+deb12u1+b1

boot 6.12.117+deb12-cloud-amd64 <<'END'
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096
#define SIZE (64 << 20)

static long shmem(void) /* KiB that the machine has given to shared memory */
{
	char line[128];
	long kib = 0;
	FILE *file = fopen("/proc/meminfo", "r");

	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Shmem: %ld", &kib) == 1)
			break;
	fclose(file);
	return kib;
}

/* The kernel counts in batches, so that a few pages may be missing. */
static long mib(long kib)
{
	return (kib + 512) / 1024;
}

static void look(const char *what, int fd, char *memory, long before)
{
	static unsigned char core[SIZE / PAGE];
	struct stat st;
	long i, present = 0, data;

	fstat(fd, &st);
	mincore(memory, SIZE, core);
	for (i = 0; i < SIZE / PAGE; i++)
		present += core[i] & 1;
	data = lseek(fd, 0, SEEK_DATA);
	printf("%s: Shmem %ld MiB, st_blocks %ld MiB, mincore %ld MiB, "
	       "SEEK_DATA: %s\n", what, mib(shmem() - before),
	       mib(st.st_blocks / 2), mib(present * 4),
	       data < 0 ? "a hole" : "data");
}

int main(void)
{
	long at, before = shmem();
	int fd = memfd_create("memory", 0), touched = 0;
	char *memory;

	ftruncate(fd, SIZE);
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	look("new", fd, memory, before);
	if (fallocate(fd, 0, 0, SIZE))
		return 1;
	look("fallocate", fd, memory, before);
	for (at = 0; at < SIZE; at += PAGE)
		touched += ((volatile char *)memory)[at];
	look("read", fd, memory, before);
	return touched;
}
END

compare "mincore() finds the pages that are in memory" <<'END'
new: Shmem 0 MiB, st_blocks 0 MiB, mincore 0 MiB, SEEK_DATA: a hole
fallocate: Shmem 64 MiB, st_blocks 64 MiB, mincore 0 MiB, SEEK_DATA: a hole
read: Shmem 64 MiB, st_blocks 64 MiB, mincore 64 MiB, SEEK_DATA: data
END
