/* SPDX-License-Identifier: Apache-2.0 */
/* Heads of images: what they say, and that none does harm. */
#include <criterion/criterion.h>
#include <errno.h>

#include "node/node_devices.h"
#include "tests/unit/node/image.h"

Test(qcow2, what_is_none)
{
	uint8_t bytes[IMAGE_BYTES] = "QFI";
	struct qcow2_head head;

	for (size_t len = 0; len < 4; len++) {
		cr_expect_eq(qcow2_head_parse(bytes, len, &head), 0);
		cr_expect_not(head.qcow2);
	}
	memset(bytes, 0xaa, sizeof(bytes));
	cr_expect_eq(qcow2_head_parse(bytes, sizeof(bytes), &head), 0);
	cr_expect_not(head.qcow2);
}

Test(qcow2, alone_and_on_another)
{
	uint8_t image[IMAGE_BYTES];
	struct qcow2_head head;

	image_make(image, NULL, NULL);
	cr_expect_eq(qcow2_head_parse(image, sizeof(image), &head), 0);
	cr_expect(head.qcow2);
	cr_expect_eq(head.backing_offset, 0);
	image_make(image, "base.img", "raw");
	cr_expect_eq(qcow2_head_parse(image, sizeof(image), &head), 0);
	cr_expect_eq(head.backing_offset, 512);
	cr_expect_eq(head.backing_bytes, 8);
	cr_expect_str_eq(head.driver, "raw");
	cr_expect_not(head.data_file);
	image_put(image + 72, 4, 8);
	cr_expect_eq(qcow2_head_parse(image, sizeof(image), &head), 0);
	cr_expect(head.data_file);
	/* Version 2 has neither features nor a length of its head. */
	image_make(image, "base.img", NULL);
	image_put(image + 4, 2, 4);
	memset(image + 72, 0xff, 64);
	cr_expect_eq(qcow2_head_parse(image, sizeof(image), &head), 0);
	cr_expect_eq(head.backing_bytes, 8);
	cr_expect_not(head.data_file);
}

Test(qcow2, nonsense)
{
	static const struct {
		unsigned at, bytes;
		uint64_t value;
	} bad[] = {{4, 4, 0},	       {4, 4, 1},     {4, 4, 4},    {16, 4, 0},
		   {16, 4, 1024},      {100, 4, 0},   {100, 4, 71}, {100, 4, UINT32_MAX},
		   {8, 8, UINT64_MAX}, {100, 4, 1025}};
	uint8_t image[IMAGE_BYTES];
	struct qcow2_head head;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		image_make(image, "base.img", "raw");
		image_put(image + bad[i].at, bad[i].value, bad[i].bytes);
		cr_expect_eq(qcow2_head_parse(image, sizeof(image), &head), -EINVAL, "%zu", i);
	}
	for (size_t len = 4; len < 104; len++) {
		image_make(image, "base.img", "raw");
		cr_expect_eq(qcow2_head_parse(image, len, &head), -EINVAL, "%zu", len);
	}
}

/* Lengths of extensions that lead out of the head end them; every length of head is read to its end. */
Test(qcow2, extensions_that_lead_nowhere)
{
	static const uint32_t sizes[] = {16, 17, 900, 0x7fffffff, UINT32_MAX};
	struct qcow2_head head;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (size_t len = 104; len < 160; len++) {
			/* So that a sanitizer sees each byte beyond. */
			uint8_t *image = malloc(len), whole[IMAGE_BYTES];

			image_make(whole, NULL, "qcow2");
			image_put(whole + 108, sizes[i], 4);
			memcpy(image, whole, len);
			cr_expect_eq(qcow2_head_parse(image, len, &head), 0);
			cr_expect_str_eq(head.driver, "");
			free(image);
		}
}
