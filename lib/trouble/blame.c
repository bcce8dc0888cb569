/* SPDX-License-Identifier: MIT */
/*
 * Where guests wait for memory, or more is held than the budget allows, and for a second
 * no memory was freed, the VMM is told, each second, what keeps it from being freed.
 *
 *   who waits                     what must be freed for it   event
 *   a VM at its own limit         of that VM                  STUCK, of the VM
 *   a VM, the budget is used up   of any VM                   STUCK, one for all
 *   nobody; the budget is passed  of any VM                   OVER_BUDGET
 *
 * Progress is memory freed, and nothing else: writes that fail or hang are none, nor is
 * what is staged and put back. The cause is what the most bytes cannot be freed for; the
 * sentence names the three largest, each with the VM that has the most of it.
 *
 * Failures: what nobody counted is told as unknown.
 */
#include "trouble/blame.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/budget.h"
#include "core/events.h"
#include "memory/track.h"
#include "out/reclaim.h"
#include "trouble/untaken.h"

#define SECOND	  1000000000ull
#define NR_CAUSES (OVC_CAUSE_UNTAKEN + OVC_UNTAKEN_NR)
#define NAMED	  3

/* What one cause keeps. */
struct kept {
	uint64_t pages, most; /* all; of the VM that has the most */
	const struct ovc_vm *vm;
	unsigned vms;
};

/* ---- why: by cause --------------------------------------------------------- */

