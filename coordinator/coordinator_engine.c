/* SPDX-License-Identifier: Apache-2.0 */
/* What the CPU engines of a VM's nodes must agree on: the rate of the guest's time-stamp counter, and
 * the vendor and the features of its CPU model.
 */
#include <stdio.h>
#include <string.h>

#include "base/cpu_feature.h"

#include "coordinator/coordinator_internal.h"

/* The report of the slice's host, if the slice may come to run under KVM there; else NULL. */
static const json_t *kvm_host(const struct vm *vm, const struct slice *slice)
{
	const json_t *host = slice->node ? slice->node->host : NULL;
	const char *cpu = json_string_value(json_object_get(host, "cpu"));

	if (!host || !cpu || slice->vcpus == 0 || strcmp(vm->cpu, "soft") == 0)
		return NULL;
	if (strcmp(vm->cpu, "auto") == 0 && strcmp(cpu, "kvm") != 0)
		return NULL;
	return host;
}

/* What that host tells about TSCs. */
static bool slice_rate(const struct vm *vm, const struct slice *slice, uint64_t *tsc_hz,
		       bool *scaling)
{
	const json_t *host = kvm_host(vm, slice);

	if (!host)
		return false;
	*tsc_hz = (uint64_t)json_integer_value(json_object_get(host, "tsc_hz"));
	*scaling = json_is_true(json_object_get(host, "tsc_scaling"));
	return *tsc_hz != 0;
}

/*
 * The software CPU makes any rate; a processor without scaling makes its own only. So the rate is
 * that of the first such host; one with another rate cannot use KVM in this VM, and its slice
 * finds that out.
 */
uint64_t vm_tsc_choose(const struct vm *vm)
{
	uint64_t tsc_hz;
	bool scaling;

	for (unsigned i = 0; i < vm->slices; i++)
		if (slice_rate(vm, &vm->slice[i], &tsc_hz, &scaling) && !scaling)
			return tsc_hz;
	return 0;
}

/*
 * A processor runs guests of its own vendor's model only, the software CPU runs both. So the first
 * host that may use KVM decides; one of the other vendor cannot use KVM in this VM, and its slice
 * finds that out. Without any it is Intel's, which asks less of a guest.
 */
const char *vm_vendor_choose(const struct vm *vm)
{
	for (unsigned i = 0; i < vm->slices; i++) {
		const json_t *host = kvm_host(vm, &vm->slice[i]);
		const char *vendor = json_string_value(json_object_get(host, "vendor"));

		if (vendor && *vendor)
			return strcmp(vendor, "amd") == 0 ? "amd" : "intel";
	}
	return "intel";
}

/* What a host's engine can give; an older node does not tell: nothing. */
static uint64_t engine_features(const json_t *host, const char *engine)
{
	const json_t *features = json_object_get(host, "features");

	return (uint64_t)json_integer_value(json_object_get(features, engine));
}

/*
 * What a slice on the host can give whichever engine it comes to use: where auto would take kvm, the slice may
 * still find a reason against it, so only what both have. soft is what it has at the least.
 */
static uint64_t host_features(const json_t *host, const char *cpu)
{
	const char *best = json_string_value(json_object_get(host, "cpu"));
	bool auto_kvm = strcmp(cpu, "auto") == 0 && best && strcmp(best, "kvm") == 0;

	if (strcmp(cpu, "kvm") == 0)
		return engine_features(host, "kvm");
	if (auto_kvm)
		return engine_features(host, "kvm") & engine_features(host, "soft");
	return engine_features(host, "soft");
}

/* A slice of memory alone runs nothing. */
uint64_t vm_features_choose(const struct vm *vm)
{
	uint64_t features = vm->features;

	if (!vm->features_open)
		return features;
	for (unsigned i = 0; i < vm->slices; i++)
		if (vm->slice[i].vcpus)
			features &= host_features(
				vm->slice[i].node ? vm->slice[i].node->host : NULL, vm->cpu);
	return features;
}

/* Where auto would take kvm, the software CPU will do, too. */
static uint64_t host_features_most(const json_t *host, const char *cpu)
{
	uint64_t soft = engine_features(host, "soft"), kvm = engine_features(host, "kvm");

	return strcmp(cpu, "kvm") == 0 ? kvm : soft;
}

int features_plan(const char *model, const char *cpu, const struct placement *placement, char *why)
{
	uint64_t wanted;
	char names[128];

	if (!model || strcmp(model, "max") == 0 || cpu_model_parse(model, &wanted))
		return 0;
	for (unsigned i = 0; i < placement->slices; i++) {
		const struct node *node = placement->slice[i].node;
		uint64_t missing = wanted & ~host_features_most(node->host, cpu);

		if (!missing || placement->slice[i].vcpus == 0)
			continue;
		cpu_features_text(missing, names, sizeof(names));
		snprintf(why, CONTROL_WHY_MAX, "node %s cannot give the CPU model %s: it lacks %s",
			 node->name, model, names);
		return -PANGEA_ENOFIT;
	}
	return 0;
}
