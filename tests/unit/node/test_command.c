/* SPDX-License-Identifier: Apache-2.0 */
/* The command lines of back ends: what each word is, and that nothing that people name is in them. */
#include <criterion/criterion.h>
#include <string.h>

#include "node/node_devices.h"

static struct node_device device;
static struct node_command command;

static void make(enum control_device_type type, unsigned queues)
{
	device.what.type = type;
	strcpy(device.program, "/usr/bin/program");
	strcpy(device.what.path, "/srv/secret,name");
	strcpy(device.what.id, "disk0");
	cr_assert_eq(node_command_make(&device, queues, &command), 0);
	cr_expect_str_eq(command.word[0], "/usr/bin/program");
	cr_expect_null(command.word[command.count]);
	for (unsigned i = 1; i < command.count; i++)
		cr_expect_null(strstr(command.word[i], "secret"), "%s", command.word[i]);
}

static json_t *blockdev(unsigned i)
{
	json_t *node = json_loads(command.word[2 + 2 * i], 0, NULL);

	cr_assert_str_eq(command.word[1 + 2 * i], "--blockdev");
	cr_assert(node, "%s", command.word[2 + 2 * i]);
	return node;
}

static void expect_text(unsigned i, const char *key, const char *value)
{
	json_t *node = blockdev(i), *field = json_object_get(node, key);

	cr_expect(field, "%s", key);
	if (value)
		cr_expect_str_eq(json_string_value(field), value);
	else
		cr_expect(json_is_null(field));
	json_decref(node);
}

static void expect_readonly(unsigned i, bool wanted)
{
	json_t *node = blockdev(i);

	cr_expect_eq(json_is_true(json_object_get(node, "read-only")), wanted, "%u", i);
	json_decref(node);
}

/* The folder is a number, too. */
Test(command, a_folder)
{
	static const char *const words[] = {
		"--fd=3", "--rlimit-nofile=0",	      "-o", "sandbox=chroot",
		"-o",	  "source=/proc/self/fd/4/.", "-o", "log_level=warn"};

	memset(&device, 0, sizeof(device));
	make(CONTROL_DEVICE_FS, 1);
	cr_assert_eq(command.count, 1 + sizeof(words) / sizeof(words[0]));
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		cr_expect_str_eq(command.word[1 + i], words[i]);
	node_command_free(&command);
}

Test(command, a_raw_disk)
{
	memset(&device, 0, sizeof(device));
	device.disk.layers = 1;
	make(CONTROL_DEVICE_BLK, 3);
	cr_assert_eq(command.count, 7);
	expect_text(0, "driver", "file");
	expect_text(0, "filename", "/proc/self/fd/4");
	expect_text(1, "driver", "raw");
	expect_text(1, "file", "file0");
	expect_readonly(0, false);
	expect_readonly(1, false);
	cr_expect_str_eq(command.word[5], "--export");
	cr_expect_str_eq(command.word[6],
			 "type=vhost-user-blk,id=disk,node-name=layer0,writable=on,num-queues=3,"
			 "addr.type=fd,addr.str=3");
	node_command_free(&command);
}

/* From the bottom upwards; only the uppermost is written, and no image names the next one. */
Test(command, images_that_stand_on_each_other)
{
	memset(&device, 0, sizeof(device));
	device.disk.layers = 3;
	device.disk.layer[0].qcow2 = device.disk.layer[1].qcow2 = true;
	make(CONTROL_DEVICE_BLK, 1);
	cr_assert_eq(command.count, 15);
	expect_text(0, "filename", "/proc/self/fd/6");
	expect_text(1, "driver", "raw");
	expect_text(3, "driver", "qcow2");
	expect_text(3, "backing", "layer2");
	expect_text(5, "backing", "layer1");
	for (unsigned i = 0; i < 6; i++)
		expect_readonly(i, i < 4);
	node_command_free(&command);
	device.disk.layers = 1;
	device.what.readonly = true;
	make(CONTROL_DEVICE_BLK, 1);
	expect_text(1, "backing", NULL);
	expect_readonly(1, true);
	cr_expect(strstr(command.word[6], "writable=off"));
	node_command_free(&command);
}

Test(command, the_deepest_chain_has_room)
{
	memset(&device, 0, sizeof(device));
	device.disk.layers = NODE_LAYERS_MAX;
	for (unsigned i = 0; i < NODE_LAYERS_MAX; i++)
		device.disk.layer[i].qcow2 = true;
	make(CONTROL_DEVICE_BLK, 4);
	node_command_free(&command);
}

Test(command, a_network)
{
	static const char *const words[] = {"--foreground",
					    "--quiet",
					    "--fd",
					    "3",
					    "--no-map-gw",
					    "--tcp-ports",
					    "192.0.2.1/8080:80",
					    "--tcp-ports",
					    "fd00::1/22:2222",
					    "--udp-ports",
					    "none"};
	static const char *const loopback[] = {"127.0.0.1", "127.1.2.3", "0.0.0.0", "::1", "::"};

	memset(&device, 0, sizeof(device));
	device.what.forwards = 2;
	device.what.forward[0] = (struct control_forward){"192.0.2.1", 8080, 80};
	device.what.forward[1] = (struct control_forward){"fd00::1", 22, 2222};
	make(CONTROL_DEVICE_NET, 1);
	cr_assert_eq(command.count, 1 + sizeof(words) / sizeof(words[0]));
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		cr_expect_str_eq(command.word[1 + i], words[i]);
	node_command_free(&command);
	/* Callers from the node's loopback need the gateway's address. */
	for (unsigned i = 0; i < sizeof(loopback) / sizeof(loopback[0]); i++) {
		strcpy(device.what.forward[1].host, loopback[i]);
		make(CONTROL_DEVICE_NET, 1);
		for (unsigned w = 1; w < command.count; w++)
			cr_expect_str_neq(command.word[w], "--no-map-gw");
		node_command_free(&command);
	}
}

Test(command, queues)
{
	cr_expect_eq(node_queues(1), 1);
	cr_expect_eq(node_queues(4), 4);
	cr_expect_eq(node_queues(64), 4);
}
