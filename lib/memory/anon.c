/* SPDX-License-Identifier: MIT */
/*
 * Private anonymous memory.
 *
 * Staging moves the page tables' entries into the ring's window; no byte is
 * copied. UFFDIO_MOVE does it for runs of pages; before Linux 6.8 (or where it is
 * switched off) mremap with MREMAP_DONTUNMAP does, which leaves a mapping for each
 * run in the window, so that the window is mapped anew when it is released.
 *
 * Clean pages: the written bits are asked for before the move, since the move loses
 * them. A write that falls between the two makes the bytes differ from the slot's,
 * which settle.c finds by the slot's checksum: it looks at every staged page that
 * it takes for clean. Both must agree before a write is spared.
 *
 * Failures: a page that the kernel will not move (pinned for direct I/O: EBUSY)
 * stays with the guest and says so; pages around it are moved. Where one after the other
 * is refused, the next ones are taken for refused, too, without being tried: twice as
 * many each time, so that a run of which nothing moves takes a few calls. A run that lies
 * in two mappings is refused as a whole (EINVAL), and tried in halves. Linux 6.18 says EEXIST
 * of pages that it moved where something made it try twice (it forgets to go on to
 * the next page, and finds the place taken by the first try). No place in the window
 * is taken before, so that the guest's page table says what happened.
 *
 * A put back copies. To move would spare the copy and a frame until the window is
 * released, but costs more than the copy while other CPUs run the guest, for the
 * flush of their TLBs, and could not be write-protected in one step.
 */
#include "memory/memory.h"

#include <errno.h>

static size_t run_length(const struct ovc_taken *t, size_t nr)
{
	size_t n = 1;

	while (n < nr && t[n].idx == t[0].idx + n && t[n].pos == t[0].pos + n)
		n++;
	return n;
}

static int move(struct ovc_region *r, const struct ovc_taken *t, size_t nr,
		size_t *moved)
{
	struct ovc_host *host = r->vm->host;
	char *from = ovc_page_addr(r, t->idx);
	char *to = ovc_private_view(r, t->idx, t->pos);
	size_t bytes = 0;
	int error;

	if (host->staging.window_registered) {
		error = ovc_uffd_move(host->uffd, to, from, nr * OVC_PAGE,
				      &bytes);
	} else {
		error = ovc_pages_move_away(from, to, nr * OVC_PAGE);
		bytes = error ? 0 : nr * OVC_PAGE;
	}
	*moved = bytes / OVC_PAGE;
	return error;
}

/* Did it go, whatever was said? */
static bool is_gone(struct ovc_region *r, uint64_t idx)
{
	uint8_t bits;

	return !ovc_pagemap_get(&r->vm->host->pagemap, ovc_page_addr(r, idx), 1,
				&bits) &&
	       !bits;
}

/* How the moves of a chunk go: see stage(). */
struct progress {
	size_t most;	/* pages that are tried at once */
	unsigned fails; /* one after the other, nothing moved in between */
};

/*
 * Of a run of pages, of which some were tried, the first was refused. Returns how many to
 * pass by, with their errors set; 0: fewer are to be tried.
 */
static size_t pass_by(struct ovc_region *r, struct ovc_taken *t, size_t run,
		      size_t tried, int error, struct progress *p)
{
	size_t skip;

	/* Is the end of a mapping among them? The one call says EINVAL then, mremap
	 * EFAULT. */
	if ((error == -EINVAL || error == -EFAULT) && tried > 1) {
		p->most = tried / 2;
		return 0;
	}
	if (error == -EEXIST && is_gone(r, t->idx))
		error = 0;
	t->error = error;
	if (!error || error == -ENOENT)
		return 1;
	skip = (size_t)1 << (p->fails < 6 ? p->fails : 6);
	p->fails++;
	skip = skip < run ? skip : run;
	for (size_t k = 1; k < skip; k++)
		t[k].error = error;
	return skip;
}

static void stage(struct ovc_region *r, struct ovc_taken *t, size_t nr)
{
	struct progress p = { .most = nr };

	/* Not clean any more: what was written since it got its slot. */
	ovc_memory_ask_clean(r, t, nr, OVC_PAGES_WRITTEN, 0);
	for (size_t i = 0; i < nr;) {
		size_t run = run_length(t + i, nr - i), n, moved;
		int error;

		n = run < p.most ? run : p.most;
		error = move(r, t + i, n, &moved);
		for (size_t k = 0; k < moved; k++)
			t[i + k].error = 0;
		i += moved;
		if (moved) {
			p.fails = 0;
			p.most = 2 * p.most < nr ? 2 * p.most : nr;
		}
		if (error)
			i += pass_by(r, t + i, run - moved, n - moved, error,
				     &p);
	}
}

/*
 * A read gets the kernel's zero page, which costs nothing until written; a write
 * gets a frame at once, for it would fault again otherwise.
 */
static int zero(struct ovc_region *r, uint64_t idx, uint64_t nr, bool write)
{
	struct ovc_host *host = r->vm->host;
	char *addr = ovc_page_addr(r, idx);
	int error = 0, fd = ovc_memory_uffd(r, idx);

	while (nr && !error) {
		size_t done;

		if (write)
			error = ovc_uffd_copy(fd, addr, host->zeros,
					      nr * OVC_PAGE, false, &done);
		else
			error = ovc_uffd_zeropage(fd, addr, nr * OVC_PAGE,
						  &done);
		if (error == -EEXIST) { /* there already: wake and go on */
			ovc_uffd_wake(fd, addr + done, OVC_PAGE);
			done += OVC_PAGE;
			error = 0;
		}
		addr += done;
		nr -= done / OVC_PAGE;
	}
	return error;
}

const struct ovc_memory ovc_memory_anon = {
	.name = "anon",
	.stage = stage,
	.view = ovc_private_view,
	.put_back = ovc_private_put_back,
	.drop = ovc_private_drop,
	.zero = zero,
	.discard = ovc_private_discard,
	.poison = ovc_memory_poison,
	.present = ovc_memory_look,
	.read = ovc_private_read,
	.frames_in_window = true,
};
