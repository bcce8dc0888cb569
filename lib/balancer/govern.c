/* SPDX-License-Identifier: MIT */
/*
 * Who may hold how much: what the policy is told, and what is done of what it says.
 *
 *   tell      every period, while faults are tracked: what each VM holds, what it is
 *             worth (shares, min, limit), how much of it is in use (sample.c), what its
 *             balloon and its guest say; what the host has, and what the machine has
 *   ask       the policy, which knows nothing of us
 *   do        balloons get targets (balloon.c). A VM that is to lose memory by force
 *             gets a goal, which reclaim.c sees to; one that is to wait for memory
 *             of its own does so when it is charged. Looking for equal pages gets more
 *             CPU time.
 *
 * Besides, what reclaim must free at once it takes from VMs that hold more than they
 * are entitled to, before it takes it from others, and from none that holds no more than
 * its guarantee. So a decision that comes late, or never, costs fairness, and not the
 * budget.
 *
 * Failures: without memory for the lists, or a policy that refuses, the last decision
 * stays, and the log says so once.
 */
#include "balancer/govern.h"

#include <errno.h>
#include <string.h>

#include "balancer/sample.h"
#include "balloon/balloon.h"
#include "core/budget.h"
#include "core/meta.h"
#include "share/domain.h"
#include "sys/machine.h"

#define PERIOD_MS    250
#define VMS_FIRST    16
#define SAMPLED_MOST 128 /* of so many pages one is watched, at most */

struct ovc_govern {
	const struct ovc_policy *policy;
	struct ovc_policy_options options;
	void (*trace)(const struct ovc_policy_snapshot *snapshot,
		      const struct ovc_policy_decision *decision, void *opaque);

	unsigned period;      /* ms */
	uint64_t at, decided; /* next time; ns, the last */
	uint64_t decisions;
	uint32_t state;
	bool refused; /* said once */

	/* for VMs whose index is below `room` */
	unsigned room;
	void *memory; /* the policy's */
	struct ovc_policy_vm *vms;
	struct ovc_policy_vm_decision *out;
};

int ovc_govern_create(const struct ovc_host_options *o,
		      struct ovc_govern **govern)
{
	struct ovc_govern *g = ovc_meta_zalloc(sizeof(*g));
	int error;

	if (!g)
		return ovc_fail(-ENOMEM, "host_create: out of memory");
	g->policy = o->policy ? o->policy : ovc_policy_builtin();
	g->trace = o->policy_trace;
	g->period = o->policy_period ? o->policy_period : PERIOD_MS;
	error = ovc_policy_options_fill(o->policy_options, &g->options);
	if (error) {
		ovc_meta_free(g);
		return ovc_fail(error,
				"host_create: policy_options: a figure "
				"is out of range, the states' thresholds "
				"do not fall, or its size is unknown");
	}
	*govern = g;
	return 0;
}

static void drop_lists(struct ovc_govern *g)
{
	if (g->room && g->policy->stop)
		g->policy->stop(g->memory);
	ovc_meta_free(g->memory);
	ovc_meta_free(g->vms);
	ovc_meta_free(g->out);
	g->memory = NULL;
	g->vms = NULL;
	g->out = NULL;
	g->room = 0;
}

void ovc_govern_destroy(struct ovc_govern **govern)
{
	if (!*govern)
		return;
	drop_lists(*govern);
	ovc_meta_free(*govern);
	*govern = NULL;
}

/* Room for all VMs. The policy forgets what it remembers when there are more of them
 * than ever before. */
static bool have_lists(struct ovc_host *host, struct ovc_govern *g)
{
	unsigned room = g->room ? g->room : VMS_FIRST;

	while (room < host->end)
		room *= 2;
	if (g->room == room)
		return true;
	drop_lists(g);
	g->memory = ovc_meta_zalloc(g->policy->state_bytes(room));
	g->vms = ovc_meta_zalloc(room * sizeof(g->vms[0]));
	g->out = ovc_meta_zalloc(room * sizeof(g->out[0]));
	if (!g->memory || !g->vms || !g->out ||
	    g->policy->start(g->memory, room, &g->options)) {
		drop_lists(g);
		return false;
	}
	g->room = room;
	return true;
}

