#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Linux 6.12: PAGEMAP_SCAN fails with EPERM, and has done half of its work.
#
# PM_SCAN_CHECK_WPASYNC makes PAGEMAP_SCAN refuse a range that is not all of it
# tracked by an asynchronous write-protecting userfaultfd. The check is made while
# it walks: what comes before the mapping that fails has been protected already,
# and is "not written" from then on. A program that takes the error for "nothing
# was done" loses the record of what was written there.
. "$(dirname "$0")/common/common.sh"

package linux-image-6.12.117+deb12-cloud-amd64=6.12.117-1~deb12u1
package busybox-static=1:1.35.0-4+deb12u1+b1

boot 6.12.117+deb12-cloud-amd64 <<'END'
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/userfaultfd.h>

#define PAGE 4096
#define FEATURE_WP_UNPOPULATED (1 << 13)
#define FEATURE_WP_ASYNC (1 << 15)
#define PAGE_IS_WRITTEN (1 << 1)
#define WP_MATCHING (1 << 0)
#define CHECK_WPASYNC (1 << 1)
struct page_region { uint64_t start, end, categories; };
struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof, returned;
};
#define SCAN _IOWR('f', 16, struct scan)

static void look(const char *what, char *memory, int pages, int flags)
{
	unsigned long addr = (unsigned long)memory;
	struct page_region region[8] = { 0 };
	struct scan scan = { sizeof(scan), flags, addr, addr + pages * PAGE,
			     .vec = (unsigned long)region, .vec_len = 8,
			     .mask = PAGE_IS_WRITTEN,
			     .returned = PAGE_IS_WRITTEN };
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	int found = ioctl(pagemap, SCAN, &scan);

	if (found < 0)
		printf("%s: %s\n", what, strerror(errno));
	else
		printf("%s: %d pages written\n", what,
		       (int)((region[0].end - region[0].start) / PAGE));
	close(pagemap);
}

int main(void)
{
	struct uffdio_api api = { UFFD_API,
				  FEATURE_WP_ASYNC | FEATURE_WP_UNPOPULATED };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_WP };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	char *memory = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	reg.range = (struct uffdio_range){ (unsigned long)memory, 4 * PAGE };
	if (ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		return 1;
	memset(memory, 1, 8 * PAGE);

	look("the tracked half", memory, 4, 0);
	look("protect all", memory, 8, WP_MATCHING | CHECK_WPASYNC);
	look("the tracked half", memory, 4, 0);
	return 0;
}
END

compare "a call that is refused has changed nothing" <<'END'
the tracked half: 4 pages written
protect all: Operation not permitted
the tracked half: 0 pages written
END
