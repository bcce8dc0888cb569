/* SPDX-License-Identifier: MIT */
/* What else on the machine has to do with guests' memory, and KVM. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../kvm/guest.h"
#include "check.h"

static void check_ksm(void)
{
	char value[16];

	if (!read_line("/sys/kernel/mm/ksm/run", value, sizeof(value)))
		say("KSM", FINE, NULL, "the kernel has none");
	else if (*value == '1')
		say("KSM", WARNING,
		    "no MADV_MERGEABLE for guests: the library shares pages "
		    "itself; or stop it (echo 2 >/sys/kernel/mm/ksm/run)",
		    "runs: what it has merged cannot be taken from guests");
	else
		say("KSM", FINE, NULL, "does not run");
}

/* Lines of /proc/swaps but the first. */
static void check_swap(void)
{
	FILE *file = fopen("/proc/swaps", "re");
	char line[512], name[256] = "";
	unsigned nr = 0;

	while (file && fgets(line, sizeof(line), file))
		if (nr++ == 1)
			sscanf(line, "%255s", name);
	if (file)
		fclose(file);
	if (nr < 2)
		say("host swap", FINE, NULL, "none");
	else
		say("host swap", WARNING,
		    "budgets that fit into memory; or keep the VMM out of it "
		    "(systemd: MemorySwapMax=0)",
		    "%s%s: under pressure the kernel swaps guests' pages, too, "
		    "and the library counts them as resident",
		    name, nr > 2 ? " and others" : "");
}

static void check_huge_pages(void)
{
	char value[128], *first, *end;

	if (!read_line("/sys/kernel/mm/transparent_hugepage/enabled", value,
		       sizeof(value))) {
		say("huge pages", WARNING,
		    "a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
		    "no transparent ones");
		return;
	}
	first = strchr(value, '[');
	end = first ? strchr(first, ']') : NULL;
	if (end)
		*end = '\0';
	first = end ? first + 1 : value;
	if (!strcmp(first, "never"))
		say("huge pages", WARNING,
		    "echo madvise "
		    ">/sys/kernel/mm/transparent_hugepage/enabled",
		    "never: guests are slower while memory is plentiful");
	else
		say("huge pages", FINE, NULL, "%s", first);
}

void check_machine(void)
{
	check_ksm();
	check_swap();
	check_huge_pages();
}

void check_kvm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	double slowness;

	if (kvm < 0) {
		say("KVM", WARNING, kvm_cure(errno),
		    "/dev/kvm: %s: the demo's guests run on threads",
		    strerror(errno));
		return;
	}
	slowness = kvm_slowness(kvm);
	if (slowness <= 0)
		say("KVM", WARNING, NULL,
		    "/dev/kvm runs no guest: %s: the demo's run on threads",
		    strerror(errno));
	else if (slowness > KVM_EMULATED)
		say("KVM", WARNING,
		    "a host that allows nested virtual machines; the demo "
		    "runs its guests on threads, and with --kvm many times "
		    "longer, or with fewer words of each page checked",
		    "emulates the CPU, %.0f times slower", slowness);
	else
		say("KVM", FINE, NULL, "guests run on the processor");
	close(kvm);
}
