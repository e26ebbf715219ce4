/* SPDX-License-Identifier: Apache-2.0 */
/* What a slice takes of slice-config's devices. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/error.h"
#include "control/control.h"
#include "vmm/main/slice_devices.h"

static struct slice_devices devices;
static char why[CONTROL_WHY_MAX];

static int parse(const char *list)
{
	json_t *msg = json_object();
	int err;

	json_object_set_new(msg, "devices", json_loads(list, JSON_DECODE_ANY, NULL));
	cr_assert(json_object_get(msg, "devices"), "%s", list);
	why[0] = 0;
	err = slice_devices_parse(msg, &devices, why);
	json_decref(msg);
	return err;
}

#define BLK(fd) "{\"type\":\"blk\",\"id\":\"disk0\",\"readonly\":true,\"queues\":2,\"fd\":" #fd "}"
#define NET(fd) "{\"type\":\"net\",\"id\":\"net0\",\"mac\":\"52:54:00:00:00:01\",\"fd\":" #fd "}"

Test(slice_devices, folders_and_next_back_ends)
{
	cr_assert_eq(parse("[{\"type\":\"fs\",\"id\":\"fs0\",\"tag\":\"a.b\",\"fd\":8}]"), 0, "%s",
		     why);
	cr_expect_eq(devices.list[0].type, SLICE_DEVICE_FS);
	cr_expect_str_eq(devices.list[0].tag, "a.b");
	cr_expect_eq(devices.list[0].handover, -1);
	cr_expect_neq(parse("[{\"type\":\"fs\",\"id\":\"fs0\",\"tag\":\"a/b\",\"fd\":8}]"), 0);
	cr_expect_neq(parse("[{\"type\":\"fs\",\"id\":\"fs0\",\"fd\":8}]"), 0);
	cr_assert_eq(parse("[{\"type\":\"blk\",\"id\":\"disk0\",\"readonly\":true,\"queues\":2,"
			   "\"fd\":6,\"handover\":7}]"),
		     0, "%s", why);
	cr_expect_eq(devices.list[0].handover, 7);
	cr_expect_neq(parse("[{\"type\":\"blk\",\"id\":\"disk0\",\"readonly\":true,\"queues\":2,"
			    "\"fd\":6,\"handover\":3}]"),
		      0);
}

Test(slice_devices, both_kinds)
{
	cr_assert_eq(parse("[" BLK(6) "," NET(7) "]"), 0, "%s", why);
	cr_expect_eq(devices.count, 2);
	cr_expect_eq(devices.list[0].type, SLICE_DEVICE_BLK);
	cr_expect_eq(devices.list[0].fd, 6);
	cr_expect_str_eq(devices.list[0].id, "disk0");
	cr_expect(devices.list[0].readonly);
	cr_expect_eq(devices.list[0].queues, 2);
	cr_expect_eq(devices.list[1].type, SLICE_DEVICE_NET);
	cr_expect_eq(devices.list[1].fd, 7);
	cr_expect_arr_eq(devices.list[1].mac, ((uint8_t[]){0x52, 0x54, 0, 0, 0, 1}), 6);
	cr_expect_eq(parse("[]"), 0);
	cr_expect_eq(devices.count, 0);
}

Test(slice_devices, all_else_is_refused)
{
	static const char *const bad[] = {
		"4",
		"{}",
		"[4]",
		"[{}]",
		"[" BLK(5) "]",
		"[" BLK(-1) "]",
		"[" BLK(4096) "]",
		"[" BLK(6.5) "]",
		"[" BLK(6) "," NET(6) "]",
		"[" BLK(6) "," BLK(7) "]",
		"[{\"type\":\"usb\",\"id\":\"a\",\"fd\":6}]",
		"[{\"type\":\"blk\",\"id\":\"a\",\"fd\":6,\"readonly\":true,\"queues\":0}]",
		"[{\"type\":\"blk\",\"id\":\"a\",\"fd\":6,\"readonly\":true,\"queues\":5}]",
		"[{\"type\":\"blk\",\"id\":\"a\",\"fd\":6,\"queues\":1}]",
		"[{\"type\":\"blk\",\"id\":\"../a\",\"fd\":6,\"readonly\":true,\"queues\":1}]",
		"[{\"type\":\"net\",\"id\":\"a\",\"fd\":6}]",
		"[{\"type\":\"net\",\"id\":\"a\",\"fd\":6,\"mac\":\"ff:ff:ff:ff:ff:ff\"}]"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_expect_eq(parse(bad[i]), -PANGEA_ECONTROL, "%s", bad[i]);
		cr_expect(why[0], "%s", bad[i]);
	}
}

Test(slice_devices, no_more_than_a_vm_has)
{
	json_t *msg = json_pack("{s:[]}", "devices");
	char id[16];

	for (int i = 0; i <= SLICE_DEVICES_MAX; i++) {
		snprintf(id, sizeof(id), "disk%d", i);
		cr_expect_eq(slice_devices_parse(msg, &devices, why), 0, "%s", why);
		cr_expect_eq(devices.count, i);
		json_array_append_new(json_object_get(msg, "devices"),
				      json_pack("{s:s, s:s, s:b, s:i, s:i}", "type", "blk", "id",
						id, "readonly", 0, "queues", 1, "fd", 6 + i));
	}
	cr_expect_eq(slice_devices_parse(msg, &devices, why), -PANGEA_ECONTROL);
	json_decref(msg);
}
