/* SPDX-License-Identifier: MIT */
/*
 * Dispatch mode: no threads of the library's; the test polls its descriptor and
 * dispatches, while guests are threads of the test's own.
 */
#include <poll.h>
#include <stdatomic.h>

#include "support.h"

TestSuite(dispatch, .timeout = 60 * PATIENCE);

#define NR 256

static struct way ways[] = {
	{ ANON, 0 },
	{ MEMFD, 0 },
	{ ANON, OVC_FEATURE_IO_URING },
	{ MEMFD, OVC_FEATURE_IO_URING },
	{ ANON, OVC_FEATURE_MOVE },
};

#define NR_WAYS (sizeof(ways) / sizeof(ways[0]))

struct guest {
	struct world *w;
	uint64_t pages;
	unsigned rounds;
	long bad;
	atomic_bool done;
};

static void *run_guest(void *arg)
{
	struct guest *g = arg;

	g->bad = -1;
	for (unsigned i = 0; i < g->rounds && g->bad < 0; i++) {
		fill_pages(g->w->mem, 0, g->pages, i);
		g->bad = check_pages(g->w->mem, 0, g->pages, i);
	}
	g->done = true;
	return NULL;
}

/* Serves until the guest is done; the descriptor alone tells when. A descriptor
 * that stays silent shows as the suite's time limit. */
static void serve(struct world *w, struct guest *g)
{
	struct pollfd p = { .fd = ovc_host_fd(w->host), .events = POLLIN };

	cr_assert(p.fd >= 0);
	while (!g->done)
		if (poll(&p, 1, 100) > 0)
			cr_assert_eq(ovc_host_dispatch(w->host), 0);
}

ParameterizedTestParameters(dispatch, guests_over_budget_are_served_by_poll)
{
	return cr_make_param_array(struct way, ways, NR_WAYS);
}

ParameterizedTest(struct way *way, dispatch,
		  guests_over_budget_are_served_by_poll)
{
	struct guest g = { .rounds = 2 };
	pthread_t thread;
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .host_flags = OVC_HOST_DISPATCH,
				      .budget = 16 * MIB,
				      .len = 40 * MIB });
	/* Tracked before the guest runs: nobody else would look in time. */
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), 0);
	g.w = &w;
	g.pages = w.len / PAGE;
	cr_assert_eq(pthread_create(&thread, NULL, run_guest, &g), 0);
	serve(&w, &g);
	pthread_join(thread, NULL);
	cr_assert_eq(g.bad, -1, "%s: page %ld", way_name(*way), g.bad);
	cr_assert_gt(host_stats(&w).swap_out_bytes, 16 * MIB);
	cr_assert_leq(host_stats(&w).used, 16 * MIB + 8 * MIB);
	world_close(&w, OVC_THROW_AWAY);
}

Test(dispatch, the_host_starts_no_thread)
{
	unsigned before;
	struct world w;

	before = belongings().threads;
	world_open(&w, (struct plan){ .host_flags = OVC_HOST_DISPATCH });
	cr_assert_eq(belongings().threads, before);
	cr_assert_eq(host_stats(&w).fault_threads, 0);
	world_close(&w, 0);
}

ParameterizedTestParameters(dispatch, every_call_ends_without_anybody_else)
{
	return cr_make_param_array(struct way, ways, NR_WAYS);
}

/* One thread, which does not touch what may be absent but through calls. */
ParameterizedTest(struct way *way, dispatch,
		  every_call_ends_without_anybody_else)
{
	char *buf = malloc(NR * PAGE);
	struct world w;

	world_open(&w, (struct plan){ .way = *way,
				      .host_flags = OVC_HOST_DISPATCH });
	fill_pages(w.mem, 0, NR, 1);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	cr_assert_eq(vm_stats(&w).swapped, NR * PAGE);
	cr_assert_eq(ovc_vm_read(w.vm, w.mem, buf, NR * PAGE), 0);
	cr_assert_eq(check_pages(buf, 0, NR, 1), -1);
	cr_assert_eq(ovc_vm_pin(w.vm, w.mem, NR * PAGE), 0, "%s", ovc_error());
	cr_assert_eq(check_pages(w.mem, 0, NR, 1), -1); /* all there */
	cr_assert_eq(ovc_vm_unpin(w.vm, w.mem, NR * PAGE), 0);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, NR * PAGE), 0);
	cr_assert_eq(ovc_vm_prefetch(w.vm, w.mem, NR / 2 * PAGE), 0);
	for (int i = 0;
	     i < 2000 * PATIENCE && vm_stats(&w).swapped > NR / 2 * PAGE; i++) {
		struct pollfd p = { .fd = ovc_host_fd(w.host),
				    .events = POLLIN };

		if (poll(&p, 1, 5) > 0)
			cr_assert_eq(ovc_host_dispatch(w.host), 0);
	}
	cr_assert_leq(vm_stats(&w).swapped, NR / 2 * PAGE);
	cr_assert_eq(ovc_vm_overwrite(w.vm, w.mem, PAGE), 0);
	cr_assert_eq(ovc_vm_discard(w.vm, w.mem, 16 * PAGE), 0);
	ovc_vm_destroy(&w.vm, 0);
	cr_assert_eq(check_pages(w.mem, 16, NR - 16, 1), -1);
	cr_assert(is_zero(w.mem));
	world_close(&w, 0);
	free(buf);
}

/* Events have a descriptor of their own, and come when they are asked for. */
Test(dispatch, events_are_asked_for)
{
	struct ovc_event e = { .size = sizeof(e) };
	struct pollfd p = { .events = POLLIN };
	struct world w;

	world_open(&w, (struct plan){ .host_flags = OVC_HOST_DISPATCH,
				      .swap_size = MIB });
	p.fd = ovc_host_event_fd(w.host);
	cr_assert(p.fd >= 0);
	cr_assert_eq(poll(&p, 1, 0), 0);
	cr_assert_eq(ovc_host_next_event(w.host, &e), 0);
	fill_pages(w.mem, 0, w.len / PAGE, 2);
	cr_assert_eq(ovc_vm_reclaim(w.vm, w.mem, w.len), -ENOSPC);
	cr_assert_eq(poll(&p, 1, 10000), 1);
	cr_assert_eq(ovc_host_next_event(w.host, &e), 1);
	cr_assert_eq(e.type, OVC_EVENT_WRITE_FAILED);
	cr_assert_eq(e.error, ENOSPC);
	cr_assert_eq(e.vm, w.vm);
	cr_assert_eq(e.vm_id, vm_stats(&w).id);
	cr_assert_str_eq(e.vm_name, "guest");
	cr_assert(strstr(e.text, "guest: "), "%s", e.text);
	while (ovc_host_next_event(w.host, &e) == 1)
		cr_assert_neq(e.type, OVC_EVENT_WRITE_FAILED);
	cr_assert_eq(poll(&p, 1, 0), 0);
	world_close(&w, 0);
}

static void ignore(const struct ovc_event *event, void *opaque)
{
	(void)event;
	(void)opaque;
}

Test(dispatch, an_event_function_is_refused)
{
	struct ovc_host_options o = { .size = sizeof(o),
				      .budget = 64 * MIB,
				      .flags = OVC_HOST_DISPATCH,
				      .event = ignore };
	struct ovc_host *host = NULL;

	need_userfaultfd();
	expect_error("create", ovc_host_create(&o, &host), -EINVAL,
		     "ovc_host_next_event()");
	cr_assert_null(host);
}
