/* SPDX-License-Identifier: Apache-2.0 */
/* Holds one KVM machine with one CPU for the lab VM's life, so that its kernel never rewrites
 * itself later. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

/*
 * The first VM and the first vCPU without an in-kernel APIC each switch code on in the running
 * kernel, the last ones switch it off. Emulators before QEMU 8.1 may run such code on another CPU
 * after it was rewritten (docs/lab.md). Init runs this while there is one CPU, before all others.
 */
int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	int vcpu = vm < 0 ? -1 : ioctl(vm, KVM_CREATE_VCPU, 0);

	if (vcpu < 0) {
		perror("hold: KVM");
		return 1;
	}
	/* The background process stays, its parent ends: what comes after it finds the VM there. */
	if (daemon(0, 1) != 0) {
		perror("hold: daemon");
		return 1;
	}
	for (;;)
		pause();
}
