/* SPDX-License-Identifier: MIT */
/*
 * A latency histogram that any number of threads add to. Pure.
 *
 * Log-linear: 8 buckets to a power of two, so that a bucket is an eighth of its
 * lower bound wide and its middle is off by 6.25 % at most. Covers 0 to 2^42 ns
 * (73 minutes); longer is counted as that. Zeroed memory is an empty histogram.
 */
#ifndef OVC_STAT_H
#define OVC_STAT_H

#include <stdatomic.h>
#include <stdint.h>

#define OVC_HIST_BUCKETS 320

struct ovc_hist {
	_Atomic uint32_t count[OVC_HIST_BUCKETS];
};

/* Counts a time. Lock-free, one relaxed atomic addition. */
void ovc_hist_add(struct ovc_hist *h, uint64_t ns);

/*
 * The time that a share q (0 to 1) of the times counted does not exceed; 0 for
 * an empty histogram. While others add, the answer is of about now.
 */
uint64_t ovc_hist_quantile(const struct ovc_hist *h, double q);

#endif
