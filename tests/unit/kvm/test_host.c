/* SPDX-License-Identifier: Apache-2.0 */
/* The judgement of hosts, made of directories, and the choice of the CPU engine by it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/cpu/cpu_choice.h"
#include "vmm/cpu/kvm/kvm.h"

/* ---- made-up hosts ---- */

struct world {
	char root[64];
	struct host_live live;
	struct host_report report;
};

static void file_put(struct world *w, const char *path, const char *text)
{
	char full[256];
	FILE *file;

	snprintf(full, sizeof(full), "%s%s", w->root, path);
	for (char *at = full + strlen(w->root) + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		mkdir(full, 0700);
		*at = '/';
	}
	file = fopen(full, "w");
	cr_assert(file, "%s: %s", full, strerror(errno));
	fputs(text, file);
	fclose(file);
}

/* A good Intel host. */
static void world_open(struct world *w)
{
	memset(w, 0, sizeof(*w));
	strcpy(w->root, "/tmp/pangea-host-XXXXXX");
	cr_assert(mkdtemp(w->root));
	w->live.vmx = true;
	w->live.memlock_bytes = UINT64_MAX;
	strcpy(w->live.release, "6.12.9-amd64");
	file_put(w, "/proc/meminfo",
		 "MemTotal:       16000000 kB\nMemFree:         1000 kB\n"
		 "MemAvailable:    8388608 kB\n");
	file_put(w, "/sys/module/kvm_intel/parameters/ept", "Y\n");
	file_put(w, "/sys/module/kvm_intel/parameters/eptad", "N\n");
	file_put(w, "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
		 "always within_size advise [never] deny force\n");
	file_put(w, "/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
	setenv("PATH", "bin::/usr/sbin:/usr/bin", 1);
	file_put(w, "/usr/bin/qemu-storage-daemon", "");
	file_put(w, "/usr/bin/passt", "");
	file_put(w, "/usr/lib/qemu/virtiofsd", "");
}

static void world_close(struct world *w)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", w->root);
	cr_assert_eq(system(command), 0);
}

static const struct host_item *judged(struct world *w, const char *name)
{
	const struct host_item *item;

	host_judge(w->root, &w->live, &w->report);
	item = host_item_find(&w->report, name);
	cr_assert(item, "%s", name);
	return item;
}

static void expect(struct world *w, const char *name, enum host_matters matters, const char *found,
		   const char *mend)
{
	const struct host_item *item = judged(w, name);

	cr_expect_eq(item->matters, matters, "%s: %s: %s", name, item->found, item->sentence);
	cr_expect(strstr(item->found, found), "%s: %s", name, item->found);
	cr_expect(strstr(item->mend, mend), "%s: %s", name, item->mend);
	cr_expect_gt(strlen(item->sentence), 0, "%s", name);
}

/* ---- items ---- */

Test(host, good_intel)
{
	struct world w;

	world_open(&w);
	host_judge(w.root, &w.live, &w.report);
	cr_expect_eq(w.report.count, 14);
	for (unsigned i = 0; i < w.report.count; i++)
		cr_expect_eq(w.report.items[i].matters, HOST_OK, "%s: %s", w.report.items[i].name,
			     w.report.items[i].sentence);
	cr_expect_eq(w.report.paging, HOST_PAGING_NESTED);
	cr_expect_not(w.report.walks_write);
	cr_expect_eq(w.report.memory_available_bytes, UINT64_C(8) << 30);
	world_close(&w);
}

Test(host, paging)
{
	struct world w;

	world_open(&w);
	file_put(&w, "/sys/module/kvm_intel/parameters/eptad", "Y\n");
	expect(&w, "paging", HOST_WARN, "eptad=Y", "eptad=0");
	cr_expect(w.report.walks_write);
	file_put(&w, "/sys/module/kvm_intel/parameters/ept", "N\n");
	expect(&w, "paging", HOST_REFUSE, "ept=N", "ept=1");
	cr_expect_eq(w.report.paging, HOST_PAGING_SHADOW);
	w.live.vmx = false;
	w.live.svm = true;
	expect(&w, "paging", HOST_REFUSE, "npt=?", "npt=1"); /* works, and does not tell */
	w.live.kvm_error = -ENOENT;
	expect(&w, "paging", HOST_NOTE, "npt=?", "modprobe kvm_amd");
	w.live.kvm_error = 0;
	file_put(&w, "/sys/module/kvm_amd/parameters/npt", "1\n");
	expect(&w, "paging", HOST_NOTE, "npt=Y", "");
	cr_expect(w.report.walks_write);
	file_put(&w, "/sys/module/kvm_amd/parameters/npt", "0\n");
	expect(&w, "paging", HOST_REFUSE, "npt=N", "npt=1");
	w.live.svm = false;
	expect(&w, "paging", HOST_REFUSE, "without VT-x", "");
	cr_expect_eq(w.report.paging, HOST_PAGING_NO_VIRT);
	file_put(&w, "/sys/module/kvm_pvm/parameters/force", "N\n");
	expect(&w, "paging", HOST_REFUSE, "PVM", "");
	w.live.kvm_error = -ENOENT;
	expect(&w, "paging", HOST_NOTE, "", "");
	cr_expect_eq(w.report.paging, HOST_PAGING_NONE);
	world_close(&w);
}

