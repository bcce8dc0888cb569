/* SPDX-License-Identifier: MIT */
/*
 * The balloon's driver: the target, and what the guest says of itself.
 *
 * The target is the larger of what the policy wants and what the VMM asked for, within the
 * cap. Who polls for it clears the descriptor before reading, so that no change is
 * missed. A guest out of memory lowers all three at once.
 *
 * Drivers say what their balloon holds now and then: some after each buffer, and when
 * they go only at the end. Until they say it again after a deflation it is not known, so
 * that nobody is taken for a liar who is on his way. Statistics may come before there is a
 * driver: Linux sends the first before it says that it is ready.
 *
 * When the driver goes, so does the balloon: its frames are the guest's, as empty as
 * they are. Nothing here fails but the making of the descriptor.
 */
#include "balloon/balloon.h"

#include <errno.h>
#include <string.h>

#include "balloon/frames.h"
#include "core/control.h"
#include "sys/thread.h"

#define CAP	    65 /* percent */
#define ROUND_UP(x) (((x) + OVC_PAGE - 1) & ~(OVC_PAGE - 1))

/* ---- the target --------------------------------------------------------------- */

static uint64_t most(const struct ovc_vm *vm)
{
	return atomic_load(&vm->configured) * vm->balloon.cap / 100 * OVC_PAGE;
}

/* Needs the lock. */
static void settle_target(struct ovc_vm *vm)
{
	struct ovc_vm_balloon *b = &vm->balloon;
	uint64_t target = b->wanted > b->asked ? b->wanted : b->asked;

	if (target > most(vm))
		target = most(vm);
	target = b->driver ? target & ~(OVC_PAGE - 1) : 0;
	if (atomic_exchange(&b->target, target) != target && b->fd >= 0)
		ovc_notify_post(b->fd);
}

void ovc_balloon_set_target(struct ovc_vm *vm, uint64_t bytes)
{
	struct ovc_vm_balloon *b = &vm->balloon;

	pthread_mutex_lock(&b->lock);
	if (b->driver)
		b->wanted = bytes;
	settle_target(vm);
	pthread_mutex_unlock(&b->lock);
}

static int no_driver(const char *what, const struct ovc_vm *vm)
{
	return ovc_fail(-ENODEV,
			"%s: the guest of %s has no balloon driver; say so "
			"with ovc_vm_balloon_set() when it has",
			what, vm->name);
}

int ovc_balloon_ask(struct ovc_vm *vm, uint64_t bytes)
{
	struct ovc_vm_balloon *b = &vm->balloon;
	uint64_t cap;
	bool driver;

	pthread_mutex_lock(&b->lock);
	driver = b->driver;
	cap = most(vm);
	if (driver && bytes <= cap) {
		b->asked = bytes;
		settle_target(vm);
	}
	pthread_mutex_unlock(&b->lock);
	if (!driver)
		return no_driver("balloon_ask", vm);
	if (bytes > cap)
		return ovc_fail(-EINVAL,
				"balloon_ask: %llu bytes are more than the "
				"balloon's cap of %llu",
				(unsigned long long)bytes,
				(unsigned long long)cap);
	return 0;
}

uint64_t ovc_balloon_target(struct ovc_vm *vm)
{
	struct ovc_vm_balloon *b = &vm->balloon;
	uint64_t target;

	pthread_mutex_lock(&b->lock);
	if (b->fd >= 0)
		ovc_notify_clear(b->fd);
	target = atomic_load(&b->target);
	pthread_mutex_unlock(&b->lock);
	return target;
}

int ovc_balloon_fd(struct ovc_vm *vm)
{
	struct ovc_vm_balloon *b = &vm->balloon;
	int fd;

	pthread_mutex_lock(&b->lock);
	if (b->fd < 0) {
		b->fd = ovc_notify_create();
		/* A target that was set before is news, too. */
		if (b->fd >= 0 && atomic_load(&b->target))
			ovc_notify_post(b->fd);
	}
	fd = b->fd;
	pthread_mutex_unlock(&b->lock);
	if (fd < 0)
		return ovc_fail(fd, "balloon_fd: no eventfd: %s",
				strerror(-fd));
	return fd;
}

int ovc_balloon_oom(struct ovc_vm *vm, uint64_t bytes, uint64_t *pages)
{
	struct ovc_vm_balloon *b = &vm->balloon;
	uint64_t held = atomic_load(&b->held) * OVC_PAGE, left;
	bool driver, on_oom;

	bytes = bytes < held ? ROUND_UP(bytes) : held;
	left = held - bytes;
	pthread_mutex_lock(&b->lock);
	driver = b->driver;
	on_oom = b->on_oom;
	if (driver && on_oom) {
		b->wanted = b->wanted < left ? b->wanted : left;
		b->asked = b->asked < left ? b->asked : left;
		settle_target(vm);
	}
	pthread_mutex_unlock(&b->lock);
	if (!driver)
		return no_driver("balloon_oom", vm);
	if (!on_oom)
		return ovc_fail(-ENOTSUP, "balloon_oom: deflate on OOM was "
					  "not negotiated; see "
					  "OVC_BALLOON_DEFLATE_ON_OOM");
	*pages = bytes / OVC_PAGE;
	return 0;
}

/* ---- the driver ----------------------------------------------------------------- */

static void forget_guest(struct ovc_vm_balloon *b)
{
	for (size_t i = 0; i < OVC_BALLOON_S_ALL; i++)
		b->guest[i] = OVC_UNKNOWN;
}

