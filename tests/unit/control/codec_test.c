/* SPDX-License-Identifier: Apache-2.0 */
/* The control codec: round trips, every truncation, lengths beyond the limits, garbage, hello. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "control/control.h"

struct taken {
	unsigned frames;
	char text[4096];
	uint8_t blob[CONTROL_BLOB_MAX];
	size_t blob_len;
	bool go_on;
};

static bool frame_keep(void *arg, json_t *msg, const uint8_t *blob, size_t len)
{
	struct taken *taken = arg;
	char *text = json_dumps(msg, JSON_COMPACT | JSON_SORT_KEYS);

	taken->frames++;
	snprintf(taken->text, sizeof(taken->text), "%s", text);
	memcpy(taken->blob, blob, len);
	taken->blob_len = len;
	free(text);
	return taken->go_on;
}

static size_t frame_make(uint8_t **frame, const void *blob, size_t len)
{
	json_t *msg =
		json_pack("{s:s, s:i, s:s}", "type", "test", "n", 7, "text", "a\"b\n\xc3\xa4");
	size_t frame_len = 0;

	cr_assert_eq(control_frame_encode(msg, blob, len, frame, &frame_len), 0);
	json_decref(msg);
	return frame_len;
}

static void raw_feed(const uint8_t *data, size_t len, int want, const char *say)
{
	struct control_decoder dec;
	struct taken *taken = calloc(1, sizeof(*taken));
	char why[CONTROL_WHY_MAX] = "";

	control_decoder_init(&dec);
	cr_expect_eq(control_decoder_feed(&dec, data, len, frame_keep, taken, why), want, "%s",
		     why);
	cr_expect(strstr(why, say) != NULL, "'%s' not in '%s'", say, why);
	cr_expect_eq(taken->frames, 0);
	control_decoder_free(&dec);
	free(taken);
}

static void json_feed(const char *json, const char *say)
{
	uint8_t data[512] = {0};
	size_t len = strlen(json);

	data[0] = (uint8_t)len;
	memcpy(data + 8, json, len);
	raw_feed(data, 8 + len, -PANGEA_ECONTROL, say);
}

Test(codec, round_trip_in_pieces_of_every_size)
{
	uint8_t blob[100], *frame;
	struct taken *taken = calloc(1, sizeof(*taken));
	char why[CONTROL_WHY_MAX];

	for (size_t i = 0; i < sizeof(blob); i++)
		blob[i] = (uint8_t)(i * 7);
	size_t len = frame_make(&frame, blob, sizeof(blob));
	taken->go_on = true;
	for (size_t step = 1; step <= len; step++) {
		struct control_decoder dec;
		control_decoder_init(&dec);
		taken->frames = 0;
		for (int twice = 0; twice < 2; twice++)
			for (size_t at = 0; at < len; at += step)
				cr_assert_eq(control_decoder_feed(&dec, frame + at,
								  len - at < step ? len - at : step,
								  frame_keep, taken, why),
					     0);
		cr_assert_eq(taken->frames, 2);
		cr_assert_eq(taken->blob_len, sizeof(blob));
		cr_assert_eq(memcmp(taken->blob, blob, sizeof(blob)), 0);
		cr_assert_str_eq(taken->text,
				 "{\"n\":7,\"text\":\"a\\\"b\\n\xc3\xa4\",\"type\":\"test\"}");
		cr_assert_eq(control_decoder_end(&dec, why), 0);
		control_decoder_free(&dec);
	}
	free(frame);
	free(taken);
}

Test(codec, every_truncation_is_half_a_message)
{
	uint8_t *frame;
	size_t len = frame_make(&frame, "blob", 4);
	struct taken *taken = calloc(1, sizeof(*taken));

	for (size_t cut = 1; cut < len; cut++) {
		struct control_decoder dec;
		char why[CONTROL_WHY_MAX] = "";
		control_decoder_init(&dec);
		cr_assert_eq(control_decoder_feed(&dec, frame, cut, frame_keep, taken, why), 0);
		cr_assert_eq(taken->frames, 0);
		cr_assert_eq(control_decoder_end(&dec, why), -PANGEA_ECONTROL);
		cr_assert(strstr(why, "in the middle of a message"), "%s", why);
		control_decoder_free(&dec);
	}
	free(frame);
	free(taken);
}

Test(codec, stops_when_told)
{
	struct taken *taken = calloc(1, sizeof(*taken));
	uint8_t *frame, two[512];
	size_t len = frame_make(&frame, NULL, 0);
	struct control_decoder dec;
	char why[CONTROL_WHY_MAX];

	memcpy(two, frame, len);
	memcpy(two + len, frame, len);
	control_decoder_init(&dec);
	cr_assert_eq(control_decoder_feed(&dec, two, 2 * len, frame_keep, taken, why), 0);
	cr_assert_eq(taken->frames, 1);
	control_decoder_free(&dec);
	free(frame);
	free(taken);
}

Test(codec, lengths_beyond_the_limit)
{
	uint8_t head[8] = {1, 0, 48, 0, 0, 0, 0, 0};

	raw_feed(head, 8, -PANGEA_EWIRELEN, "beyond the limit");
	memset(head, 0xff, 8);
	raw_feed(head, 8, -PANGEA_EWIRELEN, "beyond the limit");
	memcpy(head, (uint8_t[]){2, 0, 0, 0, 1, 0, 4, 0}, 8);
	raw_feed(head, 8, -PANGEA_EWIRELEN, "beyond the limit");
	memcpy(head, "GET / HT", 8);
	raw_feed(head, 8, -PANGEA_EWIRELEN, "beyond the limit");
}

Test(codec, garbage)
{
	uint8_t head[8] = {0};

	raw_feed(head, 8, -PANGEA_ECONTROL, "no JSON object");
	json_feed("{}", "no \"type\"");
	json_feed("[1,2]", "no \"type\"");
	json_feed("{\"type\":1}", "no \"type\"");
	json_feed("{\"type\":\"a\",\"type\":\"b\"}", "duplicate");
	json_feed("{\"type\":\"a\"", "malformed control message");
	json_feed("{\"type\":\"a\"} x", "malformed control message");
	json_feed("\xff\xfe", "malformed control message");
}

/* The decoder must survive anything: random bytes behind plausible lengths. */
Test(codec, random_bytes)
{
	unsigned seed = 20240607;
	struct taken *taken = calloc(1, sizeof(*taken));

	printf("codec.random_bytes seed %u\n", seed);
	for (int round = 0; round < 20000; round++) {
		uint8_t data[64];
		char why[CONTROL_WHY_MAX] = "";
		struct control_decoder dec;
		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)rand_r(&seed);
		data[0] %= 40;
		data[4] %= 20;
		data[1] = data[2] = data[3] = data[5] = data[6] = data[7] = 0;
		if (round % 2)
			data[8] = '{';
		control_decoder_init(&dec);
		int err = control_decoder_feed(&dec, data, sizeof(data), frame_keep, taken, why);
		cr_assert(err == 0 || err == -PANGEA_ECONTROL || err == -PANGEA_EWIRELEN);
		cr_assert(err == 0 || why[0]);
		control_decoder_free(&dec);
	}
	free(taken);
}

