/* SPDX-License-Identifier: Apache-2.0 */
/* Little-endian table bytes and the AML encodings that the DSDT needs. */
#include "vmm/boot/acpi_aml.h"

#include <string.h>

/* AML opcodes (ACPI 6.4, table 20.1). */
#define AML_ZERO	 0x00
#define AML_NAME	 0x08
#define AML_BYTE_PREFIX	 0x0a
#define AML_WORD_PREFIX	 0x0b
#define AML_DWORD_PREFIX 0x0c
#define AML_STRING	 0x0d
#define AML_SCOPE	 0x10
#define AML_BUFFER	 0x11
#define AML_PACKAGE	 0x12
#define AML_METHOD	 0x14
#define AML_NOTIFY	 0x86
#define AML_SERIALIZED	 0x08
#define AML_EXT		 0x5b
#define AML_EXT_DEVICE	 0x82

#define PKG_LENGTH_BYTES 4

void acpi_put8(struct acpi_writer *w, uint8_t value)
{
	if (w->used >= w->size) {
		w->overflow = true;
		return;
	}
	w->data[w->used++] = value;
}

void acpi_put16(struct acpi_writer *w, uint16_t value)
{
	acpi_put8(w, (uint8_t)value);
	acpi_put8(w, (uint8_t)(value >> 8));
}

void acpi_put32(struct acpi_writer *w, uint32_t value)
{
	acpi_put16(w, (uint16_t)value);
	acpi_put16(w, (uint16_t)(value >> 16));
}

void acpi_put64(struct acpi_writer *w, uint64_t value)
{
	acpi_put32(w, (uint32_t)value);
	acpi_put32(w, (uint32_t)(value >> 32));
}

void acpi_put_bytes(struct acpi_writer *w, const void *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		acpi_put8(w, ((const uint8_t *)bytes)[i]);
}

void acpi_put_zeroes(struct acpi_writer *w, size_t count)
{
	while (count--)
		acpi_put8(w, 0);
}

void acpi_align(struct acpi_writer *w, size_t alignment)
{
	while (!w->overflow && w->used & (alignment - 1))
		acpi_put8(w, 0);
}

static size_t package_open(struct acpi_writer *w)
{
	size_t open = w->used;

	acpi_put_zeroes(w, PKG_LENGTH_BYTES);
	return open;
}

/* PkgLength, four bytes: two bits of byte count, four low bits, then three whole bytes. */
void aml_close(struct acpi_writer *w, size_t open)
{
	size_t length = w->used - open;

	if (w->overflow)
		return;
	w->data[open] = (uint8_t)(0xc0 | (length & 0xf));
	w->data[open + 1] = (uint8_t)(length >> 4);
	w->data[open + 2] = (uint8_t)(length >> 12);
	w->data[open + 3] = (uint8_t)(length >> 20);
}

size_t aml_scope_open(struct acpi_writer *w, const char *name)
{
	acpi_put8(w, AML_SCOPE);
	size_t open = package_open(w);
	acpi_put_bytes(w, name, strlen(name));
	return open;
}

size_t aml_device_open(struct acpi_writer *w, const char *name)
{
	acpi_put8(w, AML_EXT);
	acpi_put8(w, AML_EXT_DEVICE);
	size_t open = package_open(w);
	acpi_put_bytes(w, name, strlen(name));
	return open;
}

size_t aml_method_open(struct acpi_writer *w, const char *name, uint8_t arguments)
{
	acpi_put8(w, AML_METHOD);
	size_t open = package_open(w);
	acpi_put_bytes(w, name, strlen(name));
	acpi_put8(w, AML_SERIALIZED | arguments);
	return open;
}

static void name_put(struct acpi_writer *w, const char *name)
{
	acpi_put8(w, AML_NAME);
	acpi_put_bytes(w, name, strlen(name));
}

static void integer_put(struct acpi_writer *w, uint32_t value)
{
	if (value <= 0xff) {
		acpi_put8(w, AML_BYTE_PREFIX);
		acpi_put8(w, (uint8_t)value);
	} else if (value <= 0xffff) {
		acpi_put8(w, AML_WORD_PREFIX);
		acpi_put16(w, (uint16_t)value);
	} else {
		acpi_put8(w, AML_DWORD_PREFIX);
		acpi_put32(w, value);
	}
}

void aml_name_integer(struct acpi_writer *w, const char *name, uint32_t value)
{
	name_put(w, name);
	integer_put(w, value);
}

void aml_notify(struct acpi_writer *w, const char *object, uint8_t value)
{
	acpi_put8(w, AML_NOTIFY);
	acpi_put_bytes(w, object, strlen(object));
	integer_put(w, value);
}

void aml_name_string(struct acpi_writer *w, const char *name, const char *value)
{
	name_put(w, name);
	acpi_put8(w, AML_STRING);
	acpi_put_bytes(w, value, strlen(value) + 1);
}

