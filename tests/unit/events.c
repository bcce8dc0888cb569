/* SPDX-License-Identifier: MIT */
/*
 * The queue of events alone: what is posted by many threads is told, or counted, or
 * counted as lost; and by kind, VM and cause.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/events.h"

TestSuite(events, .timeout = 60);

static struct ovc_host host;
static struct ovc_vm vms[3];
static struct ovc_region region;

static void open_queue(void)
{
	cr_assert_eq(ovc_events_create(&host, NULL, &host.events), 0);
	for (unsigned i = 0; i < 3; i++) {
		vms[i].index = i;
		vms[i].id = i + 1;
		snprintf(vms[i].name, sizeof(vms[i].name), "vm%u", i + 1);
		ovc_events_join(host.events, &vms[i]);
	}
	region.base = (char *)0x10000000;
	region.gpa = 0x20000000;
}

static void post(int type, int error, unsigned vm)
{
	ovc_event_post(&host, type, error, &vms[vm], NULL, 0, 0);
}

static struct ovc_event next(void)
{
	struct ovc_event e = { 0 };

	cr_assert(ovc_events_next(&host, &e));
	return e;
}

static void expect_none(void)
{
	struct ovc_event e;

	cr_assert_not(ovc_events_next(&host, &e));
}

/* Waits for what rests. */
static bool next_within(struct ovc_event *e, unsigned ms)
{
	while (!ovc_events_next(&host, e)) {
		if (!ms)
			return false;
		ms -= 10;
		usleep(10000);
	}
	return true;
}

Test(events, they_come_in_the_order_in_which_they_were_posted)
{
	struct ovc_event e;

	open_queue();
	expect_none();
	post(OVC_EVENT_WRITE_FAILED, ENOSPC, 0);
	post(OVC_EVENT_WRITE_FAILED, EIO, 1);
	post(OVC_EVENT_WRITE_RECOVERED, 0, 0);
	e = next();
	cr_assert_eq(e.type, OVC_EVENT_WRITE_FAILED);
	cr_assert_eq(e.error, ENOSPC);
	cr_assert_eq(e.vm, &vms[0]);
	cr_assert_eq(e.vm_id, 1);
	cr_assert_eq(e.count, 1);
	cr_assert_str_eq(e.vm_name, "vm1");
	cr_assert_eq(next().vm_id, 2);
	cr_assert_eq(next().type, OVC_EVENT_WRITE_RECOVERED);
	expect_none();
	ovc_events_destroy(&host.events);
}

Test(events, the_same_waits_once_with_a_count)
{
	struct ovc_event e;

	open_queue();
	for (unsigned i = 0; i < 1000; i++)
		post(OVC_EVENT_MEMORY_FAILED, EPERM, i % 2);
	post(OVC_EVENT_MEMORY_FAILED, EINVAL, 0);
	for (unsigned i = 0; i < 2; i++) {
		e = next();
		cr_assert_eq(e.error, EPERM);
		cr_assert_eq(e.count, 500);
		cr_assert(strstr(e.text, "(500 times)"), "%s", e.text);
	}
	cr_assert_eq(next().error, EINVAL);
	expect_none();
	ovc_events_destroy(&host.events);
}

Test(events, the_same_is_told_once_a_second)
{
	struct ovc_event e;

	open_queue();
	post(OVC_EVENT_MEMORY_FAILED, EPERM, 0);
	cr_assert_eq(next().count, 1);
	post(OVC_EVENT_MEMORY_FAILED, EPERM, 0);
	post(OVC_EVENT_MEMORY_FAILED, EPERM, 0);
	expect_none();
	post(OVC_EVENT_MEMORY_FAILED, EPERM, 1);
	cr_assert_eq(next().vm_id, 2);
	cr_assert_not(next_within(&e, 500));
	cr_assert(next_within(&e, 5000));
	cr_assert_eq(e.count, 2);
	ovc_events_destroy(&host.events);
}

/* What was told last is how it is: the end of a failure does not overtake it. */
Test(events, a_failure_and_its_end_keep_their_order)
{
	struct ovc_event e;

	open_queue();
	post(OVC_EVENT_WRITE_FAILED, EIO, 0);
	next();
	post(OVC_EVENT_WRITE_FAILED, EIO, 0);
	post(OVC_EVENT_WRITE_RECOVERED, 0, 0);
	expect_none();
	post(OVC_EVENT_WRITE_FAILED, EIO, 0);
	e = next();
	cr_assert_eq(e.type, OVC_EVENT_WRITE_RECOVERED);
	cr_assert(next_within(&e, 5000));
	cr_assert_eq(e.type, OVC_EVENT_WRITE_FAILED);
	cr_assert_eq(e.count, 2);
	ovc_events_destroy(&host.events);
}