Test(codec, encode_refuses)
{
	uint8_t *frame;
	size_t len;
	json_t *msg = json_pack("{s:s}", "type", "x");
	json_t *array = json_array();
	char *big = calloc(1, CONTROL_JSON_MAX + 1);

	cr_expect_eq(control_frame_encode(NULL, NULL, 0, &frame, &len), -EINVAL);
	cr_expect_eq(control_frame_encode(array, NULL, 0, &frame, &len), -EINVAL);
	cr_expect_eq(control_frame_encode(msg, big, CONTROL_BLOB_MAX + 1, &frame, &len),
		     -PANGEA_EWIRELEN);
	memset(big, 'a', CONTROL_JSON_MAX);
	json_object_set_new(msg, "big", json_string(big));
	cr_expect_eq(control_frame_encode(msg, NULL, 0, &frame, &len), -PANGEA_EWIRELEN);
	free(big);
	json_decref(array);
	json_decref(msg);
}

static int hello_try(json_t *msg, const char *token, char *why)
{
	enum control_role role;
	int err = control_hello_check(msg, token, &role, why);

	json_decref(msg);
	return err;
}

Test(codec, hello)
{
	char why[CONTROL_WHY_MAX];
	const char *fmt = "{s:s, s:s, s:i, s:s, s:s}";
	enum control_role role = CONTROL_ROLE_CLI;
	json_t *good = json_pack(fmt, "type", "hello", "magic", "pangea", "version", 1, "role",
				 "vmm", "token", "secret");

	cr_expect_eq(control_hello_check(good, "secret", &role, why), 0);
	cr_expect_eq(role, CONTROL_ROLE_VMM);
	cr_expect_eq(control_hello_check(good, NULL, &role, why), 0);
	cr_expect_eq(control_hello_check(good, "Secret", &role, why), -EACCES);
	cr_expect_eq(control_hello_check(good, "secrets", &role, why), -EACCES);
	json_decref(good);
	cr_expect_eq(hello_try(json_pack(fmt, "type", "hello", "magic", "atlantis", "version", 1,
					 "role", "vmm", "token", ""),
			       NULL, why),
		     -PANGEA_EPEERMAGIC);
	cr_expect(strstr(why, "wrong magic"));
	cr_expect_eq(hello_try(json_pack(fmt, "type", "hello", "magic", "pangea", "version", 2,
					 "role", "vmm", "token", ""),
			       NULL, why),
		     -PANGEA_EPEERVERSION);
	cr_expect(strstr(why, "another version"));
	cr_expect_eq(hello_try(json_pack(fmt, "type", "hello", "magic", "pangea", "version", 1,
					 "role", "king", "token", ""),
			       NULL, why),
		     -PANGEA_ECONTROL);
	cr_expect_eq(hello_try(json_pack("{s:s}", "type", "nodes"), NULL, why), -PANGEA_EPEERMAGIC);
}

