/* SPDX-License-Identifier: Apache-2.0 */
/* A disk's files: which may be opened, by what name, in what format, and how long they are locked. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/node.h"
#include "tests/unit/node/image.h"

static char folder[64], allowed[80];
static struct node_options opts;
static struct node_disk disk, other;
static char why[CONTROL_WHY_MAX];

static void setup(void)
{
	strcpy(folder, "/tmp/pangea-disks-XXXXXX");
	cr_assert(mkdtemp(folder));
	snprintf(allowed, sizeof(allowed), "%s/disks", folder);
	cr_assert_eq(mkdir(allowed, 0700), 0);
	opts = (struct node_options){
		.name = "node0", .disk_dir = {"/nonexistent", allowed}, .disks = 2};
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	cr_expect_eq(system(command), 0);
}

/* A file below the test's folder. */
static void file_put(const char *name, const void *data, size_t len)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "w");
	cr_assert(file, "%s", path);
	cr_assert_eq(fwrite(data, 1, len, file), len);
	fclose(file);
}

static void image_file(const char *name, const char *backing, const char *driver)
{
	uint8_t image[IMAGE_BYTES];

	image_make(image, backing, driver);
	file_put(name, image, sizeof(image));
}

static int open_as(struct node_disk *out, const char *name, enum control_disk_format format,
		   bool readonly)
{
	struct control_device device = {.id = "disk0", .format = format, .readonly = readonly};
	int err;

	snprintf(device.path, sizeof(device.path), "%s%s%s", *name == '/' ? "" : folder,
		 *name == '/' ? "" : "/", name);
	why[0] = 0;
	err = node_disk_open(&opts, &device, out, why);
	cr_expect_eq(err != 0, why[0] != 0, "%s", why);
	cr_expect(!err || strncmp(why, "disk0: ", 7) == 0, "%s", why);
	cr_expect(!err || out->layers == 0);
	return err;
}

static void refused(const char *name, enum control_disk_format format, int err, const char *text)
{
	cr_expect_eq(open_as(&disk, name, format, false), err, "%s: %s", name, why);
	cr_expect(strstr(why, text), "%s", why);
}

TestSuite(disk, .init = setup, .fini = teardown);

Test(disk, raw_and_qcow2_are_told_apart)
{
	file_put("disks/a.img", "x", 1);
	file_put("disks/empty", "", 0);
	image_file("disks/a.qcow2", NULL, NULL);
	cr_assert_eq(open_as(&disk, "disks/a.img", CONTROL_DISK_AUTO, false), 0, "%s", why);
	cr_expect_eq(disk.layers, 1);
	cr_expect_not(disk.layer[0].qcow2);
	cr_expect_eq(disk.uid, getuid());
	node_disk_close(&disk);
	cr_assert_eq(open_as(&disk, "disks/empty", CONTROL_DISK_AUTO, false), 0, "%s", why);
	node_disk_close(&disk);
	cr_assert_eq(open_as(&disk, "disks/a.qcow2", CONTROL_DISK_AUTO, false), 0, "%s", why);
	cr_expect(disk.layer[0].qcow2);
	node_disk_close(&disk);
	cr_assert_eq(open_as(&disk, "disks/a.qcow2", CONTROL_DISK_RAW, false), 0, "%s", why);
	cr_expect_not(disk.layer[0].qcow2);
	node_disk_close(&disk);
	refused("disks/a.img", CONTROL_DISK_QCOW2, -EINVAL, "no qcow2 image");
}

