/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device's life: status, and the thread that starts it, does its work and resets it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/lock.h"
#include "base/log.h"
#include "vmm/virtio/virtio_parts.h"

#define ISR_QUEUE  1u
#define ISR_CONFIG 2u
/* A negotiation that no driver may do without: the rules of virtio 1. */
#define FEATURES_NEEDED VIRTIO_F_VERSION_1

/*
 * Registers are read and written by vCPUs, and by the engine thread for vCPUs of other slices. The device's thread
 * touches guest memory, and may then wait for the engine thread; so the engine thread must never wait for it. What
 * the registers ask of the device is therefore only noted (reset_wanted, start_wanted) and done later. The driver
 * sees a reset's end by the status register, as virtio 1.2, section 2.4, has it.
 */

void virtio_wake(struct virtio *v)
{
	eventfd_write(v->wake_fd, 1);
}

static void registers_reset(struct virtio *v)
{
	v->status = 0;
	v->device_select = v->driver_select = 0;
	v->driver_features = 0;
	v->queue_select = 0;
	v->isr = 0;
	v->start_wanted = false;
	atomic_store(&v->config_vector, VIRTIO_NO_VECTOR);
	for (unsigned i = 0; i < v->device.queues; i++)
		v->registers[i] = (struct virtio_queue_registers){.size = v->device.queue_size,
								  .vector = VIRTIO_NO_VECTOR};
}

/* ---- the driver's side: lock held ---- */

static void reset_ask(struct virtio *v)
{
	if (v->reset_wanted)
		return;
	if (!(v->status & VIRTIO_STATUS_DRIVER_OK)) {
		registers_reset(v); /* the device's thread has nothing of it */
		return;
	}
	v->reset_wanted = true;
	virtio_wake(v);
}

/* Section 3.1.1. Bits are only ever added, but by a reset. */
void virtio_status_write(struct virtio *v, uint8_t status)
{
	uint8_t fresh = (uint8_t)(status & ~v->status);

	if (!status) {
		reset_ask(v);
		return;
	}
	if (v->reset_wanted)
		return;
	if ((fresh & VIRTIO_STATUS_FEATURES_OK) &&
	    ((v->driver_features & ~v->features) ||
	     (v->driver_features & FEATURES_NEEDED) != FEATURES_NEEDED))
		fresh &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
	if ((fresh & VIRTIO_STATUS_DRIVER_OK) && !((v->status | fresh) & VIRTIO_STATUS_FEATURES_OK))
		fresh &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
	v->status |= fresh & (uint8_t)~VIRTIO_STATUS_NEEDS_RESET;
	if (fresh & VIRTIO_STATUS_DRIVER_OK) {
		v->start_wanted = true;
		virtio_wake(v);
	}
}

/* ---- interrupts ---- */

static void interrupt_send(struct virtio *v, uint16_t vector, uint8_t reason)
{
	pthread_mutex_lock(&v->lock);
	v->isr |= reason;
	pthread_mutex_unlock(&v->lock);
	if (vector != VIRTIO_NO_VECTOR)
		msix_raise(&v->msix, vector);
}

void virtio_interrupt(struct virtio *v, unsigned index)
{
	if (virtqueue_interrupt_wanted(&v->queue[index]))
		interrupt_send(v, v->vector[index], ISR_QUEUE);
}

void virtio_config_changed(struct virtio *v)
{
	atomic_fetch_add(&v->generation, 1);
	interrupt_send(v, atomic_load(&v->config_vector), ISR_CONFIG);
}

/* ---- for the type ---- */

uint64_t virtio_features(const struct virtio *v)
{
	return v->negotiated;
}

struct virtqueue *virtio_queue(struct virtio *v, unsigned index)
{
	return index < v->device.queues && v->queue_there[index] ? &v->queue[index] : NULL;
}

const char *virtio_name(const struct virtio *v)
{
	return v->device.name;
}

/* ---- the device's thread ---- */

/* Section 2.1.1, DEVICE_NEEDS_RESET: the driver has broken a rule; it alone may mend that. */
static void device_failed(struct virtio *v, int err)
{
	log_warn("%s: the device stops until its driver resets it: %s", v->device.name,
		 error_text(err));
	v->running = false;
	v->device.ops->stop(v->device.dev, v);
	pthread_mutex_lock(&v->lock);
	v->status |= VIRTIO_STATUS_NEEDS_RESET;
	pthread_mutex_unlock(&v->lock);
	virtio_config_changed(v);
}

/* Takes the queues over from the registers, which the driver does not change any more. lock held. */
static int queues_take(struct virtio *v)
{
	int err = 0;

	v->negotiated = v->driver_features;
	for (unsigned i = 0; i < v->device.queues && !err; i++) {
		const struct virtio_queue_registers *r = &v->registers[i];
		struct virtqueue_config config = {.size = r->size,
						  .descriptors = r->address[0],
						  .driver = r->address[1],
						  .device = r->address[2],
						  .event_index = v->negotiated & VIRTIO_F_EVENT_IDX,
						  .indirect =
							  v->negotiated & VIRTIO_F_INDIRECT_DESC};

		v->vector[i] = r->vector;
		v->queue_there[i] = r->enabled;
		if (r->enabled)
			err = virtqueue_init(&v->queue[i], &config, &v->mem);
	}
	return err;
}

