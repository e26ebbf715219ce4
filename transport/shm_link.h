/* SPDX-License-Identifier: Apache-2.0 */
/* A connection whose messages go through shared memory: its rings, and the memory that they lie in. */
#ifndef TRANSPORT_SHM_LINK_H
#define TRANSPORT_SHM_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/shm_ring.h"

struct conn;
struct net;

struct shm_link {
	struct shm_ring *rings; /* both: that of who made the memory, then the other's */
	struct shm_sender tx;
	struct shm_receiver rx;
	uint64_t moved_ms; /* loop time when the peer last took some of what waits for it */
};

/* shm_memory.c */
/* Makes, seals and maps the memory. Returns its descriptor, the caller's, or a negative errno. */
int shm_memory_create(struct shm_ring **rings);
/*
 * Checks and maps what a peer has sent; fd stays the caller's. 0; -PANGEA_EPROTOCOL: it is not what
 * shm_memory_create makes; or a negative errno. The sentence is in why.
 */
int shm_memory_open(int fd, struct shm_ring **rings, char *why, size_t size);
void shm_memory_unmap(struct shm_ring *rings);

/* shm_link.c */
/* Takes the rings over; maker: this side made the memory. 0 or -ENOMEM, and they are unmapped. */
int shm_link_create(struct conn *conn, struct shm_ring *rings, bool maker);
void shm_link_destroy(struct conn *conn);
/* Puts a message into the ring: 1; 0: there is no room; negative: the connection closes. */
int shm_link_put(struct conn *conn, const uint8_t *header, const void *payload,
		 uint32_t payload_len);
/* Messages wait in the queue: the peer shall say when there is room. */
void shm_link_await(struct conn *conn);
/* Puts what waits into the ring, as far as there is room. */
void shm_link_flush(struct conn *conn);
/* Hands on some of what is in the ring; returns how many messages. */
unsigned shm_link_receive(struct conn *conn);
/* The socket beside the rings has something: bells, or the end. */
void shm_link_event(struct conn *conn);

/* shm_loop.c */
/* The first shared link: from now on the loop looks at the rings whenever it goes round. */
void shm_loop_start(struct net *net);
void shm_loop_close(struct net *net);
/* Looks at every ring; returns how many messages were handed on, or -ENOTSUP: there is no ring. */
int shm_loop_poll(struct net *net);

#endif
