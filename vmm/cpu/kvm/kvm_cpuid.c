/* SPDX-License-Identifier: Apache-2.0 */
/* The VM's CPU model in KVM's form, and the features that the host can give. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/cpu/kvm/kvm_parts.h"

/* More than any KVM has reported; each is 40 bytes. */
#define SUPPORTED_MAX 256u
/* The hypervisor's and the extended leaves start here. */
#define FIRST_HYPERVISOR 0x40000000u
#define FIRST_EXTENDED	 0x80000000u
/* Leaves of one range; ours have 22 at most. */
#define RANGE_MAX 64u
/* Subleaves of leaf 4 and 0xb. */
#define SUBLEAVES_MAX 8u

#define LEAF1_ECX_X2APIC     (1u << 21)
#define LEAF1_ECX_HYPERVISOR (1u << 31)
/* Promises about speed: whoever believes them wrongly never gets a #UD (PREFETCHW is executed by
 * every processor with long mode). And about the TSC, which is as good as we make it. */
#define LEAF7_EBX_ERMS	   (1u << 9)
#define LEAF7_EDX_FSRM	   (1u << 4)
#define EXT1_ECX_PREFETCHW (1u << 8)
#define EXT1_ECX_TOPOEXT   (1u << 22)
#define EXT7_EDX_INVARIANT (1u << 8)
#define PHYS_BITS_DEFAULT  36u

/* ---- whose processor it is ---- */

static uint32_t host_ecx(uint32_t leaf)
{
	uint32_t eax = leaf, ebx, ecx = 0, edx;

	__asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	return ecx;
}

bool kvm_host_vmx(void)
{
	return host_ecx(1) & 1u << 5;
}

bool kvm_host_svm(void)
{
	return host_ecx(0x80000001) & 1u << 2;
}

bool kvm_vendor_can(enum cpu_vendor vendor)
{
	return vendor == CPU_VENDOR_AMD ? !kvm_host_vmx() : !kvm_host_svm();
}

/* ---- what the host can give ---- */

static void features_add(struct kvm_features *f, const struct kvm_cpuid_entry2 *e)
{
	switch (e->function) {
	case 0x1:
		f->leaf1_ecx = e->ecx;
		f->leaf1_edx = e->edx;
		return;
	case 0x7:
		if (e->index != 0)
			return;
		f->leaf7_ebx = e->ebx;
		f->leaf7_ecx = e->ecx;
		f->leaf7_edx = e->edx;
		return;
	case 0x80000001:
		f->ext1_ecx = e->ecx;
		f->ext1_edx = e->edx;
		return;
	case 0x80000007:
		f->ext7_edx = e->edx;
		return;
	case 0x80000008:
		f->phys_bits = e->eax & 0xff;
		return;
	default:
		return;
	}
}

int kvm_features_read(int dev_fd, struct kvm_features *out)
{
	struct kvm_cpuid2 *list =
		calloc(1, sizeof(*list) + SUPPORTED_MAX * sizeof(list->entries[0]));
	int err = 0;

	if (!list)
		return -ENOMEM;
	memset(out, 0, sizeof(*out));
	out->phys_bits = PHYS_BITS_DEFAULT;
	list->nent = SUPPORTED_MAX;
	if (ioctl(dev_fd, KVM_GET_SUPPORTED_CPUID, list) < 0) {
		err = -errno;
		log_error("KVM does not tell what it supports: %s", error_text(err));
	}
	for (uint32_t i = 0; !err && i < list->nent; i++)
		features_add(out, &list->entries[i]);
	/* Ours: the machine has an x2APIC whatever KVM has, and is a hypervisor's; and promises of
	 * speed, since REP MOVSB works everywhere and one model is for all CPUs. */
	out->leaf1_ecx |= LEAF1_ECX_X2APIC | LEAF1_ECX_HYPERVISOR;
	out->leaf7_ebx |= LEAF7_EBX_ERMS;
	out->leaf7_edx |= LEAF7_EDX_FSRM;
	out->ext1_ecx |= EXT1_ECX_PREFETCHW | EXT1_ECX_TOPOEXT; /* leaves that are given */
	out->ext7_edx |= EXT7_EDX_INVARIANT;
	free(list);
	return err;
}

int kvm_supported_features(struct kvm_features *out)
{
	int fd = kvm_device_open(), err;

	if (fd < 0)
		return fd;
	err = kvm_features_read(fd, out);
	close(fd);
	return err;
}

/* ---- the model ---- */

/* Clears what the host cannot give; returns the bits that were lost. */
static uint32_t word_limit(uint32_t *word, uint32_t can)
{
	uint32_t lost = *word & ~can;

	*word &= can;
	return lost;
}

