/* SPDX-License-Identifier: Apache-2.0 */
/* Accesses of this slice's vCPUs to other slices' devices: the side that asks and waits. */
#ifndef VMM_REMOTE_IO_H
#define VMM_REMOTE_IO_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/machine_msg.h"

/* A slice serves an access within microseconds; a host may stall for seconds under load. */
#define REMOTE_IO_TIMEOUT_MS 10000u

/*
 * Writes can be posted, as on a PCI bus: the vCPU goes on, and what it reads afterwards of the same slice comes behind
 * them on the same connection. What a vCPU of another slice does afterwards may come first. Each vCPU waits for the reply to every so-manieth, so that one that
 * writes without end has no more than these on their way; slices that serve share them. So engine_post always has room.
 */
#define REMOTE_IO_POSTED_MAX 16u

struct remote_slot;
struct remote_io;

/* What the bus knows of another slice's devices. */
struct remote_door {
	struct remote_io *r;
	unsigned slice; /* that serves them */
};

struct remote_io {
	/* constant */
	unsigned first_vcpu, vcpus;
	unsigned timeout_ms;
	unsigned posted_max; /* to one slice, that it waits for included: at least 1 */
	void *ctx;
	/* Sends to a slice; engine_post's contract. */
	int (*post)(void *ctx, unsigned slice, const struct wire_msg *msg);
	/* An access failed: err, and a sentence. Called without the lock, on the vCPU's thread. */
	void (*failed)(void *ctx, int err, const char *sentence);
	struct remote_door door[SLICES_MAX];
	/* lock */
	pthread_mutex_t lock;
	struct remote_slot *slots; /* one a local vCPU */
	bool aborted;
	uint64_t accesses;
};

/* vcpus local ones from first_vcpu on; post, failed, ctx, timeout_ms and posted_max are set by the caller
 * beforehand. 0 or negative errno. */
int remote_io_init(struct remote_io *r, unsigned first_vcpu, unsigned vcpus);
void remote_io_destroy(struct remote_io *r);
/* What the bus calls where a device is on another slice; dev is that slice's door. They block until the
 * reply, abort or the deadline; without a reply a read gives all ones. Never on the engine thread. */
extern const struct bus_ops remote_port_ops, remote_mmio_ops;
/* The same for memory of PCI devices, which takes eight bytes as two dwords; with the second one a write does not wait. */
extern const struct bus_ops remote_memory_ops, remote_posted_ops;
/* A slice's reply came; a late or unknown one is ignored. -PANGEA_EWIRE if the vCPU is not ours, or waits for another
 * slice's. Any thread. */
int remote_io_reply(struct remote_io *r, unsigned from, const struct io_reply *reply);
/* Everybody who waits, or will wait, returns at once. Any thread. */
void remote_io_abort(struct remote_io *r);
/* Accesses so far; any thread. */
uint64_t remote_io_accesses(struct remote_io *r);

#endif
