#!/bin/bash
# SPDX-License-Identifier: MIT
#
# QEMU 7.2: a balloon gives nothing back where guest memory is of 2 MiB pages.
#
# Linux's virtio-balloon driver inflates by 256 pages of 4 KiB at a time. QEMU can
# free a huge page only whole, and remembers which parts of one it was given only
# until the end of such a batch, of 1 MiB. So none is ever complete:
# "info balloon" says that the guest has shrunk, and the host has all of its
# memory still taken. Half of a guest is asked for here, over memory of each kind;
# QEMU and its guest run inside a virtual machine, which has huge pages to give.
. "$(dirname "$0")/common/common.sh"

# The libraries that QEMU depends on are the machine's.
package qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3
package qemu-system-data=1:7.2+dfsg-7+deb12u18
package seabios=1.16.2-1
package linux-image-6.12.117+deb12-cloud-amd64=6.12.117-1~deb12u1
package busybox-static=1:1.35.0-4+deb12u1+b1

release=6.12.117+deb12-cloud-amd64
tools ldd cpio
inner=$WORK/inner extra=$WORK/extra
mkdir -p "$inner" "$extra/data"
cp "$ROOT/bin/busybox" "$inner"
{
	echo '#!/busybox sh'
	modules "$inner" "$release" virtio_balloon | sed 's/^/\/busybox /'
	echo '/busybox sleep 10000'
} >"$inner/init"
chmod +x "$inner/init"
(cd "$inner" && find . | cpio -o -H newc --quiet) >"$extra/initrd"
cp "$ROOT/boot/vmlinuz-$release" "$extra/vmlinuz"
cp "$ROOT/usr/bin/qemu-system-x86_64" "$extra/qemu"
cp "$ROOT/usr/share/seabios/bios-256k.bin" "$extra/data"
cp "$ROOT"/usr/share/qemu/{kvmvapic,linuxboot_dma}.bin "$extra/data"
ldd "$extra/qemu" | grep -o '/[^ ]*' | while read -r library; do
	mkdir -p "$extra$(dirname "$library")"
	cp -L "$library" "$extra$library"
done

cat >"$extra/run" <<'END'
/busybox mkdir /bin
/busybox --install -s /bin
export PATH=/bin
cd /tmp
count() { # name in /proc/meminfo
	sed -n "s/^$1: *\([0-9]*\).*/\1/p" /proc/meminfo
}
taken() { # MiB of memory for guests that is in use, of both kinds
	echo $(((($(count HugePages_Total) - $(count HugePages_Free)) * 2048 +
		$(count Shmem) + 512) / 1024 - base))
}
try() { # kind, option of the memory
	mkfifo monitor
	base=0
	base=$(taken)
	/qemu -L /data -accel kvm -cpu host -m 256M -nodefaults -display none \
		-machine memory-backend=ram -monitor stdio \
		-object memory-backend-memfd,id=ram,size=256M,prealloc=on$2 \
		-device virtio-balloon-pci -kernel /vmlinuz -initrd /initrd \
		-append quiet <monitor >out 2>&1 &
	exec 3>monitor
	echo "info balloon" >&3
	until grep -q actual= out; do sleep 1; done
	echo "$1: the guest has 256 MiB, $(taken) MiB are taken"
	echo "balloon 128" >&3
	until grep -q actual=128 out; do
		echo "info balloon" >&3
		sleep 1
	done
	echo "$1: the guest has 128 MiB, $(taken) MiB are taken"
	echo quit >&3
	exec 3>&-
	wait
	rm monitor out
}
echo 128 >/proc/sys/vm/nr_hugepages
try "4 KiB pages" ""
try "2 MiB pages" ,hugetlb=on,hugetlbsize=2M
END
boot "$release" kvm-amd -- -m 2G <<'END'
#include <unistd.h>

int main(void)
{
	return execl("/busybox", "sh", "/run", (char *)0);
}
END

compare "what the balloon takes from a guest the host has" <<'END'
4 KiB pages: the guest has 256 MiB, 256 MiB are taken
4 KiB pages: the guest has 128 MiB, 128 MiB are taken
2 MiB pages: the guest has 256 MiB, 256 MiB are taken
2 MiB pages: the guest has 128 MiB, 256 MiB are taken
END
