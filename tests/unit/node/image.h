/* SPDX-License-Identifier: Apache-2.0 */
/* Heads of qcow2 images, made by hand. */
#ifndef TESTS_UNIT_NODE_IMAGE_H
#define TESTS_UNIT_NODE_IMAGE_H

#include <stdint.h>
#include <string.h>

#define IMAGE_BYTES 1024

static inline void image_put(uint8_t *at, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

/* A head of version 3 that stands on backing (null: nothing), of this format (null: it does not say). */
static inline void image_make(uint8_t image[IMAGE_BYTES], const char *backing, const char *driver)
{
	memset(image, 0, IMAGE_BYTES);
	memcpy(image, "QFI\xfb", 4);
	image_put(image + 4, 3, 4);
	image_put(image + 20, 16, 4);
	image_put(image + 100, 104, 4);
	if (driver) {
		image_put(image + 104, 0xe2792aca, 4);
		image_put(image + 108, strlen(driver), 4);
		memcpy(image + 112, driver, strlen(driver));
	}
	if (!backing)
		return;
	image_put(image + 8, 512, 8);
	image_put(image + 16, strlen(backing), 4);
	memcpy(image + 512, backing, strlen(backing));
}

#endif
