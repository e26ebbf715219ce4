/* SPDX-License-Identifier: Apache-2.0 */
/* Accesses of other slices' vCPUs to slice 0's devices: the side that asks and waits. */
#ifndef VMM_REMOTE_IO_H
#define VMM_REMOTE_IO_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine/bus.h"
#include "vmm/machine/machine_msg.h"

/* Slice 0 serves an access within microseconds; a host may stall for seconds under load. */
#define REMOTE_IO_TIMEOUT_MS 10000u

/*
 * Writes to devices' memory are posted, as on a PCI bus: the vCPU goes on, and what it reads afterwards comes behind
 * them on the same connection. Each vCPU waits for the reply to every so-manieth, so that one that writes without end
 * has no more than these on their way.
 */
#define REMOTE_IO_POSTED_MAX 16u

struct remote_slot;

struct remote_io {
	/* constant */
	unsigned first_vcpu, vcpus;
	unsigned timeout_ms;
	void *ctx;
	/* Sends to slice 0; engine_post's contract. */
	int (*post)(void *ctx, const struct wire_msg *msg);
	/* An access failed: err, and a sentence. Called without the lock, on the vCPU's thread. */
	void (*failed)(void *ctx, int err, const char *sentence);
	/* lock */
	pthread_mutex_t lock;
	struct remote_slot *slots; /* one a local vCPU */
	bool aborted;
	uint64_t accesses;
};

/* vcpus local ones from first_vcpu on; post, failed, ctx and timeout_ms are set by the caller
 * beforehand. 0 or negative errno. */
int remote_io_init(struct remote_io *r, unsigned first_vcpu, unsigned vcpus);
void remote_io_destroy(struct remote_io *r);
/* What the bus calls on a slice that is not 0; dev is the struct remote_io. They block until the
 * reply, abort or the deadline; without a reply a read gives all ones. */
extern const struct bus_ops remote_port_ops, remote_mmio_ops;
/* The same for memory that may be written without waiting. */
extern const struct bus_ops remote_posted_ops;
/* The reply came; a late or unknown one is ignored. -PANGEA_EWIRE if the vCPU is not ours. Any
 * thread. */
int remote_io_reply(struct remote_io *r, const struct io_reply *reply);
/* Everybody who waits, or will wait, returns at once. Any thread. */
void remote_io_abort(struct remote_io *r);
/* Accesses so far; any thread. */
uint64_t remote_io_accesses(struct remote_io *r);

#endif
