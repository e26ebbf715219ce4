/* SPDX-License-Identifier: Apache-2.0 */
/* Disks and networks as they are written and as they travel: what is good comes through, all else is refused. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "control/control.h"
#include "control/devices.h"

static struct control_devices devices;
static char why[CONTROL_WHY_MAX];

static const struct control_device *disk(const char *text)
{
	memset(&devices, 0, sizeof(devices));
	cr_assert_eq(control_disk_parse(text, &devices, why), 0, "%s: %s", text, why);
	cr_assert_eq(devices.count, 1);
	return &devices.list[0];
}

static const struct control_device *net(const char *text)
{
	memset(&devices, 0, sizeof(devices));
	cr_assert_eq(control_net_parse(text, &devices, why), 0, "%s: %s", text, why);
	cr_assert_eq(devices.count, 1);
	return &devices.list[0];
}

Test(devices, a_seed_has_no_path_and_is_alone)
{
	static const char *const bad[] = {
		"[{\"type\":\"blk\",\"seed\":false}]",
		"[{\"type\":\"blk\",\"seed\":1}]",
		"[{\"type\":\"blk\",\"seed\":true},{\"type\":\"blk\",\"seed\":true}]",
	};
	struct control_devices back;
	json_t *msg;

	memset(&devices, 0, sizeof(devices));
	cr_expect_not(control_seed_wanted(&devices));
	cr_assert_eq(control_seed_add(&devices, why), 0);
	cr_expect_eq(control_seed_add(&devices, why), -EINVAL, "one is enough");
	cr_assert_eq(control_devices_complete(&devices, "vm1", why), 0);
	msg = json_pack("{s:o}", "devices", control_devices_json(&devices));
	cr_assert_eq(control_devices_get(msg, &back, why), 0, "%s", why);
	cr_expect(control_seed_wanted(&back));
	cr_expect(back.list[0].seed && back.list[0].readonly);
	cr_expect_str_eq(back.list[0].id, "seed");
	cr_expect_str_eq(back.list[0].path, "");
	json_decref(msg);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		msg = json_pack("{s:o}", "devices", json_loads(bad[i], 0, NULL));
		cr_expect_eq(control_devices_get(msg, &back, why), -PANGEA_ECONTROL, "%s", bad[i]);
		json_decref(msg);
	}
	devices.count = 0;
	while (devices.count < CONTROL_DISKS_MAX)
		cr_assert_eq(control_disk_parse("/a", &devices, why), 0, "%s", why);
	cr_expect_eq(control_seed_add(&devices, why), -EINVAL, "it is one of the disks");
}

Test(devices, a_disk_is_a_file)
{
	const struct control_device *d = disk("/srv/a.img");

	cr_expect_eq(d->type, CONTROL_DEVICE_BLK);
	cr_expect_str_eq(d->path, "/srv/a.img");
	cr_expect_eq(d->format, CONTROL_DISK_AUTO);
	cr_expect_not(d->readonly);
	cr_expect_not(d->direct);
	cr_expect_str_eq(d->id, "");
}

Test(devices, a_disks_words)
{
	const struct control_device *d =
		disk("/srv/a,,b c.img,format=qcow2,readonly,id=root,cache=none");

	cr_expect_str_eq(d->path, "/srv/a,b c.img");
	cr_expect_eq(d->format, CONTROL_DISK_QCOW2);
	cr_expect(d->readonly);
	cr_expect(d->direct);
	cr_expect_str_eq(d->id, "root");
	d = disk("/x,format=raw,cache=writeback");
	cr_expect_eq(d->format, CONTROL_DISK_RAW);
	cr_expect_not(d->direct);
	cr_expect_not(d->restart);
	cr_expect(disk("/x,on-error=restart")->restart);
	cr_expect_not(disk("/x,on-error=report")->restart);
}

Test(devices, a_taps_words)
{
	static const char *const bad[] = {"tap",
					  "tap,ifname=",
					  "tap,ifname=a/b",
					  "tap,ifname=..",
					  "tap,ifname=abcdefghijklmnop",
					  "tap,ifname=t,forward=1:1",
					  "user,ifname=t"};

	memset(&devices, 0, sizeof(devices));
	cr_assert_eq(control_net_parse("tap,ifname=br0.tap-1,id=lan", &devices, why), 0, "%s", why);
	cr_expect_str_eq(devices.list[0].ifname, "br0.tap-1");
	cr_expect_eq(devices.list[0].type, CONTROL_DEVICE_NET);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&devices, 0, sizeof(devices));
		cr_expect_eq(control_net_parse(bad[i], &devices, why), -EINVAL, "%s", bad[i]);
		cr_expect_eq(devices.count, 0);
	}
}

Test(devices, a_folders_words)
{
	static const char *const bad[] = {"",
					  "/a",
					  "a,tag=t",
					  "/a,tag=",
					  "/a,tag=-t",
					  "/a,tag=a/b",
					  "/a,tag=t,x",
					  "/a,tag=t,id=A",
					  "/a,tag=t,cache=none",
					  "/a,tag=ttttttttttttttttttttttttttttttttttttt"};
	const struct control_device *d = &devices.list[0];

	memset(&devices, 0, sizeof(devices));
	cr_assert_eq(control_fs_parse("/srv/a,,b,tag=Home_1.x-y,readonly,id=home", &devices, why),
		     0, "%s", why);
	cr_expect_eq(d->type, CONTROL_DEVICE_FS);
	cr_expect_str_eq(d->path, "/srv/a,b");
	cr_expect_str_eq(d->tag, "Home_1.x-y");
	cr_expect(d->readonly);
	cr_expect_str_eq(d->id, "home");
	cr_expect_eq(control_fs_parse("/c,tag=Home_1.x-y", &devices, why), -EINVAL);
	cr_expect(strstr(why, "two folders"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&devices, 0, sizeof(devices));
		cr_expect_eq(control_fs_parse(bad[i], &devices, why), -EINVAL, "%s", bad[i]);
		cr_expect_eq(devices.count, 0);
	}
}

Test(devices, a_disk_that_is_none)
{
	static const char *const bad[] = {"",
					  "a.img",
					  "/a,format=vmdk",
					  "/a,format=",
					  "/a,format=auto",
					  "/a,readonly=no",
					  "/a,id=",
					  "/a,id=-x",
					  "/a,id=A",
					  "/a,id=abcdefghijklmnopqrstuvwxyz012345",
					  "/a,cache=unsafe",
					  "/a,on-error=hope",
					  "/a,",
					  "/a,bogus",
					  "/a,b.img",
					  "/a\nb"};
	char longest[CONTROL_DISK_PATH_MAX + 1];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&devices, 0, sizeof(devices));
		why[0] = 0;
		cr_expect_eq(control_disk_parse(bad[i], &devices, why), -EINVAL, "%s", bad[i]);
		cr_expect(why[0]);
		cr_expect_eq(devices.count, 0);
	}
	memset(longest, '/', sizeof(longest));
	longest[CONTROL_DISK_PATH_MAX - 1] = 0;
	disk(longest);
	longest[CONTROL_DISK_PATH_MAX - 1] = '/';
	longest[CONTROL_DISK_PATH_MAX] = 0;
	cr_expect_eq(control_disk_parse(longest, &devices, why), -EINVAL);
}

Test(devices, a_network)
{
	const struct control_device *d = net("user");

	cr_expect_eq(d->type, CONTROL_DEVICE_NET);
	cr_expect_eq(d->forwards, 0);
	cr_expect_not(d->mac_known);
	d = net("user,forward=8080:80,forward=192.0.2.1:22:2222,forward=[::1]:443:443,mac=52:54:"
		"00:Aa:bB:01,id=lan");
	cr_expect_eq(d->forwards, 3);
	cr_expect_str_eq(d->forward[0].host, "127.0.0.1");
	cr_expect_eq(d->forward[0].port, 8080);
	cr_expect_eq(d->forward[0].guest_port, 80);
	cr_expect_str_eq(d->forward[1].host, "192.0.2.1");
	cr_expect_eq(d->forward[1].port, 22);
	cr_expect_eq(d->forward[1].guest_port, 2222);
	cr_expect_str_eq(d->forward[2].host, "::1");
	cr_expect(d->mac_known);
	cr_expect_arr_eq(d->mac, ((uint8_t[]){0x52, 0x54, 0, 0xaa, 0xbb, 1}), 6);
	cr_expect_str_eq(d->id, "lan");
	memset(&devices, 0, sizeof(devices));
	cr_expect_eq(control_net_parse("none", &devices, why), 0);
	cr_expect_eq(devices.count, 0);
}

Test(devices, a_network_that_is_none)
{
	static const char *const bad[] = {"",
					  "tap",
					  "none,id=x",
					  "user,",
					  "user,forward=80",
					  "user,forward=0:80",
					  "user,forward=80:65536",
					  "user,forward=host:80:80",
					  "user,forward=::1:80:80",
					  "user,forward=[127.0.0.1]:80:80",
					  "user,forward=:80:80",
					  "user,forward=80:80 -t all",
					  "user,mac=52:54:00:12:34",
					  "user,mac=52-54-00-12-34-56",
					  "user,mac=01:00:5e:00:00:01",
					  "user,mac=00:00:00:00:00:00",
					  "user,mac=52:54:00:12:34:5g",
					  "user,readonly"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&devices, 0, sizeof(devices));
		why[0] = 0;
		cr_expect_eq(control_net_parse(bad[i], &devices, why), -EINVAL, "%s", bad[i]);
		cr_expect(why[0]);
		cr_expect_eq(devices.count, 0);
	}
}

Test(devices, on_a_slice_or_a_node)
{
	static const char *const bad[] = {"/a,node=",	"/a,node=64",
					  "/a,node=-1", "/a,node=-x",
					  "/a,node=A",	"/a,node=00000000000000000064"};
	const struct control_device *d = disk("/a");

	cr_expect_eq(d->slice, 0);
	cr_expect_str_eq(d->node, "");
	d = disk("/a,node=63,readonly");
	cr_expect_eq(d->slice, 63);
	cr_expect_str_eq(d->node, "");
	d = net("user,node=node1");
	cr_expect_str_eq(d->node, "node1");
	d = net("user,node=node1,node=2");
	cr_expect_eq(d->slice, 2);
	cr_expect_str_eq(d->node, "", "the last one counts");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&devices, 0, sizeof(devices));
		cr_expect_eq(control_disk_parse(bad[i], &devices, why), -EINVAL, "%s", bad[i]);
		cr_expect(strstr(why, "node="), "%s", why);
	}
}

Test(devices, as_many_as_may_be_and_no_more)
{
	memset(&devices, 0, sizeof(devices));
	for (int i = 0; i < CONTROL_DISKS_MAX; i++)
		cr_assert_eq(control_disk_parse("/a", &devices, why), 0);
	cr_expect_eq(control_disk_parse("/a", &devices, why), -EINVAL);
	for (int i = 0; i < CONTROL_NETS_MAX; i++)
		cr_assert_eq(control_net_parse("user", &devices, why), 0);
	cr_expect_eq(control_net_parse("user", &devices, why), -EINVAL);
	for (int i = 0; i < CONTROL_FOLDERS_MAX; i++) {
		char text[] = "/a,tag=t0";

		text[8] = (char)('0' + i);
		cr_assert_eq(control_fs_parse(text, &devices, why), 0);
	}
	cr_expect_eq(control_fs_parse("/a,tag=x", &devices, why), -EINVAL);
	cr_expect_eq(devices.count, CONTROL_DEVICES_MAX);
	memset(&devices, 0, sizeof(devices));
	cr_expect_eq(
		control_net_parse("user,forward=1:1,forward=2:1,forward=3:1,forward=4:1,"
				  "forward=5:1,forward=6:1,forward=7:1,forward=8:1,forward=9:1",
				  &devices, why),
		-EINVAL);
}

Test(devices, what_is_sent_is_what_arrives)
{
	struct control_devices back;
	json_t *msg, *again;

	memset(&devices, 0, sizeof(devices));
	cr_assert_eq(control_disk_parse("/srv/a,,\xc3\xa4.img,readonly,cache=none", &devices, why),
		     0);
	cr_assert_eq(control_disk_parse("/b,format=raw,on-error=restart,node=5", &devices, why), 0);
	cr_assert_eq(control_fs_parse("/c,tag=t,readonly,node=3", &devices, why), 0);
	cr_assert_eq(control_net_parse("tap,ifname=t0", &devices, why), 0);
	cr_assert_eq(control_net_parse("user,forward=[::1]:8080:80,forward=1:2,node=here", &devices,
				       why),
		     0);
	cr_assert_eq(control_devices_complete(&devices, "vm1", why), 0);
	msg = json_pack("{s:o}", "devices", control_devices_json(&devices));
	cr_assert(msg);
	cr_assert_eq(control_devices_get(msg, &back, why), 0, "%s", why);
	cr_expect_eq(back.count, 5);
	again = json_pack("{s:o}", "devices", control_devices_json(&back));
	cr_expect(json_equal(again, msg));
	json_decref(again);
	cr_expect_str_eq(back.list[0].path, "/srv/a,\xc3\xa4.img");
	cr_expect(back.list[0].readonly && back.list[0].direct);
	cr_expect_eq(back.list[1].format, CONTROL_DISK_RAW);
	cr_expect(back.list[1].restart && !back.list[0].restart);
	cr_expect_eq(back.list[1].slice, 5);
	cr_expect_str_eq(back.list[2].tag, "t");
	cr_expect_eq(back.list[2].slice, 3);
	cr_expect_str_eq(back.list[3].ifname, "t0");
	cr_expect_str_eq(back.list[4].node, "here");
	cr_expect_eq(back.list[4].forward[1].guest_port, 2);
	json_decref(msg);
}

Test(devices, none_is_no_error)
{
	json_t *msg = json_object();

	cr_expect_eq(control_devices_get(msg, &devices, why), 0);
	cr_expect_eq(devices.count, 0);
	json_decref(msg);
}

Test(devices, nothing_of_a_message_is_trusted)
{
#define BLK "\"type\":\"blk\",\"id\":\"a\",\"format\":\"raw\",\"readonly\":true,\"direct\":false"
#define NET "\"type\":\"net\",\"id\":\"a\""
	static const char *const bad[] = {
		"4",
		"{}",
		"[4]",
		"[{}]",
		"[{\"type\":\"usb\"}]",
		"[{" BLK "}]",
		"[{" BLK ",\"path\":\"a\"}]",
		"[{" BLK ",\"path\":\"/a\\u0001\"}]",
		"[{" BLK ",\"path\":4}]",
		"[{\"type\":\"blk\",\"path\":\"/a\",\"format\":\"x\",\"readonly\":true,\"direct\":"
		"false}]",
		"[{\"type\":\"blk\",\"path\":\"/a\",\"format\":\"raw\",\"direct\":false}]",
		"[{\"type\":\"blk\",\"id\":\"a b\",\"path\":\"/a\",\"format\":\"raw\",\"readonly\":"
		"true,\"direct\":false}]",
		"[{" BLK ",\"path\":\"/a\",\"node\":64}]",
		"[{" BLK ",\"path\":\"/a\",\"node\":-1}]",
		"[{" BLK ",\"path\":\"/a\",\"node\":true}]",
		"[{" BLK ",\"path\":\"/a\",\"node\":\"No\"}]",
		"[{" NET "}]",
		"[{" NET ",\"forward\":4}]",
		"[{" NET ",\"forward\":[4]}]",
		"[{" NET ",\"forward\":[{\"host\":\"x\",\"port\":1,\"guest_port\":1}]}]",
		"[{" NET ",\"forward\":[{\"host\":\"::1\",\"port\":0,\"guest_port\":1}]}]",
		"[{" NET ",\"forward\":[{\"host\":\"::1\",\"port\":1,\"guest_port\":65536}]}]",
		"[{" NET ",\"forward\":[],\"mac\":\"x\"}]",
		"[{" NET ",\"forward\":[],\"mac\":4}]"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *msg = json_object();

		json_object_set_new(msg, "devices", json_loads(bad[i], JSON_DECODE_ANY, NULL));
		cr_assert(json_object_get(msg, "devices"), "%s", bad[i]);
		why[0] = 0;
		cr_expect_eq(control_devices_get(msg, &devices, why), -PANGEA_ECONTROL, "%s",
			     bad[i]);
		cr_expect(why[0]);
		json_decref(msg);
	}
}

/* 12 may be there, but not 9 disks. */
Test(devices, too_many_of_a_kind)
{
	json_t *msg = json_pack("{s:[]}", "devices");

	for (int i = 0; i < CONTROL_DISKS_MAX + 1; i++)
		json_array_append_new(json_object_get(msg, "devices"),
				      json_pack("{s:s, s:s, s:s, s:b, s:b}", "type", "blk", "path",
						"/a", "format", "raw", "readonly", 1, "direct", 0));
	cr_expect_eq(control_devices_get(msg, &devices, why), -PANGEA_ECONTROL);
	json_array_remove(json_object_get(msg, "devices"), 0);
	cr_expect_eq(control_devices_get(msg, &devices, why), 0, "%s", why);
	json_decref(msg);
}

