/* SPDX-License-Identifier: MIT */
/*
 * The lock of control calls, and waiting: a caller that waits for another thread looks,
 * pauses, and looks again. In dispatch mode the pause does the other thread's
 * work, which dispatch.c knows and lies above: the host has a pointer to it.
 */
#include "core/control.h"

void ovc_control_lock(struct ovc_host *host)
{
	atomic_fetch_add(&host->control_waiting, 1);
	pthread_mutex_lock(&host->control);
	atomic_fetch_sub(&host->control_waiting, 1);
}

void ovc_control_unlock(struct ovc_host *host)
{
	pthread_mutex_unlock(&host->control);
}

void ovc_host_pause(struct ovc_host *host, unsigned round)
{
	if (host->take_steps)
		host->take_steps(host);
	ovc_nap(round);
}

bool ovc_waited_for(uint64_t *since, unsigned round, uint64_t ns)
{
	uint64_t now;

	if (round < 8) /* that yields only */
		return false;
	now = ovc_now_ns();
	if (!*since)
		*since = now;
	return now - *since > ns;
}
