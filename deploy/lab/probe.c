/* SPDX-License-Identifier: Apache-2.0 */
/* Shows that this machine can carry the KVM engine: a vCPU runs to HLT, and its faults come by
 * userfaultfd. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <pthread.h>
#include <unistd.h>

/* Linux 6.4's, which older headers lack. */
#define CONTINUE_MODE_WP (1ull << 1)
#define PAGE		 4096u
/* Nothing here takes a second, even emulated. */
#define FAULT_LIMIT_MS 20000

/* mov al,[0x1000]; hlt; inc byte [0x1000]; hlt; jmp 0 */
static const uint8_t guest_code[] = {0xa0, 0x00, 0x10, 0xf4, 0xfe, 0x06,
				     0x00, 0x10, 0xf4, 0xeb, 0xf5};

struct probe {
	int kvm, vm, vcpu, uffd;
	struct kvm_run *run;
	uint8_t *code;	  /* guest page 0: plain memory */
	uint8_t *guest;	  /* guest page 1: registered */
	uint8_t *monitor; /* the same page's bytes, not registered */
};

static _Noreturn void probe_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void probe_fail(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	printf("PROBE FAIL: ");
	vprintf(format, list);
	printf("\n");
	va_end(list);
	fflush(stdout);
	_exit(1);
}

static int must(int result, const char *what)
{
	if (result < 0)
		probe_fail("%s: %s", what, strerror(errno));
	return result;
}

static void *map_page(int fd)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	void *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (at == MAP_FAILED)
		probe_fail("mmap: %s", strerror(errno));
	return at;
}

static void uffd_open(struct probe *p)
{
	struct uffdio_api api = {.api = UFFD_API,
				 .features = UFFD_FEATURE_MINOR_SHMEM |
					     UFFD_FEATURE_WP_HUGETLBFS_SHMEM};
	struct uffdio_register reg = {.range = {(uintptr_t)p->guest, PAGE},
				      .mode = UFFDIO_REGISTER_MODE_MISSING |
					      UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MINOR};

	p->uffd = must((int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), "userfaultfd");
	must(ioctl(p->uffd, UFFDIO_API, &api), "UFFDIO_API");
	must(madvise(p->guest, PAGE, MADV_NOHUGEPAGE), "MADV_NOHUGEPAGE");
	must(ioctl(p->uffd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
}

static void memory_open(struct probe *p)
{
	int fd = must(memfd_create("probe", MFD_CLOEXEC), "memfd_create");

	must(ftruncate(fd, PAGE), "ftruncate");
	p->code = map_page(-1);
	p->guest = map_page(fd);
	p->monitor = map_page(fd);
	memcpy(p->code, guest_code, sizeof(guest_code));
	p->monitor[0] = 41;
	uffd_open(p);
}

static void slot_set(struct probe *p, uint32_t slot, uint64_t gpa, void *at)
{
	struct kvm_userspace_memory_region region = {.slot = slot,
						     .guest_phys_addr = gpa,
						     .memory_size = PAGE,
						     .userspace_addr = (uintptr_t)at};

	must(ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
}

static void vcpu_open(struct probe *p)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rflags = 2, .rsp = 0x800};
	int size;

	p->kvm = must(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	p->vm = must(ioctl(p->kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	slot_set(p, 0, 0, p->code);
	slot_set(p, 1, PAGE, p->guest);
	p->vcpu = must(ioctl(p->vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	size = must(ioctl(p->kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	p->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu, 0);
	if (p->run == MAP_FAILED)
		probe_fail("mmap of the vCPU: %s", strerror(errno));
	must(ioctl(p->vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	must(ioctl(p->vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	must(ioctl(p->vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

static void *vcpu_thread(void *context)
{
	struct probe *p = context;

	must(ioctl(p->vcpu, KVM_RUN, 0), "KVM_RUN");
	if (p->run->exit_reason != KVM_EXIT_HLT)
		probe_fail("the vCPU left with reason %u, not with HLT", p->run->exit_reason);
	return NULL;
}

/* The flags of the one fault that must come now. */
static uint64_t fault_take(struct probe *p)
{
	struct pollfd poll_fd = {.fd = p->uffd, .events = POLLIN};
	struct uffd_msg message;

	if (must(poll(&poll_fd, 1, FAULT_LIMIT_MS), "poll") == 0)
		probe_fail("no fault came from the vCPU");
	if (read(p->uffd, &message, sizeof(message)) != sizeof(message))
		probe_fail("reading the fault: %s", strerror(errno));
	if (message.event != UFFD_EVENT_PAGEFAULT)
		probe_fail("event 0x%x is not a fault", message.event);
	return message.arg.pagefault.flags;
}

static void page_continue(struct probe *p, uint64_t mode)
{
	struct uffdio_continue call = {.range = {(uintptr_t)p->guest, PAGE}, .mode = mode};

	must(ioctl(p->uffd, UFFDIO_CONTINUE, &call), "UFFDIO_CONTINUE");
}

static void page_unprotect(struct probe *p)
{
	struct uffdio_writeprotect call = {.range = {(uintptr_t)p->guest, PAGE}};

	must(ioctl(p->uffd, UFFDIO_WRITEPROTECT, &call), "UFFDIO_WRITEPROTECT");
}

static pthread_t vcpu_start(struct probe *p)
{
	pthread_t thread;

	errno = pthread_create(&thread, NULL, vcpu_thread, p);
	if (errno != 0)
		probe_fail("pthread_create: %s", strerror(errno));
	return thread;
}

/* One run of the vCPU up to HLT whose read finds the page away. */
static void read_shared(struct probe *p, uint8_t want)
{
	pthread_t thread = vcpu_start(p);
	uint64_t flags = fault_take(p);
	struct kvm_regs regs;

	if (!(flags & UFFD_PAGEFAULT_FLAG_MINOR) || (flags & UFFD_PAGEFAULT_FLAG_WP))
		probe_fail("the first fault has flags 0x%llx", (unsigned long long)flags);
	page_continue(p, CONTINUE_MODE_WP);
	pthread_join(thread, NULL);
	must(ioctl(p->vcpu, KVM_GET_REGS, &regs), "KVM_GET_REGS");
	if ((regs.rax & 0xff) != want)
		probe_fail("the guest read %u, not %u", (unsigned)(regs.rax & 0xff), want);
}

/* One run up to HLT whose write finds the page shared. */
static void write_shared(struct probe *p, uint8_t want)
{
	pthread_t thread = vcpu_start(p);
	uint64_t flags = fault_take(p);

	if (!(flags & UFFD_PAGEFAULT_FLAG_WP))
		probe_fail("the write's fault has flags 0x%llx", (unsigned long long)flags);
	page_unprotect(p);
	pthread_join(thread, NULL);
	if (p->monitor[0] != want)
		probe_fail("the guest wrote %u, not %u", p->monitor[0], want);
}

int main(void)
{
	struct probe probe = {.kvm = -1};

	memory_open(&probe);
	vcpu_open(&probe);
	read_shared(&probe, 41);
	write_shared(&probe, 42);
	/* Taken away under the guest: its bytes stay, the next access comes to us again. */
	must(madvise(probe.guest, PAGE, MADV_DONTNEED), "MADV_DONTNEED");
	if (probe.monitor[0] != 42)
		probe_fail("the page's bytes did not survive MADV_DONTNEED");
	read_shared(&probe, 42);
	printf("PROBE PASS\n");
	return 0;
}
