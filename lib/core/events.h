/* SPDX-License-Identifier: MIT */
/*
 * What happened that the VMM should know, from whoever notices to whoever is told: see
 * events.c. Others post here; nothing here calls them.
 */
#ifndef OVC_EVENTS_H
#define OVC_EVENTS_H

#include "core/internal.h"

struct ovc_events;

/* The queue and, where the VMM has an event function, its thread. Events that nobody
 * asks for stay, and are counted. 0 or -errno. */
int ovc_events_create(struct ovc_host *host,
		      void (*event)(const struct ovc_event *event,
				    void *opaque),
		      struct ovc_events **ep);

/* Delivers what waits and ends the thread; waits for the VMM's function. What is posted
 * afterwards is lost. */
void ovc_events_stop(struct ovc_events *e);
void ovc_events_destroy(struct ovc_events **ep); /* NULL is accepted */

/* Is this the thread that delivers? */
bool ovc_events_are_mine(const struct ovc_events *e);

/*
 * Events carry the VM's handle from now on, and from now on not any more; the latter
 * waits for the VMM's function where that has the handle in hand, unless it is the one
 * who calls. Takes no lock of the host's.
 */
void ovc_events_join(struct ovc_events *e, struct ovc_vm *vm);
void ovc_events_leave(struct ovc_events *e, const struct ovc_vm *vm);

struct ovc_news {
	int type, error;
	uint32_t cause;		 /* enum ovc_cause */
	const struct ovc_vm *vm; /* NULL: of the host */
	const struct ovc_region *region;
	uint64_t idx;
	size_t len;
	const char *detail; /* the sentence of STUCK and OVER_BUDGET */
	const char *words; /* the error in words that last, or NULL: strerror's */
};

/*
 * Queues an event, or counts it to an equal one that waits. Takes no lock, allocates
 * nothing; any thread.
 */
void ovc_events_tell(struct ovc_host *host, const struct ovc_news *news);
void ovc_event_post(struct ovc_host *host, int type, int error,
		    const struct ovc_vm *vm, const struct ovc_region *region,
		    uint64_t idx, uint64_t nr);

/* Does the VMM ask for events itself, since it has no function for them? */
bool ovc_events_are_asked_for(const struct ovc_events *e);

/* A descriptor that polls readable while events wait. */
int ovc_events_fd(const struct ovc_events *e);

/* The next event that is due; its strings are the calling thread's until its next call.
 * False: there is none. */
bool ovc_events_next(struct ovc_host *host, struct ovc_event *event);

/* Writes lines to the log of events that nobody was told yet. */
void ovc_events_log(struct ovc_host *host);

#endif
