/* SPDX-License-Identifier: MIT */
/*
 * A VM whose disk does not answer can be ended, and so can its host; calls on other VMs
 * do not wait for it. The disk is a file system that is frozen: it takes writes, and is
 * silent.
 */
#include "world.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define LEN    (64 * MIB)
#define BUDGET (32 * MIB)

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct world w;
static atomic_bool stop;

/* Ends with the process: it may wait for a page of the dead disk for ever. */
static void *guest(void *arg)
{
	(void)arg;
	for (uint64_t i = 0; !stop; i++)
		make_page(w.mem + i % (LEN / PAGE) * PAGE, i, 1);
	return NULL;
}

static int took(const char *what, double since, double most)
{
	double s = seconds() - since;

	if (s <= most * PATIENCE)
		return 0;
	fprintf(stderr, "%s took %.1f s\n", what, s);
	return 1;
}

static int end_with_a_dead_disk(void *arg)
{
	struct ovc_vm *other;
	pthread_t thread;
	int fd, bad = 0;
	double at;

	world_open(&w,
		   (struct plan){ .budget = BUDGET, .len = LEN, .swap = arg });
	if (ovc_vm_create(w.host, NULL, &other))
		return 2;
	pthread_create(&thread, NULL, guest, NULL);
	sleep(1);
	fd = open(arg, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, FIFREEZE, 0))
		return 3;
	sleep(2);
	at = seconds();
	vm_stats(&w);
	bad |= took("ovc_vm_stats()", at, 1);
	at = seconds();
	if (ovc_vm_remove_region(w.vm, w.mem, OVC_THROW_AWAY))
		bad = 4;
	bad |= took("ovc_vm_remove_region()", at, 10);
	at = seconds();
	ovc_vm_destroy(&w.vm, OVC_THROW_AWAY);
	bad |= took("ovc_vm_destroy()", at, 10);
	at = seconds();
	ovc_host_destroy(&w.host);
	bad |= took("ovc_host_destroy()", at, 20);
	ioctl(fd, FITHAW, 0);
	stop = true;
	_exit(bad);
}

TestSuite(deaddisk, .timeout = 120);

Test(deaddisk, a_vm_and_its_host_end_in_spite_of_it)
{
	const char *dir;

	need_userfaultfd();
	machine_lock();
	dir = machine_mount("ext4", 160, "-q -O ^has_journal");
	machine_undo("fsfreeze -u %s 2>/dev/null; true", dir);
	cr_assert_eq(in_child(end_with_a_dead_disk, (void *)(uintptr_t)dir, 60),
		     0);
}
