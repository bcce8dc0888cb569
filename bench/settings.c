/* SPDX-License-Identifier: MIT */
/*
 * Settings of the kernel that a case changes, and puts back.
 *
 * The parent saves a setting, which notes what its file says; then it, or a
 * trial, writes to the file. settings_restore() writes what was noted, in the
 * order of saving. It only makes system calls on what was written down before,
 * so a signal handler may call it; it does nothing the second time. A run that
 * was killed outright leaves the settings as they are then.
 *
 * Failures are -errno of the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define MAX_SETTINGS 8

static struct {
	char path[96];
	char word[32];
} saved[MAX_SETTINGS];
static unsigned nr_saved;

/* Of a choice, which says all it could be, the word in brackets. */
static void pick(char *text)
{
	char *open = strchr(text, '['), *close = strchr(text, ']');

	if (open && close > open) {
		*close = '\0';
		memmove(text, open + 1, (size_t)(close - open));
	}
}

static int setting_read(const char *path, char *text, int size)
{
	FILE *file = fopen(path, "re");
	int err = 0;

	if (!file)
		return -errno;
	if (!fgets(text, size, file))
		err = -EIO;
	fclose(file);
	text[strcspn(text, "\n")] = '\0';
	pick(text);
	return err;
}

long setting_number(const char *path)
{
	char text[64] = "";

	return setting_read(path, text, sizeof(text)) ? -1 : atol(text);
}

int setting_write(const char *path, const char *word)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -errno;
	/* A signal ends KSM's unmerging halfway. */
	do {
		err = write(fd, word, strlen(word)) < 0 ? -errno : 0;
	} while (err == -EINTR);
	close(fd);
	return err;
}

int setting_save(const char *path)
{
	char text[64] = "";
	int err;

	for (unsigned i = 0; i < nr_saved; i++)
		if (!strcmp(saved[i].path, path))
			return 0;
	err = setting_read(path, text, sizeof(text));
	if (err)
		return err;
	if (nr_saved == MAX_SETTINGS)
		return -ENOSPC;
	if (access(path, W_OK))
		return -errno;
	snprintf(saved[nr_saved].path, sizeof(saved[0].path), "%s", path);
	snprintf(saved[nr_saved].word, sizeof(saved[0].word), "%.31s", text);
	nr_saved++;
	return 0;
}

void settings_restore(void)
{
	for (unsigned i = 0; i < nr_saved; i++)
		setting_write(saved[i].path, saved[i].word);
	nr_saved = 0;
}
