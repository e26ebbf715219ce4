/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes a VM's description as a slice gets it: slice-config, then the distances of slice-run. */
#include <string.h>

#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/main/slice.h"

/* What is taken must be a machine that keeps to its limits. */
static void config_check(const struct slice_config *config)
{
	const struct vm_shape *shape = &config->shape;

	invariant(shape->slices >= 1 && shape->slices <= SLICES_MAX);
	invariant(config->self < shape->slices);
	invariant(shape->vcpus >= 1 && shape->vcpus <= VCPUS_MAX);
	invariant(strlen(config->append) < CMDLINE_MAX);
	invariant(!config->rdma.device[0] || control_device_valid(config->rdma.device));
	invariant(config->rdma.mtu <= 4096 && config->rdma.gid_index <= 255);
	invariant(config->devices.count <= SLICE_DEVICES_MAX);
	invariant(!config->devices.count || shape_has_bridge(shape, config->self));
	invariant(__builtin_popcountll(shape->bridges) <= SLICE_DEVICES_MAX);
	invariant(!(shape->bridges & 1) && !(shape->bridges >> (shape->slices - 1) >> 1));
	for (unsigned i = 0; i < config->devices.count; i++) {
		const struct slice_device *device = &config->devices.list[i];

		invariant(device->fd >= SLICE_DEVICE_FD_FIRST && device->id[0]);
		invariant(device->type != SLICE_DEVICE_NET || !(device->mac[0] & 1));
		invariant(device->type != SLICE_DEVICE_BLK || device->queues >= 1);
		invariant(device->type != SLICE_DEVICE_FS || device->tag[0]);
	}
	for (unsigned vcpu = 0; vcpu < shape->vcpus; vcpu++)
		invariant(shape_slice_of_vcpu(shape, vcpu) < shape->slices);
	invariant(shape_slice_of_vcpu(shape, shape->vcpus) == SLICES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct slice_config config;
	char why[CONTROL_WHY_MAX] = "";
	json_t *msg = json_loadb((const char *)data, size, 0, NULL);

	if (!json_is_object(msg)) {
		json_decref(msg);
		return 0;
	}
	memset(&config, 0, sizeof(config));
	int err = slice_config_parse(msg, &config, why);
	if (err) {
		invariant(why[0]);
	} else {
		config_check(&config);
		slice_distances_parse(msg, &config.shape, why);
	}
	json_decref(msg);
	return 0;
}
