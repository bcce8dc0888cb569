/* SPDX-License-Identifier: MIT */
/*
 * The budget, seen from outside: a child in a memory cgroup of its own lets many
 * threads write far more than its budget, while the parent samples what the
 * kernel counts. Anonymous and shmem pages may never be more than the budget by
 * 2 % or 8 MiB, beyond what the program had before it touched guest memory.
 *
 * No cgroup may outlive its test: it is removed by a process that only waits for
 * the test to end, however it ends.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "support.h"

TestSuite(budget, .timeout = 100);

#define WRITERS 4

/* ---- a memory cgroup ------------------------------------------------------ */

struct cgroup {
	char path[512];
	bool v2;
};

/* Our own memory cgroup, by /proc/self/cgroup and where it is mounted. */
static bool find_cgroup(struct cgroup *g)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[512], own[256];

	while (f && fgets(line, sizeof(line), f)) {
		bool v2 = sscanf(line, "0::%255s", own) == 1;

		if (!v2 && sscanf(line, "%*d:memory:%255s", own) != 1)
			continue;
		snprintf(g->path, sizeof(g->path), "/sys/fs/cgroup%s%s",
			 v2 ? "" : "/memory", own);
		g->v2 = v2;
		if (!v2)
			break; /* a hybrid: memory is where it is named */
	}
	if (f)
		fclose(f);
	return g->path[0] && !access(g->path, W_OK);
}

static bool put_word(const char *dir, const char *name, const char *word)
{
	char path[600];
	ssize_t done;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	done = write(fd, word, strlen(word));
	close(fd);
	return done > 0;
}

/* Waits for the end of the test, which closes the pipe, then removes. */
static void leave_a_remover(const char *path)
{
	int ends[2];
	char c;

	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	if (fork()) {
		close(ends[0]); /* ends[1] is ours until we end */
		return;
	}
	setsid();
	close(ends[1]);
	while (read(ends[0], &c, 1) < 0)
		;
	for (int i = 0; i < 500 && rmdir(path) && errno == EBUSY; i++)
		usleep(10000);
	_exit(0);
}

static void make_cgroup(struct cgroup *g)
{
	size_t len;
	char stat[600];

	memset(g, 0, sizeof(*g));
	if (!find_cgroup(g))
		cr_skip_test("no memory cgroup that we may divide");
	len = strlen(g->path);
	snprintf(g->path + len, sizeof(g->path) - len, "/ovc-test-%d",
		 (int)getpid());
	if (mkdir(g->path, 0700))
		cr_skip_test("%s: %s", g->path, strerror(errno));
	leave_a_remover(g->path);
	snprintf(stat, sizeof(stat), "%s/memory.stat", g->path);
	if (access(stat, R_OK))
		cr_skip_test("no memory controller in %s", g->path);
}

/* Bytes of anonymous and shmem pages. */
static size_t sample(int fd, bool v2)
{
	char text[8192], name[64];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	size_t sum = 0, bytes;

	cr_assert(n > 0);
	text[n] = 0;
	for (char *at = text; at && *at; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (sscanf(at, "%63s %zu", name, &bytes) != 2)
			break;
		if (!strcmp(name, v2 ? "anon" : "rss") ||
		    !strcmp(name, "shmem"))
			sum += bytes;
	}
	return sum;
}

/* ---- the child ------------------------------------------------------------- */

struct storm {
	struct way way;
	size_t budget, len, limit;
	bool shared; /* all of it is shared before the storm */
};

struct writer {
	char *mem;
	uint64_t first, pages;
	unsigned seed;
	bool good;
};

/* Writes all of its part, in order, then random pages, then verifies. */
static void *write_much(void *arg)
{
	struct writer *t = arg;
	uint64_t x = t->seed * 0x9e3779b97f4a7c15ull + 1;

	fill_pages(t->mem, t->first, t->pages, 1);
	for (uint64_t i = 0; i < t->pages / 2; i++) {
		uint64_t idx;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		idx = t->first + x % t->pages;
		make_page(t->mem + idx * PAGE, idx, 1);
	}
	t->good = check_pages(t->mem, t->first, t->pages, 1) == -1;
	return NULL;
}

static bool write_in_threads(char *mem, size_t len)
{
	struct writer t[WRITERS];
	pthread_t threads[WRITERS];
	uint64_t pages = len / PAGE / WRITERS;
	bool good = true;

	for (unsigned i = 0; i < WRITERS; i++) {
		t[i] = (struct writer){ mem, i * pages, pages, i, false };
		if (pthread_create(&threads[i], NULL, write_much, &t[i]))
			return false;
	}
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
		good &= t[i].good;
	}
	return good;
}

#define DIFFERENT (16 * MIB / PAGE)

/* Fills the memory with pages that repeat, until most of them are kept once, and
 * most are mapped: from then on each write takes a frame without a fault of ours. */
