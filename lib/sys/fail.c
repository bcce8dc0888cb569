/* SPDX-License-Identifier: MIT */
/*
 * A countdown that makes one system call fail: see fail.h. Compiled into the
 * library's test build only. Any thread may trip it; it trips once.
 */
#include "sys/fail.h"

#include <stdatomic.h>
#include <stddef.h>

#ifdef OVC_FAULT_INJECTION
static atomic_ulong seen;
static atomic_ulong target;
static atomic_int injected_error;
static const char *_Atomic tripped;

int ovc_sys_fail(const char *what)
{
	unsigned long n = atomic_fetch_add(&seen, 1) + 1;

	if (n != atomic_load(&target))
		return 0;
	atomic_store(&tripped, what);
	return -atomic_load(&injected_error);
}

void ovc_sys_fail_nth(unsigned long n, int error)
{
	atomic_store(&target, 0);
	atomic_store(&tripped, NULL);
	atomic_store(&injected_error, error);
	atomic_store(&seen, 0);
	atomic_store(&target, n);
}

unsigned long ovc_sys_fail_seen(void)
{
	return atomic_load(&seen);
}

const char *ovc_sys_fail_what(void)
{
	return atomic_load(&tripped);
}

static atomic_ulong slow_us;

void ovc_sys_slow_down(unsigned long us)
{
	atomic_store(&slow_us, us);
}

unsigned long ovc_sys_slow(void)
{
	return atomic_load(&slow_us);
}

static void (*_Atomic preempt)(enum ovc_preempt at, uint64_t pos);

void ovc_sys_preempt(enum ovc_preempt at, uint64_t pos)
{
	void (*fn)(enum ovc_preempt, uint64_t) = atomic_load(&preempt);

	if (fn)
		fn(at, pos);
}

void ovc_sys_preempt_set(void (*fn)(enum ovc_preempt at, uint64_t pos))
{
	atomic_store(&preempt, fn);
}
#endif
