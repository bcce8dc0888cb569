/* SPDX-License-Identifier: MIT */
/*
 * Block devices as swap: loop devices that have somebody's contents, that a VMM left
 * behind, that are read-only, of odd sizes or with large sectors; and zram.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "swapping.h"

TestSuite(devices, .timeout = 120);

static struct world w;

/* A loop device over a file of so many bytes, with losetup's options; its path. */
static const char *make_loop(const char *image, size_t bytes,
			     const char *options)
{
	static char path[64];
	char file[600];
	FILE *f;

	machine_lock();
	snprintf(file, sizeof(file), "%s.device", image);
	if (access(image, F_OK))
		cr_assert_eq(machine_run("truncate -s %zu %s", bytes, image),
			     0);
	if (machine_run("losetup -f --show %s %s >%s", options, image, file))
		cr_skip_test("no loop device with %s can be had", options);
	f = fopen(file, "re");
	cr_assert(f && fscanf(f, "%60s", path) == 1);
	fclose(f);
	unlink(file);
	machine_undo("rm -f %s; rmdir %s", image, own_dir());
	machine_undo("losetup -d %s", path);
	return path;
}

static void no_vm(void)
{
	world_open(&w, (struct plan){ .no_swap = true });
}

/* ---- what is somebody else's ------------------------------------------------- */

struct owner {
	char tool[16], command[120], found[24];
};

static struct owner owners[] = {
	{ "mkfs.ext4", "mkfs.ext4 -q -F %s", "ext4" },
	{ "mkfs.xfs", "mkfs.xfs -q -f %s", "xfs" },
	{ "mkfs.btrfs", "mkfs.btrfs -q -f %s", "btrfs" },
	{ "mkfs.vfat", "mkfs.vfat %s", "vfat" },
	{ "mkswap", "mkswap %s", "swap" },
	{ "sfdisk", "echo 2048,, | sfdisk -q --label dos %s",
	  "partition table" },
	{ "sfdisk", "echo 2048,, | sfdisk -q --label gpt %s",
	  "partition table" },
	/* The first sectors are gone, and GPT's other copy is still there. */
	{ "sfdisk",
	  "d=%s; echo 2048,, | sfdisk -q --label gpt $d && dd if=/dev/zero "
	  "of=$d bs=1M count=1 conv=notrunc",
	  "" },
	{ "dd", "echo LABELONE | dd of=%s bs=512 seek=1 conv=notrunc", "" },
	{ "dd", "echo x | dd of=%s bs=1000 seek=1000 conv=notrunc", "at byte" },
};

#define NR_OWNERS (sizeof(owners) / sizeof(owners[0]))

ParameterizedTestParameters(devices, what_somebody_has_on_a_device_is_kept)
{
	return cr_make_param_array(struct owner, owners, NR_OWNERS);
}

ParameterizedTest(struct owner *o, devices,
		  what_somebody_has_on_a_device_is_kept)
{
	const char *image = own_path("image"), *path;
	char command[1000];

	machine_lock();
	if (machine_run("command -v %s", o->tool))
		cr_skip_test("no %s here", o->tool);
	cr_assert_eq(machine_run("truncate -s 310M %s", image), 0);
	snprintf(command, sizeof(command), o->command, image);
	cr_assert_eq(machine_run("%s", command), 0, "%s", command);
	path = make_loop(image, 0, "");
	cr_assert_eq(machine_run("cp %s %s.was", image, image), 0);
	no_vm();
	refuse_swap(&w, path, -ENOTEMPTY, o->found);
	cr_assert(strstr(ovc_error(), "wipe it"), "%s", ovc_error());
	cr_assert(strstr(ovc_error(), path), "%s", ovc_error());
	world_close(&w, 0);
	cr_assert_eq(machine_run("sync; cmp %s %s.was", image, image), 0);
	/* It is taken when it was wiped as the sentence says. */
	cr_assert_eq(
		machine_run("wipefs -a %s && blkdiscard -z %s", path, path), 0);
	world_open(&w, (struct plan){ .swap = path });
	world_close(&w, 0);
	machine_run("rm -f %s.was", image);
}

Test(devices, a_read_only_device_is_an_error_at_once)
{
	const char *path = make_loop(own_path("image"), 32 * MIB, "-r");

	no_vm();
	refuse_swap(&w, path, -EROFS, "read-only");
	world_close(&w, 0);
}

Test(devices, a_device_that_is_made_read_only_is_an_error_at_once)
{
	const char *path = make_loop(own_path("image"), 32 * MIB, "");
	int fd = open(path, O_RDONLY | O_CLOEXEC), on = 1;

	no_vm();
	machine_undo("blockdev --setrw %s", path); /* it would stay so */
	cr_assert_eq(ioctl(fd, BLKROSET, &on), 0);
	refuse_swap(&w, path, -EROFS, "read-only");
	close(fd);
	world_close(&w, 0);
}

