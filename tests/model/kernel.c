/* SPDX-License-Identifier: MIT */
/*
 * What the kernel and the disk do, one atomic step each.
 *
 * A guest's touch of an absent page puts a message in the queue and the guest
 * to sleep; whatever wakes takes the message back if nobody read it.
 * UFFDIO_COPY and its like wake by themselves, but not when they fail.
 *
 * A write to the swap file reads its page at some time between the start and
 * the end. What it then reads of a memfd is what the page cache has, and where
 * it has nothing, a page of zeros that this very look allocates.
 */
#include <errno.h>

#include "actors.h"

void wake_all(struct state *s)
{
	for (unsigned g = 0; g < NR_GUESTS; g++)
		if (s->guest[g].is == QUEUED || s->guest[g].is == HANDED) {
			s->guest[g].is = WOKEN;
			tell("guest %u wakes", g);
		}
}

bool in_memfd(const struct state *s)
{
	return config.memfd && !s->laid;
}

static uint8_t bytes(const struct state *s)
{
	if (s->of_store)
		return s->stale ? GARBAGE : s->store_v;
	return in_memfd(s) ? s->cache_v : s->v;
}

/* A write to the store's page makes a private copy. */
static void set_bytes(struct state *s, unsigned v)
{
	s->of_store = 0;
	if (in_memfd(s))
		s->cache_v = v & 3;
	else
		s->v = v & 3;
}

static void touch(struct state *s, unsigned g, bool write)
{
	s->guest[g].is = RUNS;
	s->guest[g].write = 0;
	if (write) {
		s->truth = (s->truth + 1u) % config.versions;
		set_bytes(s, s->truth);
		s->wp = 0;
		tell("guest %u writes version %u", g, s->truth);
		return;
	}
	tell("guest %u reads version %u", g, bytes(s));
	if (bytes(s) != s->truth)
		violate("guest %u read version %u, but %u was written last", g,
			bytes(s), s->truth);
}

static void die_or_go_on(struct state *s, unsigned g)
{
	enum ovc_state is = ovc_word_state(s->word);

	tell("guest %u gets SIGBUS", g);
	s->guest[g].is = RUNS;
	s->guest[g].write = 0;
	if (is != OVC_POISONED && is != OVC_FILLING && is != OVC_DROPPING)
		violate("guest %u got SIGBUS for a page that is not lost", g);
}

/* Memory that is not registered yet: the kernel asks nobody. */
static void map_unasked(struct state *s)
{
	tell("the kernel maps what it has, and asks nobody");
	s->present = 1;
	s->of_store = s->laid;
	if (in_memfd(s) && !s->cached) {
		s->cached = 1;
		s->cache_v = 0;
	}
}

/* A guest that runs touches the page; one that was woken tries again. */
void guest_step(struct state *s, unsigned g)
{
	bool write = s->guest[g].is == WOKEN ? s->guest[g].write : choose(2);

	if (!s->present && s->unregistered)
		map_unasked(s);
	if (s->present) {
		touch(s, g, write);
	} else if (s->poison) {
		die_or_go_on(s, g);
	} else {
		s->guest[g].is = QUEUED;
		s->guest[g].write = write;
		tell("guest %u faults (%s) and sleeps", g,
		     write ? "write" : "read");
	}
}

/* The kernel may unmap a page of a file whenever it likes. */
bool kernel_unmaps(struct state *s)
{
	if (!config.unmaps || !s->present || !(in_memfd(s) || s->of_store))
		return false;
	s->present = s->of_store = 0;
	s->marker = s->wp;
	s->wp = 0;
	tell("the kernel unmaps the page, for reasons of its own");
	return true;
}

static void map(struct state *s, bool wp)
{
	s->present = 1;
	s->of_store = 0;
	s->wp = wp;
	s->marker = 0;
	wake_all(s);
}

/* UFFDIO_ZEROPAGE, or, for a write to private memory, UFFDIO_COPY; if there is
 * something already, UFFDIO_CONTINUE or a wake. Where the store is mapped, always
 * UFFDIO_COPY: what was protected and dropped has left a marker there, which is
 * something to UFFDIO_ZEROPAGE. */
int sys_zero(struct state *s, bool write)
{
	if (refused())
		return -ENOMEM;
	if (s->present) {
		tell("... the page is there already: only a wake");
		wake_all(s);
		return 0;
	}
	if (s->laid && s->marker && !write && broken(ZERO_OVER_MARKER)) {
		tell("... a marker is there already: only a wake");
		wake_all(s);
		return 0;
	}
	if (in_memfd(s) && s->cached) {
		tell("... maps what the page cache has");
	} else {
		if (in_memfd(s)) {
			s->cached = 1;
			s->cache_v = 0;
		}
		s->v = 0;
		tell("... maps zeros");
	}
	map(s, false);
	return 0;
}

