/* SPDX-License-Identifier: MIT */
/* Why a call failed, as half a sentence for people: "... and what to do". */
#ifndef OVC_SYS_WHY_H
#define OVC_SYS_WHY_H

struct ovc_why {
	char text[320]; /* "": errno says it all */
};

/* Notes the reason and returns `error`. One that is too long is cut. */
__attribute__((format(printf, 3, 4))) int
ovc_because(struct ovc_why *why, int error, const char *format, ...);

#endif
