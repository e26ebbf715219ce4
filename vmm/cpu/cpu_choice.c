/* SPDX-License-Identifier: Apache-2.0 */
/* The choice between the processor and the software CPU. */
#include "vmm/cpu/cpu_choice.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "vmm/cpu/kvm/kvm.h"

int cpu_wish_parse(const char *text, enum cpu_wish *out)
{
	static const char *const names[] = {
		[CPU_AUTO] = "auto", [CPU_KVM] = "kvm", [CPU_SOFT] = "soft"};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(text, names[i]) == 0) {
			*out = (enum cpu_wish)i;
			return 0;
		}
	return -EINVAL;
}

static bool shadow(const struct host_report *host)
{
	return host->paging == HOST_PAGING_SHADOW || host->paging == HOST_PAGING_NO_VIRT;
}

/* Why kvm cannot work here at all; false if it can. */
static bool kvm_missing(const struct host_report *host, char *why, size_t size)
{
	if (host->live.kvm_error)
		snprintf(why, size, "/dev/kvm does not work: %s", error_text(host->live.kvm_error));
	else if (host->live.uffd_kernel_error)
		snprintf(why, size,
			 "KVM needs a userfaultfd for the kernel's own faults, which is refused: "
			 "%s (see 'pangea check')",
			 error_text(host->live.uffd_kernel_error));
	else
		return false;
	return true;
}

/* Why kvm must not run this guest, unless forced; false if it may. */
static bool kvm_unfit(const struct host_report *host, const struct cpu_guest *guest, char *why,
		      size_t size)
{
	if (!guest->linux_kernel || !shadow(host))
		return false;
	if (host->paging == HOST_PAGING_NO_VIRT)
		snprintf(why, size,
			 "KVM here has neither VT-x nor SVM: it emulates a guest's kernel and "
			 "lacks instructions that Linux needs");
	else if (guest->slices > 1)
		snprintf(why, size,
			 "KVM here uses shadow paging and does not see page-table changes made on "
			 "another node: a stale translation is silent corruption (see 'pangea "
			 "check')");
	else
		return false;
	return true;
}

static void take(struct cpu_choice *out, const struct host_report *host, const struct vcpu_ops *ops,
		 const char *why)
{
	out->ops = ops;
	out->kernel_faults = ops == &vcpu_kvm_ops;
	out->walks_write = out->kernel_faults && host->walks_write;
	snprintf(out->sentence, sizeof(out->sentence), "CPU engine %s: %s", ops->name, why);
}

static int choose_auto(const struct host_report *host, const struct cpu_guest *guest,
		       struct cpu_choice *out)
{
	char why[300];

	if (!host->live.vmx && !host->live.svm)
		take(out, host, &vcpu_soft_ops, "the processor offers neither VT-x nor SVM");
	else if (kvm_missing(host, why, sizeof(why)) || kvm_unfit(host, guest, why, sizeof(why)))
		take(out, host, &vcpu_soft_ops, why);
	else
		take(out, host, &vcpu_kvm_ops,
		     host->live.vmx ? "the processor has VT-x and /dev/kvm works"
				    : "the processor has SVM and /dev/kvm works");
	return 0;
}

static int choose_kvm(const struct host_report *host, const struct cpu_guest *guest,
		      struct cpu_choice *out)
{
	char why[300];
	bool unfit = kvm_unfit(host, guest, why, sizeof(why));

	if (unfit && guest->force) {
		take(out, host, &vcpu_kvm_ops,
		     "forced, although this host is not fit for the guest");
		unfit = false;
	} else if (!unfit) {
		take(out, host, &vcpu_kvm_ops, "asked for");
	}
	if (!unfit && !kvm_missing(host, why, sizeof(why)))
		return 0;
	out->ops = NULL;
	out->kernel_faults = out->walks_write = false;
	snprintf(out->sentence, sizeof(out->sentence), "CPU engine kvm is refused: %s%s", why,
		 unfit ? "; use --cpu soft, or --force at your own risk" : "");
	return -ENOTSUP;
}

int cpu_choose(const struct host_report *host, enum cpu_wish wish, const struct cpu_guest *guest,
	       struct cpu_choice *out)
{
	memset(out, 0, sizeof(*out));
	switch (wish) {
	case CPU_SOFT:
		take(out, host, &vcpu_soft_ops, "asked for");
		return 0;
	case CPU_KVM:
		return choose_kvm(host, guest, out);
	case CPU_AUTO:
		return choose_auto(host, guest, out);
	}
	return -EINVAL;
}
