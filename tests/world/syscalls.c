/* SPDX-License-Identifier: MIT */
/*
 * docs/syscalls.md says which system calls each thread of the library makes, and the
 * library in threads of its callers. A program that does all that a VMM does is watched
 * by ptrace, thread by thread: what it makes must be in the list. Then it runs under a
 * filter of exactly that list.
 *
 * The list is read from the page itself: a heading `## `name`` begins a thread's, and each
 * word between backquotes in the table below it is a call.
 */
#include "world.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

TestSuite(syscalls, .timeout = 150);

#define NR_CALLS 512
#define NR_TASKS 64
#define CALLER	 "callers"

/* ---- names ------------------------------------------------------------------ */

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

#define CALL(name)                \
	{                         \
#name, SYS_##name \
	}
static const struct {
	const char *name;
	int nr;
} names[] = {
	CALL(read),
	CALL(write),
	CALL(open),
	CALL(close),
	CALL(stat),
	CALL(fstat),
	CALL(lstat),
	CALL(poll),
	CALL(lseek),
	CALL(cachestat),
	CALL(mmap),
	CALL(mprotect),
	CALL(munmap),
	CALL(brk),
	CALL(rt_sigaction),
	CALL(rt_sigprocmask),
	CALL(ioctl),
	CALL(pread64),
	CALL(pwrite64),
	CALL(preadv),
	CALL(pwritev),
	CALL(sched_yield),
	CALL(mremap),
	CALL(msync),
	CALL(mincore),
	CALL(madvise),
	CALL(dup),
	CALL(getpid),
	CALL(exit),
	CALL(uname),
	CALL(fcntl),
	CALL(flock),
	CALL(fsync),
	CALL(fdatasync),
	CALL(ftruncate),
	CALL(getdents64),
	CALL(unlink),
	CALL(readlink),
	CALL(getrlimit),
	CALL(getrusage),
	CALL(sysinfo),
	CALL(gettid),
	CALL(futex),
	CALL(sched_setaffinity),
	CALL(sched_getaffinity),
	CALL(clock_gettime),
	CALL(clock_nanosleep),
	CALL(exit_group),
	CALL(epoll_wait),
	CALL(epoll_ctl),
	CALL(tgkill),
	CALL(openat),
	CALL(newfstatat),
	CALL(readlinkat),
	CALL(faccessat),
	CALL(set_robust_list),
	CALL(timerfd_create),
	CALL(fallocate),
	CALL(timerfd_settime),
	CALL(eventfd2),
	CALL(epoll_create1),
	CALL(epoll_pwait),
	CALL(dup3),
	CALL(pipe2),
	CALL(prlimit64),
	CALL(getrandom),
	CALL(memfd_create),
	CALL(userfaultfd),
	CALL(mlock2),
	CALL(munlock),
	CALL(statx),
	CALL(rseq),
	CALL(clone),
	CALL(clone3),
	CALL(io_uring_setup),
	CALL(io_uring_enter),
	CALL(io_uring_register),
	CALL(process_madvise),
	CALL(nanosleep),
	CALL(statfs),
	CALL(fstatfs),
	CALL(prctl),
	CALL(sched_getparam),
	CALL(sched_getscheduler),
	CALL(ppoll),
	CALL(restart_syscall),
	CALL(pselect6),
	CALL(process_vm_readv),
	CALL(membarrier),
	CALL(writev),
	CALL(readv),
	CALL(geteuid),
	CALL(getuid),
	CALL(access),
	CALL(wait4),
	CALL(rt_sigpending),
	CALL(rt_sigtimedwait),
	CALL(process_vm_writev),
};

static const char *name_of(unsigned nr)
{
	static char unknown[24];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].nr == (int)nr)
			return names[i].name;
	snprintf(unknown, sizeof(unknown), "number %u", nr);
	return unknown;
}

/* ---- the list ----------------------------------------------------------------- */

struct list {
	char thread[32]; /* without a number at its end */
	bool call[NR_CALLS];
};

struct lists {
	unsigned nr;
	struct list list[16];
};

static struct list *list_of(struct lists *l, const char *thread)
{
	for (unsigned i = 0; i < l->nr; i++)
		if (!strcmp(l->list[i].thread, thread))
			return &l->list[i];
	return NULL;
}

