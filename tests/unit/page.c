/* SPDX-License-Identifier: MIT */
/*
 * The page word and its transition table (lib/memory/page.c), alone.
 *
 * What each cell should be is written down here a second time, by hand: a line
 * for each state, an item for each event that the state allows. All other cells
 * must be empty, and abort when asked for.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/page.h"

#define STATE_NAMES                                                    \
	"EMPTY", "RESIDENT", "CLEAN", "STAGING", "STAGED", "WRITING",  \
		"DOOMED", "DROPPING", "SWAPPED", "READING", "FILLING", \
		"POISONED", "STORED", "SHARED"

static const char *const states[] = { STATE_NAMES };

static const char *const events[] = {
	"FAULT",	"READ_OK",  "READ_HELD", "READ_CANCEL", "FILLED",
	"FILLED_CLEAN", "UNFILLED", "UNPUT",	 "UNHOLD",	"LOST",
	"STAGE",	"TAKEN",    "KEPT",	 "KEPT_CLEAN",	"VANISHED",
	"CLAIM",	"SETTLE",   "UNWRITTEN", "TO_SWAP",	"TO_EMPTY",
	"DISCARD",	"DOOM",	    "DIRTY",	 "LOOK",	"ADOPT",
	"TO_STORE",	"MAPPED",   "BROKE",
};

static const char *const actions[] = {
	"BUG",	"NONE",	  "WAIT", "CHECK", "ZERO", "ERASE", "PUT",     "READ",
	"FILL", "POISON", "TAKE", "DROP",  "FREE", "COPY",  "UNSHARE", "MAP",
};

/* EVENT>NEXT:ACTION; what is not named is an empty cell. */
static const char *const expected[][2] = {
	{ "EMPTY", "FAULT>FILLING:ZERO DISCARD>EMPTY:NONE DIRTY>EMPTY:NONE "
		   "LOOK>EMPTY:NONE ADOPT>RESIDENT:NONE" },
	{ "RESIDENT",
	  "FAULT>RESIDENT:CHECK STAGE>STAGING:TAKE DISCARD>DROPPING:DROP "
	  "DIRTY>RESIDENT:NONE LOOK>FILLING:COPY" },
	{ "CLEAN", "FAULT>CLEAN:CHECK STAGE>STAGING:TAKE DISCARD>DROPPING:DROP "
		   "DIRTY>RESIDENT:FREE LOOK>FILLING:COPY" },
	{ "STAGING",
	  "FAULT>STAGING:WAIT TAKEN>STAGED:NONE KEPT>RESIDENT:NONE "
	  "KEPT_CLEAN>CLEAN:NONE VANISHED>EMPTY:NONE TO_STORE>STORED:NONE "
	  "MAPPED>SHARED:NONE DISCARD>STAGING:WAIT "
	  "DIRTY>STAGING:WAIT LOOK>STAGING:WAIT" },
	{ "STAGED",
	  "FAULT>FILLING:PUT CLAIM>WRITING:NONE DISCARD>DROPPING:FREE "
	  "DIRTY>STAGED:NONE LOOK>FILLING:COPY UNHOLD>DROPPING:DROP" },
	{ "WRITING",
	  "FAULT>FILLING:PUT SETTLE>DROPPING:DROP UNWRITTEN>FILLING:PUT "
	  "DISCARD>DOOMED:NONE DIRTY>WRITING:NONE LOOK>FILLING:COPY" },
	{ "DOOMED",
	  "FAULT>FILLING:ERASE SETTLE>DROPPING:DROP DISCARD>DOOMED:NONE "
	  "DIRTY>DOOMED:NONE LOOK>DOOMED:NONE" },
	{ "DROPPING",
	  "FAULT>DROPPING:WAIT UNWRITTEN>FILLING:PUT TO_SWAP>SWAPPED:NONE "
	  "TO_EMPTY>EMPTY:NONE TO_STORE>STORED:NONE MAPPED>SHARED:NONE "
	  "DISCARD>DROPPING:WAIT DOOM>DOOMED:NONE DIRTY>DROPPING:WAIT LOOK>DROPPING:WAIT" },
	{ "SWAPPED", "FAULT>READING:READ DISCARD>EMPTY:FREE DIRTY>SWAPPED:NONE "
		     "LOOK>READING:COPY" },
	{ "READING",
	  "FAULT>READING:WAIT READ_OK>FILLING:FILL READ_HELD>STAGED:NONE "
	  "READ_CANCEL>SWAPPED:NONE LOST>FILLING:POISON "
	  "DISCARD>READING:WAIT DIRTY>READING:WAIT LOOK>READING:WAIT" },
	{ "FILLING",
	  "FAULT>FILLING:WAIT READ_CANCEL>SWAPPED:NONE FILLED>RESIDENT:NONE "
	  "FILLED_CLEAN>CLEAN:NONE UNFILLED>EMPTY:NONE UNPUT>STAGED:NONE "
	  "LOST>POISONED:NONE TO_STORE>STORED:NONE MAPPED>SHARED:NONE "
	  "DISCARD>FILLING:WAIT DIRTY>FILLING:WAIT "
	  "LOOK>FILLING:WAIT" },
	{ "POISONED",
	  "FAULT>POISONED:POISON DISCARD>DROPPING:DROP DIRTY>POISONED:NONE "
	  "LOOK>POISONED:NONE" },
	{ "STORED",
	  "FAULT>FILLING:UNSHARE STAGE>STAGING:TAKE DISCARD>EMPTY:FREE "
	  "DIRTY>STORED:NONE LOOK>FILLING:COPY" },
	{ "SHARED",
	  "FAULT>FILLING:MAP STAGE>STAGING:TAKE DISCARD>DROPPING:DROP "
	  "BROKE>RESIDENT:FREE LOOK>FILLING:COPY" },
};