void ovc_balloon_init(struct ovc_vm *vm)
{
	struct ovc_vm_balloon *b = &vm->balloon;

	pthread_mutex_init(&b->lock, NULL);
	b->fd = -1;
	b->cap = CAP;
	forget_guest(b);
}

void ovc_balloon_end(struct ovc_vm *vm)
{
	ovc_fd_close(vm->balloon.fd);
	pthread_mutex_destroy(&vm->balloon.lock);
}

void ovc_balloon_set(struct ovc_vm *vm, const struct ovc_balloon_options *o)
{
	struct ovc_vm_balloon *b = &vm->balloon;

	pthread_mutex_lock(&b->lock);
	b->driver = o->flags & OVC_BALLOON_DRIVER;
	b->on_oom = o->flags & OVC_BALLOON_DEFLATE_ON_OOM;
	b->cap = o->cap ? o->cap : CAP;
	if (!b->driver) {
		b->wanted = b->asked = 0;
		atomic_store(&b->reached, 0);
		atomic_store(&b->stale, false);
		forget_guest(b);
	}
	settle_target(vm);
	pthread_mutex_unlock(&b->lock);
	if (o->flags & OVC_BALLOON_DRIVER)
		return;
	ovc_control_lock(vm->host);
	for (unsigned i = 0; i < vm->nr_regions; i++)
		ovc_frames_forget(vm->regions[i]);
	ovc_control_unlock(vm->host);
}

int ovc_balloon_reached(struct ovc_vm *vm, uint64_t bytes)
{
	struct ovc_vm_balloon *b = &vm->balloon;
	bool driver;

	pthread_mutex_lock(&b->lock);
	driver = b->driver;
	if (driver) {
		atomic_store(&b->reached, bytes);
		atomic_store(&b->stale, false);
	}
	pthread_mutex_unlock(&b->lock);
	return driver ? 0 : no_driver("balloon_reached", vm);
}

/* ---- what the guest says of itself ------------------------------------------------ */

static int check_guest(const uint64_t *guest)
{
	static const struct {
		uint16_t tag;
		const char *name;
	} parts[] = {
		{ OVC_BALLOON_S_MEMFREE, "free" },
		{ OVC_BALLOON_S_AVAIL, "available" },
		{ OVC_BALLOON_S_CACHES, "cached" },
	};
	uint64_t total = guest[OVC_BALLOON_S_MEMTOT];

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		uint64_t part = guest[parts[i].tag];

		if (part != OVC_UNKNOWN && total != OVC_UNKNOWN && part > total)
			return ovc_fail(-EINVAL,
					"balloon_stats: the guest has %llu "
					"bytes %s of %llu in all, which cannot "
					"be; all of it is left out",
					(unsigned long long)part, parts[i].name,
					(unsigned long long)total);
	}
	return 0;
}

int ovc_balloon_guest_stats(struct ovc_vm *vm,
			    const struct ovc_balloon_stat *stats, size_t nr)
{
	struct ovc_vm_balloon *b = &vm->balloon;
	uint64_t guest[OVC_BALLOON_S_ALL];
	int error;

	pthread_mutex_lock(&b->lock);
	memcpy(guest, b->guest, sizeof(guest));
	for (size_t i = 0; i < nr; i++)
		if (stats[i].tag < OVC_BALLOON_S_ALL)
			guest[stats[i].tag] = stats[i].value;
	error = check_guest(guest);
	if (!error)
		memcpy(b->guest, guest, sizeof(guest));
	pthread_mutex_unlock(&b->lock);
	return error;
}

void ovc_balloon_tell(struct ovc_vm *vm, struct ovc_policy_vm *to)
{
	struct ovc_vm_balloon *b = &vm->balloon;

	pthread_mutex_lock(&b->lock);
	to->flags |= b->driver ? OVC_POLICY_VM_BALLOON : 0;
	to->ballooned = atomic_load(&b->held) * OVC_PAGE;
	/* Its own: what the VMM asked for is no wish of the policy's, which would
	 * keep it when the VMM has taken it back. */
	to->balloon_target = b->wanted;
	to->balloon_reached = atomic_load(&b->stale) ? OVC_POLICY_UNKNOWN :
						       atomic_load(&b->reached);
	to->guest_free = b->guest[OVC_BALLOON_S_MEMFREE];
	to->guest_available = b->guest[OVC_BALLOON_S_AVAIL];
	to->guest_total = b->guest[OVC_BALLOON_S_MEMTOT];
	pthread_mutex_unlock(&b->lock);
}

void ovc_balloon_fill_stats(struct ovc_vm *vm, struct ovc_vm_stats *s)
{
	struct ovc_vm_balloon *b = &vm->balloon;

	s->ballooned = atomic_load(&b->held) * OVC_PAGE;
	s->balloon_target = atomic_load(&b->target);
	s->balloon_reached = atomic_load(&b->reached);
	s->inflated_bytes = atomic_load(&b->inflated) * OVC_PAGE;
	s->deflated_bytes = atomic_load(&b->deflated) * OVC_PAGE;
	s->deflated_by_touch = atomic_load(&b->touched) * OVC_PAGE;
	s->reported_bytes = atomic_load(&b->reported) * OVC_PAGE;
	s->balloon_refused = atomic_load(&b->refused);
	s->huge_broken = atomic_load(&b->huge);
	pthread_mutex_lock(&b->lock);
	memcpy(s->guest, b->guest, sizeof(s->guest));
	memcpy(s->guest_more, b->guest + OVC_BALLOON_S_NR,
	       sizeof(s->guest_more));
	pthread_mutex_unlock(&b->lock);
}
