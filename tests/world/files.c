/* SPDX-License-Identifier: MIT */
/*
 * Swap files that are somebody else's, or that something is left of: what must be
 * refused is refused, and as it was; what held a guest is wiped.
 */
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "swapping.h"

TestSuite(files, .timeout = 60);

#define NOBODY 65534

static struct world w;

static void no_vm(void)
{
	world_open(&w, (struct plan){ .no_swap = true });
}

/* A file with that content. */
static const char *precious(const char *content, size_t len, mode_t mode)
{
	const char *path = own_path("precious");
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	cr_assert(fd >= 0);
	cr_assert_eq(write(fd, content, len), (ssize_t)len);
	cr_assert_eq(fchmod(fd, mode), 0);
	close(fd);
	return path;
}

static void expect_kept(const char *path, const char *content)
{
	char got[64] = "";
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	cr_assert(fd >= 0);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq((size_t)st.st_size, strlen(content));
	cr_assert_eq(read(fd, got, sizeof(got)), st.st_size);
	cr_assert_str_eq(got, content);
	close(fd);
}

/* ---- what is somebody else's ------------------------------------------------- */

Test(files, a_file_with_contents_is_refused_and_kept)
{
	const char *path = precious("a disk image, say", 17, 0600);

	no_vm();
	refuse_swap(&w, path, -ENOTEMPTY, "not empty");
	expect_kept(path, "a disk image, say");
	world_close(&w, 0);
}

Test(files, a_file_of_zeros_is_refused)
{
	static const char zeros[8192];

	no_vm();
	refuse_swap(&w, precious(zeros, sizeof(zeros), 0600), -ENOTEMPTY,
		    "not empty");
	world_close(&w, 0);
}

Test(files, another_users_file_is_refused)
{
	const char *path = precious("", 0, 0600);

	need_root();
	cr_assert_eq(chown(path, NOBODY, NOBODY), 0);
	no_vm();
	refuse_swap(&w, path, -EPERM, "belongs to user 65534");
	world_close(&w, 0);
}

Test(files, a_file_of_roots_is_refused_for_others)
{
	const char *path = "precious";

	need_root();
	precious("", 0, 0600);
	no_vm();
	/* By its name alone: others may not pass the directories above. */
	cr_assert_eq(chmod(own_dir(), 0755), 0);
	cr_assert_eq(chdir(own_dir()), 0);
	cr_assert_eq(seteuid(NOBODY), 0);
	refuse_swap(&w, path, -EACCES, "precious");
	cr_assert_eq(seteuid(0), 0);
	cr_assert_eq(chmod(path, 0666), 0);
	cr_assert_eq(seteuid(NOBODY), 0);
	refuse_swap(&w, path, -EPERM, "belongs to user 0");
	cr_assert_eq(seteuid(0), 0);
	world_close(&w, 0);
}

Test(files, a_file_that_others_may_read_or_write_is_refused)
{
	const char *path = precious("", 0, 0600);
	static const mode_t modes[] = { 0640, 0620, 0604, 0602, 0666 };

	no_vm();
	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		cr_assert_eq(chmod(path, modes[i]), 0);
		refuse_swap(&w, path, -EPERM, "others may read or write");
	}
	world_close(&w, 0);
}

Test(files, a_file_with_another_name_is_refused)
{
	const char *path = precious("", 0, 0600);

	cr_assert_eq(link(path, own_path("link")), 0);
	no_vm();
	refuse_swap(&w, path, -EPERM, "hard links");
	world_close(&w, 0);
}

Test(files, what_is_no_file_is_refused_at_once)
{
	const char *pipe = own_path("pipe");

	cr_assert_eq(mkfifo(pipe, 0600), 0);
	no_vm();
	refuse_swap(&w, pipe, -EINVAL, "no regular file");
	refuse_swap(&w, "/dev/zero", -EINVAL, "no regular file");
	world_close(&w, 0);
}

/* ---- where a directory was meant ---------------------------------------------- */

Test(files, a_path_with_a_slash_at_its_end_never_becomes_a_file)
{
	no_vm();
	refuse_swap(&w, own_path("missing/"), -ENOENT, "make it first");
	refuse_swap(&w, own_path("missing/swap"), -ENOENT, "make it first");
	cr_assert_eq(count_files(own_dir()), 0);
	precious("", 0, 0600);
	refuse_swap(&w, own_path("precious/"), -ENOTDIR, "precious/");
	world_close(&w, 0);
}

