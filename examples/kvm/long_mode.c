/* SPDX-License-Identifier: MIT */
/* Puts a new vCPU into 64-bit mode, with paging: see guest.h. */
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "guest.h"

#define CR0  0x80010033 /* PG, WP, NE, ET, MP, PE */
#define CR4  0x20	/* PAE */
#define EFER 0x500	/* LMA, LME */

/* Without it, KVM has no 64-bit mode: the guest may use what this host has. */
static bool set_cpuid(int kvm, int vcpu)
{
	struct kvm_cpuid2 *cpuid;
	bool ok;

	cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(*cpuid->entries));
	if (!cpuid)
		return false;
	cpuid->nent = 256;
	ok = !ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) &&
	     !ioctl(vcpu, KVM_SET_CPUID2, cpuid);
	free(cpuid);
	return ok;
}

bool kvm_long_mode(int kvm, int vcpu, const struct kvm_start *start)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {
		.rip = start->rip,
		.rsp = start->rsp,
		.rdi = start->rdi,
		.rsi = start->rsi,
		.rflags = 2,
	};

	if (!set_cpuid(kvm, vcpu) || ioctl(vcpu, KVM_GET_SREGS, &sregs))
		return false;
	sregs.cs.base = 0; /* the rest of the segments is good after a reset */
	sregs.cs.selector = 8;
	sregs.cs.l = 1;
	sregs.cr0 = CR0;
	sregs.cr3 = start->page_tables;
	sregs.cr4 = CR4;
	sregs.efer = EFER;
	return !ioctl(vcpu, KVM_SET_SREGS, &sregs) &&
	       !ioctl(vcpu, KVM_SET_REGS, &regs);
}