static uint32_t queues_all(const struct virtio *v)
{
	return (UINT32_C(1) << v->device.queues) - 1;
}

static void device_start(struct virtio *v)
{
	int err;

	pthread_mutex_lock(&v->lock);
	v->start_wanted = false;
	err = queues_take(v);
	pthread_mutex_unlock(&v->lock);
	v->running = true;
	if (!err)
		err = v->device.ops->start(v->device.dev, v);
	if (err)
		device_failed(v, err);
	else
		atomic_fetch_or(&v->notified, queues_all(v));
}

static void device_reset(struct virtio *v)
{
	if (v->running)
		v->device.ops->stop(v->device.dev, v);
	v->running = false;
	atomic_store(&v->notified, 0);
	memset(v->queue_there, 0, sizeof(v->queue_there));
	pthread_mutex_lock(&v->lock);
	registers_reset(v);
	v->reset_wanted = false;
	pthread_mutex_unlock(&v->lock);
}

/* Waits for the driver, a descriptor of the type, or time. */
static void device_wait(struct virtio *v)
{
	struct pollfd fds[VIRTIO_POLL_MAX + 1] = {{.fd = v->wake_fd, .events = POLLIN}};
	eventfd_t count;
	unsigned more = 0;
	int timeout_ms = -1;

	if (v->running && v->device.ops->poll)
		more = v->device.ops->poll(v->device.dev, v, fds + 1, &timeout_ms);
	invariant(more <= VIRTIO_POLL_MAX);
	if (poll(fds, more + 1, timeout_ms) > 0 && (fds[0].revents & POLLIN))
		eventfd_read(v->wake_fd, &count);
}

/* What the registers have asked for since; true: the end. */
static bool device_asked(struct virtio *v)
{
	bool halt, reset, start;

	pthread_mutex_lock(&v->lock);
	halt = v->halt_wanted;
	reset = v->reset_wanted;
	start = v->start_wanted && !reset;
	pthread_mutex_unlock(&v->lock);
	if (halt)
		return true;
	if (reset)
		device_reset(v);
	if (start)
		device_start(v);
	return false;
}

static void *device_thread(void *arg)
{
	struct virtio *v = arg;
	int err;

	while (!device_asked(v)) {
		if (v->running) {
			err = v->device.ops->work(v->device.dev, v,
						  atomic_exchange(&v->notified, 0));
			if (err)
				device_failed(v, err);
		}
		/* A bit that came meanwhile woke the eventfd after it was set. */
		if (!v->running || !atomic_load(&v->notified))
			device_wait(v);
	}
	if (v->running)
		v->device.ops->stop(v->device.dev, v);
	v->thread_gone(v->thread_gone_ctx);
	return NULL;
}

/* ---- life ---- */

static bool device_valid(const struct virtio_device *d)
{
	return d->queues && d->queues <= VIRTIO_QUEUES_MAX && d->config_size <= VIRTIO_CONFIG_MAX &&
	       d->queue_size && d->queue_size <= VIRTQUEUE_SIZE_MAX &&
	       !(d->queue_size & (d->queue_size - 1));
}

static int parts_create(struct virtio *v, const struct virtio_env *env)
{
	int err;

	v->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->wake_fd < 0)
		return -errno;
	err = lock_init(&v->lock);
	if (err)
		goto fail_fd;
	err = virtio_pci_init(v, env->deliver, env->ctx);
	if (err)
		goto fail_lock;
	return 0;
fail_lock:
	pthread_mutex_destroy(&v->lock);
fail_fd:
	close(v->wake_fd);
	return err;
}

int virtio_create(const struct virtio_device *device, const struct virtio_env *env,
		  struct virtio **out)
{
	struct virtio *v = calloc(1, sizeof(*v));
	int err = -ENOMEM;

	if (v && !device_valid(device))
		err = -EINVAL;
	else if (v) {
		v->device = *device;
		v->mem = env->mem;
		v->features = device->features | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX |
			      VIRTIO_F_INDIRECT_DESC;
		v->thread_gone = env->thread_gone;
		v->thread_gone_ctx = env->ctx;
		registers_reset(v);
		err = parts_create(v, env);
	}
	if (err) {
		if (device->ops->destroy)
			device->ops->destroy(device->dev);
		free(v);
		return err;
	}
	*out = v;
	return 0;
}

int virtio_start(struct virtio *v)
{
	char name[16];
	int err = pthread_create(&v->thread, NULL, device_thread, v);

	if (err)
		return -err;
	v->thread_running = true;
	snprintf(name, sizeof(name), "%.15s", v->device.name);
	pthread_setname_np(v->thread, name);
	return 0;
}

void virtio_halt(struct virtio *v)
{
	pthread_mutex_lock(&v->lock);
	v->halt_wanted = true;
	pthread_mutex_unlock(&v->lock);
	virtio_wake(v);
}

void virtio_join(struct virtio *v)
{
	if (v->thread_running)
		pthread_join(v->thread, NULL);
	v->thread_running = false;
}

void virtio_destroy(struct virtio *v)
{
	if (!v)
		return;
	invariant(!v->thread_running);
	if (v->device.ops->destroy)
		v->device.ops->destroy(v->device.dev);
	msix_destroy(&v->msix);
	pthread_mutex_destroy(&v->lock);
	close(v->wake_fd);
	free(v);
}