#define NR(array) (sizeof(array) / sizeof(*(array)))

static unsigned find(const char *const *names, unsigned nr, const char *name)
{
	unsigned i = 0;

	while (i < nr && strcmp(names[i], name))
		i++;
	cr_assert_lt(i, nr, "%s is no name", name);
	return i;
}

/* The expectation of one state as a row of the table. */
static void parse_row(const char *line, struct ovc_edge *row)
{
	char event[16], next[16], action[16];
	int used;

	memset(row, 0, OVC_NR_EVENTS * sizeof(*row));
	while (sscanf(line, " %15[A-Z_]>%15[A-Z_]:%15[A-Z_]%n", event, next,
		      action, &used) == 3) {
		struct ovc_edge *e = &row[find(events, NR(events), event)];

		e->next = (uint8_t)find(states, NR(states), next);
		e->action = (uint8_t)find(actions, NR(actions), action);
		line += used;
	}
	cr_assert_eq(strspn(line, " "), strlen(line), "not read: %s", line);
}

static void expectation(struct ovc_edge table[OVC_NR_STATES][OVC_NR_EVENTS])
{
	cr_assert_eq(NR(expected), OVC_NR_STATES);
	for (unsigned s = 0; s < OVC_NR_STATES; s++) {
		cr_assert_str_eq(expected[s][0], states[s]);
		parse_row(expected[s][1], table[s]);
	}
}

static bool is_transient(unsigned s)
{
	return s == OVC_STAGING || s == OVC_DROPPING || s == OVC_READING ||
	       s == OVC_FILLING;
}

/* A word with all of its fields in use. */
static uint64_t word(unsigned state, uint64_t flags)
{
	return state | flags | 7 * OVC_W_PIN_ONE |
	       (uint64_t)0x2a5b << OVC_W_HEAT_SHIFT |
	       (uint64_t)1234 << OVC_W_VALUE_SHIFT;
}

Test(page, every_cell_is_what_was_written_down_by_hand)
{
	struct ovc_edge want[OVC_NR_STATES][OVC_NR_EVENTS];

	expectation(want);
	for (unsigned s = 0; s < OVC_NR_STATES; s++)
		for (unsigned e = 0; e < OVC_NR_EVENTS; e++) {
			const struct ovc_edge *is = &ovc_edge[s][e];

			cr_assert_eq(is->action, want[s][e].action,
				     "%s on %s: action %s, not %s", states[s],
				     events[e], actions[is->action],
				     actions[want[s][e].action]);
			cr_assert_eq(is->next, want[s][e].next,
				     "%s on %s: to %s, not %s", states[s],
				     events[e], states[is->next],
				     states[want[s][e].next]);
		}
}

