/* SPDX-License-Identifier: Apache-2.0 */
/* What a VM's vCPUs share in this process: the KVM VM, its memory slots, and its MSR exits. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/lock.h"
#include "base/log.h"
#include "vmm/cpu/kvm/kvm_parts.h"

/* Pages that KVM on Intel hides in the hole for real mode: away from the APICs and the reset
 * vector. The task state takes three. */
#define HIDDEN_IDENTITY_MAP 0xfffbc000u
#define HIDDEN_TSS	    0xfffbd000u

static const struct {
	long cap;
	const char *name;
	const char *since;
} capabilities[] = {
	{KVM_CAP_USER_MEMORY, "user memory slots", "2.6.25"},
	{KVM_CAP_SYNC_MMU, "synchronous page mappings (KVM_CAP_SYNC_MMU)", "2.6.27"},
	{KVM_CAP_EXT_CPUID, "KVM_SET_CPUID2", "2.6.26"},
	{KVM_CAP_SET_TSS_ADDR, "KVM_SET_TSS_ADDR", "2.6.25"},
	{KVM_CAP_USER_NMI, "KVM_NMI", "2.6.28"},
	{KVM_CAP_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS", "2.6.33"},
	{KVM_CAP_DEBUGREGS, "KVM_GET_DEBUGREGS", "2.6.34"},
	{KVM_CAP_XSAVE, "KVM_GET_XSAVE", "2.6.36"},
	{KVM_CAP_IMMEDIATE_EXIT, "immediate_exit", "4.13"},
	{KVM_CAP_X86_USER_SPACE_MSR, "MSR exits (KVM_CAP_X86_USER_SPACE_MSR)", "5.10"},
	{KVM_CAP_X86_MSR_FILTER, "MSR filters", "5.10"},
	{KVM_CAP_ENFORCE_PV_FEATURE_CPUID, "switching off paravirtual features", "5.10"},
};

int kvm_device_open(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), err;

	if (fd < 0) {
		err = -errno;
		log_error("cannot open /dev/kvm: %s", error_text(err));
		return err;
	}
	if (ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION)
		return fd;
	log_error("/dev/kvm does not speak version %d of KVM's interface", KVM_API_VERSION);
	close(fd);
	return -ENOTSUP;
}

static int capabilities_check(int vm_fd)
{
	for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++) {
		if (ioctl(vm_fd, KVM_CHECK_EXTENSION, capabilities[i].cap) > 0)
			continue;
		log_error("this host's KVM lacks %s, which Linux has since %s",
			  capabilities[i].name, capabilities[i].since);
		return -ENOTSUP;
	}
	return 0;
}

static int vm_call(const struct kvm_machine *vm, unsigned long request, const void *arg,
		   const char *what)
{
	int err;

	if (ioctl(vm->vm_fd, request, arg) >= 0)
		return 0;
	err = -errno;
	log_error("KVM refuses %s: %s", what, error_text(err));
	return err;
}

static int cap_enable(const struct kvm_machine *vm, uint32_t cap, uint64_t arg, const char *what)
{
	struct kvm_enable_cap enable = {.cap = cap, .args = {arg}};

	return vm_call(vm, KVM_ENABLE_CAP, &enable, what);
}

/* ---- MSRs ---- */

/*
 * 0x800..0x8ff come out as invalid, since KVM has no APIC here; no filter reaches them. The others
 * that are the machine's or the engine's: denied by the filter, and so exits too.
 */
static int msrs_route(const struct kvm_machine *vm)
{
	static uint8_t none[1]; /* KVM wants it writable and only reads it */
	const uint32_t both = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges = {{both, 1, MSR_APIC_BASE, none},
			   {KVM_MSR_FILTER_WRITE, 1, MSR_TSC, none},
			   {both, 1, MSR_TSC_ADJUST, none},
			   {both, 1, MSR_TSC_DEADLINE, none}},
	};
	int err = cap_enable(vm, KVM_CAP_X86_USER_SPACE_MSR,
			     KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN |
				     KVM_MSR_EXIT_REASON_FILTER,
			     "MSR exits");

	return err ? err : vm_call(vm, KVM_X86_SET_MSR_FILTER, &filter, "the MSR filter");
}

/* ---- memory ---- */

static bool overlaps(const struct kvm_machine *vm, uint64_t gpa, uint64_t size)
{
	for (unsigned i = 0; i < vm->slots_count; i++)
		if (gpa < vm->slots[i].gpa + vm->slots[i].size && vm->slots[i].gpa < gpa + size)
			return true;
	/* What KVM hides is four pages in a row. */
	return gpa < HIDDEN_TSS + 3 * PANGEA_PAGE_SIZE && HIDDEN_IDENTITY_MAP < gpa + size;
}

/* Under the lock, or before anybody else knows the VM. */
static int slot_add(struct kvm_machine *vm, uint64_t gpa, void *host, uint64_t size, uint32_t flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = vm->slots_count,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};
	int err;

	if (overlaps(vm, gpa, size))
		return -EEXIST;
	err = vm_call(vm, KVM_SET_USER_MEMORY_REGION, &region, "a memory slot");
	if (!err)
		vm->slots[vm->slots_count++] = (struct kvm_slot){gpa, size};
	return err;
}

