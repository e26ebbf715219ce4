/* SPDX-License-Identifier: Apache-2.0 */
/* The HMAT's body: latency and bandwidth from each slice's CPUs to each slice's memory (ACPI 6.4, 5.2.27). */
#include "vmm/boot/acpi_hmat.h"

#include "base/limits.h"

#define TYPE_PROXIMITY	    0
#define TYPE_LATENCY	    1
#define PROXIMITY_SIZE	    40
#define LATENCY_SIZE	    32 /* before the lists */
#define INITIATOR_VALID	    1u
#define ACCESS_LATENCY	    0
#define ACCESS_BANDWIDTH    3
#define LATENCY_UNIT_NS	    10u /* 16 bits reach beyond half a millisecond */
#define BANDWIDTH_UNIT_MBPS 1u
#define ENTRY_MAX	    0xfffeu /* above: no way there */
/* A page that is here: what memory takes, and gives, in round figures. */
#define LOCAL_NS   100u
#define LOCAL_MBPS 10000u

/* 0: not known. */
static uint32_t latency_ns(const struct vm_shape *shape, unsigned from, unsigned to)
{
	return from == to ? LOCAL_NS : shape->latency_ns[from][to];
}

static uint16_t entry_of(const struct vm_shape *shape, unsigned from, unsigned to, uint8_t kind)
{
	uint64_t ns = latency_ns(shape, from, to), value;

	if (!ns)
		return 0; /* not told */
	if (kind == ACCESS_LATENCY)
		value = ns / LATENCY_UNIT_NS;
	else if (from == to)
		value = LOCAL_MBPS / BANDWIDTH_UNIT_MBPS;
	else /* a CPU waits for one page at a time */
		value = PANGEA_PAGE_SIZE * UINT64_C(1000) / ns / BANDWIDTH_UNIT_MBPS;
	if (!value)
		return 1;
	return value < ENTRY_MAX ? (uint16_t)value : ENTRY_MAX;
}

static void proximity_put(struct acpi_writer *w, unsigned slice, bool cpus)
{
	acpi_put16(w, TYPE_PROXIMITY);
	acpi_put16(w, 0);
	acpi_put32(w, PROXIMITY_SIZE);
	acpi_put16(w, cpus ? INITIATOR_VALID : 0);
	acpi_put16(w, 0);
	acpi_put32(w, cpus ? slice : 0);
	acpi_put32(w, slice);
	acpi_put_zeroes(w, 4 + 8 + 8);
}

static void matrix_put(struct acpi_writer *w, const struct vm_shape *shape, uint8_t kind)
{
	unsigned from[SLICES_MAX], to[SLICES_MAX], initiators = 0, targets = 0;

	for (unsigned i = 0; i < shape->slices; i++) {
		if (shape->slice[i].vcpus)
			from[initiators++] = i;
		if (shape->slice[i].ranges_count)
			to[targets++] = i;
	}
	acpi_put16(w, TYPE_LATENCY);
	acpi_put16(w, 0);
	acpi_put32(w, LATENCY_SIZE + 4 * initiators + 4 * targets + 2 * initiators * targets);
	acpi_put8(w, 0); /* memory, not one of its caches */
	acpi_put8(w, kind);
	acpi_put16(w, 0);
	acpi_put32(w, initiators);
	acpi_put32(w, targets);
	acpi_put32(w, 0);
	/* Picoseconds, MB/s. */
	acpi_put64(w,
		   kind == ACCESS_LATENCY ? LATENCY_UNIT_NS * UINT64_C(1000) : BANDWIDTH_UNIT_MBPS);
	for (unsigned i = 0; i < initiators; i++)
		acpi_put32(w, from[i]);
	for (unsigned j = 0; j < targets; j++)
		acpi_put32(w, to[j]);
	for (unsigned i = 0; i < initiators; i++)
		for (unsigned j = 0; j < targets; j++)
			acpi_put16(w, entry_of(shape, from[i], to[j], kind));
}

void acpi_hmat_put(struct acpi_writer *w, const struct vm_shape *shape)
{
	acpi_put32(w, 0);
	for (unsigned i = 0; i < shape->slices; i++)
		if (shape->slice[i].ranges_count)
			proximity_put(w, i, shape->slice[i].vcpus);
	matrix_put(w, shape, ACCESS_LATENCY);
	matrix_put(w, shape, ACCESS_BANDWIDTH);
}
