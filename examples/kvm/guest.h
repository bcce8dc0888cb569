/* SPDX-License-Identifier: MIT */
/* What the programs here that make a KVM guest have in common. */
#ifndef KVM_GUEST_H
#define KVM_GUEST_H

#include <stdbool.h>
#include <stdint.h>

/* Where a vCPU begins: in 64-bit mode, at `rip`, as if it were called. */
struct kvm_start {
	uint64_t rip, rsp, rdi, rsi;
	uint64_t page_tables; /* guest physical address of the highest */
};

/* long_mode.c: `kvm` is /dev/kvm's descriptor. On failure errno says why. */
bool kvm_long_mode(int kvm, int vcpu, const struct kvm_start *start);

/*
 * speed.c: how many times longer a guest takes for the same instructions than a
 * thread. A processor that runs the guest takes up to some 10 times as long for
 * so few of them, as leaving the guest counts; KVM that has no such processor and
 * emulates each instruction takes thousands of times as long. 0: no guest could
 * be run, and errno says why. Takes a few milliseconds, and a tenth of a second
 * where it is emulated.
 */
double kvm_slowness(int kvm);
#define KVM_EMULATED 100 /* slowness from which on no processor is behind it */

/* cure.c: what to do where opening /dev/kvm failed with this error. */
const char *kvm_cure(int error);

#endif /* KVM_GUEST_H */