/* Words between backquotes of a line. */
static void take_calls(struct list *to, char *line)
{
	for (char *at = strchr(line, '`'); at; at = strchr(at + 1, '`')) {
		char *end = strchr(at + 1, '`');
		bool known = false;

		cr_assert_not_null(end, "%s", line);
		*end = '\0';
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			if (strcmp(names[i].name, at + 1))
				continue;
			to->call[names[i].nr] = known = true;
		}
		cr_assert(known, "the list has %s, which is no call known here",
			  at + 1);
		at = end;
	}
}

static void read_lists(struct lists *l)
{
	FILE *f = fopen(SYSCALLS_LIST, "re");
	char line[512];
	struct list *to = NULL;

	cr_assert_not_null(f, "%s: %s", SYSCALLS_LIST, strerror(errno));
	memset(l, 0, sizeof(*l));
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "## ", 3)) {
			to = NULL;
			if (line[3] != '`' || l->nr == 16)
				continue;
			to = &l->list[l->nr++];
			sscanf(line + 4, "%31[^`/]", to->thread);
		} else if (to && line[0] == '|') {
			take_calls(to, line);
		}
	}
	fclose(f);
	cr_assert_geq(l->nr, 4, "only %u lists in %s", l->nr, SYSCALLS_LIST);
}

/* ---- what a VMM does ------------------------------------------------------------ */

/* Set while the library is called. */
static _Atomic int *inside;

#define LIBRARY(expression)              \
	({                               \
		int result_;             \
		atomic_store(inside, 1); \
		result_ = (expression);  \
		atomic_store(inside, 0); \
		result_;                 \
	})

static void ignore(const struct ovc_event *event, void *opaque)
{
	(void)event;
	(void)opaque;
}

struct guest {
	struct ovc_vm *vm;
	char *mem;
	int memfd;
};

#define LEN (16 * MIB)

static int use(struct ovc_host *host, struct guest *g)
{
	struct ovc_balloon_options driver = { .size = sizeof(driver),
					      .flags = OVC_BALLOON_DRIVER };
	struct ovc_vm_stats s = { .size = sizeof(s) };
	struct ovc_host_stats hs = { .size = sizeof(hs) };
	struct ovc_range range = { g->mem, 64 * PAGE };
	uint64_t target;
	uint32_t pfns[64];
	char page[PAGE];
	int bad = 0;

	for (uint32_t i = 0; i < 64; i++)
		pfns[i] = i;
	/* Swapped out and in; common contents are shared. */
	for (size_t i = 0; i < LEN / PAGE; i++)
		make_page(g->mem + i * PAGE, i / 2 % 1024, 1);
	usleep(300000);
	for (size_t i = 0; i < LEN / PAGE; i += 3)
		bad |= !is_page(g->mem + i * PAGE, i / 2 % 1024, 1);
	bad |= LIBRARY(ovc_vm_reclaim(g->vm, g->mem, LEN));
	bad |= LIBRARY(ovc_vm_prefetch(g->vm, g->mem, MIB));
	bad |= LIBRARY(ovc_vm_pin(g->vm, g->mem, 8 * PAGE));
	bad |= LIBRARY(ovc_vm_unpin(g->vm, g->mem, 8 * PAGE));
	bad |= LIBRARY(ovc_vm_read(g->vm, g->mem, page, PAGE));
	bad |= LIBRARY(ovc_vm_overwrite(g->vm, g->mem + MIB, MIB));
	bad |= LIBRARY(ovc_vm_discard(g->vm, g->mem + MIB, MIB));
	bad |= LIBRARY(ovc_vm_set_sharing(g->vm, g->mem, LEN, 1));
	bad |= LIBRARY(ovc_vm_advise(g->vm, g->mem, LEN, MADV_DONTDUMP));
	bad |= LIBRARY(ovc_vm_balloon_set(g->vm, &driver));
	bad |= LIBRARY(ovc_vm_balloon_fd(g->vm)) < 0;
	bad |= LIBRARY(ovc_vm_balloon_target(g->vm, &target));
	bad |= LIBRARY(ovc_vm_balloon_inflate(g->vm, pfns, 64, NULL));
	bad |= LIBRARY(ovc_vm_balloon_reached(g->vm, 64 * PAGE));
	bad |= LIBRARY(ovc_vm_balloon_deflate(g->vm, pfns, 64, NULL));
	bad |= LIBRARY(ovc_vm_balloon_report(g->vm, &range, 1, NULL));
	bad |= LIBRARY(ovc_vm_balloon_set(g->vm, NULL));
	bad |= LIBRARY(ovc_vm_set_limit(g->vm, 8 * MIB));
	bad |= LIBRARY(ovc_vm_set_limit(g->vm, 0));
	bad |= LIBRARY(ovc_vm_stats(g->vm, &s));
	bad |= LIBRARY(ovc_host_stats(host, &hs));
	return bad;
}

