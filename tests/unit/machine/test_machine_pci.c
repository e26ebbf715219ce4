/* SPDX-License-Identifier: Apache-2.0 */
/* A device of a slice, driven by CPUs of all: configuration, posted writes, interrupts, what may be asked, the end. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "fake_vm.h"
#include "vmm/apic/apic.h"
#include "vmm/boot/layout.h"
#include "vmm/machine/machine_msg.h"
#include "vmm/machine/remote_io.h"
#include "vmm/virtio/virtio_pci.h"

#define ICR    (MSR_X2APIC_FIRST + APIC_ICR)
#define DEVICE (1u << 15)
/* Within the BAR. */
#define COMMON	      0x0000u
#define NOTIFY	      0x3000u
#define MSIX_TABLE    0x4000u
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

static uint64_t config_at(const struct fake_cpu *c, unsigned offset)
{
	return LAYOUT_PCI_ECAM + c->vm->device_slice * LAYOUT_PCI_ECAM_BUS + DEVICE + offset;
}

static void bar_write(struct fake_cpu *c, unsigned offset, unsigned size, uint64_t value)
{
	mmio_write(c, LAYOUT_PCI_WINDOW + c->vm->device_slice * LAYOUT_PCI_WINDOW_BUS + offset,
		   size, value);
}

static uint64_t bar_read(struct fake_cpu *c, unsigned offset, unsigned size)
{
	return mmio_read(
		c, LAYOUT_PCI_WINDOW + c->vm->device_slice * LAYOUT_PCI_WINDOW_BUS + offset, size);
}

static void device_up(struct fake_cpu *c)
{
	unsigned cap = (unsigned)mmio_read(c, config_at(c, PCI_CAPS), 1);

	cr_assert_eq(mmio_read(c, config_at(c, 0), 4), (0x1040u + 60) << 16 | 0x1af4);
	while (mmio_read(c, config_at(c, cap), 1) != PCI_CAP_MSIX)
		cap = (unsigned)mmio_read(c, config_at(c, cap + 1), 1);
	mmio_write(c, config_at(c, cap + 2), 2, 0x8000);
	mmio_write(c, config_at(c, PCI_COMMAND), 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	/* The configuration's vector is 1: address and data of an interrupt for this CPU. */
	bar_write(c, MSIX_TABLE + 16, 8,
		  LAYOUT_LAPIC_BASE | shape_apic_id(&c->vm->shape, c->vcpu.id) << 12);
	bar_write(c, MSIX_TABLE + 24, 8, VECTOR);
	bar_write(c, COMMON + 0x10, 2, 1);
	bar_write(c, COMMON + 0x14, 1, 3);
	bar_write(c, COMMON + 0x08, 4, 1);
	bar_write(c, COMMON + 0x0c, 4, 1);
	bar_write(c, COMMON + 0x14, 1, 0xb);
	cr_assert_eq(bar_read(c, COMMON + 0x14, 1), 0xb,
		     "what was posted comes before what is read");
	cr_assert_eq(bar_read(c, MSIX_TABLE + 24, 8), VECTOR);
	bar_write(c, COMMON + 0x14, 1, 0xf);
}

/* Starts the last CPU. */
static void last_start(struct fake_cpu *c)
{
	uint64_t to = (uint64_t)shape_apic_id(&c->vm->shape, c->vm->shape.vcpus - 1) << 32;

	fake_wrmsr(c, ICR, to | 0x4500);
	fake_wrmsr(c, ICR, to | 0x4611);
}

static enum vcpu_exit_reason drives(struct fake_cpu *c)
{
	if (c->step++)
		return VCPU_EXIT_HLT;
	fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_SVR, APIC_SVR_ENABLE | 0xff);
	atomic_store(&c->interrupts_on, true);
	if (c->vcpu.id == 0 && c->vm->shape.slices > 1) {
		last_start(c);
		return VCPU_EXIT_HLT;
	}
	device_up(c);
	for (unsigned i = 0; i < NOTIFICATIONS; i++)
		bar_write(c, NOTIFY, 2, 0);
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
	struct fake_vm *vm = fake_vm_new_device(1, (unsigned[]){1}, drives, &device, 0);

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
	struct fake_vm *vm = fake_vm_new_device(2, (unsigned[]){1, 1}, drives, &device, 0);
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
	struct fake_vm *vm = fake_vm_new_device(2, (unsigned[]){1, 1}, drives, &device, 0);
	struct machine_stats far;
	unsigned waiting;

	fake_vm_start(vm);
	fake_until((machine_stats(vm->slice[1].machine, &far), far.remote_io > 60));
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

/* ---- a device of slice 1 ---- */

/* vCPU 0 drives it, and then lets the last one do so. */
static enum vcpu_exit_reason drives_in_turn(struct fake_cpu *c)
{
	if (c->step == 1 && c->vcpu.id == 0 && interrupted(c)) {
		/* A reset from here, so that the other one begins anew. */
		bar_write(c, COMMON + 0x14, 1, 0);
		while (bar_read(c, COMMON + 0x14, 1))
			;
		last_start(c);
		c->step++;
	}
	if (c->step)
		return VCPU_EXIT_HLT;
	c->step++;
	fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_SVR, APIC_SVR_ENABLE | 0xff);
	atomic_store(&c->interrupts_on, true);
	cr_assert_eq(mmio_read(c, LAYOUT_PCI_ECAM + DEVICE, 4), 0xffffffff, "none on slice 0");
	device_up(c);
	for (unsigned i = 0; i < NOTIFICATIONS; i++)
		bar_write(c, NOTIFY, 2, 0);
	return VCPU_EXIT_HLT;
}

