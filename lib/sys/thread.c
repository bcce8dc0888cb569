/* SPDX-License-Identifier: MIT */
/*
 * eventfd, timerfd, epoll, affinity, the clock. Posting and clearing never block and
 * cannot fail in a way that matters: a full counter is readable, an empty one is clear.
 */
#include "sys/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "sys/fail.h"

int ovc_notify_create(void)
{
	int fd = ovc_sys_fail("eventfd");

	if (fd)
		return fd;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

void ovc_notify_post(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0)
		return; /* full: it is readable */
}

bool ovc_notify_clear(int fd)
{
	uint64_t n;

	return read(fd, &n, sizeof(n)) == (ssize_t)sizeof(n);
}

int ovc_timer_create(void)
{
	int fd = ovc_sys_fail("timerfd_create");

	if (fd)
		return fd;
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

void ovc_timer_set(int fd, int ms)
{
	struct itimerspec t = { 0 };

	if (!ms) /* at once; all zeros would be never */
		t.it_value.tv_nsec = 1;
	else if (ms > 0)
		t.it_value =
			(struct timespec){ .tv_sec = ms / 1000,
					   .tv_nsec = ms % 1000 * 1000000 };
	timerfd_settime(fd, 0, &t, NULL);
}

int ovc_poll_create(const int *fds, unsigned nr)
{
	struct epoll_event e = { .events = EPOLLIN };
	int error = ovc_sys_fail("epoll_create1"), fd;

	if (error)
		return error;
	fd = epoll_create1(EPOLL_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (unsigned i = 0; !error && i < nr; i++) {
		error = ovc_sys_fail("epoll_ctl");
		if (!error && epoll_ctl(fd, EPOLL_CTL_ADD, fds[i], &e))
			error = -errno;
	}
	if (error)
		close(fd);
	return error ? error : fd;
}

bool ovc_poll_first(const int *fds, unsigned nr, int ms)
{
	struct pollfd p[4] = { { .fd = fds[0], .events = POLLIN } };

	for (unsigned i = 1; i < nr && i < 4; i++)
		p[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	return poll(p, nr < 4 ? nr : 4, ms) > 0 && p[0].revents;
}

void ovc_fd_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

struct start {
	void *(*fn)(void *);
	void *arg;
	sem_t taken;
};

/* In a process that called mlockall(MCL_FUTURE) a stack is all memory, 8 MiB, at once: a
 * budget knows nothing of that. What is far below where we are was never used. */
#define STACK_KEPT ((size_t)256 << 10)

static void unlock_stack(void)
{
	pthread_attr_t attr;
	void *stack;
	size_t len;

	if (pthread_getattr_np(pthread_self(), &attr))
		return;
	if (!pthread_attr_getstack(&attr, &stack, &len)) {
		/* Not from its end: thread-local storage is there, of any size. */
		size_t below = (size_t)((char *)__builtin_frame_address(0) -
					(char *)stack);

		munlock(stack, len);
		if (below > STACK_KEPT)
			madvise(stack, (below - STACK_KEPT) & ~(size_t)4095,
				MADV_DONTNEED);
	}
	pthread_attr_destroy(&attr);
}

static void *begin(void *arg)
{
	struct start *s = arg;
	void *(*fn)(void *) = s->fn;
	void *own = s->arg;

	sem_post(&s->taken);
	unlock_stack();
	return fn(own);
}

int ovc_thread_start(pthread_t *thread, const char *name, void *(*fn)(void *),
		     void *arg)
{
	struct start s = { .fn = fn, .arg = arg };
	int error = ovc_sys_fail("pthread_create");
	sigset_t all, was;

	if (error)
		return error;
	sem_init(&s.taken, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	error = -pthread_create(thread, NULL, begin, &s);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	while (!error && sem_wait(&s.taken))
		; /* a signal */
	sem_destroy(&s.taken);
	if (!error)
		pthread_setname_np(*thread, name);
	return error;
}

void ovc_signal_hold(struct ovc_held_signal *held, int signal)
{
	sigset_t one, pending;

	held->signal = signal;
	sigemptyset(&one);
	sigaddset(&one, signal);
	held->before = sigpending(&pending) ||
		       sigismember(&pending, signal) == 1;
	pthread_sigmask(SIG_BLOCK, &one, &held->was);
}

void ovc_signal_release(const struct ovc_held_signal *held)
{
	const struct timespec now = { 0 };
	sigset_t one;

	sigemptyset(&one);
	sigaddset(&one, held->signal);
	if (!held->before)
		while (sigtimedwait(&one, NULL, &now) < 0 && errno == EINTR)
			;
	pthread_sigmask(SIG_SETMASK, &held->was, NULL);
}

void ovc_thread_bind(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static cpu_set_t allowed;

static void look_up(void)
{
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		CPU_ZERO(&allowed);
}

unsigned ovc_cpus(void)
{
	pthread_once(&once, look_up);
	return CPU_COUNT(&allowed) ? (unsigned)CPU_COUNT(&allowed) : 1;
}

int ovc_cpu(unsigned n)
{
	n %= ovc_cpus();
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET((unsigned)cpu, &allowed) && !n--)
			return cpu;
	return -1;
}

void ovc_thread_unbind(void)
{
	if (ovc_cpus() && CPU_COUNT(&allowed))
		sched_setaffinity(0, sizeof(allowed), &allowed);
}

void ovc_nap(unsigned round)
{
	const struct timespec nap = { .tv_nsec = 50000 };

	if (round < 8)
		sched_yield();
	else
		nanosleep(&nap, NULL);
}

int ovc_process(void)
{
	return getpid();
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t ovc_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t ovc_cpu_ns(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t ovc_process_cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

void ovc_thread_waits(const struct ovc_proc *proc, uint64_t *ran,
		      uint64_t *waited)
{
	unsigned long long a, b;
	char path[64], text[96];
	int fd;

	*ran = *waited = 0;
	snprintf(path, sizeof(path), "task/%d/schedstat", (int)gettid());
	fd = proc->self < 0 || ovc_sys_fail("open schedstat") ?
		     -1 :
		     openat(proc->self, path, O_RDONLY | O_CLOEXEC);
	if (ovc_proc_text(fd, "read schedstat", text, sizeof(text)) &&
	    sscanf(text, "%llu %llu", &a, &b) == 2) {
		*ran = a;
		*waited = b;
	}
	ovc_fd_close(fd);
}
