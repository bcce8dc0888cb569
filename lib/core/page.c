/* SPDX-License-Identifier: MIT */
/*
 * The transition table of the page word. page.h explains the states; this file
 * is the table and the three ways to apply it.
 *
 * An empty cell is a transition that cannot happen. When it is asked for, the
 * library's idea of the guest's memory is wrong, and going on would serve wrong
 * bytes: it aborts with the word.
 */
#include "core/page.h"

#include <stdio.h>
#include <stdlib.h>

#define TO(state, act)                                       \
	{                                                    \
		.next = OVC_##state, .action = OVC_ACT_##act \
	}

const struct ovc_edge ovc_edge[OVC_NR_STATES][OVC_NR_EVENTS] = {
	[OVC_EMPTY] = {
		[OVC_EV_FAULT] = TO(FILLING, ZERO),
		[OVC_EV_ADOPT] = TO(RESIDENT, NONE),
		[OVC_EV_LOOK] = TO(EMPTY, NONE),
		[OVC_EV_DISCARD] = TO(EMPTY, NONE),
		[OVC_EV_DIRTY] = TO(EMPTY, NONE),
	},
	[OVC_RESIDENT] = {
		[OVC_EV_FAULT] = TO(RESIDENT, CHECK),
		[OVC_EV_LOOK] = TO(FILLING, COPY),
		[OVC_EV_STAGE] = TO(STAGING, TAKE),
		[OVC_EV_DISCARD] = TO(DROPPING, DROP),
		[OVC_EV_DIRTY] = TO(RESIDENT, NONE),
	},
	[OVC_CLEAN] = {
		[OVC_EV_FAULT] = TO(CLEAN, CHECK),
		[OVC_EV_LOOK] = TO(FILLING, COPY),
		[OVC_EV_STAGE] = TO(STAGING, TAKE),
		[OVC_EV_DISCARD] = TO(DROPPING, DROP),
		[OVC_EV_DIRTY] = TO(RESIDENT, FREE),
	},
	[OVC_STAGING] = {
		[OVC_EV_FAULT] = TO(STAGING, WAIT),
		[OVC_EV_LOOK] = TO(STAGING, WAIT),
		[OVC_EV_TAKEN] = TO(STAGED, NONE),
		[OVC_EV_KEPT] = TO(RESIDENT, NONE),
		[OVC_EV_KEPT_CLEAN] = TO(CLEAN, NONE),
		[OVC_EV_VANISHED] = TO(EMPTY, NONE),
		[OVC_EV_TO_STORE] = TO(STORED, NONE),
		[OVC_EV_MAPPED] = TO(SHARED, NONE),
		[OVC_EV_DISCARD] = TO(STAGING, WAIT),
		[OVC_EV_DIRTY] = TO(STAGING, WAIT),
	},
	[OVC_STAGED] = {
		[OVC_EV_FAULT] = TO(FILLING, PUT),
		[OVC_EV_LOOK] = TO(FILLING, COPY),
		[OVC_EV_UNHOLD] = TO(DROPPING, DROP),
		[OVC_EV_CLAIM] = TO(WRITING, NONE),
		[OVC_EV_DISCARD] = TO(DROPPING, FREE),
		[OVC_EV_DIRTY] = TO(STAGED, NONE),
	},
	[OVC_WRITING] = {
		[OVC_EV_FAULT] = TO(FILLING, PUT),
		[OVC_EV_LOOK] = TO(FILLING, COPY),
		[OVC_EV_SETTLE] = TO(DROPPING, DROP),
		[OVC_EV_UNWRITTEN] = TO(FILLING, PUT),
		[OVC_EV_DISCARD] = TO(DOOMED, NONE),
		[OVC_EV_DIRTY] = TO(WRITING, NONE),
	},
	[OVC_DOOMED] = {
		[OVC_EV_FAULT] = TO(FILLING, ERASE),
		[OVC_EV_LOOK] = TO(DOOMED, NONE),
		[OVC_EV_SETTLE] = TO(DROPPING, DROP),
		[OVC_EV_DISCARD] = TO(DOOMED, NONE),
		[OVC_EV_DIRTY] = TO(DOOMED, NONE),
	},
	[OVC_DROPPING] = {
		[OVC_EV_FAULT] = TO(DROPPING, WAIT),
		[OVC_EV_LOOK] = TO(DROPPING, WAIT),
		[OVC_EV_UNWRITTEN] = TO(FILLING, PUT),
		[OVC_EV_TO_SWAP] = TO(SWAPPED, NONE),
		[OVC_EV_TO_EMPTY] = TO(EMPTY, NONE),
		[OVC_EV_TO_STORE] = TO(STORED, NONE),
		[OVC_EV_MAPPED] = TO(SHARED, NONE),
		[OVC_EV_DISCARD] = TO(DROPPING, WAIT),
		[OVC_EV_DOOM] = TO(DOOMED, NONE),
		[OVC_EV_DIRTY] = TO(DROPPING, WAIT),
	},
	[OVC_SWAPPED] = {
		[OVC_EV_FAULT] = TO(READING, READ),
		[OVC_EV_LOOK] = TO(READING, COPY),
		[OVC_EV_DISCARD] = TO(EMPTY, FREE),
		[OVC_EV_DIRTY] = TO(SWAPPED, NONE),
	},
	[OVC_READING] = {
		[OVC_EV_FAULT] = TO(READING, WAIT),
		[OVC_EV_LOOK] = TO(READING, WAIT),
		[OVC_EV_READ_OK] = TO(FILLING, FILL),
		[OVC_EV_READ_HELD] = TO(STAGED, NONE),
		[OVC_EV_READ_CANCEL] = TO(SWAPPED, NONE),
		[OVC_EV_LOST] = TO(FILLING, POISON),
		[OVC_EV_DISCARD] = TO(READING, WAIT),
		[OVC_EV_DIRTY] = TO(READING, WAIT),
	},
	[OVC_FILLING] = {
		[OVC_EV_FAULT] = TO(FILLING, WAIT),
		[OVC_EV_LOOK] = TO(FILLING, WAIT),
		[OVC_EV_FILLED] = TO(RESIDENT, NONE),
		[OVC_EV_FILLED_CLEAN] = TO(CLEAN, NONE),
		[OVC_EV_UNFILLED] = TO(EMPTY, NONE),
		[OVC_EV_UNPUT] = TO(STAGED, NONE),
		[OVC_EV_READ_CANCEL] = TO(SWAPPED, NONE),
		[OVC_EV_LOST] = TO(POISONED, NONE),
		[OVC_EV_TO_STORE] = TO(STORED, NONE),
		[OVC_EV_MAPPED] = TO(SHARED, NONE),
		[OVC_EV_DISCARD] = TO(FILLING, WAIT),
		[OVC_EV_DIRTY] = TO(FILLING, WAIT),
	},
	[OVC_POISONED] = {
		[OVC_EV_FAULT] = TO(POISONED, POISON),
		[OVC_EV_LOOK] = TO(POISONED, NONE),
		[OVC_EV_DISCARD] = TO(DROPPING, DROP),
		[OVC_EV_DIRTY] = TO(POISONED, NONE),
	},
	[OVC_STORED] = {
		[OVC_EV_FAULT] = TO(FILLING, UNSHARE),
		[OVC_EV_LOOK] = TO(FILLING, COPY),
		[OVC_EV_STAGE] = TO(STAGING, TAKE),
		[OVC_EV_DISCARD] = TO(EMPTY, FREE),
		[OVC_EV_DIRTY] = TO(STORED, NONE),
	},
	[OVC_SHARED] = {
		[OVC_EV_FAULT] = TO(FILLING, MAP),
		[OVC_EV_LOOK] = TO(FILLING, COPY),
		[OVC_EV_STAGE] = TO(STAGING, TAKE),
		[OVC_EV_DISCARD] = TO(DROPPING, DROP),
		[OVC_EV_BROKE] = TO(RESIDENT, FREE),
	},
};

