/* SPDX-License-Identifier: MIT */
/*
 * Events: what happened that the VMM should know.
 *
 * Each kind has slots of its own, so that none pushes out another. Who posts takes a free
 * one with one compare-and-swap, or adds to the count of one that waits for the same VM
 * with the same cause:
 *
 *   FREE -> BUSY -> READY     posted
 *   READY -> BUSY -> READY    counted to it; written to the log
 *   READY -> BUSY -> FREE     told
 *
 * The VMM is told by its function, on a thread that does nothing else: nobody waits for
 * it, so that the function may take any lock, and wait. Or it asks, by a descriptor and
 * ovc_host_next_event(). Either way under `lock`, which posting does not take. The same
 * thing is told at most once a second, with a count; lost pages one by one up to 16 a
 * second, since it matters which.
 *
 * An event names its VM by an id that no other VM ever has. The handle goes with it only
 * while the VM is `known`, which ends before the VM is taken apart.
 *
 * Failures: without a free slot an event is lost, and counted. A function that never
 * returns costs later events. On stop what waits is delivered first.
 */
#include "core/events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/meta.h"

#define REST_NS	   1000000000ull /* between two of the same */
#define DETAIL	   384
#define TEXT	   512
#define NR_TOLD	   128
#define NEVER	   UINT64_MAX
#define NR_KINDS   (OVC_EVENT_OVER_BUDGET + 1)
#define NR_SLOTS   148
#define ONE_BY_ONE 16

enum { FREE, BUSY, READY };

struct slot {
	_Atomic int state;
	int type;
	/* The key, readable by anyone. */
	_Atomic int error;
	_Atomic uint32_t cause;
	_Atomic uint64_t vm_id;
	_Atomic uint64_t number; /* order of posting */
	/* Who has it BUSY. */
	unsigned vm_index;
	char name[64];
	void *addr;
	uint64_t gpa;
	size_t len;
	uint64_t count;
	bool logged;
	uint64_t logged_at;
	char *detail;	   /* the sentence; NULL: its kind has one */
	const char *words; /* the error's, or NULL */
};

/* What was told, and when, so that it is not told again at once. */
struct told {
	int type, error;
	uint32_t cause;
	uint64_t vm_id, since;
	unsigned nr; /* since then */
};

struct ovc_events {
	struct slot slots[NR_SLOTS];
	unsigned first[NR_KINDS + 1]; /* slot of each kind */
	_Atomic uint64_t posted, lost;
	int timer; /* readable when something is due */

	void (*event)(const struct ovc_event *event, void *opaque);
	pthread_t thread;
	bool threaded;
	_Atomic bool stop;

	pthread_mutex_t lock; /* of all below, and to take slots */
	pthread_cond_t done;
	struct ovc_vm *known[OVC_MAX_VMS]; /* by index */
	const struct ovc_vm *using;	   /* that the function has in hand */
	struct told told[NR_TOLD];
};

static const struct {
	const char *text;
	unsigned slots;
	bool detail; /* who posts has the sentence */
} kinds[NR_KINDS] = {
	[OVC_EVENT_POISONED] = { "a page is lost", 32, false },
	[OVC_EVENT_WRITE_FAILED] = { "the swap could not be written; pages "
				     "stay in memory",
				     32, false },
	[OVC_EVENT_WRITE_RECOVERED] = { "the swap can be written again", 32,
					false },
	[OVC_EVENT_STUCK] = { NULL, 16, true },
	[OVC_EVENT_MEMORY_FAILED] = { "the kernel would not take a page from "
				      "the guest, or give it one",
				      32, false },
	[OVC_EVENT_OVER_BUDGET] = { NULL, 4, true },
};

/* ---- posting ------------------------------------------------------------- */

static bool is_of(const struct slot *s, const struct ovc_news *n)
{
	return atomic_load(&s->vm_id) == (n->vm ? n->vm->id : 0) &&
	       atomic_load(&s->error) == n->error &&
	       atomic_load(&s->cause) == n->cause;
}