static int live(void *arg)
{
	struct ovc_host_options h = { .size = sizeof(h),
				      .budget = 16 * MIB,
				      .share = OVC_SHARE_ALWAYS,
				      .share_cpu = 50,
				      .event = ignore };
	struct ovc_vm_options v = { .size = sizeof(v), .swap = swap_dir() };
	struct guest g[2];
	struct ovc_host *host;
	char file[160];
	int bad = 0;

	(void)arg;
	if (LIBRARY(ovc_host_create(&h, &host)))
		return 2;
	for (unsigned i = 0; i < 2; i++) {
		struct ovc_region_options r = { .size = sizeof(r), .len = LEN };

		g[i].mem = r.addr = map_memory((enum kind)i, LEN, &r.memfd);
		r.flags = r.memfd ? OVC_REGION_UNSHARED_MEMFD : 0;
		if (i) {
			snprintf(file, sizeof(file), "%s/guest.swap",
				 swap_dir());
			v.swap = file;
			v.flags = OVC_VM_SPARSE_SWAP;
		}
		if (LIBRARY(ovc_vm_create(host, &v, &g[i].vm)) ||
		    LIBRARY(ovc_vm_add_region(g[i].vm, &r)))
			return 3;
	}
	for (unsigned i = 0; i < 2; i++)
		bad |= use(host, &g[i]);
	bad |= LIBRARY(ovc_host_set_budget(host, 12 * MIB));
	usleep(300000);
	bad |= LIBRARY(ovc_host_set_budget(host, 64 * MIB));
	bad |= LIBRARY(ovc_vm_remove_region(g[0].vm, g[0].mem, 0));
	LIBRARY((ovc_vm_destroy(&g[0].vm, 0), 0));
	LIBRARY((ovc_vm_destroy(&g[1].vm, OVC_THROW_AWAY), 0));
	LIBRARY((ovc_host_destroy(&host), 0));
	unlink(file);
	return bad != 0;
}

/* ---- watched ---------------------------------------------------------------------- */

struct task {
	pid_t tid;
	char name[32];
	bool call[NR_CALLS];
};

struct seen {
	unsigned nr;
	struct task task[NR_TASKS];
};

static struct task *task_of(struct seen *s, pid_t tid)
{
	for (unsigned i = 0; i < s->nr; i++)
		if (s->task[i].tid == tid)
			return &s->task[i];
	cr_assert_lt(s->nr, NR_TASKS);
	s->task[s->nr].tid = tid;
	return &s->task[s->nr++];
}

/* Its creator names a thread soon after it began: the last name is the one. */
static void look_at_name(struct task *t, pid_t pid)
{
	char path[64], name[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", pid, t->tid);
	f = fopen(path, "re");
	if (f && fscanf(f, "%31[^/\n]", name) == 1)
		memcpy(t->name, name, sizeof(name));
	if (f)
		fclose(f);
}

static void note_call(struct seen *s, pid_t pid, pid_t tid)
{
	struct __ptrace_syscall_info info;
	struct task *t = task_of(s, tid);

	if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) <= 0 ||
	    info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return;
	look_at_name(t, pid);
	/* What the program does by itself is its own affair. */
	if (tid == pid && !atomic_load(inside))
		return;
	if (info.entry.nr < NR_CALLS)
		t->call[info.entry.nr] = true;
}

