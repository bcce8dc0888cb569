#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Meson 1.0.1 and Criterion 2.4.1: a test whose name is misspelt passes.
#
# Whoever names a test or a suite that does not exist runs nothing, and gets exit
# status 0 from both: a CI job goes on being green after a test is renamed. Beside
# a name that exists Meson does not even say that the other does not. The one test
# here fails, so that 0 can only mean that it was not run.
. "$(dirname "$0")/common/common.sh"

# What these depend on (Python, Ninja, libraries) is the machine's.
package meson=1.0.1-5
package libcriterion-dev=2.4.1-2
package libcriterion3=2.4.1-2

tools gcc python3 ninja
lib=$ROOT/usr/lib/x86_64-linux-gnu
mkdir "$WORK/source"
gcc -xc -I"$ROOT/usr/include" -o "$WORK/source/tests" - -L"$lib" -lcriterion \
	-Wl,-rpath,"$lib" <<'END' || cannot "it does not compile; libcriterion3's dependencies?"
#include <criterion/criterion.h>

Test(suite, test)
{
	cr_assert(0);
}
END
cat >"$WORK/source/meson.build" <<'END'
project('finding')
test('fails', find_program('tests'), suite: 'suite')
test('works', find_program('true'), suite: 'other')
END

export PYTHONPATH=$ROOT/usr/lib/python3/dist-packages
meson() { "$ROOT/usr/bin/meson" "$@"; }
meson setup "$WORK/build" "$WORK/source" >"$WORK/log" 2>&1 ||
	cannot "meson setup does not work"

try() { # words, command...
	local status=0 words=$1 says=nothing
	shift
	"$@" >"$WORK/log" 2>&1 || status=$?
	! grep -q 'No suitable tests' "$WORK/log" || says='no suitable tests'
	! grep -q 'Tested: 0' "$WORK/log" || says='tested: 0'
	! grep -q 'fials' "$WORK/log" || says='that there is no "fials"'
	echo "$words: exit status $status, says $says"
}
{
	echo "Meson $(meson --version)"
	try "test fails" meson test -C "$WORK/build" fails
	try "test fials" meson test -C "$WORK/build" fials
	try "test --suite siute" meson test -C "$WORK/build" --suite siute
	try "test works fials" meson test -C "$WORK/build" works fials
	"$WORK/source/tests" --version 2>&1 | sed -n 's/.*\(Criterion\) v/\1 /p'
	try "--filter suite/test" "$WORK/source/tests" --filter suite/test
	try "--filter suite/tset" "$WORK/source/tests" --filter suite/tset
} >"$SEEN"

compare "who asks for a test that does not exist is told by the exit status" <<'END'
Meson 1.0.1
test fails: exit status 1, says nothing
test fials: exit status 0, says no suitable tests
test --suite siute: exit status 0, says no suitable tests
test works fials: exit status 0, says nothing
Criterion 2.4.1
--filter suite/test: exit status 1, says nothing
--filter suite/tset: exit status 0, says tested: 0
END
