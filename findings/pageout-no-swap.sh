#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Linux 6.12: MADV_PAGEOUT where there is no swap.
#
# Without a swap device MADV_PAGEOUT can free neither anonymous memory nor a
# memfd's. It says success for both. For a memfd it takes the pages out of the page
# table nevertheless: Rss falls to nothing, while the machine has not got one
# page back. A test that looks at Rss to see whether reclaim works
# sees it work.
. "$(dirname "$0")/common/common.sh"

package linux-image-6.12.117+deb12-cloud-amd64=6.12.117-1~deb12u1
package busybox-static=1:1.35.0-4+deb12u1+b1

boot 6.12.117+deb12-cloud-amd64 <<'END'
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (1 << 20)
#define SIZE (64 * MIB)

static long field(const char *path, const char *name)
{
	char line[128];
	long kib = 0;
	FILE *file = fopen(path, "r");

	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			sscanf(line + strlen(name), ": %ld", &kib);
	fclose(file);
	return kib;
}

/* The kernel counts in batches, so that a few pages may be missing. */
static long mib(long kib)
{
	return (kib + 512) / 1024;
}

static void page_out(const char *rss, const char *counter, int fd)
{
	long before = field("/proc/meminfo", counter);
	long rss_before = field("/proc/self/status", rss);
	char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, fd < 0 ?
			    MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
	int i, result;

	memset(memory, 1, SIZE);
	for (i = 0; i < 2; i++) {
		printf("%s %ld MiB, the machine's %s %ld MiB\n", rss,
		       mib(field("/proc/self/status", rss) - rss_before),
		       counter, mib(field("/proc/meminfo", counter) - before));
		if (i)
			break;
		result = madvise(memory, SIZE, MADV_PAGEOUT);
		printf("MADV_PAGEOUT: %s\n", result ? "fails" : "success");
	}
	munmap(memory, SIZE);
}

int main(void)
{
	int fd = memfd_create("memory", 0);

	ftruncate(fd, SIZE);
	printf("a memfd\n");
	page_out("RssShmem", "Shmem", fd);
	printf("anonymous memory\n");
	page_out("RssAnon", "AnonPages", -1);
	return 0;
}
END

compare "what is no longer in Rss is free, or the call fails" <<'END'
a memfd
RssShmem 64 MiB, the machine's Shmem 64 MiB
MADV_PAGEOUT: success
RssShmem 0 MiB, the machine's Shmem 64 MiB
anonymous memory
RssAnon 64 MiB, the machine's AnonPages 64 MiB
MADV_PAGEOUT: success
RssAnon 64 MiB, the machine's AnonPages 64 MiB
END
