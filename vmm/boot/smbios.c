/* SPDX-License-Identifier: Apache-2.0 */
/* SMBIOS 3.4 (DSP0134): the structures of types 0, 1, 3, 4, 16, 17, 19 and 127, and the 64-bit entry point. */
#include "vmm/boot/smbios.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vmm/boot/acpi_aml.h"
#include "vmm/boot/layout.h"

#define MAKER	     "Pangea"
#define PRODUCT	     "Pangea virtual machine"
#define RELEASE_DATE "01/01/2026"

/* Handles: each type has its own range. */
#define HANDLE_FIRMWARE	  0x0000u
#define HANDLE_SYSTEM	  0x0100u
#define HANDLE_CHASSIS	  0x0300u
#define HANDLE_PROCESSOR  0x0400u
#define HANDLE_ARRAY	  0x1000u
#define HANDLE_MEMORY	  0x1100u
#define HANDLE_MAPPED	  0x1300u
#define HANDLE_END	  0x7f00u
#define HANDLE_NONE	  0xffffu /* of a cache */
#define HANDLE_NO_ERRORS  0xfffeu /* of an error record: not provided */
#define STATE_SAFE	  3u
#define STATE_UNKNOWN	  2u
#define KIND_OTHER	  1u
#define KIND_UNKNOWN	  2u
#define WAKE_POWER_SWITCH 6u
#define KIB		  10
#define MIB		  20

#define STRINGS_MAX 6u

/* A structure under way: its strings come behind it. */
struct structure {
	size_t start;
	unsigned strings;
	char string[STRINGS_MAX][NAME_MAX_LEN + 32];
};

static void structure_open(struct acpi_writer *w, struct structure *s, uint8_t type, uint8_t length,
			   unsigned handle)
{
	s->start = w->used;
	s->strings = 0;
	acpi_put8(w, type);
	acpi_put8(w, length);
	acpi_put16(w, (uint16_t)handle);
}

/* The number of a string, for a field of one byte. */
static void string_put(struct acpi_writer *w, struct structure *s, const char *text)
{
	invariant(s->strings < STRINGS_MAX);
	snprintf(s->string[s->strings], sizeof(s->string[0]), "%s", text);
	acpi_put8(w, (uint8_t)++s->strings);
}

/* Section 6.1.3: strings with their zeroes, and one more; two if there are none. */
static void structure_close(struct acpi_writer *w, const struct structure *s)
{
	invariant(w->overflow || w->used - s->start == w->data[s->start + 1]);
	for (unsigned i = 0; i < s->strings; i++)
		acpi_put_bytes(w, s->string[i], strlen(s->string[i]) + 1);
	acpi_put_zeroes(w, s->strings ? 1 : 2);
}

/* FNV-1a over the name, begun in two ways. */
static uint64_t name_hash(const char *name, uint64_t hash)
{
	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
	return (hash ^ hash >> 29) * UINT64_C(0x9e3779b97f4a7c15);
}

void smbios_uuid(const char *name, uint8_t out[SMBIOS_UUID_BYTES])
{
	uint64_t half[2] = {name_hash(name, UINT64_C(0xcbf29ce484222325)),
			    name_hash(name, UINT64_C(0x84222325cbf29ce4))};

	for (unsigned i = 0; i < SMBIOS_UUID_BYTES; i++)
		out[i] = (uint8_t)(half[i / 8] >> (8 * (i % 8)));
	out[6] = (uint8_t)((out[6] & 0x0f) | 0x80); /* version 8 */
	out[8] = (uint8_t)((out[8] & 0x3f) | 0x80); /* its variant */
}

/* Section 7.1. */
static void firmware_put(struct acpi_writer *w)
{
	struct structure s;

	structure_open(w, &s, 0, 0x18, HANDLE_FIRMWARE);
	string_put(w, &s, MAKER);
	string_put(w, &s, PANGEA_VERSION);
	acpi_put16(w, 0); /* no segment */
	string_put(w, &s, RELEASE_DATE);
	acpi_put8(w, 0);	/* 64 KiB, the least that can be said */
	acpi_put64(w, 1u << 3); /* characteristics are not supported */
	acpi_put8(w, 0);	/* extension bytes */
	acpi_put8(w, 1u << 4);	/* this is a virtual machine */
	acpi_put_zeroes(w, 2);	/* release */
	acpi_put16(w, 0xffff);	/* of an embedded controller: none */
	structure_close(w, &s);
}

