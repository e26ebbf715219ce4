/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU's bus for tests: answers every access by a rule, and keeps a list of them. */
#ifndef TESTS_UNIT_BUS_RECORD_H
#define TESTS_UNIT_BUS_RECORD_H

#include "vmm/cpu/vcpu.h"

#define BUS_LOG_MAX 64

struct bus_access {
	char kind; /* r, w: MMIO; i, o: ports; m, n: MSR read, write; 8: CR8 write */
	unsigned size;
	uint64_t address, value;
};

/* What vCPUs that share it did; no threads. All zero is an empty one. */
struct bus_record {
	uint64_t cr8;
	unsigned logged;
	struct bus_access log[BUS_LOG_MAX]; /* the first ones */
};

/*
 * Ports read as 0xa0000000 + port, MMIO as 0x1122334455667788, both cut to the access's size; MSRs as
 * 0xfee00000 + their number, but APIC_BASE as a machine's. MSR 0x80f refuses.
 */
struct vcpu_bus bus_record_bus(struct bus_record *record);

#endif
