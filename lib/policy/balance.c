/* SPDX-License-Identifier: MIT */
/*
 * The library's own policy, and a worked example of one:
 *
 *   1. how short is memory, and how much may VMs hold together?  pressure.c
 *   2. what is each VM entitled to?                              entitle.c
 *   3. who holds more: by the balloon or by force?               balloon.c
 *   4. in the worst state, the VM that holds most beyond its entitlement waits, if
 *      another faults that holds less than its own
 *
 * Guarantees go before what should stay free: where they fit into the budget less
 * the overhead they are kept, even if that leaves the host short.
 *
 * A snapshot that cannot be is refused whole, before anything is remembered of it.
 */
#include <errno.h>
#include <stdbool.h>
#include "policy/balloon.h"
#include "policy/entitle.h"
#include "policy/policy.h"
#include "policy/pressure.h"

#define DEFAULT_SHARES 1000u
#define MOST_SHARES    1000000u
#define HEADROOM_PARTS 16 /* of its memory, that a VM may want soon */

struct balance_vm {
	uint64_t id;
	bool known;
	struct ovc_policy_balloon balloon;
};

/* Behind it: the VMs by index, then claims in the snapshot's order. */
struct balance {
	struct ovc_policy_options options;
	struct ovc_pressure pressure;
	uint32_t vms;
	struct balance_vm vm[];
};

static struct ovc_claim *claims_of(struct balance *b)
{
	return (struct ovc_claim *)(void *)(b->vm + b->vms);
}

static size_t balance_bytes(uint32_t vms)
{
	return sizeof(struct balance) +
	       vms * (sizeof(struct balance_vm) + sizeof(struct ovc_claim));
}

static int balance_start(void *state, uint32_t vms,
			 const struct ovc_policy_options *options)
{
	struct balance *b = state;

	b->vms = vms;
	return ovc_policy_options_fill(options, &b->options);
}

/* ---- Is it a snapshot? --------------------------------------------------- */

static bool is_vm(const struct balance *b, const struct ovc_policy_vm *vm)
{
	const uint64_t most = OVC_CLAIM_MOST;

	return vm->index < b->vms && vm->shares <= MOST_SHARES &&
	       vm->memory <= most && vm->min <= most && vm->resident <= most &&
	       vm->swapped <= most && vm->pinned <= most;
}

static bool is_snapshot(const struct balance *b,
			const struct ovc_policy_snapshot *s,
			const struct ovc_policy_decision *d)
{
	if (s->size != sizeof(*s) || d->size != sizeof(*d) || !s->budget ||
	    s->budget > OVC_CLAIM_MOST || s->used > OVC_CLAIM_MOST ||
	    s->nr_vms > b->vms)
		return false;
	for (size_t i = 0; i < s->nr_vms; i++)
		if (!is_vm(b, &s->vms[i]))
			return false;
	return true;
}

