/* SPDX-License-Identifier: MIT */
/*
 * The scenario: memory goes to who uses it.
 *
 *	busy      four guests work, and have more memory than the budget
 *	idle      vm2 and vm3 have nothing to do, and free what they can
 *	awake     they work again
 *	fifth     another guest starts
 *	halved    the budget is halved, ...
 *	restored  ... and restored
 *	finish    all pages of all guests are read and compared
 *
 * Each step lasts for a given time, a limit that is reported when it does not
 * suffice. A move is over when the guests who get memory hold, on average, what they
 * are entitled to at the end of the step, within a tenth, and it stays so: as an
 * engineer measures how long something takes to settle. So guests are looked at all the time,
 * and what was seen is judged when the step is over.
 *
 * Besides it is seen to that no busy guest stands still, and that the budget is
 * kept again after it was halved.
 *
 * Working sets are sampled in shorter periods than usual: what takes minutes on a real
 * host is to be over before the audience leaves. Small VMs whose pages come and go all
 * the time need a larger dead band, too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm.h"

#define GUESTS	     5
#define TICK_MS	     100
#define FILL_LIMIT   120 /* seconds until all guests must have begun to work */
#define STARVED	     8	 /* seconds without a step ahead */
#define TOLERANCE    0.1
#define MOST_MOMENTS 4096

/* What was seen at one time. */
struct moment {
	double time; /* of the step */
	double held[GUESTS], entitled[GUESTS], used;
};

/* Sums over all VMs, bytes. */
struct sums {
	double given, inflated, reported, deflated, saved, out, in, ballooned;
};

static struct moment moments[MOST_MOMENTS];
static unsigned nr_moments;
static struct {
	uint64_t done;
	double since, longest;
} progress[GUESTS];
static unsigned who; /* a bit for each guest that the step is about */
static double over;  /* bytes beyond the budget after it was kept again */
static unsigned failures;

void scenario_options(struct ovc_policy_options *policy)
{
	policy->dead_band = 100;
	policy->sample_period = vmm.seconds * 750000000;
	policy->balloon_timeout = vmm.seconds * 500000000;
	say(NULL,
	    "scenario: working sets are sampled for %.2f s (usually 30), a "
	    "balloon has %.1f s for a step (usually 5), less than 1 %% of a VM "
	    "is not worth a change (usually 0.25)",
	    (double)policy->sample_period / 1e9,
	    (double)policy->balloon_timeout / 1e9);
}

static void fail(const char *what, const char *about)
{
	say(about, "%s", what);
	failures++;
}

/* ---- Looking --------------------------------------------------------------- */

static bool is_busy(const struct vm *vm)
{
	return vm->order == ORDER_WORK && vm->running;
}

static void watch_progress(void)
{
	double now = seconds_now();
	unsigned i;

	for (i = 0; i < vmm.vms; i++) {
		struct report report = vm_report(&vmm.vm[i]);
		uint64_t done = report.checks + report.filled;
		double still = now - progress[i].since;

		if (!is_busy(&vmm.vm[i]) || done != progress[i].done ||
		    !progress[i].since) {
			progress[i].done = done;
			progress[i].since = now;
		} else if (still > progress[i].longest) {
			progress[i].longest = still;
		}
	}
}

static void look(double began)
{
	struct ovc_host_stats host = { .size = sizeof(host) };
	struct ovc_policy_vm_decision decision;
	struct ovc_policy_vm vm;
	struct moment *m = &moments[nr_moments];
	unsigned i;

	watch_progress();
	if (nr_moments == MOST_MOMENTS)
		return;
	*m = (struct moment){ .time = seconds_now() - began };
	for (i = 0; i < vmm.vms; i++) {
		if (!trace_last(i, &vm, &decision))
			continue;
		m->held[i] = (double)vm.resident;
		m->entitled[i] = (double)decision.entitlement;
	}
	ovc_host_stats(vmm.host, &host);
	m->used = (double)host.used;
	nr_moments++;
}

static struct sums sum_up(void)
{
	struct ovc_host_stats host = { .size = sizeof(host) };
	struct ovc_vm_stats vm = { .size = sizeof(vm) };
	struct sums s = { 0 };
	unsigned i;

	ovc_host_stats(vmm.host, &host);
	s.saved = (double)host.shared_bytes - (double)host.store_bytes;
	s.out = (double)host.swap_out_bytes;
	s.in = (double)host.swap_in_bytes;
	for (i = 0; i < vmm.vms; i++) {
		ovc_vm_stats(vmm.vm[i].ovc, &vm);
		s.given += (double)vmm.vm[i].given;
		s.inflated += (double)vm.inflated_bytes;
		s.reported += (double)vm.reported_bytes;
		s.deflated += (double)vm.deflated_bytes +
			      (double)vm.deflated_by_touch;
		s.ballooned += (double)vm.ballooned;
	}
	return s;
}

/* ---- Judging --------------------------------------------------------------- */

