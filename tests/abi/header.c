/* SPDX-License-Identifier: MIT */
/*
 * The public header needs no other header before it, may be included twice,
 * and its functions link from C11.
 */
#include "overcommit.h"
#include "overcommit.h"

int main(void)
{
	const struct ovc_host_options options = { .size = sizeof(options) };

	return options.budget != 0 || !ovc_version()[0];
}
