/* SPDX-License-Identifier: Apache-2.0 */
/* Which CPU engine runs this slice: by the user's wish, by the host, and by the VM's CPU model. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cpu_feature.h"
#include "base/log.h"
#include "vmm/cpu/cpuid.h"
#include "vmm/cpu/kvm/kvm.h"
#include "vmm/boot/layout.h"
#include "vmm/main/slice.h"

/* ---- the configuration's part; each field may be missing ---- */

static int flag_parse(const json_t *msg, const char *key, bool *out, char *why)
{
	return json_object_get(msg, key) ? control_get_bool(msg, key, out, why) : 0;
}

static int vendor_parse(const json_t *msg, enum cpu_vendor *out, char *why)
{
	const char *vendor;
	int err = control_get_string(msg, "vendor", &vendor, why);

	if (err)
		return err;
	if (strcmp(vendor, "amd") != 0 && strcmp(vendor, "intel") != 0) {
		snprintf(why, CONTROL_WHY_MAX, "slice-config: vendor is not intel or amd");
		return -PANGEA_ECONTROL;
	}
	*out = strcmp(vendor, "amd") == 0 ? CPU_VENDOR_AMD : CPU_VENDOR_INTEL;
	return 0;
}

int slice_cpu_parse(const json_t *msg, struct slice_config *config, char *why)
{
	const char *wish = "auto";
	int err;

	config->tsc_hz = LAYOUT_TSC_HZ;
	config->features = CPU_MODEL_V1;
	if (json_object_get(msg, "cpu") && (err = control_get_string(msg, "cpu", &wish, why)))
		return err;
	if (cpu_wish_parse(wish, &config->cpu_wish)) {
		snprintf(why, CONTROL_WHY_MAX, "slice-config: cpu is not auto, kvm or soft");
		return -PANGEA_ECONTROL;
	}
	if (json_object_get(msg, "tsc_hz") &&
	    (err = control_get_u64(msg, "tsc_hz", 1000000, CONTROL_TSC_HZ_MAX, &config->tsc_hz,
				   why)))
		return err;
	if (json_object_get(msg, "features") &&
	    (err = control_get_u64(msg, "features", 0, CPU_FEATURES_MASK, &config->features, why)))
		return err;
	config->vendor = CPU_VENDOR_INTEL;
	if (json_object_get(msg, "vendor") && (err = vendor_parse(msg, &config->vendor, why)))
		return err;
	err = flag_parse(msg, "force", &config->force, why);
	return err ? err : flag_parse(msg, "micro", &config->micro, why);
}

/* ---- the VM's one CPU model ---- */

struct leaf_check {
	const char *name;
	uint32_t leaf;
	uint32_t can[4]; /* eax, ebx, ecx, edx; what KVM can give */
	bool used[4];
};

/* The first feature of the model that KVM here cannot give; false if it can give all. */
static bool feature_missing(const struct kvm_features *f, const struct slice_config *config,
			    char *why, size_t size)
{
	static const char registers[4][4] = {"EAX", "EBX", "ECX", "EDX"};
	const struct leaf_check checks[] = {
		{"1", 0x1, {0, 0, f->leaf1_ecx, f->leaf1_edx}, {0, 0, true, true}},
		{"7",
		 0x7,
		 {0, f->leaf7_ebx, f->leaf7_ecx, f->leaf7_edx},
		 {false, true, true, true}},
		{"80000001", 0x80000001, {0, 0, f->ext1_ecx, f->ext1_edx}, {0, 0, true, true}},
		{"80000007", 0x80000007, {0, 0, 0, f->ext7_edx}, {0, 0, 0, true}},
	};
	struct cpuid_model model = {
		.tsc_hz = config->tsc_hz, .vendor = config->vendor, .features = config->features};

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		struct vcpu_cpuid has;
		uint32_t reg[4];

		cpuid_read(&model, 0, checks[i].leaf, 0, &has);
		memcpy(reg, &has, sizeof(reg));
		for (unsigned r = 0; r < 4; r++) {
			uint32_t missing = checks[i].used[r] ? reg[r] & ~checks[i].can[r] : 0;
			if (!missing)
				continue;
			snprintf(why, size, "KVM here lacks bit %d of CPUID.%s:%s",
				 __builtin_ctz(missing), checks[i].name, registers[r]);
			return true;
		}
	}
	return false;
}