/* The mean of what the guests who get memory (or the others) hold, or may hold. */
static double mean_of(const double *figure, bool getting)
{
	double sum = 0;
	unsigned i, n = 0;

	for (i = 0; i < vmm.vms; i++) {
		if ((who >> i & 1) != getting)
			continue;
		sum += figure[i];
		n++;
	}
	return n ? sum / n : 0;
}

/* Where the last tenth of the step begins: one estimate is a rough one. */
static unsigned last_tenth(void)
{
	return nr_moments - nr_moments / 10 - 1;
}

/* Seconds until they had what they are entitled to; -1: not at all. */
static double settled_after(void)
{
	unsigned i, from = last_tenth();
	double final = 0, held, first;

	for (i = from; i < nr_moments; i++)
		final += mean_of(moments[i].entitled, true);
	final /= nr_moments - from;
	/* Who gets memory may have more while there is room, and who loses
	 * some, less. */
	first = mean_of(moments[0].held, true);
	for (i = nr_moments; i > 0; i--) {
		held = mean_of(moments[i - 1].held, true);
		if (first < final ? held < final * (1 - TOLERANCE) :
				    held > final * (1 + TOLERANCE))
			break;
	}
	/* It is not settled if that was in the last tenth. */
	return i > from ? -1 : moments[i].time;
}

/* What a busy guest holds at least of what it is entitled to, on average. */
static double least_held(void)
{
	double least = 1e9, held, entitled;
	unsigned i, j;

	for (i = 0; i < vmm.vms; i++) {
		if (!is_busy(&vmm.vm[i]))
			continue;
		held = entitled = 0;
		for (j = last_tenth(); j < nr_moments; j++) {
			held += moments[j].held[i];
			entitled += moments[j].entitled[i];
		}
		if (held < least * entitled)
			least = held / entitled;
	}
	return least;
}

/* Seconds until the budget was kept; then, by how much it was passed later. */
static double kept_after(void)
{
	double budget = (double)vmm.budget, kept = -1;
	unsigned i;

	for (i = 0; i < nr_moments; i++) {
		if (kept < 0 && moments[i].used <= budget)
			kept = moments[i].time;
		else if (kept >= 0 && moments[i].used - budget > over)
			over = moments[i].used - budget;
	}
	return kept;
}

/* ---- Telling --------------------------------------------------------------- */

#define STEP_TEXT                                                       \
	"%s: %s %.0f -> %.0f MiB each, the others %.0f -> %.0f; "       \
	"settled %s%.1f s, none below %.0f%%\n"                         \
	"    donation freed %.0f MiB (%.0f ballooned, %.0f reported), " \
	"sharing %.0f, swap %.0f; back: %.0f from balloons, %.0f from " \
	"swap\n"
#define STEP_JSON                                                                  \
	"{\"step\":\"%s\",\"getters_before_mib\":%.2f,\"getters_after_mib\":%.2f," \
	"\"others_before_mib\":%.2f,\"others_after_mib\":%.2f,"                    \
	"\"settled\":%s,\"settled_s\":%.2f,\"least_percent\":%.1f,"                \
	"\"donated_mib\":%.2f,\"inflated_mib\":%.2f,"                              \
	"\"reported_mib\":%.2f,\"shared_mib\":%.2f,"                               \
	"\"swapped_mib\":%.2f,\"deflated_mib\":%.2f,\"swap_in_mib\":%.2f,"         \
	"\"ballooned_mib\":%.2f,\"budget_mib\":%.2f,\"used_mib\":%.2f,"            \
	"\"kept_s\":%.2f,\"over_mib\":%.2f,\"began\":%.2f,\"time\":%.2f}\n"

/* What a step came to; MiB, seconds. */
struct verdict {
	const char *name, *whom;
	double began, settled, kept, least;
	double getters_before, getters_after, others_before, others_after;
	double given, inflated, reported, saved, out, deflated, in;
};

static void tell_text(const struct verdict *v)
{
	double length = moments[nr_moments - 1].time;

	printf(STEP_TEXT, v->name, v->whom, v->getters_before, v->getters_after,
	       v->others_before, v->others_after,
	       v->settled < 0 ? "not within " : "after ",
	       v->settled < 0 ? length : v->settled, v->least, v->given,
	       v->inflated, v->reported, v->saved, v->out, v->deflated, v->in);
}

static void tell_json(const struct verdict *v, const struct sums *end)
{
	printf(STEP_JSON, v->name, v->getters_before, v->getters_after,
	       v->others_before, v->others_after,
	       v->settled < 0 ? "false" : "true", v->settled, v->least,
	       v->given, v->inflated, v->reported, v->saved, v->out,
	       v->deflated, v->in, MIB(end->ballooned), MIB(vmm.budget),
	       MIB(moments[nr_moments - 1].used), v->kept, MIB(over), v->began,
	       seconds_now());
}

