/* SPDX-License-Identifier: MIT */
/*
 * Sharing domains: who may share pages with whom. All with host->control.
 *
 * A domain lives as long as a VM is in it. Its salt is random and goes into every hash,
 * so that nobody outside can know, or provoke, equal hashes; its hints and its pages
 * of the store are its own, and never looked at for another.
 */
#ifndef OVC_DOMAIN_H
#define OVC_DOMAIN_H

#include "core/internal.h"
#include "policy/hints.h"

struct ovc_domain {
	struct ovc_domain *next;
	char name[64]; /* "": of one VM */
	uint32_t id;   /* above 0, never used again */
	unsigned vms;
	uint64_t salt;
	uint64_t zero_hash; /* of a page of zeros */

	struct ovc_hints hints;
	void *hints_memory;
	uint64_t covers; /* pages that the hints are made for */

	_Atomic uint64_t refs; /* to pages of the store */
	uint64_t stored;       /* pages of it */
};

/* The domain of that name, or a new one; NULL is a name that no other has. 0 or
 * -errno. */
int ovc_domain_join(struct ovc_host *host, const char *name,
		    struct ovc_domain **dp);
void ovc_domain_leave(struct ovc_host *host, struct ovc_domain **dp);

/* The hash of a page's bytes in a domain. [any], no lock */
uint64_t ovc_domain_hash(const struct ovc_domain *d, const void *page);

/* Makes room for hints of so many pages, if there is not enough; what is known of
 * guests' pages is forgotten then (*forgot). 0 or -errno. */
int ovc_domain_cover(struct ovc_host *host, struct ovc_domain *d,
		     uint64_t pages, bool *forgot);

/* The page of a guest of a domain (NULL: of any) that has this number; false if it is no more. */
bool ovc_domain_find(const struct ovc_host *host, const struct ovc_domain *d,
		     uint64_t number, struct ovc_region **rp, uint64_t *idx);

/* Drops a reference of a page of the VM. [any] */
void ovc_domain_unref(struct ovc_vm *vm, uint64_t page);

/* Frees pages of the store that nobody refers to. */
void ovc_domain_sweep(struct ovc_host *host);

#endif