static bool share_all(struct ovc_host *h, char *mem, size_t len)
{
	struct ovc_host_stats s = { .size = sizeof(s) };

	for (uint64_t i = 0; i < len / PAGE; i++)
		make_page(mem + i * PAGE, i % DIFFERENT, 9);
	for (int i = 0; i < 2000; i++) {
		ovc_host_stats(h, &s);
		if (s.shared_bytes > len / 4 * 3 && s.mapped_bytes > len / 2)
			return true;
		/* What was swapped while it was filled comes back. */
		for (uint64_t k = 0; k < len / PAGE; k += i % 50 ? len : 1)
			(void)((volatile char *)mem)[k * PAGE];
		usleep(5000);
	}
	fprintf(stderr, "storm: %llu shared, %llu mapped\n",
		(unsigned long long)s.shared_bytes,
		(unsigned long long)s.mapped_bytes);
	return false;
}

/* Says that it is ready, waits for the baseline to be taken, and storms. Assertions
 * are the parent's: here is no Criterion. */
static int be_the_child(const struct storm *s, int ready, int go)
{
	struct ovc_host_options host = { .size = sizeof(host),
					 .budget = s->budget,
					 .without = s->way.without,
					 .share = s->shared ? OVC_SHARE_ALWAYS :
							      OVC_SHARE_NEVER,
					 .share_cpu = 100 };
	struct ovc_vm_options options = { .size = sizeof(options),
					  .swap = swap_dir() };
	struct ovc_region_options region = { .size = sizeof(region),
					     .len = s->len };
	struct ovc_host *h;
	struct ovc_vm *vm;
	bool good;
	char c = 0;

	if (write(ready, &c, 1) != 1 || read(go, &c, 1) != 1)
		return 2;
	region.addr = map_memory(s->way.kind, s->len, &region.memfd);
	region.flags = region.memfd ? OVC_REGION_UNSHARED_MEMFD : 0;
	if (ovc_host_create(&host, &h) || ovc_vm_create(h, &options, &vm) ||
	    ovc_vm_add_region(vm, &region)) {
		fprintf(stderr, "storm: %s\n", ovc_error());
		return 3;
	}
	if (s->shared && !share_all(h, region.addr, s->len))
		return 6;
	good = write_in_threads(region.addr, s->len);
	ovc_vm_destroy(&vm, OVC_THROW_AWAY);
	ovc_host_destroy(&h);
	return good ? 0 : 4;
}

static pid_t start_child(const struct storm *s, const struct cgroup *g,
			 int *ready, int *go)
{
	int up[2], down[2];
	pid_t pid;

	cr_assert_eq(pipe2(up, O_CLOEXEC), 0);
	cr_assert_eq(pipe2(down, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(up[0]);
		close(down[1]);
		if (!put_word(g->path, "cgroup.procs", "0"))
			_exit(5);
		_exit(be_the_child(s, up[1], down[0]));
	}
	close(up[1]);
	close(down[0]);
	*ready = up[0];
	*go = down[1];
	return pid;
}

static struct storm storms[] = {
	/* tracked from the first page on */
	{ { ANON, 0 }, 48 << 20, 144 << 20, 0, false },
	{ { MEMFD, 0 }, 48 << 20, 144 << 20, 0, false },
	/* all of it shared, and then written */
	{ { ANON, 0 }, 64 << 20, 192 << 20, 0, true },
	{ { MEMFD, 0 }, 64 << 20, 192 << 20, 0, true },
	/* tracking begins in the middle */
	{ { ANON, 0 }, 320 << 20, 480 << 20, 0, false },
	{ { MEMFD, 0 }, 320 << 20, 480 << 20, 0, false },
	/* the fallbacks that hold frames in another way */
	{ { ANON, OVC_FEATURE_MOVE }, 48 << 20, 144 << 20, 0, false },
	{ { ANON, OVC_FEATURE_IO_URING }, 48 << 20, 144 << 20, 0, false },
	{ { MEMFD, OVC_FEATURE_IO_URING }, 48 << 20, 144 << 20, 0, false },
};

ParameterizedTestParameters(budget, a_budget_is_kept_in_the_middle_of_a_storm)
{
	return cr_make_param_array(struct storm, storms,
				   sizeof(storms) / sizeof(storms[0]));
}

ParameterizedTest(struct storm *s, budget,
		  a_budget_is_kept_in_the_middle_of_a_storm)
{
	size_t base, most = 0, now, slack = s->budget / 50;
	unsigned samples = 0;
	int ready, go, fd, status;
	struct cgroup g;
	char path[600], c;
	pid_t pid;

	skip_sanitized();
	need_userfaultfd();
	make_cgroup(&g);
	snprintf(path, sizeof(path), "%s/memory.stat", g.path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert(fd >= 0);
	pid = start_child(s, &g, &ready, &go);
	if (read(ready, &c, 1) != 1)
		cr_skip_test("the memory cgroup takes no process");
	base = sample(fd, g.v2);
	cr_assert_eq(write(go, "", 1), 1);
	while (!waitpid(pid, &status, WNOHANG)) {
		now = sample(fd, g.v2);
		most = now > most ? now : most;
		samples++;
		usleep(500);
	}
	close(fd);
	cr_assert(WIFEXITED(status) && !WEXITSTATUS(status),
		  "%s: the child ended with %#x", way_name(s->way), status);
	if (slack < 8 * MIB)
		slack = 8 * MIB;
	/* The kernel copies what is written of a shared page, and we see it
	 * later: but not when a third was copied. */
	if (s->shared)
		slack = s->len / 3;
	cr_log_info("%s, budget %zu: most %zu, base %zu, of %u samples",
		    way_name(s->way), s->budget, most, base, samples);
	/* The budget was used, or else nothing was tested. */
	cr_assert_gt(most, s->budget / 2);
	cr_assert_leq(most, s->budget + slack + base,
		      "%s: %zu KiB over the budget of %zu MiB (base %zu KiB)",
		      way_name(s->way), (most - s->budget) >> 10,
		      s->budget >> 20, base >> 10);
}

/* ---- limits of one VM ------------------------------------------------------ */

struct limited {
	struct world *w;
	atomic_bool stop;
	uint64_t most;
};

static void *watch_limit(void *arg)
{
	struct limited *l = arg;

	while (!l->stop) {
		uint64_t resident = vm_stats(l->w).resident;

		l->most = resident > l->most ? resident : l->most;
		usleep(500);
	}
	return NULL;
}

ParameterizedTestParameters(budget, the_limit_of_a_vm_is_kept)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, budget, the_limit_of_a_vm_is_kept)
{
	struct limited l = { 0 };
	pthread_t thread;
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .limit = 16 * MIB,
				      .len = 64 * MIB });
	cr_assert(vm_stats(&w).tracked);
	l.w = &w;
	cr_assert_eq(pthread_create(&thread, NULL, watch_limit, &l), 0);
	cr_assert(write_in_threads(w.mem, w.len));
	l.stop = true;
	pthread_join(thread, NULL);
	cr_assert_gt(l.most, 8 * MIB);
	/* What several threads bring in at once is counted when it is in. */
	cr_assert_leq(l.most, 17 * MIB, "%s: %zu KiB", way_name(*way),
		      (size_t)l.most >> 10);
	world_close(&w, OVC_THROW_AWAY);
}

