/* SPDX-License-Identifier: Apache-2.0 */
/* A device of slice 0 that a CPU of slice 1 drives: configuration, posted writes, interrupts, the end. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "fake_vm.h"
#include "vmm/apic/apic.h"
#include "vmm/boot/layout.h"
#include "vmm/machine/remote_io.h"
#include "vmm/virtio/virtio_pci.h"

#define ICR	      (MSR_X2APIC_FIRST + APIC_ICR)
#define DEVICE_CONFIG (LAYOUT_PCI_ECAM + (1u << 15))
#define COMMON	      LAYOUT_PCI_WINDOW
#define NOTIFY	      (LAYOUT_PCI_WINDOW + 0x3000)
#define MSIX_TABLE    (LAYOUT_PCI_WINDOW + 0x4000)
#define VECTOR	      0x51u
#define NOTIFICATIONS 100u

/* ---- a device without queues in memory: a notification is answered by an interrupt ---- */

struct bell {
	_Atomic unsigned stops, destroys;
	_Atomic uint32_t notified;
};

static int bell_start(void *dev, struct virtio *v)
{
	(void)dev;
	(void)v;
	return 0;
}

static int bell_work(void *dev, struct virtio *v, uint32_t notified)
{
	struct bell *b = dev;

	atomic_fetch_or(&b->notified, notified);
	if (notified)
		virtio_config_changed(v);
	return 0;
}

static void bell_stop(void *dev, struct virtio *v)
{
	struct bell *b = dev;

	(void)v;
	atomic_fetch_add(&b->stops, 1);
}

static void bell_destroy(void *dev)
{
	struct bell *b = dev;

	atomic_fetch_add(&b->destroys, 1);
}

static struct bell bell;

static struct virtio_device bell_device(void)
{
	static const struct virtio_ops ops = {.name = "bell",
					      .id = 60,
					      .start = bell_start,
					      .work = bell_work,
					      .stop = bell_stop,
					      .destroy = bell_destroy};

	return (struct virtio_device){
		.ops = &ops, .dev = &bell, .name = "bell", .queues = 1, .queue_size = 16};
}

/* ---- the guest ---- */

static void mmio_write(struct fake_cpu *c, uint64_t gpa, unsigned size, uint64_t value)
{
	c->config.bus.mmio_write(c->config.bus.ctx, c->vcpu.id, gpa, size, value);
}

static uint64_t mmio_read(struct fake_cpu *c, uint64_t gpa, unsigned size)
{
	uint64_t value;

	c->config.bus.mmio_read(c->config.bus.ctx, c->vcpu.id, gpa, size, &value);
	return value;
}

static void device_up(struct fake_cpu *c)
{
	unsigned cap = (unsigned)mmio_read(c, DEVICE_CONFIG + PCI_CAPS, 1);

	cr_assert_eq(mmio_read(c, DEVICE_CONFIG, 4), (0x1040u + 60) << 16 | 0x1af4);
	while (mmio_read(c, DEVICE_CONFIG + cap, 1) != PCI_CAP_MSIX)
		cap = (unsigned)mmio_read(c, DEVICE_CONFIG + cap + 1, 1);
	mmio_write(c, DEVICE_CONFIG + cap + 2, 2, 0x8000);
	mmio_write(c, DEVICE_CONFIG + PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	/* The configuration's vector is 1: address and data of an interrupt for this CPU. */
	mmio_write(c, MSIX_TABLE + 16, 8,
		   LAYOUT_LAPIC_BASE | shape_apic_id(&c->vm->shape, c->vcpu.id) << 12);
	mmio_write(c, MSIX_TABLE + 24, 8, VECTOR);
	mmio_write(c, COMMON + 0x10, 2, 1);
	mmio_write(c, COMMON + 0x14, 1, 3);
	mmio_write(c, COMMON + 0x08, 4, 1);
	mmio_write(c, COMMON + 0x0c, 4, 1);
	mmio_write(c, COMMON + 0x14, 1, 0xb);
	cr_assert_eq(mmio_read(c, COMMON + 0x14, 1), 0xb,
		     "what was posted comes before what is read");
	cr_assert_eq(mmio_read(c, MSIX_TABLE + 24, 8), VECTOR);
	mmio_write(c, COMMON + 0x14, 1, 0xf);
}

static enum vcpu_exit_reason drives(struct fake_cpu *c)
{
	if (c->step++)
		return VCPU_EXIT_HLT;
	fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_SVR, APIC_SVR_ENABLE | 0xff);
	atomic_store(&c->interrupts_on, true);
	if (c->vcpu.id == 0 && c->vm->shape.slices > 1) {
		uint64_t to = (uint64_t)shape_apic_id(&c->vm->shape, 1) << 32;

		fake_wrmsr(c, ICR, to | 0x4500);
		fake_wrmsr(c, ICR, to | 0x4611);
		return VCPU_EXIT_HLT;
	}
	device_up(c);
	for (unsigned i = 0; i < NOTIFICATIONS; i++)
		mmio_write(c, NOTIFY, 2, 0);
	return VCPU_EXIT_HLT;
}

