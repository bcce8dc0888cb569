/* SPDX-License-Identifier: MIT */
/*
 * Whose turn it is, and how a step changes the word. A step is one atomic
 * change of the word or of a ring entry, one system call, or one look at a
 * page; they come in the order in which lib/ takes them.
 *
 * A thread that would spin until a transient state ends has no step meanwhile:
 * a state in which nobody has one is then a deadlock.
 */
#include <string.h>

#include "actors.h"

static const char *const thread_names[NR_THREADS] = {
	"ovc-fault/0", "ovc-fault/1", "ovc-reclaim",
	"a discarder", "a reader",    "a pinner",
};

static void (*const steps[NR_PCS])(struct state *s, struct thread *t) = {
#define X(pc, step) [pc] = step,
	STEPS(X)
#undef X
};

const char *who;

static bool blocked;

void not_yet(void)
{
	blocked = true;
}

/* The table is asked first, since it aborts. */
enum ovc_action go(struct state *s, enum ovc_page_event e, unsigned value)
{
	enum ovc_state from = state_of(s);
	enum ovc_action action;

	if (ovc_edge[from][e].action == OVC_ACT_BUG) {
		violate("%s asked for %s while the word was %s: an empty cell",
			who, ovc_event_name(e), ovc_state_name(from));
		return OVC_ACT_BUG;
	}
	s->word = ovc_page_next(s->word, e, value, &action);
	if (from != state_of(s))
		tell("%s: %s makes the word %s, it was %s", who,
		     ovc_event_name(e), ovc_state_name(state_of(s)),
		     ovc_state_name(from));
	return action;
}

void end(struct state *s, struct thread *t, enum ovc_page_event e,
	 unsigned value)
{
	bool wanted = s->word & OVC_W_WANTED;

	go(s, e, value);
	if (wanted && !broken(NO_WANTED))
		t->wake = 1;
}

void done(struct thread *t)
{
	uint8_t ret = t->ret;
	bool wake = t->wake;

	memset(t, 0, sizeof(*t));
	t->pc = ret;
	t->wake = wake;
}

void free_then(struct thread *t, unsigned next)
{
	t->next = next & 0xff;
	t->pc = t->slot == NONE ? t->next : (uint8_t)FREE_SLOT;
}

/* ---- beginning something new --------------------------------------------- */

static bool fault_begin(struct state *s, struct thread *t)
{
	unsigned g = choose(NR_GUESTS + (config.hold ? 2 : 0));

	/* What is held back is thread 0's. */
	if (g >= NR_GUESTS && t != &s->t[FAULT_0])
		return false;
	if (g >= NR_GUESTS)
		return g == NR_GUESTS ? ahead_begin(s, t) : unhold_begin(s, t);
	/* The queue is emptied by whoever comes first. */
	if (s->guest[g].is != QUEUED)
		g = NR_GUESTS - 1 - g;
	if (s->guest[g].is != QUEUED)
		return false;
	s->guest[g].is = HANDED;
	t->write = s->guest[g].write;
	t->pc = TOUCH;
	tell("%s reads the message of guest %u", who, g);
	return true;
}

static bool reclaim_begin(struct state *s, struct thread *t)
{
	unsigned what = choose(4 + 4 * NR_POS), pos;

	/* The lock is a caller's just now. */
	if (s->locked)
		return false;
	switch (what) {
	case 0:
		return stage_begin(s, t);
	case 1:
		return !broken(BREAK_UNLOCKED) && break_begin(s, t);
	case 2:
		return unmap_begin(s, t);
	case 3:
		return fold_begin(s, t);
	default:
		break;
	}
	pos = (what - 4) % NR_POS;
	switch ((what - 4) / NR_POS) {
	case 0:
		return settle_one(s, t, pos);
	case 1:
		return reap(s, t, pos, false);
	case 2:
		return reap(s, t, pos, true);
	default:
		return merge_begin(s, t, pos);
	}
}

static bool begin_call(struct state *s, struct thread *t, bool may,
		       enum pc first)
{
	if (!may)
		return false;
	steps[first](s, t);
	return !blocked;
}

static bool begin(struct state *s, struct thread *t, unsigned n)
{
	switch (n) {
	case FAULT_0:
	case FAULT_1:
		return n < config.faulters && fault_begin(s, t);
	case RECLAIM:
		return reclaim_begin(s, t);
	case DISCARDER:
		return begin_call(s, t, config.discard,
				  config.remove ? REMOVE : DISCARD);
	case READER:
		if (broken(BREAK_UNLOCKED) && break_begin(s, t))
			return true;
		return begin_call(s, t, config.look, LOOK);
	default:
		return begin_call(s, t, config.pin, PIN);
	}
}

bool control_free(const struct state *s)
{
	return s->t[RECLAIM].pc == IDLE && !s->locked;
}

/* ---- one step ------------------------------------------------------------ */

bool thread_idle(const struct state *s, unsigned n)
{
	return s->t[n].pc == IDLE && !s->t[n].wake;
}

bool thread_step(struct state *s, unsigned n, bool idle_too)
{
	struct thread *t = &s->t[n];

	who = thread_names[n];
	blocked = false;
	if (t->wake) {
		t->wake = 0;
		tell("%s wakes whoever waits", who);
		wake_all(s);
		return true;
	}
	if (t->pc == IDLE)
		return idle_too && begin(s, t, n);
	steps[t->pc](s, t);
	return !blocked;
}
