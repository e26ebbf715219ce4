/* SPDX-License-Identifier: Apache-2.0 */
/* A tiny 64-bit guest for any CPU engine: memory, fixed tables, and a bus that records. */
#ifndef TESTS_UNIT_KVM_KVM_GUEST_H
#define TESTS_UNIT_KVM_KVM_GUEST_H

#include <criterion/criterion.h>
#include <stdint.h>

#include "tests/unit/bus_record.h"
#include "vmm/cpu/kvm/kvm.h"
#include "vmm/cpu/vcpu.h"

/* Where things lie in guest memory; tables and code in its first 2 MiB. */
#define GUEST_RAM  0x800000u
#define CODE	   0x10000u
#define PML4	   0x20000u
#define PDPT	   0x21000u
#define PD_LOW	   0x22000u /* identity: GUEST_RAM by large pages */
#define PD_HIGH	   0x23000u /* MMIO_GPA */
#define GDT	   0x30000u
#define IDT	   0x31000u
#define TSS	   0x32004u /* so that its 64-bit fields are aligned */
#define STACK	   0x48000u
#define STACK_RSP0 0x4a000u
#define STACK_USER 0x50000u
#define DATA	   0x60000u
#define ARRAY	   0x200000u
#define MMIO_GPA   0xd0000000u

#define SEL_KCODE 0x08
#define SEL_KDATA 0x10
#define SEL_UDATA 0x23
#define SEL_UCODE 0x2b
#define SEL_TSS	  0x30

extern const char kvm_guest_code[], kvm_guest_code_end[];
#define GUEST_LABELS(X)                                                                            \
	X(ports)                                                                                   \
	X(mmio)                                                                                    \
	X(msrs)                                                                                    \
	X(skip_gp)                                                                                 \
	X(halt_loop)                                                                               \
	X(count) X(window) X(cr8) X(cpuid) X(user_spin) X(user_tsc) X(compute) X(finish) X(pages)
#define X(name) extern const char kvm_guest_##name[];
GUEST_LABELS(X)
#undef X
#define LABEL(name) (CODE + (uint64_t)(kvm_guest_##name - kvm_guest_code))

struct guest {
	uint8_t *ram;
	uint64_t ram_end;
	bool ram_owned;
	const struct vcpu_ops *ops;
	void *shared;
	struct vcpu *v;
	struct vcpu_state s;
	struct vcpu_exit exit;
	struct bus_record bus;
};

/* The features of the guests' CPU model: all that KVM here and the software CPU have; mask of enum cpu_feature. */
uint64_t guest_features(void);

/* A guest on GUEST_RAM bytes of its own if ram is NULL, or on ram with what it holds. */
void guest_open(struct guest *g, const struct vcpu_ops *ops, uint8_t *ram, uint64_t ram_end);
void guest_close(struct guest *g);
/* Writes code and tables; guest_open has done it for its own memory. */
void guest_fill(uint8_t *ram);
/* What vCPUs of guests are made with: the TSC at this host's rate, so that any KVM can. */
struct vcpu_config guest_config(struct guest *g);
void guest_cpuid(void *ctx, unsigned vcpu, uint32_t leaf, uint32_t subleaf, struct vcpu_cpuid *out);

uint64_t *guest_u64(struct guest *g, uint64_t gpa);
void guest_gate(struct guest *g, unsigned vector, uint64_t handler, unsigned dpl);
/* g->s: long mode, CPL 0 at rip, interrupts off. */
void guest_kernel(struct guest *g, uint64_t rip);
/* The same at CPL 3, interrupts on. */
void guest_user(struct guest *g, uint64_t rip);
/* Sets g->s, runs, gets g->s; the exit's reason. */
void guest_put(struct guest *g);
enum vcpu_exit_reason guest_run(struct guest *g);
/* The nth access of this kind; fails the test if there is none. */
const struct bus_access *guest_access(const struct guest *g, char kind, unsigned n);
unsigned guest_accesses(const struct guest *g, char kind);

#endif