static void keep(struct kept *k, const struct ovc_vm *vm, uint64_t pages)
{
	if (!pages)
		return;
	k->pages += pages;
	k->vms++;
	if (pages <= k->most)
		return;
	k->most = pages;
	k->vm = vm;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* For how long its swap has not answered. */
static uint64_t silent_for(const struct ovc_reclaim *rc,
			   const struct ovc_vm *vm, uint64_t now)
{
	uint64_t since = now;

	for (unsigned i = 0; i < OVC_DEPTH; i++)
		if (rc->ios[i].since && rc->ios[i].vm == vm)
			since = smaller(since, rc->ios[i].since);
	return now - since;
}

static bool is_full(int error)
{
	return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

/* Why what the VM holds beside its pins is not taken; *pages is how much of it. */
static uint32_t cause_of(const struct ovc_reclaim *rc, const struct ovc_vm *vm,
			 uint64_t now, uint64_t *pages)
{
	int error = atomic_load(&vm->write_error);

	if (!vm->swap)
		return OVC_CAUSE_NO_SWAP;
	if (error)
		return is_full(error) ? OVC_CAUSE_SWAP_FULL :
					OVC_CAUSE_SWAP_FAILED;
	if (silent_for(rc, vm, now) >= SECOND)
		return OVC_CAUSE_SWAP_SILENT;
	*pages = smaller(*pages, atomic_load(&vm->min));
	return OVC_CAUSE_GUARANTEED;
}

static void look_at(const struct ovc_reclaim *rc, const struct ovc_vm *vm,
		    uint64_t now, struct kept *kept)
{
	uint64_t pages = ovc_vm_held(vm);
	uint64_t pinned = smaller(atomic_load(&vm->pinned), pages), untaken;
	uint32_t cause;

	pages -= pinned;
	keep(&kept[OVC_CAUSE_PINNED], vm, pinned);
	for (unsigned i = 0; i < OVC_UNTAKEN_NR; i++) {
		untaken = ovc_untaken_bytes(vm, i) / OVC_PAGE;
		keep(&kept[OVC_CAUSE_UNTAKEN + i], vm, untaken);
		pages -= smaller(untaken, pages);
	}
	cause = cause_of(rc, vm, now, &pages);
	keep(&kept[cause], vm, pages);
}

/* ---- in words ---------------------------------------------------------------- */

struct words {
	char text[384];
	size_t len;
};

__attribute__((format(printf, 2, 3))) static void say(struct words *w,
						      const char *fmt, ...)
{
	size_t room = sizeof(w->text) - w->len;
	va_list list;
	int n;

	va_start(list, fmt);
	n = vsnprintf(w->text + w->len, room, fmt, list);
	va_end(list);
	w->len += n < 0 ? 0 : smaller((uint64_t)n, room - 1);
}

static unsigned long long seconds(uint64_t ns)
{
	return ns / SECOND;
}

static unsigned long long mib(uint64_t pages)
{
	return pages * OVC_PAGE >> 20;
}

/* Those of the kernel's have it with the reason. */
static const char *const advice[OVC_CAUSE_LIMIT + 1] = {
	[OVC_CAUSE_UNKNOWN] = "raise the budget",
	[OVC_CAUSE_NO_SWAP] = "raise the budget, or give swap",
	[OVC_CAUSE_SWAP_FULL] = "free space, or raise the budget",
	[OVC_CAUSE_SWAP_FAILED] = "see to the disk, or raise the budget",
	[OVC_CAUSE_SWAP_SILENT] = "see to the disk, or raise the budget",
	[OVC_CAUSE_PINNED] = "unpin, or raise the budget",
	[OVC_CAUSE_GUARANTEED] = "raise the budget, or guarantee less",
	[OVC_CAUSE_LIMIT] = "raise the limit",
};

static void say_cause(const struct ovc_reclaim *rc, struct words *w,
		      uint32_t cause, const struct kept *k, uint64_t now)
{
	const struct ovc_vm *vm = k->vm;
	int error = atomic_load(&vm->write_error);

	say(w, "%llu MiB of %s", mib(k->pages), vm->name);
	if (k->vms > 1)
		say(w, " and %u more", k->vms - 1);
	switch (cause) {
	case OVC_CAUSE_NO_SWAP:
		say(w, " without swap");
		break;
	case OVC_CAUSE_SWAP_FULL:
	case OVC_CAUSE_SWAP_FAILED:
		say(w, ", whose swap could not be written for %llu s (%s)",
		    seconds(now - vm->failing_since),
		    ovc_swap_error(vm->swap, error));
		break;
	case OVC_CAUSE_SWAP_SILENT:
		say(w, ", whose swap has not answered for %llu s",
		    seconds(silent_for(rc, vm, now)));
		break;
	case OVC_CAUSE_PINNED:
		say(w, " pinned");
		break;
	case OVC_CAUSE_GUARANTEED:
		say(w, " guaranteed");
		break;
	default:
		say(w, " cannot be taken: %s",
		    ovc_untaken_text(cause - OVC_CAUSE_UNTAKEN));
	}
}

static uint32_t largest(const struct kept *kept)
{
	uint32_t best = OVC_CAUSE_UNKNOWN;

	for (uint32_t c = 1; c < NR_CAUSES; c++)
		if (kept[c].pages > kept[best].pages)
			best = c;
	return best;
}

/* Ends the sentence with the causes, of all VMs or one; fills in the event. */
static void say_why(const struct ovc_reclaim *rc, const struct ovc_vm *only,
		    uint64_t now, struct words *w, struct ovc_news *news)
{
	struct kept kept[NR_CAUSES] = { { 0 } };
	uint32_t cause, next;

	for (unsigned i = 0; i < rc->host->end; i++)
		if (rc->host->vms[i] && (!only || rc->host->vms[i] == only))
			look_at(rc, rc->host->vms[i], now, kept);
	cause = largest(kept);
	news->vm = only ? only : kept[cause].vm;
	news->error = ENOMEM;
	if (cause == OVC_CAUSE_SWAP_FULL || cause == OVC_CAUSE_SWAP_FAILED)
		news->error = atomic_load(&kept[cause].vm->write_error);
	if (cause == OVC_CAUSE_SWAP_SILENT)
		news->error = ETIMEDOUT;
	if (cause >= OVC_CAUSE_UNTAKEN)
		news->error = atomic_load(&kept[cause].vm->refused_with);
	news->cause = only && !cause ? OVC_CAUSE_LIMIT : cause;
	if (!news->cause)
		say(w, "; why is not known");
	for (unsigned i = 0; i < NAMED; i++) {
		next = largest(kept);
		if (!next)
			break;
		say(w, "; ");
		say_cause(rc, w, next, &kept[next], now);
		kept[next].pages = 0;
	}
	if (news->cause < OVC_CAUSE_UNTAKEN)
		say(w, ": %s", advice[news->cause]);
	news->detail = w->text;
}

/* ---- when ---------------------------------------------------------------------- */

/* Has it waited for a second in which nothing was freed that it could have had? */
static bool is_stuck(struct ovc_vm *vm, uint64_t now, bool own)
{
	uint64_t freed =
		atomic_load(own ? &vm->count.freed : &vm->host->count.freed);

	if (!atomic_load(&vm->starved) || freed != vm->seen_freed)
		vm->quiet_since = now;
	vm->seen_freed = freed;
	return now - vm->quiet_since >= SECOND;
}

/* Others' memory would not help it: see disk.c. */
static bool is_confined(const struct ovc_vm *vm)
{
	return ovc_vm_held(vm) >= atomic_load(&vm->confined);
}

static bool is_due(uint64_t *told, uint64_t now)
{
	if (now - *told < SECOND)
		return false;
	*told = now;
	return true;
}

static void tell_limited(struct ovc_reclaim *rc, struct ovc_vm *vm,
			 uint64_t now)
{
	struct ovc_news news = { .type = OVC_EVENT_STUCK };
	struct words w = { .len = 0 };

	say(&w,
	    "%s waits for memory at %s, %llu MiB, and none of its own was "
	    "freed for %llu s",
	    vm->name,
	    ovc_vm_at_limit(vm) ? "its limit" :
				  "what it may hold while it cannot be written "
				  "out",
	    mib(ovc_vm_held(vm)), seconds(now - vm->quiet_since));
	say_why(rc, vm, now, &w, &news);
	ovc_events_tell(rc->host, &news);
}

static void tell_stuck(struct ovc_reclaim *rc, const struct ovc_vm *vm,
		       unsigned others, uint64_t now)
{
	struct ovc_news news = { .type = OVC_EVENT_STUCK };
	struct words w = { .len = 0 };

	say(&w, "%s", vm->name);
	if (others)
		say(&w, " and %u more", others);
	say(&w,
	    " wait%s for memory and none was freed for %llu s: %llu of "
	    "%llu MiB are held",
	    others ? "" : "s", seconds(now - vm->quiet_since),
	    mib(ovc_host_held(rc->host)), mib(atomic_load(&rc->host->allowed)));
	say_why(rc, NULL, now, &w, &news);
	ovc_events_tell(rc->host, &news);
}

static void look_who_waits(struct ovc_reclaim *rc, uint64_t now)
{
	struct ovc_vm *first = NULL;
	unsigned nr = 0;

	for (unsigned i = 0; i < rc->host->end; i++) {
		struct ovc_vm *vm = rc->host->vms[i];
		bool own = vm && (ovc_vm_at_limit(vm) || is_confined(vm));

		if (!vm || !is_stuck(vm, now, own))
			continue;
		if (own && is_due(&vm->stuck_told, now))
			tell_limited(rc, vm, now);
		if (own)
			continue;
		nr++;
		if (!first || vm->quiet_since < first->quiet_since)
			first = vm;
	}
	if (nr && is_due(&rc->blame.told, now))
		tell_stuck(rc, first, nr - 1, now);
}

/* Pages of regions that cannot be tracked. To look is not cheap. */
static uint64_t untracked(const struct ovc_host *host, struct ovc_blame *b,
			  uint64_t now)
{
	uint64_t bytes = 0;

	if (!atomic_load(&host->tracked) || !is_due(&b->looked, now))
		return b->untracked;
	for (unsigned i = 0; i < host->end; i++)
		for (unsigned k = 0;
		     host->vms[i] && k < host->vms[i]->nr_regions; k++)
			if (!host->vms[i]->regions[k]->tracked)
				bytes += ovc_region_untracked_resident(
					host->vms[i]->regions[k]);
	b->untracked = bytes / OVC_PAGE;
	return b->untracked;
}

static void look_at_budget(struct ovc_reclaim *rc, uint64_t now)
{
	struct ovc_host *host = rc->host;
	struct ovc_blame *b = &rc->blame;
	uint64_t held = ovc_host_held(host) + untracked(host, b, now);
	uint64_t allowed = atomic_load(&host->allowed);
	uint64_t freed = atomic_load(&host->count.freed);
	struct ovc_news news = { .type = OVC_EVENT_OVER_BUDGET };
	struct words w = { .len = 0 };

	if (held <= allowed || held < b->held || freed != b->freed)
		b->quiet_since = now;
	b->held = held;
	b->freed = freed;
	if (now - b->quiet_since < SECOND || !is_due(&b->over_told, now))
		return;
	say(&w,
	    "%llu MiB are held, %llu KiB more than the budget allows, and "
	    "none was freed for %llu s",
	    mib(held), mib((held - allowed) << 10),
	    seconds(now - b->quiet_since));
	say_why(rc, NULL, now, &w, &news);
	news.len = (held - allowed) * OVC_PAGE;
	ovc_events_tell(host, &news);
}

void ovc_blame_step(struct ovc_reclaim *rc, uint64_t now)
{
	look_who_waits(rc, now);
	look_at_budget(rc, now);
}
