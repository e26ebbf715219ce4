/* SPDX-License-Identifier: Apache-2.0 */
/* The facts about this host that take system calls and instructions to learn. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cpu_feature.h"
#include "base/uffd.h"
#include "host/host.h"

/* Whether a userfaultfd can be had: 0 or the error. */
static int uffd_error(bool kernel_faults)
{
	int fd = uffd_open(kernel_faults);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/* The TSC that guests get here; nothing is set when KVM does not tell. */
static void kvm_tsc_read(int vm_fd, struct host_live *out)
{
	int fd = ioctl(vm_fd, KVM_CREATE_VCPU, 0), khz;

	if (fd < 0)
		return;
	khz = ioctl(fd, KVM_GET_TSC_KHZ, 0);
	if (khz > 0)
		out->tsc_hz = (uint64_t)khz * 1000;
	out->tsc_scaling = ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) > 0;
	close(fd);
}

/* More than any KVM has reported; each is 40 bytes. */
#define CPUID_ENTRIES_MAX 256u

/* The features that guests can have; none when KVM does not tell. */
static void kvm_features_read(int dev_fd, struct host_live *out)
{
	struct kvm_cpuid2 *list =
		calloc(1, sizeof(*list) + CPUID_ENTRIES_MAX * sizeof(list->entries[0]));

	if (!list)
		return;
	list->nent = CPUID_ENTRIES_MAX;
	if (ioctl(dev_fd, KVM_GET_SUPPORTED_CPUID, list) == 0)
		for (uint32_t i = 0; i < list->nent; i++) {
			const struct kvm_cpuid_entry2 *e = &list->entries[i];
			const uint32_t regs[4] = {e->eax, e->ebx, e->ecx, e->edx};

			if (e->index == 0)
				out->kvm_features |= cpu_features_take(e->function, regs);
		}
	free(list);
}

/* A device node alone says little: a VM must come into being. */
static void kvm_read(struct host_live *out)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm_fd = -1;

	if (fd < 0) {
		out->kvm_error = -errno;
		return;
	}
	if (ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		out->kvm_error = -ENOTSUP;
	else if ((vm_fd = ioctl(fd, KVM_CREATE_VM, 0)) < 0)
		out->kvm_error = -errno;
	else
		kvm_tsc_read(vm_fd, out);
	if (!out->kvm_error)
		kvm_features_read(fd, out);
	if (vm_fd >= 0)
		close(vm_fd);
	close(fd);
}

#ifdef __x86_64__
static uint32_t cpuid_ecx(uint32_t leaf)
{
	uint32_t eax = leaf, ebx, ecx = 0, edx;

	__asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	return ecx;
}
#else
static uint32_t cpuid_ecx(uint32_t leaf)
{
	(void)leaf;
	return 0;
}
#endif

void host_live_read(struct host_live *out)
{
	struct rlimit limit;
	struct utsname name;

	memset(out, 0, sizeof(*out));
	out->vmx = cpuid_ecx(1) & 1u << 5;
	out->svm = cpuid_ecx(0x80000001) & 1u << 2;
	kvm_read(out);
	out->uffd_user_error = uffd_error(false);
	out->uffd_kernel_error = uffd_error(true);
	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0)
		out->memlock_bytes = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
	if (uname(&name) == 0)
		snprintf(out->release, sizeof(out->release), "%.64s", name.release);
}

void host_probe(struct host_report *out)
{
	struct host_live live;

	host_live_read(&live);
	host_judge("", &live, out);
}
