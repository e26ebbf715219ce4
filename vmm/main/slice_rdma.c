/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what slice-config says of RDMA: whether this node allows it, and by which device. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/main/slice.h"

static int bad(char *why, const char *what)
{
	snprintf(why, CONTROL_WHY_MAX, "slice-config: rdma: %s", what);
	return -PANGEA_ECONTROL;
}

static bool mtu_valid(unsigned mtu)
{
	return mtu == 0 || mtu == 256 || mtu == 512 || mtu == 1024 || mtu == 2048 || mtu == 4096;
}

static int gid_parse(const json_t *rdma, struct rdma_option *option, char *why)
{
	unsigned index;
	int err;

	option->gid_index = -1;
	if (!json_object_get(rdma, "gid_index"))
		return 0;
	err = control_get_uint(rdma, "gid_index", 0, 255, &index, why);
	if (!err)
		option->gid_index = (int)index;
	return err;
}

static int device_parse(const json_t *rdma, struct rdma_option *option, char *why)
{
	const char *device;
	int err = control_get_string(rdma, "device", &device, why);

	if (err)
		return err;
	if (*device && !control_device_valid(device))
		return bad(why, "device is not the name of one");
	snprintf(option->device, sizeof(option->device), "%.*s", RDMA_DEVICE_MAX - 1, device);
	return control_get_uint(rdma, "port", 0, 255, &option->port, why);
}

int slice_rdma_parse(const json_t *msg, struct slice_config *config, char *why)
{
	const json_t *rdma = json_object_get(msg, "rdma");
	/* What must be encrypted does not go over RDMA. */
	bool allowed = config->rdma.allowed;
	int err;

	memset(&config->rdma, 0, sizeof(config->rdma));
	if (!allowed && config->transport == TRANSPORT_RDMA)
		return bad(why, "it is not encrypted, and encryption is required");
	if (!allowed || !rdma)
		return 0;
	if (!json_is_object(rdma))
		return bad(why, "it is no object");
	err = device_parse(rdma, &config->rdma, why);
	if (!err)
		err = gid_parse(rdma, &config->rdma, why);
	if (!err)
		err = control_get_uint(rdma, "mtu", 0, 4096, &config->rdma.mtu, why);
	if (!err && !mtu_valid(config->rdma.mtu))
		err = bad(why, "mtu is not 256, 512, 1024, 2048 or 4096");
	config->rdma.allowed = !err;
	return err;
}
