/* SPDX-License-Identifier: Apache-2.0 */
/* Several slices: start-up and IPIs by message, slice 0's devices from afar, and a common end. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "fake_vm.h"
#include "vmm/apic/apic.h"
#include "vmm/boot/layout.h"
#include "vmm/machine/machine_msg.h"

#define ICR	 (MSR_X2APIC_FIRST + APIC_ICR)
#define DEST(id) ((uint64_t)(id) << 32)
/* In guest code, which has the CPU in c. */
#define TO(vcpu) DEST(shape_apic_id(&c->vm->shape, vcpu))

static void apic_enable(struct fake_cpu *c)
{
	fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_SVR, APIC_SVR_ENABLE | 0xff);
	atomic_store(&c->interrupts_on, true);
}

/* The boot CPU starts all others; each of them then tells it by an IPI. */
static void others_start(struct fake_cpu *c)
{
	if (c->vcpu.id) {
		fake_wrmsr(c, ICR, TO(0) | 0x40u | c->vcpu.id);
		return;
	}
	fake_wrmsr(c, ICR, 0xc0000u | 0x4500);
	fake_wrmsr(c, ICR, 0xc0000u | 0x4698);
}

static enum vcpu_exit_reason starts_all(struct fake_cpu *c)
{
	if (!c->step++) {
		apic_enable(c);
		others_start(c);
	}
	return VCPU_EXIT_HLT;
}

static uint64_t irqs_seen(struct fake_cpu *c)
{
	unsigned i, n = atomic_load(&c->irqs);
	uint64_t seen = 0;

	for (i = 0; i < n && i < FAKE_IRQS; i++)
		seen |= UINT64_C(1) << (atomic_load(&c->irq_log[i]) & 63);
	return seen;
}

Test(slices, start_and_answer)
{
	struct fake_vm *vm = fake_vm_new(3, (unsigned[]){1, 2, 1}, starts_all);
	struct machine_stats stats;
	unsigned i;

	fake_vm_start(vm);
	fake_until(irqs_seen(vm->cpu[0]) == 0xe); /* 0x41, 0x42, 0x43 */
	for (i = 1; i < 4; i++)
		cr_assert_eq(vm->cpu[i]->state.seg[SEG_CS].selector, 0x9800);
	machine_stats(vm->slice[1].machine, &stats);
	cr_assert_eq(stats.ipis_remote, 2);
	cr_assert_eq(stats.vcpus_started, 2);
	machine_stats(vm->slice[0].machine, &stats);
	cr_assert_eq(stats.ipis_remote, 4, "INIT and SIPI, counted once a slice");
	fake_vm_free(vm);
}

/* Logical, broadcast, lowest priority and NMI over slices, when everybody is up. */
static enum vcpu_exit_reason casts(struct fake_cpu *c)
{
	if (!c->step++) {
		apic_enable(c);
		others_start(c);
	}
	if (c->vcpu.id == 0 && irqs_seen(c) == 0xe && c->step < 100) {
		c->step = 100;
		fake_wrmsr(c, ICR, DEST(0x0300) | 0x4800 | 0x70); /* logical: 2 and 3 */
		fake_wrmsr(c, ICR, 0xc0000u | 0x4000 | 0x71);	  /* all but self */
		fake_wrmsr(c, ICR, DEST(0x0202) | 0x4900 | 0x72); /* lowest of 1 and 3 */
		fake_wrmsr(c, ICR, DEST(0xffffffff) | 0x4000 | 0x73);
		fake_wrmsr(c, ICR, TO(3) | 0x4400);
		fake_wrmsr(c, ICR, DEST(200) | 0x4000 | 0x74); /* nobody */
		fake_wrmsr(c, ICR, DEST(2) | 0x4000 | 0x74);   /* nobody: between two slices */
	}
	return VCPU_EXIT_HLT;
}

#define SEEN(v) (UINT64_C(1) << ((v) & 63))

