/* SPDX-License-Identifier: MIT */
/*
 * What the host does of what its policy says: shares, guarantees, the idle memory tax,
 * goals, throttling, balloon targets; policies of the VMM's own; admission. What a
 * policy decides is tested without a kernel (tests/unit).
 */
#include <stdatomic.h>

#include "support.h"

TestSuite(policy, .timeout = 60 * PATIENCE);

#define VMS 2

/* Two guests of a host, and a thread each that uses a part of its memory for ever. */
struct guest {
	struct ovc_vm *vm;
	char *mem;
	size_t len;
	int memfd;
	atomic_size_t busy; /* bytes from the first on that are being used */
	atomic_bool stop;
	atomic_ulong rounds;
	pthread_t thread;
};

struct pair {
	struct ovc_host *host;
	struct guest guest[VMS];
};

struct pair_plan {
	enum kind kind;
	uint64_t budget;
	size_t len;
	uint32_t shares[VMS];
	uint64_t min[VMS];
	const struct ovc_policy *policy;
	struct ovc_policy_options options;
	void (*trace)(const struct ovc_policy_snapshot *snapshot,
		      const struct ovc_policy_decision *decision, void *opaque);
};

static void *be_busy(void *arg)
{
	struct guest *g = arg;

	while (!atomic_load(&g->stop)) {
		size_t busy = atomic_load(&g->busy);

		for (size_t at = 0; at < busy && !atomic_load(&g->stop);
		     at += PAGE)
			++*(volatile uint64_t *)(g->mem + at);
		atomic_fetch_add(&g->rounds, 1);
		usleep(200);
	}
	return NULL;
}

static void add_guest(struct pair *p, const struct pair_plan *plan, unsigned i)
{
	struct guest *g = &p->guest[i];
	struct ovc_vm_options o = { .size = sizeof(o),
				    .swap = swap_dir(),
				    .shares = plan->shares[i],
				    .min = plan->min[i] };
	struct ovc_region_options r = { .size = sizeof(r), .len = plan->len };

	g->len = plan->len;
	g->mem = map_memory(plan->kind, g->len, &g->memfd);
	r.addr = g->mem;
	r.memfd = g->memfd;
	r.gpa = (uint64_t)i << 40;
	cr_assert_eq(ovc_vm_create(p->host, &o, &g->vm), 0, "%s", ovc_error());
	cr_assert_eq(ovc_vm_add_region(g->vm, &r), 0, "%s", ovc_error());
	cr_assert_eq(pthread_create(&g->thread, NULL, be_busy, g), 0);
}

static void pair_open(struct pair *p, const struct pair_plan *plan)
{
	struct ovc_host_options o = { .size = sizeof(o),
				      .budget = plan->budget,
				      .share = OVC_SHARE_NEVER,
				      .policy = plan->policy,
				      .policy_options = &plan->options,
				      .policy_period = 20,
				      .policy_trace = plan->trace };

	need_userfaultfd();
	memset(p, 0, sizeof(*p));
	cr_assert_eq(ovc_host_create(&o, &p->host), 0, "%s", ovc_error());
	for (unsigned i = 0; i < VMS; i++)
		add_guest(p, plan, i);
}

static void pair_close(struct pair *p)
{
	for (unsigned i = 0; i < VMS; i++)
		atomic_store(&p->guest[i].stop, true);
	for (unsigned i = 0; i < VMS; i++)
		pthread_join(p->guest[i].thread, NULL);
	for (unsigned i = 0; i < VMS; i++)
		ovc_vm_destroy(&p->guest[i].vm, OVC_THROW_AWAY);
	ovc_host_destroy(&p->host);
}

static struct ovc_vm_stats stats_of(const struct guest *g)
{
	struct ovc_vm_stats s = { .size = sizeof(s) };

	cr_assert_eq(ovc_vm_stats(g->vm, &s), 0);
	return s;
}

static struct ovc_host_stats stats_of_host(const struct pair *p)
{
	struct ovc_host_stats s = { .size = sizeof(s) };

	cr_assert_eq(ovc_host_stats(p->host, &s), 0);
	return s;
}

