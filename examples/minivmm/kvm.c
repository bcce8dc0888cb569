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
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../kvm/guest.h"
#include "vmm.h"

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

bool kvm_vcpu_create(struct vcpu *vcpu)
{
	const struct kvm_start start = {
		.rip = PAYLOAD_ENTRY,
		.rsp = GUEST_STACKS + (vcpu->id + 1) * GUEST_STACK - 8,
		.rdi = GUEST_BOOT,
		.rsi = vcpu->id,
		.page_tables = GUEST_PML4,
	};
	int size = ioctl(vmm.kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *run = MAP_FAILED;

	vcpu->kvm_fd = ioctl(vcpu->vm->kvm_fd, KVM_CREATE_VCPU, vcpu->id);
	if (vcpu->kvm_fd >= 0 &&
	    kvm_long_mode(vmm.kvm_fd, vcpu->kvm_fd, &start))
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