Test(files, a_file_that_was_made_in_vain_is_taken_away)
{
	struct ovc_vm_options o = { .size = sizeof(o),
				    .swap = own_path("swap"),
				    .swap_size = 8 * MIB };
	struct rlimit was, limit = { 4 * MIB, RLIM_INFINITY };
	struct ovc_vm *vm = NULL;

	no_vm();
	cr_assert_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
	limit.rlim_max = was.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	expect_error("create", ovc_vm_create(w.host, &o, &vm), -EFBIG,
		     "RLIMIT_FSIZE");
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &was), 0);
	cr_assert_eq(count_files(own_dir()), 0);
	world_close(&w, 0);
}

/* ---- what was left behind ----------------------------------------------------- */

#define LEN (4 * MIB)

Test(files, what_a_killed_vmm_left_is_taken_and_wiped)
{
	const char *path = own_path("swap");

	swap_and_be_killed(path, LEN, 1);
	/* That is so, and README says so. */
	cr_assert_eq(pages_left(path, LEN, 1), LEN / PAGE);
	world_open(&w, (struct plan){ .swap = path, .len = LEN });
	cr_assert_eq(pages_left(path, LEN, 1), 0);
	go_there_and_back(&w, 2);
	world_close(&w, 0);
}

Test(files, what_is_no_mark_any_more_is_refused)
{
	const char *path = own_path("swap");
	int fd;

	swap_and_be_killed(path, LEN, 1);
	no_vm();
	for (off_t at = 0; at < 4096; at += 4095) {
		char c;

		fd = open(path, O_RDWR | O_CLOEXEC);
		cr_assert_eq(pread(fd, &c, 1, at), 1);
		c ^= 1;
		cr_assert_eq(pwrite(fd, &c, 1, at), 1);
		refuse_swap(&w, path, -ENOTEMPTY, "not empty");
		c ^= 1;
		cr_assert_eq(pwrite(fd, &c, 1, at), 1);
		close(fd);
	}
	cr_assert_eq(pages_left(path, LEN, 1), LEN / PAGE);
	world_close(&w, 0);
	world_open(&w, (struct plan){ .swap = path });
	world_close(&w, 0);
}

/* Bytes, and space, of the files without a name where swap is that this process has
 * open. */
static off_t nameless(blkcnt_t *blocks)
{
	struct stat dir;
	off_t bytes = 0;

	if (stat(swap_dir(), &dir))
		return -1;

	*blocks = 0;
	for (int fd = 3; fd < 256; fd++) {
		struct stat st;

		if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_nlink ||
		    st.st_dev != dir.st_dev)
			continue;
		bytes += st.st_size;
		*blocks += st.st_blocks;
	}
	return bytes;
}

/* A helper that was forked, without exec, before the VM ended. */
static int hold_on(int begin, int end)
{
	blkcnt_t blocks;
	char c;

	if (nameless(&blocks) < (off_t)LEN)
		return 1;
	if (write(end, "", 1) != 1 || read(begin, &c, 1) != 1)
		return 2;
	return nameless(&blocks) || blocks ? 3 : 0;
}

static struct way unnamed_ways[] = { { ANON, 0 },
				     { ANON, OVC_FEATURE_TMPFILE } };

ParameterizedTestParameters(files, a_forked_helper_keeps_nothing_of_the_swap)
{
	return cr_make_param_array(struct way, unnamed_ways, 2);
}

ParameterizedTest(struct way *way, files,
		  a_forked_helper_keeps_nothing_of_the_swap)
{
	int to[2], from[2], status;
	pid_t pid;
	char c;

	world_open(&w, (struct plan){ .way = *way, .len = LEN });
	go_there_and_back(&w, 1);
	cr_assert_eq(pipe2(to, O_CLOEXEC) | pipe2(from, O_CLOEXEC), 0);
	pid = fork();
	if (!pid)
		_exit(hold_on(to[0], from[1]));
	cr_assert_eq(read(from[0], &c, 1), 1);
	world_close(&w, 0);
	cr_assert_eq(write(to[1], "", 1), 1);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0, "%d", WEXITSTATUS(status));
}

/* ---- a limit of file size ----------------------------------------------------- */

static struct rlimit unlimited;

