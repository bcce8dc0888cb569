/* SPDX-License-Identifier: MIT */
/*
 * What the tests of sharing have in common: a world that shares all the time, with a
 * second guest in it, contents that many pages have, and waiting for statistics.
 */
#ifndef KERNEL_SHARING_H
#define KERNEL_SHARING_H

#include "support.h"

#define NR ((uint64_t)1024) /* pages of each guest */

/* Which memory, and whether shared pages of it may be mapped. */
struct share_way {
	struct way way;
	bool mapped;
};

#define SHARE_WAYS 3
extern struct share_way share_ways[SHARE_WAYS];
const char *share_way_name(const struct share_way *s);

struct shared_world {
	struct world w; /* the first guest is its own */
	struct ovc_vm *other;
	char *mem; /* of the other one */
	int memfd;
};

/* Faults are tracked from the start; both guests are of one domain. Nothing is shared
 * before share_now(), so that nobody writes a page just when it is looked at. */
struct plan share_plan(const struct share_way *s);
void share_now(const struct world *w);
void shared_open(struct shared_world *s, struct plan plan);
void shared_close(struct shared_world *s, uint32_t flags);

/* One more guest, of a domain of its own for NULL. */
struct ovc_vm *add_guest(struct ovc_host *host, const struct plan *plan,
			 const char *domain, size_t len, char **mem,
			 int *memfd);

/* Page i gets content i % kinds; with kinds 0 all differ. */
void fill_common(char *mem, uint64_t idx, uint64_t nr, uint64_t kinds,
		 unsigned seed);
long check_common(const char *mem, uint64_t idx, uint64_t nr, uint64_t kinds,
		  unsigned seed);

/* Looks through memory without touching it. */
long read_common(struct ovc_vm *vm, const char *mem, uint64_t idx, uint64_t nr,
		 uint64_t kinds, unsigned seed);

/* Until all memory was looked at again, twice: what could be shared is. */
void wait_for_passes(const struct world *w);

/* Ten seconds for a condition to come true, more where all is slow. */
#define wait_for(condition)                                                  \
	do {                                                                 \
		for (int i_ = 0; i_ < 2000 * PATIENCE && !(condition); i_++) \
			usleep(5000);                                        \
		cr_assert(condition, "not after 10 s: " #condition);         \
	} while (0)

#endif