Test(codec, fields)
{
	json_t *msg = json_pack("{s:s, s:s, s:I, s:i, s:b, s:[i,i], s:s}", "type", "t", "name",
				"node-0", "big", (json_int_t)1 << 40, "neg", -1, "yes", 1, "list",
				1, 2, "bad", "../etc");
	char why[CONTROL_WHY_MAX];
	const char *text;
	uint64_t value;
	unsigned small;
	bool yes;
	json_t *list;

	cr_expect_eq(control_get_name(msg, "name", &text, why), 0);
	cr_expect_str_eq(text, "node-0");
	cr_expect_eq(control_get_name(msg, "bad", &text, why), -PANGEA_ECONTROL);
	cr_expect(strstr(why, "\"bad\""));
	cr_expect_eq(control_get_string(msg, "bad", &text, why), 0);
	cr_expect_eq(control_get_string(msg, "big", &text, why), -PANGEA_ECONTROL);
	cr_expect_eq(control_get_u64(msg, "big", 0, UINT64_MAX, &value, why), 0);
	cr_expect_eq(value, UINT64_C(1) << 40);
	cr_expect_eq(control_get_uint(msg, "big", 0, 100, &small, why), -PANGEA_ECONTROL);
	cr_expect(strstr(why, "t: \"big\" is 1099511627776, outside 0..100"), "%s", why);
	cr_expect_eq(control_get_u64(msg, "neg", 0, UINT64_MAX, &value, why), -PANGEA_ECONTROL);
	cr_expect_eq(control_get_u64(msg, "none", 0, 1, &value, why), -PANGEA_ECONTROL);
	cr_expect_eq(control_get_bool(msg, "yes", &yes, why), 0);
	cr_expect(yes);
	cr_expect_eq(control_get_bool(msg, "neg", &yes, why), -PANGEA_ECONTROL);
	cr_expect_eq(control_get_array(msg, "list", 2, &list, why), 0);
	cr_expect_eq(control_get_array(msg, "list", 1, &list, why), -PANGEA_ECONTROL);
	cr_expect_eq(control_get_array(msg, "name", 1, &list, why), -PANGEA_ECONTROL);
	json_decref(msg);
}
