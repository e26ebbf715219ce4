/* SPDX-License-Identifier: Apache-2.0 */
/* The executable text of a Linux kernel, from its bzImage or ELF. */
#ifndef TESTS_UNIT_SOFTDECODE_KERNEL_H
#define TESTS_UNIT_SOFTDECODE_KERNEL_H

#include <stdint.h>

#define KERNEL_SECTIONS_MAX 64

struct kernel_section {
	const char *name;
	const uint8_t *bytes;
	uint64_t size;
};

struct kernel {
	uint8_t *file, *elf; /* elf may be file */
	uint64_t elf_size;
	unsigned sections;
	struct kernel_section section[KERNEL_SECTIONS_MAX];
};

/* NULL, or why there is no text to be had (nothing is held then). Sections last until kernel_close.
 */
const char *kernel_open(struct kernel *k, const char *path);
void kernel_close(struct kernel *k);

#endif
