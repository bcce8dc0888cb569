/* SPDX-License-Identifier: MIT */
/*
 * See support.h. A world is made with plenty of budget, so that tests take pages
 * out by asking for it, and know which.
 *
 * Failures end the test; directories that were made go at exit.
 */
#include "support.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <setjmp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

/* ---- ways ---------------------------------------------------------------- */

struct way both_kinds[2] = { { ANON, 0 }, { MEMFD, 0 } };

/* Not MINOR, without which there is no memfd; nor JEMALLOC, which is built in. */
static const uint32_t features[] = {
	OVC_FEATURE_MOVE,	  OVC_FEATURE_PAGEMAP_SCAN,
	OVC_FEATURE_WP_ASYNC,	  OVC_FEATURE_POISON,
	OVC_FEATURE_BATCH_ADVISE, OVC_FEATURE_IO_URING,
	OVC_FEATURE_DIRECT_IO,	  OVC_FEATURE_TMPFILE,
	OVC_FEATURE_FIXED_BUFS,	  OVC_FEATURE_FIXED_FILES,
};

#define NR_FEATURES (sizeof(features) / sizeof(features[0]))

size_t all_ways(struct way ways[WAYS_MAX])
{
	size_t nr = 0;

	for (unsigned kind = ANON; kind <= MEMFD; kind++) {
		uint32_t all = 0;

		ways[nr++] = (struct way){ kind, 0 };
		for (size_t i = 0; i < NR_FEATURES; i++) {
			ways[nr++] = (struct way){ kind, features[i] };
			all |= features[i];
		}
		ways[nr++] = (struct way){ kind, all };
	}
	return nr;
}

const char *way_name(struct way way)
{
	static char name[256];
	size_t n = (size_t)snprintf(name, sizeof(name), "%s",
				    way.kind == ANON ? "anon" : "memfd");

	for (size_t i = 0; i < NR_FEATURES; i++)
		if (way.without & features[i])
			n += (size_t)snprintf(name + n, sizeof(name) - n,
					      ", without %s",
					      ovc_feature_name(features[i]));
	return name;
}

/* ---- what tests need ----------------------------------------------------- */

void need_root(void)
{
	if (geteuid())
		cr_skip_test("needs root");
}

int open_userfaultfd(void)
{
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = -1;

	if (dev >= 0) {
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		close(dev);
	}
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		cr_skip_test("no userfaultfd here: %s", strerror(errno));
	return fd;
}

void need_userfaultfd(void)
{
	close(open_userfaultfd());
}

