/* SPDX-License-Identifier: MIT */
/*
 * Searches all interleavings, breadth first, so that the story of a violation
 * is as short as it can be.
 *
 *   model [--memory anon|memfd] [--scenario NAME] [--broken HOW]
 *         [--expect-violation] [--list]
 *
 * Without a scenario it takes all but those that are at length.
 *
 * In every state: no step did what must never be done (see violate()); and if
 * nobody began anything new, all that is under way would come to an end, with
 * every guest awake. When all threads are idle: each slot has exactly one
 * owner, the store's page has a reference for each who names it, and what is
 * charged is what there is.
 *
 * Exits with 0 when that holds everywhere, with 1 when not; the other way round
 * with --expect-violation.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

#define MAX_STATES   (1u << 23)
#define DRAIN_MAX    400 /* steps, far more than anything needs */
#define BAD_END_TOLD 24	 /* steps of it that are enough for the reader */

/* Who takes a step: the threads, then these. */
enum {
	DISK = NR_THREADS,
	KERNEL = DISK + NR_POS,
	OTHERS,
	NEIGHBOUR,
	GUEST,
	NR_ACTORS = GUEST + NR_GUESTS
};

struct config config;

struct node {
	struct state state;
	uint32_t parent;
	uint8_t actor, choice;
};

static struct node *nodes;
static uint32_t nr_nodes, max_nodes;

/* Of a state: what node + 1 it is, or 0; the hash of its canonical form. */
struct place {
	uint32_t node, hash;
};

static struct place *table; /* open addressing */
static uint32_t table_mask;

/* ---- what steps say ------------------------------------------------------ */

static bool telling, draining, violated, bad_end;
static char violation[200];
static unsigned sentence, choice, nr_choices;

void tell(const char *fmt, ...)
{
	va_list ap;

	if (!telling)
		return;
	va_start(ap, fmt);
	if (!strncmp(fmt, "...", 3))
		printf("        ");
	else
		printf("  %3u.  ", ++sentence);
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
}

void violate(const char *fmt, ...)
{
	va_list ap;

	/* What a drain does is looked at where the search does it. */
	if (draining || violated)
		return;
	violated = true;
	va_start(ap, fmt);
	vsnprintf(violation, sizeof(violation), fmt, ap);
	va_end(ap);
}

unsigned choose(unsigned n)
{
	nr_choices = n;
	return choice;
}

bool refused(void)
{
	if (!config.refusals || !choose(2))
		return false;
	tell("... the kernel refuses");
	return true;
}

/* ---- one step ------------------------------------------------------------ */

static bool guest_may(const struct state *s, unsigned g, bool idle_too)
{
	return s->guest[g].is == WOKEN ||
	       (idle_too && s->guest[g].is == RUNS && g < config.guests);
}

static bool actor_step(struct state *s, unsigned actor, bool idle_too)
{
	if (actor < NR_THREADS)
		return thread_step(s, actor, idle_too);
	if (actor < KERNEL)
		return idle_too && disk_step(s, actor - DISK);
	if (actor == KERNEL)
		return idle_too && kernel_unmaps(s);
	if (actor == OTHERS)
		return idle_too && others_step(s);
	if (actor == NEIGHBOUR)
		return idle_too && neighbour_step(s);
	if (!guest_may(s, actor - GUEST, idle_too))
		return false;
	guest_step(s, actor - GUEST);
	return true;
}

/* ---- what must hold ------------------------------------------------------ */

static bool all_idle(const struct state *s)
{
	for (unsigned i = 0; i < NR_THREADS; i++)
		if (!thread_idle(s, i))
			return false;
	return true;
}

static void check_slots(const struct state *s)
{
	enum ovc_state is = ovc_word_state(s->word);

	for (unsigned i = 0; i < NR_SLOTS; i++) {
		unsigned owners = 0;

		owners += (is == OVC_CLEAN || is == OVC_SWAPPED) &&
			  ovc_word_value(s->word) == i;
		for (unsigned p = 0; p <= HOLD; p++) {
			const struct entry *e = &s->entry[p];

			if (e->neighbour)
				continue;
			owners += e->used && e->slot == i;
			owners += e->used && e->busy && e->wslot == i;
		}
		if (owners != s->slot[i].taken)
			violate("all is quiet, slot %u is %s and has %u owners",
				i, s->slot[i].taken ? "taken" : "free", owners);
	}
}