/* ---- telling ------------------------------------------------------------------------ */

static bool has_swap(const struct ovc_vm *vm, uint64_t now)
{
	return vm->swap && now >= vm->retry_at &&
	       ovc_swap_used(vm->swap) * OVC_PAGE < ovc_swap_size(vm->swap);
}

/* Its part of what the store takes. */
static uint64_t charged(const struct ovc_vm *vm)
{
	uint64_t refs = atomic_load(&vm->domain->refs);
	uint64_t shared = atomic_load(&vm->shared) * OVC_PAGE;

	if (!refs)
		return 0;
	return (uint64_t)((double)shared * (double)vm->domain->stored /
			  (double)refs);
}

static uint64_t a_second(uint64_t pages, uint64_t ns)
{
	return ns ? (uint64_t)((double)pages * OVC_PAGE * 1e9 / (double)ns) : 0;
}

static void tell_vm(struct ovc_govern *g, struct ovc_vm *vm, uint64_t now,
		    struct ovc_policy_vm *to)
{
	uint64_t in = atomic_load(&vm->count.swap_in);
	bool known;

	if (vm->swap)
		ovc_swap_tidy(vm->swap);
	memset(to, 0, sizeof(*to));
	to->id = vm->id;
	to->index = vm->index;
	to->shares = atomic_load(&vm->shares);
	to->min = atomic_load(&vm->min) * OVC_PAGE;
	to->limit = atomic_load(&vm->limit) * OVC_PAGE;
	to->memory = vm->configured * OVC_PAGE;
	to->resident = ovc_vm_held(vm) * OVC_PAGE + charged(vm);
	to->pinned = atomic_load(&vm->pinned) * OVC_PAGE;
	to->swapped = atomic_load(&vm->swapped) * OVC_PAGE;
	to->active = ovc_sample_active(vm, &known);
	to->swap_in = a_second(in - vm->told_swap_in, now - g->decided);
	to->faults_waiting = atomic_load(&vm->starved);
	to->flags = (known ? OVC_POLICY_VM_ESTIMATED : 0) |
		    (ovc_sample_grows(vm) ? OVC_POLICY_VM_GROWING : 0) |
		    (has_swap(vm, now) ? 0 : OVC_POLICY_VM_NO_SWAP);
	ovc_balloon_tell(vm, to);
	vm->told_swap_in = in;
}

static void tell(struct ovc_host *host, struct ovc_govern *g, uint64_t now,
		 struct ovc_policy_snapshot *s)
{
	struct ovc_machine machine;

	ovc_machine_look(&host->proc, &machine);
	*s = (struct ovc_policy_snapshot){
		.size = sizeof(*s),
		.now = now,
		.budget = ovc_host_budget(host),
		.overhead = ovc_host_metadata(host) + host->buffers,
		.mem_available = machine.available,
		.mem_total = machine.total,
		.psi_some = machine.some,
		.psi_full = machine.full,
		.cgroup_limit = atomic_load(&host->may),
		.vms = g->vms,
	};
	ovc_cgroup_stalls(&host->cgroup, &s->cgroup_psi_some,
			  &s->cgroup_psi_full);
	s->used = ovc_host_held(host) * OVC_PAGE + s->overhead;
	for (unsigned i = 0; i < host->end; i++)
		if (host->vms[i])
			tell_vm(g, host->vms[i], now, &g->vms[s->nr_vms++]);
}

/* ---- doing ---------------------------------------------------------------------------- */