Test(slices, destinations)
{
	struct fake_vm *vm = fake_vm_new(2, (unsigned[]){2, 2}, casts);

	fake_vm_start(vm);
	fake_until(irqs_seen(vm->cpu[0]) == (0xe | SEEN(0x73)));
	fake_until(irqs_seen(vm->cpu[1]) == (SEEN(0x71) | SEEN(0x72) | SEEN(0x73)));
	fake_until(irqs_seen(vm->cpu[2]) == (SEEN(0x70) | SEEN(0x71) | SEEN(0x73)));
	fake_until(irqs_seen(vm->cpu[3]) == (SEEN(0x70) | SEEN(0x71) | SEEN(0x73)));
	fake_until(atomic_load(&vm->cpu[3]->nmis) == 1);
	cr_assert_eq(atomic_load(&vm->cpu[2]->nmis), 0);
	fake_vm_free(vm);
}

/* ---- devices from another slice ---- */

static enum vcpu_exit_reason prints_from_afar(struct fake_cpu *c)
{
	const char *text = "far";
	uint64_t version;

	if (c->step++)
		return VCPU_EXIT_HLT;
	if (c->vcpu.id == 0) {
		apic_enable(c);
		others_start(c);
		return VCPU_EXIT_HLT;
	}
	while (*text)
		fake_out(c, LAYOUT_COM1_PORT, (uint8_t)*text++);
	cr_assert_eq(fake_in(c, LAYOUT_COM1_PORT + 5), 0x60);
	cr_assert_eq(fake_in(c, 0x1234), 0xff, "unclaimed: answered here");
	fake_out(c, LAYOUT_CMOS_PORT, 13);
	cr_assert_eq(fake_in(c, LAYOUT_CMOS_PORT + 1), 0x80);
	c->config.bus.mmio_write(c->config.bus.ctx, c->vcpu.id, LAYOUT_IOAPIC_BASE, 4, 1);
	c->config.bus.mmio_read(c->config.bus.ctx, c->vcpu.id, LAYOUT_IOAPIC_BASE + 16, 4,
				&version);
	cr_assert_eq(version, 0x170020);
	c->config.bus.mmio_read(c->config.bus.ctx, c->vcpu.id, LAYOUT_LAPIC_BASE, 4, &version);
	cr_assert_eq(version, 0xffffffff, "no xAPIC page");
	fake_wrmsr(c, ICR, TO(0) | 0x41);
	return VCPU_EXIT_HLT;
}

Test(slices, remote_io)
{
	struct fake_vm *vm = fake_vm_new(2, (unsigned[]){1, 1}, prints_from_afar);
	struct machine_stats near, far;

	fake_vm_start(vm);
	fake_until(irqs_seen(vm->cpu[0]) == 2);
	machine_stats(vm->slice[0].machine, &near);
	machine_stats(vm->slice[1].machine, &far);
	cr_assert_eq(far.remote_io, 8);
	cr_assert_eq(near.remote_io_served, 8);
	machine_end(vm->slice[0].machine, EXIT_STOPPED, NULL);
	cr_assert_eq(vm->slice[0].console_len, 3);
	cr_assert_arr_eq(vm->slice[0].console, "far", 3);
	fake_vm_free(vm);
}

static enum vcpu_exit_reason reads_from_afar(struct fake_cpu *c)
{
	if (!c->step++ && c->vcpu.id == 0)
		others_start(c);
	else if (c->vcpu.id)
		cr_assert_eq(fake_in(c, LAYOUT_COM1_PORT + 5), 0xff, "no reply: all ones");
	return VCPU_EXIT_HLT;
}

/* Stopping releases a vCPU that waits for a reply. */
Test(slices, stop_aborts_remote_io)
{
	struct fake_vm *vm = fake_vm_new(2, (unsigned[]){1, 1}, reads_from_afar);
	struct machine_stats far;

	fake_hold(vm, 0, true);
	fake_vm_start(vm);
	fake_until((machine_stats(vm->slice[1].machine, &far), far.remote_io == 1));
	machine_end(vm->slice[1].machine, EXIT_NODE_LOST, "slice 0 is gone");
	cr_assert_eq(vm->slice[1].reason, EXIT_NODE_LOST);
	cr_assert_eq(machine_stop(vm->slice[1].machine, FAKE_DEADLINE), 0);
	fake_hold(vm, 0, false);
	fake_until(fake_exits(vm, 0) == 1);
	cr_assert_eq(vm->slice[0].reason, EXIT_NODE_LOST);
	cr_assert_str_eq(vm->slice[0].sentence, "slice 0 is gone");
	fake_vm_free(vm);
}

