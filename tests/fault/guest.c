/* SPDX-License-Identifier: MIT */
/*
 * Guest memory with a shadow. A touch that ends in SIGBUS (where the kernel has no
 * poison, SIGSEGV) is an outcome like others: the handler jumps back to the touch,
 * each thread to its own.
 */
#include "fault.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORDS (PAGE / 8)

static _Thread_local sigjmp_buf back;
static _Thread_local volatile sig_atomic_t touching;

static void on_bus_error(int sig)
{
	if (!touching) {
		signal(sig, SIG_DFL);
		raise(sig);
		return;
	}
	siglongjmp(back, 1);
}

void guest_init(void)
{
	/* SA_NODEFER, so that nobody has to restore the mask after the jump. */
	struct sigaction sa = { .sa_handler = on_bus_error,
				.sa_flags = SA_NODEFER };

	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
}

static uint64_t word_of(uint64_t tag, unsigned i)
{
	return tag ? (tag + i) * 0x9e3779b97f4a7c15u ^ tag : 0;
}

int guest_create(struct guest *g, size_t nr, bool memfd)
{
	int flags = memfd ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
	void *p;

	*g = (struct guest){ .nr = nr, .fd = -1 };
	if (memfd)
		g->fd = memfd_create("fault", MFD_CLOEXEC);
	if (memfd && (g->fd < 0 || ftruncate(g->fd, (off_t)(nr * PAGE))))
		return -errno;
	p = mmap(NULL, nr * PAGE, PROT_READ | PROT_WRITE, flags, g->fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	g->addr = p;
	g->tags = calloc(nr, sizeof(*g->tags));
	return g->tags ? 0 : -ENOMEM;
}

void guest_destroy(struct guest *g)
{
	munmap(g->addr, g->nr * PAGE);
	if (g->fd >= 0)
		close(g->fd);
	free(g->tags);
}

enum outcome guest_write(struct guest *g, size_t idx, uint64_t tag)
{
	volatile uint64_t *to = (void *)guest_page(g, idx);

	if (sigsetjmp(back, 0)) {
		touching = 0;
		return PAGE_LOST;
	}
	touching = 1;
	for (unsigned i = 0; i < WORDS; i++)
		to[i] = word_of(tag, i);
	touching = 0;
	g->tags[idx] = tag;
	return PAGE_GOOD;
}

bool guest_is(const struct guest *g, size_t idx, const void *bytes)
{
	const volatile uint64_t *of = bytes;

	for (unsigned i = 0; i < WORDS; i++)
		if (of[i] != word_of(g->tags[idx], i))
			return false;
	return true;
}

enum outcome guest_verify(const struct guest *g, size_t idx)
{
	bool same;

	if (sigsetjmp(back, 0)) {
		touching = 0;
		return PAGE_LOST;
	}
	touching = 1;
	same = guest_is(g, idx, guest_page(g, idx));
	touching = 0;
	return same ? PAGE_GOOD : PAGE_WRONG;
}
