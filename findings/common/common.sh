# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the findings share; each of them sources this. They unpack pinned packages
# of Debian 12 into a temporary directory, run them, and compare what is seen with
# what is recorded. None of this project's code runs.
#
#   package NAME=VERSION   unpacks that package under $ROOT
#   boot RELEASE MODULE... [-- QEMU-OPTION...] <PROGRAM
#                          compiles the C program and runs it as root in a virtual
#                          machine with that kernel; what it prints goes to $SEEN.
#                          What is in $WORK/extra is in its root directory
#   compare WHAT <RECORDED compares $SEEN with the lines on standard input
#
# Exit status: 0 seen as recorded, 1 something has changed, 2 could not look (a
# package or a tool is missing, or the virtual machine did not get to its end).
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

WORK=$(mktemp -d)
ROOT=$WORK/root
SEEN=$WORK/seen
machine=
clean() {
	[ -z "$machine" ] || kill "$machine" 2>/dev/null || true
	rm -rf "$WORK"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

cannot() {
	echo "${0##*/}: cannot look: $*" >&2
	exit 2
}

tools() {
	local tool
	for tool in "$@"; do
		command -v "$tool" >/dev/null || cannot "$tool is not installed"
	done
}

package() { # NAME=VERSION
	local dir
	tools apt-get dpkg-deb
	dir=$(mktemp -d "$WORK/package.XXXXXX")
	(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download "$1") \
		>"$WORK/log" 2>&1 ||
		cannot "apt-get does not know $1; apt-get update may help"
	dpkg-deb -x "$dir"/*.deb "$ROOT"
	rm -rf "$dir"
	echo "package: $1"
}

modules() { # directory, release, module...: in the order of their dependencies
	local dir=$1 release=$2 name file
	shift 2
	depmod -b "$ROOT" "$release"
	for name in "$@"; do
		modprobe -d "$ROOT" -S "$release" --show-depends "$name"
	done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!old[$0]++' |
		while read -r file; do
			name=$(basename "$file" .xz)
			case $file in
			*.xz) xz -dc "$file" ;;
			*) cat "$file" ;;
			esac >"$dir/$name"
			echo "insmod /$name"
		done
}

# One CPU: with two, a kernel was seen to crash at boot under QEMU's emulation. The
# second serial port takes the program's output, the first one the kernel's.
boot() { # RELEASE MODULE... [-- QEMU-OPTION...] <PROGRAM
	local release=$1 dir=$WORK/initramfs names=()
	shift
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		names+=("$1")
		shift
	done
	[ $# = 0 ] || shift
	tools gcc cpio depmod xz qemu-system-x86_64 timeout
	rm -rf "$dir"
	mkdir -p "$dir/proc" "$dir/sys" "$dir/dev" "$dir/tmp" "$dir/disk"
	gcc -xc -std=gnu11 -O1 -Wall -static -pthread \
		-L"$ROOT/usr/lib/x86_64-linux-gnu" -o "$dir/program" - ||
		cannot "the program does not compile"
	cp "$ROOT/bin/busybox" "$dir/busybox"
	[ ! -d "$WORK/extra" ] || cp -a "$WORK/extra/." "$dir"
	{
		cat <<-'END'
		#!/busybox sh
		/busybox mount -t proc proc /proc
		/busybox mount -t sysfs sys /sys
		/busybox mount -t devtmpfs dev /dev
		/busybox mount -t tmpfs tmp /tmp
		END
		modules "$dir" "$release" ${names[@]+"${names[@]}"} |
			sed 's/^/\/busybox /'
		cat <<-'END'
		/program >/dev/ttyS1 2>&1
		echo "exit status $?" >/dev/ttyS1
		/busybox poweroff -f
		END
	} >"$dir/init"
	chmod +x "$dir/init"
	(cd "$dir" && find . | cpio -o -H newc --quiet) >"$WORK/initrd"
	rm -f "$WORK/console" "$WORK/port"
	echo "kernel $release in $(qemu-system-x86_64 --version | head -n 1)"
	timeout -k 5 600 qemu-system-x86_64 -accel tcg -cpu max -m 1G \
		-nodefaults -display none -no-reboot \
		-serial "file:$WORK/console" -serial "file:$WORK/port" \
		-kernel "$ROOT/boot/vmlinuz-$release" -initrd "$WORK/initrd" \
		-append "console=ttyS0 panic=-1 quiet" "$@" </dev/null &
	machine=$!
	wait "$machine" || cannot "QEMU ended with $?"
	machine=
	tr -d '\r' <"$WORK/port" >"$SEEN"
	grep -q '^exit status 0$' "$SEEN" || {
		tail -n 20 "$WORK/console" "$SEEN" >&2
		cannot "the program did not get to its end"
	}
	sed -i '/^exit status 0$/d' "$SEEN"
}

compare() { # what many expect; the recorded lines on standard input
	cat >"$WORK/recorded"
	echo "many expect: $1"
	echo "seen:"
	sed 's/^/    /' "$SEEN"
	if cmp -s "$WORK/recorded" "$SEEN"; then
		echo "as recorded"
		return
	fi
	echo "CHANGED; what was recorded:"
	sed 's/^/    /' "$WORK/recorded"
	exit 1
}