static void check_refs(const struct state *s)
{
	enum ovc_state is = ovc_word_state(s->word);
	bool named = is == OVC_STORED || is == OVC_SHARED;

	if (s->refs != s->other + named)
		violate("all is quiet, %u refer to the store's page and it has "
			"%u references",
			s->other + named, s->refs);
	if (named && ovc_word_value(s->word) != STORE_NR)
		violate("the word names another page of the store");
	if (s->unregistered || (is == OVC_SHARED && !s->laid))
		violate("all is quiet, and the page is not laid as it should "
			"be");
}

/* The version that is where the word says that the bytes are; NONE: they are not. */
static unsigned version_there(const struct state *s)
{
	enum ovc_state is = ovc_word_state(s->word);
	unsigned at = (unsigned)ovc_word_value(s->word);

	switch (is) {
	case OVC_EMPTY:
	case OVC_DOOMED:
		return 0;
	case OVC_SWAPPED:
		return s->slot[at].v;
	case OVC_STORED:
		return s->present ? NONE : s->store_v;
	case OVC_SHARED:
		return s->present && !s->of_store ? s->v : s->store_v;
	case OVC_RESIDENT:
	case OVC_CLEAN:
		if (in_memfd(s))
			return s->cached ? s->cache_v : NONE;
		return s->present && !s->of_store ? s->v : NONE;
	default:
		if (s->entry[at].frame || is_hold(at))
			return s->entry[at].v;
		return in_memfd(s) && s->cached ? s->cache_v : NONE;
	}
}

/* Where the word says that the bytes are, they are. */
static void check_bytes(const struct state *s)
{
	enum ovc_state is = ovc_word_state(s->word);
	unsigned v;

	if (is == OVC_POISONED)
		return;
	v = version_there(s);
	if (v == NONE)
		violate("all is quiet, the word is %s, but the page is gone",
			ovc_state_name(is));
	else if (v != s->truth)
		violate("all is quiet, the word is %s and there is version %u, "
			"but %u was written last",
			ovc_state_name(is), v, s->truth);
}

static void check_charge(const struct state *s)
{
	enum ovc_state is = ovc_word_state(s->word);
	unsigned frames = is == OVC_RESIDENT || is == OVC_CLEAN;

	/* A frame in the ring, or one of the page cache. */
	if (is == OVC_STAGED || is == OVC_WRITING || is == OVC_DOOMED)
		frames = !is_hold((unsigned)ovc_word_value(s->word)) &&
			 !s->entry[ovc_word_value(s->word)].frame;
	for (unsigned p = 0; p < NR_POS; p++)
		frames += s->entry[p].frame;
	if (frames != s->used)
		violate("all is quiet, %u pages are charged and there are %u",
			s->used, frames);
}

/* Lets what is under way end, fairly, with nothing new begun. */
static bool drain(struct state *s, unsigned most)
{
	unsigned steps = 0;
	bool moved = true;

	draining = true;
	choice = 0;
	while (moved && steps < most) {
		moved = false;
		for (unsigned a = 0; a < NR_ACTORS; a++) {
			/* A message in the queue is something under way. */
			bool too = a == FAULT_0;

			if (actor_step(s, a, too)) {
				moved = true;
				steps++;
			}
		}
	}
	draining = false;
	return !moved;
}

static void check_end(const struct state *from)
{
	struct state s = *from;

	bad_end = true;
	if (!drain(&s, DRAIN_MAX)) {
		violate("this would never end");
		return;
	}
	for (unsigned g = 0; g < NR_GUESTS; g++)
		if (s.guest[g].is != RUNS)
			violate("guest %u would sleep for ever", g);
	if (!all_idle(&s))
		violate("a thread would wait for ever");
	bad_end = violated;
}

static void check(const struct state *s)
{
	if (s->other && s->store_v != s->other_v)
		violate("another VM's page was version %u, and the store has "
			"%u",
			s->other_v, s->store_v);
	if (config.neighbour)
		check_neighbour(s);
	if (all_idle(s) && !s->locked) {
		check_bytes(s);
		check_refs(s);
		check_slots(s);
		check_charge(s);
	}
	if (!violated)
		check_end(s);
}

/* ---- visited states ------------------------------------------------------ */

/* Which of two fault threads, or guests, does something is the same to all; but one
 * of the threads has the place of what is held back. */
static struct state canonical(const struct state *s)
{
	struct state c = *s;

