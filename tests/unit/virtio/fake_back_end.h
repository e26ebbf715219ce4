/* SPDX-License-Identifier: Apache-2.0 */
/* A vhost-user back end of the test's own: it says what it is told to, and its rings are written by hand. */
#ifndef TESTS_UNIT_VIRTIO_FAKE_BACK_END_H
#define TESTS_UNIT_VIRTIO_FAKE_BACK_END_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define FAKE_QUEUES 4u

enum fake_fault {
	FAKE_NONE,
	FAKE_SILENT,	     /* answers nothing */
	FAKE_CLOSES,	     /* closes instead of the first answer */
	FAKE_OTHER_REQUEST,  /* answers what was not asked */
	FAKE_NO_REPLY_FLAG,  /* its answer says that it is none */
	FAKE_LONG_ANSWER,    /* says that its answer is longer than any */
	FAKE_HALF_ANSWER,    /* closes within its answer */
	FAKE_NO_CONFIG,	     /* answers with an empty configuration, as for an error */
	FAKE_REFUSES_MEMORY, /* refuses the memory table */
	FAKE_SENDS_FILES     /* sends descriptors along that nobody asked for */
};

struct fake_ring {
	uint64_t descriptors, driver, device;
	int kick_fd, call_fd;
	bool enabled;
	uint16_t size, last_available;
};

struct fake_back_end {
	/* What it is. */
	enum fake_fault fault;
	uint64_t features, protocol;
	uint64_t queues;
	uint8_t config[60];
	/* What it was told. */
	uint64_t features_set, protocol_set;
	unsigned memory_tables;
	uint8_t *memory;
	uint64_t address, bytes;
	struct fake_ring ring[FAKE_QUEUES];
	int fd;
	pthread_t thread;
};

/* A request that it was given. */
struct fake_request {
	uint16_t head;
	uint32_t type;
	uint64_t sector;
	uint32_t out_bytes, in_bytes; /* without header and status */
	uint8_t *out, *in,
		*status; /* the first of each; data that lie in several places are not all here */
};

/* A chain of any device's, as it lies in the shared memory. */
struct fake_chain {
	uint16_t head;
	unsigned parts;
	struct {
		uint8_t *at;
		uint32_t len;
		bool in;
	} part[256];
};

/* A good back end of `sectors`, to be changed before the start. */
void fake_init(struct fake_back_end *f, uint64_t sectors);
/* Starts the thread that answers; returns the front end's socket. */
int fake_start(struct fake_back_end *f);
/* The front end has said what it had to: ends the thread; the connection stays. */
void fake_settle(struct fake_back_end *f);
void fake_close(struct fake_back_end *f);
/* The next request of a queue; false: there is none. */
bool fake_take(struct fake_back_end *f, unsigned queue, struct fake_request *out);
/* The same of a device that is no disk. */
bool fake_take_chain(struct fake_back_end *f, unsigned queue, struct fake_chain *out);
/* Writes a used entry, and calls. */
void fake_use(struct fake_back_end *f, unsigned queue, uint32_t id, uint32_t len);
/* Steps the used index without an entry. */
void fake_step(struct fake_back_end *f, unsigned queue, uint16_t by);
/* Does a request: its status, and data that are all `fill`. */
void fake_finish(struct fake_back_end *f, unsigned queue, const struct fake_request *r,
		 uint8_t status, uint8_t fill);
/* How often the queue was kicked since the last time. */
uint64_t fake_kicks(struct fake_back_end *f, unsigned queue);

#endif