/* Section 7.2; the UUID's first three fields are little-endian (7.2.1). */
static void system_put(struct acpi_writer *w, const char *name)
{
	static const uint8_t order[SMBIOS_UUID_BYTES] = {3, 2, 1,  0,  5,  4,  7,  6,
							 8, 9, 10, 11, 12, 13, 14, 15};
	uint8_t uuid[SMBIOS_UUID_BYTES];
	struct structure s;

	smbios_uuid(name, uuid);
	structure_open(w, &s, 1, 0x1b, HANDLE_SYSTEM);
	string_put(w, &s, MAKER);
	string_put(w, &s, PRODUCT);
	string_put(w, &s, PANGEA_VERSION);
	string_put(w, &s, name);
	for (unsigned i = 0; i < SMBIOS_UUID_BYTES; i++)
		acpi_put8(w, uuid[order[i]]);
	acpi_put8(w, WAKE_POWER_SWITCH);
	acpi_put8(w, 0); /* no stock-keeping number */
	string_put(w, &s, PRODUCT);
	structure_close(w, &s);
}

/* Section 7.4. */
static void chassis_put(struct acpi_writer *w, const char *name)
{
	struct structure s;

	structure_open(w, &s, 3, 0x16, HANDLE_CHASSIS);
	string_put(w, &s, MAKER);
	acpi_put8(w, KIND_OTHER);
	acpi_put8(w, 0); /* version */
	string_put(w, &s, name);
	acpi_put8(w, 0); /* asset tag */
	acpi_put8(w, STATE_SAFE);
	acpi_put8(w, STATE_SAFE);
	acpi_put8(w, STATE_SAFE);
	acpi_put8(w, STATE_UNKNOWN); /* security */
	acpi_put32(w, 0);
	acpi_put_zeroes(w, 5); /* height, power cords, elements, their length, SKU */
	structure_close(w, &s);
}

/* Section 7.5: a slice's CPUs are one package. */
static void processor_put(struct acpi_writer *w, unsigned slice, unsigned cpus)
{
	uint8_t few = cpus > 255 ? 255 : (uint8_t)cpus;
	char socket[32];
	struct structure s;

	snprintf(socket, sizeof(socket), "Slice %u", slice);
	structure_open(w, &s, 4, 0x30, HANDLE_PROCESSOR + slice);
	string_put(w, &s, socket);
	acpi_put8(w, 3); /* a central processor */
	acpi_put8(w, KIND_OTHER);
	string_put(w, &s, MAKER);
	acpi_put64(w, 0); /* its id: CPUID says it */
	acpi_put8(w, 0);  /* version */
	acpi_put8(w, 0);  /* voltage */
	acpi_put16(w, 0); /* clock */
	acpi_put16(w, 0); /* speeds: not known */
	acpi_put16(w, 0);
	acpi_put8(w, 0x41); /* in its socket, and on */
	acpi_put8(w, KIND_OTHER);
	acpi_put16(w, HANDLE_NONE);
	acpi_put16(w, HANDLE_NONE);
	acpi_put16(w, HANDLE_NONE);
	acpi_put_zeroes(w, 3); /* serial number, asset tag, part number */
	acpi_put8(w, few);     /* cores, those that are on, threads */
	acpi_put8(w, few);
	acpi_put8(w, few);
	acpi_put16(w, 0x0c); /* 64 bits, several cores */
	acpi_put16(w, KIND_OTHER);
	acpi_put16(w, (uint16_t)cpus);
	acpi_put16(w, (uint16_t)cpus);
	acpi_put16(w, (uint16_t)cpus);
	structure_close(w, &s);
}

/* Section 7.17. */
static void array_put(struct acpi_writer *w, uint64_t bytes, unsigned devices)
{
	bool large = bytes >> KIB >= 0x80000000u;
	struct structure s;

	structure_open(w, &s, 16, 0x17, HANDLE_ARRAY);
	acpi_put8(w, KIND_OTHER); /* where it is */
	acpi_put8(w, 3);	  /* system memory */
	acpi_put8(w, 3);	  /* no error correction */
	acpi_put32(w, large ? 0x80000000u : (uint32_t)(bytes >> KIB));
	acpi_put16(w, HANDLE_NO_ERRORS);
	acpi_put16(w, (uint16_t)devices);
	acpi_put64(w, large ? bytes : 0);
	structure_close(w, &s);
}

