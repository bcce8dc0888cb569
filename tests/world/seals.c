/* SPDX-License-Identifier: MIT */
/* Memfds that are sealed: nothing of one that is sealed against writing can be freed. */
#include "world.h"

#include <fcntl.h>
#include <sys/mman.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define BUDGET (48 * MIB)
#define LEN    (80 * MIB)
#define PAGES  (LEN / PAGE)

static struct world w;

static char *sealable(int *fd)
{
	char *mem;

	*fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	cr_assert(*fd > 0 && !ftruncate(*fd, LEN));
	mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	cr_assert_neq(mem, MAP_FAILED);
	return mem;
}

static int add(char *mem, int fd)
{
	struct ovc_region_options o = {
		.size = sizeof(o), .addr = mem, .len = LEN, .memfd = fd
	};

	return ovc_vm_add_region(w.vm, &o);
}

Test(seals, a_memfd_that_is_sealed_against_writing_is_refused)
{
	int fd;
	char *mem = sealable(&fd);

	world_open(&w, (struct plan){ 0 });
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE))
		cr_skip_test("F_SEAL_FUTURE_WRITE: %s", strerror(errno));
	expect_error("sealed", add(mem, fd), -EINVAL, "sealed");
	world_close(&w, OVC_THROW_AWAY);
}

Test(seals, one_whose_size_is_sealed_is_overcommitted)
{
	int fd;
	char *mem = sealable(&fd);

	cr_assert_eq(fcntl(fd, F_ADD_SEALS,
			   F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
		     0);
	world_open(&w, (struct plan){ .budget = BUDGET });
	cr_assert_eq(add(mem, fd), 0, "%s", ovc_error());
	fill_pages(mem, 0, PAGES, 1);
	cr_assert_gt(vm_stats(&w).swapped, 0);
	cr_assert_eq(check_pages(mem, 0, PAGES, 1), -1);
	world_close(&w, OVC_THROW_AWAY);
}

/* Not written again and again, told a few times, and counted. */
Test(seals, one_that_is_sealed_later_rests)
{
	struct ovc_vm_stats s;
	int fd;
	char *mem = sealable(&fd);

	world_open(&w, (struct plan){ .budget = 512 * MIB });
	cr_assert_eq(add(mem, fd), 0, "%s", ovc_error());
	fill_pages(mem, 0, PAGES, 1);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE))
		cr_skip_test("F_SEAL_FUTURE_WRITE: %s", strerror(errno));
	cr_assert_eq(ovc_host_set_budget(w.host, BUDGET), 0);
	sleep(4);
	s = vm_stats(&w);
	cr_assert_eq(s.untaken[OVC_UNTAKEN_SEALED], LEN);
	cr_assert_eq(s.refused_with, EPERM);
	cr_assert_lt(s.swap_out_bytes, LEN, "%zu MiB were written",
		     (size_t)s.swap_out_bytes >> 20);
	cr_assert(world_count_events(&w, OVC_EVENT_MEMORY_FAILED) <= 5);
	cr_assert_eq(check_pages(mem, 0, PAGES, 1), -1);
	world_close(&w, OVC_THROW_AWAY);
}