Test(devices, names_and_addresses_are_given)
{
	struct control_devices again;

	memset(&devices, 0, sizeof(devices));
	control_net_parse("user", &devices, why);
	control_disk_parse("/a", &devices, why);
	control_disk_parse("/b,id=data", &devices, why);
	control_disk_parse("/c", &devices, why);
	control_net_parse("user", &devices, why);
	again = devices;
	cr_assert_eq(control_devices_complete(&devices, "vm1", why), 0);
	cr_expect_str_eq(devices.list[0].id, "net0");
	cr_expect_str_eq(devices.list[1].id, "disk0");
	cr_expect_str_eq(devices.list[2].id, "data");
	cr_expect_str_eq(devices.list[3].id, "disk2");
	cr_expect_str_eq(devices.list[4].id, "net1");
	cr_expect_eq(devices.list[0].mac[0], 0x52);
	cr_expect_neq(memcmp(devices.list[0].mac, devices.list[4].mac, 6), 0);
	/* The same each time, and another for another VM. */
	cr_assert_eq(control_devices_complete(&again, "vm1", why), 0);
	cr_expect_arr_eq(again.list[0].mac, devices.list[0].mac, 6);
	again.list[0].mac_known = false;
	cr_assert_eq(control_devices_complete(&again, "vm2", why), 0);
	cr_expect_neq(memcmp(again.list[0].mac, devices.list[0].mac, 6), 0);
}