/* ---- Entitlements -------------------------------------------------------- */

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most_of(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static double tax_of(const struct ovc_policy_options *o)
{
	return o->idle_tax == OVC_POLICY_NO_TAX ?
		       0 :
		       (double)o->idle_tax / OVC_POLICY_ALL;
}

static bool is_estimated(const struct ovc_policy_vm *vm)
{
	return vm->flags & OVC_POLICY_VM_ESTIMATED;
}

/*
 * What a VM has a use for: what it has, what was taken from it, and some more. All
 * of its memory where it grows or nothing is known of it.
 */
static uint64_t wanted(const struct ovc_policy_vm *vm)
{
	uint64_t ballooned = least(vm->ballooned, vm->memory);

	if (!is_estimated(vm) || vm->flags & OVC_POLICY_VM_GROWING ||
	    vm->faults_waiting || vm->swap_in)
		return vm->memory;
	return least(vm->resident + vm->swapped + ballooned +
			     vm->memory / HEADROOM_PARTS,
		     vm->memory);
}

/* Without an estimate all that a VM may have counts as active: no tax. */
static uint64_t active(const struct ovc_policy_vm *vm)
{
	return is_estimated(vm) ? least(vm->active, vm->memory) : vm->memory;
}

static void claim(struct ovc_claim *c, const struct ovc_policy_vm *vm)
{
	c->shares = vm->shares ? vm->shares : DEFAULT_SHARES;
	c->min = most_of(vm->min, vm->pinned);
	c->max = vm->limit ? least(vm->limit, vm->memory) : vm->memory;
	c->want = wanted(vm);
	c->active = active(vm);
}

static uint64_t capacity(const struct balance *b,
			 const struct ovc_policy_snapshot *s, uint64_t mins)
{
	uint64_t most = s->budget > s->overhead ? s->budget - s->overhead : 0;

	return most_of(ovc_pressure_capacity(&b->pressure, s, &b->options),
		       least(mins, most));
}

static void entitle(struct balance *b, const struct ovc_policy_snapshot *s,
		    struct ovc_policy_decision *d)
{
	struct ovc_claim *claims = claims_of(b);
	double tax = tax_of(&b->options);
	uint64_t mins = 0;

	for (size_t i = 0; i < s->nr_vms; i++) {
		claim(&claims[i], &s->vms[i]);
		mins += least(claims[i].min, claims[i].max);
	}
	d->capacity = capacity(b, s, mins);
	ovc_entitle(claims, s->nr_vms, d->capacity, tax);
	for (size_t i = 0; i < s->nr_vms; i++) {
		uint64_t held = s->vms[i].resident;
		uint64_t busy = least(claims[i].active, held);

		d->vms[i] = (struct ovc_policy_vm_decision){
			.entitlement = claims[i].entitlement,
			.bound = claims[i].bound,
			.rho = ovc_rho(claims[i].shares, held, busy, tax),
			.active = held ? (double)busy / (double)held : 1,
		};
	}
}

/* ---- The decision -------------------------------------------------------- */

static struct ovc_policy_balloon *balloon_of(struct balance *b,
					     const struct ovc_policy_vm *vm)
{
	struct balance_vm *own = &b->vm[vm->index];

	if (!own->known || own->id != vm->id)
		*own = (struct balance_vm){ .id = vm->id, .known = true };
	return &own->balloon;
}

/* Does a VM wait for memory that it is entitled to? */
static bool is_deprived(const struct ovc_policy_vm *vm,
			const struct ovc_policy_vm_decision *d)
{
	return vm->resident < d->entitlement &&
	       (vm->faults_waiting || vm->swap_in);
}

/* What it may not take another gets: where nobody else goes short, all would only stand
 * still. */
static void throttle_greediest(const struct ovc_policy_snapshot *s,
			       struct ovc_policy_decision *d)
{
	struct ovc_policy_vm_decision *greediest = NULL;
	uint64_t most = 0;
	bool deprived = false;

	for (size_t i = 0; i < s->nr_vms; i++) {
		uint64_t held = s->vms[i].resident;

		deprived |= is_deprived(&s->vms[i], &d->vms[i]);
		if (held <= d->vms[i].entitlement ||
		    held - d->vms[i].entitlement <= most)
			continue;
		most = held - d->vms[i].entitlement;
		greediest = &d->vms[i];
	}
	if (greediest && deprived)
		greediest->throttle = 1;
}

static int balance_decide(void *state,
			  const struct ovc_policy_snapshot *snapshot,
			  struct ovc_policy_decision *decision)
{
	const struct ovc_policy_snapshot *s = snapshot;
	struct ovc_policy_decision *d = decision;
	struct balance *b = state;

	if (!is_snapshot(b, s, d))
		return -EINVAL;
	ovc_pressure_update(&b->pressure, s, &b->options);
	d->state = b->pressure.state;
	d->cause = b->pressure.cause;
	d->share_factor = ovc_pressure_share_factor(b->pressure.state);
	entitle(b, s, d);
	for (size_t i = 0; i < s->nr_vms; i++)
		ovc_policy_balloon_decide(balloon_of(b, &s->vms[i]), &s->vms[i],
					  &b->options, s->now,
					  b->pressure.state, &d->vms[i]);
	if (d->state == OVC_POLICY_LOW)
		throttle_greediest(s, d);
	return 0;
}

const struct ovc_policy *ovc_policy_builtin(void)
{
	static const struct ovc_policy balance = {
		.size = sizeof(balance),
		.name = "balance",
		.state_bytes = balance_bytes,
		.start = balance_start,
		.decide = balance_decide,
	};

	return &balance;
}
