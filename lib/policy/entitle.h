/* SPDX-License-Identifier: MIT */
/*
 * Entitlements by shares, guarantee, limit and the idle memory tax. Pure.
 *
 * Carl A. Waldspurger, "Memory Resource Management in VMware ESX Server", OSDI
 * 2002, section 5: a page is taken from the VM whose adjusted ratio of shares to
 * pages is lowest,
 *
 *	rho = S / (P * (f + k * (1 - f))),	k = 1 / (1 - tax)
 *
 * with S shares, P pages, of which a fraction f is active. So P * (f + k * (1 -
 * f)) is what the VM's pages cost: 1 for an active one, k for an idle one. When
 * pages were taken for long enough, all rho are equal but for those of VMs at
 * their minimum or maximum. That is what is computed here, in one go: each VM is
 * given the same money a share, buys its active pages first and idle ones with
 * the rest, and the money is as much as makes the sum fit.
 */
#ifndef OVC_POLICY_ENTITLE_H
#define OVC_POLICY_ENTITLE_H

#include <stddef.h>
#include <stdint.h>

#define OVC_CLAIM_MOST ((uint64_t)1 << 52) /* bytes of all figures */

/* What a VM has to say for itself, and what it gets. */
struct ovc_claim {
	uint32_t shares; /* at least 1 */
	uint32_t bound;	 /* out: enum ovc_policy_bound */
	uint64_t min;	 /* bytes that it must have */
	uint64_t max;	 /* bytes that it may have; less than min counts more */
	uint64_t want;	 /* bytes that it has a use for */
	uint64_t active; /* bytes, of what it will have */
	uint64_t entitlement; /* out: bytes */
};

/*
 * Divides `capacity` bytes. The sum of the entitlements never exceeds it, and
 * falls short by less than a page a VM where some VM wants more.
 *
 * A VM gets its minimum whether or not it wants it. Where the minimums are more
 * than the capacity, each VM gets the same part of its own, and nobody more.
 *
 * `tax` is 0 to 0.99. O(n); at most 2,000 claims.
 */
void ovc_entitle(struct ovc_claim *claims, size_t nr, uint64_t capacity,
		 double tax);

/* Adjusted shares per page. Lowest is first to pay. A VM without pages has as
 * much as one with a single page. */
double ovc_rho(uint32_t shares, uint64_t bytes, uint64_t active, double tax);

#endif
