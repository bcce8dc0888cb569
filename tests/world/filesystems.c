/* SPDX-License-Identifier: MIT */
/*
 * Each file system that this kernel can mount, as the place of swap: pages go there and
 * come back, preallocated space is there when it is needed, and O_DIRECT is believed
 * where it is done. docs/filesystems.md has the table.
 */
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "swapping.h"

TestSuite(filesystems, .timeout = 600); /* it may be emulated */

static struct world w;

#define LEN (16 * MIB)

/* A file system, and what is to be found out about it. */
struct place {
	char name[24];
	char type[16], mkfs[40], mount[40];
	unsigned mib;
	bool cached;   /* no O_DIRECT, or it is only taken */
	bool memory;   /* of the host */
	bool no_umask; /* keeps no modes: refused unless umask=077 */
	bool nameless; /* O_TMPFILE works */
	bool copies;   /* preallocation is not kept, which is told */
};

static struct place places[] = {
	{ "ext2", "ext2", "-q", "", 96, .nameless = true },
	{ "ext3", "ext3", "-q", "", 96, .nameless = true },
	{ "ext4", "ext4", "-q", "", 96, .nameless = true },
	{ "ext4, 1 KiB blocks", "ext4", "-q -b 1024", "", 96,
	  .nameless = true },
	{ "ext4, inline data", "ext4", "-q -I 512 -O inline_data", "", 96,
	  .nameless = true },
	{ "ext4, data=journal", "ext4", "-q", "data=journal", 96,
	  .nameless = true, .cached = true },
	{ "xfs", "xfs", "-q", "", 310, .nameless = true },
	{ "btrfs", "btrfs", "-q", "", 256, .nameless = true },
	{ "btrfs, compressed", "btrfs", "-q", "compress-force", 256,
	  .nameless = true },
	{ "f2fs", "f2fs", "-q", "", 128, .nameless = true, .copies = true },
	{ "vfat", "vfat", "", "", 96, .no_umask = true },
	{ "vfat, umask=077", "vfat", "", "umask=077", .mib = 96 },
	{ "exfat, umask=077", "exfat", "", "umask=077", .mib = 96 },
	{ "tmpfs", "tmpfs", "", "", 64, .nameless = true, .cached = true,
	  .memory = true },
	{ "ramfs", "ramfs", "", "", 64, .nameless = true, .cached = true,
	  .memory = true },
	{ "overlay on ext4", "overlay", "ext4", "", 96, .nameless = true },
	{ "overlay on tmpfs", "overlay", "tmpfs", "", 96, .nameless = true,
	  .cached = true, .memory = true },
	{ "fuse (bindfs)", "bindfs", "", "", 0, .cached = true },
	{ "fuse (fuse2fs)", "fuse2fs", "", "", 96, .cached = true },
};

#define NR_PLACES (sizeof(places) / sizeof(places[0]))

/* ---- mounting ------------------------------------------------------------------ */

static const char *made_mount(const char *command)
{
	const char *dir = own_path("mnt");

	machine_lock();
	if (mkdir(dir, 0700))
		cr_assert_eq(errno, EEXIST);
	machine_undo("rmdir %s; rmdir %s", dir, own_dir());
	if (machine_run(command, dir))
		cr_skip_test("refused here: %s", command);
	machine_undo("umount %s || umount -l %s", dir, dir);
	return dir;
}

static const char *mount_overlay(const struct place *p)
{
	const char *upper;
	char command[600];

	if (!strcmp(p->mkfs, "tmpfs")) {
		upper = own_path("upper");
		cr_assert_eq(mkdir(upper, 0700), 0);
		cr_assert_eq(machine_run("mount -t tmpfs -o size=96M t %s",
					 upper),
			     0);
		machine_undo("umount %s; rmdir %s", upper, upper);
	} else {
		upper = machine_mount(p->mkfs, p->mib, "-q");
	}
	machine_run("mkdir %s/u %s/w %s/l", upper, upper, upper);
	snprintf(command, sizeof(command),
		 "mount -t overlay -o lowerdir=%s/l,upperdir=%s/u,workdir=%s/w "
		 "o %%s",
		 upper, upper, upper);
	return made_mount(command);
}

