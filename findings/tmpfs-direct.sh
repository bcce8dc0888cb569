#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Linux 6.12 takes O_DIRECT on tmpfs, and ignores it; Linux 6.1 refused it.
#
# Programs that try O_DIRECT and go on without it when open() says EINVAL were
# tested on tmpfs, as was what they do about alignment. Since 6.6 open() succeeds
# there: such a test no longer comes by the fallback, and a program that
# reports "direct" because open() worked reports it of the page cache. One byte at
# an odd offset is written with no complaint. statx() helps as far as it does not
# answer when it is asked for the alignment of direct I/O.
. "$(dirname "$0")/common/common.sh"

package linux-image-6.1.0-50-cloud-amd64=6.1.176-1
package linux-image-6.12.117+deb12-cloud-amd64=6.12.117-1~deb12u1
package busybox-static=1:1.35.0-4+deb12u1+b1

cat >"$WORK/program.c" <<'END'
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void)
{
	struct statx st = { 0 };
	int fd = open("/tmp/file", O_RDWR | O_CREAT | O_DIRECT, 0600);

	printf("open: %s\n", fd < 0 ? strerror(errno) : "works");
	if (fd < 0)
		return 0;
	printf("one byte at offset 3: %s\n",
	       pwrite(fd, "x", 1, 3) == 1 ? "written" : strerror(errno));
	statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st);
	printf("STATX_DIOALIGN: %s\n", st.stx_mask & STATX_DIOALIGN ?
	       "answered" : "not answered");
	return 0;
}
END
for release in 6.1.0-50-cloud-amd64 6.12.117+deb12-cloud-amd64; do
	boot "$release" <"$WORK/program.c"
	{
		echo "Linux ${release%%[-+]*}"
		cat "$SEEN"
	} >>"$WORK/both"
done
mv "$WORK/both" "$SEEN"

compare "where open(O_DIRECT) works, I/O is direct" <<'END'
Linux 6.1.0
open: Invalid argument
Linux 6.12.117
open: works
one byte at offset 3: written
STATX_DIOALIGN: not answered
END