	if (!config.hold &&
	    memcmp(&c.t[FAULT_0], &c.t[FAULT_1], sizeof(c.t[0])) > 0) {
		c.t[FAULT_0] = s->t[FAULT_1];
		c.t[FAULT_1] = s->t[FAULT_0];
	}
	if (memcmp(&c.guest[0], &c.guest[1], sizeof(c.guest[0])) > 0) {
		c.guest[0] = s->guest[1];
		c.guest[1] = s->guest[0];
	}
	return c;
}

static uint32_t hash(const struct state *s)
{
	uint64_t words[(sizeof(*s) + 7) / 8] = { 0 }, h = 0;

	memcpy(words, s, sizeof(*s));
	for (unsigned i = 0; i < sizeof(words) / 8; i++) {
		h = (h ^ words[i]) * 0x9e3779b97f4a7c15u;
		h ^= h >> 29;
	}
	return (uint32_t)(h ^ h >> 32);
}

static void *grow(void *old, size_t size)
{
	void *new = realloc(old, size);

	if (!new) {
		fprintf(stderr, "model: out of memory\n");
		exit(1);
	}
	return new;
}

static struct place *find_free(uint32_t h)
{
	while (table[h & table_mask].node)
		h++;
	return &table[h & table_mask];
}

static void rehash(void)
{
	struct place *old = table;
	uint32_t nr = old ? table_mask + 1 : 0;

	table_mask = nr ? nr * 2 - 1 : (1 << 16) - 1;
	table = calloc((size_t)table_mask + 1, sizeof(*table));
	if (!table) {
		fprintf(stderr, "model: out of memory\n");
		exit(1);
	}
	for (uint32_t i = 0; i < nr; i++)
		if (old[i].node)
			*find_free(old[i].hash) = old[i];
	free(old);
}

/* True: it is new. */
static bool add(const struct state *s, uint32_t parent, unsigned actor)
{
	struct state c = canonical(s), other;
	uint32_t h = hash(&c), at;

	if (nr_nodes * 2 >= table_mask)
		rehash();
	for (at = h; table[at & table_mask].node; at++) {
		const struct place *p = &table[at & table_mask];

		if (p->hash != h)
			continue;
		other = canonical(&nodes[p->node - 1].state);
		if (!memcmp(&other, &c, sizeof(c)))
			return false;
	}
	if (nr_nodes == max_nodes) {
		max_nodes = max_nodes ? max_nodes * 2 : 1 << 14;
		nodes = grow(nodes, max_nodes * sizeof(*nodes));
	}
	nodes[nr_nodes].state = *s;
	nodes[nr_nodes].parent = parent;
	nodes[nr_nodes].actor = (uint8_t)actor;
	nodes[nr_nodes].choice = (uint8_t)choice;
	table[at & table_mask] = (struct place){ ++nr_nodes, h };
	return true;
}

/* ---- the search ---------------------------------------------------------- */

static struct state first_state(void)
{
	struct state s;

	memset(&s, 0, sizeof(s));
	for (unsigned i = 0; i < NR_SLOTS; i++)
		s.slot[i].v = GARBAGE;
	s.store_v = GARBAGE;
	return s;
}

static void tell_story(uint32_t node, unsigned actor, unsigned last)
{
	uint32_t path[1000], n = 0;
	struct state s = first_state();

	for (uint32_t i = node; i && n < 1000; i = nodes[i].parent)
		path[n++] = i;
	telling = true;
	sentence = 0;
	while (n--) {
		choice = nodes[path[n]].choice;
		actor_step(&s, nodes[path[n]].actor, true);
	}
	choice = last;
	actor_step(&s, actor, true);
	if (bad_end) {
		struct state rest = s;

		printf("  From here on, with nothing new begun:\n");
		drain(&rest, BAD_END_TOLD);
	}
	telling = false;
	printf("  So %s.\n", violation);
	printf("  (the word is %s, value %llu; the page is %s to the guest)\n",
	       ovc_state_name(ovc_word_state(s.word)),
	       (unsigned long long)ovc_word_value(s.word),
	       s.present ? "mapped" : "absent");
}

/* All ways in which one actor may go on. False: a violation. */
static bool expand(uint32_t node, unsigned actor)
{
	nr_choices = 1;
	for (unsigned c = 0; c < nr_choices; c++) {
		struct state s = nodes[node].state;

		choice = c;
		nr_choices = 1;
		if (!actor_step(&s, actor, true))
			continue;
		if (!violated) {
			unsigned n = nr_choices;

			if (add(&s, node, actor))
				check(&s);
			nr_choices = n;
		}
		if (violated) {
			tell_story(node, actor, c);
			return false;
		}
	}
	return true;
}

