/* SPDX-License-Identifier: MIT */
/*
 * Creates a host with the budget and the VMs in it, lets them run, and says at
 * the end whether every page was right. What cannot be set up is named, and
 * ends it with 1. Ctrl-C makes the vCPUs leave; the rest is as at the end.
 */
#include <argp.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm.h"

struct vmm vmm = {
	.vms = 4,
	.vcpus = 1,
	.mem = 256 << 20,
	.budget = 512 << 20,
	.seconds = 10,
	.common = 60,
	.share = true,
	.seed = 1,
	.swap_dir = ".",
	.kvm_fd = -1,
};

static const struct argp_option option_table[] = {
	{ "vms", 'n', "N", 0, "virtual machines (default 4)", 0 },
	{ "vcpus", 'c', "N", 0, "virtual CPUs of each (default 1)", 0 },
	{ "mem", 'm', "SIZE", 0, "memory of each VM (default 256M)", 0 },
	{ "budget", 'b', "SIZE", 0, "memory for all VMs (default 512M)", 0 },
	{ "memory-kind", 'k', "KIND", 0,
	  "guest memory: anon, private (default), or memfd, shared", 0 },
	{ "share", 'p', "yes|no", 0,
	  "keep equal pages of guests once (default yes)", 0 },
	{ "common", 'o', "PERCENT", 0,
	  "of its memory a guest has in common (default 60)", 0 },
	{ "seconds", 's', "N", 0,
	  "of changes at random; twice that to fill what is common (default 10)",
	  0 },
	{ "swap-dir", 'd', "DIR", 0, "place of swap files (default .)", 0 },
	{ "seed", 'r', "N", 0, "another one: other pages (default 1)", 0 },
	{ "no-kvm", 't', NULL, 0, "guest code on threads, not in KVM", 0 },
	{ "json", 'j', NULL, 0, "print JSON, an object a line", 0 },
	{ NULL, 0, NULL, 0, NULL, 0 },
};

/* Digits, and perhaps K, M or G; otherwise the program ends. */
static uint64_t number(struct argp_state *state, const char *arg, uint64_t min,
		       uint64_t max)
{
	const char *suffixes = "KMG", *suffix;
	unsigned shift = 0;
	char *end;
	uint64_t n = strtoull(arg, &end, 10);

	suffix = *end ? strchr(suffixes, *end) : NULL;
	if (suffix)
		shift = 10 * (unsigned)(suffix - suffixes + 1);
	if (*arg < '0' || *arg > '9' || end[suffix != NULL] ||
	    n > max >> shift || n << shift < min)
		argp_error(state, "%s: must be a number from %ju to %ju", arg,
			   min, max);
	return n << shift;
}

/* Whether it is the second; if it is neither, the program ends. */
static bool choice(struct argp_state *state, const char *arg, const char *first,
		   const char *second)
{
	if (strcmp(arg, first) && strcmp(arg, second))
		argp_error(state, "%s: must be %s or %s", arg, first, second);
	return !strcmp(arg, second);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	if (key == 'n')
		vmm.vms = (unsigned)number(state, arg, 1, 1000);
	else if (key == 'c')
		vmm.vcpus = (unsigned)number(state, arg, 1, 64);
	else if (key == 'm')
		vmm.mem = number(state, arg, 4 << 20, 64ull << 30);
	else if (key == 'b')
		vmm.budget = number(state, arg, 8 << 20, 1ull << 50);
	else if (key == 's')
		vmm.seconds = number(state, arg, 0, 1000000);
	else if (key == 'o')
		vmm.common = number(state, arg, 0, 100);
	else if (key == 'r')
		vmm.seed = number(state, arg, 0, UINT32_MAX);
	else if (key == 'd')
		vmm.swap_dir = arg;
	else if (key == 't')
		vmm.no_kvm = true;
	else if (key == 'j')
		vmm.json = true;
	else if (key == 'k')
		vmm.memfd = choice(state, arg, "anon", "memfd");
	else if (key == 'p')
		vmm.share = choice(state, arg, "no", "yes");
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

static const struct argp argp = {
	.options = option_table,
	.parser = parse_option,
	.doc = "Runs guests that together have more memory than the budget, "
	       "and verifies every page of them. Each guest fills what all "
	       "guests have in common, over so many seconds that it is found "
	       "to be the same and need not be swapped, and rests a little; "
	       "then it fills the rest with what no other has, changes pages "
	       "at random, reads some in order, idles, and verifies all.\v"
	       "Sizes are in bytes, or with K, M or G. Ctrl-C ends it, a second "
	       "one at once. Exit status: 0 every page was right, 1 wrong pages "
	       "or failure, 2 wrong option, 130 interrupted.",
};

static void on_event(const struct ovc_event *event, void *opaque)
{
	(void)opaque;
	say(event->vm_name, "%s", event->text);
}

static bool create(void)
{
	struct ovc_host_options options = {
		.size = sizeof(options),
		.budget = vmm.budget,
		.event = on_event,
		.share = vmm.share ? OVC_SHARE_UNDER_PRESSURE : OVC_SHARE_NEVER,
	};
	unsigned i;

	if (ovc_host_create(&options, &vmm.host)) {
		say(NULL, "%s", ovc_error());
		return false;
	}
	vmm.vm = calloc(vmm.vms, sizeof(*vmm.vm));
	if (!vmm.vm)
		say(NULL, "%m");
	for (i = 0; vmm.vm && i < vmm.vms; i++)
		if (!vm_create(&vmm.vm[i], i))
			return false;
	return vmm.vm;
}

/* Returns the exit status. */
static int run(const sigset_t *signals)
{
	const struct timespec period = { .tv_nsec = 500000000 };
	bool ok = true, interrupted = false;
	unsigned i;

	vmm.running = vmm.vms * vmm.vcpus;
	for (i = 0; ok && i < vmm.vms; i++)
		ok = vm_start(&vmm.vm[i]);
	while (ok && !interrupted && vmm.running) {
		table_show();
		interrupted = sigtimedwait(signals, NULL, &period) > 0;
	}
	vmm.stopping = true;
	/* From here on, Ctrl-C is the kernel's. */
	pthread_sigmask(SIG_UNBLOCK, signals, NULL);
	for (i = 0; i < vmm.vms; i++)
		vm_stop(&vmm.vm[i]);
	ok = table_summary() && ok;
	return ok ? 0 : interrupted ? 130 : 1;
}

int main(int argc, char **argv)
{
	sigset_t signals;
	int status = 1;
	unsigned i;

	argp_err_exit_status = 2;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	vmm.mem -= vmm.mem % OVC_PAGE_SIZE;

	/* For this thread alone, which takes them with sigtimedwait(). */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);

	if (!vmm.no_kvm)
		vmm.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vmm.kvm_fd < 0)
		say(NULL, "%s: the guests' code runs on threads instead",
		    vmm.no_kvm ? "no KVM" : strerror(errno));
	if (create())
		status = run(&signals);
	for (i = 0; vmm.vm && i < vmm.vms; i++)
		vm_destroy(&vmm.vm[i]);
	free(vmm.vm);
	ovc_host_destroy(&vmm.host);
	if (vmm.kvm_fd >= 0)
		close(vmm.kvm_fd);
	return status;
}
