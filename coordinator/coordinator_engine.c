/* SPDX-License-Identifier: Apache-2.0 */
/* What the CPU engines of a VM's nodes must agree on: the rate of the guest's time-stamp counter, and
 * the vendor of its CPU model.
 */
#include <string.h>

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