bool deny_syscall(int nr, int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* ---- directories --------------------------------------------------------- */

const char *swap_dir(void)
{
	const char *dir = getenv("TMPDIR");

	return dir && *dir ? dir : TEST_DIR;
}

static char made_dir[512];
static pid_t made_by;

static void remove_made_dir(void)
{
	struct dirent *e;
	DIR *d;

	if (getpid() != made_by)
		return;
	umount2(made_dir, MNT_DETACH); /* see own_tmpfs() */
	d = opendir(made_dir);
	while (d && (e = readdir(d)))
		unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(made_dir);
}

const char *own_dir(void)
{
	if (made_by == getpid())
		return made_dir;
	snprintf(made_dir, sizeof(made_dir), "%s/kernel-XXXXXX", swap_dir());
	cr_assert(mkdtemp(made_dir), "%s: %s", made_dir, strerror(errno));
	made_by = getpid();
	atexit(remove_made_dir);
	return made_dir;
}

unsigned count_files(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	unsigned nr = 0;

	cr_assert(d, "%s: %s", dir, strerror(errno));
	while ((e = readdir(d)))
		nr += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return nr;
}

static void set_tmpfs(const char *dir, size_t bytes, unsigned long flags)
{
	char data[64];

	snprintf(data, sizeof(data), "size=%zu", bytes);
	cr_assert(!mount("none", dir, "tmpfs", flags, data), "mount: %s",
		  strerror(errno));
}

const char *own_tmpfs(size_t bytes)
{
	const char *dir = own_dir();

	need_root();
	if (unshare(CLONE_NEWNS) ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		cr_skip_test("no mount namespace: %s", strerror(errno));
	set_tmpfs(dir, bytes, 0);
	return dir;
}

void resize_tmpfs(const char *dir, size_t bytes)
{
	set_tmpfs(dir, bytes, MS_REMOUNT);
}

/* ---- the process --------------------------------------------------------- */

struct belongings belongings(void)
{
	struct belongings b = {
		/* Without the one that looks. */
		.fds = count_files("/proc/self/fd") - 1,
		.threads = count_files("/proc/self/task"),
	};
	FILE *f = fopen("/proc/self/maps", "re");
	int c;

	cr_assert(f);
	while ((c = fgetc(f)) != EOF)
		b.mappings += c == '\n';
	fclose(f);
	return b;
}

/* Finds a line of the mapping that holds addr. */
static bool smaps_line(const void *addr, const char *name, char *line, int size)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	bool inside = false, found = false;
	unsigned long from, to;

	cr_assert(f);
	while (!found && fgets(line, size, f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = (unsigned long)addr >= from &&
				 (unsigned long)addr < to;
		else
			found = inside && !strncmp(line, name, strlen(name));
	}
	fclose(f);
	return found;
}

size_t smaps_bytes(const void *addr, const char *name)
{
	char line[512];
	size_t kib = 0;

	cr_assert(smaps_line(addr, name, line, sizeof(line)));
	sscanf(line, "%*s %zu", &kib);
	return kib << 10;
}

bool smaps_flag(const void *addr, const char *flag)
{
	char line[512];

	cr_assert(smaps_line(addr, "VmFlags:", line, sizeof(line)));
	return strstr(line, flag);
}

size_t present_pages(const void *addr, size_t len)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t nr = 0;

	cr_assert(fd >= 0);
	for (size_t at = 0; at < len; at += PAGE) {
		uint64_t entry;

		cr_assert_eq(pread(fd, &entry, sizeof(entry),
				   (off_t)(((uintptr_t)addr + at) / PAGE *
					   sizeof(entry))),
			     (ssize_t)sizeof(entry));
		nr += entry >> 63;
	}
	close(fd);
	return nr;
}

static sigjmp_buf jump;
static volatile sig_atomic_t caught_signal, caught_code;
static void *volatile caught_addr;

static void catch_signal(int nr, siginfo_t *info, void *context)
{
	(void)context;
	caught_signal = nr;
	caught_code = info->si_code;
	caught_addr = info->si_addr;
	siglongjmp(jump, 1);
}

int touch_signal(volatile char *addr, int *code, void **where)
{
	struct sigaction act = { .sa_sigaction = catch_signal,
				 .sa_flags = SA_SIGINFO };
	struct sigaction bus, segv;

	caught_signal = 0;
	sigaction(SIGBUS, &act, &bus);
	sigaction(SIGSEGV, &act, &segv);
	if (!sigsetjmp(jump, 1))
		(void)*addr;
	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	if (code)
		*code = caught_code;
	if (where)
		*where = caught_addr;
	return caught_signal;
}

/* ---- pages --------------------------------------------------------------- */

void make_page(void *page, uint64_t idx, unsigned seed)
{
	uint64_t x = (idx + 1) * 0x9e3779b97f4a7c15ull ^ ((uint64_t)seed << 40);
	uint64_t *words = page;

	for (size_t i = 0; i < PAGE / sizeof(*words); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		words[i] = x;
	}
}

bool is_page(const void *page, uint64_t idx, unsigned seed)
{
	_Alignas(4096) char want[PAGE];

	make_page(want, idx, seed);
	return !memcmp(page, want, PAGE);
}

bool is_zero(const void *page)
{
	static const char zeros[PAGE];

	return !memcmp(page, zeros, PAGE);
}

void fill_pages(char *mem, uint64_t idx, uint64_t nr, unsigned seed)
{
	for (uint64_t i = idx; i < idx + nr; i++)
		make_page(mem + i * PAGE, i, seed);
}

long check_pages(const char *mem, uint64_t idx, uint64_t nr, unsigned seed)
{
	for (uint64_t i = idx; i < idx + nr; i++)
		if (!is_page(mem + i * PAGE, i, seed))
			return (long)i;
	return -1;
}

void expect_error(const char *what, int got, int error, const char *word)
{
	cr_assert_eq(got, error, "%s: %d (%s), not %d", what, got, ovc_error(),
		     error);
	cr_assert(strstr(ovc_error(), word), "%s: \"%s\" does not name %s",
		  what, ovc_error(), word);
}

/* ---- worlds -------------------------------------------------------------- */

static void note_event(const struct ovc_event *event, void *opaque)
{
	struct world *w = opaque;

	pthread_mutex_lock(&w->lock);
	if (w->nr_events < EVENTS_MAX) {
		struct seen_event *e = &w->events[w->nr_events++];

		*e = (struct seen_event){ .type = event->type,
					  .error = event->error,
					  .vm = event->vm,
					  .addr = event->addr,
					  .gpa = event->gpa,
					  .len = event->len,
					  .has_text = event->text &&
						      *event->text,
					  .cause = event->cause,
					  .count = event->count };
		snprintf(e->text, sizeof(e->text), "%s", event->text);
		snprintf(e->vm_name, sizeof(e->vm_name), "%s",
			 event->vm_name ? event->vm_name : "");
	}
	pthread_mutex_unlock(&w->lock);
}

static void note_log(int level, const char *line, void *opaque)
{
	struct world *w = opaque;
	size_t used;

	if (level > OVC_LOG_WARNING)
		return;
	pthread_mutex_lock(&w->lock);
	used = strlen(w->logged);
	snprintf(w->logged + used, sizeof(w->logged) - used, "%s\n", line);
	pthread_mutex_unlock(&w->lock);
}

bool world_logged(struct world *w, const char *word)
{
	bool found;

	pthread_mutex_lock(&w->lock);
	found = strstr(w->logged, word);
	pthread_mutex_unlock(&w->lock);
	return found;
}

char *map_memory(enum kind kind, size_t len, int *memfd)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	char *mem;

	*memfd = 0;
	if (kind == MEMFD) {
		*memfd = memfd_create("guest", MFD_CLOEXEC);
		cr_assert(*memfd > 0 && !ftruncate(*memfd, (off_t)len));
		flags = MAP_SHARED | MAP_NORESERVE;
	}
	mem = mmap(NULL, len, PROT_READ | PROT_WRITE, flags,
		   *memfd ? *memfd : -1, 0);
	cr_assert_neq(mem, MAP_FAILED, "mmap: %s", strerror(errno));
	/* Otherwise one touch brings in 512 pages. */
	madvise(mem, len, MADV_NOHUGEPAGE);
	return mem;
}

