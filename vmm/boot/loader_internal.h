/* SPDX-License-Identifier: Apache-2.0 */
/* What the loader's files share: the image in host memory, and where its pieces will go. */
#ifndef VMM_LOADER_INTERNAL_H
#define VMM_LOADER_INTERNAL_H

#include <stdbool.h>

#include "base/limits.h"
#include "vmm/boot/loader.h"

/* ELF kernels have a handful of segments; more is not a kernel. */
#define LOADER_SEGMENTS_MAX 16

/* Bytes of boot_params, and where the setup header lies in it and in a bzImage. */
#define BOOT_PARAMS_SIZE    4096
#define SETUP_HEADER_OFFSET 0x1f1
#define SETUP_HEADER_END    0x290

struct loader_file {
	uint8_t *data;
	uint64_t size;
};

struct loader_segment {
	uint64_t gpa, file_offset, file_size, mem_size;
};

struct loader_image {
	struct vm_shape shape;
	struct loader_file kernel, initrd;
	char cmdline[CMDLINE_MAX];
	unsigned segments_count;
	struct loader_segment segments[LOADER_SEGMENTS_MAX];
	uint64_t entry;	     /* 64-bit entry point */
	uint64_t kernel_end; /* first byte behind what the kernel needs before it maps memory */
	uint64_t initrd_gpa;
	uint64_t initrd_end_max; /* the kernel can reach no further */
	uint8_t header[SETUP_HEADER_END - SETUP_HEADER_OFFSET]; /* setup header for boot_params */
};

/* One sentence into why; returns err, so that a check can end with it. */
int loader_fail(char *why, size_t why_size, int err, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* One past the last byte of RAM below the hole. */
uint64_t loader_low_end(const struct vm_shape *shape);

/* Fill segments, entry, kernel_end, header; as loader_open for errors. */
bool loader_is_elf(const struct loader_file *kernel);
int loader_parse_elf(struct loader_image *image, char *why, size_t why_size);
int loader_parse_bzimage(struct loader_image *image, char *why, size_t why_size);

static inline uint16_t le16_get(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t le32_get(const uint8_t *p)
{
	return (uint32_t)le16_get(p) | (uint32_t)le16_get(p + 2) << 16;
}

static inline uint64_t le64_get(const uint8_t *p)
{
	return (uint64_t)le32_get(p) | (uint64_t)le32_get(p + 4) << 32;
}

static inline void le16_put(uint8_t *p, uint16_t value)
{
	p[0] = (uint8_t)value;
	p[1] = (uint8_t)(value >> 8);
}

static inline void le32_put(uint8_t *p, uint32_t value)
{
	le16_put(p, (uint16_t)value);
	le16_put(p + 2, (uint16_t)(value >> 16));
}

static inline void le64_put(uint8_t *p, uint64_t value)
{
	le32_put(p, (uint32_t)value);
	le32_put(p + 4, (uint32_t)(value >> 32));
}

#endif