Test(devices, a_device_without_permission_is_eacces)
{
	const char *path = make_loop(own_path("image"), 32 * MIB, "");

	no_vm();
	cr_assert_eq(seteuid(65534), 0);
	refuse_swap(&w, path, -EACCES, path);
	cr_assert_eq(seteuid(0), 0);
	world_close(&w, 0);
}

Test(devices, a_device_of_under_3_mib_is_too_small)
{
	const char *path = make_loop(own_path("image"), 3 * MIB - 4096, "");

	no_vm();
	refuse_swap(&w, path, -ENOSPC, "at least 3 MiB");
	world_close(&w, 0);
}

/* ---- what was left behind ----------------------------------------------------- */

#define LEN (4 * MIB)

Test(devices, what_a_killed_vmm_left_is_taken_and_wiped)
{
	const char *path = make_loop(own_path("image"), 32 * MIB, "");

	swap_and_be_killed(path, LEN, 1);
	cr_assert_eq(pages_left(path, LEN, 1), LEN / PAGE);
	world_open(&w, (struct plan){ .swap = path, .len = LEN });
	cr_assert_eq(pages_left(path, LEN, 1), 0);
	go_there_and_back(&w, 2);
	world_close(&w, 0);
	cr_assert_eq(first_byte(path), -1);
}

static void put_byte(const char *path, off_t at)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	cr_assert_eq(pwrite(fd, "x", 1, at), 1);
	cr_assert_eq(fsync(fd), 0);
	close(fd);
}

/* Where mdadm keeps its superblock, and where the end's are; with our mark before. */
Test(devices, what_others_wrote_behind_a_mark_of_ours_is_kept)
{
	const char *path = make_loop(own_path("image"), 32 * MIB, "");

	swap_and_be_killed(path, LEN, 1);
	put_byte(path, 4096);
	no_vm();
	refuse_swap(&w, path, -ENOTEMPTY, "at byte 4096");
	cr_assert_eq(pages_left(path, LEN, 1), LEN / PAGE);
	world_close(&w, 0);
}

Test(devices, what_others_wrote_at_the_end_is_kept)
{
	const char *path = make_loop(own_path("image"), 32 * MIB, "");

	swap_and_be_killed(path, LEN, 1);
	put_byte(path, 32 * (off_t)MIB - 1);
	no_vm();
	refuse_swap(&w, path, -ENOTEMPTY, "at byte 33554431");
	world_close(&w, 0);
}

/* ---- odd ones ---------------------------------------------------------------- */

struct odd {
	size_t bytes;
	char options[32];
};

static struct odd odds[] = {
	{ 9 * MIB + 512, "" },
	{ 9 * MIB + 4096 + 3584, "" },
	{ 9 * MIB, "--sector-size 4096" },
	{ 9 * MIB + 3 * 4096, "--sector-size 4096" },
	{ 3 * MIB, "" },
};

#define NR_ODDS (sizeof(odds) / sizeof(odds[0]))

ParameterizedTestParameters(devices, all_of_an_odd_device_can_be_used)
{
	return cr_make_param_array(struct odd, odds, NR_ODDS);
}

/* As many pages as there are, and not one behind the end. */
ParameterizedTest(struct odd *odd, devices, all_of_an_odd_device_can_be_used)
{
	const char *path =
		make_loop(own_path("image"), odd->bytes, odd->options);
	size_t room = (odd->bytes - 2 * MIB) & ~(PAGE - 1);
	uint64_t nr;

	world_open(&w, (struct plan){ .swap = path, .len = 16 * MIB });
	nr = w.len / PAGE;
	cr_assert_eq(vm_stats(&w).swap_size, room);
	cr_assert(host_stats(&w).features & OVC_FEATURE_DIRECT_IO);
	for (unsigned seed = 1; seed < 4; seed++) {
		fill_pages(w.mem, 0, nr, seed);
		expect_error("reclaim", ovc_vm_reclaim(w.vm, w.mem, w.len),
			     -ENOSPC, "all of the swap is in use");
		cr_assert_eq(vm_stats(&w).swap_used, room);
		cr_assert_eq(vm_stats(&w).swapped, room);
		cr_assert_eq(check_pages(w.mem, 0, nr, seed), -1);
	}
	cr_assert_eq(vm_stats(&w).read_errors, 0);
	world_close(&w, 0);
	cr_assert_eq(first_byte(path), -1);
}

/* ---- memory that looks like a device -------------------------------------------- */