Test(devices, two_of_one_name)
{
	memset(&devices, 0, sizeof(devices));
	control_disk_parse("/a,id=disk1", &devices, why);
	control_disk_parse("/b", &devices, why);
	cr_expect_eq(control_devices_complete(&devices, "vm1", why), -EINVAL);
	cr_expect(strstr(why, "disk1"));
}

/* All that 64 VMs can have, in one list. */
Test(devices, the_longest_fit_into_a_message)
{
	char path[CONTROL_DISK_PATH_MAX];
	size_t len;
	json_t *list;

	memset(&devices, 0, sizeof(devices));
	memset(path, 'a', sizeof(path) - 1);
	path[0] = '/';
	path[sizeof(path) - 1] = 0;
	for (int i = 0; i < CONTROL_DISKS_MAX; i++)
		cr_assert_eq(control_disk_parse(path, &devices, why), 0, "%s", why);
	for (int i = 0; i < CONTROL_NETS_MAX; i++) {
		struct control_device *d = &devices.list[devices.count];

		cr_assert_eq(control_net_parse("user", &devices, why), 0);
		d->forwards = CONTROL_FORWARDS_MAX;
		for (unsigned f = 0; f < d->forwards; f++)
			d->forward[f] = (struct control_forward){
				"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535, 65535};
	}
	for (int i = 0; i < CONTROL_FOLDERS_MAX; i++) {
		struct control_device *d = &devices.list[devices.count++];

		d->type = CONTROL_DEVICE_FS;
		strcpy(d->path, path);
		memset(d->tag, 't', sizeof(d->tag) - 1);
	}
	cr_assert_eq(control_devices_complete(&devices, "vm1", why), 0);
	list = control_devices_json(&devices);
	len = json_dumpb(list, NULL, 0, JSON_COMPACT) + CONTROL_DEVICES_MAX * CONTROL_ENDED_MAX;
	cr_expect_leq(64 * len + 64 * 64 * 450, CONTROL_JSON_MAX);
	json_decref(list);
}