static bool search(void)
{
	struct state s = first_state();

	nr_nodes = 0;
	violated = bad_end = false;
	free(table);
	table = NULL;
	choice = 0;
	rehash();
	add(&s, 0, 0);
	for (uint32_t i = 0; i < nr_nodes; i++) {
		for (unsigned actor = 0; actor < NR_ACTORS; actor++)
			if (!expand(i, actor))
				return false;
		if (nr_nodes > MAX_STATES) {
			printf("  gave up after %u states\n", nr_nodes);
			exit(1);
		}
	}
	return true;
}

/* ---- scenarios ----------------------------------------------------------- */

static const struct {
	const char *name;
	struct config config;
} scenarios[] = {
	{ "faults",
	  { .guests = 2,
	    .faulters = 2,
	    .wp_async = true,
	    .unmaps = true,
	    .positions = 1,
	    .slots = 1,
	    .versions = 2 } },
	{ "writes",
	  { .guests = 2,
	    .faulters = 1,
	    .wp_async = true,
	    .positions = 2,
	    .slots = 2,
	    .versions = 2 } },
	{ "versions",
	  { .guests = 1,
	    .faulters = 1,
	    .wp_async = true,
	    .unmaps = true,
	    .positions = 2,
	    .slots = 2,
	    .versions = 3 } },
	{ "unprotected",
	  { .guests = 2,
	    .faulters = 2,
	    .positions = 1,
	    .slots = 2,
	    .versions = 3 } },
	{ "discard",
	  { .guests = 1,
	    .faulters = 1,
	    .wp_async = true,
	    .discard = true,
	    .positions = 2,
	    .slots = 1,
	    .versions = 2 } },
	{ "pin",
	  { .guests = 1,
	    .faulters = 1,
	    .wp_async = true,
	    .look = true,
	    .pin = true,
	    .positions = 1,
	    .slots = 1,
	    .versions = 2 } },
	{ "read",
	  { .guests = 1,
	    .faulters = 1,
	    .wp_async = true,
	    .look = true,
	    .discard = true,
	    .positions = 1,
	    .slots = 1,
	    .versions = 3 } },
	{ "refusals",
	  { .guests = 1,
	    .faulters = 1,
	    .wp_async = true,
	    .discard = true,
	    .refusals = true,
	    .positions = 1,
	    .slots = 1,
	    .versions = 2 } },
	{ "lost",
	  { .guests = 2,
	    .faulters = 2,
	    .discard = true,
	    .refusals = true,
	    .positions = 1,
	    .slots = 1,
	    .versions = 2 } },
	{ "two VMs",
	  { .guests = 1,
	    .faulters = 1,
	    .wp_async = true,
	    .neighbour = true,
	    .discard = true,
	    .positions = 1,
	    .slots = 1,
	    .versions = 2 } },
	{ "held",
	  { .at_length = true,
	    .guests = 1,
	    .faulters = 2,
	    .wp_async = true,
	    .neighbour = true,
	    .hold = true,
	    .positions = 1,
	    .slots = 1,
	    .versions = 2 } },
	{ "held discard",
	  { .guests = 1,
	    .faulters = 1,
	    .wp_async = true,
	    .neighbour = true,
	    .hold = true,
	    .discard = true,
	    .positions = 1,
	    .slots = 1,
	    .versions = 2 } },
	{ "held refusals",
	  { .guests = 1,
	    .faulters = 1,
	    .wp_async = true,
	    .neighbour = true,
	    .hold = true,
	    .look = true,
	    .refusals = true,
	    .positions = 1,
	    .slots = 1,
	    .versions = 2 } },
	{ "removal",
	  { .guests = 1,
	    .faulters = 1,
	    .wp_async = true,
	    .neighbour = true,
	    .hold = true,
	    .discard = true,
	    .remove = true,
	    .positions = 1,
	    .slots = 1,
	    .versions = 2 } },
	{ "share",
	  { .guests = 2,
	    .faulters = 2,
	    .share = true,
	    .unmaps = true,
	    .positions = 1,
	    .versions = 2 } },
	{ "share versions",
	  { .guests = 1,
	    .faulters = 1,
	    .share = true,
	    .renumber = true,
	    .positions = 2,
	    .versions = 3 } },
	{ "share writes",
	  { .guests = 1,
	    .faulters = 1,
	    .share = true,
	    .positions = 2,
	    .slots = 2,
	    .versions = 2 } },
	{ "share swap",
	  { .guests = 1,
	    .faulters = 1,
	    .wp_async = true,
	    .share = true,
	    .renumber = true,
	    .restage = true,
	    .positions = 1,
	    .slots = 1,
	    .versions = 2 } },
	{ "share discard",
	  { .guests = 1,
	    .faulters = 1,
	    .wp_async = true,
	    .share = true,
	    .discard = true,
	    .unmaps = true,
	    .positions = 1,
	    .slots = 1,
	    .versions = 2 } },
	{ "share read",
	  { .guests = 1,
	    .faulters = 1,
	    .share = true,
	    .renumber = true,
	    .look = true,
	    .unmaps = true,
	    .positions = 1,
	    .versions = 3 } },
	{ "share pin",
	  { .guests = 1,
	    .faulters = 1,
	    .share = true,
	    .renumber = true,
	    .pin = true,
	    .fold = true,
	    .positions = 1,
	    .versions = 2 } },
	{ "share fold",
	  { .guests = 1,
	    .faulters = 1,
	    .share = true,
	    .discard = true,
	    .fold = true,
	    .refusals = true,
	    .positions = 1,
	    .versions = 2 } },
	{ "share refusals",
	  { .guests = 1,
	    .faulters = 1,
	    .wp_async = true,
	    .share = true,
	    .renumber = true,
	    .restage = true,
	    .discard = true,
	    .refusals = true,
	    .positions = 1,
	    .slots = 1,
	    .versions = 2 } },
	{ "held long",
	  { .at_length = true,
	    .guests = 1,
	    .faulters = 2,
	    .wp_async = true,
	    .neighbour = true,
	    .hold = true,
	    .discard = true,
	    .positions = 1,
	    .slots = 1,
	    .versions = 2 } },
	{ "removal long",
	  { .at_length = true,
	    .guests = 1,
	    .faulters = 2,
	    .wp_async = true,
	    .neighbour = true,
	    .hold = true,
	    .discard = true,
	    .remove = true,
	    .positions = 1,
	    .slots = 1,
	    .versions = 2 } },
	{ "two VMs long",
	  { .at_length = true,
	    .guests = 1,
	    .faulters = 1,
	    .wp_async = true,
	    .neighbour = true,
	    .discard = true,
	    .positions = 2,
	    .slots = 2,
	    .versions = 2 } },
};

