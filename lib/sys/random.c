/* SPDX-License-Identifier: MIT */
/* getrandom(2), which for so few bytes gives all or, early at boot, waits. */
#include "sys/random.h"

#include <errno.h>
#include <sys/random.h>

#include "sys/fail.h"

int ovc_random(void *to, size_t len)
{
	int error = ovc_sys_fail("getrandom");
	ssize_t got;

	if (error)
		return error;
	do {
		got = getrandom(to, len, 0);
	} while (got < 0 && errno == EINTR);
	if (got == (ssize_t)len)
		return 0;
	return got < 0 ? -errno : -EIO;
}