static const char *const state_names[] = {
	"EMPTY",   "RESIDENT", "CLEAN",	   "STAGING", "STAGED",
	"WRITING", "DOOMED",   "DROPPING", "SWAPPED", "READING",
	"FILLING", "POISONED", "STORED",   "SHARED",
};

static const char *const event_names[] = {
	"FAULT",	"READ_OK",  "READ_HELD", "READ_CANCEL", "FILLED",
	"FILLED_CLEAN", "UNFILLED", "UNPUT",	 "UNHOLD",	"LOST",
	"STAGE",	"TAKEN",    "KEPT",	 "KEPT_CLEAN",	"VANISHED",
	"CLAIM",	"SETTLE",   "UNWRITTEN", "TO_SWAP",	"TO_EMPTY",
	"DISCARD",	"DOOM",	    "DIRTY",	 "LOOK",	"ADOPT",
	"TO_STORE",	"MAPPED",   "BROKE",
};

const char *ovc_state_name(enum ovc_state s)
{
	return s < OVC_NR_STATES ? state_names[s] : "?";
}

const char *ovc_event_name(enum ovc_page_event e)
{
	return e < OVC_NR_EVENTS ? event_names[e] : "?";
}

void ovc_bug(const char *what, uint64_t word)
{
	fprintf(stderr,
		"libovercommit: broken invariant: %s; page word %#018llx "
		"(%s, value %llu)\n",
		what, (unsigned long long)word,
		ovc_state_name(ovc_word_state(word)),
		(unsigned long long)ovc_word_value(word));
	abort();
}

uint64_t ovc_page_next(uint64_t word, enum ovc_page_event event, uint64_t value,
		       enum ovc_action *action)
{
	const struct ovc_edge *edge = &ovc_edge[ovc_word_state(word)][event];

	*action = (enum ovc_action)edge->action;
	switch (edge->action) {
	case OVC_ACT_BUG:
		ovc_bug(ovc_event_name(event), word);
	case OVC_ACT_WAIT:
		return word | OVC_W_WANTED;
	case OVC_ACT_CHECK:
		return word;
	default:
		break;
	}
	if (edge->next == ovc_word_state(word))
		return word;
	word = (word & ~(uint64_t)15) | edge->next;
	if (event != OVC_EV_READ_HELD)
		word &= ~OVC_W_MARK;
	if (!ovc_word_transient(word))
		word &= ~OVC_W_WANTED;
	return ovc_word_with_value(word, value);
}

enum ovc_action ovc_page_try(ovc_word *w, uint64_t *old,
			     enum ovc_page_event event, uint64_t value)
{
	enum ovc_action action;
	uint64_t next = ovc_page_next(*old, event, value, &action);

	if (next == *old || atomic_compare_exchange_strong(w, old, next))
		return action;
	return OVC_ACT_RACED;
}

void ovc_page_set_heat(ovc_word *w, uint32_t heat)
{
	uint64_t old = atomic_load(w);

	while (!atomic_compare_exchange_weak(w, &old,
					     ovc_word_with_heat(old, heat)))
		;
}

uint64_t ovc_page_end(ovc_word *w, enum ovc_page_event event, uint64_t value,
		      enum ovc_action *action)
{
	uint64_t old = atomic_load(w);
	uint64_t next;

	do {
		next = ovc_page_next(old, event, value, action);
	} while (!atomic_compare_exchange_weak(w, &old, next));
	return old;
}
