/* SPDX-License-Identifier: Apache-2.0 */
/* One slice's machine: start-up of CPUs, HLT and wake, injection, timers, and how a VM ends. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "fake_vm.h"
#include "vmm/apic/apic.h"
#include "vmm/boot/layout.h"

#define ICR	    (MSR_X2APIC_FIRST + APIC_ICR)
#define ICR_INIT    0x4500u
#define ICR_SIPI(v) (0x4600u | (v))
/* In guest code, which has the CPU in c. */
#define TO(vcpu) ((uint64_t)shape_apic_id(&c->vm->shape, vcpu) << 32)

static void apic_enable(struct fake_cpu *c)
{
	fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_SVR, APIC_SVR_ENABLE | 0xff);
	atomic_store(&c->interrupts_on, true);
}

static void print(struct fake_cpu *c, const char *text)
{
	for (; *text; text++)
		fake_out(c, LAYOUT_COM1_PORT, (uint8_t)*text);
}

static bool bsp(const struct fake_cpu *c)
{
	return c->vcpu.id == 0;
}

static bool irq_seen(struct fake_cpu *c, uint8_t vector)
{
	unsigned i, n = atomic_load(&c->irqs);

	for (i = 0; i < n && i < FAKE_IRQS; i++)
		if (atomic_load(&c->irq_log[i]) == vector)
			return true;
	return false;
}

/* ---- INIT and SIPI ---- */

static enum vcpu_exit_reason starts_others(struct fake_cpu *c)
{
	if (!c->step++) {
		apic_enable(c);
		if (bsp(c)) {
			fake_wrmsr(c, ICR, TO(1) | ICR_SIPI(0x55)); /* before INIT: nothing */
			fake_wrmsr(c, ICR, TO(1) | ICR_INIT);
			fake_wrmsr(c, ICR, TO(1) | ICR_SIPI(0x9a));
			fake_wrmsr(c, ICR, TO(1) | ICR_SIPI(0x9b)); /* Linux sends two */
		}
	}
	return VCPU_EXIT_HLT;
}

Test(machine, init_sipi)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){3}, starts_others);
	struct machine_stats stats;
	struct vcpu_state state;

	vm->cpu[1]->state.tsc_offset = 77;
	fake_vm_start(vm);
	fake_until(atomic_load(&vm->cpu[1]->runs));
	fake_until((machine_stats(vm->slice[0].machine, &stats), stats.vcpus_idle == 3));
	cr_assert_eq(stats.vcpus_started, 2, "nobody started vCPU 2");
	cr_assert_eq(atomic_load(&vm->cpu[2]->runs), 0);
	cr_assert_eq(machine_vcpu_state(vm->slice[0].machine, 1, &state), -EINVAL, "it runs");
	cr_assert_eq(machine_stop(vm->slice[0].machine, FAKE_DEADLINE), 0);
	cr_assert_eq(machine_vcpu_state(vm->slice[0].machine, 1, &state), 0);
	cr_assert(state.seg[SEG_CS].base == 0x9a000 || state.seg[SEG_CS].base == 0x9b000);
	cr_assert_eq(state.seg[SEG_CS].base >> 4, state.seg[SEG_CS].selector);
	cr_assert_eq(state.rip, 0);
	cr_assert_eq(state.tsc_offset, 77, "INIT leaves the TSC alone");
	cr_assert_eq(machine_vcpu_state(vm->slice[0].machine, 0, &state), 0);
	cr_assert_eq(state.rip, 0x1000200);
	fake_vm_free(vm);
}

/* A CPU that runs and spins is brought back to waiting by INIT, and started anew. */
static enum vcpu_exit_reason spins_or_restarts(struct fake_cpu *c)
{
	unsigned step = c->step++;

	if (!bsp(c)) {
		fake_wrmsr(c, ICR, TO(0) | (c->state.seg[SEG_CS].base == 0x22000 ? 0x42 : 0x41));
		return VCPU_EXIT_KICKED;
	}
	apic_enable(c);
	if (step < 2) {
		fake_wrmsr(c, ICR, TO(1) | ICR_INIT);
		fake_wrmsr(c, ICR, TO(1) | ICR_SIPI(0x11 * (step + 1)));
	}
	return VCPU_EXIT_HLT;
}

