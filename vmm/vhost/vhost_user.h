/* SPDX-License-Identifier: Apache-2.0 */
/* The front end of vhost-user: what is said to a back end over its socket (QEMU, docs/interop/vhost-user.rst). */
#ifndef VMM_VHOST_USER_H
#define VMM_VHOST_USER_H

#include <stdbool.h>
#include <stdint.h>

/* A back end answers from its event loop; one that has not in this time, each time, is taken for lost. */
#define VHOST_USER_ANSWER_MS 5000

/* "Feature negotiation": among the device's features, the one that says that there are protocol features. */
#define VHOST_USER_F_PROTOCOL_FEATURES (UINT64_C(1) << 30)

/* "Protocol features". */
#define VHOST_USER_PROTOCOL_MQ	      (UINT64_C(1) << 0)
#define VHOST_USER_PROTOCOL_REPLY_ACK (UINT64_C(1) << 3)
#define VHOST_USER_PROTOCOL_CONFIG    (UINT64_C(1) << 9)

/* A device's configuration is no longer ("Virtio device config space"). */
#define VHOST_USER_CONFIG_MAX 256u

/* One connection. One thread at a time uses it. */
struct vhost_user {
	const char *name; /* for the log; the owner's */
	int fd;
	uint64_t features; /* what the back end offers, protocol features excepted */
	uint64_t protocol; /* protocol features that both have */
	unsigned queues;   /* how many it has: 1 without MQ */
};

/* A ring in the memory that was set, by the addresses in it. */
struct vhost_user_ring {
	unsigned index;
	uint16_t size;
	uint64_t descriptors, driver, device;
	int kick_fd, call_fd; /* eventfds; the back end gets duplicates */
};

/*
 * All of these log what fails, by the name, and return 0 or: -PANGEA_EPEERLOST, the back end is gone or has closed the
 * socket; -ETIMEDOUT, it did not answer in time; -PANGEA_EPROTOCOL, its answer is none that can be, or it refused.
 * They wait for VHOST_USER_ANSWER_MS at most for each of a few messages.
 */

/*
 * Begins: owner, features, protocol features, number of queues. The socket is a connected stream socket, and the
 * connection's from now on, whatever comes of it. needed: protocol features without which it is -PANGEA_EPROTOCOL.
 */
int vhost_user_open(struct vhost_user *u, const char *name, int fd, uint64_t needed);
void vhost_user_close(struct vhost_user *u);
/* Sets what is used of u->features; protocol features are added. */
int vhost_user_features_set(struct vhost_user *u, uint64_t features);
/* The first `size` bytes of the device's configuration, at most VHOST_USER_CONFIG_MAX. */
int vhost_user_config_get(struct vhost_user *u, void *out, uint32_t size);
/* The one piece of memory that the back end sees: all of the file, said to be at `address`. */
int vhost_user_memory_set(struct vhost_user *u, int fd, uint64_t address, uint64_t bytes);
/* Hands a ring over that is empty and begins at index 0, and enables it. */
int vhost_user_ring_start(struct vhost_user *u, const struct vhost_user_ring *ring);
/* Whether the back end still is there: its end is open, and it has sent nothing that nobody asked for. Does not wait. */
bool vhost_user_lives(const struct vhost_user *u);

#endif
