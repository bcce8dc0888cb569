/* SPDX-License-Identifier: MIT */
/*
 * Asks libblkid what is on a device. Signatures with a wrong checksum count, too, and
 * so do several that contradict each other: somebody may want these bytes back.
 */
#include <blkid/blkid.h>
#include <errno.h>
#include <stdio.h>

#include "sys/fail.h"
#include "sys/medium.h"

static const char *value(blkid_probe probe, const char *name)
{
	const char *text = NULL;

	return blkid_probe_lookup_value(probe, name, &text, NULL) ? NULL : text;
}

static void describe(blkid_probe probe, char *text, size_t len)
{
	const char *table = value(probe, "PTTYPE");
	const char *type = value(probe, "TYPE");

	if (type)
		snprintf(text, len, "a signature of %s", type);
	else
		snprintf(text, len, "a partition table (%s)",
			 table ? table : "unknown");
}

static int look(blkid_probe probe, int fd)
{
	if (blkid_probe_set_device(probe, fd, 0, 0))
		return -1;
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE |
							 BLKID_SUBLKS_BADCSUM);
	blkid_probe_enable_partitions(probe, 1);
	return blkid_do_safeprobe(probe);
}

int ovc_medium_signature(int fd, char *text, size_t len)
{
	int error = ovc_sys_fail("blkid"), found;
	blkid_probe probe;

	if (error)
		return error;
	probe = blkid_new_probe();
	if (!probe)
		return -ENOMEM;
	found = look(probe, fd);
	if (found == -2) /* ambivalent */
		snprintf(text, len, "several signatures");
	else if (!found)
		describe(probe, text, len);
	blkid_free_probe(probe);
	if (found == -1)
		return -EIO;
	return found != 1;
}
