/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's TSC: its rate, and its offset so that it counts from the VM's origin. */
#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "vmm/clock/clock.h"
#include "vmm/cpu/kvm/kvm_parts.h"

#define HZ_PER_KHZ 1000u
/* Readings of two clocks together; the tightest counts. */
#define READINGS 16
/* The default of KVM's parameter tsc_tolerance_ppm. */
#define KVM_TOLERANCE_PPM 250u
/* So often the anchor of a scaled TSC is taken anew: it is off by 20 ns at the utmost then. */
#define ANCHOR_S 60

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

/* ---- is it scaled? ---- */

bool kvm_tsc_scales(const struct kvm_tsc_reading *r, uint64_t host_khz, uint64_t guest_khz)
{
	uint64_t low = (uint64_t)((unsigned __int128)r->before * guest_khz / host_khz);
	uint64_t high = (uint64_t)((unsigned __int128)r->after * guest_khz / host_khz);
	bool plain = r->value >= r->before && r->value <= r->after;
	bool scaled = r->value + 1 >= low && r->value <= high + 1;
	uint64_t apart = guest_khz > host_khz ? guest_khz - host_khz : host_khz - guest_khz;

	if (plain != scaled)
		return scaled;
	/* A host that has just started, or a reading that says nothing: KVM's own rule. */
	return apart * 1000000 > host_khz * KVM_TOLERANCE_PPM;
}

/* With no offset: whether KVM scales, by the tightest of several readings. */
static int scaled_find(struct kvm_cpu *c)
{
	struct kvm_tsc *t = &c->tsc;
	struct kvm_tsc_reading best = {.after = UINT64_MAX};
	int err = 0;

	if (!t->scaled)
		return 0;
	for (int i = 0; i < READINGS && !err; i++) {
		struct kvm_tsc_reading now = {.before = __rdtsc()};

		err = guest_tsc(c->fd, &now.value);
		now.after = __rdtsc();
		if (!err && now.after - now.before < best.after - best.before)
			best = now;
	}
	if (!err)
		t->scaled = kvm_tsc_scales(&best, t->host_khz, t->guest_khz);
	return err;
}

/* ---- ticks ---- */

/* What the processor gives the guest at a host TSC, before any offset. */
static uint64_t hardware_ticks(const struct kvm_cpu *c, uint64_t host_tsc)
{
	const struct kvm_tsc *t = &c->tsc;
	int64_t run = (int64_t)(host_tsc - t->anchor_host);

	if (!t->scaled)
		return host_tsc;
	return t->anchor_guest + (uint64_t)(int64_t)((__int128)run * t->guest_khz / t->host_khz);
}

/* What the guest's TSC should be at guest time guest_ns. */
static uint64_t wanted_ticks(const struct kvm_cpu *c, uint64_t guest_ns)
{
	return (uint64_t)((unsigned __int128)guest_ns * c->config.tsc_hz / NS_PER_S);
}

/*
 * The processor scales by a ratio of 32 (AMD) or 48 bits below the point, which KVM rounds: from an
 * anchor on, the exact ratio is off by 0.3 ppb at the utmost. Only KVM tells an anchor.
 */
static int anchor_take(struct kvm_cpu *c)
{
	struct kvm_tsc *t = &c->tsc;
	uint64_t best = UINT64_MAX;
	int err = 0;

	for (int i = 0; i < READINGS && t->scaled && !err; i++) {
		uint64_t before = __rdtsc(), value = 0, took;

		err = guest_tsc(c->fd, &value);
		took = __rdtsc() - before;
		if (err || took >= best)
			continue;
		best = took;
		t->anchor_host = before + took / 2;
		t->anchor_guest = value - t->applied;
	}
	return err;
}

/* ---- offset ---- */

static uint64_t guest_time_at(const struct vcpu_config *config, uint64_t host_ns)
{
	if (config->clock)
		return guest_clock_at(config->clock, host_ns);
	return host_ns > config->tsc_origin_ns ? host_ns - config->tsc_origin_ns : 0;
}

/* A microsecond of the host's TSC. */
static uint64_t host_us(const struct kvm_cpu *c)
{
	return c->tsc.host_khz / 1000 + 1;
}

/* The host's TSC and the guest's time at one moment, *took being how long that took at the utmost:
 * a microsecond, or the least of several attempts that were disturbed. */
