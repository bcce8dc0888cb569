/* SPDX-License-Identifier: MIT */
/*
 * What the machine says of its memory.
 */
#ifndef OVC_SYS_MACHINE_H
#define OVC_SYS_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "sys/proc.h"

struct ovc_machine {
	uint64_t available, total; /* bytes; UINT64_MAX: unknown, both */
	/* Stalls for memory in the last 10 s, of some tasks and of all: hundredths of a
	 * percent; UINT32_MAX: unknown, both. */
	uint32_t some, full;
};

void ovc_machine_look(const struct ovc_proc *p, struct ovc_machine *m);

/* Stalls, of the text of a pressure file; UINT32_MAX where it has none. */
void ovc_machine_stalls(const char *text, uint32_t *some, uint32_t *full);

/* Has the machine merged pages of this process with equal ones (KSM)? */
bool ovc_machine_merged(const struct ovc_proc *p);

#endif
