/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory as a device's thread reaches it: under the coherence protocol, with every address checked. */
#ifndef VMM_GUEST_MEMORY_H
#define VMM_GUEST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/machine/shape.h"

/*
 * The mapping is the vCPUs' own (engine_ram()): a page that is not here is a page fault of the thread that touches it,
 * and the engine thread serves it. So only a device's own thread may read or write through this, and no thread
 * that the engine might wait for; with no lock held that such a thread takes.
 */
struct guest_memory {
	uint8_t *ram;	  /* engine_ram() */
	uint64_t ram_end; /* RAM: [0, GPA_HOLE_START) and [GPA_HOLE_END, ram_end), cut at ram_end */
	/* Bytes were stored: code that was decoded from there is stale (vcpu_ops.memory_changed). May be NULL. */
	void (*changed)(void *ctx, uint64_t gpa, uint64_t len);
	void *ctx;
	unsigned images; /* which can be read, and not written */
	const struct shape_image *image;
};

/* Where [gpa, gpa + len) lies in this process, or NULL: not all of it is RAM. Any thread; touches nothing. */
uint8_t *guest_memory_at(const struct guest_memory *mem, uint64_t gpa, uint64_t len);
/* The same for bytes that are only read: they may lie in an image, as a whole. */
const uint8_t *guest_memory_readable(const struct guest_memory *mem, uint64_t gpa, uint64_t len);
/* Does all of it lie in one image? */
bool guest_memory_image(const struct guest_memory *mem, uint64_t gpa, uint64_t len);
/* To be called after a store to [gpa, gpa + len). */
void guest_memory_changed(const struct guest_memory *mem, uint64_t gpa, uint64_t len);

#endif
