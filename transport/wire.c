/* SPDX-License-Identifier: Apache-2.0 */
/* Codecs of the wire format: little-endian fields at fixed offsets, every illegal value refused. */
#include "transport/wire.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "transport/little_endian.h"

static_assert(WIRE_HEADER_SIZE == 32, "offsets below");
static_assert(WIRE_HELLO_SIZE == 48 + WIRE_NONCE_SIZE, "offsets below");

void wire_msg_encode(const struct wire_msg *msg, uint8_t *buf)
{
	buf[0] = msg->type;
	buf[1] = msg->flags;
	put16(buf + 2, msg->requester);
	put32(buf + 4, msg->epoch);
	put64(buf + 8, msg->gfn);
	put64(buf + 16, msg->arg);
	put16(buf + 24, msg->acks);
	put16(buf + 26, msg->reserved);
	put32(buf + 28, msg->payload_len);
}

static bool type_carries_page(unsigned type)
{
	return type == MSG_DATA || type == MSG_WB || type == MSG_PUT_M;
}

/* Flags that a coherence message of this type may have. */
static unsigned flags_allowed(unsigned type)
{
	if (type == MSG_DATA)
		return MSG_FLAG_ZERO | MSG_FLAG_EXCLUSIVE;
	return type_carries_page(type) ? MSG_FLAG_ZERO : 0;
}

bool wire_msg_runs(const struct wire_msg *msg)
{
	if (msg->type == MSG_DATA)
		return (msg->flags & MSG_FLAG_ZERO) && msg->acks == 0;
	return msg->type == MSG_GET_S || msg->type == MSG_GET_M;
}

static int coherence_check(const struct wire_msg *msg)
{
	bool zero = msg->flags & MSG_FLAG_ZERO;

	if (msg->flags & ~flags_allowed(msg->type))
		return -PANGEA_EWIRE;
	if (msg->arg != 0 && (msg->arg >= WIRE_RUN_MAX || !wire_msg_runs(msg)))
		return -PANGEA_EWIRE;
	if (msg->acks != 0 && msg->type != MSG_DATA && msg->type != MSG_GRANT)
		return -PANGEA_EWIRE;
	if (!type_carries_page(msg->type))
		return msg->payload_len == 0 ? 0 : -PANGEA_EWIRE;
	/* A page is either sent whole or said to be zero: never both, never neither. */
	return msg->payload_len == (zero ? 0 : WIRE_PAYLOAD_MAX) ? 0 : -PANGEA_EWIRE;
}

int wire_msg_decode(const uint8_t *buf, size_t len, struct wire_msg *msg)
{
	if (len < WIRE_HEADER_SIZE)
		return -EAGAIN;
	msg->type = buf[0];
	msg->flags = buf[1];
	msg->requester = get16(buf + 2);
	msg->epoch = get32(buf + 4);
	msg->gfn = get64(buf + 8);
	msg->arg = get64(buf + 16);
	msg->acks = get16(buf + 24);
	msg->reserved = get16(buf + 26);
	msg->payload_len = get32(buf + 28);
	if (msg->payload_len > WIRE_PAYLOAD_MAX)
		return -PANGEA_EWIRELEN;
	if (msg->reserved != 0)
		return -PANGEA_EWIRE;
	if (msg->type >= MSG_MACHINE_FIRST)
		return 0;
	if (msg->type == 0 || msg->type >= MSG_COHERENCE_END)
		return -PANGEA_EWIRE;
	return coherence_check(msg);
}

void wire_hello_encode(const struct wire_hello *hello, uint8_t *buf)
{
	put64(buf, hello->magic);
	put32(buf + 8, hello->version);
	put32(buf + 12, hello->features);
	put64(buf + 16, hello->vm);
	put32(buf + 24, hello->epoch);
	put16(buf + 28, hello->slice);
	put16(buf + 30, hello->slices);
	put64(buf + 32, hello->ram_end);
	put32(buf + 40, hello->takes);
	put32(buf + 44, hello->reserved);
	memcpy(buf + 48, hello->nonce, WIRE_NONCE_SIZE);
}

static int magic_check(const uint8_t *buf, size_t len)
{
	uint8_t magic[8];

	put64(magic, WIRE_MAGIC);
	return memcmp(buf, magic, len < 8 ? len : 8) == 0 ? 0 : -PANGEA_EPEERMAGIC;
}

int wire_hello_decode(const uint8_t *buf, size_t len, struct wire_hello *hello)
{
	int err = magic_check(buf, len);

	if (err)
		return err;
	hello->version = len >= 12 ? get32(buf + 8) : WIRE_VERSION;
	if (hello->version != WIRE_VERSION)
		return -PANGEA_EPEERVERSION;
	if (len < WIRE_HELLO_SIZE)
		return -EAGAIN;
	hello->magic = get64(buf);
	hello->features = get32(buf + 12);
	hello->vm = get64(buf + 16);
	hello->epoch = get32(buf + 24);
	hello->slice = get16(buf + 28);
	hello->slices = get16(buf + 30);
	hello->ram_end = get64(buf + 32);
	hello->takes = get32(buf + 40);
	hello->reserved = get32(buf + 44);
	memcpy(hello->nonce, buf + 48, WIRE_NONCE_SIZE);
	if (hello->features & ~WIRE_FEATURES)
		return -PANGEA_EPEERFEATURES;
	return hello->reserved == 0 && !(hello->takes & ~WIRE_TAKES) ? 0 : -PANGEA_EWIRE;
}

const char *wire_type_name(unsigned type)
{
	switch (type) {
#define X(name, value)                                                                             \
	case value:                                                                                \
		return &#name[sizeof("MSG_") - 1];
		WIRE_COHERENCE_TABLE(X)
#undef X
	default:
		return type >= MSG_MACHINE_FIRST && type <= UINT8_MAX ? "MACHINE" : "?";
	}
}