/* Up to 20 s, and more where all is slow. */
#define wait_for(what)                                                         \
	do {                                                                   \
		for (unsigned n_ = 0; !(what); n_++) {                         \
			cr_assert_lt(n_, 4000 * PATIENCE, "never: %s", #what); \
			usleep(5000);                                          \
		}                                                              \
	} while (0)

static struct ovc_policy_options quick(void)
{
	return (struct ovc_policy_options){ .size = sizeof(
						    struct ovc_policy_options),
					    .sample_period = 500000000 };
}

static uint64_t held(const struct guest *g)
{
	struct ovc_vm_stats s = stats_of(g);

	return s.resident + s.staged;
}

/* ---- who gets how much ------------------------------------------------------------- */

static enum kind kinds[] = { ANON, MEMFD };

ParameterizedTestParameters(policy, memory_follows_shares)
{
	return cr_make_param_array(enum kind, kinds, 2);
}

ParameterizedTest(enum kind *kind, policy, memory_follows_shares)
{
	struct pair_plan plan = { .kind = *kind,
				  .budget = 64 * MIB,
				  .len = 56 * MIB,
				  .shares = { 3000, 1000 },
				  .options = quick() };
	struct pair p;

	plan.options.idle_tax = OVC_POLICY_NO_TAX;
	pair_open(&p, &plan);
	for (unsigned i = 0; i < VMS; i++)
		atomic_store(&p.guest[i].busy, plan.len);
	wait_for(stats_of_host(&p).decisions > 10);
	wait_for(held(&p.guest[0]) > 2 * held(&p.guest[1]) &&
		 held(&p.guest[1]) > 8 * MIB);
	cr_assert_eq(stats_of(&p.guest[0]).shares, 3000);
	wait_for(stats_of(&p.guest[0]).entitlement >
		 2 * stats_of(&p.guest[1]).entitlement);
	/* Two decisions may lie between the two looks. */
	wait_for(stats_of(&p.guest[0]).entitlement +
			 stats_of(&p.guest[1]).entitlement <=
		 64 * MIB);
	/* The other way round. */
	cr_assert_eq(ovc_vm_set_shares(p.guest[0].vm, 1000, 0), 0);
	cr_assert_eq(ovc_vm_set_shares(p.guest[1].vm, 3000, 0), 0);
	wait_for(held(&p.guest[1]) > 2 * held(&p.guest[0]));
	pair_close(&p);
}

ParameterizedTestParameters(policy, what_is_idle_pays_for_what_is_busy)
{
	return cr_make_param_array(enum kind, kinds, 2);
}

ParameterizedTest(enum kind *kind, policy, what_is_idle_pays_for_what_is_busy)
{
	struct pair_plan plan = { .kind = *kind,
				  .budget = 96 * MIB,
				  .len = 80 * MIB,
				  .options = quick() };
	struct pair p;

	pair_open(&p, &plan);
	/* The first fills its memory and uses little of it then; the second comes
	 * later and uses all. */
	atomic_store(&p.guest[0].busy, plan.len);
	wait_for(held(&p.guest[0]) > 75 * MIB);
	atomic_store(&p.guest[0].busy, 4 * MIB);
	atomic_store(&p.guest[1].busy, 60 * MIB);
	wait_for(held(&p.guest[1]) > 58 * MIB);
	wait_for(held(&p.guest[0]) < 40 * MIB);
	wait_for(stats_of(&p.guest[0]).active < 20 * MIB);
	wait_for(stats_of(&p.guest[1]).active > 45 * MIB);
	pair_close(&p);
}

ParameterizedTestParameters(policy, a_guarantee_is_kept)
{
	return cr_make_param_array(enum kind, kinds, 2);
}

ParameterizedTest(enum kind *kind, policy, a_guarantee_is_kept)
{
	struct pair_plan plan = { .kind = *kind,
				  .budget = 64 * MIB,
				  .len = 60 * MIB,
				  .min = { 24 * MIB, 0 },
				  .options = quick() };
	uint64_t least = UINT64_MAX;
	struct pair p;

	pair_open(&p, &plan);
	cr_assert_eq(stats_of_host(&p).guaranteed_bytes, 24 * MIB);
	atomic_store(&p.guest[0].busy, 32 * MIB);
	wait_for(held(&p.guest[0]) >= 32 * MIB);
	atomic_store(&p.guest[0].busy, 0); /* quite idle */
	atomic_store(&p.guest[1].busy, plan.len);
	wait_for(stats_of(&p.guest[1]).swap_out_bytes > 16 * MIB);
	for (unsigned i = 0; i < 400; i++) {
		uint64_t now = held(&p.guest[0]);

		least = now < least ? now : least;
		usleep(5000);
	}
	/* A chunk is looked at as a whole. */
	cr_assert_geq(least, 24 * MIB - 64 * PAGE, "held %zu KiB",
		      (size_t)least >> 10);
	cr_assert_geq(stats_of(&p.guest[0]).entitlement, 24 * MIB);
	pair_close(&p);
}

/* ---- policies of the VMM's own ----------------------------------------------------- */

static struct {
	atomic_ulong asked, started, stopped, traced;
	_Atomic uint64_t entitle, swap, balloon;
	atomic_bool throttle, refuse;
	_Atomic uint64_t id, resident, memory, min;
	_Atomic uint32_t flags, shares;
} own;

static size_t own_bytes(uint32_t vms)
{
	return vms;
}

static int own_start(void *state, uint32_t vms,
		     const struct ovc_policy_options *options)
{
	(void)options;
	cr_assert_not_null(state);
	cr_assert_geq(vms, VMS);
	atomic_fetch_add(&own.started, 1);
	return 0;
}

static void own_stop(void *state)
{
	(void)state;
	atomic_fetch_add(&own.stopped, 1);
}

/* Says of the first VM what a test wants, and nothing of the other. */
static int own_decide(void *state, const struct ovc_policy_snapshot *s,
		      struct ovc_policy_decision *d)
{
	(void)state;
	if (atomic_load(&own.refuse))
		return -EINVAL;
	for (size_t i = 0; i < s->nr_vms; i++)
		d->vms[i].entitlement = s->vms[i].memory;
	d->share_factor = 1;
	d->state = OVC_POLICY_SOFT;
	if (s->nr_vms) {
		const struct ovc_policy_vm *v = &s->vms[0];

		atomic_store(&own.id, v->id);
		atomic_store(&own.resident, v->resident);
		atomic_store(&own.memory, v->memory);
		atomic_store(&own.min, v->min);
		atomic_store(&own.flags, v->flags);
		atomic_store(&own.shares, v->shares);
		d->vms[0].entitlement = atomic_load(&own.entitle);
		d->vms[0].swap = atomic_load(&own.swap);
		d->vms[0].balloon = atomic_load(&own.balloon);
		d->vms[0].throttle = atomic_load(&own.throttle);
	}
	atomic_fetch_add(&own.asked, 1);
	return 0;
}

static const struct ovc_policy own_policy = {
	.size = sizeof(own_policy),
	.name = "a test's",
	.state_bytes = own_bytes,
	.start = own_start,
	.stop = own_stop,
	.decide = own_decide,
};

static void own_trace(const struct ovc_policy_snapshot *s,
		      const struct ovc_policy_decision *d, void *opaque)
{
	(void)opaque;
	if (s->nr_vms == VMS && d->state == OVC_POLICY_SOFT && s->budget)
		atomic_fetch_add(&own.traced, 1);
}

/* Memory is short enough for faults to be tracked, and no more. */
static void own_open(struct pair *p)
{
	struct pair_plan plan = { .budget = 96 * MIB,
				  .len = 64 * MIB,
				  .shares = { 7, 0 },
				  .min = { 2 * MIB, 0 },
				  .policy = &own_policy,
				  .options = quick(),
				  .trace = own_trace };

	atomic_store(&own.entitle, plan.len);
	pair_open(p, &plan);
	atomic_store(&p->guest[0].busy, 32 * MIB);
	wait_for(held(&p->guest[0]) >= 32 * MIB);
	wait_for(atomic_load(&own.asked) > 3);
}

Test(policy, a_policy_of_the_vmm_s_is_asked_and_traced)
{
	struct pair p;

	own_open(&p);
	cr_assert_eq(atomic_load(&own.started), 1);
	wait_for(atomic_load(&own.resident) >= 32 * MIB);
	cr_assert_eq(atomic_load(&own.id), stats_of(&p.guest[0]).id);
	cr_assert_neq(atomic_load(&own.id), stats_of(&p.guest[1]).id);
	cr_assert_eq(atomic_load(&own.memory), 64 * MIB);
	cr_assert_eq(atomic_load(&own.min), 2 * MIB);
	cr_assert_eq(atomic_load(&own.shares), 7);
	cr_assert_not(atomic_load(&own.flags) & OVC_POLICY_VM_NO_SWAP);
	cr_assert_gt(atomic_load(&own.traced), 0);
	cr_assert_eq(stats_of_host(&p).policy_state, OVC_POLICY_SOFT);
	cr_assert_gt(stats_of_host(&p).decisions, 0);
	pair_close(&p);
	cr_assert_eq(atomic_load(&own.stopped), 1);
}

Test(policy, a_vm_gives_by_force_what_it_is_told_to)
{
	struct pair p;

	own_open(&p);
	atomic_store(&p.guest[0].busy, 0);
	atomic_store(&own.swap, 8 * MIB);
	/* That much, again and again: it is said of what it holds then. */
	wait_for(held(&p.guest[0]) <= 16 * MIB);
	atomic_store(&own.swap, 0);
	pair_close(&p);
}

Test(policy, a_vm_that_is_throttled_keeps_to_its_entitlement_and_goes_on)
{
	unsigned long rounds;
	struct pair p;

	own_open(&p);
	atomic_store(&own.entitle, 12 * MIB);
	atomic_store(&own.swap, 20 * MIB);
	atomic_store(&own.throttle, true);
	/* What is brought in at once is counted when it is in. */
	wait_for(held(&p.guest[0]) <= 13 * MIB);
	atomic_store(&own.swap, 2 * MIB);
	rounds = atomic_load(&p.guest[0].rounds);
	for (unsigned i = 0; i < 100; i++) {
		cr_assert_leq(held(&p.guest[0]), 13 * MIB);
		usleep(5000);
	}
	wait_for(atomic_load(&p.guest[0].rounds) > rounds + 1);
	cr_assert(stats_of(&p.guest[0]).throttled);
	cr_assert_eq(stats_of(&p.guest[0]).entitlement, 12 * MIB);
	atomic_store(&own.throttle, false);
	pair_close(&p);
}

Test(policy, a_balloon_gets_the_target_that_the_policy_wants)
{
	struct ovc_balloon_options b = { .size = sizeof(b),
					 .flags = OVC_BALLOON_DRIVER };
	struct pair p;

	own_open(&p);
	cr_assert_not(atomic_load(&own.flags) & OVC_POLICY_VM_BALLOON);
	cr_assert_eq(ovc_vm_balloon_set(p.guest[0].vm, &b), 0);
	wait_for(atomic_load(&own.flags) & OVC_POLICY_VM_BALLOON);
	atomic_store(&own.balloon, 16 * MIB);
	wait_for(stats_of(&p.guest[0]).balloon_target == 16 * MIB);
	cr_assert_eq(stats_of(&p.guest[1]).balloon_target, 0);
	pair_close(&p);
}

Test(policy, a_policy_that_refuses_changes_nothing)
{
	uint64_t decisions;
	struct pair p;

	own_open(&p);
	atomic_store(&own.refuse, true);
	usleep(50000);
	decisions = stats_of_host(&p).decisions;
	usleep(100000);
	cr_assert_eq(stats_of_host(&p).decisions, decisions);
	cr_assert_geq(held(&p.guest[0]), 32 * MIB);
	pair_close(&p);
}

/* ---- what is refused --------------------------------------------------------------- */

static struct ovc_host *new_host(uint64_t budget)
{
	struct ovc_host_options o = { .size = sizeof(o), .budget = budget };
	struct ovc_host *host = NULL;

	need_userfaultfd();
	cr_assert_eq(ovc_host_create(&o, &host), 0, "%s", ovc_error());
	return host;
}

static int new_vm(struct ovc_host *host, uint32_t shares, uint64_t min,
		  uint64_t limit, struct ovc_vm **vm)
{
	struct ovc_vm_options o = {
		.size = sizeof(o), .shares = shares, .min = min, .limit = limit
	};

	return ovc_vm_create(host, &o, vm);
}

Test(policy, guarantees_that_do_not_fit_are_refused_with_the_figures)
{
	struct ovc_host *host = new_host(64 * MIB);
	struct ovc_vm *one = NULL, *two = NULL;

	cr_assert_eq(new_vm(host, 0, 40 * MIB, 0, &one), 0);
	expect_error("vm", new_vm(host, 0, 40 * MIB, 0, &two), -ENOMEM,
		     "80 MiB");
	cr_assert_null(two);
	cr_assert_eq(new_vm(host, 0, 10 * MIB, 0, &two), 0);
	expect_error("set_shares", ovc_vm_set_shares(two, 0, 40 * MIB), -ENOMEM,
		     "80 MiB");
	expect_error("set_shares", ovc_vm_set_shares(one, 0, 70 * MIB), -ENOMEM,
		     "raise the budget");
	cr_assert_eq(ovc_vm_set_shares(one, 0, 0), 0);
	cr_assert_eq(ovc_vm_set_shares(two, 0, 40 * MIB), 0);
	/* What it is guaranteed goes with it. */
	ovc_vm_destroy(&two, 0);
	cr_assert_eq(ovc_vm_set_shares(one, 0, 50 * MIB), 0);
	ovc_vm_destroy(&one, 0);
	ovc_host_destroy(&host);
}

Test(policy, shares_and_guarantees_out_of_range_are_refused)
{
	struct ovc_host *host = new_host(64 * MIB);
	struct ovc_vm *vm = NULL;

	expect_error("vm_create", new_vm(host, 1000001, 0, 0, &vm), -EINVAL,
		     "1,000,000");
	expect_error("vm_create", new_vm(host, 0, 9 * MIB, 8 * MIB, &vm),
		     -EINVAL, "limit");
	cr_assert_eq(new_vm(host, 0, 8 * MIB, 16 * MIB, &vm), 0);
	expect_error("set_shares", ovc_vm_set_shares(vm, 1000001, 0), -EINVAL,
		     "1,000,000");
	expect_error("set_shares", ovc_vm_set_shares(vm, 0, 17 * MIB), -EINVAL,
		     "limit");
	expect_error("set_shares", ovc_vm_set_shares(NULL, 0, 0), -EINVAL,
		     "NULL");
	expect_error("set_limit", ovc_vm_set_limit(vm, 4 * MIB), -EINVAL,
		     "min");
	cr_assert_eq(ovc_vm_set_limit(vm, 0), 0);
	cr_assert_eq(ovc_vm_set_shares(vm, 1000000, 17 * MIB), 0);
	ovc_vm_destroy(&vm, 0);
	ovc_host_destroy(&host);
}

static int host_with(const struct ovc_policy *policy,
		     const struct ovc_policy_options *options, uint32_t period)
{
	struct ovc_host_options o = { .size = sizeof(o),
				      .budget = 64 * MIB,
				      .policy = policy,
				      .policy_options = options,
				      .policy_period = period };
	struct ovc_host *host = NULL;
	int error = ovc_host_create(&o, &host);

	ovc_host_destroy(&host);
	return error;
}

Test(policy, policies_that_cannot_be_are_refused)
{
	struct ovc_policy_options o = quick();
	struct ovc_policy p = own_policy;

	need_userfaultfd();
	cr_assert_eq(host_with(&p, &o, 10), 0);
	cr_assert_eq(host_with(NULL, NULL, 60000), 0);
	expect_error("host_create", host_with(NULL, NULL, 9), -EINVAL,
		     "policy_period");
	expect_error("host_create", host_with(NULL, NULL, 60001), -EINVAL,
		     "policy_period");
	p.decide = NULL;
	expect_error("host_create", host_with(&p, &o, 0), -EINVAL, "decide");
	p = own_policy;
	p.size--;
	expect_error("host_create", host_with(&p, &o, 0), -EINVAL, "size");
	o.idle_tax = 9901;
	expect_error("host_create", host_with(NULL, &o, 0), -EINVAL,
		     "policy_options");
	o = quick();
	o.size = 1;
	expect_error("host_create", host_with(NULL, &o, 0), -EINVAL,
		     "policy_options");
}
