/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's TSC: its rate, and its offset so that it counts from the VM's origin. */
#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "vmm/kvm/kvm_parts.h"

#define HZ_PER_KHZ 1000u
/* Readings of clock and TSC together; the tightest counts. */
#define READINGS 16

/* ---- KVM's calls ---- */

static struct kvm_device_attr offset_attr(uint64_t *value)
{
	return (struct kvm_device_attr){
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)value};
}

static bool offset_there(int fd)
{
	uint64_t value;
	struct kvm_device_attr attr = offset_attr(&value);

	return ioctl(fd, KVM_HAS_DEVICE_ATTR, &attr) == 0;
}

static int offset_set(int fd, uint64_t value)
{
	struct kvm_device_attr attr = offset_attr(&value);

	return ioctl(fd, KVM_SET_DEVICE_ATTR, &attr) < 0 ? -errno : 0;
}

/* The guest's TSC now, offset included. */
static int guest_tsc(int fd, uint64_t *value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = {.head.nmsrs = 1, .entry.index = MSR_TSC};

	if (ioctl(fd, KVM_GET_MSRS, &msr) != 1)
		return -EIO;
	*value = msr.entry.data;
	return 0;
}

/* ---- offset ---- */

static uint64_t guest_ticks(const struct kvm_cpu *c, uint64_t now_ns)
{
	uint64_t origin = c->config.tsc_origin_ns;
	uint64_t ns = now_ns > origin ? now_ns - origin : 0;

	return (uint64_t)((unsigned __int128)ns * c->config.tsc_hz / NS_PER_S);
}

/*
 * What must be added to the host's TSC, in guest ticks. KVM does the scaling: with a zero offset it
 * tells the scaled counter. Without scaling the processor's own counter is read, which is tighter.
 */
static int base_measure(struct kvm_cpu *c, bool scaled, int64_t *base, uint64_t *error_ns)
{
	int err = scaled ? offset_set(c->fd, 0) : 0;

	*error_ns = UINT64_MAX;
	for (int i = 0; i < READINGS && !err; i++) {
		uint64_t before = clock_now_ns(), tsc, half;

		if (scaled)
			err = guest_tsc(c->fd, &tsc);
		else
			tsc = __rdtsc();
		half = (clock_now_ns() - before) / 2;
		if (err || half >= *error_ns)
			continue;
		*error_ns = half;
		*base = (int64_t)(guest_ticks(c, before + half) - tsc);
	}
	return err;
}

/* The first vCPU measures; the others must agree with it exactly. */
static int base_make(struct kvm_cpu *c, bool scaled)
{
	struct kvm_machine *vm = c->vm;
	uint64_t error_ns;
	int64_t base = 0;
	int err = 0;

	pthread_mutex_lock(&vm->lock);
	if (!vm->tsc_based)
		err = base_measure(c, scaled, &base, &error_ns);
	if (!err && !vm->tsc_based) {
		atomic_store(&vm->tsc_base, base);
		atomic_store(&vm->tsc_error_ns, error_ns);
		vm->tsc_based = true;
	}
	pthread_mutex_unlock(&vm->lock);
	return err;
}

int kvm_tsc_apply(struct kvm_cpu *c)
{
	int64_t base = atomic_load(&c->vm->tsc_base);

	c->tsc_base = base;
	if (!c->tsc_offset_there)
		return 0;
	return offset_set(c->fd, (uint64_t)base + c->tsc_offset);
}

int kvm_tsc_write(struct kvm_cpu *c, uint64_t value)
{
	uint64_t now;
	int err = guest_tsc(c->fd, &now);

	if (err)
		return err;
	c->tsc_offset += value - now;
	return kvm_tsc_apply(c);
}

/* ---- rate ---- */

