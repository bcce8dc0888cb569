/* SPDX-License-Identifier: MIT */
/*
 * What lib/in/pager.c does: a touch, from the look at the page's word to the end
 * of whatever it takes to make the page present. Fault threads take these
 * steps, callers that need the page, and reclaim on behalf of who came while
 * it staged.
 */
#include <errno.h>

#include "actors.h"

/* ---- a touch ------------------------------------------------------------- */

static void touch_zero(struct state *s, struct thread *t)
{
	s->used++;
	go(s, OVC_EV_FAULT, 0);
	t->pc = broken(MARK_FIRST) ? ZERO_END : ZERO;
}

static void touch_swapped(struct state *s, struct thread *t)
{
	t->slot = value_of(s) & 7;
	s->used++;
	go(s, OVC_EV_FAULT, t->slot);
	t->pc = READ;
}

static void touch_staged(struct state *s, struct thread *t)
{
	bool staged = state_of(s) == OVC_STAGED;

	t->pos = value_of(s) & 7;
	t->doomed = state_of(s) == OVC_DOOMED;
	t->slot = NONE;
	if (!in_memfd(s) || is_hold(t->pos))
		s->used++;
	go(s, OVC_EV_FAULT, t->pos);
	if (is_hold(t->pos) && broken(HOLD_FREED_FIRST))
		s->entry[HOLD].used = 0;
	/* What was WRITING has given its slot to reclaim. */
	t->pc = staged || t->doomed ? PUT_SLOT :
		broken(MARK_FIRST)  ? PUT_END :
				      PUT;
}

/* It should be there. Who makes sure must own it. */
static void touch_present(struct state *s, struct thread *t)
{
	if (broken(CHECK_UNOWNED)) {
		tell("%s finds the word RESIDENT", who);
		t->pc = CHECK_UNOWNED_DO;
		return;
	}
	go(s, OVC_EV_LOOK, 0);
	t->pc = ZERO;
	t->doomed = 1; /* was there before: nothing to charge or uncharge */
}

static void touch_clean(struct state *s, struct thread *t)
{
	t->slot = value_of(s) & 7;
	go(s, OVC_EV_LOOK, 0);
	t->pc = CHECK_CLEAN;
}

static void touch_stored(struct state *s, struct thread *t)
{
	if (!t->write && s->own) {
		tell("%s finds that the page need only be mapped", who);
		t->pc = REMAP;
		return;
	}
	s->used++;
	go(s, OVC_EV_FAULT, 0);
	t->pc = UNSHARE;
	if (broken(UNREF_FIRST))
		store_unref(s);
}

static void touch_shared(struct state *s, struct thread *t)
{
	go(s, OVC_EV_FAULT, 0);
	t->pc = MAP;
}

static void touch_poisoned(struct thread *t)
{
	tell("%s finds the word POISONED", who);
	if (broken(POISON_UNOWNED)) {
		t->pc = POISON_DO;
		return;
	}
	t->wake = 1; /* it was poisoned before the word said so */
	done(t);
}

void touch_step(struct state *s, struct thread *t)
{
	t->slot = NONE;
	t->doomed = 0;
	switch (state_of(s)) {
	case OVC_EMPTY:
		touch_zero(s, t);
		break;
	case OVC_SWAPPED:
		touch_swapped(s, t);
		break;
	case OVC_STAGED:
	case OVC_WRITING:
	case OVC_DOOMED:
		touch_staged(s, t);
		break;
	case OVC_RESIDENT:
		touch_present(s, t);
		break;
	case OVC_CLEAN:
		touch_clean(s, t);
		break;
	case OVC_STORED:
		touch_stored(s, t);
		break;
	case OVC_SHARED:
		touch_shared(s, t);
		break;
	case OVC_POISONED:
		touch_poisoned(t);
		break;
	default: /* transient: its owner will wake */
		tell("%s finds the word %s and marks it wanted", who,
		     ovc_state_name(state_of(s)));
		go(s, OVC_EV_FAULT, 0);
		done(t);
		break;
	}
}

/* Its fault may be late, and the page as it came in. */
void check_clean_step(struct state *s, struct thread *t)
{
	t->good = (s->present && s->wp) || broken(CLEAN_UNSEEN);
	tell("%s looks if the page is there, and protected: %s", who,
	     t->good ? "yes" : "no");
	t->pc = CHECK_CLEAN_END;
}

void check_clean_end_step(struct state *s, struct thread *t)
{
	end(s, t, t->good ? OVC_EV_FILLED_CLEAN : OVC_EV_FILLED,
	    t->good ? t->slot : 0);
	if (!t->good) {
		free_then(t, TOUCH);
		return;
	}
	t->slot = NONE;
	t->wake = 1;
	done(t);
}

