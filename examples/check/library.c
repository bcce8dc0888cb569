/* SPDX-License-Identifier: MIT */
/*
 * A host, as a VMM would create it with all memory as its budget, and without a
 * region, so that nothing is tracked. What it uses of the kernel and what it has to
 * say is the library's own answer.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

#define VM	  "check"
#define SWAP_SIZE ((uint64_t)1 << 20)
#define PAGE	  ((uint64_t)4096)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	bool on;
	char text[512];
} kept; /* warnings, under the lock */

static void on_log(int level, const char *line, void *opaque)
{
	size_t length;

	(void)opaque;
	if (level > OVC_LOG_WARNING)
		return;
	if (!strncmp(line, VM ": ", strlen(VM ": ")))
		line += strlen(VM ": ");
	pthread_mutex_lock(&lock);
	length = strlen(kept.text);
	if (kept.on)
		snprintf(kept.text + length, sizeof(kept.text) - length, "%s%s",
			 length ? "; " : "", line);
	pthread_mutex_unlock(&lock);
}

static void keep(bool on)
{
	pthread_mutex_lock(&lock);
	kept.on = on;
	if (on)
		kept.text[0] = '\0';
	pthread_mutex_unlock(&lock);
}

void check_library(void)
{
	uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * PAGE;
	struct ovc_host_options options = {
		.size = sizeof(options),
		.budget = memory,
		.log = on_log,
	};

	check.stats.size = sizeof(check.stats);
	check.error = ovc_host_create(&options, &check.host);
	if (check.error) {
		snprintf(check.why, sizeof(check.why), "%s", ovc_error());
		say("library", check.may_userfaultfd ? MISSING : WARNING, NULL,
		    "no host can be created: %s", check.why);
		return;
	}
	ovc_host_stats(check.host, &check.stats);
	say("library", FINE, NULL,
	    "a host can be created; it has %u fault threads, and %ju KiB of "
	    "its own",
	    check.stats.fault_threads,
	    (check.stats.metadata + check.stats.buffers) >> 10);
}

int library_try_swap(const char *dir, char *text, size_t len)
{
	struct ovc_vm_options options = {
		.size = sizeof(options),
		.name = VM,
		.swap = dir,
		.swap_size = SWAP_SIZE,
	};
	struct ovc_vm *vm = NULL;
	int error;

	keep(true);
	error = ovc_vm_create(check.host, &options, &vm);
	keep(false);
	if (error)
		snprintf(text, len, "%s", ovc_error());
	else
		snprintf(text, len, "%s", kept.text);
	ovc_vm_destroy(&vm, OVC_THROW_AWAY);
	ovc_host_stats(check.host, &check.stats);
	return error;
}

void library_close(void)
{
	ovc_host_destroy(&check.host);
}