/* Halted, the vCPUs leave, also out of such a wait, and nobody is told: the end comes after it. */
Test(slices, halt_stops_the_vcpus_and_is_not_the_end)
{
	struct fake_vm *vm = fake_vm_new(2, (unsigned[]){1, 1}, reads_from_afar);
	struct machine_stats far;

	fake_hold(vm, 0, true);
	fake_vm_start(vm);
	fake_until((machine_stats(vm->slice[1].machine, &far), far.remote_io == 1));
	machine_halt(vm->slice[1].machine);
	machine_halt(vm->slice[1].machine);
	cr_assert_eq(machine_stop(vm->slice[1].machine, FAKE_DEADLINE), 0);
	cr_assert_eq(fake_exits(vm, 1), 0);
	machine_end(vm->slice[1].machine, EXIT_NODE_LOST, "slice 0 is gone");
	cr_assert_eq(fake_exits(vm, 1), 1);
	cr_assert_eq(vm->slice[1].reason, EXIT_NODE_LOST);
	fake_hold(vm, 0, false);
	fake_until(fake_exits(vm, 0) == 1);
	fake_vm_free(vm);
}

/* ---- a level interrupt of slice 0, ended on slice 1 ---- */

static void ioapic_write(struct fake_cpu *c, unsigned reg, uint32_t value)
{
	c->config.bus.mmio_write(c->config.bus.ctx, c->vcpu.id, LAYOUT_IOAPIC_BASE, 4, reg);
	c->config.bus.mmio_write(c->config.bus.ctx, c->vcpu.id, LAYOUT_IOAPIC_BASE + 16, 4, value);
}

static enum vcpu_exit_reason serves_level(struct fake_cpu *c)
{
	unsigned reg = 0x10 + 2 * LAYOUT_COM1_GSI;

	if (!c->step++) {
		apic_enable(c);
		if (c->vcpu.id == 0) {
			others_start(c);
			return VCPU_EXIT_HLT;
		}
		ioapic_write(c, reg + 1, shape_apic_id(&c->vm->shape, 1) << 24);
		ioapic_write(c, reg, 0x8035);
		fake_out(c, LAYOUT_COM1_PORT + 4, 0x0b);
		fake_out(c, LAYOUT_COM1_PORT + 1, 0x01);
		fake_wrmsr(c, ICR, TO(0) | 0x41);
	} else if (c->vcpu.id == 1) {
		fake_in(c, LAYOUT_COM1_PORT); /* one byte an interrupt: the line stays active */
	}
	return VCPU_EXIT_HLT;
}

Test(slices, level_interrupt_with_remote_eoi)
{
	struct fake_vm *vm = fake_vm_new(2, (unsigned[]){1, 1}, serves_level);
	unsigned i;

	fake_vm_start(vm);
	fake_until(irqs_seen(vm->cpu[0]) == 2);
	cr_assert_eq(machine_console_input(vm->slice[0].machine, (const uint8_t *)"abcde", 5), 5);
	/* EOI precedes the read in this guest, so that each byte costs an interrupt. */
	fake_until(atomic_load(&vm->cpu[1]->irqs) >= 5);
	for (i = 0; i < 5; i++)
		cr_assert_eq(atomic_load(&vm->cpu[1]->irq_log[i]), 0x35);
	fake_vm_free(vm);
}

/* ---- ends ---- */

static enum vcpu_exit_reason far_triple_fault(struct fake_cpu *c)
{
	if (c->vcpu.id == 2)
		return VCPU_EXIT_SHUTDOWN;
	if (!c->step++ && c->vcpu.id == 0)
		others_start(c);
	return VCPU_EXIT_HLT;
}

Test(slices, a_triple_fault_ends_all)
{
	struct fake_vm *vm = fake_vm_new(3, (unsigned[]){1, 1, 1}, far_triple_fault);
	unsigned i;

	fake_vm_start(vm);
	for (i = 0; i < 3; i++) {
		fake_until(fake_exits(vm, i) == 1);
		cr_assert_eq(vm->slice[i].reason, EXIT_TRIPLE_FAULT);
		cr_assert(strstr(vm->slice[i].sentence, "vCPU 2 (slice 2)"));
	}
	fake_vm_free(vm);
}