Test(host, rights)
{
	struct world w;

	world_open(&w);
	w.live.uffd_kernel_error = -EPERM;
	expect(&w, "userfaultfd-kernel", HOST_WARN, "not permitted", "unprivileged_userfaultfd=1");
	w.live.uffd_user_error = -EPERM;
	expect(&w, "userfaultfd", HOST_REFUSE, "not permitted", "Seccomp");
	w.live.kvm_error = -EACCES;
	expect(&w, "kvm", HOST_WARN, "denied", "usermod -aG kvm");
	w.live.kvm_error = -ENOENT;
	expect(&w, "kvm", HOST_WARN, "No such", "modprobe kvm_intel");
	w.live.vmx = false;
	expect(&w, "kvm", HOST_NOTE, "No such", "");
	expect(&w, "processor", HOST_NOTE, "neither", "");
	w.live.memlock_bytes = 65536;
	expect(&w, "memory-lock", HOST_NOTE, "64 KiB", "ulimit -l");
	world_close(&w);
}

Test(host, kernel_versions)
{
	static const struct {
		const char *release;
		enum host_matters matters;
	} kernels[] = {{"6.4.0", HOST_OK},	{"6.3.13-1-amd64", HOST_REFUSE},
		       {"5.10.0", HOST_REFUSE}, {"7.0.0-rc1", HOST_OK},
		       {"6.18.44-x", HOST_OK},	{"garbage", HOST_REFUSE},
		       {"", HOST_REFUSE},	{"6.12", HOST_OK}};
	struct world w;

	world_open(&w);
	for (unsigned i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		strcpy(w.live.release, kernels[i].release);
		expect(&w, "kernel", kernels[i].matters, kernels[i].release, "");
	}
	world_close(&w);
}

/* The advice must bring a kernel that serves: Debian 12's own is 6.1. */
Test(host, kernel_advice_fits_the_distribution)
{
	static const struct {
		const char *os_release, *mend;
	} systems[] = {
		{"PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID=\"12\"\nID=debian\n",
		 "-t bookworm-backports linux-image-amd64"},
		{"ID=debian\nVERSION_ID=\"13\"\n", "apt-get install linux-image-amd64"},
		{"ID=ubuntu\nVERSION_ID=\"24.04\"\n", "linux-generic"},
		{"ID=ubuntu\nVERSION_ID=\"22.04\"\n", "linux-generic-hwe-22.04"},
		{"ID=\"other\"\nXVERSION_ID=12\n", "newer kernel of your distribution"},
		{"ID=\"debian", "linux-image-amd64"},
		{"\n\n=\nID\n", "newer kernel of your distribution"},
	};
	struct world w;

	world_open(&w);
	strcpy(w.live.release, "6.1.0-57-amd64");
	expect(&w, "kernel", HOST_REFUSE, "6.1.0", "newer kernel of your distribution");
	for (unsigned i = 0; i < sizeof(systems) / sizeof(systems[0]); i++) {
		file_put(&w, "/etc/os-release", systems[i].os_release);
		expect(&w, "kernel", HOST_REFUSE, "6.1.0", systems[i].mend);
	}
	world_close(&w);
}

