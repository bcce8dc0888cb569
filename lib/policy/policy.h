/* SPDX-License-Identifier: MIT */
/*
 * The policy's structs are public: overcommit.h, "Policy".
 */
#ifndef OVC_POLICY_POLICY_H
#define OVC_POLICY_POLICY_H

#pragma GCC visibility push(default)
#include "overcommit.h"
#pragma GCC visibility pop

#endif
