/* SPDX-License-Identifier: Apache-2.0 */
/* What the slices of one VM say to each other outside of memory: message types and codecs. */
#ifndef VMM_MACHINE_MSG_H
#define VMM_MACHINE_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "transport/wire.h"

/*
 * type | from -> to | two words (gfn, arg) and payload
 * IPI        | any -> any  | destination, who is excluded; vector, delivery, modes
 * EOI        | any -> 0    | a level-triggered vector was ended: for the I/O APIC
 * IO_REQUEST | any -> any  | a port or MMIO access of one vCPU to a device there; it waits for the reply, unless it is posted
 * IO_REPLY   | any -> any  | the value read (0 for a write)
 * END        | any -> 0, 0 -> any | the VM is over: reason; payload: the sentence
 * PING       | any -> any  | arg: the sender's clock
 * PONG       | any -> any  | arg: echoed; gfn: from slice 0 guest time in ns, from others 0
 */
enum machine_msg_type {
	MSG_MACHINE_IPI = MSG_MACHINE_FIRST,
	MSG_MACHINE_EOI,
	MSG_MACHINE_IO_REQUEST,
	MSG_MACHINE_IO_REPLY,
	MSG_MACHINE_END,
	MSG_MACHINE_PING,
	MSG_MACHINE_PONG
};

/* Delivery modes (SDM 3A 11.6.1); SMI and ExtINT do not exist here. */
enum ipi_delivery {
	IPI_FIXED = 0,
	IPI_LOWEST = 1,
	IPI_NMI = 4,
	IPI_INIT = 5,
	IPI_SIPI = 6
};

#define IPI_BROADCAST 0xffffffffu
#define IPI_NOBODY    0xffffffffu

/* An interrupt on its way to one or several local APICs. */
struct ipi {
	uint32_t dest;	  /* x2APIC id, logical x2APIC id, or IPI_BROADCAST */
	uint32_t exclude; /* x2APIC id that is not meant (all but self), or IPI_NOBODY */
	uint8_t vector;
	uint8_t delivery; /* enum ipi_delivery */
	bool logical;
	bool level; /* level-triggered: its EOI goes to the I/O APIC */
};

struct io_request {
	uint64_t addr; /* port, or guest physical address (48 bits) */
	uint32_t value;
	uint16_t vcpu;
	uint16_t seq; /* the reply carries it back: a late reply is recognised */
	uint8_t size; /* 1, 2, 4, 8 */
	bool mmio, write;
	bool posted; /* a write of MMIO that has no reply */
};

struct io_reply {
	uint16_t vcpu, seq;
	uint32_t value;
};

/* The sentence of an END message, without the NUL. */
#define MACHINE_SENTENCE_MAX 240u

/* Each writes a whole message, without payload. */
void ipi_encode(const struct ipi *ipi, struct wire_msg *msg);
void io_request_encode(const struct io_request *req, struct wire_msg *msg);
void io_reply_encode(const struct io_reply *reply, struct wire_msg *msg);
/* Each reads a message of its type. 0, or -PANGEA_EWIRE for a field that cannot be. */
int ipi_decode(const struct wire_msg *msg, struct ipi *ipi);
int io_request_decode(const struct wire_msg *msg, struct io_request *req);
int io_reply_decode(const struct wire_msg *msg, struct io_reply *reply);
/*
 * END: sentence has room for MACHINE_SENTENCE_MAX + 1 bytes; bytes that are not printable ASCII
 * become '?'. -PANGEA_EWIRE for an unknown reason, -PANGEA_EWIRELEN for a sentence too long.
 */
void end_encode(enum exit_code reason, const char *sentence, struct wire_msg *msg);
int end_decode(const struct wire_msg *msg, const void *payload, enum exit_code *reason,
	       char *sentence);

#endif