Test(machine, init_stops_a_running_cpu)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){2}, spins_or_restarts);
	struct vcpu_state state;

	fake_vm_start(vm);
	fake_until(irq_seen(vm->cpu[0], 0x42));
	cr_assert(irq_seen(vm->cpu[0], 0x41));
	cr_assert_eq(machine_stop(vm->slice[0].machine, FAKE_DEADLINE), 0);
	cr_assert_eq(machine_vcpu_state(vm->slice[0].machine, 1, &state), 0);
	cr_assert_eq(state.seg[SEG_CS].base, 0x22000);
	fake_vm_free(vm);
}

/* ---- interrupts ---- */

static enum vcpu_exit_reason idles(struct fake_cpu *c)
{
	if (!c->step++) {
		apic_enable(c);
		fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_LVT_TIMER, 0xec);
		fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_TIMER_DIVIDE, 0xb);
		fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_TIMER_INITIAL, 25000 * 5); /* 5 ms */
	}
	return VCPU_EXIT_HLT;
}

Test(machine, timer_wakes_a_halted_cpu)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){1}, idles);
	struct machine_stats stats;

	fake_vm_start(vm);
	fake_until(atomic_load(&vm->cpu[0]->irqs) == 1);
	cr_assert_eq(atomic_load(&vm->cpu[0]->irq_log[0]), 0xec);
	fake_until((machine_stats(vm->slice[0].machine, &stats), stats.vcpus_idle == 1));
	cr_assert_eq(stats.timer_fires, 1);
	cr_assert_eq(stats.exits_hlt, 2);
	cr_assert_eq(atomic_load(&vm->cpu[0]->runs), 2, "it slept in between");
	fake_vm_free(vm);
}

static enum vcpu_exit_reason sends_to_itself(struct fake_cpu *c)
{
	if (!c->step++) {
		apic_enable(c);
		fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_SELF_IPI, 0x41);
		fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_SELF_IPI, 0x91);
		fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_SELF_IPI, 0x51);
		return VCPU_EXIT_KICKED;
	}
	return atomic_load(&c->irqs) < 3 ? VCPU_EXIT_KICKED : VCPU_EXIT_HLT;
}

Test(machine, self_ipis_come_by_priority)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){1}, sends_to_itself);
	struct fake_cpu *c = vm->cpu[0];
	struct machine_stats stats;

	fake_vm_start(vm);
	fake_until(atomic_load(&c->irqs) == 3);
	cr_assert_eq(atomic_load(&c->irq_log[0]), 0x91);
	cr_assert_eq(atomic_load(&c->irq_log[1]), 0x51);
	cr_assert_eq(atomic_load(&c->irq_log[2]), 0x41);
	machine_stats(vm->slice[0].machine, &stats);
	cr_assert_eq(stats.ipis_local, 3);
	cr_assert_eq(stats.interrupts, 3);
	fake_vm_free(vm);
}

/* Interrupts off: the vector waits for the window. */
static enum vcpu_exit_reason opens_window_late(struct fake_cpu *c)
{
	switch (c->step++) {
	case 0:
		apic_enable(c);
		atomic_store(&c->interrupts_on, false);
		fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_SELF_IPI, 0x66);
		return VCPU_EXIT_KICKED;
	case 1:
		cr_assert(c->window, "the machine asked for the window");
		cr_assert_eq(atomic_load(&c->irqs), 0);
		atomic_store(&c->interrupts_on, true);
		return VCPU_EXIT_KICKED;
	default:
		return VCPU_EXIT_HLT;
	}
}

Test(machine, irq_window)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){1}, opens_window_late);
	struct machine_stats stats;

	fake_vm_start(vm);
	fake_until(atomic_load(&vm->cpu[0]->irqs) == 1);
	fake_until((machine_stats(vm->slice[0].machine, &stats), stats.vcpus_idle == 1));
	cr_assert_eq(stats.exits_irq_window, 1);
	cr_assert_not(vm->cpu[0]->window, "and took the wish back");
	fake_vm_free(vm);
}

