/* SPDX-License-Identifier: MIT */
/*
 * How fast is KVM here? A guest and this thread run the same loop, and the ratio
 * of their best times counts: a busy machine makes single runs of either longer,
 * and one that is emulated as a whole makes both slow.
 *
 * Creating the guest is not timed, for that may wait long for other CPUs.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define MEMORY 0x200000ull /* one large page, which has all of this: */
#define PML4   0x1000
#define PDPT   0x2000
#define PD     0x3000
#define CODE   0x10000

#define ROUNDS	  5
#define ENOUGH_NS 50000000 /* of all rounds together */

/* mov $20000, %ecx; 1: dec %ecx; jnz 1b; hlt; jmp to the first */
static const unsigned char code[] = { 0xb9, 0x20, 0x4e, 0x00, 0x00, 0xff,
				      0xc9, 0x75, 0xfc, 0xf4, 0xeb, 0xf4 };

struct guest {
	int vm, vcpu;
	char *memory;
	struct kvm_run *run;
	size_t run_size;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static bool run_here(struct guest *guest)
{
	(void)guest;
	__asm__ volatile("mov $20000, %%ecx\n"
			 "1: dec %%ecx\n"
			 "jnz 1b" ::
				 : "ecx", "cc");
	return true;
}

static bool run_there(struct guest *guest)
{
	while (ioctl(guest->vcpu, KVM_RUN, 0))
		if (errno != EINTR && errno != EAGAIN)
			return false;
	errno = EIO; /* if it is anything else */
	return guest->run->exit_reason == KVM_EXIT_HLT;
}

/* The best of some rounds, ns; 0: it does not run. */
static uint64_t best(bool (*run)(struct guest *guest), struct guest *guest)
{
	uint64_t least = UINT64_MAX, all = 0, began, took;

	for (int i = 0; i < ROUNDS && all < ENOUGH_NS; i++) {
		began = now_ns();
		if (!run(guest))
			return 0;
		took = now_ns() - began;
		all += took;
		least = took < least ? took : least;
	}
	return least ? least : 1;
}

static bool make_memory(struct guest *guest)
{
	struct kvm_userspace_memory_region slot = { .memory_size = MEMORY };
	void *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return false;
	guest->memory = memory;
	*(uint64_t *)(void *)(guest->memory + PML4) = PDPT | 3;
	*(uint64_t *)(void *)(guest->memory + PDPT) = PD | 3;
	*(uint64_t *)(void *)(guest->memory + PD) = 0x83; /* a large page */
	memcpy(guest->memory + CODE, code, sizeof(code));
	slot.userspace_addr = (uintptr_t)memory;
	return !ioctl(guest->vm, KVM_SET_USER_MEMORY_REGION, &slot);
}

static bool make(int kvm, struct guest *guest)
{
	const struct kvm_start start = {
		.rip = CODE,
		.rsp = CODE,
		.page_tables = PML4,
	};
	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *run;

	guest->vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (size < 0 || guest->vm < 0 || !make_memory(guest))
		return false;
	guest->vcpu = ioctl(guest->vm, KVM_CREATE_VCPU, 0);
	if (guest->vcpu < 0 || !kvm_long_mode(kvm, guest->vcpu, &start))
		return false;
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED,
		   guest->vcpu, 0);
	if (run == MAP_FAILED)
		return false;
	guest->run = run;
	guest->run_size = (size_t)size;
	return true;
}

static void unmake(struct guest *guest)
{
	int error = errno;

	if (guest->run)
		munmap(guest->run, guest->run_size);
	if (guest->vcpu >= 0)
		close(guest->vcpu);
	if (guest->vm >= 0)
		close(guest->vm);
	if (guest->memory)
		munmap(guest->memory, MEMORY);
	errno = error;
}

double kvm_slowness(int kvm)
{
	struct guest guest = { .vm = -1, .vcpu = -1 };
	uint64_t there = 0;

	if (make(kvm, &guest))
		there = best(run_there, &guest);
	unmake(&guest);
	return (double)there / (double)best(run_here, NULL);
}
