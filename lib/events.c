/* SPDX-License-Identifier: MIT */
/*
 * Hands queued events to the VMM, as a struct and as a sentence, with no lock held.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "reclaim.h"

static const char *const event_text[] = {
	[OVC_EVENT_POISONED] = "a page is lost",
	[OVC_EVENT_WRITE_FAILED] =
		"the swap could not be written; pages stay in memory",
	[OVC_EVENT_WRITE_RECOVERED] = "the swap can be written again",
	[OVC_EVENT_STUCK] =
		"guests wait for memory and nothing can be reclaimed: raise "
		"the budget, give them swap, or end one",
	[OVC_EVENT_MEMORY_FAILED] =
		"the kernel would not give a page to the guest",
};

void ovc_reclaim_deliver(struct ovc_reclaim *rc)
{
	struct ovc_host *host = rc->host;

	if (!atomic_exchange(&host->have_events, false))
		return;
	for (unsigned i = 0; i < OVC_MAX_EVENTS; i++) {
		struct ovc_queued_event *q = &host->events[i];
		struct ovc_event e = { .size = sizeof(e) };
		char text[256], name[64] = "";

		if (atomic_load(&q->state) != OVC_SLOT_READY)
			continue;
		e.type = q->type;
		e.error = q->error;
		e.addr = q->addr;
		e.gpa = q->gpa;
		e.len = q->len;
		e.events_lost = atomic_exchange(&host->events_lost, 0);
		ovc_control_lock(host);
		if (q->vm_index < OVC_MAX_VMS)
			e.vm = host->vms[q->vm_index];
		if (e.vm)
			snprintf(name, sizeof(name), "%s", e.vm->name);
		ovc_control_unlock(host);
		e.vm_name = e.vm ? name : NULL;
		snprintf(text, sizeof(text), "%s%s%s%s%s", name,
			 e.vm ? ": " : "", event_text[e.type],
			 e.error ? ": " : "",
			 e.error == EBADMSG ? "checksum mismatch" :
			 e.error	    ? strerror(e.error) :
					      "");
		e.text = text;
		atomic_store(&q->state, OVC_SLOT_FREE);
		ovc_log(host, OVC_LOG_WARNING, "%s", text);
		if (host->event)
			host->event(&e, host->opaque);
	}
}
