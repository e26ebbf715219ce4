/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the daemon's slice-config and the distances of slice-run, trusting no field. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/main/slice.h"

static int text_copy(const json_t *msg, const char *key, char *out, size_t size, char *why)
{
	const char *text;
	int err = control_get_string(msg, key, &text, why);

	if (err)
		return err;
	if (strlen(text) >= size) {
		snprintf(why, CONTROL_WHY_MAX, "slice-config: %s is too long", key);
		return -E2BIG;
	}
	strcpy(out, text);
	return 0;
}

static int slices_parse(const json_t *msg, struct slice_config *config, char *why)
{
	unsigned vcpus[SLICES_MAX];
	uint64_t mem[SLICES_MAX], bridges = 0;
	unsigned devices, devices_all = 0;
	json_t *list;
	int err = control_get_array(msg, "slices", SLICES_MAX, &list, why);

	for (size_t i = 0; !err && i < json_array_size(list); i++) {
		const json_t *entry = json_array_get(list, i);
		const char *node;

		err = control_get_name(entry, "node", &node, why);
		if (!err)
			err = control_get_uint(entry, "vcpus", 0, VCPUS_MAX, &vcpus[i], why);
		if (!err)
			err = control_get_u64(entry, "mem_bytes", 0, GUEST_MEM_MAX, &mem[i], why);
		devices = 0;
		if (!err && json_object_get(entry, "devices"))
			err = control_get_uint(entry, "devices", 0, SLICE_DEVICES_MAX - devices_all,
					       &devices, why);
		devices_all += devices;
		bridges |= (uint64_t)(i && devices) << i;
		if (!err)
			snprintf(config->node[i], sizeof(config->node[i]), "%s", node);
	}
	if (err)
		return err;
	err = shape_init(&config->shape, (unsigned)json_array_size(list), vcpus, mem);
	config->shape.bridges = bridges;
	if (err)
		snprintf(why, CONTROL_WHY_MAX, "slice-config: the slices make no machine: %s",
			 error_text(err));
	return err;
}

/* Its own devices hang on a bridge that all slices know of. */
static int devices_parse(const json_t *msg, struct slice_config *config, char *why)
{
	int err = slice_devices_parse(msg, &config->devices, why);

	if (err || !config->devices.count || shape_has_bridge(&config->shape, config->self))
		return err;
	snprintf(why, CONTROL_WHY_MAX,
		 "slice-config: slice %u has devices of which slices says "
		 "nothing",
		 config->self);
	return -PANGEA_ECONTROL;
}

/* The kernel is slice 0's affair alone. */
static int boot_parse(const json_t *msg, struct slice_config *config, char *why)
{
	int err = text_copy(msg, "kernel", config->kernel, sizeof(config->kernel), why);

	if (!err && json_object_get(msg, "initrd"))
		err = text_copy(msg, "initrd", config->initrd, sizeof(config->initrd), why);
	if (!err)
		err = text_copy(msg, "append", config->append, sizeof(config->append), why);
	return err;
}

/* It may be missing: no limit. */
static int cache_parse(const json_t *msg, struct slice_config *config, char *why)
{
	config->cache_limited = json_object_get(msg, "cache_bytes") != NULL;
	config->cache_bytes = 0;
	if (!config->cache_limited)
		return 0;
	return control_get_u64(msg, "cache_bytes", 0, GUEST_MEM_MAX, &config->cache_bytes, why);
}

/* It may be missing: auto. */
static int transport_parse(const json_t *msg, struct slice_config *config, char *why)
{
	const char *word;
	int err;

	config->transport = TRANSPORT_AUTO;
	if (!json_object_get(msg, "transport"))
		return 0;
	err = control_get_string(msg, "transport", &word, why);
	if (!err && transport_wish_parse(word, &config->transport)) {
		snprintf(why, CONTROL_WHY_MAX,
			 "slice-config: transport is not auto, shm, rdma or tcp");
		err = -PANGEA_ECONTROL;
	}
	return err;
}

static bool key_digits_parse(const char *text, uint8_t key[PAIR_KEY_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < 2 * PAIR_KEY_SIZE; i++) {
		const char *at = text[i] ? strchr(digits, text[i]) : NULL;

		if (!at)
			return false;
		key[i / 2] = (uint8_t)(key[i / 2] << 4 | (at - digits));
	}
	return text[2 * PAIR_KEY_SIZE] == '\0';
}

/* One for each other slice, and "" for this one. */
static int keys_parse(const json_t *msg, struct slice_config *config, char *why)
{
	json_t *list;
	int err = control_get_array(msg, "link_keys", SLICES_MAX, &list, why);

	memset(&config->keys, 0, sizeof(config->keys));
	if (err)
		return err;
	if (json_array_size(list) != config->shape.slices)
		err = -PANGEA_ECONTROL;
	for (unsigned i = 0; !err && i < config->shape.slices; i++) {
		const char *text = json_string_value(json_array_get(list, i));

		if (!text || (i == config->self ? *text != '\0'
						: !key_digits_parse(text, config->keys.key[i])))
			err = -PANGEA_ECONTROL;
	}
	if (err) {
		pair_wipe(&config->keys, sizeof(config->keys));
		snprintf(why, CONTROL_WHY_MAX,
			 "slice-config: link_keys is not a key of %u hex digits for each other "
			 "slice",
			 2 * PAIR_KEY_SIZE);
	}
	return err;
}