ParameterizedTestParameters(budget, a_limit_set_later_is_reached)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, budget, a_limit_set_later_is_reached)
{
	struct world w;
	uint64_t resident = 0;

	world_open(&w, (struct plan){ .way = *way, .len = 32 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 2);
	cr_assert_eq(ovc_vm_set_limit(w.vm, 4 * MIB), 0);
	for (int i = 0; i < 2000; i++) {
		resident = vm_stats(&w).resident;
		if (resident <= 4 * MIB)
			break;
		usleep(5000);
	}
	cr_assert_leq(resident, 4 * MIB);
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 2), -1);
	cr_assert_eq(ovc_vm_set_limit(w.vm, 0), 0);
	world_close(&w, 0);
}

ParameterizedTestParameters(budget, a_budget_that_shrinks_is_reached)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, budget, a_budget_that_shrinks_is_reached)
{
	struct world w;
	uint64_t used = 0;

	world_open(&w, (struct plan){ .way = *way, .len = 64 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 3);
	cr_assert_eq(host_stats(&w).tracked, 0);
	cr_assert_eq(ovc_host_set_budget(w.host, 24 * MIB), 0);
	for (int i = 0; i < 2000; i++) {
		used = host_stats(&w).used;
		if (used <= 24 * MIB)
			break;
		usleep(5000);
	}
	cr_assert_leq(used, 24 * MIB);
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 3), -1);
	world_close(&w, OVC_THROW_AWAY);
}

/* A thread that looked a moment later would be too late for a fast guest. */
Test(budget, a_region_over_a_small_budget_is_tracked_when_it_is_added)
{
	struct world w;

	for (unsigned i = 0; i < 20; i++) {
		world_open(&w, (struct plan){ .len = 40 * MIB,
					      .budget = 16 * MIB });
		cr_assert(vm_stats(&w).tracked);
		world_close(&w, OVC_THROW_AWAY);
		world_open(&w,
			   (struct plan){ .len = 40 * MIB, .limit = 16 * MIB });
		cr_assert(vm_stats(&w).tracked);
		world_close(&w, OVC_THROW_AWAY);
	}
}

ParameterizedTestParameters(budget, guests_that_fit_to_the_byte_are_left_alone)
{
	return cr_make_param_array(struct way, both_kinds, 2);
}

ParameterizedTest(struct way *way, budget,
		  guests_that_fit_to_the_byte_are_left_alone)
{
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .len = 64 * MIB,
				      .budget = 64 * MIB });
	fill_pages(w.mem, 0, w.len / PAGE, 3);
	usleep(300000); /* several looks of who watches */
	cr_assert_eq(host_stats(&w).tracked, 0);
	cr_assert_eq(host_stats(&w).faults, 0);
	/* One page more than the budget ends that. */
	cr_assert_eq(ovc_host_set_budget(w.host, 64 * MIB - PAGE), 0);
	for (int i = 0; i < 2000 && !host_stats(&w).tracked; i++)
		usleep(1000);
	cr_assert_neq(host_stats(&w).tracked, 0);
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 3), -1);
	world_close(&w, OVC_THROW_AWAY);
}
