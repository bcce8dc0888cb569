#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Linux 6.12: one userfaultfd fault with a signal pending makes message on message.
#
# A thread that faults in user mode when a signal is pending handles the signal and
# faults again. One that faults inside read() cannot: it neither sleeps nor returns,
# but repeats its fault, each time with a new message, and takes a CPU until the page
# is there. A handler that queues work for each message, or counts faults by
# messages, should look first whether the page is on its way.
. "$(dirname "$0")/common/common.sh"

package linux-image-6.12.117+deb12-cloud-amd64=6.12.117-1~deb12u1
package busybox-static=1:1.35.0-4+deb12u1+b1

boot 6.12.117+deb12-cloud-amd64 <<'END'
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096

static int uffd, zero;
static char *memory;

static void on_signal(int number)
{
}

static void *touch(void *arg)
{
	((volatile char *)memory)[0] = 1;
	return NULL;
}

static void *read_into(void *arg)
{
	if (read(zero, memory + PAGE, 1) != 1)
		perror("read");
	return NULL;
}

/* Until there are 20, or none has come for two seconds. */
static int messages(void)
{
	struct pollfd ready = { uffd, POLLIN };
	struct uffd_msg message;
	int count = 0;

	while (count < 20 && poll(&ready, 1, 2000) > 0)
		if (read(uffd, &message, sizeof(message)) > 0)
			count++;
	return count;
}

static const char *cpu_of_a_second(pthread_t thread)
{
	struct timespec begin, end;
	clockid_t clock;

	pthread_getcpuclockid(thread, &clock);
	clock_gettime(clock, &begin);
	sleep(1);
	clock_gettime(clock, &end);
	end.tv_nsec += (end.tv_sec - begin.tv_sec) * 1000000000L - begin.tv_nsec;
	return end.tv_nsec > 200000000 ? "takes a CPU" : "sleeps";
}

static void fault(const char *what, void *(*function)(void *), char *page)
{
	struct uffdio_zeropage zeropage = { { (unsigned long)page, PAGE } };
	pthread_t thread;
	int i, count;

	pthread_create(&thread, NULL, function, NULL);
	for (i = 0; i < 2; i++) {
		count = messages();
		printf("%s, %s the signal: %d%s message%s, the thread %s\n",
		       what, i ? "after" : "before", count,
		       count < 20 ? "" : " and more", count == 1 ? "" : "s",
		       cpu_of_a_second(thread));
		if (!i)
			pthread_kill(thread, SIGUSR1);
	}
	ioctl(uffd, UFFDIO_ZEROPAGE, &zeropage);
	pthread_join(thread, NULL);
}

int main(void)
{
	struct uffdio_api api = { UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	signal(SIGUSR1, on_signal);
	zero = open("/dev/zero", O_RDONLY);
	memory = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	reg.range = (struct uffdio_range){ (unsigned long)memory, 2 * PAGE };
	if (ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		return 1;
	fault("store", touch, memory);
	fault("read()", read_into, memory + PAGE);
	return 0;
}
END

compare "one message for a fault, or two where a signal came between" <<'END'
store, before the signal: 1 message, the thread sleeps
store, after the signal: 1 message, the thread sleeps
read(), before the signal: 1 message, the thread sleeps
read(), after the signal: 20 and more messages, the thread takes a CPU
END