Test(events, no_kind_and_no_vm_pushes_out_another)
{
	unsigned of[6] = { 0 };
	struct ovc_event e;
	uint64_t lost = 0;

	open_queue();
	for (int error = 1; error <= 100; error++)
		post(OVC_EVENT_MEMORY_FAILED, error, 0);
	for (unsigned i = 0; i < 1000; i++)
		ovc_event_post(&host, OVC_EVENT_POISONED, EIO, &vms[0], &region,
			       2 * i, 1);
	ovc_event_post(&host, OVC_EVENT_POISONED, EIO, &vms[1], &region, 0, 1);
	post(OVC_EVENT_WRITE_FAILED, EIO, 2);
	while (ovc_events_next(&host, &e)) {
		of[e.type]++;
		lost += e.events_lost;
		cr_assert(e.type != OVC_EVENT_POISONED || e.vm_id <= 2);
	}
	cr_assert_eq(of[OVC_EVENT_MEMORY_FAILED], 32);
	cr_assert_eq(of[OVC_EVENT_POISONED], 16 + 1);
	cr_assert_eq(of[OVC_EVENT_WRITE_FAILED], 1);
	cr_assert_eq(lost, 100 - 32);
	ovc_events_destroy(&host.events);
}

Test(events, lost_pages_are_told_one_by_one_or_where_they_lie_together)
{
	struct ovc_event e;

	open_queue();
	for (unsigned i = 0; i < 8; i++)
		ovc_event_post(&host, OVC_EVENT_POISONED, EIO, &vms[0], &region,
			       i, 1);
	ovc_event_post(&host, OVC_EVENT_POISONED, EIO, &vms[0], &region, 100,
		       1);
	e = next();
	cr_assert_eq(e.addr, region.base);
	cr_assert_eq(e.gpa, region.gpa);
	cr_assert_eq(e.len, 8 * 4096);
	cr_assert_eq(e.count, 8);
	e = next();
	cr_assert_eq(e.addr, region.base + 100 * 4096);
	cr_assert_eq(e.count, 1);
	ovc_events_destroy(&host.events);
}

Test(events, a_vm_that_left_is_named_without_its_handle)
{
	struct ovc_event e;

	open_queue();
	post(OVC_EVENT_WRITE_FAILED, EIO, 0);
	ovc_events_leave(host.events, &vms[0]);
	vms[2].index = 0; /* its place is taken */
	ovc_events_join(host.events, &vms[2]);
	e = next();
	cr_assert_null(e.vm);
	cr_assert_eq(e.vm_id, 1);
	cr_assert_str_eq(e.vm_name, "vm1");
	ovc_events_destroy(&host.events);
}

#define POSTERS 4
#define POSTS	20000

static _Atomic unsigned posting;

static void *post_many(void *arg)
{
	unsigned who = *(unsigned *)arg;

	for (unsigned i = 0; i < POSTS; i++)
		switch (i % 3) {
		case 0:
			post(OVC_EVENT_WRITE_FAILED, (int)(i % 7) + 1, who % 3);
			break;
		case 1:
			post(OVC_EVENT_MEMORY_FAILED, (int)(i % 50) + 1,
			     who % 3);
			break;
		default:
			ovc_event_post(&host, OVC_EVENT_POISONED, EIO,
				       &vms[who % 3], &region, i, 1);
		}
	posting--;
	return NULL;
}

Test(events, each_of_many_threads_is_told_or_counted)
{
	pthread_t threads[POSTERS];
	unsigned who[POSTERS];
	uint64_t all = 0;
	struct ovc_event e;

	open_queue();
	posting = POSTERS;
	for (unsigned i = 0; i < POSTERS; i++) {
		who[i] = i;
		pthread_create(&threads[i], NULL, post_many, &who[i]);
	}
	while (posting || next_within(&e, 2500)) {
		if (posting && !ovc_events_next(&host, &e))
			continue;
		cr_assert_eq(e.vm, &vms[e.vm_id - 1]);
		all += e.count + e.events_lost;
	}
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(all, POSTERS * POSTS);
	ovc_events_destroy(&host.events);
}
