/* SPDX-License-Identifier: Apache-2.0 */
/* Judges a host: each item's finding, whether it matters to Pangea, and the command that mends it.
 */
#include "host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "host/host_parts.h"

#define PATH_BYTES 512
#define FILE_BYTES 4096 /* /proc/meminfo has about 1500 */

/* UFFDIO_CONTINUE_MODE_WP. */
#define KERNEL_MAJOR 6
#define KERNEL_MINOR 4
/* Below this a host has little to offer but its own life. */
#define MEMORY_MIN_BYTES (UINT64_C(512) << 20)
/* Buffers that a transport with registered memory pins. */
#define MEMLOCK_MIN_BYTES (UINT64_C(64) << 20)

/* ---- items ---- */

struct host_item *host_item_add(struct host_judge *j, const char *name, enum host_matters matters)
{
	struct host_item *item = &j->report->items[j->report->count++];

	snprintf(item->name, sizeof(item->name), "%s", name);
	item->matters = matters;
	return item;
}

void host_item_found(struct host_item *item, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(item->found, sizeof(item->found), format, ap);
	va_end(ap);
}

void host_item_say(struct host_item *item, const char *sentence, const char *mend)
{
	snprintf(item->sentence, sizeof(item->sentence), "%s", sentence);
	snprintf(item->mend, sizeof(item->mend), "%s", mend);
}

const char *host_matters_name(enum host_matters matters)
{
	switch (matters) {
	case HOST_OK:
		return "ok";
	case HOST_NOTE:
		return "note";
	case HOST_WARN:
		return "warn";
	case HOST_REFUSE:
		return "refuse";
	}
	return "?";
}

const struct host_item *host_item_find(const struct host_report *report, const char *name)
{
	for (unsigned i = 0; i < report->count; i++)
		if (strcmp(report->items[i].name, name) == 0)
			return &report->items[i];
	return NULL;
}

bool host_fits_kvm(const struct host_report *report)
{
	return (report->live.vmx || report->live.svm) && !report->live.kvm_error &&
	       !report->live.uffd_kernel_error && report->paging == HOST_PAGING_NESTED;
}

/* ---- files ---- */

bool host_file_read(const struct host_judge *j, const char *path, char *text, size_t size)
{
	char full[PATH_BYTES];
	ssize_t n;
	int fd;

	text[0] = '\0';
	if (snprintf(full, sizeof(full), "%s%s", j->root, path) >= (int)sizeof(full))
		return false;
	fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, size - 1);
	close(fd);
	if (n < 0)
		n = 0;
	text[n] = '\0';
	if (n > 0 && text[n - 1] == '\n')
		text[n - 1] = '\0';
	return n > 0;
}

bool host_file_there(const struct host_judge *j, const char *path)
{
	char full[PATH_BYTES];

	return snprintf(full, sizeof(full), "%s%s", j->root, path) < (int)sizeof(full) &&
	       access(full, F_OK) == 0;
}

/* A module's boolean parameter: 1 on, 0 off, -1 not there. */
static int parameter(const struct host_judge *j, const char *path)
{
	char text[16];

	if (!host_file_read(j, path, text, sizeof(text)))
		return -1;
	return text[0] == 'Y' || text[0] == 'y' || text[0] == '1';
}

/* A value of /proc/meminfo in bytes; 0 if it is not there. */
static uint64_t meminfo(const char *text, const char *key)
{
	const char *at = text;
	size_t len = strlen(key);

	while (at) {
		if (strncmp(at, key, len) == 0 && at[len] == ':')
			return strtoull(at + len + 1, NULL, 10) * 1024;
		at = strchr(at, '\n');
		if (at)
			at++;
	}
	return 0;
}

/* ---- the base: kernel, userfaultfd ---- */

/* The value of KEY= in os-release, without quotes; false if it is not there. */
static bool os_release(const char *text, const char *key, char *value, size_t size)
{
	size_t len = strlen(key), n;

	for (const char *at = text; at; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (strncmp(at, key, len) != 0 || at[len] != '=')
			continue;
		at += len + 1;
		at += *at == '"';
		n = strcspn(at, "\"\n");
		snprintf(value, size, "%.*s", (int)n, at);
		return true;
	}
	return false;
}