Test(page, names_are_those_of_the_enums)
{
	cr_assert_eq(NR(states), OVC_NR_STATES);
	cr_assert_eq(NR(events), OVC_NR_EVENTS);
	cr_assert_eq(NR(actions), OVC_ACT_MAP + 1);
	for (unsigned s = 0; s < OVC_NR_STATES; s++)
		cr_assert_str_eq(ovc_state_name(s), states[s]);
	for (unsigned e = 0; e < OVC_NR_EVENTS; e++)
		cr_assert_str_eq(ovc_event_name(e), events[e]);
	cr_assert_str_eq(ovc_state_name(OVC_NR_STATES), "?");
	cr_assert_str_eq(ovc_event_name(OVC_NR_EVENTS), "?");
}

Test(page, transient_states_are_those_with_an_owner)
{
	for (unsigned s = 0; s < OVC_NR_STATES; s++)
		cr_assert_eq(ovc_word_transient(word(s, 0)), is_transient(s),
			     "%s", states[s]);
}

/* How a child that asks for one cell ends. The words that it prints on the way
 * are the library's; they would drown the test's own output. */
static int ask_in_child(unsigned s, unsigned e)
{
	int status;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (!pid) {
		enum ovc_action action;

		signal(SIGABRT, SIG_DFL);
		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		ovc_page_next(word(s, 0), e, 0, &action);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status;
}

Test(page, an_empty_cell_aborts_and_no_other_does)
{
	struct ovc_edge want[OVC_NR_STATES][OVC_NR_EVENTS];

	expectation(want);
	for (unsigned s = 0; s < OVC_NR_STATES; s++)
		for (unsigned e = 0; e < OVC_NR_EVENTS; e++) {
			int status = ask_in_child(s, e);

			if (want[s][e].action == OVC_ACT_BUG)
				cr_assert(WIFSIGNALED(status) &&
						  WTERMSIG(status) == SIGABRT,
					  "%s on %s went on", states[s],
					  events[e]);
			else
				cr_assert(WIFEXITED(status) &&
						  !WEXITSTATUS(status),
					  "%s on %s did not", states[s],
					  events[e]);
		}
}

Test(page, a_word_of_no_state_at_all_aborts, .signal = SIGABRT)
{
	ovc_bug("a test", 15);
}

/* ---- what happens to the other fields ------------------------------------ */

/* Calls fn with each cell that is not empty, its word before, and after. */
static void for_each_cell(uint64_t flags, uint64_t value,
			  void (*fn)(unsigned s, unsigned e, uint64_t before,
				     uint64_t after))
{
	for (unsigned s = 0; s < OVC_NR_STATES; s++)
		for (unsigned e = 0; e < OVC_NR_EVENTS; e++) {
			enum ovc_action action;
			uint64_t w = word(s, flags);

			if (ovc_edge[s][e].action == OVC_ACT_BUG)
				continue;
			fn(s, e, w, ovc_page_next(w, e, value, &action));
			cr_assert_eq(action, ovc_edge[s][e].action);
		}
}

static void keeps_pins_and_heat(unsigned s, unsigned e, uint64_t before,
				uint64_t after)
{
	cr_assert_eq(ovc_word_pins(after), ovc_word_pins(before), "%s on %s",
		     states[s], events[e]);
	cr_assert_eq(ovc_word_heat(after), ovc_word_heat(before), "%s on %s",
		     states[s], events[e]);
}

Test(page, pins_and_heat_outlive_every_transition)
{
	for_each_cell(0, 99, keeps_pins_and_heat);
	for_each_cell(OVC_W_WANTED | OVC_W_MARK, 99, keeps_pins_and_heat);
}

static void ends_in_next(unsigned s, unsigned e, uint64_t before,
			 uint64_t after)
{
	(void)before;
	cr_assert_eq(ovc_word_state(after), ovc_edge[s][e].next, "%s on %s",
		     states[s], events[e]);
}

Test(page, the_new_state_is_the_table_s)
{
	for_each_cell(0, 99, ends_in_next);
}

static void has_the_new_value(unsigned s, unsigned e, uint64_t before,
			      uint64_t after)
{
	uint64_t want = ovc_word_value(before);

	if (ovc_edge[s][e].next != s)
		want = 99;
	cr_assert_eq(ovc_word_value(after), want, "%s on %s", states[s],
		     events[e]);
}

Test(page, the_value_is_replaced_when_the_state_changes_and_only_then)
{
	for_each_cell(0, 99, has_the_new_value);
}

static void wants_as_it_should(unsigned s, unsigned e, uint64_t before,
			       uint64_t after)
{
	bool wanted = before & OVC_W_WANTED;

	if (ovc_edge[s][e].action == OVC_ACT_WAIT)
		wanted = true;
	else if (ovc_edge[s][e].next != s && !is_transient(ovc_edge[s][e].next))
		wanted = false;
	cr_assert_eq(!!(after & OVC_W_WANTED), wanted, "%s on %s", states[s],
		     events[e]);
}

Test(page, who_waits_is_noted_until_a_stable_state_is_entered)
{
	for_each_cell(0, 99, wants_as_it_should);
	for_each_cell(OVC_W_WANTED, 99, wants_as_it_should);
}

static void changes_nothing_else_when_waiting(unsigned s, unsigned e,
					      uint64_t before, uint64_t after)
{
	if (ovc_edge[s][e].action == OVC_ACT_WAIT)
		cr_assert_eq(after, before | OVC_W_WANTED, "%s on %s",
			     states[s], events[e]);
}

Test(page, waiting_changes_nothing_but_the_flag)
{
	for_each_cell(OVC_W_MARK, 99, changes_nothing_else_when_waiting);
}

static void keeps_the_mark_for_a_held_page(unsigned s, unsigned e,
					   uint64_t before, uint64_t after)
{
	bool keep = e == OVC_EV_READ_HELD || ovc_edge[s][e].next == s;

	(void)before;
	cr_assert_eq(!!(after & OVC_W_MARK), keep, "%s on %s", states[s],
		     events[e]);
}

Test(page, the_mark_is_kept_by_holding_back_and_lost_by_any_other_change)
{
	for_each_cell(OVC_W_MARK, 99, keeps_the_mark_for_a_held_page);
}

static void has_no_mark(unsigned s, unsigned e, uint64_t before, uint64_t after)
{
	(void)before;
	cr_assert_not(after & OVC_W_MARK, "%s on %s", states[s], events[e]);
}

Test(page, no_transition_makes_a_mark)
{
	for_each_cell(OVC_W_WANTED, 99, has_no_mark);
}

/* ---- accessors ----------------------------------------------------------- */

#define MAX_VALUE (OVC_W_VALUE_MASK >> OVC_W_VALUE_SHIFT)
#define MAX_HEAT  ((uint32_t)(OVC_W_HEAT_MASK >> OVC_W_HEAT_SHIFT))

Test(page, the_fields_share_no_bit_and_leave_none)
{
	uint64_t all = 15 | OVC_W_WANTED | OVC_W_MARK | OVC_W_PIN_MASK |
		       OVC_W_HEAT_MASK | OVC_W_VALUE_MASK;
	uint64_t sum = 15 + OVC_W_WANTED + OVC_W_MARK + OVC_W_PIN_MASK +
		       OVC_W_HEAT_MASK + OVC_W_VALUE_MASK;

	cr_assert_eq(all, ~(uint64_t)0);
	cr_assert_eq(sum, ~(uint64_t)0);
	cr_assert_leq(OVC_NR_STATES, 16);
	cr_assert_leq(OVC_W_PIN_MAX, OVC_W_PIN_MASK >> OVC_W_PIN_SHIFT);
}

Test(page, fields_at_their_maxima_come_back_and_touch_no_other)
{
	uint64_t w = ovc_word_with_value(
		ovc_word_with_heat(OVC_POISONED, MAX_HEAT), MAX_VALUE);

	w += OVC_W_PIN_MAX * OVC_W_PIN_ONE;
	cr_assert_eq(ovc_word_state(w), OVC_POISONED);
	cr_assert_eq(ovc_word_pins(w), OVC_W_PIN_MAX);
	cr_assert_eq(ovc_word_heat(w), MAX_HEAT);
	cr_assert_eq(ovc_word_value(w), MAX_VALUE);
	cr_assert_not(w & (OVC_W_WANTED | OVC_W_MARK));
	w = ovc_word_with_value(ovc_word_with_heat(w, 0), 0);
	cr_assert_eq(w, OVC_POISONED + OVC_W_PIN_MAX * OVC_W_PIN_ONE);
}

Test(page, fields_of_a_full_word_can_be_emptied_one_by_one)
{
	uint64_t full = ~(uint64_t)0;

	cr_assert_eq(ovc_word_with_heat(full, 0), full & ~OVC_W_HEAT_MASK);
	cr_assert_eq(ovc_word_with_value(full, 0), full & ~OVC_W_VALUE_MASK);
	cr_assert_eq(ovc_word_with_heat(full, MAX_HEAT), full);
	cr_assert_eq(ovc_word_with_value(full, MAX_VALUE), full);
}

Test(page, a_transition_carries_the_largest_value)
{
	enum ovc_action action;
	uint64_t w =
		ovc_page_next(OVC_DROPPING, OVC_EV_TO_SWAP, MAX_VALUE, &action);

	cr_assert_eq(ovc_word_state(w), OVC_SWAPPED);
	cr_assert_eq(ovc_word_value(w), MAX_VALUE);
}

Test(page, a_page_of_the_store_keeps_its_number_on_the_way)
{
	enum ovc_action action;
	uint64_t w =
		ovc_page_next(OVC_DROPPING, OVC_EV_MAPPED, MAX_VALUE, &action);

	cr_assert_eq(ovc_word_state(w), OVC_SHARED);
	cr_assert_eq(ovc_word_value(w), MAX_VALUE);
	w = ovc_page_next(w, OVC_EV_STAGE, MAX_VALUE - 1, &action);
	cr_assert_eq(action, OVC_ACT_TAKE);
	w = ovc_page_next(w, OVC_EV_TO_STORE, ovc_word_value(w), &action);
	cr_assert_eq(ovc_word_state(w), OVC_STORED);
	cr_assert_eq(ovc_word_value(w), MAX_VALUE - 1);
	w = ovc_page_next(w, OVC_EV_FAULT, 0, &action);
	cr_assert_eq(action, OVC_ACT_UNSHARE);
	cr_assert_eq(ovc_word_value(w), 0);
}

/* ---- applying it to a word that others see ------------------------------- */

Test(page, trying_moves_a_word_that_is_as_it_was)
{
	ovc_word w = word(OVC_SWAPPED, 0);
	uint64_t old = w;

	cr_assert_eq(ovc_page_try(&w, &old, OVC_EV_FAULT, 5), OVC_ACT_READ);
	cr_assert_eq(ovc_word_state(w), OVC_READING);
	cr_assert_eq(ovc_word_value(w), 5);
}

Test(page, trying_leaves_a_word_that_changed_and_says_what_it_is)
{
	ovc_word w = word(OVC_RESIDENT, 0);
	uint64_t now = w, old = word(OVC_SWAPPED, 0);

	cr_assert_eq(ovc_page_try(&w, &old, OVC_EV_FAULT, 5), OVC_ACT_RACED);
	cr_assert_eq(w, now);
	cr_assert_eq(old, now);
}

Test(page, trying_notices_a_pin_that_came_in_between)
{
	ovc_word w = word(OVC_RESIDENT, 0);
	uint64_t old = w;

	w += OVC_W_PIN_ONE;
	cr_assert_eq(ovc_page_try(&w, &old, OVC_EV_STAGE, 0), OVC_ACT_RACED);
	cr_assert_eq(ovc_word_state(w), OVC_RESIDENT);
}

Test(page, trying_what_changes_nothing_gives_the_action_alone)
{
	ovc_word w = word(OVC_DOOMED, 0);
	uint64_t old = w, before = w;

	cr_assert_eq(ovc_page_try(&w, &old, OVC_EV_DISCARD, 1), OVC_ACT_NONE);
	cr_assert_eq(w, before);
}

Test(page, ending_returns_who_waited)
{
	ovc_word w = word(OVC_FILLING, OVC_W_WANTED);
	uint64_t before = w;
	enum ovc_action action;

	cr_assert_eq(ovc_page_end(&w, OVC_EV_FILLED, 0, &action), before);
	cr_assert_eq(action, OVC_ACT_NONE);
	cr_assert_eq(ovc_word_state(w), OVC_RESIDENT);
	cr_assert_not(w & OVC_W_WANTED);
}

Test(page, heat_can_be_set_in_any_state)
{
	for (unsigned s = 0; s < OVC_NR_STATES; s++) {
		ovc_word w = word(s, OVC_W_WANTED);
		uint64_t want = ovc_word_with_heat(w, 77);

		ovc_page_set_heat(&w, 77);
		cr_assert_eq(w, want);
	}
}

/* Of two who see that a page is private now, one drops the reference. */
Test(page, a_page_breaks_once)
{
	ovc_word w = word(OVC_SHARED, 0);
	uint64_t old = w, late = w;

	cr_assert_eq(ovc_page_try(&w, &old, OVC_EV_BROKE, 0), OVC_ACT_FREE);
	cr_assert_eq(ovc_word_state(w), OVC_RESIDENT);
	cr_assert_eq(ovc_page_try(&w, &late, OVC_EV_BROKE, 0), OVC_ACT_RACED);
	cr_assert_eq(ovc_word_state(late), OVC_RESIDENT);
}

/* ---- and from several threads -------------------------------------------- */

#define ROUNDS 20000

static ovc_word shared;
static _Atomic int running;

static void *pin_and_unpin(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		atomic_fetch_add(&shared, OVC_W_PIN_ONE);
		atomic_fetch_sub(&shared, OVC_W_PIN_ONE);
	}
	atomic_fetch_add(&shared, OVC_W_PIN_ONE);
	atomic_fetch_sub(&running, 1);
	return NULL;
}