static bool interrupted(struct fake_cpu *c)
{
	for (unsigned i = 0; i < atomic_load(&c->irqs) && i < FAKE_IRQS; i++)
		if (atomic_load(&c->irq_log[i]) == VECTOR)
			return true;
	return false;
}

Test(machine_pci, a_device_of_this_slice)
{
	const struct virtio_device device = bell_device();
	struct fake_vm *vm = fake_vm_new_device(1, (unsigned[]){1}, drives, &device);

	fake_vm_start(vm);
	fake_until(interrupted(vm->cpu[0]));
	cr_assert_eq(atomic_load(&bell.notified), 1);
	fake_vm_free(vm);
	cr_assert_eq(atomic_load(&bell.stops), 1);
	cr_assert_eq(atomic_load(&bell.destroys), 1);
}

Test(machine_pci, a_device_of_another_slice)
{
	const struct virtio_device device = bell_device();
	struct fake_vm *vm = fake_vm_new_device(2, (unsigned[]){1, 1}, drives, &device);
	struct machine_stats near, far;

	fake_vm_start(vm);
	fake_until(interrupted(vm->cpu[1]));
	fake_until((machine_stats(vm->slice[0].machine, &near),
		    machine_stats(vm->slice[1].machine, &far),
		    near.remote_io_served == far.remote_io && far.remote_io > NOTIFICATIONS));
	/* Few of the notifications were waited for: slice 1 got fewer answers than it sent accesses. */
	cr_assert_lt(atomic_load(&vm->slice[1].answered), far.remote_io - NOTIFICATIONS / 2);
	cr_assert_eq(vm->slice[0].msg_error, 0);
	cr_assert_eq(vm->slice[1].msg_error, 0);
	fake_vm_free(vm);
}

/* A CPU that writes without end has only so many writes on their way. */
Test(machine_pci, posted_writes_are_bounded)
{
	const struct virtio_device device = bell_device();
	struct fake_vm *vm = fake_vm_new_device(2, (unsigned[]){1, 1}, drives, &device);
	struct machine_stats far;
	unsigned waiting;

	fake_vm_start(vm);
	fake_until((machine_stats(vm->slice[1].machine, &far), far.remote_io > 10));
	fake_hold(vm, 0, true);
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	pthread_mutex_lock(&vm->slice[0].lock);
	waiting = vm->slice[0].count;
	pthread_mutex_unlock(&vm->slice[0].lock);
	cr_assert_leq(waiting, REMOTE_IO_POSTED_MAX);
	fake_hold(vm, 0, false);
	fake_until(interrupted(vm->cpu[1]));
	fake_vm_free(vm);
}

static void ignore_exit(void *ctx, enum exit_code reason, const char *sentence)
{
	(void)ctx;
	(void)reason;
	(void)sentence;
}

static void ignore_console(void *ctx, const uint8_t *bytes, size_t len)
{
	(void)ctx;
	(void)bytes;
	(void)len;
}

/* Whoever makes a device may forget it then, also when there is no machine. */
Test(machine_pci, devices_of_a_machine_that_cannot_be_are_destroyed)
{
	const struct virtio_device device = bell_device();
	struct vm_shape shape = {
		.slices = 1, .vcpus = 1, .ram_end = 64u << 20, .slice = {{.vcpus = 1}}};
	struct machine_config config = {
		.shape = &shape,
		.vcpu_ops = &fake_ops,
		.tsc_hz = LAYOUT_TSC_HZ,
		.devices = &device,
		.devices_count = MACHINE_DEVICES_MAX + 1,
		.callbacks = {.on_exit = ignore_exit, .on_console = ignore_console}};
	struct virtio_device many[MACHINE_DEVICES_MAX + 1];
	struct machine *m;

	for (unsigned i = 0; i <= MACHINE_DEVICES_MAX; i++)
		many[i] = device;
	config.devices = many;
	cr_assert_eq(machine_create(&config, &m), -EINVAL, "too many");
	cr_assert_eq(atomic_load(&bell.destroys), MACHINE_DEVICES_MAX + 1);
	many[1].queues = VIRTIO_QUEUES_MAX + 1;
	config.devices_count = 3;
	cr_assert_eq(machine_create(&config, &m), -EINVAL, "one that cannot be");
	cr_assert_eq(atomic_load(&bell.destroys), MACHINE_DEVICES_MAX + 1 + 3);
}
