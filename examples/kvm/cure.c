/* SPDX-License-Identifier: MIT */
/* What to do about a /dev/kvm that cannot be opened: see guest.h. */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <sys/stat.h>

#include "guest.h"

const char *kvm_cure(int error)
{
	static char text[160];
	struct group *group = NULL;
	struct stat st;

	if (error != EACCES && error != EPERM)
		return "load kvm_intel or kvm_amd; in a virtual machine, its "
		       "host must allow nested ones";
	if (!stat("/dev/kvm", &st) && st.st_gid && (st.st_mode & 060) == 060)
		group = getgrgid(st.st_gid);
	if (!group)
		return "as root: chgrp kvm /dev/kvm && chmod 660 /dev/kvm, and "
		       "join that group: usermod -aG kvm $USER, and log in "
		       "again";
	snprintf(text, sizeof(text),
		 "join its group: as root, usermod -aG %s $USER, and log in "
		 "again",
		 group->gr_name);
	return text;
}
