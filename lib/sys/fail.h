/* SPDX-License-Identifier: MIT */
/*
 * Failure injection for the library's own tests. Every file of sys/ asks
 * ovc_sys_fail() before a system call that may fail, and returns what it says.
 * In the library that is installed the question costs nothing: it is 0.
 */
#ifndef OVC_SYS_FAIL_H
#define OVC_SYS_FAIL_H

#ifdef OVC_FAULT_INJECTION
/* 0, or the negative errno with which the call `what` shall fail now. */
int ovc_sys_fail(const char *what);

/* Fails the n-th call from now on (1 is the next) with -error; 0 disarms. */
void ovc_sys_fail_nth(unsigned long n, int error);

/* Calls asked about since the last ovc_sys_fail_nth(), and the name of the one
 * that failed, NULL where none did. */
unsigned long ovc_sys_fail_seen(void);
const char *ovc_sys_fail_what(void);
#else
static inline int ovc_sys_fail(const char *what)
{
	(void)what;
	return 0;
}
#endif

#endif
