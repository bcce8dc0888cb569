/* SPDX-License-Identifier: MIT */
/*
 * Pages and what should be in them. A page's first word is its tag and the others
 * are a mix of tag and place, so that a wrong page tells what it is: an older
 * version, another page, zeros, or torn between two.
 */
#include "shadow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORDS (PAGE / 8)

static uint64_t word_of(uint64_t tag, unsigned i)
{
	if (!tag || !i)
		return tag;
	return (tag + i) * 0x9e3779b97f4a7c15u ^ (tag >> 29);
}

int shadow_create(struct shadow *s, const char *name, bool memfd, size_t nr)
{
	size_t stripes = (nr + STRIPE - 1) / STRIPE;
	void *addr;

	memset(s, 0, sizeof(*s));
	snprintf(s->name, sizeof(s->name), "%s", name);
	s->memfd = memfd;
	s->nr = nr;
	s->fd = memfd ? memfd_create(name, MFD_CLOEXEC) : -1;
	if (memfd && (s->fd < 0 || ftruncate(s->fd, (off_t)(nr * PAGE))))
		return -errno;
	addr = mmap(NULL, nr * PAGE, PROT_READ | PROT_WRITE,
		    memfd ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, s->fd, 0);
	if (addr == MAP_FAILED)
		return -errno;
	s->addr = addr;
	s->tags = calloc(nr, sizeof(*s->tags));
	s->stripes = calloc(stripes, sizeof(*s->stripes));
	if (!s->tags || !s->stripes)
		return -ENOMEM;
	for (size_t i = 0; i < stripes; i++)
		pthread_mutex_init(&s->stripes[i], NULL);
	return 0;
}

void shadow_destroy(struct shadow *s)
{
	munmap(s->addr, s->nr * PAGE);
	if (s->fd >= 0)
		close(s->fd);
	for (size_t i = 0; i < (s->nr + STRIPE - 1) / STRIPE; i++)
		pthread_mutex_destroy(&s->stripes[i]);
	free(s->stripes);
	free(s->tags);
}

void shadow_lock(struct shadow *s, size_t idx)
{
	pthread_mutex_lock(&s->stripes[idx / STRIPE]);
}

void shadow_unlock(struct shadow *s, size_t idx)
{
	pthread_mutex_unlock(&s->stripes[idx / STRIPE]);
}

void shadow_write(struct shadow *s, size_t idx, uint64_t tag)
{
	uint64_t *to = (void *)shadow_page(s, idx);

	s->tags[idx] = tag;
	for (unsigned i = 0; i < WORDS; i++)
		to[i] = word_of(tag, i);
}

void shadow_rewrite(struct shadow *s, size_t idx, unsigned word)
{
	volatile uint64_t *to = (void *)shadow_page(s, idx);

	to[word % WORDS] = word_of(s->tags[idx], word % WORDS);
}

bool shadow_is(const char *page, uint64_t tag)
{
	const uint64_t *words = (const void *)page;

	for (unsigned i = 0; i < WORDS; i++)
		if (words[i] != word_of(tag, i))
			return false;
	return true;
}

static bool complain(const struct shadow *s, size_t idx, const uint64_t *page,
		     unsigned bad)
{
	unsigned wrong = 0, zero = 0;

	for (unsigned i = 0; i < WORDS; i++) {
		wrong += page[i] != word_of(s->tags[idx], i);
		zero += !page[i];
	}
	fprintf(stderr,
		"stress: LOST BYTES: %s page %zu (%p): tag %#llx expected, "
		"first word %#llx; first wrong word %u is %#llx; %u of %zu "
		"words are wrong, %u are zero\n",
		s->name, idx, (void *)shadow_page(s, idx),
		(unsigned long long)s->tags[idx], (unsigned long long)page[0],
		bad, (unsigned long long)page[bad], wrong, WORDS, zero);
	return false;
}

bool shadow_verify_copy(const struct shadow *s, size_t idx, const char *copy)
{
	const uint64_t *page = (const void *)copy;
	uint64_t tag = s->tags[idx];

	for (unsigned i = 0; i < WORDS; i++)
		if (page[i] != word_of(tag, i))
			return complain(s, idx, page, i);
	return true;
}

bool shadow_verify(const struct shadow *s, size_t idx)
{
	return shadow_verify_copy(s, idx, shadow_page(s, idx));
}

size_t shadow_verify_all(const struct shadow *s)
{
	size_t wrong = 0;

	for (size_t i = 0; i < s->nr; i++)
		wrong += !shadow_verify(s, i);
	return wrong;
}

size_t shadow_nonzero(const struct shadow *s)
{
	size_t nr = 0;

	for (size_t i = 0; i < s->nr; i++)
		nr += s->tags[i] != 0;
	return nr;
}
