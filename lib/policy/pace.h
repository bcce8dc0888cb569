/* SPDX-License-Identifier: MIT */
/*
 * How long somebody who may have a share of the CPU sleeps for the work that he did. Pure:
 * all times are ns of what the caller says.
 */
#ifndef OVC_POLICY_PACE_H
#define OVC_POLICY_PACE_H

#include <stdint.h>

/* What happened since the last sleep was asked for. */
struct ovc_pace {
	uint64_t wall;	  /* time that passed */
	uint64_t process; /* CPU time of the process */
	uint64_t ran;	  /* of the thread that works: it ran, */
	uint64_t waited;  /* and it could have run, but got no CPU */
};

/*
 * The time to sleep for `work` of CPU time so that it is `percent` (1 to 100) of one CPU,
 * or of what the process gets where that is less.
 */
uint64_t ovc_pace_sleep(const struct ovc_pace *p, uint64_t work,
			unsigned percent);

#endif
