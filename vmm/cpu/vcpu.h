/* SPDX-License-Identifier: Apache-2.0 */
/* The interface of a CPU engine: one vCPU, driven by one thread, whatever executes it. */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A segment register with its hidden part; attr is the descriptor's bits 8..23 as in a VMCB:
 * type 0-3, S 4, DPL 5-6, P 7, AVL 8, L 9, D/B 10, G 11. */
struct vcpu_segment {
	uint64_t base;
	uint32_t limit; /* in bytes, granularity applied */
	uint16_t selector;
	uint16_t attr;
};

struct vcpu_table {
	uint64_t base;
	uint16_t limit;
};

enum vcpu_segment_index {
	SEG_ES,
	SEG_CS,
	SEG_SS,
	SEG_DS,
	SEG_FS,
	SEG_GS,
	SEG_COUNT
};
enum vcpu_gpr {
	RAX,
	RCX,
	RDX,
	RBX,
	RSP,
	RBP,
	RSI,
	RDI,
	R8,
	R9,
	R10,
	R11,
	R12,
	R13,
	R14,
	R15
};

/* An event that is bound to be delivered before the next instruction. */
enum vcpu_event {
	VCPU_EVENT_NONE,
	VCPU_EVENT_INTERRUPT, /* the APIC has accepted it: it must not be lost */
	VCPU_EVENT_EXCEPTION, /* its delivery was broken off, by a kick in a page fault, say */
};

/* The whole architectural state of a vCPU but for its APIC: what migration and checkpoints move. */
struct vcpu_state {
	uint64_t gpr[16]; /* by enum vcpu_gpr */
	uint64_t rip, rflags;
	struct vcpu_segment seg[SEG_COUNT], ldtr, tr;
	struct vcpu_table gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, efer;
	uint64_t dr[4], dr6, dr7;
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, tsc_offset, tsc_aux, misc_enable;
	uint8_t fxsave[512];	  /* FXSAVE64 image: x87, MMX, XMM, MXCSR */
	uint64_t xcr0;		  /* 1 at reset, also of a CPU model without XSAVE */
	uint8_t ymm_high[16][16]; /* bits 255:128 of YMM */
	uint8_t irq_shadow;	  /* 1: STI or MOV SS was the last instruction */
	uint8_t nmi_blocked;
	uint8_t halted;
	uint8_t nmi_pending; /* latched: delivered once NMIs are not blocked */
	uint8_t event;	     /* enum vcpu_event */
	uint8_t event_vector;
	uint8_t event_has_error; /* an exception's error code */
	uint32_t event_error;
};

enum vcpu_exit_reason {
	VCPU_EXIT_KICKED,     /* vcpu_kick was called: look at the APIC and run again */
	VCPU_EXIT_HLT,	      /* HLT: wait for an interrupt */
	VCPU_EXIT_IRQ_WINDOW, /* asked for: an interrupt can be injected now */
	VCPU_EXIT_SHUTDOWN,   /* triple fault */
	VCPU_EXIT_ERROR,      /* the engine failed; error holds the negative code */
};

struct vcpu_exit {
	enum vcpu_exit_reason reason;
	int error;
};

/*
 * The machine as the vCPU's accesses reach it. Called on the vCPU's own thread, from within run;
 * may block (an access that another slice serves). size is 1, 2, 4 (or 8 for MMIO); *value is
 * zero-extended. Unclaimed reads give all ones. An engine calls these and goes on by itself: they
 * are not exits, since every engine would only loop over them.
 */
struct vcpu_bus {
	void *ctx;
	void (*pio_read)(void *ctx, unsigned vcpu, uint16_t port, unsigned size, uint32_t *value);
	void (*pio_write)(void *ctx, unsigned vcpu, uint16_t port, unsigned size, uint32_t value);
	void (*mmio_read)(void *ctx, unsigned vcpu, uint64_t gpa, unsigned size, uint64_t *value);
	void (*mmio_write)(void *ctx, unsigned vcpu, uint64_t gpa, unsigned size, uint64_t value);
	/* APIC_BASE (0x1b) and 0x800..0x8ff. Return 0, or -EINVAL for #GP. */
	int (*msr_read)(void *ctx, unsigned vcpu, uint32_t msr, uint64_t *value);
	int (*msr_write)(void *ctx, unsigned vcpu, uint32_t msr, uint64_t value);
	/* CR8 (the APIC's task priority, bits 7:4 of TPR). */
	uint64_t (*cr8_read)(void *ctx, unsigned vcpu);
	void (*cr8_write)(void *ctx, unsigned vcpu, uint64_t value);
};

/* The VM's one CPU model, as CPUID tells it (vmm/cpu/cpuid.h builds the leaves). */
struct vcpu_cpuid {
	uint32_t eax, ebx, ecx, edx;
};

/*
 * Whose rules a CPU follows where the two differ. A guest's kernel takes CPUID's word for it, so it
 * must be the vendor of every processor that runs its code (docs/kvm.md). AMD stands for Hygon too.
 */
enum cpu_vendor {
	CPU_VENDOR_INTEL,
	CPU_VENDOR_AMD,
};

static inline enum cpu_vendor vcpu_vendor(const struct vcpu_cpuid *leaf0)
{
	return leaf0->ebx == 0x68747541 /* "Auth" */ ? CPU_VENDOR_AMD : CPU_VENDOR_INTEL;
}

struct guest_clock;   /* vmm/clock/clock.h */
struct locked_access; /* base/locked.h */