static enum vcpu_exit_reason halts_deaf(struct fake_cpu *c)
{
	if (bsp(c) && !c->step++) {
		fake_wrmsr(c, ICR, TO(1) | ICR_INIT);
		fake_wrmsr(c, ICR, TO(1) | ICR_SIPI(1));
	}
	if (!bsp(c) && !c->step++) {
		fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_SVR, APIC_SVR_ENABLE | 0xff);
		fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_SELF_IPI, 0x40);
		fake_wrmsr(c, ICR, TO(0) | 0x4400); /* NMI for the boot CPU */
	}
	return VCPU_EXIT_HLT;
}

Test(machine, halted_with_interrupts_off)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){2}, halts_deaf);
	struct machine_stats stats;

	fake_vm_start(vm);
	fake_until(atomic_load(&vm->cpu[0]->nmis) == 1);
	fake_until((machine_stats(vm->slice[0].machine, &stats), stats.vcpus_idle == 2));
	cr_assert_eq(atomic_load(&vm->cpu[1]->irqs), 0);
	cr_assert_leq(atomic_load(&vm->cpu[1]->runs), 2, "it sleeps, it does not spin");
	cr_assert_geq(atomic_load(&vm->cpu[0]->runs), 2, "the NMI woke the boot CPU");
	fake_vm_free(vm);
}

/* ---- the console ---- */

static enum vcpu_exit_reason echoes(struct fake_cpu *c)
{
	unsigned ms;

	if (!c->step++) {
		apic_enable(c);
		/* The I/O APIC's COM1 pin: vector 0x24 to APIC 0. */
		c->config.bus.mmio_write(c->config.bus.ctx, 0, LAYOUT_IOAPIC_BASE, 4,
					 0x10 + 2 * LAYOUT_COM1_GSI);
		c->config.bus.mmio_write(c->config.bus.ctx, 0, LAYOUT_IOAPIC_BASE + 0x10, 4, 0x24);
		fake_out(c, LAYOUT_COM1_PORT + 4, 0x0b);
		fake_out(c, LAYOUT_COM1_PORT + 1, 0x01);
	}
	for (ms = 0; fake_in(c, LAYOUT_COM1_PORT + 5) & 1 && ms < 64; ms++)
		fake_out(c, LAYOUT_COM1_PORT, fake_in(c, LAYOUT_COM1_PORT));
	return VCPU_EXIT_HLT;
}

static size_t console_len(struct fake_vm *vm)
{
	size_t len;

	pthread_mutex_lock(&vm->slice[0].lock);
	len = vm->slice[0].console_len;
	pthread_mutex_unlock(&vm->slice[0].lock);
	return len;
}

Test(machine, console_both_ways)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){1}, echoes);

	fake_vm_start(vm);
	fake_until(atomic_load(&vm->cpu[0]->runs));
	cr_assert_eq(machine_console_input(vm->slice[0].machine, (const uint8_t *)"hello", 5), 5);
	fake_until(console_len(vm) == 5);
	cr_assert_arr_eq(vm->slice[0].console, "hello", 5);
	cr_assert_geq(atomic_load(&vm->cpu[0]->irqs), 1, "by interrupt");
	cr_assert_eq(atomic_load(&vm->cpu[0]->irq_log[0]), 0x24);
	fake_vm_free(vm);
}

/* ---- ends ---- */

static enum vcpu_exit_reason powers_off(struct fake_cpu *c)
{
	print(c, "bye");
	fake_out(c, LAYOUT_SLEEP_CONTROL_PORT, LAYOUT_SLEEP_TYPE_S5 << 2 | 0x20);
	return VCPU_EXIT_HLT;
}

Test(machine, power_off)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){2}, powers_off);

	fake_vm_start(vm);
	fake_until(fake_exits(vm, 0));
	cr_assert_eq(vm->slice[0].reason, EXIT_OK);
	cr_assert_eq(console_len(vm), 3, "the last words come before the end");
	machine_end(vm->slice[0].machine, EXIT_ERROR, "too late");
	fake_vm_free(vm);
}

static enum vcpu_exit_reason resets_after_panic(struct fake_cpu *c)
{
	print(c, "[    1.5] Kernel panic - not syncing: VFS: no root\r\n");
	print(c, "[    1.6] ---[ end Kernel panic - not syncing: VFS: no root ]---\r\n");
	fake_out(c, LAYOUT_RESET_PORT, LAYOUT_RESET_VALUE);
	return VCPU_EXIT_HLT;
}

