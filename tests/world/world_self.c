/* SPDX-License-Identifier: MIT */
/* That the machine is put back, whatever becomes of a test. */
#include "world.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define SETTING "/proc/sys/vm/page-cluster"

static char value(void)
{
	int fd = open(SETTING, O_RDONLY | O_CLOEXEC);
	char c = 0;

	cr_assert(fd >= 0);
	cr_assert_eq(read(fd, &c, 1), 1);
	close(fd);
	return c;
}

static int change_and_crash(void *arg)
{
	(void)arg;
	machine_lock();
	if (!machine_set(SETTING, "7") || value() != '7')
		return 1;
	abort();
}

Test(world_self, a_setting_is_put_back_after_a_crash)
{
	char before;

	need_root();
	before = value();
	cr_assert_eq(in_child(change_and_crash, NULL, 20), 128 + SIGABRT);
	machine_lock(); /* which comes when all was put back */
	cr_assert_eq(value(), before);
}

Test(world_self, a_file_system_on_a_loop_device_is_another_one)
{
	const char *dir = machine_mount("ext4", 32, "-q");
	struct stat here, there;

	cr_assert_eq(stat(dir, &there), 0);
	cr_assert_eq(stat(own_dir(), &here), 0);
	cr_assert_neq(here.st_dev, there.st_dev);
}
