#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Linux 6.12: pages are "swapped" where there is no swap.
#
# A page that is write-protected through userfaultfd and is then unmapped, or was
# never there, leaves a marker in the page table. The kernel keeps markers in the
# form of swap entries, and both pagemap's bit 62 and PAGEMAP_SCAN's
# PAGE_IS_SWAPPED call them swapped. Only the swap type in the low five bits of the
# pagemap word (31, of no swap device) tells them apart, which PAGEMAP_SCAN does
# not hand out. mincore() says 0 for both.
. "$(dirname "$0")/common/common.sh"

package linux-image-6.12.117+deb12-cloud-amd64=6.12.117-1~deb12u1
package busybox-static=1:1.35.0-4+deb12u1+b1

# Swap is switched on for the last line only.
tools mkswap
truncate -s 16M "$WORK/swap"
mkswap -q "$WORK/swap"
boot 6.12.117+deb12-cloud-amd64 virtio_blk -- \
	-drive "file=$WORK/swap,if=virtio,format=raw" <<'END'
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/userfaultfd.h>

#define PAGE 4096
#define FEATURE_WP_UNPOPULATED (1 << 13)
#define PAGE_IS_SWAPPED (1 << 4)
struct page_region { uint64_t start, end, categories; };
struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof, returned;
};
#define SCAN _IOWR('f', 16, struct scan)

static int uffd, pagemap;

static void protect(char *page)
{
	struct uffdio_range range = { (unsigned long)page, PAGE };
	struct uffdio_register reg = { range, UFFDIO_REGISTER_MODE_WP };
	struct uffdio_writeprotect wp = { range, UFFDIO_WRITEPROTECT_MODE_WP };

	if (ioctl(uffd, UFFDIO_REGISTER, &reg) ||
	    ioctl(uffd, UFFDIO_WRITEPROTECT, &wp))
		perror("write-protect");
}

static void look(const char *what, char *page)
{
	unsigned long addr = (unsigned long)page;
	struct page_region region = { 0 };
	struct scan scan = { sizeof(scan), .start = addr, .end = addr + PAGE,
			     .vec = (unsigned long)&region, .vec_len = 1,
			     .mask = PAGE_IS_SWAPPED, .returned = PAGE_IS_SWAPPED };
	uint64_t word = 0;
	int found = ioctl(pagemap, SCAN, &scan);

	pread(pagemap, &word, 8, addr / PAGE * 8);
	printf("%s: PAGEMAP_SCAN %s, pagemap %s", what,
	       found ? "swapped" : "not swapped",
	       word >> 62 & 1 ? "swapped" : "not swapped");
	if (word >> 62 & 1)
		printf(", of type %d", (int)(word & 31));
	printf("\n");
}

int main(void)
{
	struct uffdio_api api = { UFFD_API, FEATURE_WP_UNPOPULATED |
				  UFFD_FEATURE_WP_HUGETLBFS_SHMEM };
	int prot = PROT_READ | PROT_WRITE, fd = memfd_create("memory", 0);
	char *page;

	pagemap = open("/proc/self/pagemap", O_RDONLY);
	uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	ioctl(uffd, UFFDIO_API, &api);

	ftruncate(fd, PAGE);
	page = mmap(NULL, PAGE, prot, MAP_SHARED, fd, 0);
	page[0] = 1;
	protect(page);
	look("a memfd's page", page);
	madvise(page, PAGE, MADV_DONTNEED);
	look("the same, unmapped", page);
	page = mmap(NULL, PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	protect(page);
	look("memory that nobody touched", page);

	page = mmap(NULL, PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	page[0] = 1;
	if (swapon("/dev/vda", 0) || madvise(page, PAGE, MADV_PAGEOUT))
		return 1;
	look("a page that is swapped", page);
	return 0;
}
END

compare "without a swap device nothing is swapped" <<'END'
a memfd's page: PAGEMAP_SCAN not swapped, pagemap not swapped
the same, unmapped: PAGEMAP_SCAN swapped, pagemap swapped, of type 31
memory that nobody touched: PAGEMAP_SCAN swapped, pagemap swapped, of type 31
a page that is swapped: PAGEMAP_SCAN swapped, pagemap swapped, of type 0
END