Test(machine, panic_then_reset)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){1}, resets_after_panic);

	fake_vm_start(vm);
	fake_until(fake_exits(vm, 0));
	cr_assert_eq(vm->slice[0].reason, EXIT_PANIC);
	cr_assert_str_eq(vm->slice[0].sentence, "Kernel panic - not syncing: VFS: no root");
	fake_vm_free(vm);
}

static enum vcpu_exit_reason halts_after_panic(struct fake_cpu *c)
{
	print(c, "Kernel panic - not syncing: stuck\n");
	return VCPU_EXIT_HLT;
}

Test(machine, panic_then_halt)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){1}, halts_after_panic);

	fake_vm_start(vm);
	fake_until(fake_exits(vm, 0));
	cr_assert_eq(vm->slice[0].reason, EXIT_PANIC);
	fake_vm_free(vm);
}

/* The CPU that panics waits with interrupts on, as Linux does without panic=; 1 stops. */
static enum vcpu_exit_reason gives_up(struct fake_cpu *c)
{
	if (c->vcpu.id != 0)
		return VCPU_EXIT_HLT;
	if (c->step++ == 0) {
		print(c, "Kernel panic - not syncing: stuck\n");
		print(c, "---[ end Kernel panic - not syncing: stuck ]---\n");
	}
	return VCPU_EXIT_KICKED;
}

static void others_start(struct fake_cpu *c)
{
	for (unsigned id = 1; id < c->config.vcpus; id++) {
		fake_wrmsr(c, ICR, TO(id) | ICR_INIT);
		fake_wrmsr(c, ICR, TO(id) | ICR_SIPI(1));
	}
}

static enum vcpu_exit_reason starts_then_gives_up(struct fake_cpu *c)
{
	if (c->vcpu.id == 0 && c->step == 0)
		others_start(c);
	return gives_up(c);
}

Test(machine, panic_for_ever)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){3}, starts_then_gives_up);

	fake_vm_start(vm);
	fake_until(fake_exits(vm, 0));
	cr_assert_eq(vm->slice[0].reason, EXIT_PANIC);
	cr_assert_str_eq(vm->slice[0].sentence, "Kernel panic - not syncing: stuck");
	fake_vm_free(vm);
}

static bool another_halted(struct fake_cpu *c)
{
	struct machine_stats stats;

	machine_stats(c->vm->slice[0].machine, &stats);
	return stats.exits_hlt >= 1;
}

/* CPU 1 stands halted with interrupts off, as kdump leaves it; then another kernel starts, prints
 * the old one's log, and resets. */
static enum vcpu_exit_reason starts_another_kernel(struct fake_cpu *c)
{
	if (c->vcpu.id != 0)
		return VCPU_EXIT_HLT;
	others_start(c);
	print(c, "Kernel panic - not syncing: stuck\n");
	fake_until(another_halted(c));
	print(c, "Linux version 6.1\n");
	fake_out(c, LAYOUT_RESET_PORT, LAYOUT_RESET_VALUE);
	return VCPU_EXIT_HLT;
}

Test(machine, panic_then_another_kernel)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){2}, starts_another_kernel);

	fake_vm_start(vm);
	fake_until(fake_exits(vm, 0));
	cr_assert_eq(vm->slice[0].reason, EXIT_RESET, "%s", vm->slice[0].sentence);
	fake_vm_free(vm);
}

/* Both lines, printed by a guest that lives: its CPUs run, then it powers off. */
static enum vcpu_exit_reason prints_a_panic(struct fake_cpu *c)
{
	if (c->vcpu.id == 2)
		return VCPU_EXIT_HLT; /* taken offline, let us say */
	if (c->vcpu.id == 1)
		return VCPU_EXIT_KICKED;
	if (c->step++ == 0) {
		others_start(c);
		fake_until(another_halted(c) && atomic_load(&c->vm->cpu[1]->runs));
		print(c, "Kernel panic - not syncing: a log\n"
			 "---[ end Kernel panic - not syncing: a log ]---\n");
		return VCPU_EXIT_KICKED; /* the last line kicks us: a round in which it may end */
	}
	fake_out(c, LAYOUT_SLEEP_CONTROL_PORT, LAYOUT_SLEEP_TYPE_S5 << 2 | 0x20);
	return VCPU_EXIT_HLT;
}