static void pair_read(const struct kvm_cpu *c, uint64_t *host_tsc, uint64_t *guest_ns,
		      uint64_t *took)
{
	const struct guest_clock *clock = c->config.clock;
	uint64_t best_ns = 0;

	*took = UINT64_MAX;
	for (int i = 0; i < READINGS && *took > host_us(c); i++) {
		uint64_t before = __rdtsc();
		uint64_t host_ns = clock ? guest_clock_host_ns(clock) : clock_now_ns();
		uint64_t now_took = __rdtsc() - before;

		if (now_took >= *took)
			continue;
		*took = now_took;
		*host_tsc = before + now_took / 2;
		best_ns = host_ns;
	}
	*guest_ns = guest_time_at(&c->config, best_ns);
}

int kvm_tsc_apply(struct kvm_cpu *c)
{
	uint64_t offset = c->tsc.base + c->tsc_offset;

	if (!c->tsc.offset_there || offset == c->tsc.applied)
		return 0;
	c->tsc.applied = offset;
	return offset_set(c->fd, offset);
}

/*
 * vcpu.h says what is asked of the offset. The guest's TSC at the last exit was that of the old
 * base; at the entry that comes, later than host_tsc, it must not be less.
 */
static uint64_t base_bounded(const struct kvm_cpu *c, uint64_t base, uint64_t host_tsc)
{
	const struct kvm_tsc *t = &c->tsc;
	uint64_t least;

	if (!t->exit_host)
		return base;
	least = hardware_ticks(c, t->exit_host) + t->base - hardware_ticks(c, host_tsc);
	return (int64_t)(base - least) < 0 ? least : base;
}

int kvm_tsc_keep(struct kvm_cpu *c)
{
	struct kvm_tsc *t = &c->tsc;
	uint64_t now = __rdtsc(), host_tsc = now, guest_ns, took, slack, base;
	bool near;

	if (!t->offset_there || (t->checked_host && now - t->checked_host < t->host_khz / 10))
		return 0;
	if (t->scaled && now - t->anchor_host > t->host_khz * 1000 * ANCHOR_S) {
		int err = anchor_take(c);

		if (err)
			return err;
	}
	pair_read(c, &host_tsc, &guest_ns, &took);
	base = wanted_ticks(c, guest_ns) - hardware_ticks(c, host_tsc);
	/* A reading that took long says little: only what it proves is corrected. */
	slack = (took > host_us(c) ? took : host_us(c)) * t->guest_khz / t->host_khz;
	near = t->checked_host && base - t->base + slack <= 2 * slack;
	t->checked_host = now;
	if (near)
		return 0;
	t->base = base_bounded(c, base, host_tsc);
	return kvm_tsc_apply(c);
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

static int rate_set(struct kvm_cpu *c)
{
	uint64_t khz = (c->config.tsc_hz + HZ_PER_KHZ / 2) / HZ_PER_KHZ;
	int host_khz = ioctl(c->fd, KVM_GET_TSC_KHZ, 0);

	if (host_khz <= 0 || khz == 0 || khz > INT32_MAX) {
		log_error("a TSC of %llu kHz cannot be, on a host whose own has %d kHz",
			  (unsigned long long)khz, host_khz);
		return -ENOTSUP;
	}
	c->tsc.host_khz = (uint64_t)host_khz;
	c->tsc.guest_khz = khz;
	c->tsc.scaled = khz != (uint64_t)host_khz;
	if (!c->tsc.scaled)
		return 0;
	if (c->vm->tsc_scaling && ioctl(c->fd, KVM_SET_TSC_KHZ, (unsigned long)khz) == 0)
		return 0;
	log_error("this host cannot give guests a TSC of %llu kHz: its own has %d kHz, and %s",
		  (unsigned long long)khz, host_khz,
		  c->vm->tsc_scaling ? "that is out of its range" : "it cannot scale");
	return -ENOTSUP;
}

int kvm_tsc_setup(struct kvm_cpu *c)
{
	int err = rate_set(c);

	if (err)
		return err;
	c->tsc.offset_there = offset_there(c->fd);
	if (!c->tsc.offset_there) {
		log_warn("this host's KVM cannot set the guest's TSC (Linux can since 5.16): it "
			 "counts from the host's start");
		return 0;
	}
	err = offset_set(c->fd, 0);
	if (!err)
		err = scaled_find(c);
	if (!err)
		err = anchor_take(c);
	return err ? err : kvm_tsc_keep(c);
}

/* ---- probing ---- */

static int vcpu_probe(int vcpu_fd, struct kvm_tsc_report *out)
{
	int khz = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0);

	if (khz <= 0)
		return khz < 0 ? -errno : -ENOTSUP;
	out->host_hz = (uint64_t)khz * HZ_PER_KHZ;
	out->offset = offset_there(vcpu_fd);
	out->offset_works = out->offset && (kvm_host_vmx() || kvm_host_svm());
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