void zero_step(struct state *s, struct thread *t)
{
	bool was_there = t->doomed;

	tell("%s fills with zeros", who);
	if (!sys_zero(s, t->write) || was_there) {
		t->wake |= was_there;
		t->pc = ZERO_END;
		if (broken(MARK_FIRST) && !was_there)
			done(t);
		return;
	}
	s->used--;
	end(s, t, OVC_EV_UNFILLED, 0);
	t->wake = 1;
	done(t);
}

void zero_end_step(struct state *s, struct thread *t)
{
	end(s, t, OVC_EV_FILLED, 0);
	if (broken(MARK_FIRST) && !t->doomed)
		t->pc = ZERO;
	else
		done(t);
}

void check_unowned_step(struct state *s, struct thread *t)
{
	tell("%s makes sure that the page is there", who);
	if (sys_zero(s, t->write))
		t->wake = 1;
	done(t);
}

void poison_step(struct state *s, struct thread *t)
{
	tell("%s makes sure that the page is poisoned", who);
	sys_poison(s);
	t->wake = 1;
	done(t);
}

/* ---- bytes that the store has -------------------------------------------- */

void unshare_step(struct state *s, struct thread *t)
{
	int error;

	tell("%s fills with what the store has", who);
	error = sys_fill(s, store_read(s), false);
	t->pc = error ? UNSHARE_UNDO : UNSHARE_END;
	if (error == -EEXIST && in_memfd(s))
		t->pc = UNSHARE_CACHED;
	else if (error == -EEXIST)
		violate("%s owns an absent page, but there is one", who);
}

/* As in fill_cached_step(). */
void unshare_cached_step(struct state *s, struct thread *t)
{
	tell("%s copies to the page in the page cache", who);
	s->cache_v = store_read(s) & 3;
	t->pc = sys_put_back(s, NONE, false) ? UNSHARE_UNDO : UNSHARE_END;
}

void unshare_end_step(struct state *s, struct thread *t)
{
	end(s, t, OVC_EV_FILLED, 0);
	if (broken(UNREF_FIRST))
		done(t);
	else
		t->pc = UNREF;
}

void unshare_undo_step(struct state *s, struct thread *t)
{
	end(s, t, OVC_EV_TO_STORE, STORE_NR);
	s->used--;
	t->wake = 1;
	done(t);
}

/* It was unmapped, its mapping is still there, and the guest reads it. The mark is
 * looked at again when the page is ours: it may have been elsewhere meanwhile, and have
 * come back without it. */
void remap_step(struct state *s, struct thread *t)
{
	if (state_of(s) != OVC_STORED) {
		tell("%s finds that the page has gone elsewhere", who);
		t->pc = TOUCH;
		return;
	}
	go(s, OVC_EV_FAULT, 0);
	t->pc = s->own || broken(OWN_UNOWNED) ? MAP : REMAP_UNDO;
}

void remap_undo_step(struct state *s, struct thread *t)
{
	tell("%s finds that it must be copied", who);
	end(s, t, OVC_EV_TO_STORE, STORE_NR);
	t->pc = TOUCH;
}

/* It was unmapped, by the kernel or by us. */
void map_step(struct state *s, struct thread *t)
{
	tell("%s maps the store's page again", who);
	if (sys_continue(s))
		t->wake = 1;
	end(s, t, OVC_EV_MAPPED, STORE_NR);
	done(t);
}

/* ---- bytes that come from a slot ----------------------------------------- */

void read_step(struct state *s, struct thread *t)
{
	t->v = slot_read(s, t->slot) & 3;
	tell("%s reads slot %u: version %u", who, t->slot, t->v);
	t->pc = VERIFY;
	if (!config.refusals || !choose(2))
		return;
	tell("... but the disk says EIO");
	t->v = GARBAGE;
}

void verify_step(struct state *s, struct thread *t)
{
	if (t->v == s->slot[t->slot].sum && t->ahead && !s->entry[HOLD].used) {
		t->pc = HOLD_SET;
		return;
	}
	if (t->v == s->slot[t->slot].sum) {
		end(s, t, OVC_EV_READ_OK, t->slot);
		t->clean = config.wp_async && !t->write && !choose(2);
		t->pc = broken(MARK_FIRST) ? FILL_END : FILL;
		return;
	}
	if (!config.refusals)
		violate("%s: slot %u does not have what was written to it", who,
			t->slot);
	end(s, t, OVC_EV_LOST, t->slot);
	t->pc = LOST_POISON;
}

