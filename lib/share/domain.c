/* SPDX-License-Identifier: MIT */
/*
 * Sharing domains. A VM joins one when it is created and leaves it when it goes; the
 * last one takes the hints along. Pages of the store that a domain leaves behind have
 * no reference any more, and go with the next sweep.
 *
 * The hash is XXH3-128 with the domain's salt as seed, folded to 64 bits: a hint is
 * compared byte by byte before anything comes of it, so that more bits would only
 * cost memory.
 */
#include "share/domain.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/budget.h"
#include "core/map.h"
#include "core/meta.h"
#include "store/shared.h"
#include "sys/hash.h"
#include "sys/random.h"

uint64_t ovc_domain_hash(const struct ovc_domain *d, const void *page)
{
#ifdef OVC_WEAK_HASH /* a test wants collisions */
	return ovc_hash_salted(page, 8, d->salt) & 7;
#else
	return ovc_hash_salted(page, OVC_PAGE, d->salt);
#endif
}

int ovc_domain_join(struct ovc_host *host, const char *name,
		    struct ovc_domain **dp)
{
	static const char zeros[OVC_PAGE];
	struct ovc_domain *d;
	int error;

	for (d = host->domains; name && d; d = d->next)
		if (!strcmp(d->name, name))
			break;
	if (name && d) {
		d->vms++;
		*dp = d;
		return 0;
	}
	d = ovc_meta_zalloc(sizeof(*d));
	if (!d)
		return -ENOMEM;
	error = ovc_random(&d->salt, sizeof(d->salt));
	if (error) {
		ovc_meta_free(d);
		return error;
	}
	snprintf(d->name, sizeof(d->name), "%s", name ? name : "");
	d->id = ++host->next_domain;
	d->vms = 1;
	d->zero_hash = ovc_domain_hash(d, zeros);
	d->next = host->domains;
	host->domains = d;
	*dp = d;
	return 0;
}

static void drop_hints(struct ovc_host *host, struct ovc_domain *d)
{
	if (!d->hints_memory)
		return;
	atomic_fetch_sub(&host->tables, ovc_hints_bytes(d->covers));
	ovc_pages_release(d->hints_memory, ovc_hints_bytes(d->covers));
	d->hints_memory = NULL;
	d->covers = 0;
}

void ovc_domain_leave(struct ovc_host *host, struct ovc_domain **dp)
{
	struct ovc_domain *d = *dp, **at = &host->domains;

	*dp = NULL;
	if (!d || --d->vms)
		return;
	ovc_domain_sweep(host);
	drop_hints(host, d);
	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	ovc_meta_free(d);
}

static void note_stored(void *arg, uint64_t page, uint64_t hash)
{
	struct ovc_domain *d = arg;

	ovc_hints_note(&d->hints, hash, OVC_HINT_STORE | page);
}

int ovc_domain_cover(struct ovc_host *host, struct ovc_domain *d,
		     uint64_t pages, bool *forgot)
{
	void *memory;
	int error;

	*forgot = false;
	if (d->hints_memory && pages <= d->covers)
		return 0;
	error = ovc_pages_reserve(ovc_hints_bytes(pages), &memory);
	if (error)
		return error;
	drop_hints(host, d);
	d->hints_memory = memory;
	d->covers = pages;
	ovc_hints_init(&d->hints, memory, pages);
	/* It is soon touched everywhere. */
	atomic_fetch_add(&host->tables, ovc_hints_bytes(pages));
	if (host->store)
		ovc_shared_each(host->store, d->id, note_stored, d);
	*forgot = true;
	return 0;
}

bool ovc_domain_find(const struct ovc_host *host, const struct ovc_domain *d,
		     uint64_t number, struct ovc_region **rp, uint64_t *idx)
{
	struct ovc_region *r =
		ovc_map_find_number(atomic_load(&host->map), number);

	if (!r || (d && r->vm->domain != d))
		return false;
	*rp = r;
	*idx = number - r->number;
	return true;
}

void ovc_domain_unref(struct ovc_vm *vm, uint64_t page)
{
	ovc_shared_unref(vm->host->store, page);
	atomic_fetch_sub(&vm->domain->refs, 1);
}

static void swept(void *arg, uint32_t id, uint64_t nr)
{
	struct ovc_host *host = arg;

	ovc_uncharge(host, nr);
	for (struct ovc_domain *d = host->domains; d; d = d->next)
		if (d->id == id)
			d->stored -= nr;
}

void ovc_domain_sweep(struct ovc_host *host)
{
	if (host->store)
		ovc_shared_sweep(host->store, swept, host);
}