/* What installs a kernel that serves on this distribution; deploy/need says the same. */
static const char *kernel_mend(const struct host_judge *j)
{
	char text[FILE_BYTES], id[32] = "", version[32] = "";

	if (host_file_read(j, "/etc/os-release", text, sizeof(text))) {
		os_release(text, "ID", id, sizeof(id));
		os_release(text, "VERSION_ID", version, sizeof(version));
	}
	if (strcmp(id, "debian") == 0 && strcmp(version, "12") == 0)
		return "apt-get install -t bookworm-backports linux-image-amd64  # with the suite "
		       "bookworm-backports in apt's sources: Debian 12's own kernel is 6.1";
	if (strcmp(id, "debian") == 0)
		return "apt-get install linux-image-amd64";
	if (strcmp(id, "ubuntu") == 0 && strcmp(version, "22.04") == 0)
		return "apt-get install linux-generic-hwe-22.04";
	if (strcmp(id, "ubuntu") == 0)
		return "apt-get install linux-generic";
	return "uname -r  # install a newer kernel of your distribution, and start it";
}

static void judge_kernel(struct host_judge *j)
{
	const char *release = j->live->release;
	unsigned major = 0, minor = 0;
	bool known = sscanf(release, "%u.%u", &major, &minor) == 2;
	bool old =
		!known || major < KERNEL_MAJOR || (major == KERNEL_MAJOR && minor < KERNEL_MINOR);
	struct host_item *item = host_item_add(j, "kernel", old ? HOST_REFUSE : HOST_OK);

	host_item_found(item, "Linux %s", release);
	if (old)
		host_item_say(item,
			      "Pangea needs Linux 6.4 or later: older kernels cannot map a page "
			      "write-protected (UFFDIO_CONTINUE_MODE_WP)",
			      kernel_mend(j));
	else
		host_item_say(item, "userfaultfd has all that is needed since 6.4", "");
}

static void judge_uffd_user(struct host_judge *j)
{
	int err = j->live->uffd_user_error;
	struct host_item *item = host_item_add(j, "userfaultfd", err ? HOST_REFUSE : HOST_OK);

	host_item_found(item, "%s", err ? error_text(err) : "allowed");
	if (err)
		host_item_say(
			item,
			"userfaultfd is refused, and without it there is no coherent memory: a "
			"seccomp filter of a container or service blocks it, or the kernel was "
			"built without it",
			"zgrep CONFIG_USERFAULTFD /proc/config.gz; grep Seccomp /proc/self/status");
	else
		host_item_say(item, "guest memory can be kept coherent for the software CPU", "");
}

static void judge_uffd_kernel(struct host_judge *j)
{
	int err = j->live->uffd_kernel_error;
	struct host_item *item = host_item_add(j, "userfaultfd-kernel", err ? HOST_WARN : HOST_OK);

	host_item_found(item, "%s", err ? error_text(err) : "allowed");
	if (err)
		host_item_say(
			item,
			"the kernel's own faults on guest memory cannot be resolved by this user, "
			"which KVM needs: only the software CPU can be used",
			"sysctl -w vm.unprivileged_userfaultfd=1  # or give the user "
			"/dev/userfaultfd");
	else
		host_item_say(item, "KVM's faults on guest memory can be resolved", "");
}

/* ---- KVM ---- */

static void judge_processor(struct host_judge *j)
{
	bool there = j->live->vmx || j->live->svm;
	struct host_item *item = host_item_add(j, "processor", there ? HOST_OK : HOST_NOTE);

	host_item_found(item, "%s",
			j->live->vmx   ? "Intel VT-x"
			: j->live->svm ? "AMD SVM"
				       : "neither VT-x nor SVM");
	if (there)
		host_item_say(item, "the processor can run guests", "");
	else
		host_item_say(item,
			      "the processor does not offer to run guests (or the firmware, or the "
			      "hypervisor above, hides it): Linux guests use the software CPU",
			      "");
}

static void judge_kvm(struct host_judge *j)
{
	int err = j->live->kvm_error;
	bool virt = j->live->vmx || j->live->svm;
	struct host_item *item = host_item_add(j, "kvm",
					       !err   ? HOST_OK
					       : virt ? HOST_WARN
						      : HOST_NOTE);

	host_item_found(item, "/dev/kvm: %s", err ? error_text(err) : "works");
	if (!err)
		host_item_say(item, "KVM makes virtual machines", "");
	else if (err == -EACCES || err == -EPERM)
		host_item_say(item, "this user may not use KVM: only the software CPU can be used",
			      "usermod -aG kvm $USER  # then log in again");
	else if (j->live->vmx)
		host_item_say(item, "KVM is not there: only the software CPU can be used",
			      "modprobe kvm_intel eptad=0");
	else if (j->live->svm)
		host_item_say(item, "KVM is not there: only the software CPU can be used",
			      "modprobe kvm_amd");
	else
		host_item_say(item, "KVM is not there: the software CPU is used", "");
}