/* It may be missing: on. */
static int encryption_parse(const json_t *msg, struct slice_config *config, char *why)
{
	const char *word = "on";
	int err = 0;

	if (json_object_get(msg, "encryption"))
		err = control_get_string(msg, "encryption", &word, why);
	if (err)
		return err;
	config->plaintext = strcmp(word, "off") == 0;
	config->rdma.allowed = strcmp(word, "required") != 0;
	if (config->plaintext || strcmp(word, "on") == 0 || strcmp(word, "required") == 0)
		return 0;
	snprintf(why, CONTROL_WHY_MAX, "slice-config: encryption is not on, required or off");
	return -PANGEA_ECONTROL;
}

int slice_config_parse(const json_t *msg, struct slice_config *config, char *why)
{
	uint64_t epoch;
	int err = text_copy(msg, "vm", config->vm, sizeof(config->vm), why);

	if (!err)
		err = control_get_id(msg, "incarnation", &config->vm_incarnation, why);
	if (!err)
		err = control_get_u64(msg, "epoch", 0, UINT32_MAX, &epoch, why);
	if (!err)
		err = slices_parse(msg, config, why);
	if (!err)
		err = control_get_uint(msg, "slice", 0, config->shape.slices - 1, &config->self,
				       why);
	if (!err)
		err = keys_parse(msg, config, why);
	if (!err)
		err = encryption_parse(msg, config, why);
	if (!err)
		err = text_copy(msg, "bind_host", config->bind_host, sizeof(config->bind_host),
				why);
	if (!err)
		err = slice_cpu_parse(msg, config, why);
	if (!err)
		err = control_get_uint(msg, "connect_timeout_ms", 1, 3600000,
				       &config->connect_timeout_ms, why);
	config->silence_ms = 0;
	if (!err && json_object_get(msg, "deadline_ms"))
		err = control_get_uint(msg, "deadline_ms", 1000, 86400000, &config->silence_ms,
				       why);
	if (!err)
		err = transport_parse(msg, config, why);
	if (!err)
		err = slice_rdma_parse(msg, config, why);
	if (!err)
		err = cache_parse(msg, config, why);
	if (!err)
		err = slice_images_parse(msg, &config->images, &config->shape, why);
	config->devices.count = 0;
	if (!err && config->self == 0)
		err = boot_parse(msg, config, why);
	if (!err)
		err = devices_parse(msg, config, why);
	if (!err)
		config->epoch = (uint32_t)epoch;
	return err;
}

static int distance_row_parse(const json_t *row, unsigned i, struct vm_shape *shape)
{
	if (json_array_size(row) != shape->slices)
		return -PANGEA_ECONTROL;
	for (unsigned j = 0; j < shape->slices; j++) {
		json_int_t value = json_integer_value(json_array_get(row, j));

		if (value < 10 || value > 254 || (i == j) != (value == 10))
			return -PANGEA_ECONTROL;
		shape->distance[i][j] = (uint8_t)value;
	}
	return 0;
}

static int latency_row_parse(const json_t *row, unsigned i, struct vm_shape *shape)
{
	if (json_array_size(row) != shape->slices)
		return -PANGEA_ECONTROL;
	for (unsigned j = 0; j < shape->slices; j++) {
		json_int_t value = json_integer_value(json_array_get(row, j));

		if (value < 0 || value > CONTROL_LATENCY_NS_MAX)
			return -PANGEA_ECONTROL;
		shape->latency_ns[i][j] = (uint32_t)value;
	}
	return 0;
}

/* A matrix with a row for each slice; it may be missing. */
static int matrix_parse(const json_t *rows, struct vm_shape *shape,
			int (*row_parse)(const json_t *row, unsigned i, struct vm_shape *shape))
{
	int err = !rows || json_array_size(rows) == shape->slices ? 0 : -PANGEA_ECONTROL;

	for (unsigned i = 0; rows && !err && i < shape->slices; i++)
		err = row_parse(json_array_get(rows, i), i, shape);
	return err;
}

int slice_distances_parse(const json_t *msg, struct vm_shape *shape, char *why)
{
	struct vm_shape parsed = *shape;

	if (matrix_parse(json_object_get(msg, "distances"), &parsed, distance_row_parse)) {
		snprintf(why, CONTROL_WHY_MAX,
			 "slice-run: distances is not a %ux%u matrix of 10 (itself) and 11..254",
			 shape->slices, shape->slices);
		return -PANGEA_ECONTROL;
	}
	if (matrix_parse(json_object_get(msg, "latencies_ns"), &parsed, latency_row_parse)) {
		snprintf(why, CONTROL_WHY_MAX,
			 "slice-run: latencies_ns is not a %ux%u matrix of 0 to %d", shape->slices,
			 shape->slices, CONTROL_LATENCY_NS_MAX);
		return -PANGEA_ECONTROL;
	}
	*shape = parsed;
	return 0;
}