static const char *mount_fuse(const struct place *p)
{
	const char *below = own_path("below");
	char command[700];

	if (machine_run("command -v %s && [ -e /dev/fuse ]", p->type))
		cr_skip_test("no %s, or no /dev/fuse, here", p->type);
	if (p->mib) {
		cr_assert_eq(machine_run("truncate -s %uM %s && mkfs.ext4 -q "
					 "-F %s",
					 p->mib, below, below),
			     0);
		machine_undo("rm -f %s", below);
	} else {
		cr_assert_eq(mkdir(below, 0700), 0);
		machine_undo("rmdir %s", below);
	}
	snprintf(command, sizeof(command), "%s %s %%s", p->type, below);
	return made_mount(command);
}

static const char *mount_place(const struct place *p)
{
	char command[100];
	const char *dir;

	machine_lock();
	if (!strcmp(p->type, "overlay"))
		return mount_overlay(p);
	if (strstr(p->name, "fuse"))
		return mount_fuse(p);
	if (!*p->mkfs && p->memory) {
		snprintf(command, sizeof(command),
			 "mount -t %s -o size=%uM none %%s", p->type, p->mib);
		return made_mount(command);
	}
	dir = machine_mount(p->type, p->mib, p->mkfs);
	if (*p->mount &&
	    machine_run("umount %s && mount -o loop,%s %s/image0 %s", dir,
			p->mount, own_dir(), dir))
		cr_skip_test("mount -o %s is refused here", p->mount);
	return dir;
}

/* ---- pages go and come ---------------------------------------------------------- */

static void expect_told(const struct place *p)
{
	bool direct = host_stats(&w).features & OVC_FEATURE_DIRECT_IO;
	bool tmpfile = host_stats(&w).features & OVC_FEATURE_TMPFILE;

	cr_assert_eq(direct, !p->cached, "%s", p->name);
	cr_assert_eq(tmpfile, p->nameless, "%s", p->name);
	cr_assert_eq(world_logged(&w, "page cache, too"),
		     p->cached && !p->memory, "%s: %s", p->name, w.logged);
	cr_assert_eq(world_logged(&w, "is memory of the host"), p->memory,
		     "%s: %s", p->name, w.logged);
	cr_assert_eq(world_logged(&w, "in spite of preallocation"), p->copies,
		     "%s: %s", p->name, w.logged);
	cr_assert_eq(vm_stats(&w).swap_memory != 0, p->memory, "%s", p->name);
}

static uint64_t free_bytes(const char *dir)
{
	struct statvfs s;

	cr_assert_eq(statvfs(dir, &s), 0);
	return s.f_bavail * s.f_frsize;
}

static void use(const struct place *p, const char *swap, uint32_t flags)
{
	world_open(&w, (struct plan){
			       .swap = swap, .len = LEN, .vm_flags = flags });
	for (unsigned seed = 1; seed < 4; seed++)
		go_there_and_back(&w, seed);
	fill_pages(w.mem, 0, LEN / PAGE, 4);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	if (!strchr(swap + strlen(own_dir()) + 1, '/'))
		expect_told(p);
	world_close(&w, 0);
}

ParameterizedTestParameters(filesystems, swap_on_each_file_system_works)
{
	return cr_make_param_array(struct place, places, NR_PLACES);
}

ParameterizedTest(struct place *p, filesystems, swap_on_each_file_system_works)
{
	const char *dir = mount_place(p);
	char named[700];

	if (p->no_umask) {
		world_open(&w, (struct plan){ .no_swap = true });
		refuse_swap(&w, dir, -EACCES, "umask=077");
		world_close(&w, 0);
		return;
	}
	snprintf(named, sizeof(named), "%s/swap", dir);
	use(p, dir, 0);
	use(p, dir, OVC_VM_SPARSE_SWAP);
	use(p, named, 0);
	use(p, named, OVC_VM_SPARSE_SWAP);
}

/* ---- preallocation --------------------------------------------------------------- */

ParameterizedTestParameters(filesystems, preallocated_space_is_there_when_full)
{
	return cr_make_param_array(struct place, places, NR_PLACES);
}

/* Others fill the file system to the last byte; what was allocated is still written, and
 * written again. */
