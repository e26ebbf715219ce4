/* SPDX-License-Identifier: Apache-2.0 */
/* A tiny guest of the software CPU: memory, tables, a bus that records, and labels of its code. */
#ifndef TESTS_SOFTSYSTEM_GUEST_H
#define TESTS_SOFTSYSTEM_GUEST_H

#include <criterion/criterion.h>
#include <stdint.h>

#include "tests/unit/bus_record.h"
#include "vmm/cpu/vcpu.h"

/* Where things lie in guest memory. */
#define GUEST_RAM  0x800000u
#define CODE	   0x10000u /* guest_code.S, whole; real mode segment 1000 */
#define PML4	   0x20000u
#define PDPT	   0x21000u
#define PD	   0x22000u
#define PT0	   0x23000u /* maps [0, 2 MiB) to itself, writable for users too */
#define PT1	   0x24000u /* [2 MiB, 4 MiB): empty */
#define GDT	   0x30000u
#define IDT	   0x31000u
#define TSS	   0x32004u /* so that its 64-bit fields are aligned */
#define STACK	   0x48000u /* of the kernel, grows down */
#define STACK_RSP0 0x4a000u
#define STACK_IST1 0x4c000u
#define STACK_USER 0x50000u
#define DATA	   0x60000u
#define MMIO_GPA   0xd0000000u /* in the hole, mapped at the same linear address by map_mmio */
#define UNMAPPED   0x200000u   /* linear, in PT1 */
#define IMAGE_GPA  0x40000000u /* of guest_open_image */
#define IMAGE_SIZE 0x4000u

/* Selectors. */
#define SEL_KCODE   0x08
#define SEL_KDATA   0x10
#define SEL_UCODE32 0x1b
#define SEL_UDATA   0x23
#define SEL_UCODE   0x2b
#define SEL_TSS	    0x30
#define SEL_KCODE32 0x40
#define SEL_KCODE16 0x48
#define SEL_DATA16  0x50
#define SEL_ABSENT  0x58
#define SEL_LDT	    0x60
#define SEL_RODATA  0x70
#define SEL_STALE   0x78 /* data, accessed bit clear */
#define GDT_LIMIT   0x7f

/* Page table entry bits. */
#define P   0x001u
#define W   0x002u
#define U   0x004u
#define A   0x020u
#define D   0x040u
#define PS  0x080u
#define G   0x100u
#define NX  (UINT64_C(1) << 63)
#define ALL (P | W | U)

struct guest {
	uint8_t *ram;
	uint8_t *image; /* its bytes, to be written by the test alone; or null */
	void *shared;
	struct vcpu *v;
	struct vcpu_exit exit;
	struct vcpu_state s;
	struct bus_record bus;
	bool huge_pages;   /* CPUID tells of 1 GiB pages */
	bool amd;	   /* and of AMD */
	uint64_t features; /* and of these: mask of enum cpu_feature */
};

/* Labels of guest_code.S; guest_label gives their guest address. */
extern const uint8_t guest_code[], guest_code_end[];
#define LABEL(name)                                                                                \
	({                                                                                         \
		extern const uint8_t gc_##name[];                                                  \
		CODE + (uint64_t)(gc_##name - guest_code);                                         \
	})

/* Makes the guest and puts it into 64-bit mode at CPL 0, interrupts off, every vector of its IDT
 * ending in `stop`. Not running yet. */
void guest_open(struct guest *g);
/* The same, of AMD's CPU model. */
void guest_open_amd(struct guest *g);
/* The same as guest_open, of a CPU model with all features there are. */
void guest_open_newer(struct guest *g);
/* The same, with a read-only image of zeroes. */
void guest_open_image(struct guest *g);
void guest_close(struct guest *g);
/* Makes the state in g->s the vCPU's; and back. */
void guest_put(struct guest *g);
void guest_get(struct guest *g);
/* Runs from rip until an exit, which is returned; g->s is the state then. */
enum vcpu_exit_reason guest_run_at(struct guest *g, uint64_t rip);
enum vcpu_exit_reason guest_run(struct guest *g);
/* Runs from rip to the HLT of `stop` and checks that it is this exception: vector, error. */
void guest_expect(struct guest *g, uint64_t rip, unsigned vector, uint64_t error);
/* g->s becomes CPL 3, 64-bit. */
void guest_user(struct guest *g);
/* g->s becomes 32-bit protected mode without paging, CPL 0; the IDT has 32-bit gates. */
void guest_protected(struct guest *g);

/* Memory. */
uint64_t *guest_u64(struct guest *g, uint64_t gpa);
uint32_t *guest_u32(struct guest *g, uint64_t gpa);
/* The entry of PT0 or PT1 for linear. */
uint64_t *guest_pte(struct guest *g, uint64_t linear);
void guest_gate(struct guest *g, unsigned vector, uint64_t handler, unsigned dpl, unsigned ist);
void guest_map_mmio(struct guest *g);

/* In `stop`: what the frame says. */
#define STOP_VECTOR(g) ((g)->s.gpr[R8])
#define STOP_ERROR(g)  ((g)->s.gpr[R9])
#define STOP_CR2(g)    ((g)->s.gpr[R10])
#define STOP_RIP(g)    ((g)->s.gpr[R11])

#endif
