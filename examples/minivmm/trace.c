/* SPDX-License-Identifier: MIT */
/*
 * What the policy decided, and the figures that led to it.
 *
 * The library calls with a lock held, from the thread that reclaims. So nothing is
 * printed there: lines wait in memory until main comes, and are counted where it
 * comes too late. The last one of each VM is kept for who asks.
 *
 * The policy knows VMs by their place in the host. None is ever destroyed here
 * while others run, so that this is the order in which they were created.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm.h"

#define WAITING 4096 /* lines at most */

struct line {
	double time;
	uint32_t state, cause;
	struct ovc_policy_vm vm;
	struct ovc_policy_vm_decision decision;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct line *last;    /* of each VM; time is 0 where there is none */
static struct line *waiting; /* NULL: no trace is wanted */
static unsigned first, nr;   /* of those that wait */
static uint64_t lost;
static FILE *out; /* NULL: standard output */

bool trace_open(void)
{
	last = calloc(MOST_VMS, sizeof(*last));
	if (vmm.trace)
		waiting = calloc(WAITING, sizeof(*waiting));
	if (!last || (vmm.trace && !waiting)) {
		say(NULL, "the policy's trace: %m");
		return false;
	}
	if (vmm.trace && strcmp(vmm.trace, "-")) {
		out = fopen(vmm.trace, "we");
		if (!out) {
			say(NULL, "%s: %m", vmm.trace);
			return false;
		}
	}
	return true;
}

static void keep(const struct line *line)
{
	if (line->vm.index < MOST_VMS)
		last[line->vm.index] = *line;
	if (!waiting)
		return;
	if (nr == WAITING)
		lost++;
	else
		waiting[(first + nr++) % WAITING] = *line;
}

void trace_decision(const struct ovc_policy_snapshot *snapshot,
		    const struct ovc_policy_decision *decision, void *opaque)
{
	struct line line = {
		.time = seconds_now(),
		.state = decision->state,
		.cause = decision->cause,
	};
	size_t i;

	(void)opaque;
	pthread_mutex_lock(&lock);
	for (i = 0; i < snapshot->nr_vms; i++) {
		line.vm = snapshot->vms[i];
		line.decision = decision->vms[i];
		keep(&line);
	}
	pthread_mutex_unlock(&lock);
}

bool trace_last(unsigned id, struct ovc_policy_vm *vm,
		struct ovc_policy_vm_decision *decision)
{
	bool known;

	pthread_mutex_lock(&lock);
	*vm = last[id].vm;
	*decision = last[id].decision;
	known = last[id].vm.memory != 0;
	pthread_mutex_unlock(&lock);
	return known;
}

static bool take(struct line *line)
{
	bool any;

	pthread_mutex_lock(&lock);
	any = nr != 0;
	if (any) {
		*line = waiting[first];
		first = (first + 1) % WAITING;
		nr--;
	}
	pthread_mutex_unlock(&lock);
	return any;
}

#define LINE_TEXT                                                        \
	"%8.2f vm%u: host %s by %s; rho %.4f, active %3.0f%%, entitled " \
	"%.1f by %s, resident %.1f, ballooned %.1f, target %.1f, swap "  \
	"%.1f: %s\n"
#define LINE_JSON                                                         \
	"{\"trace\":true,\"time\":%.2f,\"vm\":\"vm%u\",\"state\":\"%s\"," \
	"\"cause\":\"%s\",\"rho\":%.6f,\"active_percent\":%.1f,"          \
	"\"entitlement_mib\":%.2f,\"bound\":\"%s\","                      \
	"\"resident_mib\":%.2f,\"ballooned_mib\":%.2f,"                   \
	"\"target_mib\":%.2f,\"swap_mib\":%.2f,\"why\":\"%s\"}\n"

static void print_line(FILE *to, const struct line *l)
{
	const struct ovc_policy_vm_decision *d = &l->decision;

	fprintf(to, vmm.json ? LINE_JSON : LINE_TEXT, l->time, l->vm.index,
		ovc_policy_state_name(l->state),
		ovc_policy_cause_name(l->cause), d->rho, 100 * d->active,
		MIB(d->entitlement), ovc_policy_bound_name(d->bound),
		MIB(l->vm.resident), MIB(l->vm.ballooned), MIB(d->balloon),
		MIB(d->swap), ovc_policy_why_name(d->why));
}

void trace_print(void)
{
	struct line line;

	if (!waiting)
		return;
	table_lock();
	while (take(&line))
		print_line(out ? out : stdout, &line);
	fflush(out ? out : stdout);
	table_unlock();
}

/* The host is gone: nobody calls any more. */
void trace_close(void)
{
	if (waiting)
		trace_print();
	if (lost)
		say(NULL, "%ju lines of the policy's trace were lost", lost);
	if (out && (ferror(out) | fclose(out)))
		say(NULL, "%s: %m", vmm.trace);
	free(waiting);
	free(last);
}
