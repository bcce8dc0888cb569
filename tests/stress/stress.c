/* SPDX-License-Identifier: MIT */
/*
 * stress [threads] [scale] [iters] [seed] [options]: guests over budget against a
 * shadow copy. Plain C, so that it runs under every sanitizer.
 *
 * Two VMs of two regions each (scale MiB a region) share a third of their memory.
 * Guests write, verify and rewrite pages; callers discard, donate, pin, reclaim, prefetch,
 * overwrite, read and ask for statistics; one controller changes limits and the
 * budget, removes and adds regions while guests use them, and creates and destroys
 * VMs of its own. A page's lock is held only where its bytes must be known.
 *
 * With --share, equal pages are looked for all the time, callers fill pages with
 * bytes that others have, too, and the controller changes how it is done.
 *
 * What the machine does meanwhile (compaction, host swap, slow disks) are actors of their
 * own: actors.c.
 *
 * Now and then all rests: every page must be right, page words, ring, store and
 * statistics must fit each other and what the kernel says. In the end every page must
 * be right after the library has gone, and no descriptor, thread or mapping may be
 * left. Exit 1 otherwise; a hang aborts (watch.c).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stress.h"
#include "watch.h"

#define ROUNDS 3 /* from rest to rest */

struct options o = { .threads = 4,
		     .scale = 16,
		     .iters = 20000,
		     .seed = 1,
		     .anon = true,
		     .memfd = true,
		     .share = OVC_SHARE_NEVER };

struct ovc_host *host;
struct ovc_vm *vms[VMS];
struct place places[VMS * REGIONS];
uint64_t budget;
pthread_mutex_t control = PTHREAD_MUTEX_INITIALIZER;
atomic_bool done;
_Atomic uint64_t next_tag;
_Atomic unsigned failures, stuck, refused, moves_failed;

/* ---- odds and ends -------------------------------------------------------- */

void fail(const char *what, long is)
{
	fprintf(stderr, "stress: FAILED: %s: %ld (%s)\n", what, is,
		ovc_error());
	atomic_fetch_add(&failures, 1);
}

uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1du >> 16;
}

uint64_t random_state(unsigned n)
{
	return (o.seed + 1) * 0x9e3779b97f4a7c15u ^
	       (n + 1) * 0xd1b54a32d192ed03u;
}

void on_event(const struct ovc_event *e, void *opaque)
{
	(void)opaque;
	if (e->type == OVC_EVENT_STUCK || e->type == OVC_EVENT_OVER_BUDGET) {
		atomic_fetch_add(&stuck, 1);
		return;
	}
	if (e->type == OVC_EVENT_MEMORY_FAILED) {
		atomic_fetch_add(&moves_failed, (unsigned)e->count);
		return;
	}
	fprintf(stderr, "stress: FAILED: event %d: %s, %p + %zu\n", e->type,
		e->text, e->addr, e->len);
	atomic_fetch_add(&failures, 1);
}

/* ---- the run ---------------------------------------------------------------------- */