static bool follows(const struct slot *s, const struct ovc_news *n)
{
	uint64_t end = s->gpa == OVC_GPA_NONE ? s->gpa : s->gpa + s->len;

	return n->region &&
	       (char *)s->addr + s->len == ovc_page_addr(n->region, n->idx) &&
	       end == ovc_page_gpa(n->region, n->idx);
}

static void describe(struct ovc_events *e, struct slot *s,
		     const struct ovc_news *n)
{
	if (s->count++ && follows(s, n)) {
		s->len += n->len;
	} else {
		s->addr = n->region ? ovc_page_addr(n->region, n->idx) : NULL;
		s->gpa = n->region ? ovc_page_gpa(n->region, n->idx) : 0;
		s->len = n->len;
	}
	s->words = n->words;
	if (s->detail)
		snprintf(s->detail, DETAIL, "%s", n->detail ? n->detail : "");
	s->logged = false;
	/* The newest place in the order: what is told last is how it is. */
	atomic_store(&s->number, atomic_fetch_add(&e->posted, 1));
}

static bool take(struct slot *s, int state)
{
	return atomic_load(&s->state) == state &&
	       atomic_compare_exchange_strong(&s->state, &state, BUSY);
}

/* Adds to an event that waits already. Lost pages stay apart as long as there are few. */
static bool join_in(struct ovc_events *e, const struct ovc_news *n)
{
	unsigned same = 0;

	for (unsigned i = e->first[n->type]; i < e->first[n->type + 1]; i++) {
		struct slot *s = &e->slots[i];
		bool ok;

		if (!is_of(s, n) || !take(s, READY))
			continue;
		ok = is_of(s, n) && (n->type != OVC_EVENT_POISONED ||
				     follows(s, n) || ++same == ONE_BY_ONE);
		if (ok)
			describe(e, s, n);
		atomic_store(&s->state, READY);
		if (ok)
			return true;
	}
	return false;
}

static bool use_free(struct ovc_events *e, const struct ovc_news *n)
{
	for (unsigned i = e->first[n->type]; i < e->first[n->type + 1]; i++) {
		struct slot *s = &e->slots[i];

		if (!take(s, FREE))
			continue;
		atomic_store(&s->error, n->error);
		atomic_store(&s->cause, n->cause);
		atomic_store(&s->vm_id, n->vm ? n->vm->id : 0);
		s->vm_index = n->vm ? n->vm->index : 0;
		s->name[0] = '\0';
		if (n->vm)
			memcpy(s->name, n->vm->name, sizeof(s->name));
		s->count = 0;
		s->logged_at = 0;
		describe(e, s, n);
		atomic_store(&s->state, READY);
		return true;
	}
	return false;
}

void ovc_events_tell(struct ovc_host *host, const struct ovc_news *news)
{
	struct ovc_events *e = host->events;

	if (!join_in(e, news) && !use_free(e, news))
		atomic_fetch_add(&e->lost, 1);
	ovc_timer_set(e->timer, 0);
	if (host->log && !e->event)
		ovc_notify_post(host->reclaim_wake);
}

void ovc_event_post(struct ovc_host *host, int type, int error,
		    const struct ovc_vm *vm, const struct ovc_region *region,
		    uint64_t idx, uint64_t nr)
{
	ovc_events_tell(host, &(struct ovc_news){ .type = type,
						  .error = error,
						  .vm = vm,
						  .region = region,
						  .idx = idx,
						  .len = nr * OVC_PAGE });
}

/* ---- what is due: with the lock ------------------------------------------- */

static struct told *find_told(struct ovc_events *e, const struct slot *s)
{
	for (unsigned i = 0; i < NR_TOLD; i++) {
		struct told *t = &e->told[i];

		if (t->nr && t->type == s->type &&
		    t->error == atomic_load(&s->error) &&
		    t->cause == atomic_load(&s->cause) &&
		    t->vm_id == atomic_load(&s->vm_id))
			return t;
	}
	return NULL;
}