static void tell_step(const char *name, double began, const struct sums *start,
		      const struct sums *end)
{
	const struct moment *a = &moments[0], *b = &moments[nr_moments - 1];
	struct verdict v = {
		.name = name,
		.whom = who == 0x03 ? "vm0, vm1" :
			who == 0x0c ? "vm2, vm3" :
			who == 0x10 ? "vm4" :
				      "all guests",
		.began = began,
		.settled = settled_after(),
		.kept = kept_after(),
		.least = 100 * least_held(),
		.getters_before = MIB(mean_of(a->held, true)),
		.getters_after = MIB(mean_of(b->held, true)),
		.others_before = MIB(mean_of(a->held, false)),
		.others_after = MIB(mean_of(b->held, false)),
		.given = MIB(end->given - start->given),
		.inflated = MIB(end->inflated - start->inflated),
		.reported = MIB(end->reported - start->reported),
		.saved = MIB(end->saved - start->saved),
		.out = MIB(end->out - start->out),
		.deflated = MIB(end->deflated - start->deflated),
		.in = MIB(end->in - start->in),
	};

	table_lock();
	if (vmm.json)
		tell_json(&v, end);
	else
		tell_text(&v);
	fflush(stdout);
	table_unlock();
	if (v.kept < 0)
		fail("the budget was not kept again", name);
}

/* ---- Steps ----------------------------------------------------------------- */

/* Lets a step that has begun last so many seconds; false: interrupted. */
static bool run_step(const char *name, double length, const struct sums *start)
{
	double began = seconds_now();
	struct sums end;

	nr_moments = 0;
	look(began);
	while (seconds_now() - began < length) {
		if (!tick(TICK_MS))
			return false;
		look(began);
	}
	end = sum_up();
	tell_step(name, began, start, &end);
	return true;
}

static void announce(const char *what)
{
	if (!vmm.json)
		say("scenario", "%s", what);
}

static bool set_budget(uint64_t budget)
{
	if (!ovc_host_set_budget(vmm.host, budget)) {
		vmm.budget = budget;
		return true;
	}
	fail(ovc_error(), NULL);
	return false;
}

static bool start_fifth(void)
{
	struct vm *vm = &vmm.vm[vmm.vms];
	bool ok = vm_create(vm, vmm.vms);

	vmm.vms++; /* to be destroyed at the end */
	if (!ok)
		return false;
	vmm.running += vmm.vcpus;
	return vm_start(vm);
}

static bool fill(void)
{
	unsigned i;

	announce("four guests fill their memory");
	for (i = 0; i < vmm.vms;) {
		if (!tick(TICK_MS))
			return false;
		watch_progress();
		if (vm_report(&vmm.vm[i]).phase >= PHASE_RANDOM)
			i++;
		else if (seconds_now() > FILL_LIMIT) {
			fail("still not filled: go on without", "scenario");
			i++;
		}
	}
	return true;
}

enum step { BUSY, IDLE, AWAKE, FIFTH, HALVED, RESTORED, STEPS };

/* How long they last, times --seconds. It takes three samples, of three quarters of
 * that each, until it is believed that a guest is idle. */
static const unsigned lengths[] = { 2, 7, 4, 5, 3, 3 };

/* Who gets memory, or loses it: a bit for each guest. */
static const unsigned whom[] = { 0x0f, 0x03, 0x0c, 0x10, 0x1f, 0x1f };

static const char *const step_names[] = {
	"busy", "idle", "awake", "fifth", "halved", "restored",
};
static const char *const announcements[] = {
	"all guests work",	"vm2 and vm3 become idle",
	"vm2 and vm3 wake up",	"a fifth guest starts",
	"the budget is halved", "the budget is restored",
};

static bool begin_step(enum step step)
{
	announce(announcements[step]);
	if (step == IDLE || step == AWAKE)
		vmm.vm[2].order = vmm.vm[3].order = step == IDLE ? ORDER_IDLE :
								   ORDER_WORK;
	if (step == FIFTH)
		return start_fifth();
	if (step == HALVED || step == RESTORED)
		return set_budget(step == HALVED ? vmm.budget / 2 :
						   vmm.budget * 2);
	return true;
}

static void finish(void)
{
	unsigned i;

	announce("all guests verify their pages");
	for (i = 0; i < vmm.vms; i++) {
		if (progress[i].longest > STARVED)
			fail("starved", vmm.vm[i].name);
		vmm.vm[i].order = ORDER_FINISH;
	}
}

#define PROGRESS_TEXT "longest time that a busy guest stood still: %.1f s\n"
#define PROGRESS_JSON "{\"progress\":true,\"longest_still_s\":%.2f}\n"

static void tell_progress(void)
{
	double longest = 0;
	unsigned i;

	for (i = 0; i < GUESTS; i++)
		if (progress[i].longest > longest)
			longest = progress[i].longest;
	table_lock();
	printf(vmm.json ? PROGRESS_JSON : PROGRESS_TEXT, longest);
	table_unlock();
}

bool scenario_run(bool *interrupted)
{
	struct sums start;
	enum step step;

	if (!fill()) {
		*interrupted = true;
		return true;
	}
	for (step = BUSY; step < STEPS; step++) {
		who = whom[step];
		start = sum_up();
		if (!begin_step(step))
			return false;
		if (!run_step(step_names[step],
			      (double)(lengths[step] * vmm.seconds), &start)) {
			*interrupted = true;
			return true;
		}
	}
	tell_progress();
	finish();
	return true;
}

bool scenario_ok(void)
{
	return !failures;
}
