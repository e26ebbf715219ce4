/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the device's side of a virtqueue: ring memory is the input, and is written while the queue is used. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/virtio/virtqueue.h"

/* Few bytes, so that an address of the input is likely to be RAM; nothing is mapped around them. */
#define RAM_BYTES (4 * PANGEA_PAGE_SIZE)
/* What input may hand over before the queue is used. */
#define FILL_MAX 2048u

static uint8_t *ram;

static uint64_t number(struct fuzz_input *in, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)fuzz_byte(in) << (8 * i);
	return value;
}

static void ram_map(void)
{
	uint8_t *all = mmap(NULL, RAM_BYTES + 2 * PANGEA_PAGE_SIZE, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	invariant(all != MAP_FAILED);
	ram = all + PANGEA_PAGE_SIZE;
	invariant(mprotect(ram, RAM_BYTES, PROT_READ | PROT_WRITE) == 0);
}

static void changed(void *ctx, uint64_t gpa, uint64_t len)
{
	(void)ctx;
	invariant(len > 0 && gpa < RAM_BYTES && len <= RAM_BYTES - gpa);
}

/* All that a chain promises; its bytes are read and written as a device would. */
static void chain_use(const struct virtqueue *q, const struct virtqueue_chain *chain)
{
	static uint8_t bytes[2 * RAM_BYTES];
	uint64_t out = 0, in = 0;

	invariant(chain->out_count + chain->in_count > 0);
	invariant(chain->out_count + chain->in_count <= VIRTQUEUE_SEGMENTS_MAX);
	for (unsigned i = 0; i < chain->out_count + chain->in_count; i++) {
		const struct virtqueue_segment *s = &chain->segment[i];

		invariant(s->len > 0 && s->gpa < RAM_BYTES && s->len <= RAM_BYTES - s->gpa);
		invariant(s->base == ram + s->gpa);
		*(i < chain->out_count ? &out : &in) += s->len;
	}
	invariant(out == chain->out_bytes && in == chain->in_bytes);
	invariant(out + in <= VIRTQUEUE_CHAIN_BYTES_MAX);
	if (out <= sizeof(bytes))
		invariant(virtqueue_read(chain, 0, bytes, sizeof(bytes)) == out);
	invariant(virtqueue_read(chain, chain->out_bytes, bytes, 1) == 0);
	/* Into the last bytes: what stands there may be the rings. */
	invariant(virtqueue_write(q, chain, in > 3 ? (uint32_t)in - 3 : 0, bytes, 16) ==
		  (in > 3 ? 3 : in));
}

static void take(struct virtqueue *q, bool back)
{
	static struct virtqueue_chain chain;
	uint16_t before = q->next_available, inflight = q->inflight;
	int got = virtqueue_pop(q, &chain);

	invariant(got == 0 || got == 1 || got == -PANGEA_EDRIVER);
	if (got != 1) {
		invariant(q->next_available == before && q->inflight == inflight);
		return;
	}
	invariant(q->inflight == inflight + 1 && q->inflight <= q->config.size);
	chain_use(q, &chain);
	if (back)
		virtqueue_unpop(q);
}

static void scribble(struct fuzz_input *in)
{
	uint16_t at = (uint16_t)number(in, 2) % RAM_BYTES;
	uint8_t count = fuzz_byte(in) % 32;

	for (unsigned i = 0; i < count; i++)
		ram[(at + i) % RAM_BYTES] = fuzz_byte(in);
}

static void step(struct virtqueue *q, struct fuzz_input *in)
{
	uint8_t what = fuzz_byte(in);

	switch (what % 8) {
	case 0:
	case 1:
	case 2:
		take(q, false);
		break;
	case 3:
		take(q, true);
		break;
	case 4:
	case 5:
		if (q->inflight > 0)
			virtqueue_push(q, fuzz_byte(in), (uint32_t)number(in, 4));
		break;
	case 6:
		(void)virtqueue_interrupt_wanted(q);
		break;
	default:
		scribble(in);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, data + size};
	struct virtqueue_config config;
	struct guest_memory mem;
	struct virtqueue q;
	unsigned fill;

	if (!ram)
		ram_map();
	memset(ram, 0, RAM_BYTES);
	mem = (struct guest_memory){.ram = ram, .ram_end = RAM_BYTES, .changed = changed};
	config.size = (uint16_t)number(&in, 2);
	config.descriptors = number(&in, 3);
	config.driver = number(&in, 3);
	config.device = number(&in, 3);
	config.event_index = fuzz_byte(&in) % 2;
	config.indirect = fuzz_byte(&in) % 2;
	if (virtqueue_init(&q, &config, &mem) != 0)
		return 0;
	fill = (unsigned)number(&in, 2) % FILL_MAX;
	for (unsigned i = 0; i < fill; i++)
		ram[i] = fuzz_byte(&in);
	while (in.at < in.end)
		step(&q, &in);
	return 0;
}
