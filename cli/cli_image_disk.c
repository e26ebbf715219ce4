/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of an image and its partitions. What a qcow2 image names is never followed. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/image.h"
#include "control/devices.h"

#define SFDISK_S    20
#define UNPACK_S    3600
#define QCOW2_BYTES 104 /* of a head of version 3 */
/* A bit of its incompatible features: the contents lie in another file. */
#define QCOW2_DATA_FILE UINT64_C(4)

static uint64_t be64(const uint8_t *at)
{
	uint64_t value = 0;

	for (int i = 0; i < 8; i++)
		value = value << 8 | at[i];
	return value;
}

static int file_open(struct image_disk *disk, uint64_t *file_bytes)
{
	struct flock lock = {
		.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = CONTROL_DISK_LOCK, .l_len = 1};
	struct stat st;

	disk->fd = open(disk->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (disk->fd < 0) {
		cli_say("cannot open %s: %s", disk->path, error_text(-errno));
		return EXIT_IMAGE;
	}
	if (fstat(disk->fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
		cli_say("%s is no regular file, or empty", disk->path);
		return EXIT_IMAGE;
	}
	*file_bytes = (uint64_t)st.st_size;
	if (fcntl(disk->fd, F_OFD_SETLK, &lock) < 0 && (errno == EAGAIN || errno == EACCES)) {
		cli_say("%s is in use by a VM that runs: stop that VM first", disk->path);
		return EXIT_IMAGE;
	}
	return 0;
}

static int refuse(const struct image_disk *disk, const char *why)
{
	cli_say("%s %s", disk->path, why);
	return EXIT_IMAGE;
}

/* A nameless file; -errno. */
static int nameless_make(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char path[STATE_PATH_MAX];

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
		return fd >= 0 ? fd : -errno;
	if (snprintf(path, sizeof(path), "%s/.pangea-image-XXXXXX", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

/* The image by number, alone: no name in it is followed. */
static int unpack_run(const struct image_disk *disk, int out, uint64_t bytes)
{
	static const char source[] =
		"json:{\"driver\":\"qcow2\",\"backing\":null,\"file\":{\"driver\":\"file\","
		"\"filename\":\"/proc/self/fd/3\",\"read-only\":true}}";
	const char *words[] = {"qemu-img", "convert", "-n",   "--target-is-zero",
			       "-O",	   "raw",     source, "/proc/self/fd/4",
			       NULL,	   NULL};
	struct tool tool = {.words = words,
			    .in_fd = disk->fd,
			    .out_fd = out,
			    .stdout_fd = -1,
			    .bytes_max = bytes,
			    .timeout_s = UNPACK_S};
	int err;

	if (isatty(STDERR_FILENO)) {
		tool.stdout_fd = STDERR_FILENO;
		words[8] = words[7];
		words[7] = words[6];
		words[6] = "-p";
	}
	err = tool_run(&tool);
	free(tool.said);
	return err ? tool_blame(&tool, err, "qemu-utils") : 0;
}

/* A qcow2 image's contents take its file's place. */
static int unpack(struct image_disk *disk, const uint8_t *head, const char *dir)
{
	bool newer = head[7] >= 3;
	int out, code;

	disk->bytes = be64(head + 24);
	if (be64(head + 8))
		return refuse(disk, "stands on another image: name that one, or make one of both "
				    "with qemu-img convert -O qcow2");
	if (newer && (be64(head + 72) & QCOW2_DATA_FILE))
		return refuse(disk, "keeps its contents in another file: convert it with qemu-img "
				    "convert -O qcow2");
	if (!disk->bytes || disk->bytes > IMAGE_UNPACKED_MAX)
		return refuse(disk, "is larger than the 256 GiB that are unpacked: convert it with "
				    "qemu-img convert -O raw");
	out = nameless_make(dir);
	if (out < 0 || ftruncate(out, (off_t)disk->bytes) < 0) {
		cli_say("cannot write in %s: %s", dir, error_text(out < 0 ? out : -errno));
		if (out >= 0)
			close(out);
		return EXIT_ERROR;
	}
	cli_say("unpacking %s", disk->path);
	code = unpack_run(disk, out, disk->bytes);
	close(disk->fd);
	disk->fd = out;
	return code;
}

/* The image is a file system itself: known by its first bytes. */
static bool whole_find(struct image_disk *disk)
{
	uint8_t head[2048];
	ssize_t n = pread(disk->fd, head, sizeof(head), 0);

	if (n < (ssize_t)sizeof(head) || strcmp(image_magic(head, (size_t)n), "ext") != 0)
		return false;
	disk->parts = 1;
	disk->part[0] = (struct image_part){.bytes = disk->bytes};
	return true;
}

static int parts_find(struct image_disk *disk)
{
	static const char *const words[] = {"sfdisk", "--json", "/proc/self/fd/3", NULL};
	struct tool tool = {.words = words,
			    .in_fd = disk->fd,
			    .out_fd = -1,
			    .stdout_fd = -1,
			    .bytes_max = IMAGE_LISTING_MAX,
			    .timeout_s = SFDISK_S};
	int err, count;

	if (whole_find(disk))
		return 0;
	err = tool_run(&tool);
	if (err == -EIO)
		return refuse(disk, "has neither an ext4 file system nor a table of partitions "
				    "that sfdisk knows");
	if (err)
		return tool_blame(&tool, err, "fdisk");
	count = image_parts_parse(tool.said, tool.said_bytes, disk->bytes, disk->part);
	free(tool.said);
	if (count <= 0)
		return refuse(disk, "has no partition that lies within it");
	disk->parts = (unsigned)count;
	return 0;
}

int image_disk_open(struct image_disk *disk, const char *path, const char *dir)
{
	uint8_t head[QCOW2_BYTES] = {0};
	uint64_t file_bytes = 0;
	int code;

	*disk = (struct image_disk){.path = path, .fd = -1};
	code = file_open(disk, &file_bytes);
	if (!code && pread(disk->fd, head, sizeof(head), 0) < 0) {
		cli_say("cannot read %s: %s", path, error_text(-errno));
		code = EXIT_IMAGE;
	}
	disk->bytes = file_bytes;
	if (!code && memcmp(head, "QFI\xfb", 4) == 0)
		code = unpack(disk, head, dir);
	if (!code && disk->bytes > IMAGE_VIRTUAL_MAX)
		code = refuse(disk, "is larger than any disk");
	if (!code)
		code = parts_find(disk);
	if (code)
		image_disk_close(disk);
	return code;
}

void image_disk_close(struct image_disk *disk)
{
	if (disk->fd >= 0)
		close(disk->fd);
	disk->fd = -1;
}
