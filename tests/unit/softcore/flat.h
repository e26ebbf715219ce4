/* SPDX-License-Identifier: Apache-2.0 */
/* A flat 64-bit environment for code of a few bytes: RAM mapped to itself, CPUs that share it. */
#ifndef TESTS_SOFTCORE_FLAT_H
#define TESTS_SOFTCORE_FLAT_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/cpu/soft/soft.h"
#include "vmm/cpu/vcpu.h"

#define FLAT_RAM   (UINT64_C(8) << 20)
#define FLAT_CPUS  2
#define FLAT_STACK 0x9000u
#define FLAT_IDT   0xa000u /* empty: an exception ends in a triple fault */
#define FLAT_CODE  0x10000u
#define FLAT_CODE2 0x20000u /* another page */
#define FLAT_DATA  0x100000u

/* RAM is writable and mapped linear = physical in 4 KiB pages below 4 MiB; the page at FLAT_ALIAS
 * maps FLAT_CODE's once more; FLAT_HOLE is not mapped. */
#define FLAT_ALIAS 0x300000u
#define FLAT_HOLE  0x301000u

struct flat {
	uint8_t *ram;
	void *shared;
	struct soft_cpu *cpu[FLAT_CPUS];
};

void flat_make(struct flat *f);
void flat_free(struct flat *f);
/* The parts of it, for RAM of another origin (FLAT_RAM bytes): the CPUs alone, and the tables. */
void flat_make_cpus(struct flat *f, uint8_t *ram);
void flat_free_cpus(struct flat *f);
void flat_map(struct flat *f);
/* Sets cpu to ring 0, 64-bit mode, rip; registers zero but RSP; flags clear. */
void flat_reset(struct flat *f, unsigned cpu, uint64_t rip);
/* The same in a 16- or 32-bit code segment (protected mode, paging off). */
void flat_reset_mode(struct flat *f, unsigned cpu, uint64_t rip, unsigned mode);
/* Puts bytes into RAM as a device would, and tells of it. */
void flat_put(struct flat *f, uint64_t gpa, const void *bytes, size_t n);
uint64_t flat_get64(const struct flat *f, uint64_t gpa);
/* Runs cpu until it exits; the reason. */
enum vcpu_exit_reason flat_run(struct flat *f, unsigned cpu);

/* flat_put of a byte list: FLAT_PUT(f, gpa, 0x90, 0xf4). */
#define FLAT_PUT(f, gpa, ...)                                                                      \
	flat_put((f), (gpa), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

#endif
