/* SPDX-License-Identifier: MIT */
/*
 * A block device as swap: a loop device over a file, which the kernel detaches by
 * itself when its last descriptor is closed. Needs root and /dev/loop-control.
 */
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#include "support.h"

TestSuite(device, .timeout = 60 * PATIENCE);

struct device {
	int fd;
	char path[32];
};

static int attach(int device, int backing)
{
	struct loop_info64 info = { .lo_flags = LO_FLAGS_AUTOCLEAR };

	if (ioctl(device, LOOP_SET_FD, backing))
		return -1;
	return ioctl(device, LOOP_SET_STATUS64, &info);
}

static struct device make_device(size_t bytes)
{
	struct device d = { .fd = -1 };
	int control, backing, nr;

	need_root();
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		cr_skip_test("no /dev/loop-control");
	backing = open(own_dir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	cr_assert(backing >= 0);
	cr_assert_eq(posix_fallocate(backing, 0, (off_t)bytes), 0);
	/* Somebody else may take the free one first. */
	for (int i = 0; i < 10 && d.fd < 0; i++) {
		nr = ioctl(control, LOOP_CTL_GET_FREE);
		snprintf(d.path, sizeof(d.path), "/dev/loop%d", nr);
		d.fd = nr < 0 ? -1 : open(d.path, O_RDWR | O_CLOEXEC);
		if (d.fd >= 0 && attach(d.fd, backing)) {
			close(d.fd);
			d.fd = -1;
		}
	}
	close(backing);
	close(control);
	if (d.fd < 0)
		cr_skip_test("no loop device can be had");
	return d;
}

static struct way ways[] = {
	{ ANON, 0 },
	{ MEMFD, 0 },
	{ ANON, OVC_FEATURE_IO_URING },
	{ ANON, OVC_FEATURE_DIRECT_IO },
};

ParameterizedTestParameters(device, pages_go_to_a_device_and_come_back)
{
	return cr_make_param_array(struct way, ways, 4);
}

ParameterizedTest(struct way *way, device, pages_go_to_a_device_and_come_back)
{
	struct device d = make_device(32 * MIB);
	uint64_t nr = 16 * MIB / PAGE;
	struct world w;

	world_open(&w, (struct plan){
			       .way = *way, .len = 16 * MIB, .swap = d.path });
	for (unsigned seed = 1; seed <= 3; seed++) {
		fill_pages(w.mem, 0, nr, seed);
		cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
		cr_assert_eq(vm_stats(&w).swapped, w.len);
		cr_assert_eq(check_pages(w.mem, 0, nr, seed), -1);
	}
	world_close(&w, 0);
	close(d.fd);
}

Test(device, a_device_that_is_too_small_keeps_the_rest_in_memory)
{
	struct device d = make_device(4 * MIB);
	uint64_t nr = 16 * MIB / PAGE;
	struct seen_event e;
	struct world w;

	world_open(&w, (struct plan){ .len = 16 * MIB, .swap = d.path });
	fill_pages(w.mem, 0, nr, 1);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), -ENOSPC);
	cr_assert(world_event(&w, OVC_EVENT_WRITE_FAILED, &e));
	cr_assert_eq(e.error, ENOSPC);
	cr_assert_leq(vm_stats(&w).swapped, 4 * MIB);
	cr_assert_eq(check_pages(w.mem, 0, nr, 1), -1);
	world_close(&w, 0);
	close(d.fd);
}

Test(device, swap_size_bounds_what_is_used_of_a_device)
{
	struct device d = make_device(32 * MIB);
	struct world w;

	world_open(&w, (struct plan){ .len = 16 * MIB,
				      .swap = d.path,
				      .swap_size = 2 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), -ENOSPC);
	cr_assert_leq(vm_stats(&w).swapped, 2 * MIB);
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 1), -1);
	world_close(&w, 0);
	close(d.fd);
}

Test(device, a_device_in_use_is_ebusy)
{
	struct device d = make_device(16 * MIB);
	struct ovc_vm_options o = { .size = sizeof(o), .swap = d.path };
	struct ovc_vm *vm = NULL;
	struct world w;

	world_open(&w, (struct plan){ .swap = d.path });
	expect_error("vm", ovc_vm_create(w.host, &o, &vm), -EBUSY, "in use");
	cr_assert_null(vm);
	world_close(&w, 0);
	close(d.fd);
}