Test(slices, ping)
{
	struct fake_vm *vm = fake_vm_new(2, (unsigned[]){1, 0}, starts_all);
	unsigned answers;

	fake_vm_start(vm);
	cr_assert_eq(machine_ping_best(vm->slice[0].machine, 1, &answers), 0);
	cr_assert_eq(answers, 0);
	cr_assert_eq(machine_ping(vm->slice[0].machine, 1), 0);
	cr_assert_eq(machine_ping(vm->slice[0].machine, 1), 0);
	fake_until((machine_ping_best(vm->slice[0].machine, 1, &answers), answers == 2));
	cr_assert_gt(machine_ping_best(vm->slice[0].machine, 1, NULL), 0);
	fake_vm_free(vm);
}

/* A message that the engine refuses is the end, and not a hang. */
static enum vcpu_exit_reason asks_the_void(struct fake_cpu *c)
{
	if (c->step++)
		return VCPU_EXIT_HLT;
	if (c->vcpu.id == 0)
		others_start(c);
	else
		fake_in(c, LAYOUT_COM1_PORT);
	return VCPU_EXIT_HLT;
}

Test(slices, a_full_queue_ends_the_vm)
{
	struct fake_vm *vm = fake_vm_new(2, (unsigned[]){1, 1}, asks_the_void);

	vm->slice[0].post_error = -ENOBUFS;
	fake_vm_start(vm);
	fake_until(fake_exits(vm, 1) == 1);
	cr_assert_eq(vm->slice[1].reason, EXIT_ERROR);
	cr_assert(strstr(vm->slice[1].sentence, "slice 0"), "%s", vm->slice[1].sentence);
	fake_vm_free(vm);
}

/* ---- what a guest can do without end, and what must not end for it ---- */

#define FLOOD_ROUNDS 20000u

/* Told to by interrupt 0x50, the boot CPU sends all vectors to both CPUs of slice 1, many times. */
static enum vcpu_exit_reason floods(struct fake_cpu *c)
{
	unsigned i;

	if (!c->step++) {
		apic_enable(c);
		others_start(c);
		return VCPU_EXIT_HLT;
	}
	if (c->vcpu.id || !(irqs_seen(c) & SEEN(0x50)) || c->step >= 100)
		return VCPU_EXIT_HLT;
	c->step = 100;
	for (i = 0; i < FLOOD_ROUNDS; i++) {
		fake_wrmsr(c, ICR, TO(1 + i % 2) | 0x4000 | (0x20 + i % 0xd0));
		fake_wrmsr(c, ICR, TO(1) | 0x4400);	      /* NMI */
		fake_wrmsr(c, ICR, 0xc0000u | 0x4000 | 0xf1); /* all but self */
	}
	return VCPU_EXIT_HLT;
}

static unsigned flood_irqs(struct fake_vm *vm)
{
	return atomic_load(&vm->cpu[1]->irqs) + atomic_load(&vm->cpu[2]->irqs);
}

/* An interrupt from slice `from` to a CPU of slice `to`. */
static void interrupt(struct fake_vm *vm, unsigned from, unsigned to, unsigned vcpu, uint8_t vector)
{
	struct ipi ipi = {
		.dest = shape_apic_id(&vm->shape, vcpu), .exclude = IPI_NOBODY, .vector = vector};
	struct wire_msg msg;

	ipi_encode(&ipi, &msg);
	fake_post(vm, from, to, &msg);
}

/*
 * The engine thread of the sender does not send while 60,000 interrupts are requested, 234 times
 * what a queue of messages holds here. What waits is bits; each of them arrives once.
 */