/* When it may be told: 0 for now. */
static uint64_t due_at(struct ovc_events *e, const struct slot *s, uint64_t now)
{
	const struct told *t = find_told(e, s);

	if (!t || now - t->since >= REST_NS ||
	    (s->type == OVC_EVENT_POISONED && t->nr < ONE_BY_ONE))
		return 0;
	return t->since + REST_NS;
}

/* A place for what is told now: one that matters no more, or else the oldest. */
static struct told *place_to_note(struct ovc_events *e)
{
	struct told *t = &e->told[0];

	for (unsigned i = 1; i < NR_TOLD; i++)
		if (e->told[i].since < t->since)
			t = &e->told[i];
	return t;
}

static void note_told(struct ovc_events *e, const struct slot *s, uint64_t now)
{
	struct told *t = find_told(e, s);

	if (t && now - t->since < REST_NS) {
		t->nr++;
		return;
	}
	if (!t)
		t = place_to_note(e);
	*t = (struct told){ .type = s->type,
			    .error = atomic_load(&s->error),
			    .cause = atomic_load(&s->cause),
			    .vm_id = atomic_load(&s->vm_id),
			    .since = now,
			    .nr = 1 };
}

/* What must be told in the order in which it happened: a VM's failures to write, and
 * their ends. */
static bool in_order(const struct slot *a, const struct slot *b)
{
	return atomic_load(&a->vm_id) == atomic_load(&b->vm_id) &&
	       (a->type == OVC_EVENT_WRITE_FAILED ||
		a->type == OVC_EVENT_WRITE_RECOVERED) &&
	       (b->type == OVC_EVENT_WRITE_FAILED ||
		b->type == OVC_EVENT_WRITE_RECOVERED);
}

static bool waits_for_earlier(struct ovc_events *e, const struct slot *s)
{
	uint64_t number = atomic_load(&s->number);

	for (unsigned i = 0; i < e->first[NR_KINDS]; i++)
		if (atomic_load(&e->slots[i].state) != FREE &&
		    in_order(&e->slots[i], s) &&
		    atomic_load(&e->slots[i].number) < number)
			return true;
	return false;
}

/* The oldest event that is due; NULL: none, *next is when one will be. */
static struct slot *oldest(struct ovc_events *e, uint64_t now, uint64_t *next)
{
	struct slot *best = NULL;

	*next = NEVER;
	for (unsigned i = 0; i < e->first[NR_KINDS]; i++) {
		struct slot *s = &e->slots[i];
		uint64_t at;

		if (atomic_load(&s->state) != READY || waits_for_earlier(e, s))
			continue;
		at = atomic_load(&e->stop) ? 0 : due_at(e, s, now);
		*next = at < *next ? at : *next;
		if (!at && (!best || atomic_load(&s->number) <
					     atomic_load(&best->number)))
			best = s;
	}
	return best;
}

/* Sets the timer to when something is due. What was posted before it was set is seen
 * by the second look; what is posted later sets it itself. */
static void set_timer(struct ovc_events *e)
{
	uint64_t now = ovc_now_ns(), next, again;

	oldest(e, now, &again);
	do {
		next = again;
		ovc_timer_set(e->timer,
			      next == NEVER ? -1 :
			      next <= now   ? 0 :
					      (int)((next - now) / 1000000 + 1));
		oldest(e, now, &again);
	} while (again < next);
}

/* ---- words ----------------------------------------------------------------- */

static const char *error_text(const struct slot *s, int error)
{
	if (s->words)
		return s->words;
	return error == EBADMSG ? "checksum mismatch" : strerror(error);
}

