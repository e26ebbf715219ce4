/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's side of virtqueues, in memory that is no guest's: what the tests drive devices by. */
#ifndef TESTS_UNIT_VIRTIO_DRIVER_H
#define TESTS_UNIT_VIRTIO_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/virtio/guest_memory.h"
#include "vmm/virtio/virtqueue.h"

#define DRIVER_RAM_BYTES (UINT64_C(64) << 20)
/* Rings and tables of up to eight queues lie below it. */
#define DRIVER_DATA (UINT64_C(16) << 20)

#define DRIVER_F_NEXT	  1u
#define DRIVER_F_WRITE	  2u
#define DRIVER_F_INDIRECT 4u

/* A mapping with nothing around it; changed counts calls and bytes. */
struct driver_ram {
	struct guest_memory mem;
	uint64_t changes, changed_bytes;
};

struct driver_queue {
	struct guest_memory *mem;
	struct virtqueue_config config;
	uint64_t tables; /* a page of indirect descriptors for each head */
	bool busy[VIRTQUEUE_SIZE_MAX];
	uint16_t chained[VIRTQUEUE_SIZE_MAX]; /* how many descriptors a head has */
	uint16_t next_available, last_used;
};

struct driver_piece {
	uint64_t gpa;
	uint32_t len;
	bool in;
};

void driver_ram_open(struct driver_ram *ram);
void driver_ram_close(struct driver_ram *ram);
/* The bytes at gpa. */
void *driver_at(const struct guest_memory *mem, uint64_t gpa);

/* Queue number `index` with empty rings. */
void driver_queue_init(struct driver_queue *q, struct guest_memory *mem, unsigned index,
		       uint16_t size, bool event_index);
/* Writes one descriptor. */
void driver_descriptor(struct driver_queue *q, unsigned index, uint64_t gpa, uint32_t len,
		       uint16_t flags, uint16_t next);
/* Makes a head available. */
void driver_offer(struct driver_queue *q, uint16_t head);
/* A chain of these pieces, indirect or not: takes descriptors, writes them, makes them available. */
uint16_t driver_add(struct driver_queue *q, const struct driver_piece *pieces, unsigned count,
		    bool indirect);
/* Takes the next used entry and frees its descriptors; false: there is none. */
bool driver_used(struct driver_queue *q, uint16_t *head, uint32_t *len);
/* The rings' fields. */
uint16_t *driver_field(const struct driver_queue *q, uint64_t ring, unsigned offset);
uint16_t *driver_used_event(const struct driver_queue *q);
uint16_t *driver_avail_event(const struct driver_queue *q);

#endif
