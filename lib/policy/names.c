/* SPDX-License-Identifier: MIT */
/*
 * The words for what a policy decided, for traces and statistics.
 */
#include "policy/policy.h"

#define NAME(table, value) \
	((value) < sizeof(table) / sizeof((table)[0]) ? (table)[value] : NULL)

const char *ovc_policy_state_name(uint32_t state)
{
	static const char *const names[] = {
		[OVC_POLICY_HIGH] = "high", [OVC_POLICY_CLEAR] = "clear",
		[OVC_POLICY_SOFT] = "soft", [OVC_POLICY_HARD] = "hard",
		[OVC_POLICY_LOW] = "low",
	};

	return NAME(names, state);
}

const char *ovc_policy_cause_name(uint32_t cause)
{
	static const char *const names[] = {
		[OVC_POLICY_BY_BUDGET] = "budget",
		[OVC_POLICY_BY_AVAILABLE] = "available",
		[OVC_POLICY_BY_PSI_SOME] = "psi-some",
		[OVC_POLICY_BY_PSI_FULL] = "psi-full",
	};

	return NAME(names, cause);
}

const char *ovc_policy_bound_name(uint32_t bound)
{
	static const char *const names[] = {
		[OVC_POLICY_BY_SHARES] = "shares",
		[OVC_POLICY_BY_WANT] = "want",
		[OVC_POLICY_BY_LIMIT] = "limit",
		[OVC_POLICY_BY_MIN] = "min",
		[OVC_POLICY_BY_PART] = "part-of-min",
	};

	return NAME(names, bound);
}

const char *ovc_policy_why_name(uint32_t why)
{
	static const char *const names[] = {
		[OVC_POLICY_WITHIN] = "within",
		[OVC_POLICY_ROOM] = "room",
		[OVC_POLICY_NEAR] = "near",
		[OVC_POLICY_DEFLATE] = "deflate",
		[OVC_POLICY_BALLOON] = "balloon",
		[OVC_POLICY_NO_DRIVER] = "no-driver",
		[OVC_POLICY_DRIVER_LATE] = "driver-late",
		[OVC_POLICY_DRIVER_LIES] = "driver-lies",
		[OVC_POLICY_GUEST_NEEDS] = "guest-needs",
		[OVC_POLICY_CAP] = "cap",
		[OVC_POLICY_PRESSURE] = "pressure",
		[OVC_POLICY_NO_SWAP] = "no-swap",
	};

	return NAME(names, why);
}
