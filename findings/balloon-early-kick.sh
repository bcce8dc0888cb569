#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Linux 6.12: the balloon driver notifies the device before it sets DRIVER_OK.
#
# virtio 1.x forbids a driver to send an available-buffer notification before
# DRIVER_OK (status bit 4). Linux's virtio_balloon makes its first statistics buffer
# available and notifies queue 2 while it sets the queues up. A device that ignores
# what comes before DRIVER_OK, or that only then starts to listen, never
# hears of that buffer, and the protocol gives it no second one: look at the
# statistics queue when DRIVER_OK comes, notified or not. Seen in QEMU's trace.
. "$(dirname "$0")/common/common.sh"

package linux-image-6.12.117+deb12-cloud-amd64=6.12.117-1~deb12u1
package busybox-static=1:1.35.0-4+deb12u1+b1

boot 6.12.117+deb12-cloud-amd64 virtio_balloon -- \
	-device virtio-balloon-pci,disable-legacy=on \
	-trace virtio_set_status -trace virtio_queue_notify \
	-D "$WORK/trace" <<'END'
int main(void)
{
	return 0;
}
END
# Status 0 is set by each reset, many times by the firmware; 1 is ACKNOWLEDGE, 2
# DRIVER, 8 FEATURES_OK, 4 DRIVER_OK.
sed -n 's/.*virtio_set_status .* val \([1-9][0-9]*\)$/status \1/p
	s/.*virtio_queue_notify .* n \([0-9]*\) .*/notification of queue \1/p' \
	"$WORK/trace" >"$SEEN"

compare "DRIVER_OK (4) comes before the first notification" <<'END'
status 1
status 3
status 11
notification of queue 2
status 15
END
