#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Linux 6.12: a fork() that is long over still makes UFFDIO_MOVE refuse.
#
# UFFDIO_MOVE moves pages that belong to one process only. After a fork() whose
# child has exited that is true again, and each page is mapped once; but the kernel
# notices only when the page is written. Until then it says EBUSY, which reads like
# something that passes; it does not, however often one tries again. Whoever calls
# system() or popen() once has this in all of its memory.
. "$(dirname "$0")/common/common.sh"

package linux-image-6.12.117+deb12-cloud-amd64=6.12.117-1~deb12u1
package busybox-static=1:1.35.0-4+deb12u1+b1

boot 6.12.117+deb12-cloud-amd64 <<'END'
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/userfaultfd.h>

#define PAGE 4096
#define FEATURE_MOVE (1 << 16)
struct move { __u64 dst, src, len, mode; __s64 moved; };
#define MOVE _IOWR(UFFDIO, 5, struct move)

static char *source, *target;
static int uffd;

static void try_move(const char *when, int page)
{
	struct move move = { (unsigned long)target + page * PAGE,
			     (unsigned long)source + page * PAGE, PAGE };
	int i, result = -1;

	for (i = 0; result && i < 3; i++) {
		result = ioctl(uffd, MOVE, &move);
		usleep(result ? 100000 : 0);
	}
	printf("%s: %s\n", when, result ? strerror(errno) : "moved");
}

int main(void)
{
	struct uffdio_api api = { UFFD_API, FEATURE_MOVE };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	volatile char byte;

	source = mmap(NULL, 8 * PAGE, prot, flags, -1, 0);
	target = mmap(NULL, 8 * PAGE, prot, flags, -1, 0);
	memset(source, 1, 8 * PAGE);
	reg.range = (struct uffdio_range){ (unsigned long)target, 8 * PAGE };
	uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		return 1;

	try_move("never forked", 0);
	if (!fork())
		_exit(0);
	wait(NULL);
	try_move("the child is gone", 1);
	byte = source[2 * PAGE];
	(void)byte;
	try_move("the page was read since", 2);
	source[3 * PAGE] = 1;
	try_move("the page was written since", 3);
	madvise(source + 4 * PAGE, PAGE, MADV_POPULATE_WRITE);
	try_move("MADV_POPULATE_WRITE since", 4);
	return 0;
}
END

compare "a page that only one process has can be moved" <<'END'
never forked: moved
the child is gone: Device or resource busy
the page was read since: Device or resource busy
the page was written since: moved
MADV_POPULATE_WRITE since: moved
END