Test(disk, files_elsewhere_are_refused)
{
	char link[256], target[256];

	file_put("outside.img", "x", 1);
	file_put("disks/inside.img", "x", 1);
	refused("outside.img", CONTROL_DISK_AUTO, -EACCES, "--disks FOLDER");
	refused("disks/../outside.img", CONTROL_DISK_AUTO, -EACCES,
		"no folder that node node0 allows");
	refused("/etc/passwd", CONTROL_DISK_AUTO, -EACCES, allowed);
	refused("disks/none.img", CONTROL_DISK_AUTO, -ENOENT, "there is no such file");
	refused("disks", CONTROL_DISK_AUTO, -EACCES, "allows");
	snprintf(link, sizeof(link), "%s/link.img", allowed);
	snprintf(target, sizeof(target), "%s/outside.img", folder);
	cr_assert_eq(symlink(target, link), 0);
	refused("disks/link.img", CONTROL_DISK_AUTO, -EACCES, "allows");
	/* A link from outside that leads to what is allowed is what it leads to. */
	snprintf(link, sizeof(link), "%s/in.img", folder);
	snprintf(target, sizeof(target), "%s/inside.img", allowed);
	cr_assert_eq(symlink(target, link), 0);
	cr_expect_eq(open_as(&disk, "in.img", CONTROL_DISK_AUTO, false), 0, "%s", why);
	node_disk_close(&disk);
	/* A folder whose name only begins like an allowed one. */
	snprintf(target, sizeof(target), "%s-not", allowed);
	cr_assert_eq(mkdir(target, 0700), 0);
	file_put("disks-not/a.img", "x", 1);
	refused("disks-not/a.img", CONTROL_DISK_AUTO, -EACCES, "allows");
	opts.disk_dir[0] = "/";
	cr_expect_eq(open_as(&disk, "outside.img", CONTROL_DISK_AUTO, false), 0, "%s", why);
	node_disk_close(&disk);
}

Test(disk, what_is_no_file_is_refused)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/fifo", allowed);
	cr_assert_eq(mkfifo(path, 0600), 0);
	refused("disks/fifo", CONTROL_DISK_AUTO, -EINVAL, "no regular file");
	snprintf(path, sizeof(path), "%s/folder", allowed);
	cr_assert_eq(mkdir(path, 0700), 0);
	cr_expect_lt(open_as(&disk, "disks/folder", CONTROL_DISK_AUTO, false), 0);
	cr_expect_eq(open_as(&disk, "disks/folder", CONTROL_DISK_AUTO, true), -EINVAL);
}

Test(disk, writers_are_alone)
{
	file_put("disks/a.img", "x", 1);
	cr_assert_eq(open_as(&disk, "disks/a.img", CONTROL_DISK_AUTO, false), 0, "%s", why);
	cr_expect_eq(open_as(&other, "disks/a.img", CONTROL_DISK_AUTO, false), -EBUSY);
	cr_expect(strstr(why, "in use"), "%s", why);
	cr_expect_eq(open_as(&other, "disks/a.img", CONTROL_DISK_AUTO, true), -EBUSY);
	node_disk_close(&disk);
	/* Readers share; and keep a writer out, as long as one of them has it. */
	cr_assert_eq(open_as(&disk, "disks/a.img", CONTROL_DISK_AUTO, true), 0, "%s", why);
	cr_assert_eq(open_as(&other, "disks/a.img", CONTROL_DISK_AUTO, true), 0, "%s", why);
	node_disk_close(&disk);
	refused("disks/a.img", CONTROL_DISK_AUTO, -EBUSY, "readonly");
	node_disk_close(&other);
	cr_assert_eq(open_as(&disk, "disks/a.img", CONTROL_DISK_AUTO, false), 0, "%s", why);
	node_disk_close(&disk);
}

/* A descriptor that somebody inherited keeps the lock: that is how a back end has it. */
Test(disk, the_lock_goes_with_the_descriptor)
{
	int copy;

	file_put("disks/a.img", "x", 1);
	cr_assert_eq(open_as(&disk, "disks/a.img", CONTROL_DISK_AUTO, false), 0, "%s", why);
	copy = dup(disk.layer[0].fd);
	node_disk_close(&disk);
	cr_expect_eq(open_as(&disk, "disks/a.img", CONTROL_DISK_AUTO, true), -EBUSY);
	close(copy);
	cr_assert_eq(open_as(&disk, "disks/a.img", CONTROL_DISK_AUTO, true), 0, "%s", why);
	node_disk_close(&disk);
}