Test(slices, interrupts_without_end_fill_nothing)
{
	struct fake_vm *vm = fake_vm_new(2, (unsigned[]){1, 2}, floods);
	struct machine_stats stats;
	unsigned pulled;

	fake_vm_start(vm);
	fake_until(irqs_seen(vm->cpu[0]) == 6); /* 0x41, 0x42: both are up */
	fake_silence(vm, 0, true);
	pulled = atomic_load(&vm->slice[0].pulled);
	interrupt(vm, 1, 0, 0, 0x50);
	fake_until((machine_stats(vm->slice[0].machine, &stats),
		    stats.ipis_remote == 2 + 3 * FLOOD_ROUNDS));
	cr_assert_eq(flood_irqs(vm), 0, "nothing was sent yet");
	cr_assert_eq(fake_exits(vm, 0) + fake_exits(vm, 1), 0);
	fake_silence(vm, 0, false);
	/* 0xd0 vectors, half of them to each CPU, and 0xf1 to both. */
	fake_until(flood_irqs(vm) == 0xd0 + 2);
	cr_assert_eq(atomic_load(&vm->cpu[1]->nmis), 1, "they are one");
	/* The broadcast is one message to the cluster; and the NMI one. */
	pulled = atomic_load(&vm->slice[0].pulled) - pulled;
	cr_assert_eq(pulled, 0xd0 + 2, "%u messages", pulled);
	cr_assert_eq(fake_exits(vm, 0) + fake_exits(vm, 1), 0);
	fake_vm_free(vm);
}

/*
 * A slice that takes nothing for a while: what is meant for it waits as bits, and the others are
 * served. Slice 0 sends to both; slice 1's queue is full of what slice 2 sent.
 */
static enum vcpu_exit_reason sends_when_told(struct fake_cpu *c)
{
	if (!c->step++) {
		apic_enable(c);
		others_start(c);
	}
	if (c->vcpu.id == 0 && (irqs_seen(c) & SEEN(0x50)) && c->step < 100) {
		c->step = 100;
		fake_wrmsr(c, ICR, TO(1) | 0x4000 | 0x60);
		fake_wrmsr(c, ICR, TO(2) | 0x4000 | 0x61);
	}
	return VCPU_EXIT_HLT;
}

Test(slices, a_slice_that_takes_nothing_holds_up_nobody)
{
	struct fake_vm *vm = fake_vm_new(3, (unsigned[]){1, 1, 1}, sends_when_told);
	unsigned i;

	fake_vm_start(vm);
	fake_until(irqs_seen(vm->cpu[0]) == 6);
	fake_hold(vm, 1, true);
	for (i = 0; i < FAKE_QUEUE / 2; i++)
		interrupt(vm, 2, 1, 1, 0x70);
	interrupt(vm, 1, 0, 0, 0x50);
	fake_until(irqs_seen(vm->cpu[2]) & SEEN(0x61));
	cr_assert_eq(atomic_load(&vm->cpu[1]->irqs), 0);
	fake_hold(vm, 1, false);
	fake_until(irqs_seen(vm->cpu[1]) & SEEN(0x60));
	fake_vm_free(vm);
}

/* INIT and SIPI that nobody has sent on yet are kept as an APIC keeps them: the last SIPI counts. */
static enum vcpu_exit_reason starts_late(struct fake_cpu *c)
{
	if (!c->step++ && c->vcpu.id == 0) {
		fake_wrmsr(c, ICR, TO(1) | 0x4611); /* void: an INIT follows */
		fake_wrmsr(c, ICR, TO(1) | 0x4500);
		fake_wrmsr(c, ICR, TO(1) | 0x4622);
		fake_wrmsr(c, ICR, TO(1) | 0x4633);
	}
	return VCPU_EXIT_HLT;
}

Test(slices, start_up_that_waits_keeps_its_order)
{
	struct fake_vm *vm = fake_vm_new(2, (unsigned[]){1, 1}, starts_late);
	struct machine_stats stats;

	fake_silence(vm, 0, true);
	fake_vm_start(vm);
	fake_until((machine_stats(vm->slice[0].machine, &stats), stats.ipis_remote == 4));
	cr_assert_eq(atomic_load(&vm->cpu[1]->runs), 0);
	fake_silence(vm, 0, false);
	fake_until(atomic_load(&vm->cpu[1]->runs) > 0);
	cr_assert_eq(vm->cpu[1]->state.seg[SEG_CS].selector, 0x3300);
	cr_assert_eq(atomic_load(&vm->slice[0].pulled), 2, "one INIT, one SIPI");
	fake_vm_free(vm);
}

