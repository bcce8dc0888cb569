/* SPDX-License-Identifier: MIT */
/*
 * A VMM that goes into its jail when its guests are set up: no /proc, no descriptor left,
 * no open. The budget is kept all the same. It is more than what is tracked from the start,
 * so that memory must be watched.
 */
#include "world.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define BUDGET (400 * MIB)
#define LEN    (528 * MIB)
#define PAGES  (LEN / PAGE)

static struct world w;
static char dir[600]; /* an empty one */

static size_t resident(int statm)
{
	char text[128] = "";
	unsigned long all, rss;

	if (pread(statm, text, sizeof(text) - 1, 0) <= 0 ||
	    sscanf(text, "%lu %lu", &all, &rss) != 2)
		return SIZE_MAX;
	return rss * PAGE;
}

/* For all threads, those of the library, too. */
static bool deny_everywhere(unsigned nr)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			SECCOMP_FILTER_FLAG_TSYNC, &program);
}

static bool go_to_jail(const char *how)
{
	if (!strcmp(how, "chroot"))
		return !chroot(dir) && !chdir("/");
	if (!strcmp(how, "openat"))
		return deny_everywhere(SYS_openat);
	while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0)
		;
	return errno == EMFILE;
}

static int fill_in_jail(void *how)
{
	int statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	struct rlimit few = { 256, 256 };
	size_t most = 0, now;

	setrlimit(RLIMIT_NOFILE, &few);
	world_open(&w, (struct plan){ .budget = BUDGET, .len = LEN });
	usleep(100000);
	if (host_stats(&w).tracked)
		return 78;
	if (!go_to_jail(how))
		return 77;
	for (size_t i = 0; i < PAGES; i += 1024) {
		fill_pages(w.mem, i, 1024, 1);
		now = resident(statm);
		most = now > most ? now : most;
	}
	if (!host_stats(&w).tracked)
		return 3;
	if (most > BUDGET + 32 * MIB)
		return 4;
	return check_pages(w.mem, 0, PAGES, 1) == -1 ? 0 : 5;
}

static void check_jail(const char *how)
{
	char name[32];
	int got;

	need_userfaultfd();
	need_root();
	skip_sanitized();
	snprintf(name, sizeof(name), "%s", how);
	snprintf(dir, sizeof(dir), "%s/jail", own_dir());
	cr_assert_eq(mkdir(dir, 0700), 0);
	got = in_child(fill_in_jail, name, 120);
	/* On a busy machine a look at memory comes late, and all is tracked then. */
	for (unsigned i = 0; i < 5 && got == 78; i++)
		got = in_child(fill_in_jail, name, 120);
	rmdir(dir);
	if (got == 78)
		cr_skip_test(
			"the machine is too busy for memory to be watched");
	if (got == 77)
		cr_skip_test("%s is refused", how);
	cr_assert_eq(got, 0, "%s: %d", how, got);
}

Test(jail, the_budget_is_kept_without_proc)
{
	check_jail("chroot");
}

Test(jail, the_budget_is_kept_without_descriptors)
{
	check_jail("descriptors");
}

Test(jail, the_budget_is_kept_without_open)
{
	check_jail("openat");
}
