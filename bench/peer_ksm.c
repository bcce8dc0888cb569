/* SPDX-License-Identifier: MIT */
/*
 * The kernel's samepage merging as the peer.
 *
 * The parent notes its settings and puts them back when the contest ends. A
 * trial begins from nothing: it has all unmerged and ksmd stopped (run = 2),
 * sets the pace, offers its memory with MADV_MERGEABLE and lets ksmd run when
 * its clock starts. KSM merges private anonymous memory only. Its CPU time is
 * that of its thread, ksmd.
 *
 * Only the pace is set. smart_scan, max_page_sharing, merge_across_nodes,
 * use_zero_pages and the advisor's own settings are as the machine has them;
 * where a case wants each page looked at in each pass, smart_scan is off.
 *
 * Without KSM, without the right to set it, or where it has pages of others
 * that would be unmerged, the trial is unavailable; where pages of others
 * appear meanwhile it is invalid.
 */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define KSM "/sys/kernel/mm/ksm/"

#define UNMERGE_MS 10000

static struct {
	bool started;
	bool advisor; /* the kernel has one */
	bool smart;   /* it can skip pages */
	int ksmd;     /* process id, 0 where it cannot be seen */
} ksm;

/* ---- The parent's ----------------------------------------------------- */

static int find_ksmd(void)
{
	DIR *entries = opendir("/proc");
	struct dirent *entry;
	int pid = 0;

	while (entries && !pid && (entry = readdir(entries))) {
		char path[300], comm[32] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fgets(comm, sizeof(comm), file) && !strcmp(comm, "ksmd\n"))
			pid = atoi(entry->d_name);
		fclose(file);
	}
	if (entries)
		closedir(entries);
	return pid;
}

static uint64_t count(const char *path)
{
	long number = setting_number(path);

	return number > 0 ? (uint64_t)number : 0;
}

/* All pages that KSM has looked at and still knows. */
static uint64_t pages_known(void)
{
	return count(KSM "pages_shared") + count(KSM "pages_sharing") +
	       count(KSM "pages_unshared") + count(KSM "pages_volatile");
}

/* In the order in which they can be put back: the advisor sets pages_to_scan,
 * and does not let others set it. */
static int save_settings(void)
{
	int err = access(KSM "run", W_OK) ? -errno : 0;

	if (!err)
		err = setting_save(KSM "sleep_millisecs");
	if (!err)
		err = setting_save(KSM "pages_to_scan");
	if (err)
		return err;
	ksm.smart = setting_save(KSM "smart_scan") == 0;
	ksm.advisor = setting_save(KSM "advisor_mode") == 0;
	return setting_save(KSM "run");
}

int peer_ksm_start(char *why, size_t why_size)
{
	uint64_t others = pages_known();
	int err;

	if (others) {
		snprintf(why, why_size,
			 "KSM has %llu pages of other processes, which it "
			 "would have to unmerge",
			 (unsigned long long)others);
		return -EBUSY;
	}
	err = save_settings();
	if (err) {
		snprintf(why, why_size, KSM ": %s%s", strerror(-err),
			 err == -EACCES ? " (be root to compare with it)" : "");
		return err;
	}
	ksm.ksmd = find_ksmd();
	ksm.started = true;
	return 0;
}

void peer_ksm_stop(void)
{
	if (!ksm.started)
		return;
	ksm.started = false;
	setting_write(KSM "run", "2");
	if (ksm.advisor)
		setting_write(KSM "advisor_mode", "none");
	settings_restore();
}

/* ---- The trial's ------------------------------------------------------ */

static int set(struct trial *trial, const char *path, const char *word)
{
	int err = setting_write(path, word);

	if (err)
		return fail(trial, TRIAL_FAILED, "writing %s to %s: %s", word,
			    path, strerror(-err));
	return 0;
}

/* What is left of the last trial's memory goes with its process. */
static int unmerge(struct trial *trial)
{
	if (set(trial, KSM "run", "2"))
		return -1;
	for (int ms = 0; pages_known(); ms++) {
		if (ms == UNMERGE_MS)
			return fail(trial, TRIAL_INVALID,
				    "KSM did not unmerge all");
		nap_ms(1);
	}
	return 0;
}

static int set_pace(struct trial *trial, enum ksm_pace pace)
{
	bool fast = pace == KSM_FASTEST || pace == KSM_FASTEST_ALL;

	/* While the advisor advises, pages_to_scan cannot be written. */
	if (ksm.advisor && set(trial, KSM "advisor_mode", "none"))
		return -1;
	if (set(trial, KSM "sleep_millisecs", fast ? "0" : "20") ||
	    set(trial, KSM "pages_to_scan", fast ? "100000" : "100"))
		return -1;
	if (ksm.smart && pace == KSM_FASTEST_ALL)
		return set(trial, KSM "smart_scan", "0");
	if (pace != KSM_ADVISOR)
		return 0;
	if (!ksm.advisor)
		return fail(trial, TRIAL_UNAVAILABLE,
			    "this kernel's KSM has no advisor");
	return set(trial, KSM "advisor_mode", "scan-time");
}

int peer_ksm_open(struct trial *trial, enum ksm_pace pace)
{
	if (unmerge(trial))
		return -1;
	return set_pace(trial, pace);
}

int peer_ksm_offer(struct trial *trial, const struct arena *arena)
{
	if (madvise(arena->addr, arena->len, MADV_MERGEABLE))
		return fail(trial, TRIAL_UNAVAILABLE, "MADV_MERGEABLE: %s",
			    strerror(errno));
	return 0;
}

int peer_ksm_run(struct trial *trial, bool on)
{
	return set(trial, KSM "run", on ? "1" : "0");
}

void peer_ksm_close(void)
{
	setting_write(KSM "run", "2");
}

int peer_ksm_saved(struct trial *trial, uint64_t *bytes)
{
	uint64_t pages = trial->contest->bytes / PAGE;

	/* A page can be counted twice while its kind changes. */
	if (pages_known() > pages + pages / 16)
		return fail(trial, TRIAL_INVALID,
			    "KSM has pages of other processes, too (as of "
			    "QEMU without mem-merge=off)");
	*bytes = count(KSM "pages_sharing") * PAGE;
	return 0;
}

uint64_t peer_ksm_passes(void)
{
	return count(KSM "full_scans");
}

double peer_ksm_cpu(void)
{
	char path[64];
	unsigned long long ns;
	FILE *file;
	int got;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", ksm.ksmd);
	file = ksm.ksmd ? fopen(path, "re") : NULL;
	if (!file)
		return NAN;
	got = fscanf(file, "%llu", &ns);
	fclose(file);
	return got == 1 ? (double)ns * 1e-9 : NAN;
}
