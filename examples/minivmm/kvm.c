/* SPDX-License-Identifier: MIT */
/*
 * /dev/kvm: a VM whose memory is one slot at guest physical address 0, and
 * vCPUs that begin in 64-bit mode at the payload's entry.
 *
 * A vCPU that touches memory which the library has taken out does not leave the
 * guest: KVM_RUN waits in the kernel until the page is back. So nothing in this
 * file knows about overcommit. A guest that crashes, or memory that cannot be
 * had, ends the vCPU with a sentence. To stop, KVM_RUN returns with EINTR.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm.h"

#define CR0  0x80010033 /* PG, WP, NE, ET, MP, PE */
#define CR4  0x20	/* PAE */
#define EFER 0x500	/* LMA, LME */

bool kvm_vm_create(struct vm *vm)
{
	struct kvm_userspace_memory_region slot = {
		.memory_size = vmm.mem,
		.userspace_addr = (uintptr_t)vm->memory,
	};

	vm->kvm_fd = ioctl(vmm.kvm_fd, KVM_CREATE_VM, 0);
	if (vm->kvm_fd >= 0 &&
	    !ioctl(vm->kvm_fd, KVM_SET_USER_MEMORY_REGION, &slot))
		return true;
	say(vm->name, "KVM cannot create it: %m");
	return false;
}

/* Without it, KVM has no 64-bit mode: the guest may use what this host has. */
static bool set_cpuid(int fd)
{
	struct kvm_cpuid2 *cpuid;
	bool ok;

	cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(*cpuid->entries));
	if (!cpuid)
		return false;
	cpuid->nent = 256;
	ok = !ioctl(vmm.kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid) &&
	     !ioctl(fd, KVM_SET_CPUID2, cpuid);
	free(cpuid);
	return ok;
}

static bool set_registers(const struct vcpu *vcpu)
{
	uint64_t stack = GUEST_STACKS + (vcpu->id + 1) * GUEST_STACK;
	struct kvm_sregs sregs;
	struct kvm_regs regs = {
		.rip = PAYLOAD_ENTRY,
		.rsp = stack - 8, /* as if called */
		.rdi = GUEST_BOOT,
		.rsi = vcpu->id,
		.rflags = 2,
	};

	if (ioctl(vcpu->kvm_fd, KVM_GET_SREGS, &sregs))
		return false;
	sregs.cs.base = 0; /* the rest of the segments is good after a reset */
	sregs.cs.selector = 8;
	sregs.cs.l = 1;
	sregs.cr0 = CR0;
	sregs.cr3 = GUEST_PML4;
	sregs.cr4 = CR4;
	sregs.efer = EFER;
	return !ioctl(vcpu->kvm_fd, KVM_SET_SREGS, &sregs) &&
	       !ioctl(vcpu->kvm_fd, KVM_SET_REGS, &regs);
}

bool kvm_vcpu_create(struct vcpu *vcpu)
{
	int size = ioctl(vmm.kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *run = MAP_FAILED;

	vcpu->kvm_fd = ioctl(vcpu->vm->kvm_fd, KVM_CREATE_VCPU, vcpu->id);
	if (vcpu->kvm_fd >= 0 && set_cpuid(vcpu->kvm_fd) && set_registers(vcpu))
		run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE,
			   MAP_SHARED, vcpu->kvm_fd, 0);
	if (run == MAP_FAILED) {
		say(vcpu->vm->name, "KVM cannot create vCPU %u: %m", vcpu->id);
		return false;
	}
	vcpu->run = run;
	vcpu->run_size = (size_t)size;
	return true;
}

void kvm_vcpu_destroy(struct vcpu *vcpu)
{
	if (!vcpu->run)
		return;
	munmap(vcpu->run, vcpu->run_size);
	close(vcpu->kvm_fd);
}

