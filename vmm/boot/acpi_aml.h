/* SPDX-License-Identifier: Apache-2.0 */
/* A writer of ACPI tables and of the little AML that the DSDT needs, into one bounded buffer. */
#ifndef VMM_ACPI_AML_H
#define VMM_ACPI_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Appends to a buffer; once it is full, everything is dropped and overflow stays set. */
struct acpi_writer {
	uint8_t *data;
	size_t size, used;
	bool overflow;
};

void acpi_put8(struct acpi_writer *w, uint8_t value);
void acpi_put16(struct acpi_writer *w, uint16_t value);
void acpi_put32(struct acpi_writer *w, uint32_t value);
void acpi_put64(struct acpi_writer *w, uint64_t value);
void acpi_put_bytes(struct acpi_writer *w, const void *bytes, size_t count);
void acpi_put_zeroes(struct acpi_writer *w, size_t count);
/* Pads with zeroes to a multiple of alignment (a power of two). */
void acpi_align(struct acpi_writer *w, size_t alignment);

/*
 * AML (ACPI 6.4, chapter 20). A package is opened with the offset that aml_open returns and closed
 * with it: its length has the fixed four-byte form, since it is known only at the end.
 */
size_t aml_scope_open(struct acpi_writer *w, const char *name);	 /* "\\_SB_" */
size_t aml_device_open(struct acpi_writer *w, const char *name); /* four characters */
/* A method that runs alone, with so many arguments. */
size_t aml_method_open(struct acpi_writer *w, const char *name, uint8_t arguments);
void aml_close(struct acpi_writer *w, size_t open);
/* Notify(object, value); the object by its four characters, found from where this stands. */
void aml_notify(struct acpi_writer *w, const char *object, uint8_t value);
void aml_name_integer(struct acpi_writer *w, const char *name, uint32_t value);
void aml_name_string(struct acpi_writer *w, const char *name, const char *value);
/* value is "PNP0501": three letters and four hex digits. */
void aml_name_eisaid(struct acpi_writer *w, const char *name, const char *value);
/* Name(name, Package(){a, 0, 0, 0}), the form of \_S5. */
void aml_name_sleep_package(struct acpi_writer *w, const char *name, uint8_t type);
/* Name(_CRS, ResourceTemplate(){IO(Decode16, port, port, 1, length) Interrupt(gsi)}). */
void aml_crs_port_irq(struct acpi_writer *w, uint16_t port, uint8_t length, uint32_t gsi);
/* Name(_CRS, ResourceTemplate(){Interrupt(ResourceConsumer, Edge, ActiveHigh, Exclusive){gsi}}). */
void aml_crs_irq(struct acpi_writer *w, uint32_t gsi);
/* Name(_CRS, ResourceTemplate(){WordBusNumber(bus, bus) DWordMemory(window, not cached, read and write)}). */
void aml_crs_bridge(struct acpi_writer *w, uint16_t bus, uint32_t window, uint32_t length);
/* Name(_CRS, ResourceTemplate(){Memory32Fixed(ReadWrite, address, length)}). */
void aml_crs_memory(struct acpi_writer *w, uint32_t address, uint32_t length);

#endif
