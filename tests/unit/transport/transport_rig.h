/* SPDX-License-Identifier: Apache-2.0 */
/* A rig for transport tests: several slices' transports on one loop, and raw sockets as bad peers.
 */
#ifndef TESTS_TRANSPORT_RIG_H
#define TESTS_TRANSPORT_RIG_H

#include <stdbool.h>

#include "transport/proof.h"
#include "transport/transport.h"

#define RIG_SLICES 4
#define RIG_VM	   UINT64_C(0x1234567890abcdef)

struct rig;

/* What carries the messages. */
enum rig_kind {
	RIG_INPROC,
	RIG_TCP, /* in clear */
	RIG_SHM,
	RIG_TLS,
	RIG_RDMA,    /* over a connection in clear; skips where there is no device */
	RIG_RDMA_TLS /* over an encrypted one */
};

/* The address of an RDMA device of this machine, for tests: in the lab there is one. NULL: none. */
const char *rig_rdma_address(void);

/* One slice in the rig, with what its callbacks saw. */
struct rig_slice {
	struct rig *rig;
	struct transport *transport;
	unsigned port;
	unsigned ups, up[RIG_SLICES], lost[RIG_SLICES];
	int lost_err[RIG_SLICES];
	char lost_why[RIG_SLICES][256];
	bool in_send;		   /* on_lost must not come now */
	bool refuse_payload;	   /* payload_buffer answers NULL */
	int on_msg_answer;	   /* what on_msg returns */
	bool close_in_msg;	   /* on_msg closes the transport */
	unsigned received;	   /* messages */
	unsigned bad;		   /* messages whose number or payload was not as expected */
	uint64_t next[RIG_SLICES]; /* expected msg.arg from each peer */
	struct wire_msg last;
	uint8_t payload[RIG_SLICES][WIRE_PAYLOAD_MAX];
};

struct rig {
	uv_loop_t loop;
	struct inproc_hub *hub; /* NULL: between processes */
	enum transport_wish wish;
	bool encrypted;
	const char *host; /* where the slices listen */
	struct rdma_option rdma;
	uint8_t secret[PAIR_SECRET_SIZE]; /* of the slices that are made from now on */
	unsigned timeout_ms, silence_ms;
	unsigned slices;
	struct rig_slice slice[RIG_SLICES];
};

void rig_init(struct rig *rig, unsigned slices, enum rig_kind kind);
/* The hello of slice i of this rig. */
struct wire_hello rig_hello(const struct rig *rig, unsigned i);
/* Creates slice i's transport with this hello (NULL: the right one). */
void rig_create(struct rig *rig, unsigned i, const struct wire_hello *hello);
void rig_connect(struct rig *rig, unsigned i);
/* Sent messages that are sure to arrive though their sender closes, pages among them. */
unsigned rig_last_words(enum rig_kind kind);
/* All slices, connected and up. */
void rig_up(struct rig *rig);
/* Runs the loop until *counter >= value, for at most 10 s; false: not reached. */
bool rig_until(struct rig *rig, const unsigned *counter, unsigned value);
/* Runs the loop for a while. */
void rig_run_ms(struct rig *rig, unsigned ms);
/* Sends a machine message numbered arg; with a payload that its receiver can check. */
int rig_send(struct rig *rig, unsigned from, unsigned to, uint64_t arg, unsigned payload_len);
void rig_destroy(struct rig *rig);

/* A blocking socket connected to a port on loopback. */
int raw_connect(unsigned port);
/* A listening socket on loopback; *port gets its port. */
int raw_listen(unsigned *port);
/* The same, but it does not listen yet. */
int raw_bound(unsigned *port);
void raw_write(int fd, const void *bytes, size_t len);
void raw_read(int fd, void *bytes, size_t len);
/* Sends a hello. */
void raw_hello(int fd, const struct wire_hello *hello);
/* Runs the loop until so much can be read. */
void raw_await(struct rig *rig, int fd, size_t len);
/* The key that slices i and j of this rig share. */
void rig_key(const struct rig *rig, unsigned i, unsigned j, uint8_t key[PAIR_KEY_SIZE]);
/* Plays slice `hello->slice` that was called by slice `caller`: hears its hello and proof while the
 * loop runs, answers with this hello, and with the right proof. */
void raw_answer(struct rig *rig, int fd, const struct wire_hello *hello, unsigned caller);
/* Plays slice `hello->slice` that calls slice `callee`, and says its hello and its proof; the answer's
 * hello has come, the answer's proof has not been read. */
void raw_call(struct rig *rig, int fd, const struct wire_hello *hello, unsigned callee);

#endif
