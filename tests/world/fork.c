/* SPDX-License-Identifier: MIT */
/*
 * Programs that fork: what a child may not use says so, what it may works, and whatever
 * children do and however they end, the parent's guests do not notice.
 */
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "world.h"

TestSuite(fork, .timeout = 120);

extern char **environ;

/* ---- what a child may not use ------------------------------------------------- */

static bool refused(const char *name, int got)
{
	char parent[32];

	snprintf(parent, sizeof(parent), "process %d;", getppid());
	if (got == -EPERM && strstr(ovc_error(), name) &&
	    strstr(ovc_error(), parent))
		return true;
	fprintf(stderr, "%s: %d: %s\n", name, got, ovc_error());
	return false;
}

#define REFUSED(name, ...) (wrong += !refused(#name, ovc_##name(__VA_ARGS__)))
#define VM_REFUSED(name, ...) \
	(wrong += !refused(#name, ovc_vm_##name(__VA_ARGS__)))

static int try_host(struct world *w)
{
	struct ovc_host_stats stats = { .size = sizeof(stats) };
	struct ovc_event event = { .size = sizeof(event) };
	struct ovc_vm *vm = NULL;
	int wrong = 0;

	REFUSED(host_stats, w->host, &stats);
	wrong += !refused("set_budget", ovc_host_set_budget(w->host, 64 * MIB));
	wrong += !refused("set_share",
			  ovc_host_set_share(w->host, OVC_SHARE_NEVER, 0));
	wrong += !refused("event_fd", ovc_host_event_fd(w->host));
	wrong += !refused("next_event", ovc_host_next_event(w->host, &event));
	REFUSED(host_fd, w->host);
	REFUSED(host_dispatch, w->host);
	REFUSED(vm_create, w->host, NULL, &vm);
	return wrong;
}

static int try_vm(struct world *w)
{
	struct ovc_vm_stats stats = { .size = sizeof(stats) };
	int memfd, wrong = 0;
	struct ovc_region_options r = { .size = sizeof(r),
					.addr = map_memory(ANON, MIB, &memfd),
					.len = MIB };

	REFUSED(vm_stats, w->vm, &stats);
	VM_REFUSED(set_limit, w->vm, 64 * MIB);
	VM_REFUSED(set_shares, w->vm, 1, 0);
	VM_REFUSED(add_region, w->vm, &r);
	VM_REFUSED(remove_region, w->vm, w->mem, 0);
	return wrong;
}

static int try_balloon(struct world *w)
{
	struct ovc_balloon_stat stat = { .tag = OVC_BALLOON_S_MEMFREE };
	struct ovc_range range = { w->mem, MIB };
	uint32_t pfn = WORLD_GPA / PAGE;
	uint64_t n;
	int wrong = 0;

	VM_REFUSED(balloon_inflate, w->vm, &pfn, 1, NULL);
	VM_REFUSED(balloon_deflate, w->vm, &pfn, 1, NULL);
	VM_REFUSED(balloon_inflate_ranges, w->vm, &range, 1, NULL);
	VM_REFUSED(balloon_deflate_ranges, w->vm, &range, 1, NULL);
	VM_REFUSED(balloon_report, w->vm, &range, 1, NULL);
	VM_REFUSED(balloon_set, w->vm, NULL);
	VM_REFUSED(balloon_fd, w->vm);
	VM_REFUSED(balloon_target, w->vm, &n);
	VM_REFUSED(balloon_ask, w->vm, PAGE);
	VM_REFUSED(balloon_reached, w->vm, PAGE);
	VM_REFUSED(balloon_stats, w->vm, &stat, 1);
	VM_REFUSED(balloon_oom, w->vm, PAGE, &n);
	return wrong;
}

static int try_ranges(struct world *w)
{
	static char buf[PAGE];
	int wrong = 0;

	VM_REFUSED(discard, w->vm, w->mem, PAGE);
	VM_REFUSED(reclaim, w->vm, w->mem, PAGE);
	VM_REFUSED(prefetch, w->vm, w->mem, PAGE);
	VM_REFUSED(pin, w->vm, w->mem, PAGE);
	VM_REFUSED(unpin, w->vm, w->mem, PAGE);
	VM_REFUSED(overwrite, w->vm, w->mem, PAGE);
	VM_REFUSED(set_sharing, w->vm, w->mem, PAGE, 1);
	VM_REFUSED(advise, w->vm, w->mem, PAGE, MADV_DONTDUMP);
	VM_REFUSED(read, w->vm, w->mem, buf, PAGE);
	return wrong;
}

static int try_all(void *arg)
{
	struct world *w = arg;
	int wrong = try_host(w) + try_vm(w) + try_balloon(w) + try_ranges(w);

	ovc_vm_destroy(&w->vm, 0);
	wrong += w->vm || !strstr(ovc_error(), "vm_destroy");
	ovc_host_destroy(&w->host);
	wrong += w->host || !strstr(ovc_error(), "host_destroy");
	wrong += !ovc_version() || !ovc_feature_name(OVC_FEATURE_MOVE);
	return wrong;
}

static uint32_t modes[] = { 0, OVC_HOST_DISPATCH };

ParameterizedTestParameters(fork, every_call_in_a_child_is_refused)
{
	return cr_make_param_array(uint32_t, modes, 2);
}

ParameterizedTest(uint32_t *mode, fork, every_call_in_a_child_is_refused)
{
	struct world w;

	world_open(&w, (struct plan){ .host_flags = *mode });
	fill_pages(w.mem, 0, w.len / PAGE, 1);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len / 2), 0);
	cr_assert_eq(in_child(try_all, &w, 60), 0);
	/* The parent can. */
	cr_assert_eq(ovc_vm_pin(w.vm, w.mem, w.len / 2), 0);
	cr_assert_eq(check_pages(w.mem, 0, w.len / PAGE, 1), -1);
	cr_assert_eq(ovc_vm_unpin(w.vm, w.mem, w.len / 2), 0);
	world_close(&w, 0);
}

