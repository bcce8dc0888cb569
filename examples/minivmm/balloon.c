/* SPDX-License-Identifier: MIT */
/*
 * The balloon device: it hands what the guest's driver sends to the library, and
 * the library's target to the driver. docs/balloon.md has the same for a real
 * virtio-balloon; here each vCPU has a driver of its own for the memory that it
 * looks after, and the device adds them up.
 *
 * Requests are handled by the vCPU that rings. Targets come at any time: a thread
 * for each VM waits for them, as a VMM's event loop would.
 *
 * What the driver sends is copied before it is looked at, since the guest could
 * change it meanwhile, and not checked: the library does that.
 */
#include <endian.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "vmm.h"

#define POLL_MS 100 /* until the thread looks whether it is to end */

uint64_t balloon_target(const struct vcpu *vcpu)
{
	uint64_t target = vcpu->vm->target;

	return target * (vcpu->id + 1) / vmm.vcpus -
	       target * vcpu->id / vmm.vcpus;
}

static void *device_thread(void *opaque)
{
	struct vm *vm = opaque;
	struct pollfd pollfd = { .fd = ovc_vm_balloon_fd(vm->ovc),
				 .events = POLLIN };
	uint64_t bytes;

	while (vm->has_device) {
		if (poll(&pollfd, 1, POLL_MS) <= 0)
			continue;
		if (!ovc_vm_balloon_target(vm->ovc, &bytes))
			vm->target = (unsigned)(bytes / OVC_PAGE_SIZE);
	}
	return NULL;
}

void balloon_create(struct vm *vm)
{
	if (!vmm.balloon)
		return;
	vm->has_device = true;
	if (!pthread_create(&vm->device, NULL, device_thread, vm))
		return;
	say(vm->name, "its balloon device has no thread");
	vm->has_device = false;
}

void balloon_reset(struct vm *vm)
{
	if (vm->has_device)
		ovc_vm_balloon_set(vm->ovc, NULL);
}

void balloon_destroy(struct vm *vm)
{
	if (!vm->has_device)
		return;
	vm->has_device = false;
	pthread_join(vm->device, NULL);
}

/* ---- Requests -------------------------------------------------------------- */

static void donated(struct vcpu *vcpu, int error, const struct ovc_donation *d)
{
	vcpu->vm->given += d->freed;
	if (error)
		say(vcpu->vm->name, "%s", ovc_error());
}

static void inflate(struct vcpu *vcpu, const struct balloon_buffer *b)
{
	struct ovc_donation d = { .size = sizeof(d) };

	donated(vcpu,
		ovc_vm_balloon_inflate(vcpu->vm->ovc, b->frame, b->nr, &d), &d);
}

static void report(struct vcpu *vcpu, const struct balloon_buffer *b)
{
	struct ovc_range range[BALLOON_FRAMES];
	struct ovc_donation d = { .size = sizeof(d) };
	uint32_t i;

	for (i = 0; i < b->nr; i++) {
		range[i].addr = vcpu->vm->memory +
				(uint64_t)b->frame[i] * OVC_PAGE_SIZE;
		range[i].len = REPORT_FRAMES * OVC_PAGE_SIZE;
	}
	donated(vcpu, ovc_vm_balloon_report(vcpu->vm->ovc, range, b->nr, &d),
		&d);
}

/* All parts of the balloon together. */
static uint64_t actual(struct vm *vm)
{
	uint64_t sum = 0;

	pthread_mutex_lock(&vm->lock);
	for (unsigned i = 0; i < vmm.vcpus; i++)
		sum += vm->vcpus[i].actual;
	pthread_mutex_unlock(&vm->lock);
	return sum;
}

static void deflate(struct vcpu *vcpu, const struct balloon_buffer *b)
{
	struct vm *vm = vcpu->vm;
	uint64_t pages;

	/* Nobody asked for that: the guest is out of memory. */
	if (actual(vm) <= vm->target)
		ovc_vm_balloon_oom(vm->ovc, (uint64_t)b->nr * OVC_PAGE_SIZE,
				   &pages);
	ovc_vm_balloon_deflate(vm->ovc, b->frame, b->nr, NULL);
}

static void statistics(struct vcpu *vcpu, const struct balloon_buffer *b)
{
	struct ovc_balloon_stat stat[OVC_BALLOON_S_ALL];
	struct vm *vm = vcpu->vm;
	unsigned i, j, nr = 0;

	pthread_mutex_lock(&vm->lock);
	for (i = 0; i < b->nr && i < BALLOON_STATS; i++) {
		uint64_t tag = b->statistic[i].tag;

		if (tag >= OVC_BALLOON_S_ALL)
			continue;
		vcpu->statistic[tag] = b->statistic[i].value;
		stat[nr].tag = (uint16_t)tag;
		stat[nr].value = 0;
		for (j = 0; j < vmm.vcpus; j++)
			stat[nr].value += vm->vcpus[j].statistic[tag];
		nr++;
	}
	pthread_mutex_unlock(&vm->lock);
	if (ovc_vm_balloon_stats(vm->ovc, stat, nr))
		say(vm->name, "%s", ovc_error());
}

static void handle(struct vcpu *vcpu, const struct balloon_buffer *b)
{
	if (b->request == BALLOON_INFLATE)
		inflate(vcpu, b);
	else if (b->request == BALLOON_DEFLATE)
		deflate(vcpu, b);
	else if (b->request == BALLOON_REPORT)
		report(vcpu, b);
	else if (b->request == BALLOON_STATISTICS)
		statistics(vcpu, b);
}

/* The library is told of a driver when all vCPUs have theirs. */
static void driver_ready(struct vcpu *vcpu)
{
	struct ovc_balloon_options options = {
		.size = sizeof(options),
		.flags = OVC_BALLOON_DRIVER | OVC_BALLOON_DEFLATE_ON_OOM,
	};
	struct vm *vm = vcpu->vm;
	bool all = !vcpu->driver;

	pthread_mutex_lock(&vm->lock);
	vcpu->driver = true;
	for (unsigned i = 0; i < vmm.vcpus; i++)
		all = all && vm->vcpus[i].driver;
	pthread_mutex_unlock(&vm->lock);
	if (all && ovc_vm_balloon_set(vm->ovc, &options))
		say(vm->name, "%s", ovc_error());
}

void machine_balloon(struct balloon_queue *queue)
{
	struct balloon_buffer copy;
	struct vcpu *vcpu = current;
	uint32_t i, frames;

	if (!vmm.balloon)
		return;
	if (queue->driver)
		driver_ready(vcpu);
	for (i = 0; i < BALLOON_BUFFERS && queue->used != queue->avail; i++) {
		copy = queue->buffer[queue->used % BALLOON_BUFFERS];
		if (copy.nr > BALLOON_FRAMES)
			copy.nr = BALLOON_FRAMES;
		handle(vcpu, &copy);
		queue->used++;
	}
	frames = queue->actual; /* may fault: not under the lock */
	pthread_mutex_lock(&vcpu->vm->lock);
	vcpu->actual = frames;
	pthread_mutex_unlock(&vcpu->vm->lock);
	ovc_vm_balloon_reached(vcpu->vm->ovc, actual(vcpu->vm) * OVC_PAGE_SIZE);
}