static void add_memory(struct world *w, const struct plan *plan)
{
	struct ovc_region_options o = { .size = sizeof(o) };

	w->len = plan->len ? plan->len : 4 * MIB;
	w->mem = map_memory(plan->way.kind, w->len, &w->memfd);
	o.addr = w->mem;
	o.len = w->len;
	o.gpa = WORLD_GPA;
	o.memfd = w->memfd;
	o.flags = plan->region_flags;
	cr_assert_eq(ovc_vm_add_region(w->vm, &o), 0, "%s: %s",
		     way_name(plan->way), ovc_error());
}

void world_open(struct world *w, struct plan plan)
{
	struct ovc_host_options host = {
		.size = sizeof(host),
		.budget = plan.budget ? plan.budget : 256 * MIB,
		.flags = plan.host_flags,
		.without = plan.way.without,
		.userfaultfd = plan.userfaultfd,
		/* In dispatch mode they are asked for: see collect_events(). */
		.event = plan.host_flags & OVC_HOST_DISPATCH ? NULL :
							       note_event,
		.log = note_log,
		.opaque = w,
		.share = plan.share ? plan.share : OVC_SHARE_NEVER,
		.share_cpu = plan.share_cpu,
		.share_mappings = plan.share_mappings,
	};
	struct ovc_vm_options vm = {
		.size = sizeof(vm),
		.name = "guest",
		.swap = plan.no_swap ? NULL :
			plan.swap    ? plan.swap :
				       swap_dir(),
		.swap_size = plan.swap_size,
		.limit = plan.limit,
		.flags = plan.vm_flags,
		.domain = plan.domain,
	};

	if (!plan.userfaultfd)
		need_userfaultfd();
	memset(w, 0, sizeof(*w));
	pthread_mutex_init(&w->lock, NULL);
	w->asks = plan.host_flags & OVC_HOST_DISPATCH;
	cr_assert_eq(ovc_host_create(&host, &w->host), 0, "%s: %s",
		     way_name(plan.way), ovc_error());
	cr_assert_eq(ovc_vm_create(w->host, &vm, &w->vm), 0, "%s: %s",
		     way_name(plan.way), ovc_error());
	add_memory(w, &plan);
}

void world_close(struct world *w, uint32_t flags)
{
	ovc_vm_destroy(&w->vm, flags);
	cr_assert_null(w->vm);
	ovc_host_destroy(&w->host);
	cr_assert_null(w->host);
	munmap(w->mem, w->len);
	if (w->memfd)
		close(w->memfd);
	pthread_mutex_destroy(&w->lock);
}

struct ovc_vm_stats vm_stats(const struct world *w)
{
	struct ovc_vm_stats s = { .size = sizeof(s) };

	cr_assert_eq(ovc_vm_stats(w->vm, &s), 0);
	return s;
}

struct ovc_host_stats host_stats(const struct world *w)
{
	struct ovc_host_stats s = { .size = sizeof(s) };

	cr_assert_eq(ovc_host_stats(w->host, &s), 0);
	return s;
}

static void collect_events(struct world *w)
{
	struct ovc_event event = { .size = sizeof(event) };

	while (w->asks && ovc_host_next_event(w->host, &event) == 1)
		note_event(&event, w);
}

unsigned world_count_events(struct world *w, int type)
{
	unsigned nr = 0;

	collect_events(w);
	pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < w->nr_events; i++)
		nr += w->events[i].type == type;
	pthread_mutex_unlock(&w->lock);
	return nr;
}

static bool find_event(struct world *w, int type, struct seen_event *event)
{
	bool found = false;

	pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < w->nr_events && !found; i++) {
		found = w->events[i].type == type;
		if (found && event)
			*event = w->events[i];
	}
	pthread_mutex_unlock(&w->lock);
	return found;
}

bool world_event(struct world *w, int type, struct seen_event *event)
{
	for (unsigned i = 0; i < 2000 * PATIENCE; i++) {
		collect_events(w);
		if (find_event(w, type, event))
			return true;
		usleep(5000);
	}
	return false;
}