Test(host, memory_and_time)
{
	struct world w;

	world_open(&w);
	file_put(&w, "/proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 100000 kB\n");
	expect(&w, "memory", HOST_WARN, "97 of 976 MiB", "ps ");
	file_put(&w, "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
		 "always within_size advise never deny [force]\n");
	expect(&w, "huge-pages", HOST_WARN, "[force]", "echo never");
	file_put(&w, "/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
	expect(&w, "clock", HOST_WARN, "hpet", "dmesg");
	world_close(&w);
}

static void rdma_port_put(struct world *w, const char *port, const char *layer, const char *state)
{
	char path[160];

	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/link_layer", port);
	file_put(w, path, layer);
	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/state", port);
	file_put(w, path, state);
	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/rate", port);
	file_put(w, path, "100 Gb/sec (4X EDR)\n");
}

Test(host, programs_for_disks_networks_and_folders)
{
	char path[128];
	struct world w;

	world_open(&w);
	expect(&w, "disks", HOST_OK, "/usr/bin/qemu-storage-daemon", "");
	expect(&w, "networks", HOST_OK, "/usr/bin/passt", "");
	snprintf(path, sizeof(path), "%s/usr/bin/passt", w.root);
	cr_assert_eq(unlink(path), 0);
	expect(&w, "networks", HOST_NOTE, "no passt", "apt-get install passt");
	expect(&w, "folders", HOST_OK, "/usr/lib/qemu/virtiofsd", "");
	snprintf(path, sizeof(path), "%s/usr/lib/qemu/virtiofsd", w.root);
	cr_assert_eq(unlink(path), 0);
	expect(&w, "folders", HOST_NOTE, "no virtiofsd", "qemu-system-common");
	/* Debian 13's does not serve. */
	file_put(&w, "/usr/libexec/virtiofsd", "");
	expect(&w, "folders", HOST_NOTE, "no virtiofsd", "qemu-system-common");
	setenv("PATH", "/sbin", 1);
	expect(&w, "disks", HOST_NOTE, "no qemu-storage-daemon", "apt-get install qemu-utils");
	setenv("PATH", "/usr/bin", 1); /* for rm */
	world_close(&w);
}

/* No device is nothing to mend; what a device lacks is said one after the other. */
Test(host, rdma_devices_and_what_they_lack)
{
	struct world w;

	world_open(&w);
	expect(&w, "rdma", HOST_OK, "no device", "");
	cr_expect_str_eq(host_item_find(&w.report, "rdma")->mend, "");
	w.live.memlock_bytes = 8 << 20;
	expect(&w, "memory-lock", HOST_NOTE, "8192 KiB", "LimitMEMLOCK");
	rdma_port_put(&w, "mlx5_0/ports/1", "InfiniBand\n", "4: ACTIVE\n");
	rdma_port_put(&w, "mlx5_0/ports/2", "InfiniBand\n", "2: INIT\n");
	rdma_port_put(&w, "rxe0/ports/1", "Ethernet\n", "1: DOWN\n");
	file_put(&w, "/sys/class/infiniband/mlx5_0/fw_ver", "16.35.2000\n");
	file_put(&w, "/sys/class/infiniband/rxe0/fw_ver", "\n");
	file_put(&w, "/sys/class/infiniband/rxe0/ports/1/gid_attrs/ndevs/0", "eth7\n");
	expect(&w, "memory-lock", HOST_WARN, "8192 KiB", "LimitMEMLOCK");
	expect(&w, "rdma", HOST_WARN, "2 devices, /dev/infiniband/rdma_cm is missing",
	       "modprobe ib_uverbs");
	file_put(&w, "/dev/infiniband/uverbs1", "");
	expect(&w, "rdma", HOST_WARN, "missing", "modprobe rdma_ucm");
	file_put(&w, "/dev/infiniband/rdma_cm", "");
	expect(&w, "rdma", HOST_WARN, "there", "apt-get install ibverbs-providers");
	file_put(&w, "/etc/libibverbs.d/mlx5.driver", "driver mlx5\n");
	expect(&w, "rdma", HOST_OK, "there", "");
	expect(&w, "rdma:mlx5_0/1", HOST_OK,
	       "InfiniBand, ACTIVE, 100 Gb/sec (4X EDR), firmware 16.35.2000", "");
	expect(&w, "rdma:mlx5_0/2", HOST_NOTE, "InfiniBand, INIT, 100", "opensm");
	expect(&w, "rdma:rxe0/1", HOST_NOTE, "Ethernet, DOWN, 100 Gb/sec (4X EDR), firmware ?",
	       "ip link set dev eth7 up");
	cr_expect_eq(w.report.count, 17);
	world_close(&w);
}

/* However many ports there are, and whatever they say, the report stays whole. */
Test(host, rdma_ports_beyond_number)
{
	char port[64], odd[200];
	struct world w;

	world_open(&w);
	memset(odd, '%', sizeof(odd) - 1);
	odd[sizeof(odd) - 1] = '\0';
	for (unsigned i = 0; i < 40; i++) {
		snprintf(port, sizeof(port), "device_of_a_long_name_%u/ports/1", i);
		rdma_port_put(&w, port, odd, odd);
	}
	judged(&w, "rdma");
	cr_expect_eq(w.report.count, 14 + HOST_RDMA_PORTS_MAX);
	world_close(&w);
}

/* A host of which nothing can be read still gets a whole report. */
Test(host, nothing_to_read)
{
	const struct host_live nothing = {0};
	struct host_report report;

	host_judge("/nowhere/at/all", &nothing, &report);
	cr_expect_eq(report.count, 14);
	cr_expect_eq(host_item_find(&report, "memory")->matters, HOST_WARN);
	cr_expect_null(host_item_find(&report, "no such item"));
}

Test(host, this_host)
{
	struct host_report report;

	host_probe(&report);
	for (unsigned i = 0; i < report.count; i++) {
		const struct host_item *item = &report.items[i];

		printf("%-6s %-18s %s\n", host_matters_name(item->matters), item->name,
		       item->found);
		cr_expect_lt(strlen(item->sentence), sizeof(item->sentence) - 1, "cut off: %s",
			     item->sentence);
		cr_expect_lt(strlen(item->mend), sizeof(item->mend) - 1, "cut off: %s", item->mend);
	}
	cr_expect_eq(host_item_find(&report, "kernel")->found[0], 'L');
	cr_expect_gt(report.memory_available_bytes, 0);
}

/* ---- the choice ---- */

static void choose(struct world *w, enum cpu_wish wish, struct cpu_guest guest,
		   const struct vcpu_ops *ops, const char *why)
{
	struct cpu_choice choice;
	int err;

	host_judge(w->root, &w->live, &w->report);
	err = cpu_choose(&w->report, wish, &guest, &choice);
	cr_expect_eq(choice.ops, ops, "%s", choice.sentence);
	cr_expect_eq(err, ops ? 0 : -ENOTSUP);
	cr_expect_eq(choice.kernel_faults, ops == &vcpu_kvm_ops);
	cr_expect(strstr(choice.sentence, why), "%s", choice.sentence);
}

Test(cpu_choice, by_host)
{
	const struct cpu_guest linux1 = {.slices = 1, .linux_kernel = true};
	const struct cpu_guest linux2 = {.slices = 2, .linux_kernel = true};
	const struct cpu_guest forced = {.slices = 2, .linux_kernel = true, .force = true};
	const struct cpu_guest micro = {.slices = 4};
	struct world w;

	world_open(&w);
	choose(&w, CPU_AUTO, linux2, &vcpu_kvm_ops, "VT-x");
	choose(&w, CPU_SOFT, linux2, &vcpu_soft_ops, "asked for");
	w.live.uffd_kernel_error = -EPERM;
	choose(&w, CPU_AUTO, linux2, &vcpu_soft_ops, "userfaultfd");
	choose(&w, CPU_KVM, linux2, NULL, "userfaultfd");
	choose(&w, CPU_KVM, forced, NULL, "userfaultfd");
	w.live.uffd_kernel_error = 0;
	file_put(&w, "/sys/module/kvm_intel/parameters/ept", "N\n");
	choose(&w, CPU_AUTO, linux2, &vcpu_soft_ops, "silent corruption");
	choose(&w, CPU_AUTO, linux1, &vcpu_kvm_ops, "VT-x");
	choose(&w, CPU_KVM, linux2, NULL, "--force");
	choose(&w, CPU_KVM, linux1, &vcpu_kvm_ops, "asked for");
	choose(&w, CPU_KVM, forced, &vcpu_kvm_ops, "forced");
	choose(&w, CPU_KVM, micro, &vcpu_kvm_ops, "asked for");
	w.live.vmx = false;
	choose(&w, CPU_AUTO, micro, &vcpu_soft_ops, "neither VT-x nor SVM");
	choose(&w, CPU_KVM, micro, &vcpu_kvm_ops, "asked for");
	choose(&w, CPU_KVM, linux1, NULL, "emulates");
	w.live.kvm_error = -ENOENT;
	choose(&w, CPU_KVM, micro, NULL, "/dev/kvm");
	world_close(&w);
}

Test(cpu_choice, wishes)
{
	enum cpu_wish wish;

	cr_expect_eq(cpu_wish_parse("auto", &wish), 0);
	cr_expect_eq(wish, CPU_AUTO);
	cr_expect_eq(cpu_wish_parse("kvm", &wish), 0);
	cr_expect_eq(wish, CPU_KVM);
	cr_expect_eq(cpu_wish_parse("soft", &wish), 0);
	cr_expect_eq(wish, CPU_SOFT);
	cr_expect_eq(cpu_wish_parse("KVM", &wish), -EINVAL);
	cr_expect_eq(cpu_wish_parse("", &wish), -EINVAL);
}