static int watch(pid_t pid, struct seen *s)
{
	long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE |
		       PTRACE_O_EXITKILL;
	int status;

	cr_assert_eq(waitpid(pid, &status, 0), pid);
	if (ptrace(PTRACE_SETOPTIONS, pid, 0, options))
		return -1;
	ptrace(PTRACE_SYSCALL, pid, 0, 0);
	for (;;) {
		pid_t tid = waitpid(-1, &status, __WALL);
		long signal = 0;

		if (tid < 0)
			return -1;
		if (!WIFSTOPPED(status)) {
			if (tid == pid)
				return WIFEXITED(status) ? WEXITSTATUS(status) :
							   -1;
			continue;
		}
		if (WSTOPSIG(status) == (SIGTRAP | 0x80))
			note_call(s, pid, tid);
		else if (WSTOPSIG(status) != SIGSTOP &&
			 WSTOPSIG(status) != SIGTRAP)
			signal = WSTOPSIG(status);
		ptrace(PTRACE_SYSCALL, tid, 0, signal);
	}
}

/* Of the thread, or of every one. */
static bool is_listed(struct lists *lists, const char *name, unsigned nr)
{
	const struct list *own = list_of(lists, name);
	const struct list *every = list_of(lists, "every");

	return (own && own->call[nr]) || (every && every->call[nr]);
}

/* Returns how many calls are in no list, and says which. */
static unsigned compare(struct lists *lists, const struct seen *s, pid_t pid)
{
	unsigned missing = 0;

	for (unsigned i = 0; i < s->nr; i++) {
		const struct task *t = &s->task[i];
		const char *name = t->tid == pid ? CALLER : t->name;

		for (unsigned nr = 0; nr < NR_CALLS; nr++) {
			if (!t->call[nr] || is_listed(lists, name, nr))
				continue;
			fprintf(stderr, "%s: %s is not in the list\n", name,
				name_of(nr));
			missing++;
		}
	}
	return missing;
}

static void share_flag(void)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(p, MAP_FAILED);
	inside = p;
	swap_dir(); /* made here, and by no child */
}

Test(syscalls, each_thread_makes_those_that_are_listed)
{
	static struct lists lists;
	static struct seen seen;
	pid_t pid;
	int result;

	skip_sanitized();
	need_userfaultfd();
	read_lists(&lists);
	share_flag();
	pid = fork();
	if (!pid) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0))
			_exit(77);
		raise(SIGSTOP);
		_exit(live(NULL));
	}
	result = watch(pid, &seen);
	if (result < 0 || result == 77)
		cr_skip_test("no process can be traced here");
	cr_assert_eq(result, 0, "the program: %d", result);
	cr_assert_geq(seen.nr, 5);
	cr_assert_eq(compare(&lists, &seen, pid), 0);
}

/* ---- filtered ---------------------------------------------------------------------- */

/* All lists together, and what this program needs. */
static bool filter(struct lists *lists)
{
	static struct sock_filter code[NR_CALLS + 8];
	static const int own[] = { SYS_exit_group,   SYS_exit,
				   SYS_write,	     SYS_clock_nanosleep,
				   SYS_mmap,	     SYS_munmap,
				   SYS_memfd_create, SYS_ftruncate,
				   SYS_madvise,	     SYS_unlink };
	bool call[NR_CALLS] = { false };
	struct sock_fprog program = { .filter = code };
	unsigned short n = 0;

	for (unsigned i = 0; i < lists->nr; i++)
		for (unsigned k = 0; k < NR_CALLS; k++)
			call[k] |= lists->list[i].call[k];
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		call[own[i]] = true;
	code[n++] = (struct sock_filter)BPF_STMT(
		BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (unsigned k = 0; k < NR_CALLS; k++) {
		if (!call[k])
			continue;
		code[n++] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
							 SECCOMP_RET_ALLOW);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
						 SECCOMP_RET_KILL_PROCESS);
	program.len = n;
	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int live_filtered(void *arg)
{
	if (!filter(arg))
		_exit(77);
	_exit(live(NULL));
}

Test(syscalls, under_a_filter_of_the_list_all_works)
{
	static struct lists lists;
	int result;

	skip_sanitized();
	need_userfaultfd();
	read_lists(&lists);
	share_flag();
	result = in_child(live_filtered, &lists, 100);
	if (result == 77)
		cr_skip_test("no filter can be set here");
	cr_assert_eq(result, 0, "%d; %d is SIGSYS", result, 128 + SIGSYS);
}
