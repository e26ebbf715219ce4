/* SPDX-License-Identifier: Apache-2.0 */
/* Remote port and MMIO accesses: one request at a time per vCPU, a sequence number, a deadline. */
#include "vmm/machine/remote_io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"

struct remote_slot {
	pthread_cond_t done; /* CLOCK_MONOTONIC */
	uint16_t seq;
	bool waiting;
	unsigned target; /* whose reply */
	uint32_t value;
	uint8_t posted[SLICES_MAX]; /* writes to each slice since its last reply */
};

static int slots_init(struct remote_io *r)
{
	unsigned i;
	int err = 0;

	for (i = 0; i < r->vcpus && !err; i++)
		err = lock_cond_init(&r->slots[i].done);
	if (err)
		while (--i)
			pthread_cond_destroy(&r->slots[i - 1].done);
	return err;
}

int remote_io_init(struct remote_io *r, unsigned first_vcpu, unsigned vcpus)
{
	int err;

	r->first_vcpu = first_vcpu;
	r->vcpus = vcpus;
	r->aborted = false;
	r->accesses = 0;
	for (unsigned i = 0; i < SLICES_MAX; i++)
		r->door[i] = (struct remote_door){r, i};
	r->slots = calloc(vcpus + 1, sizeof(*r->slots));
	if (!r->slots)
		return -ENOMEM;
	err = lock_init(&r->lock);
	if (err)
		goto fail_slots;
	err = slots_init(r);
	if (err)
		goto fail_lock;
	return 0;
fail_lock:
	pthread_mutex_destroy(&r->lock);
fail_slots:
	free(r->slots);
	return err;
}

void remote_io_destroy(struct remote_io *r)
{
	unsigned i;

	for (i = 0; i < r->vcpus; i++)
		pthread_cond_destroy(&r->slots[i].done);
	pthread_mutex_destroy(&r->lock);
	free(r->slots);
}

/* lock held. 0, -ETIMEDOUT or -ECANCELED. */
static int slot_wait(struct remote_io *r, struct remote_slot *slot)
{
	uint64_t deadline_ns = clock_now_ns() + r->timeout_ms * NS_PER_MS;
	struct timespec until = {.tv_sec = (time_t)(deadline_ns / NS_PER_S),
				 .tv_nsec = (long)(deadline_ns % NS_PER_S)};

	while (slot->waiting && !r->aborted)
		if (pthread_cond_timedwait(&slot->done, &r->lock, &until) == ETIMEDOUT)
			break;
	if (!slot->waiting)
		return 0;
	slot->waiting = false;
	return r->aborted ? -ECANCELED : -ETIMEDOUT;
}

static void access_failed(struct remote_io *r, unsigned slice, const struct io_request *req,
			  int err)
{
	char sentence[MACHINE_SENTENCE_MAX];

	/* Aborted, or the slice is lost: whoever found out about that tells it. */
	if (err == -ECANCELED || err == -ENOTCONN)
		return;
	if (err == -ETIMEDOUT)
		snprintf(sentence, sizeof(sentence),
			 "slice %u did not answer vCPU %u's access to %s 0x%llx within %u ms",
			 slice, req->vcpu, req->mmio ? "address" : "port",
			 (unsigned long long)req->addr, r->timeout_ms);
	else
		snprintf(sentence, sizeof(sentence),
			 "vCPU %u's access to %s 0x%llx could not be sent to slice %u: %s",
			 req->vcpu, req->mmio ? "address" : "port", (unsigned long long)req->addr,
			 slice, error_text(err));
	r->failed(r->ctx, err, sentence);
}

/* lock held. Sends it and, unless it is posted, waits; 0, or why there is no reply. */
static int slot_access(struct remote_io *r, struct remote_slot *slot, unsigned slice,
		       struct io_request *req)
{
	uint8_t *posted = &slot->posted[slice];
	struct wire_msg msg;
	int err;

	if (r->aborted)
		return -ECANCELED;
	r->accesses++;
	req->seq = ++slot->seq;
	req->posted = req->posted && ++*posted < r->posted_max;
	slot->waiting = !req->posted;
	slot->target = slice;
	io_request_encode(req, &msg);
	err = r->post(r->ctx, slice, &msg);
	if (err)
		slot->waiting = false;
	else if (!req->posted)
		err = slot_wait(r, slot);
	if (!err && !req->posted)
		*posted = 0;
	return err;
}

