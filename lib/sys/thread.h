/* SPDX-License-Identifier: MIT */
/*
 * What threads need of the kernel besides pthreads: eventfds to wake each other, CPUs
 * to run on, naps, the time.
 */
#ifndef OVC_SYS_THREAD_H
#define OVC_SYS_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "sys/proc.h"

/* An eventfd: readable from ovc_notify_post() to ovc_notify_clear(). */
int ovc_notify_create(void);
void ovc_notify_post(int fd);
bool ovc_notify_clear(int fd); /* was it readable? */

/* A timer's descriptor, readable `ms` milliseconds from when it was set; ms < 0:
 * never. */
int ovc_timer_create(void);
void ovc_timer_set(int fd, int ms);

/* One descriptor that is readable when one of nr others is. */
int ovc_poll_create(const int *fds, unsigned nr);

/* Waits until one of up to 4 descriptors is readable (-1 is none), or for `ms`
 * milliseconds; ms < 0: for ever. Is the first one? */
bool ovc_poll_first(const int *fds, unsigned nr, int ms);

void ovc_fd_close(int fd); /* -1: nothing */

/* Starts a thread that blocks all signals: they are the program's, and a handler that
 * touches guest memory on the thread that serves it would wait for itself. 0 or
 * -errno. */
int ovc_thread_start(pthread_t *thread, const char *name, void *(*fn)(void *),
		     void *arg);

/* Holds back a signal that a system call sends to its own thread (SIGXFSZ, SIGPIPE): one
 * that came meanwhile is gone afterwards. For threads that are not the library's. */
struct ovc_held_signal {
	sigset_t was;
	int signal;
	bool before; /* it was pending already: not ours to take away */
};
void ovc_signal_hold(struct ovc_held_signal *held, int signal);
void ovc_signal_release(const struct ovc_held_signal *held);

/* Binds the calling thread to a CPU; where that is refused it runs anywhere, which
 * is slower and not wrong. */
void ovc_thread_bind(int cpu);
/* The same with all CPUs that the process may use. */
void ovc_thread_unbind(void);

/* How many CPUs the process could use when it first asked, and the n-th of them
 * (they repeat). */
unsigned ovc_cpus(void);
int ovc_cpu(unsigned n);

/* Lets others run: the longer the higher `round`. */
void ovc_nap(unsigned round);

int ovc_process(void);	   /* its id */
uint64_t ovc_now_ns(void); /* CLOCK_MONOTONIC */
uint64_t ovc_cpu_ns(void); /* that the calling thread has used */
uint64_t ovc_process_cpu_ns(void);

/* For how long the calling thread ran, and waited for a CPU, since it began; 0 where the
 * kernel does not tell. */
void ovc_thread_waits(const struct ovc_proc *proc, uint64_t *ran,
		      uint64_t *waited);

#endif