static int ram_map(struct kvm_machine *vm, uint8_t *ram)
{
	uint64_t low = vm->ram_end < GPA_HOLE_START ? vm->ram_end : GPA_HOLE_START;
	int err = slot_add(vm, 0, ram, low, 0);

	if (!err && vm->ram_end > GPA_HOLE_END)
		err = slot_add(vm, GPA_HOLE_END, ram + GPA_HOLE_END, vm->ram_end - GPA_HOLE_END, 0);
	return err;
}

int kvm_vm_private_slot(void *shared, uint64_t gpa, void *host, uint64_t size)
{
	struct kvm_machine *vm = shared;
	const uint64_t inside = PANGEA_PAGE_SIZE - 1;
	int err;

	if (!size || ((gpa | size | (uintptr_t)host) & inside) || gpa + size < gpa || !host)
		return -EINVAL;
	pthread_mutex_lock(&vm->lock);
	if (vm->slots_count == sizeof(vm->slots) / sizeof(vm->slots[0]))
		err = -ENOSPC;
	else
		err = slot_add(vm, gpa, host, size, 0);
	pthread_mutex_unlock(&vm->lock);
	return err;
}

/* Loads and fetches go to the mapping; a store comes out as an access to a device, and the bus drops it. */
int kvm_vm_image_add(void *shared, uint64_t gpa, uint64_t bytes)
{
	struct kvm_machine *vm = shared;

	if (!bytes || (gpa | bytes) % PANGEA_PAGE_SIZE || gpa < vm->ram_end || gpa + bytes < gpa)
		return -EINVAL;
	if (ioctl(vm->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_READONLY_MEM) <= 0) {
		log_error("this host's KVM lacks read-only memory slots, which images need: take "
			  "--cpu soft");
		return -ENOTSUP;
	}
	if (vm->slots_count == sizeof(vm->slots) / sizeof(vm->slots[0]))
		return -ENOSPC;
	return slot_add(vm, gpa, vm->ram + gpa, bytes, KVM_MEM_READONLY);
}

/* ---- life ---- */

/* Intel processors without "unrestricted guest" run real mode by these pages. */
static int real_mode_prepare(const struct kvm_machine *vm)
{
	uint64_t map = HIDDEN_IDENTITY_MAP;
	int err = 0;

	if (ioctl(vm->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0)
		err = vm_call(vm, KVM_SET_IDENTITY_MAP_ADDR, &map, "the identity map's page");
	if (!err)
		err = vm_call(vm, KVM_SET_TSS_ADDR, (void *)(uintptr_t)HIDDEN_TSS,
			      "the task state's pages");
	return err;
}

static int vm_open(struct kvm_machine *vm)
{
	int err, size;

	vm->dev_fd = kvm_device_open();
	if (vm->dev_fd < 0)
		return vm->dev_fd;
	vm->vm_fd = ioctl(vm->dev_fd, KVM_CREATE_VM, 0);
	if (vm->vm_fd < 0) {
		err = -errno;
		log_error("KVM cannot make a virtual machine: %s", error_text(err));
		return err;
	}
	size = ioctl(vm->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run)) {
		log_error("KVM's shared page of a vCPU is too small: %d bytes", size);
		return -ENOTSUP;
	}
	vm->run_size = (size_t)size;
	vm->tsc_scaling = ioctl(vm->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) > 0;
	return capabilities_check(vm->vm_fd);
}

/* The kick's only work is to end KVM_RUN. */
static void kick_signal(int number)
{
	(void)number;
}

static int signal_prepare(void)
{
	struct sigaction action = {.sa_handler = kick_signal, .sa_flags = SA_RESTART};

	sigemptyset(&action.sa_mask);
	return sigaction(KVM_KICK_SIGNAL, &action, NULL) < 0 ? -errno : 0;
}

static int vm_setup(struct kvm_machine *vm, uint8_t *ram)
{
	int err = vm_open(vm);

	if (!err)
		err = kvm_features_read(vm->dev_fd, &vm->features);
	if (!err)
		err = real_mode_prepare(vm);
	if (!err)
		err = msrs_route(vm);
	if (!err)
		err = ram_map(vm, ram);
	if (!err)
		err = signal_prepare();
	return err;
}

int kvm_vm_create(uint8_t *ram, uint64_t ram_end, void **out)
{
	struct kvm_machine *vm;
	int err;

	if (!ram || !ram_end || ram_end % PANGEA_PAGE_SIZE)
		return -EINVAL;
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return -ENOMEM;
	vm->dev_fd = vm->vm_fd = -1;
	vm->ram = ram;
	vm->ram_end = ram_end;
	err = lock_init(&vm->lock);
	if (err) {
		free(vm);
		return err;
	}
	err = vm_setup(vm, ram);
	if (err)
		kvm_vm_destroy(vm);
	else
		*out = vm;
	return err;
}

void kvm_vm_destroy(void *shared)
{
	struct kvm_machine *vm = shared;

	if (!vm)
		return;
	if (vm->vm_fd >= 0)
		close(vm->vm_fd);
	if (vm->dev_fd >= 0)
		close(vm->dev_fd);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}