ParameterizedTest(struct place *p, filesystems,
		  preallocated_space_is_there_when_full)
{
	const char *dir = mount_place(p), *from;

	if (!p->mib || p->no_umask || p->copies || !strcmp(p->type, "ramfs"))
		cr_skip_test("%s has no end, or promises nothing", p->name);
	/* It looks for free space before each write, of allocated blocks too. */
	if (!strcmp(p->type, "fuse2fs"))
		cr_skip_test("fuse2fs writes nothing when it is full");
	world_open(&w, (struct plan){ .swap = dir, .len = LEN });
	/* Zeros would be compressed. */
	from = strstr(p->mount, "compress") ? "/dev/urandom" : "/dev/zero";
	machine_run("dd if=%s of=%s/filler bs=1M; sync; "
		    "dd if=%s of=%s/more bs=4k; sync",
		    from, dir, from, dir);
	if (free_bytes(dir) > 4 * MIB)
		cr_skip_test("%s cannot be filled", p->name);
	for (unsigned seed = 1; seed < 5; seed++)
		go_there_and_back(&w, seed);
	cr_assert_eq(vm_stats(&w).write_errors, 0, "%s", p->name);
	world_close(&w, 0);
}

/* ---- what is called a quota -------------------------------------------------------- */

Test(filesystems, a_quota_is_called_a_quota)
{
	struct ovc_vm_options o = { .size = sizeof(o), .swap_size = 16 * MIB };
	const char *dir = machine_mount("btrfs", 256, "-q");
	struct seen_event e;
	struct ovc_vm *vm = NULL;

	if (machine_run("btrfs quota enable %s && btrfs qgroup limit 8M %s",
			dir, dir))
		cr_skip_test("no quotas on btrfs here");
	world_open(&w, (struct plan){ .swap = dir,
				      .len = LEN,
				      .vm_flags = OVC_VM_SPARSE_SWAP });
	o.swap = dir;
	expect_error("create", ovc_vm_create(w.host, &o, &vm), -EDQUOT,
		     "a quota of the file system");
	fill_pages(w.mem, 0, LEN / PAGE, 1);
	expect_error("reclaim", ovc_vm_reclaim(w.vm, w.mem, w.len), -EDQUOT,
		     "a quota of the file system");
	cr_assert(world_event(&w, OVC_EVENT_WRITE_FAILED, &e));
	cr_assert_eq(e.error, EDQUOT);
	cr_assert(strstr(e.text, "quota"), "%s", e.text);
	cr_assert_eq(check_pages(w.mem, 0, LEN / PAGE, 1), -1);
	world_close(&w, 0);
}

/* ---- what cannot be swap -------------------------------------------------------------- */

Test(filesystems, a_file_system_without_writes_is_refused)
{
	const char *dir = made_mount("mount -t hugetlbfs none %s");

	world_open(&w, (struct plan){ .no_swap = true });
	refuse_swap(&w, dir, -EINVAL, "hugetlbfs cannot be written");
	world_close(&w, 0);
}

Test(filesystems, a_read_only_file_system_is_erofs)
{
	const char *dir = made_mount("mount -t tmpfs -o ro none %s");

	world_open(&w, (struct plan){ .no_swap = true });
	refuse_swap(&w, dir, -EROFS, "mnt");
	world_close(&w, 0);
}

/* ---- memory below --------------------------------------------------------------------- */

/* ext4 on a loop device over a file on tmpfs. */
Test(filesystems, a_disk_that_is_a_file_on_tmpfs_is_memory)
{
	const char *dir = made_mount("mount -t tmpfs -o size=128M none %s");
	const char *disk = own_path("disk");

	cr_assert_eq(mkdir(disk, 0700), 0);
	if (machine_run("truncate -s 96M %s/i && mkfs.ext4 -q -F %s/i && mount "
			"-o loop %s/i %s",
			dir, dir, dir, disk))
		cr_skip_test("no loop device on tmpfs");
	machine_undo("umount %s; rmdir %s", disk, disk);
	world_open(&w, (struct plan){ .swap = disk, .len = LEN });
	cr_assert(world_logged(&w, "a loop device on tmpfs"), "%s", w.logged);
	fill_pages(w.mem, 0, LEN / PAGE, 1);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	cr_assert_eq(vm_stats(&w).swap_memory, LEN);
	world_close(&w, OVC_THROW_AWAY);
}