static void limit_files(rlim_t bytes)
{
	struct rlimit limit;

	cr_assert_eq(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
	limit = (struct rlimit){ bytes, unlimited.rlim_max };
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

struct limited {
	uint32_t flags;
	bool named;
};

static struct limited limited[] = {
	{ 0, false },
	{ OVC_VM_SPARSE_SWAP, false },
	{ 0, true },
	{ OVC_VM_SPARSE_SWAP, true },
};

ParameterizedTestParameters(files, a_limit_of_file_size_is_an_error_of_the_call)
{
	return cr_make_param_array(struct limited, limited, 4);
}

ParameterizedTest(struct limited *p, files,
		  a_limit_of_file_size_is_an_error_of_the_call)
{
	struct ovc_region_options o = { .size = sizeof(o), .len = 16 * MIB };

	/* As somebody would have it who starts the VMM. */
	signal(SIGXFSZ, SIG_DFL);
	world_open(&w,
		   (struct plan){ .vm_flags = p->flags,
				  .swap = p->named ? own_path("swap") : NULL });
	limit_files(8 * MIB);
	o.addr = map_memory(ANON, o.len, &o.memfd);
	expect_error("add", ovc_vm_add_region(w.vm, &o), -EFBIG,
		     "8 MiB (RLIMIT_FSIZE)");
	cr_assert_eq(vm_stats(&w).regions, 1);
	go_there_and_back(&w, 1);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
	cr_assert_eq(ovc_vm_add_region(w.vm, &o), 0, "%s", ovc_error());
	world_close(&w, 0);
}

static struct way limited_ways[] = {
	{ ANON, 0 },
	{ MEMFD, 0 },
	{ ANON, OVC_FEATURE_IO_URING },
	{ ANON, OVC_FEATURE_DIRECT_IO },
};

ParameterizedTestParameters(files, a_limit_that_is_lowered_is_a_failed_write)
{
	return cr_make_param_array(struct way, limited_ways, 4);
}

ParameterizedTest(struct way *way, files,
		  a_limit_that_is_lowered_is_a_failed_write)
{
	struct seen_event e;

	signal(SIGXFSZ, SIG_DFL);
	world_open(&w, (struct plan){ .way = *way, .len = 8 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 3);
	limit_files(2 * MIB);
	expect_error("reclaim", ovc_vm_reclaim(w.vm, w.mem, w.len), -EFBIG,
		     "RLIMIT_FSIZE");
	cr_assert(world_event(&w, OVC_EVENT_WRITE_FAILED, &e));
	cr_assert_eq(e.error, EFBIG, "%d", e.error);
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 3), -1);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
	go_there_and_back(&w, 4);
	world_close(&w, 0);
}

Test(files, a_limit_sends_no_signal_to_who_dispatches)
{
	static char page[PAGE];

	signal(SIGXFSZ, SIG_DFL);
	world_open(&w, (struct plan){ .len = 8 * MIB,
				      .host_flags = OVC_HOST_DISPATCH });
	fill_pages(w.mem, 0, w.len / PAGE, 3);
	limit_files(2 * MIB);
	expect_error("reclaim", ovc_vm_reclaim(w.vm, w.mem, w.len), -EFBIG,
		     "RLIMIT_FSIZE");
	for (uint64_t i = 0; i < w.len / PAGE; i++) {
		cr_assert_eq(ovc_vm_read(w.vm, w.mem + i * PAGE, page, PAGE),
			     0);
		cr_assert(is_page(page, i, 3));
	}
	world_close(&w, 0);
}

/* ---- what a failed write is called ---------------------------------------------- */

Test(files, a_full_disk_is_called_full)
{
	const char *dir = own_tmpfs(4 * MIB);
	struct seen_event e;

	world_open(&w, (struct plan){ .swap = dir,
				      .len = 8 * MIB,
				      .vm_flags = OVC_VM_SPARSE_SWAP });
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	expect_error("reclaim", ovc_vm_reclaim(w.vm, w.mem, w.len), -ENOSPC,
		     "the disk is full");
	cr_assert(world_event(&w, OVC_EVENT_WRITE_FAILED, &e));
	cr_assert(strstr(e.text, "the disk is full"), "%s", e.text);
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 1), -1);
	world_close(&w, 0);
}

Test(files, a_full_swap_is_not_called_a_full_disk)
{
	struct seen_event e;

	world_open(&w, (struct plan){ .swap_size = MIB, .len = 4 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	expect_error("reclaim", ovc_vm_reclaim(w.vm, w.mem, w.len), -ENOSPC,
		     "all of the swap is in use");
	cr_assert(world_event(&w, OVC_EVENT_WRITE_FAILED, &e));
	cr_assert(strstr(e.text, "all of the swap is in use"), "%s", e.text);
	world_close(&w, 0);
}