static uint32_t entry_limit(struct kvm_cpuid_entry2 *e, const struct kvm_features *f)
{
	switch (e->function) {
	case 0x1:
		return word_limit(&e->ecx, f->leaf1_ecx) | word_limit(&e->edx, f->leaf1_edx);
	case 0x7:
		return word_limit(&e->ebx, f->leaf7_ebx) | word_limit(&e->ecx, f->leaf7_ecx) |
		       word_limit(&e->edx, f->leaf7_edx);
	case 0x80000001:
		return word_limit(&e->ecx, f->ext1_ecx) | word_limit(&e->edx, f->ext1_edx);
	case 0x80000007:
		return word_limit(&e->edx, f->ext7_edx);
	default:
		return 0;
	}
}

struct model {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entries[KVM_CPUID_MAX];
};

/* Asks for one leaf and notes it; false when there is no more room. */
static bool leaf_add(struct kvm_cpu *c, struct model *m, uint32_t leaf, uint32_t subleaf,
		     bool indexed, struct vcpu_cpuid *regs)
{
	struct kvm_cpuid_entry2 *e = &m->entries[m->head.nent];
	uint32_t lost;

	c->config.cpuid(c->config.cpuid_ctx, c->vcpu.id, leaf, subleaf, regs);
	if (m->head.nent == KVM_CPUID_MAX)
		return false;
	*e = (struct kvm_cpuid_entry2){
		.function = leaf,
		.index = subleaf,
		.flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		.eax = regs->eax,
		.ebx = regs->ebx,
		.ecx = regs->ecx,
		.edx = regs->edx,
	};
	m->head.nent++;
	lost = entry_limit(e, &c->vm->features);
	if (subleaf == 0)
		c->features |=
			cpu_features_take(leaf, (const uint32_t[]){e->eax, e->ebx, e->ecx, e->edx});
	if (lost && !atomic_exchange(&c->vm->features_warned, true))
		log_warn("this host's processor lacks features of the VM's CPU model (CPUID leaf "
			 "0x%x, bits 0x%x): guests here do not see them",
			 leaf, lost);
	return true;
}

/* Leaves 4 and 8000001d end with a cache of no type, 0xb with a level of no type. */
static bool subleaf_last(uint32_t leaf, const struct vcpu_cpuid *regs)
{
	if (leaf == 0x4 || leaf == 0x8000001d)
		return (regs->eax & 0x1f) == 0;
	if (leaf == 0xd) /* subleaves 0 to 2; the next is empty */
		return (regs->eax | regs->ebx) == 0;
	if (leaf == 0xb)
		return (regs->ecx >> 8 & 0xff) == 0;
	return true;
}

static int range_add(struct kvm_cpu *c, struct model *m, uint32_t first)
{
	struct vcpu_cpuid regs;
	uint32_t last;

	c->config.cpuid(c->config.cpuid_ctx, c->vcpu.id, first, 0, &regs);
	last = regs.eax;
	if (last < first || last - first >= RANGE_MAX)
		return last < first ? 0 : -E2BIG;
	for (uint32_t leaf = first; leaf <= last; leaf++) {
		bool indexed = leaf == 0x4 || leaf == 0x7 || leaf == 0xb || leaf == 0xd ||
			       leaf == 0x8000001d;

		for (uint32_t subleaf = 0; subleaf < SUBLEAVES_MAX; subleaf++) {
			if (!leaf_add(c, m, leaf, subleaf, indexed, &regs))
				return -E2BIG;
			if (subleaf_last(leaf, &regs))
				break;
		}
	}
	return 0;
}

int kvm_cpuid_set(struct kvm_cpu *c)
{
	struct model *m;
	struct vcpu_cpuid leaf0;
	int err;

	c->config.cpuid(c->config.cpuid_ctx, c->vcpu.id, 0, 0, &leaf0);
	if (!kvm_vendor_can(vcpu_vendor(&leaf0))) {
		log_error("this host's processor is not of the vendor of the VM's CPU model, and "
			  "KVM cannot make it behave so");
		return -ENOTSUP;
	}
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	err = range_add(c, m, 0);
	if (!err)
		err = range_add(c, m, FIRST_HYPERVISOR);
	if (!err)
		err = range_add(c, m, FIRST_EXTENDED);
	if (!err && ioctl(c->fd, KVM_SET_CPUID2, m) < 0)
		err = -errno;
	if (err)
		log_error("KVM refuses the VM's CPU model: %s", error_text(err));
	free(m);
	return err;
}