/* ---- what it may ---------------------------------------------------------------- */

static int use_own_host(void *arg)
{
	struct world *old = arg, w;

	if (old) {
		ovc_vm_destroy(&old->vm, 0);
		ovc_host_destroy(&old->host);
	}
	world_open(&w, (struct plan){ .budget = 32 * MIB, .len = 64 * MIB });
	for (unsigned i = 0; i < 2; i++) {
		fill_pages(w.mem, 0, w.len / PAGE, i);
		if (check_pages(w.mem, 0, w.len / PAGE, i) != -1)
			return 1;
	}
	if (!vm_stats(&w).swap_out_bytes)
		return 2;
	world_close(&w, 0);
	return 0;
}

/* As daemon(3) does it: the host is created by who remains. */
static int fork_and_leave(void *arg)
{
	int ends[2];
	char result = 1;

	if (pipe(ends))
		return 1;
	if (!fork()) {
		setsid();
		result = (char)use_own_host(arg);
		_exit(write(ends[1], &result, 1) != 1);
	}
	close(ends[1]);
	return read(ends[0], &result, 1) != 1 || result;
}

Test(fork, a_daemon_creates_its_host_after_it_forked)
{
	need_userfaultfd();
	cr_assert_eq(in_child(fork_and_leave, NULL, 60), 0);
}

struct guest {
	struct world *w;
	pthread_t thread;
	atomic_bool stop;
	atomic_long bad;
	atomic_uint rounds;
};

static void *run(void *arg)
{
	struct guest *g = arg;
	uint64_t nr = g->w->len / PAGE;

	g->bad = -1;
	for (unsigned i = 0; !g->stop && g->bad < 0; i++, g->rounds++) {
		fill_pages(g->w->mem, 0, nr, i);
		g->bad = check_pages(g->w->mem, 0, nr, i);
	}
	return NULL;
}

/* A guest of twice the budget, in the parent. */
static void start(struct guest *g, struct world *w)
{
	world_open(w, (struct plan){ .budget = 32 * MIB, .len = 64 * MIB });
	*g = (struct guest){ .w = w };
	cr_assert_eq(pthread_create(&g->thread, NULL, run, g), 0);
	while (!vm_stats(w).swap_out_bytes)
		usleep(1000);
}

/* It still gets on, and no byte is wrong. */
static void finish(struct guest *g)
{
	unsigned rounds = g->rounds;

	while (g->bad < 0 && g->rounds < rounds + 2)
		usleep(1000);
	g->stop = true;
	pthread_join(g->thread, NULL);
	cr_assert_eq(g->bad, -1, "page %ld", g->bad);
	cr_assert_eq(check_pages(g->w->mem, 0, g->w->len / PAGE, g->rounds - 1),
		     -1);
	world_close(g->w, 0);
}

Test(fork, a_child_creates_a_host_of_its_own_beside_its_parents)
{
	struct guest g;
	struct world w;

	start(&g, &w);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(in_child(use_own_host, &w, 60), 0);
	finish(&g);
}

Test(fork, helpers_are_started_while_guests_run)
{
	char *const args[] = { (char[]){ "true" }, NULL };
	struct guest g;
	struct world w;

	start(&g, &w);
	for (unsigned i = 0; i < 60; i++) {
		int status = 1;
		pid_t pid;

		if (i % 2) {
			pid = vfork();
			if (!pid) {
				execv("/bin/true", args);
				_exit(1);
			}
		} else {
			cr_assert_eq(posix_spawn(&pid, "/bin/true", NULL, NULL,
						 args, environ),
				     0);
		}
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert_eq(status, 0);
	}
	finish(&g);
}

/* However it ends, its copies of descriptors and mappings are its own. */
Test(fork, children_end_while_guests_run)
{
	struct guest g;
	struct world w;

	start(&g, &w);
	for (unsigned i = 0; i < 30; i++) {
		pid_t pid = fork();

		if (!pid) {
			if (i % 3 == 0)
				_exit(0);
			if (i % 3 == 1)
				try_all(&w);
			raise(SIGKILL);
		}
		cr_assert_eq(waitpid(pid, NULL, 0), pid);
	}
	finish(&g);
}