/* A zram device of so many MiB. */
static const char *make_zram(unsigned mib)
{
	static char path[32];
	unsigned nr;
	FILE *f;

	machine_lock();
	f = fopen("/sys/class/zram-control/hot_add", "re");
	if (!f || fscanf(f, "%u", &nr) != 1)
		cr_skip_test("no zram device can be had");
	fclose(f);
	/* Busy until the last I/O of a process that was killed has ended. */
	machine_undo(
		"i=0; until echo %u >/sys/class/zram-control/hot_remove; do "
		"i=$((i+1)); [ $i -lt 100 ] || break; sleep 0.1; done",
		nr);
	if (machine_run("echo %uM >/sys/block/zram%u/disksize", mib, nr))
		cr_skip_test("zram%u has no memory", nr);
	snprintf(path, sizeof(path), "/dev/zram%u", nr);
	return path;
}

Test(devices, swap_on_zram_is_told_and_counted)
{
	const char *path = make_zram(64);
	uint64_t taken;

	world_open(&w, (struct plan){ .swap = path, .len = 16 * MIB });
	cr_assert(world_logged(&w, "is memory of the host (zram"), "%s",
		  w.logged);
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	/* Random bytes do not get smaller. */
	taken = vm_stats(&w).swap_memory;
	cr_assert_geq(taken, w.len, "%ju", (uintmax_t)taken);
	cr_assert_lt(taken, w.len + 4 * MIB, "%ju", (uintmax_t)taken);
	cr_assert_eq(host_stats(&w).swap_memory, taken);
	world_close(&w, OVC_THROW_AWAY);
}

/* Pages that a guest frees are no memory of the host's any more. */
static void expect_given_back(uint64_t most)
{
	uint64_t taken;

	for (unsigned i = 0; i < 1000; i++) {
		taken = vm_stats(&w).swap_memory;
		if (taken <= most)
			return;
		usleep(10000);
	}
	cr_assert_fail("%ju bytes are still taken", (uintmax_t)taken);
}

Test(devices, freed_slots_of_zram_are_given_back_at_once)
{
	const char *path = make_zram(64);

	world_open(&w, (struct plan){ .swap = path, .len = 16 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	cr_assert_geq(vm_stats(&w).swap_memory, w.len);
	cr_assert_eq(ovc_vm_discard(w.vm, w.mem, w.len / 2), 0);
	expect_given_back(w.len / 2 + 2 * MIB);
	cr_assert_eq(vm_stats(&w).swap_used, w.len / 2);
	cr_assert_eq(check_pages(w.mem, w.len / 2 / PAGE, w.len / 2 / PAGE, 1),
		     -1);
	/* And can be used again. */
	for (unsigned seed = 2; seed < 5; seed++)
		go_there_and_back(&w, seed);
	world_close(&w, OVC_THROW_AWAY);
}

/* What a thinly provisioned disk does with a discard: the file below has holes. */
Test(devices, freed_slots_of_a_thin_device_are_given_back)
{
	const char *image = own_path("image");
	const char *path = make_loop(image, 64 * MIB, "--direct-io=off");
	struct stat st = { 0 };

	world_open(&w, (struct plan){ .swap = path, .len = 16 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	cr_assert_eq(ovc_vm_discard(w.vm, w.mem, w.len), 0);
	for (unsigned i = 0; i < 1000; i++) {
		cr_assert_eq(stat(image, &st), 0);
		if ((size_t)st.st_blocks * 512 < 2 * MIB)
			break;
		usleep(10000);
	}
	cr_assert_lt((size_t)st.st_blocks * 512, 2 * MIB);
	go_there_and_back(&w, 2);
	world_close(&w, 0);
}

/* Slots are used and freed while others are being given back: none is lost, and no
 * page's bytes are. */
Test(devices, pages_are_right_while_space_is_given_back)
{
	const char *path = make_zram(64);
	uint64_t part = 2 * MIB / PAGE, parts = 8;

	world_open(&w, (struct plan){ .swap = path,
				      .len = 16 * MIB,
				      .swap_size = 20 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	for (unsigned i = 0; i < 200; i++) {
		uint64_t at = i * 5 % parts * part;

		cr_assert_eq(ovc_vm_discard(w.vm, w.mem + at * PAGE,
					    part * PAGE),
			     0);
		fill_pages(w.mem, at, part, 1);
		cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem + at * PAGE,
					    part * PAGE),
			     0, "%s", ovc_error());
	}
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 1), -1);
	cr_assert_eq(vm_stats(&w).write_errors, 0);
	cr_assert_eq(vm_stats(&w).read_errors, 0);
	world_close(&w, OVC_THROW_AWAY);
}