Test(machine_pci, slice_0_and_slice_2_reach_a_device_of_slice_1)
{
	const struct virtio_device device = bell_device();
	struct fake_vm *vm =
		fake_vm_new_device(3, (unsigned[]){1, 1, 1}, drives_in_turn, &device, 1);
	struct machine_stats zero, one, two;

	fake_vm_start(vm);
	fake_until(interrupted(vm->cpu[0]));
	fake_until(interrupted(vm->cpu[2]));
	fake_until(
		(machine_stats(vm->slice[0].machine, &zero),
		 machine_stats(vm->slice[1].machine, &one),
		 machine_stats(vm->slice[2].machine, &two),
		 zero.remote_io_served + one.remote_io_served == zero.remote_io + two.remote_io));
	/* Slice 2's one look at bus 0 alone goes to slice 0. */
	cr_assert_eq(zero.remote_io_served, 1);
	cr_assert_gt(one.remote_io_served, 2 * NOTIFICATIONS);
	cr_assert_eq(one.remote_io, 0);
	fake_vm_free(vm);
	cr_assert_eq(atomic_load(&bell.destroys), 1);
}

/* Its own CPU needs no messages. */
Test(machine_pci, slice_1_reaches_its_own_device)
{
	const struct virtio_device device = bell_device();
	struct fake_vm *vm = fake_vm_new_device(2, (unsigned[]){1, 1}, drives, &device, 1);
	struct machine_stats far;

	fake_vm_start(vm);
	fake_until(interrupted(vm->cpu[1]));
	machine_stats(vm->slice[1].machine, &far);
	cr_assert_eq(far.remote_io, 0);
	fake_vm_free(vm);
}

/* Mechanism 1 leads to every slice's bus, from every slice. */
static enum vcpu_exit_reason finds_by_ports(struct fake_cpu *c)
{
	static const struct {
		uint32_t address, first;
	} looks[] = {{0x80000000, 0x0d578086},
		     {0x80010000, 0x0d578086},
		     {0x80010800, 0x107c1af4},
		     {0x00010800, 0xffffffff},
		     {0x80000800, 0xffffffff},
		     {0x80020000, 0xffffffff},
		     {0x80000000 | 0xff << 16, 0xffffffff}};
	const struct vcpu_bus *bus = &c->config.bus;
	uint32_t value;

	if (c->step++)
		return VCPU_EXIT_HLT;
	fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_SVR, APIC_SVR_ENABLE | 0xff);
	atomic_store(&c->interrupts_on, true);
	for (unsigned i = 0; i < sizeof(looks) / sizeof(looks[0]); i++) {
		bus->pio_write(bus->ctx, c->vcpu.id, LAYOUT_PCI_ADDRESS_PORT, 4, looks[i].address);
		bus->pio_read(bus->ctx, c->vcpu.id, LAYOUT_PCI_DATA_PORT, 4, &value);
		cr_assert_eq(value, looks[i].first, "vCPU %u at %x: %x", c->vcpu.id,
			     looks[i].address, value);
	}
	/* The command register, by bytes. */
	bus->pio_write(bus->ctx, c->vcpu.id, LAYOUT_PCI_ADDRESS_PORT, 4, 0x80010804);
	bus->pio_write(bus->ctx, c->vcpu.id, LAYOUT_PCI_DATA_PORT, 1, PCI_COMMAND_MASTER);
	bus->pio_read(bus->ctx, c->vcpu.id, LAYOUT_PCI_DATA_PORT, 2, &value);
	cr_assert_eq(value, PCI_COMMAND_MASTER);
	bus->pio_write(bus->ctx, c->vcpu.id, LAYOUT_PCI_DATA_PORT, 1, 0);
	if (c->vcpu.id == 0)
		last_start(c);
	else
		fake_wrmsr(c, ICR, VECTOR);
	return VCPU_EXIT_HLT;
}

Test(machine_pci, ports_lead_to_every_bus)
{
	const struct virtio_device device = bell_device();
	struct fake_vm *vm =
		fake_vm_new_device(3, (unsigned[]){1, 1, 1}, finds_by_ports, &device, 1);

	fake_vm_start(vm);
	fake_until(interrupted(vm->cpu[0]));
	fake_vm_free(vm);
}

static enum vcpu_exit_reason sleeps(struct fake_cpu *c)
{
	(void)c;
	return VCPU_EXIT_HLT;
}

