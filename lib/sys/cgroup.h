/* SPDX-License-Identifier: MIT */
/*
 * The memory cgroup that this process is in, with those above it: how much memory it may
 * have, and whether it stalls for want of it. Both versions of cgroups.
 */
#ifndef OVC_SYS_CGROUP_H
#define OVC_SYS_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#define OVC_CGROUP_FILES 32

struct ovc_cgroup {
	int self; /* /proc/self/cgroup, and what it said */
	char was[2048];
	int limits[OVC_CGROUP_FILES]; /* files that hold a limit each */
	unsigned nr;
	int pressure; /* -1: unknown */
};

/* Opens what can be; what cannot is unknown, and no limit. */
void ovc_cgroup_open(struct ovc_cgroup *c);
void ovc_cgroup_close(struct ovc_cgroup *c);

/* The least of the limits now, bytes; UINT64_MAX: none. Looks where the process is, for it
 * may have been moved. */
uint64_t ovc_cgroup_limit(struct ovc_cgroup *c);

/* As in machine.h, of the cgroup. */
void ovc_cgroup_stalls(const struct ovc_cgroup *c, uint32_t *some,
		       uint32_t *full);

#endif
