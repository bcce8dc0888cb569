/* SPDX-License-Identifier: MIT */
/* The payload's flat binary, as an array of the VMM's. */
	.section .rodata
	.globl payload_image, payload_image_end
payload_image:
	.incbin PAYLOAD_IMAGE
payload_image_end:
	.section .note.GNU-stack, "", @progbits
