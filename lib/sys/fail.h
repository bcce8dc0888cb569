/* SPDX-License-Identifier: MIT */
/*
 * Failure injection for the library's own tests. Every file of sys/ asks
 * ovc_sys_fail() before a system call that may fail, and returns what it says.
 * In the library that is installed the question costs nothing: it is 0. So it is with
 * ovc_sys_preempt(), which stops a thread where another may overtake it.
 */
#ifndef OVC_SYS_FAIL_H
#define OVC_SYS_FAIL_H

#include <stdint.h>

#ifdef OVC_FAULT_INJECTION
/* 0, or the negative errno with which the call `what` shall fail now. */
int ovc_sys_fail(const char *what);

/* Fails the n-th call from now on (1 is the next) with -error; 0 disarms. */
void ovc_sys_fail_nth(unsigned long n, int error);

/* Calls asked about since the last ovc_sys_fail_nth(), and the name of the one
 * that failed, NULL where none did. */
unsigned long ovc_sys_fail_seen(void);
const char *ovc_sys_fail_what(void);

/* From now on each read and write of swap that the stand-in for io_uring does takes so
 * many microseconds longer. */
void ovc_sys_slow_down(unsigned long us);
unsigned long ovc_sys_slow(void);

/* Places where a thread may be preempted, and tests preempt it. */
enum ovc_preempt {
	OVC_PREEMPT_FAULT, /* the message about that page of its region was read */
	OVC_PREEMPT_DISCARD, /* the staged page of that position is DROPPING */
};

/* Calls what a test has set. */
void ovc_sys_preempt(enum ovc_preempt at, uint64_t pos);
void ovc_sys_preempt_set(void (*fn)(enum ovc_preempt at, uint64_t pos));
#else
static inline int ovc_sys_fail(const char *what)
{
	(void)what;
	return 0;
}

#define ovc_sys_preempt(at, pos) ((void)(pos))
#define ovc_sys_slow()		 0ul
#endif

#endif