static int rate_set(const struct kvm_cpu *c, bool *scaled)
{
	uint64_t khz = (c->config.tsc_hz + HZ_PER_KHZ / 2) / HZ_PER_KHZ;
	int host_khz = ioctl(c->fd, KVM_GET_TSC_KHZ, 0);

	*scaled = host_khz <= 0 || khz != (uint64_t)host_khz;
	if (!*scaled)
		return 0;
	if (c->vm->tsc_scaling && khz <= INT32_MAX &&
	    ioctl(c->fd, KVM_SET_TSC_KHZ, (unsigned long)khz) == 0)
		return 0;
	log_error("this host cannot give guests a TSC of %llu kHz: its own has %d kHz, and %s",
		  (unsigned long long)khz, host_khz,
		  c->vm->tsc_scaling ? "that is out of its range" : "it cannot scale");
	return -ENOTSUP;
}

int kvm_tsc_setup(struct kvm_cpu *c)
{
	bool scaled;
	int err = rate_set(c, &scaled);

	if (err)
		return err;
	c->tsc_offset_there = offset_there(c->fd);
	if (!c->tsc_offset_there)
		log_warn("this host's KVM cannot set the guest's TSC (Linux has it since 5.16): it "
			 "counts from the host's start");
	else
		err = base_make(c, scaled);
	return err ? err : kvm_tsc_apply(c);
}

void kvm_vm_tsc_shift(void *shared, int64_t ticks)
{
	struct kvm_machine *vm = shared;

	atomic_fetch_add(&vm->tsc_base, ticks);
}

uint64_t kvm_vm_tsc_error_ns(void *shared)
{
	struct kvm_machine *vm = shared;

	return atomic_load(&vm->tsc_error_ns);
}

/* ---- probing ---- */

/* Does the processor itself run guests? Else KVM is of a kind that lets RDTSC through. */
static bool hardware_there(void)
{
	unsigned eax, ebx, ecx, edx;

	__asm__("cpuid" : "=a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx) : "a"(1), "c"(0));
	if (ecx & 1u << 5) /* VMX */
		return true;
	__asm__("cpuid" : "=a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx) : "a"(0x80000001), "c"(0));
	return ecx & 1u << 2; /* SVM */
}

static int vcpu_probe(int vcpu_fd, struct kvm_tsc_report *out)
{
	int khz = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0);

	if (khz <= 0)
		return khz < 0 ? -errno : -ENOTSUP;
	out->host_hz = (uint64_t)khz * HZ_PER_KHZ;
	out->offset = offset_there(vcpu_fd);
	out->offset_works = out->offset && hardware_there();
	return 0;
}

int kvm_tsc_probe(struct kvm_tsc_report *out)
{
	int dev_fd = kvm_device_open(), vm_fd, vcpu_fd = -1, err;

	*out = (struct kvm_tsc_report){0};
	if (dev_fd < 0)
		return dev_fd;
	vm_fd = ioctl(dev_fd, KVM_CREATE_VM, 0);
	if (vm_fd >= 0) {
		out->scaling = ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) > 0;
		vcpu_fd = ioctl(vm_fd, KVM_CREATE_VCPU, 0);
	}
	err = vcpu_fd < 0 ? -errno : vcpu_probe(vcpu_fd, out);
	if (err)
		log_error("KVM does not tell the rate of guests' TSC: %s", error_text(err));
	if (vcpu_fd >= 0)
		close(vcpu_fd);
	if (vm_fd >= 0)
		close(vm_fd);
	close(dev_fd);
	return err;
}

int kvm_tsc_can(uint64_t hz)
{
	struct kvm_tsc_report report;
	int err = kvm_tsc_probe(&report);

	if (err)
		return err;
	if ((hz + HZ_PER_KHZ / 2) / HZ_PER_KHZ == report.host_hz / HZ_PER_KHZ)
		return 0;
	/* KVM takes kHz as 32 bits; processors scale by far more than any pair of hosts differs. */
	return report.scaling && hz >= 1000000u && hz <= 10000000000u ? 0 : -ENOTSUP;
}