static void *warm(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < ROUNDS; i++)
		ovc_page_set_heat(&shared, i & MAX_HEAT);
	ovc_page_set_heat(&shared, MAX_HEAT);
	atomic_fetch_sub(&running, 1);
	return NULL;
}

/* Stages and puts back, as the owner, until the others are done. */
static void own_until_done(void)
{
	uint64_t pos = 0;

	while (atomic_load(&running)) {
		enum ovc_action action;
		uint64_t w = atomic_load(&shared);

		while (ovc_page_try(&shared, &w, OVC_EV_STAGE, 0) !=
		       OVC_ACT_TAKE)
			;
		ovc_page_end(&shared, OVC_EV_TAKEN, ++pos & MAX_VALUE, &action);
		w = atomic_load(&shared);
		cr_assert_eq(ovc_word_value(w), pos & MAX_VALUE);
		while (ovc_page_try(&shared, &w, OVC_EV_FAULT, pos) !=
		       OVC_ACT_PUT)
			;
		ovc_page_end(&shared, OVC_EV_FILLED, 0, &action);
	}
}

Test(page, pins_and_heat_set_by_others_survive_the_owner, .timeout = 60)
{
	pthread_t thread[3];

	shared = OVC_RESIDENT;
	running = 3;
	pthread_create(&thread[0], NULL, pin_and_unpin, NULL);
	pthread_create(&thread[1], NULL, pin_and_unpin, NULL);
	pthread_create(&thread[2], NULL, warm, NULL);
	own_until_done();
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	cr_assert_eq(ovc_word_pins(shared), 2);
	cr_assert_eq(ovc_word_heat(shared), MAX_HEAT);
	cr_assert_eq(ovc_word_state(shared), OVC_RESIDENT);
	cr_assert_eq(ovc_word_value(shared), 0);
}

/* The faulting side: takes what is stable, and asks to be woken otherwise. */
static void *fault_until_owned(void *arg)
{
	unsigned long *owned = arg;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t w = atomic_load(&shared);
		enum ovc_action action =
			ovc_page_try(&shared, &w, OVC_EV_FAULT, 0);

		if (action != OVC_ACT_ZERO)
			continue;
		++*owned;
		ovc_page_end(&shared, OVC_EV_UNFILLED, 0, &action);
	}
	return NULL;
}

Test(page, of_many_that_fault_one_at_a_time_owns_the_page, .timeout = 60)
{
	unsigned long owned[4] = { 0 }, sum = 0;
	pthread_t thread[4];

	shared = OVC_EMPTY;
	for (int i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, fault_until_owned, &owned[i]);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < 4; i++)
		sum += owned[i];
	/* Had two owned it at once, the second end would have aborted. */
	cr_assert_gt(sum, 0);
	cr_assert_eq(shared, OVC_EMPTY);
}
