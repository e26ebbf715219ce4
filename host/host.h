/* SPDX-License-Identifier: Apache-2.0 */
/* What this host is to Pangea: what was found, whether it matters, and what mends it. */
#ifndef BASE_HOST_H
#define BASE_HOST_H

#include <stdbool.h>
#include <stdint.h>

enum host_matters {
	HOST_OK,     /* as it should be */
	HOST_NOTE,   /* good to know; nothing is lost */
	HOST_WARN,   /* works, but slower or with less */
	HOST_REFUSE, /* something does not work at all: the sentence says what */
};

/* How the host's KVM finds guest memory. */
enum host_paging {
	HOST_PAGING_NONE,    /* no KVM, or its module is not loaded */
	HOST_PAGING_NESTED,  /* EPT or NPT: guests' page tables are walked by the processor */
	HOST_PAGING_SHADOW,  /* KVM keeps copies of guests' page tables */
	HOST_PAGING_NO_VIRT, /* KVM without VT-x or SVM (PVM): copies too */
};

/* Ports of RDMA devices that are looked at. */
#define HOST_RDMA_PORTS_MAX 8
/* host.c has ten, devices have three, and RDMA one and its ports; `pangea check` adds one. */
#define HOST_ITEMS_MAX (15 + HOST_RDMA_PORTS_MAX)

/* One thing looked at. mend is a shell command, or empty. */
struct host_item {
	char name[32]; /* "kernel", "userfaultfd", "kvm", ...; "rdma:DEVICE/PORT" */
	enum host_matters matters;
	char found[96];
	char sentence[320];
	char mend[200];
};

/* What only the running host itself can tell: system calls and instructions, no files. */
struct host_live {
	bool vmx, svm;
	int kvm_error; /* of opening /dev/kvm and making a VM: 0 or negative errno */
	int uffd_user_error, uffd_kernel_error; /* of a userfaultfd; kernel: for KVM's faults too */
	uint64_t memlock_bytes;			/* RLIMIT_MEMLOCK; UINT64_MAX: unlimited */
	char release[65];			/* uname */
	uint64_t tsc_hz;  /* of KVM's guests, whole kHz; 0: KVM does not tell */
	bool tsc_scaling; /* guests can have another rate */
	uint64_t
		kvm_features; /* that KVM can give guests: mask of enum cpu_feature (base/cpu_feature.h) */
};

struct host_report {
	struct host_item items[HOST_ITEMS_MAX];
	unsigned count;
	/* the same for programs */
	struct host_live live;
	enum host_paging paging;
	bool walks_write; /* a guest's page-table walks count as writes to its tables */
	uint64_t memory_available_bytes;
};

/* Looks at this host; any thread, milliseconds. Never fails: what cannot be read is said. */
void host_probe(struct host_report *out);

/* The two halves of it, for tests: live facts, and the judgement of them and of the files below
 * root ("" for the host's own): root/proc, root/sys. */
void host_live_read(struct host_live *out);
void host_judge(const char *root, const struct host_live *live, struct host_report *out);

/* "ok", "note", "warn" or "refuse"; static storage. */
const char *host_matters_name(enum host_matters matters);
/* Whether KVM is good for any guest here: what `--cpu auto` goes by. */
bool host_fits_kvm(const struct host_report *report);
/* The item of this name, or NULL. */
const struct host_item *host_item_find(const struct host_report *report, const char *name);

#endif