/* What slice 1 says to a request of slice 2's vCPU. */
static int asked(struct fake_vm *vm, const struct io_request *req)
{
	unsigned handled = atomic_load(&vm->slice[1].handled);
	struct wire_msg msg;
	int err;

	io_request_encode(req, &msg);
	fake_post(vm, 2, 1, &msg);
	fake_until(atomic_load(&vm->slice[1].handled) == handled + 1);
	pthread_mutex_lock(&vm->slice[1].lock);
	err = vm->slice[1].msg_error;
	vm->slice[1].msg_error = 0;
	pthread_mutex_unlock(&vm->slice[1].lock);
	return err;
}

/* The engine thread would have to wait for a third slice. */
Test(machine_pci, what_is_elsewhere_cannot_be_asked_for)
{
	const struct virtio_device device = bell_device();
	struct fake_vm *vm = fake_vm_new_device(3, (unsigned[]){1, 1, 1}, sleeps, &device, 1);
	static const struct io_request refused[] = {
		{.addr = LAYOUT_COM1_PORT, .size = 1, .vcpu = 2},
		{.addr = LAYOUT_PCI_ADDRESS_PORT, .size = 4, .vcpu = 2},
		{.addr = LAYOUT_PCI_DATA_PORT, .size = 4, .vcpu = 2},
		{.addr = LAYOUT_IOAPIC_BASE, .size = 4, .vcpu = 2, .mmio = true},
		{.addr = LAYOUT_PCI_ECAM, .size = 4, .vcpu = 2, .mmio = true},
		{.addr = LAYOUT_PCI_WINDOW, .size = 4, .vcpu = 2, .mmio = true, .write = true},
		{.addr = LAYOUT_PCI_WINDOW + 2 * LAYOUT_PCI_WINDOW_BUS,
		 .size = 4,
		 .vcpu = 2,
		 .mmio = true,
		 .write = true,
		 .posted = true},
		{.addr = 0, .size = 4, .vcpu = 2, .mmio = true},
		/* Another slice's vCPU. */
		{.addr = LAYOUT_PCI_WINDOW + LAYOUT_PCI_WINDOW_BUS, .size = 4, .mmio = true}};
	struct io_request ours = {.addr = LAYOUT_PCI_WINDOW + LAYOUT_PCI_WINDOW_BUS,
				  .size = 4,
				  .vcpu = 2,
				  .mmio = true};

	fake_vm_start(vm);
	for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		cr_expect_eq(asked(vm, &refused[i]), -PANGEA_EWIRE, "request %u", i);
	cr_expect_eq(asked(vm, &ours), 0);
	ours.addr = LAYOUT_PCI_ECAM + LAYOUT_PCI_ECAM_BUS;
	cr_expect_eq(asked(vm, &ours), 0);
	fake_vm_free(vm);
}

static _Atomic uint32_t answer;

static enum vcpu_exit_reason reads_bus_1(struct fake_cpu *c)
{
	if (!c->step++ && c->vcpu.id == 0)
		last_start(c);
	else if (c->vcpu.id == 2)
		atomic_store(&answer, (uint32_t)mmio_read(c, config_at(c, 0), 4));
	return VCPU_EXIT_HLT;
}

/* Slice 2 waits for slice 1: slice 0 cannot answer in its place. */
Test(machine_pci, only_who_was_asked_can_answer)
{
	const struct virtio_device device = bell_device();
	struct fake_vm *vm = fake_vm_new_device(3, (unsigned[]){1, 1, 1}, reads_bus_1, &device, 1);
	const struct io_reply lie = {.vcpu = 2, .seq = 1, .value = 0xbad};
	struct machine_stats two;
	struct wire_msg msg;
	unsigned handled;

	fake_hold(vm, 1, true);
	fake_vm_start(vm);
	fake_until((machine_stats(vm->slice[2].machine, &two), two.remote_io == 1));
	io_reply_encode(&lie, &msg);
	handled = atomic_load(&vm->slice[2].handled);
	fake_post(vm, 0, 2, &msg);
	fake_until(atomic_load(&vm->slice[2].handled) > handled);
	pthread_mutex_lock(&vm->slice[2].lock);
	cr_assert_eq(vm->slice[2].msg_error, -PANGEA_EWIRE);
	vm->slice[2].msg_error = 0;
	pthread_mutex_unlock(&vm->slice[2].lock);
	cr_assert_eq(atomic_load(&answer), 0);
	fake_hold(vm, 1, false);
	fake_until(atomic_load(&answer));
	cr_assert_eq(atomic_load(&answer), 0x107c1af4);
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

static int ignore_post(void *ctx, unsigned to, const struct wire_msg *msg, const void *payload)
{
	(void)ctx;
	(void)to;
	(void)msg;
	(void)payload;
	return 0;
}

static void ignore_ring(void *ctx)
{
	(void)ctx;
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
	shape.slices = 2;
	config.self = 1;
	config.devices_count = 1;
	config.callbacks.post = ignore_post;
	config.callbacks.ring = ignore_ring;
	cr_assert_eq(machine_create(&config, &m), -EINVAL, "of a slice without a bridge");
	cr_assert_eq(atomic_load(&bell.destroys), MACHINE_DEVICES_MAX + 1 + 3 + 1);
}