static const struct {
	const char *name, *law;
	unsigned how;
} broken_ways[] = {
	{ "mark-first", "the word says FILLED before the page is mapped",
	  MARK_FIRST },
	{ "no-wanted", "owners of a transient state do not wake who waits",
	  NO_WANTED },
	{ "stable-before-drop", "the word says SWAPPED before the frame goes",
	  STABLE_BEFORE_DROP },
	{ "clean-unconfirmed", "unwritten pages are not compared with the slot",
	  CLEAN_UNCONFIRMED },
	{ "check-unowned", "a fault on a RESIDENT page fills without owning it",
	  CHECK_UNOWNED },
	{ "poison-unowned", "a fault on a POISONED page poisons it again",
	  POISON_UNOWNED },
	{ "fill-gives-up", "a fill leaves alone what it finds in the memfd",
	  FILL_GIVES_UP },
	{ "pin-passes-look", "a pin does not wait for a copy to end",
	  PIN_PASSES_LOOK },
	{ "unput-overwrites", "a put back that fails forgets reclaim's slot",
	  UNPUT_OVERWRITES },
	{ "undropped-kept",
	  "a discarded page that is not dropped is not erased",
	  UNDROPPED_KEPT },
	{ "undiscard-revives", "a lost page that is not dropped is RESIDENT",
	  UNDISCARD_REVIVES },
	{ "unref-first", "a reference is dropped before the bytes are copied",
	  UNREF_FIRST },
	{ "ref-late", "the word names the store before the reference is there",
	  REF_LATE },
	{ "store-unclaimed",
	  "nobody looks if what was copied to the store was "
	  "put back meanwhile",
	  STORE_UNCLAIMED },
	{ "unmap-marks-first",
	  "the word says STORED before the mapping is gone",
	  UNMAP_MARKS_FIRST },
	{ "unmap-looks-first", "a look for a copy before the mapping is gone",
	  UNMAP_LOOKS_FIRST },
	{ "break-unlocked", "copies are looked for without the lock",
	  BREAK_UNLOCKED },
	{ "laid-continue", "a laid page is put back with UFFDIO_CONTINUE",
	  LAID_CONTINUE },
	{ "laid-dontneed", "a laid page of a memfd is staged as if it were not",
	  LAID_DONTNEED },
	{ "zero-over-marker", "UFFDIO_ZEROPAGE where there may be a marker",
	  ZERO_OVER_MARKER },
	{ "fold-pinned", "a pinned page is folded", FOLD_PINNED },
	{ "fold-empty", "an absent page is folded", FOLD_EMPTY },
	{ "look-unasked", "a read of a SHARED page uses the guest's address",
	  LOOK_UNASKED },
	{ "own-kept",
	  "a merged page that is not mapped keeps the mark of an older mapping",
	  OWN_KEPT },
	{ "own-unowned", "the mark is looked at only before the page is owned",
	  OWN_UNOWNED },
	{ "bring-in-reads",
	  "STORED pages are brought in with touches that read",
	  BRING_IN_READS },
	{ "doomed-taken",
	  "a discard takes the slot from the ring when the page is DOOMED",
	  DOOMED_TAKEN },
	{ "taken-first",
	  "a discard takes the slot from the ring, then dooms the page",
	  TAKEN_FIRST },
	{ "unhold-claims",
	  "what is held back is claimed, not owned, to take its slot",
	  UNHOLD_CLAIMS },
	{ "hold-freed-first",
	  "the place of what is held back is free when its put back begins",
	  HOLD_FREED_FIRST },
	{ "clean-unseen",
	  "a fault on a CLEAN page is taken for one that is late",
	  CLEAN_UNSEEN },
};

