/* SPDX-License-Identifier: MIT */
/*
 * The sharing store, as far as one page is concerned: one page of it, its count of
 * references, other VMs that refer to it; and what the kernel does where the store
 * is mapped in the guest.
 *
 * Where it is mapped, privately, the guest has the store's page (of_store), a copy
 * of its own, or nothing. Nothing makes a touch fault, once the mapping is
 * registered; before that the kernel maps the store's page by itself.
 *
 * What is taken away from there (mremap) lies in a window: "taken".
 *
 * Without references the page is freed as soon as somebody else has the lock: its
 * bytes are gone. What is stored next may have another number (config.renumber): a
 * mapping that is still there from before is stale then, and whoever maps its page
 * shows the guest GARBAGE.
 */
#include <errno.h>

#include "actors.h"

/* ---- the store ----------------------------------------------------------- */

void store_ref(struct state *s)
{
	s->refs++;
	tell("... %u refer to the store's page", s->refs);
}

void store_unref(struct state *s)
{
	if (!s->refs) {
		violate("%s drops a reference to the store's page that is not "
			"there",
			who);
		return;
	}
	s->refs--;
	tell("... %u refer to the store's page", s->refs);
}

unsigned store_read(const struct state *s)
{
	if (s->store_v == GARBAGE)
		violate("%s reads the store's page, which is free", who);
	return s->store_v;
}

/* The frame is punched out: nobody has it any more. */
static void sweep(struct state *s)
{
	tell("the store's page is swept away");
	s->store_v = GARBAGE;
	s->stale = s->laid && config.renumber;
	if (s->of_store)
		s->present = s->of_store = 0;
}

static void other_merges(struct state *s)
{
	if (s->store_v == GARBAGE)
		s->store_v = (1 + choose(config.versions - 1)) & 3;
	s->other = 1;
	s->other_v = s->store_v;
	tell("another VM merges a page: the store has version %u", s->store_v);
	store_ref(s);
}

/* What other VMs, and the sweep, may do now: one thing in each state. */
bool others_step(struct state *s)
{
	if (!config.share)
		return false;
	who = "another VM";
	if (s->other) {
		tell("another VM does not need the store's page any more");
		s->other = s->other_v = 0;
		store_unref(s);
		return true;
	}
	if (!control_free(s))
		return false;
	if (!s->refs && s->store_v != GARBAGE)
		sweep(s);
	else
		other_merges(s);
	return true;
}

/* ---- what maps it in the guest ------------------------------------------- */

/* mmap of the store in the place of what there was; both marks are set. */
void sys_lay(struct state *s)
{
	s->laid = s->own = s->unregistered = 1;
	s->stale = 0;
	s->present = s->of_store = s->wp = s->marker = s->poison = 0;
	s->v = 0;
	tell("... which is not registered yet");
}

/* UFFDIO_CONTINUE, which maps what the mapping has there. */
int sys_continue(struct state *s)
{
	if (in_memfd(s))
		return sys_put_back(s, NONE, false);
	if (refused())
		return -ENOMEM;
	if (s->present) {
		tell("... UFFDIO_CONTINUE fails: a page is there already");
		return -EEXIST;
	}
	if (!s->laid) {
		tell("... UFFDIO_CONTINUE fails: there is no file here");
		return -EINVAL;
	}
	tell("... maps the store's page%s",
	     s->stale ? " that lies here, which is another one" : "");
	s->present = s->of_store = 1;
	s->wp = s->marker = 0;
	wake_all(s);
	return 0;
}

/* mremap of what the guest has here, or nothing, to a window. */
int sys_take_away(struct state *s)
{
	if (refused())
		return -ENOMEM;
	s->taken = s->present;
	s->taken_of_store = s->of_store;
	s->taken_v = s->v;
	s->present = s->of_store = s->wp = s->marker = 0;
	s->v = 0;
	tell("... moves %s away", !s->taken	    ? "nothing" :
				  s->taken_of_store ? "the store's page" :
						      "a private copy");
	return 0;
}

void sys_release(struct state *s)
{
	s->taken = s->taken_of_store = s->taken_v = 0;
}

/* Ordinary memory in the place of the store: with its bytes already there. Both marks
 * are cleared. */
void sys_fold(struct state *s)
{
	s->laid = s->own = s->stale = 0;
	s->unregistered = 1;
	s->present = !config.memfd;
	s->v = config.memfd ? 0 : s->taken_v;
	tell("... which is not registered yet");
}
