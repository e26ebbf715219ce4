/* SPDX-License-Identifier: Apache-2.0 */
/* What the head of a qcow2 image says of other files (QEMU's docs/interop/qcow2.txt); trusting nothing. */
#include <errno.h>
#include <string.h>

#include "node/node_devices.h"

#define MAGIC		UINT32_C(0x514649fb)
#define HEAD_BYTES_V2	72
#define HEAD_BYTES_V3	104
#define EXT_END		0
#define EXT_DRIVER	UINT32_C(0xe2792aca)
#define FEATURE_DATA	(UINT64_C(1) << 2) /* incompatible feature: an external data file */
#define AT_VERSION	4
#define AT_BACKING	8
#define AT_BACKING_SIZE 16
#define AT_FEATURES	72
#define AT_HEAD_LENGTH	100

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint64_t get64(const uint8_t *at)
{
	return (uint64_t)get32(at) << 32 | get32(at + 4);
}

/* The extensions follow the header: type, length, contents up to a multiple of 8. What does not fit ends them. */
static void extensions_parse(const uint8_t *head, size_t len, size_t at, struct qcow2_head *out)
{
	while (at + 8 <= len) {
		uint32_t type = get32(head + at), size = get32(head + at + 4);

		at += 8;
		if (type == EXT_END || size > len - at)
			return;
		if (type == EXT_DRIVER && size < QCOW2_DRIVER_BYTES) {
			memcpy(out->driver, head + at, size);
			out->driver[size] = 0;
		}
		at += (size + 7) & ~UINT32_C(7);
	}
}

int qcow2_head_parse(const uint8_t *head, size_t len, struct qcow2_head *out)
{
	uint32_t version, head_length = HEAD_BYTES_V2;

	memset(out, 0, sizeof(*out));
	if (len < 4 || get32(head) != MAGIC)
		return 0;
	out->qcow2 = true;
	if (len < HEAD_BYTES_V2)
		return -EINVAL;
	version = get32(head + AT_VERSION);
	if (version != 2 && (version != 3 || len < HEAD_BYTES_V3))
		return -EINVAL;
	if (version == 3) {
		head_length = get32(head + AT_HEAD_LENGTH);
		out->data_file = get64(head + AT_FEATURES) & FEATURE_DATA;
	}
	out->backing_offset = get64(head + AT_BACKING);
	out->backing_bytes = get32(head + AT_BACKING_SIZE);
	if (out->backing_offset && (!out->backing_bytes || out->backing_bytes > QCOW2_BACKING_MAX ||
				    out->backing_offset > INT64_MAX - QCOW2_BACKING_MAX))
		return -EINVAL;
	if (head_length < HEAD_BYTES_V2 || head_length > len)
		return -EINVAL;
	extensions_parse(head, len, head_length, out);
	return 0;
}