static void put_into_words(const struct slot *s, char text[TEXT])
{
	int error = atomic_load(&s->error);
	char times[48] = "";

	if (s->count > 1)
		snprintf(times, sizeof(times), " (%llu times)",
			 (unsigned long long)s->count);
	if (s->detail)
		snprintf(text, TEXT, "%s%s", s->detail, times);
	else
		snprintf(text, TEXT, "%s%s%s%s%s%s", s->name,
			 *s->name ? ": " : "", kinds[s->type].text,
			 error ? ": " : "", error ? error_text(s, error) : "",
			 times);
}

/* Strings last until the thread's next call. */
static _Thread_local char sentence[TEXT], name[64];

static void fill(struct ovc_events *e, const struct slot *s,
		 struct ovc_event *event)
{
	struct ovc_vm *vm = e->known[s->vm_index];
	uint64_t id = atomic_load(&s->vm_id);

	put_into_words(s, sentence);
	memcpy(name, s->name, sizeof(name));
	*event = (struct ovc_event){
		.size = sizeof(*event),
		.type = s->type,
		.error = atomic_load(&s->error),
		.vm = vm && vm->id == id ? vm : NULL,
		.vm_name = id ? name : NULL,
		.addr = s->addr,
		.gpa = s->gpa,
		.len = s->len,
		.text = sentence,
		.events_lost = atomic_exchange(&e->lost, 0),
		.vm_id = id,
		.count = s->count,
		.cause = atomic_load(&s->cause),
	};
}

/* Takes the oldest event that is due out of the queue, with the lock. */
static bool take_next(struct ovc_events *e, struct ovc_event *event,
		      bool *logged)
{
	uint64_t now = ovc_now_ns(), next;
	struct slot *s;

	while ((s = oldest(e, now, &next)) && !take(s, READY))
		; /* somebody counts to it */
	if (!s) {
		set_timer(e);
		return false;
	}
	fill(e, s, event);
	*logged = s->logged;
	note_told(e, s, now);
	atomic_store(&s->state, FREE);
	return true;
}

static bool next_event(struct ovc_host *host, struct ovc_event *event,
		       bool in_hand)
{
	struct ovc_events *e = host->events;
	bool logged, found;

	pthread_mutex_lock(&e->lock);
	found = take_next(e, event, &logged);
	if (found && in_hand)
		e->using = event->vm;
	pthread_mutex_unlock(&e->lock);
	if (found && !logged)
		ovc_log(host, OVC_LOG_WARNING, "%s", event->text);
	return found;
}

bool ovc_events_next(struct ovc_host *host, struct ovc_event *event)
{
	return next_event(host, event, false);
}

/* One line of the log, where one is to be written. */
static bool word_to_log(struct ovc_events *e, uint64_t now, char text[TEXT])
{
	for (unsigned i = 0; i < e->first[NR_KINDS]; i++) {
		struct slot *s = &e->slots[i];
		bool write;

		if (!take(s, READY))
			continue;
		write = !s->logged && now - s->logged_at >= REST_NS;
		if (write) {
			put_into_words(s, text);
			s->logged = true;
			s->logged_at = now;
		}
		atomic_store(&s->state, READY);
		if (write)
			return true;
	}
	return false;
}

void ovc_events_log(struct ovc_host *host)
{
	struct ovc_events *e = host->events;
	uint64_t now = ovc_now_ns();
	char text[TEXT];
	bool found;

	if (e->event || !host->log)
		return;
	do {
		pthread_mutex_lock(&e->lock);
		found = word_to_log(e, now, text);
		pthread_mutex_unlock(&e->lock);
		if (found)
			ovc_log(host, OVC_LOG_WARNING, "%s", text);
	} while (found);
}

/* ---- the thread ------------------------------------------------------------- */

