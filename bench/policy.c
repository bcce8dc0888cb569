/* SPDX-License-Identifier: MIT */
/*
 * policy: how long a decision of the library's own policy takes.
 *
 * For 10, 100 and 1,000 VMs of which no two are alike, on a budget that is half of
 * what they have, so that every VM has its entitlement computed and its balloon
 * and swap decided on. The snapshot changes from decision to decision. One thread,
 * no memory of guests, hence of no kind; there is no peer.
 *
 * Fails where a decision gives away more than there is.
 */
#include <stdlib.h>

#include "bench.h"

#define DECISIONS 1000

struct policy_host {
	void *state;
	struct ovc_policy_vm *vms;
	struct ovc_policy_snapshot snapshot;
	struct ovc_policy_decision decision;
};

static void make_vm(struct ovc_policy_vm *vm, uint32_t i, uint64_t *random)
{
	uint64_t memory = GIB + xorshift(random) % (8 * GIB) / PAGE * PAGE;

	*vm = (struct ovc_policy_vm){
		.id = i + 1,
		.index = i,
		.flags = OVC_POLICY_VM_ESTIMATED | OVC_POLICY_VM_BALLOON,
		.shares = 500 + xorshift(random) % 2000,
		.min = i % 3 ? 0 : memory / 16,
		.limit = i % 5 ? 0 : memory / 2,
		.memory = memory,
		.balloon_reached = OVC_POLICY_UNKNOWN,
		.guest_free = OVC_POLICY_UNKNOWN,
		.guest_available = memory / 2,
		.guest_total = memory,
	};
}

static int make_host(struct policy_host *host, uint32_t nr)
{
	const struct ovc_policy *policy = ovc_policy_builtin();
	uint64_t random = 42, memory = 0;

	host->vms = calloc(nr, sizeof(*host->vms));
	host->decision.vms = calloc(nr, sizeof(*host->decision.vms));
	host->state = calloc(1, policy->state_bytes(nr));
	if (!host->vms || !host->decision.vms || !host->state ||
	    policy->start(host->state, nr, NULL))
		return -1;
	for (uint32_t i = 0; i < nr; i++) {
		make_vm(&host->vms[i], i, &random);
		memory += host->vms[i].memory;
	}
	host->decision.size = sizeof(host->decision);
	host->snapshot = (struct ovc_policy_snapshot){
		.size = sizeof(host->snapshot),
		.budget = memory / 2,
		.mem_available = memory,
		.mem_total = 2 * memory,
		.vms = host->vms,
		.nr_vms = nr,
	};
	return 0;
}

/* A second later all VMs hold and use something else. */
static void change(struct policy_host *host, uint64_t *random)
{
	struct ovc_policy_snapshot *s = &host->snapshot;

	s->now += 1000000000;
	s->used = s->overhead = s->budget / 64;
	for (size_t i = 0; i < s->nr_vms; i++) {
		struct ovc_policy_vm *vm = &host->vms[i];

		vm->resident = xorshift(random) % vm->memory;
		vm->active = xorshift(random) % vm->memory;
		vm->ballooned = (vm->memory - vm->resident) / 2;
		vm->swapped = (vm->memory - vm->resident) / 2;
		vm->balloon_target = host->decision.vms[i].balloon;
		s->used += vm->resident;
	}
}

static bool is_kept(const struct policy_host *host)
{
	uint64_t sum = host->snapshot.overhead;

	for (size_t i = 0; i < host->snapshot.nr_vms; i++)
		sum += host->decision.vms[i].entitlement;
	return sum <= host->snapshot.budget;
}

static int ours_trial(struct trial *trial)
{
	const struct ovc_policy *policy = ovc_policy_builtin();
	static struct hist hist;
	struct policy_host host = { 0 };
	uint64_t random = 4711;

	if (make_host(&host, (uint32_t)trial->contest->number))
		return fail(trial, TRIAL_FAILED, "no memory");
	for (int i = 0; i < DECISIONS; i++) {
		uint64_t begin;

		change(&host, &random);
		begin = now_ns();
		if (policy->decide(host.state, &host.snapshot, &host.decision))
			return fail(trial, TRIAL_FAILED, "refused to decide");
		hist_add(&hist, now_ns() - begin);
		if (!is_kept(&host))
			return fail(trial, TRIAL_FAILED, "over the budget");
	}
	trial->out->value[P50_US] = hist_us(&hist, 0.5);
	trial->out->value[P99_US] = hist_us(&hist, 0.99);
	return 0;
}

int case_policy(const struct options *options)
{
	static const char *const param[] = { "vms=10", "vms=100", "vms=1000" };
	static const double vms[] = { 10, 100, 1000 };
	struct options one = *options;
	int status = 0;

	one.side[SIDE_ANON] = true;
	one.side[SIDE_MEMFD] = false;
	for (int i = 0; i < 3; i++) {
		struct contest contest = {
			.options = &one,
			.name = "policy",
			.param = param[i],
			.threads = 1,
			.metrics = BIT(P50_US) | BIT(P99_US),
			.number = vms[i],
			.no_memory = true,
			.ours = ours_trial,
		};

		status |= contest_run(&contest);
	}
	return status;
}