/* Why KVM here cannot be what the VM's other CPUs are; false if it can. */
static bool model_disagrees(const struct slice_config *config, char *why, size_t size)
{
	struct kvm_features features;
	int err = kvm_supported_features(&features);

	if (err) {
		snprintf(why, size, "KVM does not tell its features: %s", error_text(err));
		return true;
	}
	if (!kvm_vendor_can(config->vendor)) {
		snprintf(why, size,
			 "the VM's CPU model is %s, and this host's processor is not: they differ "
			 "in how 32-bit programs enter the kernel (see --cpu-vendor)",
			 config->vendor == CPU_VENDOR_AMD ? "AMD's" : "Intel's");
		return true;
	}
	if (!config->force && feature_missing(&features, config, why, size))
		return true;
	if (features.phys_bits < LAYOUT_PHYS_BITS &&
	    shape_memory_end(&config->shape) >> features.phys_bits) {
		snprintf(why, size, "KVM here has %u bits of guest addresses, too few",
			 features.phys_bits);
		return true;
	}
	err = kvm_tsc_can(config->tsc_hz);
	if (err)
		snprintf(why, size,
			 "the VM's time-stamp counter runs at %llu kHz, which KVM here cannot give",
			 (unsigned long long)config->tsc_hz / 1000);
	return err != 0;
}

/* The software CPU has no part of a model that it does not compute, whatever the host is. */
static int soft_check(const struct slice_config *config, struct cpu_choice *choice)
{
	const uint64_t missing = config->features & ~cpu_features_soft();
	char names[200];

	if (choice->ops != &vcpu_soft_ops || !missing)
		return 0;
	choice->ops = NULL;
	cpu_features_text(missing, names, sizeof(names));
	snprintf(choice->sentence, sizeof(choice->sentence),
		 "CPU engine soft is refused: it lacks %s of the VM's CPU model (see --cpu-model)",
		 names);
	return -ENOTSUP;
}

static int model_check(const struct slice_config *config, struct cpu_choice *choice)
{
	char why[300];

	if (choice->ops != &vcpu_kvm_ops || !model_disagrees(config, why, sizeof(why)))
		return 0;
	choice->ops = &vcpu_soft_ops;
	choice->kernel_faults = choice->walks_write = false;
	if (config->cpu_wish == CPU_AUTO) {
		snprintf(choice->sentence, sizeof(choice->sentence), "CPU engine soft: %s", why);
		return 0;
	}
	choice->ops = NULL;
	snprintf(choice->sentence, sizeof(choice->sentence), "CPU engine kvm is refused: %s", why);
	return -ENOTSUP;
}

int slice_cpu_choose(const struct slice_config *config, struct cpu_choice *out)
{
	struct cpu_guest guest = {.slices = config->shape.slices,
				  .linux_kernel = !config->micro,
				  .force = config->force};
	struct host_report host = {0};
	enum cpu_wish wish = config->cpu_wish;
	int err;

	/* A slice of memory alone runs nothing: nothing can be asked of its host. */
	if (config->shape.slice[config->self].vcpus == 0)
		wish = CPU_SOFT;
	if (wish != CPU_SOFT)
		host_probe(&host);
	err = cpu_choose(&host, wish, &guest, out);
	if (!err)
		err = model_check(config, out);
	if (!err)
		err = soft_check(config, out);
	if (config->shape.slice[config->self].vcpus == 0)
		snprintf(out->sentence, sizeof(out->sentence), "no CPUs on this slice");
	log_info("%s", out->sentence);
	return err;
}