static uint64_t remote_access(const struct remote_door *door, struct io_request *req)
{
	struct remote_io *r = door->r;
	uint64_t value = bus_ones(req->size);
	struct remote_slot *slot;
	int err;

	invariant(req->vcpu - r->first_vcpu < r->vcpus);
	slot = &r->slots[req->vcpu - r->first_vcpu];
	pthread_mutex_lock(&r->lock);
	err = slot_access(r, slot, door->slice, req);
	if (!err && !req->posted)
		value = slot->value;
	pthread_mutex_unlock(&r->lock);
	if (err)
		access_failed(r, door->slice, req, err);
	return value;
}

int remote_io_reply(struct remote_io *r, unsigned from, const struct io_reply *reply)
{
	struct remote_slot *slot;
	int err = 0;

	if ((unsigned)(reply->vcpu - r->first_vcpu) >= r->vcpus)
		return -PANGEA_EWIRE;
	slot = &r->slots[reply->vcpu - r->first_vcpu];
	pthread_mutex_lock(&r->lock);
	if (slot->waiting && slot->seq == reply->seq && slot->target != from) {
		err = -PANGEA_EWIRE;
	} else if (slot->waiting && slot->seq == reply->seq) {
		slot->waiting = false;
		slot->value = reply->value;
		pthread_cond_signal(&slot->done);
	}
	pthread_mutex_unlock(&r->lock);
	return err;
}

void remote_io_abort(struct remote_io *r)
{
	unsigned i;

	pthread_mutex_lock(&r->lock);
	r->aborted = true;
	for (i = 0; i < r->vcpus; i++)
		pthread_cond_signal(&r->slots[i].done);
	pthread_mutex_unlock(&r->lock);
}

uint64_t remote_io_accesses(struct remote_io *r)
{
	uint64_t accesses;

	pthread_mutex_lock(&r->lock);
	accesses = r->accesses;
	pthread_mutex_unlock(&r->lock);
	return accesses;
}

/* ---- the bus's side ---- */

static uint64_t port_read(void *dev, unsigned vcpu, uint64_t addr, unsigned size)
{
	struct io_request req = {.addr = addr, .vcpu = (uint16_t)vcpu, .size = (uint8_t)size};

	return remote_access(dev, &req);
}

static void port_write(void *dev, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
	struct io_request req = {.addr = addr,
				 .value = (uint32_t)value,
				 .vcpu = (uint16_t)vcpu,
				 .size = (uint8_t)size,
				 .write = true};

	remote_access(dev, &req);
}

static uint64_t mmio_read(void *dev, unsigned vcpu, uint64_t addr, unsigned size)
{
	struct io_request req = {
		.addr = addr, .vcpu = (uint16_t)vcpu, .size = (uint8_t)size, .mmio = true};

	return remote_access(dev, &req);
}

static void mmio_write(void *dev, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
	struct io_request req = {.addr = addr,
				 .value = (uint32_t)value,
				 .vcpu = (uint16_t)vcpu,
				 .size = (uint8_t)size,
				 .mmio = true,
				 .write = true};

	remote_access(dev, &req);
}

/* A message has 32 bits; PCI memory takes eight bytes as two dwords, too. */
static void dwords_write(const struct remote_door *door, struct io_request *req, unsigned size,
			 uint64_t value, bool posted)
{
	req->mmio = req->write = true;
	req->size = (uint8_t)(size == 8 ? 4 : size);
	for (unsigned i = 0; i < size; i += 4) {
		req->value = (uint32_t)(value >> 8 * i);
		req->posted = posted;
		remote_access(door, req);
		req->addr += 4;
	}
}

static void memory_write(void *dev, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
	struct io_request req = {.addr = addr, .vcpu = (uint16_t)vcpu};

	dwords_write(dev, &req, size, value, false);
}

static void memory_post(void *dev, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
	struct io_request req = {.addr = addr, .vcpu = (uint16_t)vcpu};

	dwords_write(dev, &req, size, value, true);
}

static uint64_t memory_read(void *dev, unsigned vcpu, uint64_t addr, unsigned size)
{
	if (size < 8)
		return mmio_read(dev, vcpu, addr, size);
	return mmio_read(dev, vcpu, addr, 4) | mmio_read(dev, vcpu, addr + 4, 4) << 32;
}

const struct bus_ops remote_port_ops = {port_read, port_write};
const struct bus_ops remote_mmio_ops = {mmio_read, mmio_write};
const struct bus_ops remote_memory_ops = {memory_read, memory_write};
const struct bus_ops remote_posted_ops = {memory_read, memory_post};