static void do_vm(struct ovc_vm *vm, const struct ovc_policy_vm_decision *d)
{
	uint64_t held = ovc_vm_held(vm), swap = d->swap / OVC_PAGE;

	atomic_store(&vm->entitled, d->entitlement / OVC_PAGE);
	atomic_store(&vm->throttled, d->throttle != 0);
	vm->goal = swap ? held - (swap < held ? swap : held) : UINT64_MAX;
	ovc_balloon_set_target(vm, d->balloon);
}

static void decide(struct ovc_host *host, struct ovc_govern *g, uint64_t now)
{
	struct ovc_policy_snapshot s;
	struct ovc_policy_decision d = { .size = sizeof(d), .vms = g->out };
	size_t n = 0;
	int error;

	tell(host, g, now, &s);
	memset(g->out, 0, g->room * sizeof(g->out[0]));
	error = g->policy->decide(g->memory, &s, &d);
	if (error) {
		if (!g->refused)
			ovc_log(host, OVC_LOG_WARNING,
				"the policy does not decide: %s",
				strerror(-error));
		g->refused = true;
		return;
	}
	for (unsigned i = 0; i < host->end; i++)
		if (host->vms[i])
			do_vm(host->vms[i], &g->out[n++]);
	atomic_store(&host->share_factor, d.share_factor);
	if (d.state != g->state)
		ovc_log(host, OVC_LOG_DEBUG, "memory is %s now",
			ovc_policy_state_name(d.state));
	g->state = d.state;
	g->decided = now;
	g->decisions++;
	if (g->trace)
		g->trace(&s, &d, host->opaque);
}

/* Who uses what matters only when there is not enough for all. */
static bool is_near(const struct ovc_host *host)
{
	uint64_t allowed = atomic_load(&host->allowed);

	return ovc_host_held(host) + allowed / 8 > allowed;
}

static void sample(struct ovc_host *host, const struct ovc_govern *g,
		   uint64_t now)
{
	for (unsigned i = 0; i < host->end; i++) {
		struct ovc_vm *vm = host->vms[i];
		uint64_t most = vm ? vm->configured / SAMPLED_MOST : 0;

		if (most)
			ovc_sample_step(vm, now,
					most < g->options.samples ?
						(uint32_t)most :
						g->options.samples,
					g->options.sample_period);
	}
}

int ovc_govern_step(struct ovc_host *host, uint64_t now)
{
	struct ovc_govern *g = host->govern;

	if (!atomic_load(&host->tracked))
		return -1;
	if (now < g->at)
		return (int)((g->at - now) / 1000000 + 1);
	g->at = now + (uint64_t)g->period * 1000000;
	if (is_near(host))
		sample(host, g, now);
	if (have_lists(host, g))
		decide(host, g, now);
	return (int)g->period;
}

uint32_t ovc_govern_state(const struct ovc_host *host)
{
	return host->govern->state;
}

uint64_t ovc_govern_decisions(const struct ovc_host *host)
{
	return host->govern->decisions;
}

int ovc_govern_admit(const struct ovc_host *host, const struct ovc_vm *vm,
		     uint64_t min, const char *what)
{
	uint64_t budget = ovc_host_budget(host), needed = min;
	uint64_t own = ovc_host_metadata(host) + host->buffers +
		       atomic_load(&host->reserve);
	uint64_t room = budget > own ? budget - own : 0;

	for (unsigned i = 0; i < host->end; i++)
		if (host->vms[i] && host->vms[i] != vm)
			needed += atomic_load(&host->vms[i]->min) * OVC_PAGE;
	if (!min || needed <= room)
		return 0;
	return ovc_fail(-ENOMEM,
			"%s: min of %llu MiB: %llu MiB would be guaranteed in "
			"all, and a budget of %llu MiB has %llu MiB for that; "
			"take a smaller min, or raise the budget",
			what, (unsigned long long)min >> 20,
			(unsigned long long)needed >> 20,
			(unsigned long long)budget >> 20,
			(unsigned long long)room >> 20);
}
