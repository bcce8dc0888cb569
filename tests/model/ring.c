/* SPDX-License-Identifier: MIT */
/*
 * Places that pages of all VMs use in turn: positions of the staging ring, and the one
 * place of a page that read-ahead holds back (lib/in/pager.c), which is fault thread 0's.
 *
 * The neighbour is a page of another VM, with a swap file of its own that has one slot:
 * number 0, like one of ours. It is with its guest, staged or held back, or away, and
 * always has that slot: known to its word, or noted at its place. It moves in single
 * steps, for all that matters is who else takes something from its place.
 *
 *   discard    the slot of a page that is staged or held back is taken while the word
 *              is DROPPING and names the place: nobody else can use that meanwhile.
 *   removal    is a discard with the lock held. Afterwards nothing may be held back.
 */
#include <string.h>

#include "actors.h"

/* The neighbour's page. */
enum { HERE, STAGED, AWAY };

/* ---- positions ----------------------------------------------------------- */

bool names(uint64_t word, unsigned pos)
{
	enum ovc_state s = ovc_word_state(word);

	return ovc_word_value(word) == pos &&
	       (s == OVC_STAGED || s == OVC_WRITING || s == OVC_DOOMED ||
		s == OVC_FILLING || s == OVC_DROPPING);
}

/* Nobody names an entry any more: its frame and its slot are free. */
static bool release(struct state *s, unsigned pos)
{
	struct entry *e = &s->entry[pos];

	if (e->neighbour || e->busy || names(s->word, pos))
		return false;
	tell("%s clears ring position %u", who, pos);
	if (e->slot != NONE)
		slot_free(s, e->slot);
	s->used -= e->frame;
	memset(e, 0, sizeof(*e));
	return true;
}

/* Frames are let go when their place is needed, not before: the longest that
 * they can stay. */
unsigned free_position(struct state *s)
{
	for (unsigned i = 0; i < config.positions; i++)
		if (!s->entry[i].used)
			return i;
	for (unsigned i = 0; i < config.positions; i++)
		if (release(s, i))
			return i;
	return NONE;
}

/* ---- the neighbour ------------------------------------------------------- */

static void neighbour_goes(struct state *s, unsigned pos)
{
	struct entry *e = &s->entry[pos];

	memset(e, 0, sizeof(*e));
	e->used = e->neighbour = 1;
	e->v = GARBAGE;
	e->wslot = NONE;
	s->neighbour = STAGED;
	s->neighbour_at = pos & 7;
}

static void neighbour_comes(struct state *s, unsigned to)
{
	if (is_hold(s->neighbour_at))
		free_hold(s);
	else
		memset(&s->entry[s->neighbour_at], 0, sizeof(s->entry[0]));
	s->neighbour = to & 3;
	s->neighbour_at = 0;
}

static bool neighbour_stages(struct state *s)
{
	unsigned pos;

	if (!control_free(s))
		return false;
	pos = free_position(s);
	if (pos == NONE)
		return false;
	tell("another VM's page is staged at ring position %u, with slot 0 of "
	     "its own file",
	     pos);
	neighbour_goes(s, pos);
	return true;
}

static bool neighbour_is_held(struct state *s)
{
	if (!config.hold || s->entry[HOLD].used || s->t[FAULT_0].pc != IDLE)
		return false;
	tell("another VM's page is held back, with slot 0 of its own file");
	neighbour_goes(s, HOLD);
	return true;
}

static bool neighbour_is_settled(struct state *s)
{
	if (is_hold(s->neighbour_at) ? s->t[FAULT_0].pc != IDLE :
				       !control_free(s))
		return false;
	tell("another VM's page is in its swap");
	neighbour_comes(s, AWAY);
	return true;
}

bool neighbour_step(struct state *s)
{
	bool other_way = config.neighbour && choose(2);

	if (!config.neighbour)
		return false;
	who = "another VM";
	switch (s->neighbour) {
	case HERE:
		return !other_way && neighbour_stages(s);
	case STAGED:
		if (other_way)
			return neighbour_is_settled(s);
		break;
	default:
		if (other_way)
			return neighbour_is_held(s);
		break;
	}
	tell("another VM's page is with its guest");
	if (s->neighbour == STAGED)
		neighbour_comes(s, HERE);
	s->neighbour = HERE;
	return true;
}

void check_neighbour(const struct state *s)
{
	const struct entry *e = &s->entry[s->neighbour_at];

	if (s->neighbour == STAGED &&
	    !(e->used && e->neighbour && e->slot == 0))
		violate("the slot of another VM's page was taken from its "
			"place");
}

/* ---- held back ----------------------------------------------------------- */

void free_hold(struct state *s)
{
	memset(&s->entry[HOLD], 0, sizeof(s->entry[0]));
	s->entry[HOLD].slot = NONE;
}

