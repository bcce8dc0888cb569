/* SPDX-License-Identifier: MIT */
/*
 * The payload's balloon driver, with virtio-balloon's requests and features:
 * statistics, deflate on OOM, free page reporting.
 *
 * It is called with each report and goes a step towards the target: one buffer.
 * It gives frames that are free, then those of the page cache that were idle for
 * longest, and leaves a few free ones: the kernel must be able to allocate while
 * it frees. A page that the workload has written is never given.
 *
 * A real driver has an interrupt for a new target. Here it comes with the answer
 * to each report, which an idle guest makes, too.
 */
#include "payload_parts.h"

#define STATISTICS_NS 1000000000
#define BLOCKS_A_STEP 64 /* that reporting looks at */
#define OOM_FRAMES    64 /* that are taken back at once */

/* Tags of virtio's. */
#define S_MAJFLT  2
#define S_MEMFREE 4
#define S_MEMTOT  5
#define S_AVAIL	  6
#define S_CACHES  7

static void ring(struct vcpu *v)
{
	v->queue->actual = v->zone.count[LIST_BALLOON];
	machine_balloon(v->queue);
}

static struct balloon_buffer *next_buffer(struct vcpu *v,
					  enum balloon_request request)
{
	struct balloon_queue *q = v->queue;
	struct balloon_buffer *buffer;

	if (q->avail - q->used == BALLOON_BUFFERS)
		ring(v);
	buffer = &q->buffer[q->avail % BALLOON_BUFFERS];
	buffer->request = request;
	buffer->nr = 0;
	return buffer;
}

static void push(struct vcpu *v, const struct balloon_buffer *buffer)
{
	v->queue->avail += buffer->nr != 0;
}

/* A frame to give, still on its list; or NO_FRAME. */
static uint32_t spare_frame(struct vcpu *v)
{
	uint32_t frame;

	if (v->zone.count[LIST_FREE] > v->reserve)
		return zone_last(&v->zone, LIST_FREE);
	frame = zone_idlest(&v->zone);
	if (frame != NO_FRAME)
		page_forget(v, frame);
	return frame;
}

static void inflate(struct vcpu *v, uint64_t nr)
{
	struct balloon_buffer *b = next_buffer(v, BALLOON_INFLATE);
	uint32_t frame;

	while (b->nr < nr && b->nr < BALLOON_FRAMES) {
		frame = spare_frame(v);
		if (frame == NO_FRAME)
			break;
		zone_move(&v->zone, frame, LIST_BALLOON);
		b->frame[b->nr++] = (uint32_t)v->first_pfn + frame;
	}
	push(v, b);
}

/* Nothing is allocated before the queue is empty, so frames may be free already. */
static void deflate(struct vcpu *v, uint64_t nr)
{
	struct balloon_buffer *b = next_buffer(v, BALLOON_DEFLATE);
	uint32_t frame;

	while (b->nr < nr && b->nr < BALLOON_FRAMES) {
		frame = zone_first(&v->zone, LIST_BALLOON);
		if (frame == NO_FRAME)
			break;
		zone_move(&v->zone, frame, LIST_FREE);
		/* Reported now, what the host just filled would be dropped. */
		zone_set_reported(&v->zone, frame);
		b->frame[b->nr++] = (uint32_t)v->first_pfn + frame;
	}
	push(v, b);
}

static void tell(struct vcpu *v)
{
	const struct zone *z = &v->zone;
	uint64_t free = z->count[LIST_FREE], all = free + z->count[LIST_CACHE];
	uint64_t available = all > v->reserve ? all - v->reserve : 0;
	uint64_t value[] = { S_MAJFLT,	v->reads,
			     S_MEMFREE, free * PAGE_SIZE,
			     S_MEMTOT,	(uint64_t)z->nr * PAGE_SIZE,
			     S_AVAIL,	available * PAGE_SIZE,
			     S_CACHES,	z->count[LIST_CACHE] * PAGE_SIZE };
	struct balloon_buffer *b = next_buffer(v, BALLOON_STATISTICS);
	uint64_t i;

	for (i = 0; i < sizeof(value) / 16; i++) {
		b->statistic[i].tag = value[2 * i];
		b->statistic[i].value = value[2 * i + 1];
	}
	b->nr = (uint32_t)i;
	push(v, b);
	v->told = v->report.now_ns;
}

/* Free all, and some of it not reported yet. */
static int is_block(const struct vcpu *v, uint32_t first)
{
	const struct frame *f = &v->zone.frame[first];
	uint32_t i, reported = 0;

	for (i = 0; i < REPORT_FRAMES; i++) {
		if (f[i].list != LIST_FREE)
			return 0;
		reported += f[i].flags & FRAME_REPORTED;
	}
	return reported < REPORT_FRAMES * FRAME_REPORTED;
}

/* What is scattered is never reported; it is the balloon's to bring. */
static void report_free(struct vcpu *v)
{
	struct balloon_buffer *b = next_buffer(v, BALLOON_REPORT);
	struct zone *z = &v->zone;
	uint32_t i, j;

	for (i = 0; i < BLOCKS_A_STEP; i++, z->hand += REPORT_FRAMES) {
		if (z->hand + REPORT_FRAMES > z->nr)
			z->hand = 0;
		if (z->nr < REPORT_FRAMES || !is_block(v, z->hand))
			continue;
		for (j = 0; j < REPORT_FRAMES; j++)
			zone_set_reported(z, z->hand + j);
		b->frame[b->nr++] = (uint32_t)v->first_pfn + z->hand;
	}
	push(v, b);
}

void balloon_start(struct vcpu *v)
{
	if (!v->queue)
		return;
	v->queue->driver = 1;
	tell(v);
	ring(v);
}

void balloon_work(struct vcpu *v)
{
	uint64_t held = v->zone.count[LIST_BALLOON], target = v->report.target;

	if (!v->queue || !v->queue->driver)
		return;
	if (held < target)
		inflate(v, target - held);
	else if (held > target)
		deflate(v, held - target);
	if (v->zone.unreported >= REPORT_FRAMES)
		report_free(v);
	if (v->report.now_ns - v->told >= STATISTICS_NS)
		tell(v);
	if (v->queue->avail != v->queue->used)
		ring(v);
}

void balloon_out_of_memory(struct vcpu *v)
{
	if (!v->queue)
		return;
	deflate(v, OOM_FRAMES);
	ring(v);
}