/* The console's reader sleeps; the end, told by another slice, must not hold up the engine thread. */
static enum vcpu_exit_reason prints_and_sleeps(struct fake_cpu *c)
{
	if (!c->step++ && c->vcpu.id == 0) {
		fake_out(c, LAYOUT_COM1_PORT, 'o');
		fake_out(c, LAYOUT_COM1_PORT, 'k');
	}
	return VCPU_EXIT_HLT;
}

Test(slices, the_engine_thread_does_not_wait_for_the_console)
{
	struct fake_vm *vm = fake_vm_new(2, (unsigned[]){1, 1}, prints_and_sleeps);
	unsigned handled;

	fake_console_stick(vm, 0, true);
	fake_vm_start(vm);
	fake_until(atomic_load(&vm->cpu[0]->runs) > 0);
	handled = atomic_load(&vm->slice[0].handled);
	machine_end(vm->slice[1].machine, EXIT_ERROR, "slice 1 says so");
	fake_until(atomic_load(&vm->slice[0].handled) == handled + 1);
	cr_assert_eq(fake_exits(vm, 0), 0, "the console's last bytes come first");
	interrupt(vm, 1, 0, 0, 0x50);
	fake_until(atomic_load(&vm->slice[0].handled) == handled + 2);
	fake_console_stick(vm, 0, false);
	fake_until(fake_exits(vm, 0) == 1);
	cr_assert_str_eq(vm->slice[0].sentence, "slice 1 says so");
	cr_assert_arr_eq(vm->slice[0].console, "ok", 2);
	fake_vm_free(vm);
}

/* ---- what peers may not send ---- */

Test(slices, bad_messages_are_refused)
{
	struct fake_vm *vm = fake_vm_new(3, (unsigned[]){1, 1, 1}, starts_all);
	struct machine *m0 = vm->slice[0].machine, *m1 = vm->slice[1].machine;
	struct io_request req = {.addr = 0x3f8, .size = 1, .vcpu = 2};
	struct io_reply reply = {.vcpu = 1};
	struct wire_msg msg = {.type = MSG_MACHINE_PONG + 1};

	cr_assert_eq(machine_msg(m0, 1, &msg, NULL), -PANGEA_EWIRE);
	msg.type = MSG_MACHINE_PING;
	cr_assert_eq(machine_msg(m0, 3, &msg, NULL), -PANGEA_EWIRE, "no such slice");
	cr_assert_eq(machine_msg(m0, 0, &msg, NULL), -PANGEA_EWIRE, "from itself");
	io_request_encode(&req, &msg);
	cr_assert_eq(machine_msg(m0, 1, &msg, NULL), -PANGEA_EWIRE, "another slice's vCPU");
	cr_assert_eq(machine_msg(m1, 2, &msg, NULL), -PANGEA_EWIRE, "has no such device");
	io_reply_encode(&reply, &msg);
	cr_assert_eq(machine_msg(m1, 0, &msg, NULL), 0, "nobody waits: late");
	cr_assert_eq(machine_msg(m1, 2, &msg, NULL), -PANGEA_EWIRE, "it has no devices");
	cr_assert_eq(machine_msg(m0, 1, &msg, NULL), -PANGEA_EWIRE);
	reply.vcpu = 2;
	io_reply_encode(&reply, &msg);
	cr_assert_eq(machine_msg(m1, 0, &msg, NULL), -PANGEA_EWIRE, "not our vCPU");
	msg = (struct wire_msg){.type = MSG_MACHINE_EOI, .arg = 0x30};
	cr_assert_eq(machine_msg(m1, 0, &msg, NULL), -PANGEA_EWIRE);
	msg.arg = 0x100;
	cr_assert_eq(machine_msg(m0, 1, &msg, NULL), -PANGEA_EWIRE);
	end_encode(EXIT_ERROR, "", &msg);
	cr_assert_eq(machine_msg(m1, 2, &msg, NULL), -PANGEA_EWIRE, "only slice 0 tells");
	fake_vm_free(vm);
}