/* Reads a page that nobody touched. */
bool ahead_begin(struct state *s, struct thread *t)
{
	if (state_of(s) != OVC_SWAPPED)
		return false;
	tell("%s reads ahead", who);
	t->slot = value_of(s) & 7;
	t->ahead = 1;
	s->used++;
	go(s, OVC_EV_FAULT, t->slot);
	t->pc = READ;
	return true;
}

void hold_set_step(struct state *s, struct thread *t)
{
	struct entry *e = &s->entry[HOLD];

	tell("%s copies version %u to be held back", who, t->v);
	memset(e, 0, sizeof(*e));
	e->used = 1;
	e->v = t->v;
	e->slot = t->slot;
	e->wslot = NONE;
	t->pc = HOLD_END;
}

void hold_end_step(struct state *s, struct thread *t)
{
	if (s->word & OVC_W_WANTED) {
		free_hold(s);
		t->ahead = 0;
		t->pc = VERIFY;
		return;
	}
	go(s, OVC_EV_READ_HELD, HOLD);
	s->used--;
	t->slot = NONE;
	done(t);
}

/* As if the page were nobody's: it may be put back, or ended, by others meanwhile. */
static bool unhold_claims(struct state *s, struct thread *t)
{
	if (!names(s->word, HOLD) || transient(s) ||
	    (state_of(s) != OVC_DOOMED && s->entry[HOLD].slot == NONE))
		return false;
	if (state_of(s) == OVC_STAGED)
		go(s, OVC_EV_CLAIM, HOLD);
	tell("%s is about to end what is held back", who);
	t->pos = HOLD;
	t->pc = UNHOLD_SLOT;
	return true;
}

bool unhold_begin(struct state *s, struct thread *t)
{
	const struct entry *e = &s->entry[HOLD];

	if (!e->used || e->neighbour)
		return false;
	if (broken(UNHOLD_CLAIMS))
		return unhold_claims(s, t);
	if (state_of(s) != OVC_STAGED || value_of(s) != HOLD)
		return false;
	t->pos = HOLD;
	go(s, OVC_EV_UNHOLD, HOLD);
	t->pc = UNHOLD_SLOT;
	return true;
}

void unhold_slot_step(struct state *s, struct thread *t)
{
	struct entry *e = &s->entry[HOLD];

	t->slot = e->slot;
	e->slot = NONE;
	tell("%s takes slot %u from what is held back", who, t->slot);
	t->pc = broken(UNHOLD_CLAIMS) ? UNHOLD_SETTLE : UNHOLD_END;
}

void unhold_settle_step(struct state *s, struct thread *t)
{
	enum ovc_state is = state_of(s);

	t->doomed = is == OVC_DOOMED;
	if (value_of(s) != HOLD ||
	    (!t->doomed && (is != OVC_WRITING || t->slot == NONE))) {
		free_then(t, IDLE);
		if (t->pc == IDLE)
			done(t);
		return;
	}
	go(s, OVC_EV_SETTLE, 0);
	t->pc = UNHOLD_END;
}

void unhold_end_step(struct state *s, struct thread *t)
{
	if (t->slot == NONE && !t->doomed)
		violate("%s ends a page that was held back without a slot",
			who);
	end(s, t, t->doomed ? OVC_EV_TO_EMPTY : OVC_EV_TO_SWAP,
	    t->doomed ? 0 : t->slot);
	if (!t->doomed)
		t->slot = NONE;
	free_then(t, UNHOLD_DONE);
}

void unhold_done_step(struct state *s, struct thread *t)
{
	free_hold(s);
	done(t);
}

/* ---- removal ------------------------------------------------------------- */

void remove_step(struct state *s, struct thread *t)
{
	if (!control_free(s) || transient(s)) {
		not_yet();
		return;
	}
	tell("%s removes the region, and throws it away", who);
	s->locked = 1;
	t->ret = REMOVE_WAIT;
	discard_step(s, t);
}

/* For fault threads to be through with what they were at. */
void remove_wait_step(struct state *s, struct thread *t)
{
	if (s->t[FAULT_0].pc != IDLE || s->t[FAULT_1].pc != IDLE) {
		not_yet();
		return;
	}
	t->pc = REMOVE_FORGET;
}

void remove_forget_step(struct state *s, struct thread *t)
{
	const struct entry *e = &s->entry[HOLD];

	t->ret = REMOVE_END;
	t->pc = REMOVE_END;
	if (!e->used || e->neighbour)
		return;
	if (broken(UNHOLD_CLAIMS))
		unhold_claims(s, t);
	else
		violate("%s finds that a page of the region is still held back",
			who);
}

void remove_end_step(struct state *s, struct thread *t)
{
	s->locked = 0;
	t->ret = IDLE;
	done(t);
}
