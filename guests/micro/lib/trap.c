/* SPDX-License-Identifier: Apache-2.0 */
/* What happens at CPL0: interrupts are counted, exceptions end the program, system calls. */
#include "guests/micro/lib/kernel.h"

#define ICR_FIXED    0x4000ul
#define EXCEPTIONS   32
#define EXCEPTION_UD 6
#define UD2_SIZE     2
#define CRYSTAL_MHZ  25u /* what the APIC timer counts; only naps depend on it */

#define COM1		0x3f8
#define COM1_LSR	(COM1 + 5)
#define LSR_THR_EMPTY	0x20
#define LSR_POLLS_MAX	10000000u
#define DEBUG_EXIT_PORT 0xf4

void console_write(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		for (unsigned polls = 0; !(port_in8(COM1_LSR) & LSR_THR_EMPTY); polls++)
			if (polls == LSR_POLLS_MAX)
				return; /* a dead line must not hang the program */
		port_out8(COM1, (uint8_t)text[i]);
	}
}

static void console_text(const char *text)
{
	console_write(text, strlen(text));
}

static void vm_end(uint32_t code) __attribute__((noreturn));
static void vm_end(uint32_t code)
{
	port_out32(DEBUG_EXIT_PORT, code);
	for (;;)
		__asm__ volatile("cli; hlt");
}

static void console_hex(const char *what, uint64_t value)
{
	char digits[17] = "";

	for (int i = 15; i >= 0; i--, value >>= 4)
		digits[i] = "0123456789abcdef"[value & 0xf];
	console_text(what);
	console_text(digits);
}

void panic(const char *why)
{
	console_text("\n");
	console_text(guest_name);
	console_text(": FAIL ");
	console_text(why);
	console_text("\n");
	vm_end(1);
}

static void exception(const struct trap_frame *f)
{
	uint64_t cr2;

	__asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
	console_hex("\nexception ", f->vector);
	console_hex(" error ", f->error);
	console_hex(" rip ", f->rip);
	console_hex(" rsp ", f->rsp);
	console_hex(" cr2 ", cr2);
	console_hex(" cpu ", cpu_self()->index);
	panic("unexpected exception");
}

/* STI holds interrupts off for one more instruction, so none can come before HLT and be missed. */
static void cpu_sleep(void)
{
	__asm__ volatile("sti; hlt; cli" ::: "memory");
}

/* An x2APIC's ICR write is not serializing (SDM 3A, 11.12.3): earlier stores first. */
static void interrupt_send(uint64_t cpu, uint64_t vector)
{
	__asm__ volatile("mfence; lfence" ::: "memory");
	msr_write(MSR_APIC_ICR, (uint64_t)machine.apic_id[cpu] << 32 | ICR_FIXED | vector);
}

static void nap(uint64_t us)
{
	msr_write(MSR_APIC_INITIAL, us * CRYSTAL_MHZ);
	cpu_sleep();
	msr_write(MSR_APIC_INITIAL, 0);
}

static uint64_t call_serve(uint64_t number, uint64_t a, uint64_t b)
{
	switch ((enum call)number) {
	case CALL_WRITE:
		console_write((const char *)a, b);
		return 0;
	case CALL_EXIT:
		vm_end((uint32_t)a);
	case CALL_IPI:
		interrupt_send(a, b);
		return 0;
	case CALL_IDLE:
		if (cpu_self()->taken[a] == (uint32_t)b)
			cpu_sleep();
		return 0;
	case CALL_NAP:
		nap(a);
		return 0;
	case CALL_START:
		cpu_start((unsigned)a);
		return 0;
	}
	panic("no such system call");
}

void trap(struct trap_frame *f)
{
	if (f->vector == EXCEPTION_UD && f->rip == (uint64_t)call) {
		f->rax = call_serve(f->rdi, f->rsi, f->rdx);
		f->rip += UD2_SIZE;
		return;
	}
	if (f->vector < EXCEPTIONS)
		exception(f);
	cpu_self()->taken[f->vector]++;
	if (f->vector - VECTOR_SENDER < machine.cpus)
		interrupt_send(f->vector - VECTOR_SENDER, VECTOR_ECHO);
	if (f->vector != VECTOR_SPURIOUS)
		msr_write(MSR_APIC_EOI, 0);
}