/* Section 7.18: a slice's memory. */
static void memory_put(struct acpi_writer *w, unsigned slice, uint64_t bytes)
{
	bool large = bytes >> MIB >= 0x7fff;
	char locator[32];
	struct structure s;

	snprintf(locator, sizeof(locator), "Slice %u", slice);
	structure_open(w, &s, 17, 0x28, HANDLE_MEMORY + slice);
	acpi_put16(w, HANDLE_ARRAY);
	acpi_put16(w, HANDLE_NO_ERRORS);
	acpi_put16(w, 64); /* bits, with and without error correction */
	acpi_put16(w, 64);
	acpi_put16(w, large ? 0x7fff : (uint16_t)(bytes >> MIB));
	acpi_put8(w, KIND_OTHER); /* form */
	acpi_put8(w, 0);	  /* of no set */
	string_put(w, &s, locator);
	acpi_put8(w, 0);	/* bank */
	acpi_put8(w, 7);	/* RAM */
	acpi_put16(w, 1u << 1); /* other */
	acpi_put16(w, 0);	/* speed: not known */
	string_put(w, &s, MAKER);
	acpi_put_zeroes(w, 3); /* serial number, asset tag, part number */
	acpi_put8(w, 0);       /* rank: not known */
	acpi_put32(w, large ? (uint32_t)(bytes >> MIB) : 0);
	acpi_put16(w, 0);      /* configured speed */
	acpi_put_zeroes(w, 6); /* voltages */
	structure_close(w, &s);
}

/* Section 7.20. */
static void mapped_put(struct acpi_writer *w, unsigned number, const struct shape_range *range)
{
	bool large = range->end > UINT64_C(0xffffffff) << KIB;
	struct structure s;

	structure_open(w, &s, 19, 0x1f, HANDLE_MAPPED + number);
	acpi_put32(w, large ? 0xffffffffu : (uint32_t)(range->start >> KIB));
	acpi_put32(w, large ? 0xffffffffu : (uint32_t)((range->end >> KIB) - 1));
	acpi_put16(w, HANDLE_ARRAY);
	acpi_put8(w, 1); /* device in each row */
	acpi_put64(w, large ? range->start : 0);
	acpi_put64(w, large ? range->end - 1 : 0);
	structure_close(w, &s);
}

static void memories_put(struct acpi_writer *w, const struct vm_shape *shape)
{
	unsigned devices = 0, ranges = 0;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < shape->slices; i++) {
		devices += shape->slice[i].mem_bytes > 0;
		bytes += shape->slice[i].mem_bytes;
	}
	array_put(w, bytes, devices);
	for (unsigned i = 0; i < shape->slices; i++)
		if (shape->slice[i].mem_bytes)
			memory_put(w, i, shape->slice[i].mem_bytes);
	for (unsigned i = 0; i < shape->slices; i++)
		for (unsigned k = 0; k < shape->slice[i].ranges_count; k++)
			mapped_put(w, ranges++, &shape->slice[i].ranges[k]);
}

/* Section 5.2.2. */
static void entry_put(uint8_t *area, uint64_t table_gpa, uint32_t table_bytes)
{
	struct acpi_writer w = {.data = area, .size = SMBIOS_ENTRY_BYTES};
	uint8_t sum = 0;

	acpi_put_bytes(&w, "_SM3_", 5);
	acpi_put8(&w, 0); /* checksum */
	acpi_put8(&w, 0x18);
	acpi_put8(&w, 3); /* version 3.4 */
	acpi_put8(&w, 4);
	acpi_put8(&w, 0); /* of the text */
	acpi_put8(&w, 1); /* of the entry point */
	acpi_put8(&w, 0);
	acpi_put32(&w, table_bytes);
	acpi_put64(&w, table_gpa);
	for (unsigned i = 0; i < 0x18; i++)
		sum = (uint8_t)(sum + area[i]);
	area[5] = (uint8_t)-sum;
}

int smbios_build(const struct vm_shape *shape, const char *name, uint8_t *area, size_t size,
		 uint64_t area_gpa)
{
	struct acpi_writer w = {.data = area, .size = size};
	struct structure end;

	if (size < SMBIOS_ENTRY_BYTES)
		return -ENOSPC;
	memset(area, 0, size);
	acpi_put_zeroes(&w, SMBIOS_ENTRY_BYTES);
	firmware_put(&w);
	system_put(&w, name);
	chassis_put(&w, name);
	for (unsigned i = 0; i < shape->slices; i++)
		if (shape->slice[i].vcpus)
			processor_put(&w, i, shape->slice[i].vcpus);
	memories_put(&w, shape);
	structure_open(&w, &end, 127, 4, HANDLE_END);
	structure_close(&w, &end);
	if (w.overflow)
		return -ENOSPC;
	entry_put(area, area_gpa + SMBIOS_ENTRY_BYTES, (uint32_t)(w.used - SMBIOS_ENTRY_BYTES));
	return 0;
}

int smbios_place(const struct vm_shape *shape, const char *name, uint8_t *ram)
{
	size_t size = LAYOUT_SMBIOS_END - LAYOUT_SMBIOS_START;
	uint8_t *area = malloc(size);
	int err;

	if (!area)
		return -ENOMEM;
	err = smbios_build(shape, name, area, size, LAYOUT_SMBIOS_START);
	if (!err)
		memcpy(ram + LAYOUT_SMBIOS_START, area, size);
	free(area);
	return err;
}
