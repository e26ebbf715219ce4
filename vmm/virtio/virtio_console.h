/* SPDX-License-Identifier: Apache-2.0 */
/* A console: a virtio console device with one port (virtio 1.2, section 5.3), "hvc0" in Linux. */
#ifndef VMM_VIRTIO_CONSOLE_H
#define VMM_VIRTIO_CONSOLE_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/virtio/virtio.h"

/* Typed ahead: a pasted page of text, as the serial port's. What does not fit stays with the caller. */
#define VIRTIO_CONSOLE_INPUT_MAX 4096u

struct virtio_console;

struct virtio_console_config {
	const char *name; /* for the log */
	void *ctx;
	/* Output for the host, in order, on the device's thread, at most a page at once. */
	void (*output)(void *ctx, const uint8_t *bytes, size_t len);
	/* There is room for input again after virtio_console_input took less than was offered; on the device's
	 * thread. May be NULL. */
	void (*input_room)(void *ctx);
};

/* Makes a device; *console, for virtio_console_input, lives as long as the device. 0 or a negative errno. */
int virtio_console_create(const struct virtio_console_config *config, struct virtio_device *out,
			  struct virtio_console **console);
/* The host types, also before the driver is ready. Returns how many bytes were taken. Any thread; does not wait. */
size_t virtio_console_input(struct virtio_console *console, const uint8_t *bytes, size_t len);

#endif
