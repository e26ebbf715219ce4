/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the control protocol's codec: frames in pieces of any size, the hello, fields, words. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/control.h"
#include "tests/fuzz/fuzz.h"

/* Every getter on what came, whatever it is. */
static void fields_read(const json_t *msg, char *why)
{
	static const char *const keys[] = {"type", "name", "vm", "cpus", "slices", "token"};
	enum control_role role;
	const char *text;
	json_t *list;
	uint64_t number;
	bool flag;

	control_hello_check(msg, "secret", &role, why);
	if (control_host_check(msg, &list, why) == 0)
		json_decref(list);
	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		control_get_string(msg, keys[i], &text, why);
		control_get_name(msg, keys[i], &text, why);
		control_get_u64(msg, keys[i], 1, 100, &number, why);
		control_get_bool(msg, keys[i], &flag, why);
		control_get_array(msg, keys[i], 4, &list, why);
	}
}

/* What came must encode to a frame that says the same. */
static bool frame_take(void *arg, json_t *msg, const uint8_t *blob, size_t len)
{
	char why[CONTROL_WHY_MAX];
	uint8_t *frame;
	size_t frame_len;

	(void)arg;
	fields_read(msg, why);
	if (control_frame_encode(msg, blob, len, &frame, &frame_len) == 0) {
		invariant(frame_len >= CONTROL_HEAD_BYTES + len);
		free(frame);
	}
	return true;
}

static void words_read(const uint8_t *data, size_t size)
{
	struct sockaddr_storage address;
	char text[128];
	uint64_t bytes, again;
	unsigned number;

	size = size < sizeof(text) - 1 ? size : sizeof(text) - 1;
	memcpy(text, data, size);
	text[size] = '\0';
	control_address_parse(text, &address);
	control_uint_parse(text, 1, 1000, &number);
	control_name_valid(text);
	if (control_size_parse(text, &bytes) == 0) {
		char written[64];
		/* What is written must read as the same size. */
		control_size_format(bytes, written, sizeof(written));
		char *space = strchr(written, ' ');
		if (space && space[1] != 'B') {
			memmove(space, space + 1, strlen(space));
			invariant(control_size_parse(written, &again) == 0 && again == bytes);
		}
	}
	control_text_clean(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, data + size};
	char why[CONTROL_WHY_MAX];
	struct control_decoder dec;
	size_t piece = 1u + fuzz_byte(&in);
	int err = 0;

	words_read(in.at, (size_t)(in.end - in.at));
	control_decoder_init(&dec);
	while (!err && in.at < in.end) {
		size_t left = (size_t)(in.end - in.at);
		size_t take = left < piece ? left : piece;
		err = control_decoder_feed(&dec, in.at, take, frame_take, NULL, why);
		in.at += take;
	}
	if (!err)
		control_decoder_end(&dec, why);
	control_decoder_free(&dec);
	return 0;
}