static void deliver(struct ovc_host *host)
{
	struct ovc_events *e = host->events;
	struct ovc_event event;

	while (next_event(host, &event, true)) {
		e->event(&event, host->opaque);
		pthread_mutex_lock(&e->lock);
		e->using = NULL;
		pthread_cond_broadcast(&e->done);
		pthread_mutex_unlock(&e->lock);
	}
}

static void *run(void *arg)
{
	struct ovc_host *host = arg;
	struct ovc_events *e = host->events;

	while (!atomic_load(&e->stop)) {
		ovc_poll_first(&e->timer, 1, -1);
		deliver(host);
	}
	deliver(host);
	return NULL;
}

bool ovc_events_are_mine(const struct ovc_events *e)
{
	return e->threaded && pthread_equal(e->thread, pthread_self());
}

/* ---- VMs -------------------------------------------------------------------- */

void ovc_events_join(struct ovc_events *e, struct ovc_vm *vm)
{
	pthread_mutex_lock(&e->lock);
	e->known[vm->index] = vm;
	pthread_mutex_unlock(&e->lock);
}

void ovc_events_leave(struct ovc_events *e, const struct ovc_vm *vm)
{
	pthread_mutex_lock(&e->lock);
	e->known[vm->index] = NULL;
	while (e->using == vm && !ovc_events_are_mine(e))
		pthread_cond_wait(&e->done, &e->lock);
	pthread_mutex_unlock(&e->lock);
}

/* ---- the queue ---------------------------------------------------------------- */

bool ovc_events_are_asked_for(const struct ovc_events *e)
{
	return !e->event;
}

int ovc_events_fd(const struct ovc_events *e)
{
	return e->timer;
}

static int lay_out(struct ovc_events *e)
{
	unsigned nr = 0, details = 0;
	char *detail;

	for (unsigned k = 0; k < NR_KINDS; k++) {
		e->first[k] = nr;
		nr += kinds[k].slots;
		details += kinds[k].detail ? kinds[k].slots : 0;
	}
	e->first[NR_KINDS] = nr;
	detail = ovc_meta_zalloc((size_t)details * DETAIL);
	if (!detail)
		return -ENOMEM;
	for (unsigned k = 0; k < NR_KINDS; k++)
		for (unsigned i = e->first[k]; i < e->first[k + 1]; i++) {
			e->slots[i].type = (int)k;
			if (!kinds[k].detail)
				continue;
			e->slots[i].detail = detail;
			detail += DETAIL;
		}
	return 0;
}

int ovc_events_create(struct ovc_host *host,
		      void (*event)(const struct ovc_event *event,
				    void *opaque),
		      struct ovc_events **ep)
{
	struct ovc_events *e = ovc_meta_zalloc(sizeof(*e));
	int error;

	_Static_assert(NR_SLOTS == 4 * 32 + 16 + 4, "slots of all kinds");
	if (!e)
		return -ENOMEM;
	*ep = e; /* the thread finds it there */
	e->event = event;
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->done, NULL);
	error = lay_out(e);
	e->timer = ovc_timer_create();
	if (!error && e->timer < 0)
		error = e->timer;
	if (!error && event) {
		error = ovc_thread_start(&e->thread, "ovc-event", run, host);
		e->threaded = !error;
	}
	if (error)
		ovc_events_destroy(ep);
	return error;
}

void ovc_events_stop(struct ovc_events *e)
{
	if (!e || !e->threaded)
		return;
	atomic_store(&e->stop, true);
	ovc_timer_set(e->timer, 0);
	pthread_join(e->thread, NULL);
	e->threaded = false;
}

void ovc_events_destroy(struct ovc_events **ep)
{
	struct ovc_events *e = *ep;

	if (!e)
		return;
	ovc_events_stop(e);
	ovc_fd_close(e->timer);
	ovc_meta_free(e->slots[e->first[OVC_EVENT_STUCK]].detail);
	pthread_cond_destroy(&e->done);
	pthread_mutex_destroy(&e->lock);
	ovc_meta_free(e);
	*ep = NULL;
}