void fill_step(struct state *s, struct thread *t)
{
	int error;

	tell("%s fills with what it read", who);
	error = sys_fill(s, t->v, t->clean);
	t->pc = error ? FILL_UNDO : FILL_END;
	if (error == -EEXIST && in_memfd(s) && !broken(FILL_GIVES_UP))
		t->pc = FILL_CACHED;
	else if (error == -EEXIST)
		violate("%s owns an absent page, but there is one", who);
	if (broken(MARK_FIRST))
		done(t);
}

/* A write that was late to look at the page cache allocated a page there, or it
 * was never dropped. It gets our bytes. */
void fill_cached_step(struct state *s, struct thread *t)
{
	tell("%s copies to the page in the page cache", who);
	s->cache_v = t->v;
	t->pc = sys_put_back(s, NONE, t->clean) ? FILL_UNDO : FILL_END;
}

void fill_end_step(struct state *s, struct thread *t)
{
	bool first = broken(MARK_FIRST);

	end(s, t, t->clean ? OVC_EV_FILLED_CLEAN : OVC_EV_FILLED,
	    t->clean ? t->slot : 0);
	if (t->clean)
		t->slot = NONE;
	free_then(t, first ? FILL : IDLE);
	if (!first && t->pc == IDLE)
		done(t);
}

void fill_undo_step(struct state *s, struct thread *t)
{
	s->used--;
	end(s, t, OVC_EV_READ_CANCEL, t->slot);
	t->wake = 1;
	done(t);
}

void lost_poison_step(struct state *s, struct thread *t)
{
	tell("%s gives the page up", who);
	sys_poison(s);
	s->used--;
	t->pc = LOST_END;
}

void lost_end_step(struct state *s, struct thread *t)
{
	end(s, t, OVC_EV_LOST, 0);
	t->wake = 1;
	free_then(t, IDLE);
}

/* ---- putting back -------------------------------------------------------- */

void put_slot_step(struct state *s, struct thread *t)
{
	struct entry *e = &s->entry[t->pos];
	unsigned then = t->doomed	   ? PUT_ERASE :
			broken(MARK_FIRST) ? PUT_END :
					     PUT;

	t->slot = e->slot;
	e->slot = NONE;
	if (t->slot != NONE)
		tell("%s takes slot %u from the ring's entry", who, t->slot);
	t->pc = then & 0xff;
	if (t->doomed)
		free_then(t, then);
}

void put_erase_step(struct state *s, struct thread *t)
{
	tell("%s erases the staged bytes", who);
	sys_erase(s, t->pos);
	t->write = 1;
	t->pc = broken(MARK_FIRST) ? PUT_END : PUT;
}

static bool put_clean(const struct thread *t)
{
	return t->slot != NONE && !t->write && config.wp_async;
}

void put_step(struct state *s, struct thread *t)
{
	tell("%s puts the page back", who);
	if (!broken(MARK_FIRST))
		t->clean = put_clean(t);
	if (!sys_put_back(s, t->pos, t->clean)) {
		t->pc = PUT_END;
	} else if (!broken(UNPUT_OVERWRITES) && t->slot == NONE) {
		t->pc = UNPUT_END;
	} else {
		t->pc = UNPUT_SLOT;
	}
	if (broken(MARK_FIRST))
		done(t);
}

void put_end_step(struct state *s, struct thread *t)
{
	bool first = broken(MARK_FIRST);

	t->clean = put_clean(t);
	end(s, t, t->clean ? OVC_EV_FILLED_CLEAN : OVC_EV_FILLED,
	    t->clean ? t->slot : 0);
	if (t->clean)
		t->slot = NONE;
	free_then(t, first ? PUT : PUT_DONE);
}

void put_done_step(struct state *s, struct thread *t)
{
	if (is_hold(t->pos))
		free_hold(s);
	done(t);
}

void unput_slot_step(struct state *s, struct thread *t)
{
	s->entry[t->pos].slot = t->slot;
	t->pc = UNPUT_END;
}

void unput_end_step(struct state *s, struct thread *t)
{
	end(s, t, OVC_EV_UNPUT, t->pos);
	t->wake = 1;
	if (!in_memfd(s) || is_hold(t->pos))
		s->used--;
	done(t);
}

void free_slot_step(struct state *s, struct thread *t)
{
	tell("%s lets slot %u go", who, t->slot);
	slot_free(s, t->slot);
	t->slot = NONE;
	t->pc = t->next;
	if (t->pc == IDLE)
		done(t);
}