static bool handle_io(struct vcpu *vcpu, struct kvm_run *run)
{
	const char *data = (char *)run + run->io.data_offset;
	uint16_t port = run->io.port;
	uint64_t size;
	uint32_t gpa;

	if (port == PORT_CONSOLE) {
		machine_console(*data);
		return true;
	}
	memcpy(&gpa, data, sizeof(gpa));
	if (port != PORT_HYPERCALL && port != PORT_BALLOON)
		return vcpu_fail(vcpu, "unknown port", port);
	size = port == PORT_BALLOON ? sizeof(struct balloon_queue) :
				      sizeof(struct report);
	if (gpa % 8 || gpa > vmm.mem - size)
		return vcpu_fail(vcpu, "a request outside of its memory", gpa);
	if (port == PORT_BALLOON)
		machine_balloon((void *)(vcpu->vm->memory + gpa));
	else
		machine_hypercall((void *)(vcpu->vm->memory + gpa));
	return true;
}

static bool handle_exit(struct vcpu *vcpu, struct kvm_run *run)
{
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		return handle_io(vcpu, run);
	case KVM_EXIT_HLT:
		machine_halt();
		return true;
	case KVM_EXIT_MMIO: /* also for lost memory, where emulated */
		return vcpu_fail(vcpu, "the guest touched what is not memory",
				 run->mmio.phys_addr);
	case KVM_EXIT_SHUTDOWN:
		return vcpu_fail(vcpu, "the guest crashed, triple fault", 0);
	case KVM_EXIT_FAIL_ENTRY:
		return vcpu_fail(vcpu, "the processor refused the guest",
				 run->fail_entry.hardware_entry_failure_reason);
	case KVM_EXIT_INTERNAL_ERROR:
		return vcpu_fail(vcpu, "KVM failed, or cannot emulate this",
				 run->internal.suberror);
	default:
		return vcpu_fail(vcpu, "unexpected exit", run->exit_reason);
	}
}

void kvm_vcpu_run(struct vcpu *vcpu)
{
	bool ok = true;

	while (ok && !vmm.stopping && vcpu->report.phase != PHASE_DONE) {
		if (!ioctl(vcpu->kvm_fd, KVM_RUN, 0))
			ok = handle_exit(vcpu, vcpu->run);
		else if (errno == EFAULT)
			ok = vcpu_fail(vcpu, "memory cannot be had", EFAULT);
		else if (errno != EINTR && errno != EAGAIN)
			ok = vcpu_fail(vcpu, strerror(errno), (uint64_t)errno);
	}
}

/* ---- How fast is it? ------------------------------------------------------- */

#define PROBE_MEMORY 0x200000ull /* one large page */
#define PROBE_NS     50000000	 /* which a processor does not take */

/* mov $20000, %ecx; 1: dec %ecx; jnz 1b; hlt */
static const unsigned char probe_code[] = { 0xb9, 0x20, 0x4e, 0x00, 0x00,
					    0xff, 0xc9, 0x75, 0xfc, 0xf4 };

static bool run_probe(struct vcpu *vcpu)
{
	struct kvm_run *run;

	if (!kvm_vm_create(vcpu->vm) || !kvm_vcpu_create(vcpu))
		return false;
	run = vcpu->run;
	return !ioctl(vcpu->kvm_fd, KVM_RUN, 0) &&
	       run->exit_reason == KVM_EXIT_HLT;
}

bool kvm_is_emulated(void)
{
	uint64_t mem = vmm.mem, began = now_ns(), *table;
	struct vm vm = { .name = "probe" };
	struct vcpu vcpu = { .vm = &vm };
	bool slow = false;

	vm.memory = mmap(NULL, PROBE_MEMORY, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm.memory == MAP_FAILED)
		return false;
	table = (void *)(vm.memory + GUEST_PML4);
	table[0] = GUEST_PDPT | 3;
	table = (void *)(vm.memory + GUEST_PDPT);
	table[0] = GUEST_BOOT | 3; /* of no other use here */
	table = (void *)(vm.memory + GUEST_BOOT);
	table[0] = 0x83; /* a large page, present, writable */
	memcpy(vm.memory + PAYLOAD_ENTRY, probe_code, sizeof(probe_code));
	vmm.mem = PROBE_MEMORY;
	if (run_probe(&vcpu))
		slow = now_ns() - began > PROBE_NS;
	vmm.mem = mem;
	kvm_vcpu_destroy(&vcpu);
	if (vm.kvm_fd > 0)
		close(vm.kvm_fd);
	munmap(vm.memory, PROBE_MEMORY);
	return slow;
}
