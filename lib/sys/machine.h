/* SPDX-License-Identifier: MIT */
/*
 * What the machine says of its memory.
 */
#ifndef OVC_SYS_MACHINE_H
#define OVC_SYS_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

struct ovc_machine {
	uint64_t available, total; /* bytes; UINT64_MAX: unknown, both */
	/* Stalls for memory in the last 10 s, of some tasks and of all: hundredths of a
	 * percent; UINT32_MAX: unknown, both. */
	uint32_t some, full;
};

void ovc_machine_look(struct ovc_machine *m);

#endif