Test(disk, images_stand_on_others)
{
	file_put("disks/base.img", "x", 1);
	image_file("disks/middle.qcow2", "base.img", "raw");
	image_file("disks/top.qcow2", "middle.qcow2", "qcow2");
	cr_assert_eq(open_as(&disk, "disks/top.qcow2", CONTROL_DISK_QCOW2, false), 0, "%s", why);
	cr_expect_eq(disk.layers, 3);
	cr_expect(disk.layer[0].qcow2 && disk.layer[1].qcow2 && !disk.layer[2].qcow2);
	/* What others stand on nobody may write; another may stand on it, too. */
	cr_expect_eq(open_as(&other, "disks/base.img", CONTROL_DISK_RAW, false), -EBUSY);
	image_file("disks/top2.qcow2", "middle.qcow2", "qcow2");
	cr_assert_eq(open_as(&other, "disks/top2.qcow2", CONTROL_DISK_QCOW2, false), 0, "%s", why);
	node_disk_close(&other);
	node_disk_close(&disk);
}

/* A guest with a raw disk can write a head whose image stands on whatever it likes. */
Test(disk, a_name_in_an_image_is_followed_only_if_that_was_asked_for)
{
	file_put("disks/other.img", "x", 1);
	image_file("disks/a.img", "other.img", "raw");
	refused("disks/a.img", CONTROL_DISK_AUTO, -EINVAL, "format=qcow2");
	cr_assert_eq(open_as(&disk, "disks/a.img", CONTROL_DISK_RAW, false), 0, "%s", why);
	cr_expect_eq(disk.layers, 1);
	node_disk_close(&disk);
	/* The same one level deeper. */
	image_file("disks/top.qcow2", "a.img", NULL);
	refused("disks/top.qcow2", CONTROL_DISK_QCOW2, -EINVAL, "rebase");
	image_file("disks/top.qcow2", "a.img", "raw");
	cr_assert_eq(open_as(&disk, "disks/top.qcow2", CONTROL_DISK_QCOW2, false), 0, "%s", why);
	cr_expect_eq(disk.layers, 2);
	node_disk_close(&disk);
}

Test(disk, images_that_lead_elsewhere_are_refused)
{
	static const struct {
		const char *backing, *driver;
		int err;
		const char *text;
	} bad[] = {
		{"../outside.img", "raw", -EACCES, "allows"},
		{"/etc/passwd", "raw", -EACCES, "allows"},
		{"none.img", "raw", -ENOENT, "no such file"},
		{"nbd://host/x", "raw", -ENOTSUP, "no file"},
		{"json:{\"driver\":\"raw\"}", "raw", -ENOTSUP, "no file"},
		{"a.img", "vmdk", -ENOTSUP, "vmdk"},
		{"a.img", "qcow2", -EINVAL, "no qcow2"},
	};
	uint8_t image[IMAGE_BYTES];

	file_put("outside.img", "x", 1);
	file_put("disks/a.img", "x", 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		image_file("disks/top.qcow2", bad[i].backing, bad[i].driver);
		refused("disks/top.qcow2", CONTROL_DISK_QCOW2, bad[i].err, bad[i].text);
	}
	image_make(image, NULL, NULL);
	image_put(image + 72, 4, 8);
	file_put("disks/top.qcow2", image, sizeof(image));
	refused("disks/top.qcow2", CONTROL_DISK_AUTO, -ENOTSUP, "in another file");
	image_put(image + 4, 9, 4);
	file_put("disks/top.qcow2", image, sizeof(image));
	refused("disks/top.qcow2", CONTROL_DISK_AUTO, -EINVAL, "broken");
	/* The name lies behind the file's end. */
	image_make(image, "a.img", "raw");
	file_put("disks/top.qcow2", image, 512);
	refused("disks/top.qcow2", CONTROL_DISK_QCOW2, -EINVAL, "broken");
}

Test(disk, a_ring_of_images_ends)
{
	image_file("disks/a.qcow2", "b.qcow2", "qcow2");
	image_file("disks/b.qcow2", "a.qcow2", "qcow2");
	cr_expect_eq(open_as(&disk, "disks/a.qcow2", CONTROL_DISK_QCOW2, true), -ELOOP, "%s", why);
	cr_expect_eq(open_as(&disk, "disks/a.qcow2", CONTROL_DISK_QCOW2, false), -EBUSY, "%s", why);
}
