/* SPDX-License-Identifier: MIT */
/*
 * Guest memory with a shadow: for each page a tag, from which all of its bytes
 * follow. A tag is read and changed, and what must know a page's bytes is done,
 * with the lock of the page's stripe held.
 */
#ifndef STRESS_SHADOW_H
#define STRESS_SHADOW_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE   ((size_t)4096)
#define STRIPE 64 /* pages */

/* Tags: 0 is the zero page; up to EQUAL_TAGS are pages with many equals. */
#define EQUAL_TAGS 128

struct shadow {
	bool memfd;
	int fd; /* -1: anonymous */
	char *addr;
	size_t nr; /* pages */
	uint64_t *tags;
	pthread_mutex_t *stripes;
	char name[32];
};

int shadow_create(struct shadow *s, const char *name, bool memfd, size_t nr);
void shadow_destroy(struct shadow *s);

void shadow_lock(struct shadow *s, size_t idx);
void shadow_unlock(struct shadow *s, size_t idx);

static inline char *shadow_page(const struct shadow *s, size_t idx)
{
	return s->addr + idx * PAGE;
}

/* Writes the whole page. Needs the stripe. */
void shadow_write(struct shadow *s, size_t idx, uint64_t tag);

/* Writes one word of the page as it should be already: what is known of the page
 * stays true, but it counts as written. Needs the stripe. */
void shadow_rewrite(struct shadow *s, size_t idx, unsigned word);

/* The bytes that a tag stands for, whoever has them. */
bool shadow_is(const char *page, uint64_t tag);

/* Compares all bytes, at the page or in a copy of it; prints what differs. Needs
 * the stripe. */
bool shadow_verify(const struct shadow *s, size_t idx);
bool shadow_verify_copy(const struct shadow *s, size_t idx, const char *copy);

/* Verifies every page, without locks. Returns how many are wrong. */
size_t shadow_verify_all(const struct shadow *s);

/* How many pages are not all zero. */
size_t shadow_nonzero(const struct shadow *s);

#endif