Test(machine, panic_that_is_only_text)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){3}, prints_a_panic);

	fake_vm_start(vm);
	fake_until(fake_exits(vm, 0));
	cr_assert_eq(vm->slice[0].reason, EXIT_OK, "%s", vm->slice[0].sentence);
	fake_vm_free(vm);
}

static enum vcpu_exit_reason triple_faults(struct fake_cpu *c)
{
	(void)c;
	return VCPU_EXIT_SHUTDOWN;
}

Test(machine, triple_fault)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){1}, triple_faults);

	fake_vm_start(vm);
	fake_until(fake_exits(vm, 0));
	cr_assert_eq(vm->slice[0].reason, EXIT_TRIPLE_FAULT);
	cr_assert(strstr(vm->slice[0].sentence, "vCPU 0"));
	fake_vm_free(vm);
	vm = fake_vm_new(1, (unsigned[]){1}, triple_faults);
	cr_assert_eq(fake_exits(vm, 0), 0);
	fake_vm_free(vm);
}

static enum vcpu_exit_reason fails(struct fake_cpu *c)
{
	(void)c;
	return VCPU_EXIT_ERROR;
}

Test(machine, engine_error)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){1}, fails);

	fake_vm_start(vm);
	fake_until(fake_exits(vm, 0));
	cr_assert_eq(vm->slice[0].reason, EXIT_ERROR);
	fake_vm_free(vm);
}

static enum vcpu_exit_reason spins(struct fake_cpu *c)
{
	(void)c;
	return VCPU_EXIT_KICKED;
}

Test(machine, stop_reaches_spinning_and_sleeping_cpus)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){4}, spins);

	fake_vm_start(vm);
	fake_until(atomic_load(&vm->cpu[0]->runs));
	cr_assert_eq(machine_start(vm->slice[0].machine), -EALREADY);
	machine_end(vm->slice[0].machine, EXIT_STOPPED, NULL);
	cr_assert_eq(fake_exits(vm, 0), 1);
	cr_assert_eq(vm->slice[0].reason, EXIT_STOPPED);
	fake_vm_free(vm);
}

/* A vCPU blocked for ever, as in a page fault: machine_stop gives up in time. */
static atomic_bool unblock;

static enum vcpu_exit_reason blocks(struct fake_cpu *c)
{
	(void)c;
	fake_until(atomic_load(&unblock));
	return VCPU_EXIT_HLT;
}

Test(machine, stop_does_not_wait_for_ever)
{
	struct fake_vm *vm = fake_vm_new(1, (unsigned[]){1}, blocks);

	fake_vm_start(vm);
	fake_until(atomic_load(&vm->cpu[0]->runs));
	cr_assert_eq(machine_stop(vm->slice[0].machine, 20), -ETIMEDOUT);
	atomic_store(&unblock, true);
	fake_vm_free(vm);
}

Test(machine, bad_configurations)
{
	struct fake_vm *vm = fake_vm_new(2, (unsigned[]){1, 1}, spins);
	struct machine_config good = {.shape = &vm->shape,
				      .vcpu_ops = vm->cpu[0]->vcpu.ops,
				      .ram = (uint8_t *)vm,
				      .tsc_hz = LAYOUT_TSC_HZ};
	struct machine_config bad = good;
	struct vm_shape shape = vm->shape;
	struct vcpu_state state;
	struct machine *m;

	cr_assert_eq(machine_create(&bad, &m), -EINVAL, "no callbacks");
	vcpu_state_reset(&state);
	cr_assert_eq(machine_start_bsp(vm->slice[1].machine, &state), -EINVAL);
	state.rflags = UINT64_MAX;
	cr_assert_eq(machine_start_bsp(vm->slice[0].machine, &state), -EINVAL);
	cr_assert_eq(machine_ping(vm->slice[0].machine, 0), -EINVAL);
	cr_assert_eq(machine_ping(vm->slice[0].machine, 2), -EINVAL);
	shape.slice[1].first_vcpu = 5;
	bad.shape = &shape;
	cr_assert_eq(machine_create(&bad, &m), -EINVAL);
	fake_vm_free(vm);
}