#define NR(array) (sizeof(array) / sizeof(*(array)))

static const char *only_memory, *only_scenario;
static unsigned broken;

static bool run(unsigned i, bool memfd)
{
	bool good;

	config = scenarios[i].config;
	config.memfd = memfd;
	config.broken = broken;
	printf("%s: %s\n", memfd ? "memfd" : "anon", scenarios[i].name);
	good = search();
	printf("  %u states, %s\n", nr_nodes, good ? "all good" : "VIOLATION");
	fflush(stdout);
	return good;
}

static bool run_all(void)
{
	for (unsigned i = 0; i < NR(scenarios); i++)
		for (unsigned memfd = 0; memfd < 2; memfd++) {
			if (only_memory &&
			    strcmp(only_memory, memfd ? "memfd" : "anon"))
				continue;
			if (only_scenario ? strcmp(only_scenario,
						   scenarios[i].name) != 0 :
					    scenarios[i].config.at_length)
				continue;
			if (!run(i, memfd))
				return false;
		}
	return true;
}

static void list(void)
{
	printf("scenarios:\n");
	for (unsigned i = 0; i < NR(scenarios); i++)
		printf("  %s\n", scenarios[i].name);
	printf("broken:\n");
	for (unsigned i = 0; i < NR(broken_ways); i++)
		printf("  %-20s%s\n", broken_ways[i].name, broken_ways[i].law);
}

static bool set_broken(const char *name)
{
	for (unsigned i = 0; i < NR(broken_ways); i++)
		if (!strcmp(name, broken_ways[i].name)) {
			broken = broken_ways[i].how;
			printf("Broken on purpose: %s.\n", broken_ways[i].law);
		}
	return broken;
}

static int usage(void)
{
	fprintf(stderr, "usage: model [--memory anon|memfd] [--scenario NAME] "
			"[--broken HOW] [--expect-violation] [--list]\n");
	return 2;
}

int main(int argc, char **argv)
{
	bool expect = false, good;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--expect-violation")) {
			expect = true;
		} else if (!strcmp(argv[i], "--list")) {
			list();
			return 0;
		} else if (i + 1 == argc) {
			return usage();
		} else if (!strcmp(argv[i], "--memory")) {
			only_memory = argv[++i];
		} else if (!strcmp(argv[i], "--scenario")) {
			only_scenario = argv[++i];
		} else if (strcmp(argv[i], "--broken") ||
			   !set_broken(argv[++i])) {
			return usage();
		}
	}
	good = run_all();
	free(nodes);
	free(table);
	return good == !expect ? 0 : 1;
}