static unsigned hex_digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A') + 10;
}

/* EISA ID: three five-bit letters and four hex digits, big-endian (ACPI 6.4, section 19.3.4). */
void aml_name_eisaid(struct acpi_writer *w, const char *name, const char *value)
{
	unsigned letters = (unsigned)(value[0] - 0x40) << 10 | (unsigned)(value[1] - 0x40) << 5 |
			   (unsigned)(value[2] - 0x40);

	name_put(w, name);
	acpi_put8(w, AML_DWORD_PREFIX);
	acpi_put8(w, (uint8_t)(letters >> 8));
	acpi_put8(w, (uint8_t)letters);
	acpi_put8(w, (uint8_t)(hex_digit(value[3]) << 4 | hex_digit(value[4])));
	acpi_put8(w, (uint8_t)(hex_digit(value[5]) << 4 | hex_digit(value[6])));
}

void aml_name_sleep_package(struct acpi_writer *w, const char *name, uint8_t type)
{
	name_put(w, name);
	acpi_put8(w, AML_PACKAGE);
	size_t open = package_open(w);
	acpi_put8(w, 4);
	integer_put(w, type);
	for (int i = 0; i < 3; i++)
		acpi_put8(w, AML_ZERO);
	aml_close(w, open);
}

/* Resource descriptors: ACPI 6.4, sections 6.4.2.5 (I/O port), 6.4.3.6 (extended interrupt). */
void aml_crs_port_irq(struct acpi_writer *w, uint16_t port, uint8_t length, uint32_t gsi)
{
	name_put(w, "_CRS");
	acpi_put8(w, AML_BUFFER);
	size_t open = package_open(w);
	integer_put(w, 8 + 9 + 2); /* the three descriptors below */
	acpi_put8(w, 0x47);
	acpi_put8(w, 1); /* decodes 16 bits */
	acpi_put16(w, port);
	acpi_put16(w, port);
	acpi_put8(w, 1);
	acpi_put8(w, length);
	acpi_put8(w, 0x89);
	acpi_put16(w, 6);
	acpi_put8(w, 0x03); /* consumer, edge, active high, exclusive */
	acpi_put8(w, 1);
	acpi_put32(w, gsi);
	acpi_put8(w, 0x79); /* end tag; checksum 0 means none */
	acpi_put8(w, 0);
	aml_close(w, open);
}

/* Begins a _CRS of so many bytes of descriptors; ended by crs_close. */
static size_t crs_open(struct acpi_writer *w, unsigned bytes)
{
	size_t open;

	name_put(w, "_CRS");
	acpi_put8(w, AML_BUFFER);
	open = package_open(w);
	integer_put(w, bytes + 2);
	return open;
}

static void crs_close(struct acpi_writer *w, size_t open)
{
	acpi_put8(w, 0x79); /* end tag; checksum 0 means none */
	acpi_put8(w, 0);
	aml_close(w, open);
}

/* Section 6.4.3.6. */
void aml_crs_irq(struct acpi_writer *w, uint32_t gsi)
{
	size_t open = crs_open(w, 9);

	acpi_put8(w, 0x89);
	acpi_put16(w, 6);
	acpi_put8(w, 0x03); /* consumer, edge, active high, exclusive */
	acpi_put8(w, 1);
	acpi_put32(w, gsi);
	crs_close(w, open);
}

/* Sections 6.4.3.5.3 (word address space) and 6.4.3.5.2 (double word). */
void aml_crs_bridge(struct acpi_writer *w, uint16_t bus, uint32_t window, uint32_t length)
{
	size_t open = crs_open(w, 16 + 26);

	acpi_put8(w, 0x88);
	acpi_put16(w, 13);
	acpi_put8(w, 2);    /* bus numbers */
	acpi_put8(w, 0x0c); /* producer; both ends fixed */
	acpi_put8(w, 0);
	acpi_put16(w, 0);
	acpi_put16(w, bus);
	acpi_put16(w, bus);
	acpi_put16(w, 0);
	acpi_put16(w, 1);
	acpi_put8(w, 0x87);
	acpi_put16(w, 23);
	acpi_put8(w, 0);    /* memory */
	acpi_put8(w, 0x0c); /* producer; both ends fixed */
	acpi_put8(w, 0x01); /* not cached, read and write */
	acpi_put32(w, 0);
	acpi_put32(w, window);
	acpi_put32(w, window + length - 1);
	acpi_put32(w, 0);
	acpi_put32(w, length);
	crs_close(w, open);
}

/* Section 6.4.3.4. */
void aml_crs_memory(struct acpi_writer *w, uint32_t address, uint32_t length)
{
	size_t open = crs_open(w, 12);

	acpi_put8(w, 0x86);
	acpi_put16(w, 9);
	acpi_put8(w, 1);
	acpi_put32(w, address);
	acpi_put32(w, length);
	crs_close(w, open);
}