#define SHADOW_WHY                                                                                 \
	"KVM here keeps shadow copies of guests' page tables and does not see when another node "  \
	"changes them: a stale translation is silent corruption, so a Linux that spans slices is " \
	"refused with kvm"

/* Of KVM that works but does not tell, the worse is believed. */
static enum host_paging paging_kind(const struct host_judge *j, int nested)
{
	if (nested < 0)
		return j->live->kvm_error ? HOST_PAGING_NONE : HOST_PAGING_SHADOW;
	return nested ? HOST_PAGING_NESTED : HOST_PAGING_SHADOW;
}

static void paging_intel(struct host_judge *j)
{
	int ept = parameter(j, "/sys/module/kvm_intel/parameters/ept");
	int eptad = parameter(j, "/sys/module/kvm_intel/parameters/eptad");
	const char *mend = "echo 'options kvm_intel ept=1 eptad=0' > /etc/modprobe.d/pangea.conf; "
			   "modprobe -r kvm_intel; modprobe kvm_intel";
	struct host_item *item;

	j->report->paging = paging_kind(j, ept);
	j->report->walks_write = ept == 1 && eptad != 0;
	item = host_item_add(j, "paging",
			     j->report->paging == HOST_PAGING_SHADOW ? HOST_REFUSE
			     : j->report->walks_write		     ? HOST_WARN
			     : ept < 0				     ? HOST_NOTE
								     : HOST_OK);
	host_item_found(item, "ept=%s eptad=%s",
			ept < 0 ? "?"
			: ept	? "Y"
				: "N",
			eptad < 0 ? "?"
			: eptad	  ? "Y"
				  : "N");
	if (j->report->paging == HOST_PAGING_SHADOW)
		host_item_say(item, SHADOW_WHY, mend);
	else if (ept < 0)
		host_item_say(item, "kvm_intel is not loaded", "modprobe kvm_intel eptad=0");
	else if (j->report->walks_write)
		host_item_say(
			item,
			"EPT's accessed and dirty bits are on: each page-table walk of a guest "
			"counts as a write to its tables, which then bounce between nodes; "
			"correct, but slow",
			mend);
	else
		host_item_say(item, "nested paging, and page-table walks only read", "");
}

static void paging_amd(struct host_judge *j)
{
	int npt = parameter(j, "/sys/module/kvm_amd/parameters/npt");
	struct host_item *item;

	j->report->paging = paging_kind(j, npt);
	j->report->walks_write = npt == 1;
	item = host_item_add(j, "paging",
			     j->report->paging == HOST_PAGING_SHADOW ? HOST_REFUSE : HOST_NOTE);
	host_item_found(item, "npt=%s", npt < 0 ? "?" : npt ? "Y" : "N");
	if (j->report->paging == HOST_PAGING_SHADOW)
		host_item_say(item, SHADOW_WHY, "modprobe -r kvm_amd; modprobe kvm_amd npt=1");
	else if (npt < 0)
		host_item_say(item, "kvm_amd is not loaded", "modprobe kvm_amd");
	else
		host_item_say(
			item,
			"nested paging; on AMD every page-table walk counts as a write, four for "
			"a cold one, so page tables that nodes share bounce between them: "
			"correct, but slow, and there is no switch",
			"");
}

static void paging_no_virt(struct host_judge *j)
{
	bool pvm = host_file_there(j, "/sys/module/kvm_pvm"), kvm = j->live->kvm_error == 0;
	struct host_item *item;

	j->report->paging = kvm ? HOST_PAGING_NO_VIRT : HOST_PAGING_NONE;
	item = host_item_add(j, "paging", kvm ? HOST_REFUSE : HOST_NOTE);
	host_item_found(item, "%s", pvm ? "PVM" : kvm ? "KVM without VT-x or SVM" : "none");
	if (kvm)
		host_item_say(
			item,
			"KVM without VT-x or SVM keeps shadow copies of guests' page tables and "
			"emulates their kernel: it serves micro-guests whose page tables never "
			"change, not Linux",
			"");
	else
		host_item_say(item, "no KVM, nothing to look at", "");
}

