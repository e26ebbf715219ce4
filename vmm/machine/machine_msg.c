/* SPDX-License-Identifier: Apache-2.0 */
/* The codecs of the machine messages; whatever a correct peer cannot send is refused. */
#include "vmm/machine/machine_msg.h"

#include <string.h>

#include "base/limits.h"

/* IPI, arg. */
#define IPI_ARG_DELIVERY 8
#define IPI_ARG_LOGICAL	 (UINT64_C(1) << 11)
#define IPI_ARG_LEVEL	 (UINT64_C(1) << 15)
#define IPI_ARG_BITS	 (UINT64_C(0x7ff) | IPI_ARG_LOGICAL | IPI_ARG_LEVEL)

/* IO_REQUEST, gfn: address, then size and kind. */
#define IO_ADDR_MASK  ((UINT64_C(1) << 48) - 1)
#define IO_SIZE_SHIFT 48
#define IO_SIZE_MASK  UINT64_C(0xf)
#define IO_MMIO	      (UINT64_C(1) << 52)
#define IO_WRITE      (UINT64_C(1) << 53)
#define IO_POSTED     (UINT64_C(1) << 54)
#define IO_GFN_BITS   (IO_ADDR_MASK | IO_SIZE_MASK << IO_SIZE_SHIFT | IO_MMIO | IO_WRITE | IO_POSTED)
/* IO_REQUEST and IO_REPLY, arg: value, vCPU, sequence number. */
#define IO_VCPU_SHIFT 32
#define IO_SEQ_SHIFT  48

static void msg_clear(struct wire_msg *msg, enum machine_msg_type type)
{
	memset(msg, 0, sizeof(*msg));
	msg->type = (uint8_t)type;
}

static bool ipi_delivery_valid(unsigned delivery)
{
	switch (delivery) {
	case IPI_FIXED:
	case IPI_LOWEST:
	case IPI_NMI:
	case IPI_INIT:
	case IPI_SIPI:
		return true;
	default:
		return false;
	}
}

void ipi_encode(const struct ipi *ipi, struct wire_msg *msg)
{
	msg_clear(msg, MSG_MACHINE_IPI);
	msg->gfn = ipi->dest | (uint64_t)ipi->exclude << 32;
	msg->arg = ipi->vector | (uint64_t)ipi->delivery << IPI_ARG_DELIVERY |
		   (ipi->logical ? IPI_ARG_LOGICAL : 0) | (ipi->level ? IPI_ARG_LEVEL : 0);
}

int ipi_decode(const struct wire_msg *msg, struct ipi *ipi)
{
	ipi->dest = (uint32_t)msg->gfn;
	ipi->exclude = (uint32_t)(msg->gfn >> 32);
	ipi->vector = (uint8_t)msg->arg;
	ipi->delivery = msg->arg >> IPI_ARG_DELIVERY & 7;
	ipi->logical = msg->arg & IPI_ARG_LOGICAL;
	ipi->level = msg->arg & IPI_ARG_LEVEL;
	if (msg->payload_len || (msg->arg & ~IPI_ARG_BITS) || !ipi_delivery_valid(ipi->delivery))
		return -PANGEA_EWIRE;
	return 0;
}

void io_request_encode(const struct io_request *req, struct wire_msg *msg)
{
	msg_clear(msg, MSG_MACHINE_IO_REQUEST);
	msg->gfn = (req->addr & IO_ADDR_MASK) | (uint64_t)req->size << IO_SIZE_SHIFT |
		   (req->mmio ? IO_MMIO : 0) | (req->write ? IO_WRITE : 0) |
		   (req->posted ? IO_POSTED : 0);
	msg->arg = req->value | (uint64_t)req->vcpu << IO_VCPU_SHIFT |
		   (uint64_t)req->seq << IO_SEQ_SHIFT;
}

static bool io_request_valid(const struct io_request *req)
{
	if (req->posted && !(req->mmio && req->write))
		return false;
	switch (req->size) {
	case 1:
	case 2:
	case 4:
		return req->mmio || req->addr <= UINT16_MAX;
	case 8:
		return req->mmio;
	default:
		return false;
	}
}

int io_request_decode(const struct wire_msg *msg, struct io_request *req)
{
	req->addr = msg->gfn & IO_ADDR_MASK;
	req->size = msg->gfn >> IO_SIZE_SHIFT & IO_SIZE_MASK;
	req->mmio = msg->gfn & IO_MMIO;
	req->write = msg->gfn & IO_WRITE;
	req->posted = msg->gfn & IO_POSTED;
	req->value = (uint32_t)msg->arg;
	req->vcpu = (uint16_t)(msg->arg >> IO_VCPU_SHIFT);
	req->seq = (uint16_t)(msg->arg >> IO_SEQ_SHIFT);
	if (msg->payload_len || (msg->gfn & ~IO_GFN_BITS) || req->vcpu >= VCPUS_MAX ||
	    !io_request_valid(req))
		return -PANGEA_EWIRE;
	return 0;
}

void io_reply_encode(const struct io_reply *reply, struct wire_msg *msg)
{
	msg_clear(msg, MSG_MACHINE_IO_REPLY);
	msg->arg = reply->value | (uint64_t)reply->vcpu << IO_VCPU_SHIFT |
		   (uint64_t)reply->seq << IO_SEQ_SHIFT;
}

int io_reply_decode(const struct wire_msg *msg, struct io_reply *reply)
{
	reply->value = (uint32_t)msg->arg;
	reply->vcpu = (uint16_t)(msg->arg >> IO_VCPU_SHIFT);
	reply->seq = (uint16_t)(msg->arg >> IO_SEQ_SHIFT);
	if (msg->payload_len || msg->gfn || reply->vcpu >= VCPUS_MAX)
		return -PANGEA_EWIRE;
	return 0;
}

/* ---- END ---- */

#define X(name, value, text)                                                                       \
	case name:                                                                                 \
		return true;
static bool reason_valid(uint64_t reason)
{
	switch (reason) {
		EXIT_TABLE(X)
	default:
		return false;
	}
}
#undef X

void end_encode(enum exit_code reason, const char *sentence, struct wire_msg *msg)
{
	msg_clear(msg, MSG_MACHINE_END);
	msg->arg = (uint64_t)reason;
	msg->payload_len = (uint32_t)strnlen(sentence, MACHINE_SENTENCE_MAX);
}

int end_decode(const struct wire_msg *msg, const void *payload, enum exit_code *reason,
	       char *sentence)
{
	const uint8_t *bytes = payload;
	uint32_t i;

	if (msg->payload_len > MACHINE_SENTENCE_MAX)
		return -PANGEA_EWIRELEN;
	if (msg->gfn || !reason_valid(msg->arg))
		return -PANGEA_EWIRE;
	for (i = 0; i < msg->payload_len; i++)
		sentence[i] = bytes[i] >= 0x20 && bytes[i] < 0x7f ? (char)bytes[i] : '?';
	sentence[i] = '\0';
	*reason = (enum exit_code)msg->arg;
	return 0;
}