struct vcpu_config {
	unsigned id;	/* its number in the VM */
	unsigned vcpus; /* in the VM */
	uint8_t *ram;	/* engine_ram() */
	uint64_t
		ram_end; /* RAM: [0, GPA_HOLE_START) and [GPA_HOLE_END, ram_end), cut at ram_end; images: image_add */
	struct vcpu_bus bus;
	/*
	 * A LOCKed access to RAM that no host instruction may do (it crosses a page or a cache
	 * line): atomic over the whole VM. ctx is bus.ctx; on the vCPU's thread, from within run;
	 * may block. 0, or a negative code: nothing was done, and the VM ends. NULL: all of the
	 * VM's CPUs are in this process, and the engine does it. Engines whose CPUs do this
	 * themselves do not call it.
	 */
	int (*locked)(void *ctx, unsigned vcpu, struct locked_access *access);
	/* Leaf/subleaf -> registers; any thread; unknown leaves give zeroes. */
	void (*cpuid)(void *ctx, unsigned vcpu, uint32_t leaf, uint32_t subleaf,
		      struct vcpu_cpuid *out);
	void *cpuid_ctx;
	uint64_t tsc_hz; /* guest TSC frequency */
	/*
	 * Guest time; the TSC without the vCPU's own offset is guest_clock_now(clock) * tsc_hz /
	 * 1e9. NULL (a CPU without a machine): CLOCK_MONOTONIC less tsc_origin_ns. It lives longer
	 * than the vCPU; on slices other than 0 it may jump until the first run, never after.
	 *
	 * An engine whose guests read a hardware TSC keeps that TSC to the clock: at each entry it
	 * takes both (guest_clock_at(clock, host_ns) and the hardware's TSC, read together), and
	 * when its offset is off by more than 1 us it sets a new one. The clock's rate differs from
	 * the host's by 500 ppm at the utmost, so that comes at most every 2 ms, and usually every
	 * second or so. Never such that the guest's TSC at this entry would be less than it was at
	 * this vCPU's last exit: then the offset stays as near as that allows. vCPUs of one host
	 * differ by 1 us at most; a path from one to another takes longer, through user space.
	 */
	const struct guest_clock *clock;
	uint64_t tsc_origin_ns; /* see clock; engines with a clock do not use it */
	void *shared;		/* what ops->shared_create returned */
};

struct vcpu;

/*
 * Unless said otherwise a function is called by the vCPU's own thread, outside of run. After
 * create the vCPU is in the architectural reset state.
 */
struct vcpu_ops {
	const char *name;
	/* State that all vCPUs of one VM in this process share. 0 or negative errno. */
	int (*shared_create)(uint8_t *ram, uint64_t ram_end, void **out);
	void (*shared_destroy)(void *shared);
	/*
	 * Between shared_create and the first create: [gpa, gpa + bytes), whole pages behind RAM, is memory too, at
	 * ram + gpa, and read-only: it can be loaded, executed and walked; a store to it goes to the bus, which drops it.
	 * It never changes. NULL: the engine has none. 0 or negative errno.
	 */
	int (*image_add)(void *shared, uint64_t gpa, uint64_t bytes);
	int (*create)(const struct vcpu_config *config, struct vcpu **out);
	void (*destroy)(struct vcpu *v);
	/* Runs guest code until an exit. */
	void (*run)(struct vcpu *v, struct vcpu_exit *exit);
	/* True if interrupt() may be called now: IF set, no shadow, nothing injected and pending.
	 */
	bool (*interrupt_ready)(const struct vcpu *v);
	/* Injects an external interrupt: delivered before the next instruction. */
	void (*interrupt)(struct vcpu *v, uint8_t vector);
	/* Asks for (or withdraws) an exit VCPU_EXIT_IRQ_WINDOW as soon as interrupt_ready. */
	void (*irq_window)(struct vcpu *v, bool wanted);
	/* Injects an NMI; latched while NMIs are blocked. */
	void (*nmi)(struct vcpu *v);
	/* Any thread: makes run return with VCPU_EXIT_KICKED soon; latched if it is not running. */
	void (*kick)(struct vcpu *v);
	void (*state_get)(const struct vcpu *v, struct vcpu_state *out);
	/* 0, or -EINVAL for a state that cannot be (reserved bits, paging without protection). */
	int (*state_set)(struct vcpu *v, const struct vcpu_state *state);
	/*
	 * Any thread, the engine's too; never blocks. [gpa, gpa + len) of RAM has just been stored
	 * to by other hands than these vCPUs' (a loader, a device), or was taken away: mapped no
	 * longer, and nobody has been told so yet. What a vCPU decoded from there must not run on.
	 * NULL: the engine needs no telling.
	 */
	void (*memory_changed)(void *shared, uint64_t gpa, uint64_t len);
	/* Guest instructions executed; any thread (approximate while running); 0 if unknown. */
	uint64_t (*instructions)(const struct vcpu *v);
	/*
	 * The virtual address of the code that it executes, or executed last: the start of a run of
	 * instructions without a branch. Any thread, the engine's too; 0: nothing yet. NULL: an
	 * engine whose CPUs do not tell while they run.
	 */
	uint64_t (*place)(const struct vcpu *v);
};

/* Every implementation's struct begins with this. */
struct vcpu {
	const struct vcpu_ops *ops;
	unsigned id;
};

/* The architectural reset state (SDM 3A, table 10-1): RIP fff0, CS f000 base ffff0000, ... */
void vcpu_state_reset(struct vcpu_state *state);
/* The state after INIT and SIPI with this vector: CS = vector << 8, base vector << 12, RIP 0. */
void vcpu_state_sipi(struct vcpu_state *state, uint8_t vector);

/* False: registers (events aside) that no sequence of instructions could have left. Every engine refuses
 * them, and what else it knows to be impossible. */
bool vcpu_state_possible(const struct vcpu_state *state);

/* The software CPU (vmm/cpu/soft/). */
extern const struct vcpu_ops vcpu_soft_ops;

#endif