static void judge_paging(struct host_judge *j)
{
	if (j->live->vmx)
		paging_intel(j);
	else if (j->live->svm)
		paging_amd(j);
	else
		paging_no_virt(j);
}

/* ---- memory and time ---- */

static void judge_memlock(struct host_judge *j)
{
	uint64_t bytes = j->live->memlock_bytes;
	bool small = bytes < MEMLOCK_MIN_BYTES, needed = host_rdma_any(j);
	struct host_item *item = host_item_add(j, "memory-lock",
					       !small	? HOST_OK
					       : needed ? HOST_WARN
							: HOST_NOTE);

	if (bytes == UINT64_MAX)
		host_item_found(item, "unlimited");
	else
		host_item_found(item, "%llu KiB", (unsigned long long)(bytes / 1024));
	if (small)
		host_item_say(
			item,
			"links over RDMA register some 300 KiB each, and for 63 of them 64 MiB "
			"are enough; root's daemon raises this for its slices, another cannot; "
			"TCP does not care",
			"ulimit -l unlimited  # a service: LimitMEMLOCK=infinity");
	else
		host_item_say(item, "enough for what links over RDMA register", "");
}

static void judge_huge_pages(struct host_judge *j)
{
	char text[128];
	bool known = host_file_read(j, "/sys/kernel/mm/transparent_hugepage/shmem_enabled", text,
				    sizeof(text));
	bool forced = known && strstr(text, "[force]");
	struct host_item *item = host_item_add(j, "huge-pages", forced ? HOST_WARN : HOST_OK);

	host_item_found(item, "shmem_enabled: %.70s", known ? text : "?");
	if (forced)
		host_item_say(
			item,
			"huge pages are forced upon shared memory: guest pages cannot be taken "
			"away one by one without splitting them first",
			"echo never > /sys/kernel/mm/transparent_hugepage/shmem_enabled");
	else
		host_item_say(item,
			      "guest memory gets small pages, as the coherence protocol moves", "");
}

static void judge_memory(struct host_judge *j)
{
	char text[FILE_BYTES];
	uint64_t available = 0, total = 0;
	struct host_item *item;

	if (host_file_read(j, "/proc/meminfo", text, sizeof(text))) {
		available = meminfo(text, "MemAvailable");
		total = meminfo(text, "MemTotal");
	}
	j->report->memory_available_bytes = available;
	item = host_item_add(j, "memory", available < MEMORY_MIN_BYTES ? HOST_WARN : HOST_OK);
	host_item_found(item, "%llu of %llu MiB available", (unsigned long long)(available >> 20),
			(unsigned long long)(total >> 20));
	if (available < MEMORY_MIN_BYTES)
		host_item_say(item,
			      "too little memory is free for a slice: the node can offer next to "
			      "nothing, and a guest that outgrows it is killed",
			      "ps -eo rss,comm --sort=-rss | head");
	else
		host_item_say(item,
			      "a slice's memory, and what it keeps of others', comes out of this",
			      "");
}

static void judge_clock(struct host_judge *j)
{
	char text[64];
	bool known = host_file_read(
		j, "/sys/devices/system/clocksource/clocksource0/current_clocksource", text,
		sizeof(text));
	bool tsc = known && strcmp(text, "tsc") == 0;
	struct host_item *item = host_item_add(j, "clock", tsc ? HOST_OK : HOST_WARN);

	host_item_found(item, "%.60s", known ? text : "?");
	if (tsc)
		host_item_say(item, "the host itself keeps time by its TSC: guests can too", "");
	else
		host_item_say(
			item,
			"the host does not trust its TSC: clocks of guests under KVM may drift "
			"from those of other slices, and reading the time is slow",
			"dmesg | grep -i tsc  # why; then perhaps tsc=reliable on the kernel's "
			"command line");
}

void host_judge(const char *root, const struct host_live *live, struct host_report *out)
{
	struct host_judge j = {root, live, out};

	memset(out, 0, sizeof(*out));
	out->live = *live;
	judge_kernel(&j);
	judge_uffd_user(&j);
	judge_uffd_kernel(&j);
	judge_processor(&j);
	judge_kvm(&j);
	judge_paging(&j);
	judge_memlock(&j);
	judge_huge_pages(&j);
	judge_memory(&j);
	judge_clock(&j);
	host_devices_judge(&j);
	host_rdma_judge(&j);
}