/* UFFDIO_COPY of version v. */
int sys_fill(struct state *s, unsigned v, bool wp)
{
	if (refused())
		return -ENOMEM;
	if (s->present || (in_memfd(s) && s->cached)) {
		tell("... UFFDIO_COPY fails: a page is there already");
		return -EEXIST;
	}
	if (in_memfd(s)) {
		s->cached = 1;
		s->cache_v = v & 3;
	} else {
		s->v = v & 3;
	}
	tell("... maps version %u%s", v, wp ? ", write-protected" : "");
	map(s, wp);
	return 0;
}

int sys_put_back(struct state *s, unsigned pos, bool wp)
{
	if (s->laid && broken(LAID_CONTINUE))
		return sys_continue(s);
	/* What is held back is no memory of the guest's: it is copied, also to a
	 * page that there should not be. */
	if (pos == HOLD && in_memfd(s) && s->cached)
		s->cache_v = s->entry[pos].v;
	else if (!in_memfd(s) || pos == HOLD)
		return sys_fill(s, s->entry[pos].v, wp);
	if (refused())
		return -ENOMEM;
	if (!s->cached) {
		tell("... UFFDIO_CONTINUE fails: the page cache has nothing");
		return -EFAULT;
	}
	if (s->present) {
		tell("... the page is there already: only a wake");
		wake_all(s);
		return 0;
	}
	tell("... maps version %u again%s", s->cache_v,
	     wp ? ", write-protected" : "");
	map(s, wp);
	return 0;
}

/* UFFDIO_MOVE to the ring's window; MADV_DONTNEED. */
int sys_take(struct state *s, unsigned pos)
{
	if (refused())
		return -EBUSY;
	if (config.memfd) {
		if (s->present)
			s->marker = s->wp;
		s->present = s->of_store = s->wp = 0;
		tell("... unmaps the page");
		return 0;
	}
	if (!s->present) {
		tell("... finds nothing to move");
		return -ENOENT;
	}
	s->entry[pos].v = s->v;
	s->present = s->wp = 0;
	s->v = 0;
	tell("... moves version %u to ring position %u", s->entry[pos].v, pos);
	return 0;
}

static void punch(struct state *s)
{
	s->cached = s->cache_v = 0;
	if (in_memfd(s))
		s->present = s->wp = 0;
}

void sys_drop(struct state *s, unsigned pos)
{
	if (s->entry[pos].frame)
		return; /* frames go with the ring's window */
	punch(s);
	tell("... punches the page out of the memfd");
}

void sys_discard(struct state *s)
{
	if (in_memfd(s))
		punch(s);
	s->marker = s->laid && (s->marker || s->wp);
	s->present = s->of_store = s->wp = s->poison = 0;
	s->v = 0;
	s->truth = 0;
	tell("... the guest's page is gone");
}

/* Only an absent page can be poisoned. */
void sys_poison(struct state *s)
{
	tell("... poisons it");
	if (s->present)
		return;
	s->poison = 1;
	wake_all(s);
}

unsigned sys_view(struct state *s, unsigned pos)
{
	if (s->entry[pos].frame || is_hold(pos))
		return s->entry[pos].v;
	if (!s->cached) {
		tell("... (this look allocates a page of zeros)");
		s->cached = 1;
		s->cache_v = 0;
	}
	return s->cache_v;
}

void sys_erase(struct state *s, unsigned pos)
{
	sys_view(s, pos);
	if (s->entry[pos].frame || is_hold(pos))
		s->entry[pos].v = 0;
	else
		s->cache_v = 0;
}

/* The disk takes the bytes of a write in flight. */
bool disk_step(struct state *s, unsigned pos)
{
	struct entry *e = &s->entry[pos];

	if (e->busy != 1)
		return false;
	e->busy = 2;
	s->slot[e->wslot].v = sys_view(s, pos) & 3;
	tell("the disk takes version %u for slot %u", s->slot[e->wslot].v,
	     e->wslot);
	return true;
}

void slot_free(struct state *s, unsigned slot)
{
	tell("... slot %u is free", slot);
	if (!s->slot[slot].taken)
		violate("slot %u was freed twice", slot);
	s->slot[slot] = (struct slot){ .v = GARBAGE };
}

unsigned slot_take(struct state *s)
{
	for (unsigned i = 0; i < config.slots; i++)
		if (!s->slot[i].taken) {
			s->slot[i].taken = 1;
			return i;
		}
	return NONE;
}

unsigned slot_read(struct state *s, unsigned slot)
{
	if (!s->slot[slot].taken)
		violate("slot %u was read, but is free", slot);
	return s->slot[slot].v;
}
