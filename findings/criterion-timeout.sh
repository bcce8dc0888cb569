#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Criterion 2.4.1: --timeout is neither a default nor an override.
#
# "set a timeout (in seconds) for all tests", says --help. The option only lowers a
# timeout that a test or its suite sets. A test that sets none runs on for as long
# as it likes, and one that sets a short one is not given more: neither does the
# option guard a CI against a test that hangs, nor does it help on a slow machine.
. "$(dirname "$0")/common/common.sh"

# The libraries that these depend on are the machine's.
package libcriterion-dev=2.4.1-2
package libcriterion3=2.4.1-2

tools gcc
lib=$ROOT/usr/lib/x86_64-linux-gnu
gcc -xc -I"$ROOT/usr/include" -o "$WORK/tests" - -L"$lib" -lcriterion \
	-Wl,-rpath,"$lib" <<'END' || cannot "it does not compile; libcriterion3's dependencies?"
#include <criterion/criterion.h>
#include <unistd.h>

Test(timeout, none)
{
	sleep(4);
}

Test(timeout, short, .timeout = 1)
{
	sleep(4);
}

Test(timeout, long, .timeout = 60)
{
	sleep(4);
}

TestSuite(short_suite, .timeout = 1);
Test(short_suite, test)
{
	sleep(4);
}
END

"$WORK/tests" --help 2>&1 | grep -q 'set a timeout (in seconds) for all tests' ||
	cannot "--help speaks of --timeout in other words"
for seconds in 1 30; do
	echo "--timeout $seconds"
	# Both exit statuses are meant to be: a failed test is among them each time.
	"$WORK/tests" --timeout "$seconds" -j4 --verbose --color=never \
		--encoding=ASCII 2>&1 | grep -E '^\[(PASS|FAIL)\]' |
		sed 's/ ([0-9.]*s)$//' | sort || true
done >"$SEEN"

compare "--timeout 1 ends all four, and --timeout 30 lets all four pass" <<'END'
--timeout 1
[FAIL] short_suite::test: Timed out.
[FAIL] timeout::long: Timed out.
[FAIL] timeout::short: Timed out.
[PASS] timeout::none:
--timeout 30
[FAIL] short_suite::test: Timed out.
[FAIL] timeout::short: Timed out.
[PASS] timeout::long:
[PASS] timeout::none:
END
