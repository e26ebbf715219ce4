/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of the control protocol to and from bytes, and the hello message. No I/O. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "control/control.h"

static const char *const role_names[] = {"node", "cli", "coordinator", "vmm", "join"};

const char *control_role_name(enum control_role role)
{
	return role_names[role];
}

static uint32_t u32_get(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void u32_put(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

void control_decoder_init(struct control_decoder *dec)
{
	memset(dec, 0, sizeof(*dec));
	dec->json_max = CONTROL_JSON_MAX;
	dec->blob_max = CONTROL_BLOB_MAX;
}

/* Keys of slices travel in messages: no copy of one is left behind in freed memory. */
static void wiped_free(void *data, size_t len)
{
	if (data)
		explicit_bzero(data, len);
	free(data);
}

void control_decoder_free(struct control_decoder *dec)
{
	wiped_free(dec->body, dec->body_used);
	memset(dec, 0, sizeof(*dec));
}

/* The head is whole: checks the lengths before any memory is taken for them. */
static int head_take(struct control_decoder *dec, char *why)
{
	dec->json_len = u32_get(dec->head);
	dec->blob_len = u32_get(dec->head + 4);
	if (dec->json_len > dec->json_max || dec->blob_len > dec->blob_max) {
		snprintf(why, CONTROL_WHY_MAX,
			 "message length beyond the limit (%u bytes of JSON, at most %u; %u bytes "
			 "of data, at most %u)",
			 dec->json_len, dec->json_max, dec->blob_len, dec->blob_max);
		return -PANGEA_EWIRELEN;
	}
	if (dec->json_len < 2) {
		snprintf(why, CONTROL_WHY_MAX, "malformed control message: no JSON object");
		return -PANGEA_ECONTROL;
	}
	dec->body = malloc((size_t)dec->json_len + dec->blob_len);
	dec->body_used = 0;
	if (!dec->body) {
		snprintf(why, CONTROL_WHY_MAX, "out of memory");
		return -ENOMEM;
	}
	return 0;
}

/* The body is whole: parses and hands it over. Sets *stop when fn wants no more. */
static int body_take(struct control_decoder *dec, control_frame_fn *fn, void *arg, bool *stop,
		     char *why)
{
	uint8_t *body = dec->body;
	json_error_t error;
	json_t *msg = json_loadb((char *)body, dec->json_len, JSON_REJECT_DUPLICATES, &error);
	int err = 0;

	dec->body = NULL;
	dec->head_used = 0;
	if (!msg) {
		snprintf(why, CONTROL_WHY_MAX, "malformed control message: %s (byte %d)",
			 error.text, error.position);
		err = -PANGEA_ECONTROL;
	} else if (!json_is_string(json_object_get(msg, "type"))) {
		snprintf(why, CONTROL_WHY_MAX, "malformed control message: no \"type\"");
		err = -PANGEA_ECONTROL;
	} else {
		*stop = !fn(arg, msg, body + dec->json_len, dec->blob_len);
	}
	json_decref(msg);
	wiped_free(body, dec->json_len);
	return err;
}

static size_t bytes_move(uint8_t *to, size_t *used, size_t want, const uint8_t *from, size_t len)
{
	size_t n = want - *used < len ? want - *used : len;

	if (n)
		memcpy(to + *used, from, n);
	*used += n;
	return n;
}

int control_decoder_feed(struct control_decoder *dec, const void *data, size_t len,
			 control_frame_fn *fn, void *arg, char *why)
{
	const uint8_t *p = data, *end = p + len;
	bool stop = false;
	int err;

	while (p < end && !stop) {
		if (dec->head_used < CONTROL_HEAD_BYTES) {
			p += bytes_move(dec->head, &dec->head_used, CONTROL_HEAD_BYTES, p,
					(size_t)(end - p));
			if (dec->head_used < CONTROL_HEAD_BYTES)
				break;
			err = head_take(dec, why);
			if (err)
				return err;
		}
		size_t want = (size_t)dec->json_len + dec->blob_len;
		p += bytes_move(dec->body, &dec->body_used, want, p, (size_t)(end - p));
		if (dec->body_used < want)
			break;
		err = body_take(dec, fn, arg, &stop, why);
		if (err)
			return err;
	}
	return 0;
}

int control_decoder_end(const struct control_decoder *dec, char *why)
{
	if (dec->head_used == 0)
		return 0;
	if (dec->head_used < CONTROL_HEAD_BYTES)
		snprintf(why, CONTROL_WHY_MAX,
			 "connection closed in the middle of a message (%zu of its first %d bytes)",
			 dec->head_used, CONTROL_HEAD_BYTES);
	else
		snprintf(why, CONTROL_WHY_MAX,
			 "connection closed in the middle of a message (%zu of %zu bytes)",
			 dec->body_used, (size_t)dec->json_len + dec->blob_len);
	return -PANGEA_ECONTROL;
}

int control_frame_encode(const json_t *msg, const void *blob, size_t len, uint8_t **frame,
			 size_t *frame_len)
{
	size_t json_len, room;
	uint8_t *out;

	if (!json_is_object(msg))
		return -EINVAL;
	json_len = json_dumpb(msg, NULL, 0, JSON_COMPACT);
	if (json_len == 0)
		return -EINVAL;
	if (json_len > CONTROL_JSON_MAX || len > CONTROL_BLOB_MAX)
		return -PANGEA_EWIRELEN;
	room = CONTROL_HEAD_BYTES + json_len + len;
	out = malloc(room);
	if (!out)
		return -ENOMEM;
	u32_put(out, (uint32_t)json_len);
	u32_put(out + 4, (uint32_t)len);
	json_dumpb(msg, (char *)out + CONTROL_HEAD_BYTES, json_len, JSON_COMPACT);
	if (len)
		memcpy(out + CONTROL_HEAD_BYTES + json_len, blob, len);
	*frame = out;
	*frame_len = room;
	return 0;
}

void control_frame_free(uint8_t *frame, size_t frame_len)
{
	wiped_free(frame, frame_len);
}

static void value_free(void *value)
{
	wiped_free(value, value ? malloc_usable_size(value) : 0);
}

void control_values_wipe(void)
{
	json_set_alloc_funcs(malloc, value_free);
}

/* Compares without telling by time how much was right. */
static bool token_equal(const char *a, const char *b)
{
	size_t len = strlen(a);
	unsigned char diff = 0;

	if (strlen(b) != len)
		return false;
	for (size_t i = 0; i < len; i++)
		diff |= (unsigned char)(a[i] ^ b[i]);
	return diff == 0;
}

static int role_parse(const char *text, enum control_role *role)
{
	for (unsigned i = 0; text && i < sizeof(role_names) / sizeof(role_names[0]); i++) {
		if (strcmp(text, role_names[i]) == 0) {
			*role = (enum control_role)i;
			return 0;
		}
	}
	return -PANGEA_ECONTROL;
}

int control_hello_check(const json_t *msg, const char *expect_token, enum control_role *role,
			char *why)
{
	const char *magic = json_string_value(json_object_get(msg, "magic"));
	const char *token = json_string_value(json_object_get(msg, "token"));
	const json_t *version = json_object_get(msg, "version");

	if (!control_is(msg, "hello") || !magic || strcmp(magic, CONTROL_MAGIC) != 0) {
		snprintf(why, CONTROL_WHY_MAX, "%s", error_text(PANGEA_EPEERMAGIC));
		return -PANGEA_EPEERMAGIC;
	}
	if (!json_is_integer(version) || json_integer_value(version) != CONTROL_VERSION) {
		snprintf(why, CONTROL_WHY_MAX,
			 "the peer speaks another version of the control protocol (%lld, not %d)",
			 (long long)json_integer_value(version), CONTROL_VERSION);
		return -PANGEA_EPEERVERSION;
	}
	if (role_parse(json_string_value(json_object_get(msg, "role")), role) < 0) {
		snprintf(why, CONTROL_WHY_MAX,
			 "malformed control message: hello has no known role");
		return -PANGEA_ECONTROL;
	}
	if (expect_token && !token_equal(expect_token, token ? token : "")) {
		snprintf(why, CONTROL_WHY_MAX, "wrong token");
		return -EACCES;
	}
	return 0;
}
