/* SPDX-License-Identifier: MIT */
/*
 * See cgroup.h. The child waits until its baseline was taken.
 */
#include "cgroup.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

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

/* Says that it is ready, waits for the baseline to be taken, and goes. */
static int be_the_child(int (*child)(const void *arg), const void *arg,
			int ready, int go)
{
	char c = 0;

	if (write(ready, &c, 1) != 1 || read(go, &c, 1) != 1)
		return 2;
	return child(arg);
}

static pid_t start_child(int (*child)(const void *arg), const void *arg,
			 const struct cgroup *g, int *ready, int *go)
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
		_exit(be_the_child(child, arg, up[1], down[0]));
	}
	close(up[1]);
	close(down[0]);
	*ready = up[0];
	*go = down[1];
	return pid;
}

struct usage watch_child(int (*child)(const void *arg), const void *arg)
{
	struct usage u = { 0 };
	int ready, go, fd;
	struct cgroup g;
	char path[600], c;
	pid_t pid;

	make_cgroup(&g);
	snprintf(path, sizeof(path), "%s/memory.stat", g.path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert(fd >= 0);
	pid = start_child(child, arg, &g, &ready, &go);
	if (read(ready, &c, 1) != 1)
		cr_skip_test("the memory cgroup takes no process");
	u.base = sample(fd, g.v2);
	cr_assert_eq(write(go, "", 1), 1);
	while (!waitpid(pid, &u.status, WNOHANG)) {
		size_t now = sample(fd, g.v2);

		u.most = now > u.most ? now : u.most;
		u.samples++;
		usleep(500);
	}
	close(fd);
	return u;
}

void check_budget(const char *what, size_t budget, struct usage u)
{
	size_t slack = budget / 50 > 8 * MIB ? budget / 50 : 8 * MIB;

	cr_assert(WIFEXITED(u.status) && !WEXITSTATUS(u.status),
		  "%s: the child ended with %#x", what, u.status);
	cr_log_info("%s, budget %zu: most %zu, base %zu, of %u samples", what,
		    budget, u.most, u.base, u.samples);
	/* The budget was used, or else nothing was tested. */
	cr_assert_gt(u.most, budget / 2);
	cr_assert_leq(u.most, budget + slack + u.base,
		      "%s: %zu KiB over the budget of %zu MiB (base %zu KiB)",
		      what, (u.most - budget) >> 10, budget >> 20,
		      u.base >> 10);
}
