/* SPDX-License-Identifier: MIT */
/*
 * Working sets by statistical sampling. Pure; the caller serialises.
 *
 * Each period some random pages of a VM are watched, and those that are touched
 * are counted: Waldspurger, OSDI 2002, section 5.3. Of n watched pages the
 * fraction that is touched is known with a standard error of sqrt(f(1-f)/n), 5
 * points at worst for the 100 that are the default. What was reclaimed cannot be
 * watched, so its refaults are counted instead: each is an active page.
 *
 * The estimate is the largest of three: a slow average of the periods, a fast
 * one, and what the running period has shown already. So a working set that
 * grows is seen within the period, and one that shrinks is believed after three.
 */
#ifndef OVC_POLICY_WORKING_SET_H
#define OVC_POLICY_WORKING_SET_H

#include <stdbool.h>
#include <stdint.h>

#define OVC_WORKING_SET_ALL 1000000u /* ppm */

/* Zeroed memory is a VM of which nothing is known. */
struct ovc_working_set {
	uint64_t memory;   /* pages of the VM */
	uint64_t resident; /* of these, those that samples were taken of */
	uint64_t refaults;
	uint32_t sampled, touched;
	uint32_t slow, fast; /* averages, ppm of the memory */
	bool known;	     /* a period has ended */
};

/*
 * A period begins: `sampled` pages are watched, taken at random from `resident`
 * ones, of a VM of `memory` pages (at least 1). With none watched, only refaults
 * count.
 */
void ovc_working_set_begin(struct ovc_working_set *ws, uint32_t sampled,
			   uint64_t resident, uint64_t memory);

/* So many of the watched pages were touched for the first time. */
void ovc_working_set_touched(struct ovc_working_set *ws, uint32_t nr);

/* So many pages came back that were reclaimed in this period or the last. */
void ovc_working_set_refault(struct ovc_working_set *ws, uint64_t nr);

/* The period is over. */
void ovc_working_set_end(struct ovc_working_set *ws);

/* The working set, ppm of the VM's memory. All of it while nothing is known. */
uint32_t ovc_working_set_estimate(const struct ovc_working_set *ws);

/* The running period shows clearly more than the periods before. */
bool ovc_working_set_grows(const struct ovc_working_set *ws);

#endif