static void set_up(void)
{
	struct ovc_host_options h = {
		.size = sizeof(h),
		.flags = o.dispatch ? OVC_HOST_DISPATCH : 0,
		.without = o.without,
		.share = o.share,
		.share_cpu = 100,
		.share_mappings = o.mappings,
		.event = o.dispatch ? NULL : on_event,
	};
	pthread_rwlockattr_t attr;
	int error;

	budget = VMS * REGIONS * o.scale * MIB / 3;
	if (budget < 12 * MIB)
		budget = 12 * MIB;
	h.budget = budget;
	error = ovc_host_create(&h, &host);
	if (error == -EPERM || error == -ENOSYS) {
		printf("stress: skipped: %s\n", ovc_error());
		exit(77);
	}
	if (error) {
		fail("host_create", error);
		exit(1);
	}
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(
		&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	for (unsigned i = 0; i < VMS * REGIONS; i++) {
		struct place *p = &places[i];
		bool memfd = o.memfd && (!o.anon || i % 2);
		char name[32];

		if (i % REGIONS == 0)
			vms[i / REGIONS] = create_vm(false);
		snprintf(name, sizeof(name), "vm%u/%s%u", i / REGIONS,
			 memfd ? "memfd" : "anon", i % REGIONS);
		p->vm = vms[i / REGIONS];
		pthread_rwlock_init(&p->calls, &attr);
		if (!p->vm ||
		    shadow_create(&p->mem, name, memfd, o.scale * MIB / PAGE) ||
		    add_region(p->vm, &p->mem, (uint64_t)i << 40)) {
			fail("no memory, VM or region", (long)i);
			exit(1);
		}
	}
}

static void print_figures(void)
{
	struct ovc_host_stats h = { .size = sizeof(h) };

	ovc_host_stats(host, &h);
	printf("stress: faults %llu, in %llu MiB, out %llu MiB, clean %llu MiB, "
	       "zero %llu MiB, put back %llu MiB; %u pins refused, %u times "
	       "stuck, %u moves failed\n",
	       (unsigned long long)h.faults,
	       (unsigned long long)h.swap_in_bytes >> 20,
	       (unsigned long long)h.swap_out_bytes >> 20,
	       (unsigned long long)h.clean_bytes >> 20,
	       (unsigned long long)h.zero_bytes >> 20,
	       (unsigned long long)h.put_back_bytes >> 20,
	       atomic_load(&refused), atomic_load(&stuck),
	       atomic_load(&moves_failed));
	if (h.merged_bytes || h.share_zero_bytes)
		printf("stress: merged %llu MiB, broken %llu MiB, zero %llu "
		       "MiB, spared %llu MiB, %llu passes, %llu mappings of "
		       "%llu, %llu times none\n",
		       (unsigned long long)h.merged_bytes >> 20,
		       (unsigned long long)h.broken_bytes >> 20,
		       (unsigned long long)h.share_zero_bytes >> 20,
		       (unsigned long long)h.spared_bytes >> 20,
		       (unsigned long long)h.share_passes,
		       (unsigned long long)h.share_mappings,
		       (unsigned long long)h.share_mappings_limit,
		       (unsigned long long)h.share_unmapped);
}

static void take_down(void)
{
	for (unsigned i = 0; i < VMS * REGIONS; i++) {
		if (shadow_verify_all(&places[i].mem))
			fail("pages are wrong after the host is gone", (long)i);
		shadow_destroy(&places[i].mem);
		pthread_rwlock_destroy(&places[i].calls);
	}
}

static void start(pthread_t *thread, void *(*fn)(void *), uintptr_t n)
{
	if (pthread_create(thread, NULL, fn, (void *)n))
		abort();
}

static void go(void)
{
	unsigned nr = o.threads + o.threads / 2 + 2 + ACTORS;
	pthread_t *t = calloc(nr, sizeof(*t)), dispatch;
	void *(*fn[ACTORS])(void *arg);
	unsigned n = 0, nr_actors = actors(fn);

	atomic_store(&done, false);
	atomic_store(&dispatch_stop, false);
	ovc_host_set_share(host, o.share, 100);
	if (o.dispatch)
		start(&dispatch, dispatcher, 0);
	for (unsigned i = 0; i < o.threads; i++)
		start(&t[n++], guest, i);
	for (unsigned i = 0; i < o.threads / 2 + 1; i++)
		start(&t[n++], caller, i);
	start(&t[n++], controller, 0);
	for (unsigned i = 0; i < nr_actors; i++)
		start(&t[n++], fn[i], 0);
	for (unsigned i = 0; i < n; i++) {
		if (i == o.threads)
			atomic_store(&done, true);
		pthread_join(t[i], NULL);
	}
	pthread_mutex_lock(&control);
	ovc_host_set_budget(host, budget);
	ovc_host_set_share(host, OVC_SHARE_NEVER, 0);
	pthread_mutex_unlock(&control);
	check_rest();
	for (unsigned i = 0; i < VMS * REGIONS; i++)
		if (shadow_verify_all(&places[i].mem))
			fail("pages are wrong at the end", (long)i);
	check_rest();
	atomic_store(&dispatch_stop, true);
	if (o.dispatch)
		pthread_join(dispatch, NULL);
	free(t);
}

/* One by one, or all with the host. */
static void destroy_all(void)
{
	struct watched *w = watch_join("main", 0);

	/* Who dispatched has ended: now we do. */
	if (o.dispatch && ovc_host_dispatch(host))
		fail("dispatch", 0);
	/* All of it is to come back. */
	watch(w, "vm_destroy", vms[0]);
	if (ovc_host_set_budget(host, 2 * VMS * REGIONS * o.scale * MIB))
		fail("set_budget", 0);
	if (o.seed % 2)
		ovc_vm_destroy(&vms[0], 0);
	watch(w, "host_destroy", host);
	ovc_host_destroy(&host);
	watch_leave(w);
}

static void run(unsigned rounds)
{
	watch_start();
	set_up();
	for (unsigned i = 0; i < rounds && !atomic_load(&failures); i++)
		go();
	print_figures();
	destroy_all();
	take_down();
	watch_stop();
}

/* ---- options -------------------------------------------------------------------------- */

static void usage(void)
{
	printf("usage: stress [threads] [scale] [iters] [seed] [options]\n"
	       "  threads    guests; there are half as many callers (4)\n"
	       "  scale      MiB of each of the four regions (16)\n"
	       "  iters      touches of each guest (20000)\n"
	       "  seed       of all random numbers (1)\n"
	       "  --memory-kind anon|memfd|both\n"
	       "  --without FEATURE   as ovc_feature_name() has it; may be "
	       "repeated; or all\n"
	       "  --dispatch          no threads of the library's own\n"
	       "  --sparse            sparse swap files\n"
	       "  --share MODE        never (the default), pressure or always\n"
	       "  --mappings N        that sharing may use\n"
	       "  --unshared          nobody else maps the memfds\n"
	       "  --compact           the kernel compacts memory\n"
	       "  --pageout           the host swaps guests' pages\n"
	       "  --slow-disk USEC    each read and write takes so much longer; "
	       "without io-uring\n"
	       "  --snapshot          all pages are read in turn\n"
	       "  --swap-dir DIR      ($TMPDIR, or the working directory)\n");
}

static uint32_t feature(const char *name)
{
	/* Without minor faults there is no memfd memory. */
	if (!strcmp(name, "all"))
		return ((1u << 12) - 1) & ~OVC_FEATURE_MINOR;
	for (unsigned i = 0; i < 32; i++) {
		const char *is = ovc_feature_name(1u << i);

		if (is && !strcmp(is, name))
			return 1u << i;
	}
	return 0;
}

static bool take_kind(const char *kind)
{
	o.anon = strcmp(kind, "memfd") != 0;
	o.memfd = strcmp(kind, "anon") != 0;
	return !o.anon || !o.memfd || !strcmp(kind, "both");
}

static bool take_mode(const char *mode)
{
	static const char *const names[] = { "pressure", "never", "always" };

	for (uint32_t i = 0; i < 3; i++)
		if (!strcmp(mode, names[i]))
			return o.share = i, true;
	return false;
}

/* Returns how many arguments it took, 0 for a bad one. */
static int take_option(char **arg, int left)
{
	if (!strcmp(arg[0], "--dispatch"))
		o.dispatch = true;
	else if (!strcmp(arg[0], "--sparse"))
		o.sparse = true;
	else if (!strcmp(arg[0], "--unshared"))
		o.unshared = true;
	else if (!strcmp(arg[0], "--compact"))
		o.compact = true;
	else if (!strcmp(arg[0], "--pageout"))
		o.pageout = true;
	else if (!strcmp(arg[0], "--snapshot"))
		o.snapshot = true;
	else if (left < 2)
		return 0;
	else if (!strcmp(arg[0], "--memory-kind"))
		return take_kind(arg[1]) ? 2 : 0;
	else if (!strcmp(arg[0], "--without") && feature(arg[1]))
		return o.without |= feature(arg[1]), 2;
	else if (!strcmp(arg[0], "--share"))
		return take_mode(arg[1]) ? 2 : 0;
	else if (!strcmp(arg[0], "--mappings"))
		return o.mappings = strtoul(arg[1], NULL, 0), 2;
	else if (!strcmp(arg[0], "--slow-disk"))
		return o.slow_us = strtoul(arg[1], NULL, 0), 2;
	else if (!strcmp(arg[0], "--swap-dir"))
		return o.dir = arg[1], 2;
	else
		return 0;
	return 1;
}

static bool take_arguments(int argc, char **argv)
{
	unsigned long numbers[4] = { o.threads, o.scale, o.iters, o.seed };
	unsigned n = 0;

	for (int i = 1, took; i < argc; i += took) {
		took = 1;
		if (argv[i][0] == '-')
			took = take_option(argv + i, argc - i);
		else if (n < 4)
			numbers[n++] = strtoul(argv[i], NULL, 0);
		else
			took = 0;
		if (!took)
			return false;
	}
	o.threads = (unsigned)numbers[0];
	o.scale = (unsigned)numbers[1];
	o.iters = numbers[2];
	o.seed = numbers[3];
	return o.threads && o.threads <= 64 && o.scale && o.iters;
}

static void skip_if(const char *why)
{
	if (!why)
		return;
	printf("stress: skipped: %s\n", why);
	exit(77);
}

int main(int argc, char **argv)
{
	struct left before;
	unsigned long iters;

	o.dir = getenv("TMPDIR") ? getenv("TMPDIR") : ".";
	if (!take_arguments(argc, argv)) {
		usage();
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (o.slow_us)
		o.without |= OVC_FEATURE_IO_URING;
	skip_if(actors_lack());
	atomic_store(&next_tag, EQUAL_TAGS + 1);
	/* Once for what is made once in a process, then in earnest. */
	iters = o.iters;
	o.iters = iters / 20 + 1;
	run(1);
	before = what_is_left();
	o.iters = iters / ROUNDS + 1;
	if (!atomic_load(&failures))
		run(ROUNDS);
	if (!atomic_load(&failures))
		check_left(before);
	if (!atomic_load(&failures))
		skip_if(actors_idle());
	printf("stress: %s\n", atomic_load(&failures) ? "FAILED" : "ok");
	return atomic_load(&failures) != 0;
}
