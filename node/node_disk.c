/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of a disk: an image, and the images it stands on. The daemon opens them, so that the program that serves
 * the disk gets descriptors and never a name: neither a guest that wrote a name into its image nor who renames files
 * meanwhile leads it elsewhere.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "node/node.h"

struct opening {
	const struct node_options *opts;
	const struct control_device *device;
	struct node_disk *disk;
	char *why;
};

static int refuse(const struct opening *o, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(const struct opening *o, int err, const char *fmt, ...)
{
	int used = snprintf(o->why, CONTROL_WHY_MAX, "%s: ", o->device->id);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(o->why + used, CONTROL_WHY_MAX - (size_t)used, fmt, ap);
	va_end(ap);
	return err;
}

static bool below(const char *path, const char *folder)
{
	size_t len = strlen(folder);

	return strcmp(folder, "/") == 0 || (strncmp(path, folder, len) == 0 && path[len] == '/');
}

/* A real path lies in one of the daemon's folders. */
static bool allowed(const struct node_options *opts, const char *path)
{
	char folder[PATH_MAX];

	for (unsigned i = 0; i < opts->disks; i++)
		if (realpath(opts->disk_dir[i], folder) && below(path, folder))
			return true;
	return false;
}

/* What to put a file below. */
static void folders_text(const struct node_options *opts, char *out, size_t size)
{
	size_t used = 0;

	out[0] = 0;
	for (unsigned i = 0; i < opts->disks && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%.80s", i ? ", " : "",
					 opts->disk_dir[i]);
}

/* Where a name leads; it must be allowed. */
static int path_find(const struct opening *o, const char *name, char real[PATH_MAX])
{
	char folders[160];
	int err;

	if (!realpath(name, real)) {
		err = -errno;
		return refuse(o, err, "%.200s on node %s: %s", name, o->opts->name,
			      err == -ENOENT ? "there is no such file" : error_text(err));
	}
	if (allowed(o->opts, real))
		return 0;
	folders_text(o->opts, folders, sizeof(folders));
	return refuse(o, -EACCES,
		      "%.120s is in no folder that node %s allows for disks (%s): put it there, or "
		      "start pangead there with --disks FOLDER",
		      real, o->opts->name, folders);
}

/* The file that was opened is the one that was looked at. */
static bool same_path(int fd, const char *real)
{
	char link[32], now[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, now, sizeof(now) - 1);
	if (n < 0)
		return false;
	now[n] = 0;
	return strcmp(now, real) == 0;
}

static int file_open(const struct opening *o, const char *real, bool writable, int *out)
{
	int flags = writable ? O_RDWR : O_RDONLY;
	struct stat st;
	int fd = open(real, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY), err;

	if (fd < 0) {
		err = -errno;
		return refuse(o, err, "%.200s: %s%s", real, error_text(err),
			      writable && (err == -EACCES || err == -EROFS)
				      ? ": attach it with readonly, or let it be written"
				      : "");
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !same_path(fd, real)) {
		close(fd);
		return refuse(o, -EINVAL, "%.200s is no regular file", real);
	}
	*out = fd;
	return 0;
}

static int file_lock(const struct opening *o, const char *real, int fd, bool writable)
{
	struct flock lock = {.l_type = writable ? F_WRLCK : F_RDLCK,
			     .l_whence = SEEK_SET,
			     .l_start = CONTROL_DISK_LOCK,
			     .l_len = 1};
	int err;

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	err = -errno;
	if (err == -EAGAIN || err == -EACCES)
		return refuse(o, -EBUSY,
			      "%.160s is in use by another disk of a VM that runs: stop that VM "
			      "first; only disks that all attach with readonly can share a file",
			      real);
	return refuse(o, err, "%.200s cannot be locked: %s", real, error_text(err));
}

/* Reads the head of the file; an image whose contents lie elsewhere is refused. */
static int head_read(const struct opening *o, const char *real, int fd, struct qcow2_head *head)
{
	uint8_t bytes[QCOW2_HEAD_BYTES];
	ssize_t n = pread(fd, bytes, sizeof(bytes), 0);
	int err;

	if (n < 0) {
		err = -errno;
		return refuse(o, err, "%.200s cannot be read: %s", real, error_text(err));
	}
	err = qcow2_head_parse(bytes, (size_t)n, head);
	if (err)
		return refuse(o, err, "%.200s is a broken qcow2 image: its head makes no sense",
			      real);
	if (head->qcow2 && head->data_file)
		return refuse(o, -ENOTSUP,
			      "%.160s keeps its contents in another file: convert it with "
			      "qemu-img convert -O qcow2",
			      real);
	return 0;
}

/*
 * Whether the image is qcow2. What stands on nothing else may be found out by looking. A name in an image is
 * followed only if somebody says that it is one: a guest with a raw disk can write such a head itself.
 */
static int format_take(const struct opening *o, const char *real, struct qcow2_head *head)
{
	switch (o->device->format) {
	case CONTROL_DISK_RAW:
		memset(head, 0, sizeof(*head));
		return 0;
	case CONTROL_DISK_QCOW2:
		return head->qcow2 ? 0 : refuse(o, -EINVAL, "%.200s is no qcow2 image", real);
	case CONTROL_DISK_AUTO:
		break;
	}
	if (!head->qcow2 || !head->backing_offset)
		return 0;
	return refuse(o, -EINVAL,
		      "%.140s begins as a qcow2 image that stands on another file: say "
		      "format=qcow2 if it is one (a guest could have written that itself), else "
		      "format=raw",
		      real);
}

/* The format of what an image stands on, as the image says it. */
static int backing_format_take(const struct opening *o, const char *real, const char *driver,
			       struct qcow2_head *head)
{
	if (strcmp(driver, "qcow2") == 0)
		return head->qcow2 ? 0 : refuse(o, -EINVAL, "%.200s is no qcow2 image", real);
	if (strcmp(driver, "raw") == 0 || (!driver[0] && !head->qcow2)) {
		memset(head, 0, sizeof(*head));
		return 0;
	}
	if (!driver[0])
		return refuse(o, -EINVAL,
			      "an image that stands on %.120s does not say in what format: mend it "
			      "with qemu-img rebase -u -F qcow2 -b %.60s",
			      real, real);
	return refuse(o, -ENOTSUP, "%.160s is of the format %.15s: only raw and qcow2 can be used",
		      real, driver);
}

/* The name of what an image stands on, which counts from the image's folder. */
static int backing_name(const struct opening *o, const char *real, int fd,
			const struct qcow2_head *head, char out[PATH_MAX])
{
	char name[QCOW2_BACKING_MAX + 1];
	size_t folder = (size_t)(strrchr(real, '/') - real) + 1;
	ssize_t n = pread(fd, name, head->backing_bytes, (off_t)head->backing_offset);

	if (n != (ssize_t)head->backing_bytes || memchr(name, 0, (size_t)n))
		return refuse(o, -EINVAL, "%.200s is a broken qcow2 image: it stands on nothing",
			      real);
	name[n] = 0;
	/* "nbd:...", "json:{...}", "http://...": no file. */
	if (strcspn(name, ":") < strcspn(name, "/"))
		return refuse(o, -ENOTSUP, "%.120s stands on %.100s, which is no file", real, name);
	if (snprintf(out, PATH_MAX, "%.*s%s", name[0] == '/' ? 0 : (int)folder, real, name) >=
	    PATH_MAX)
		return refuse(o, -ENAMETOOLONG, "%.200s stands on a name that is too long", real);
	return 0;
}

/* One file more; head becomes its own. */
static int layer_add(const struct opening *o, const char *name, struct qcow2_head *head,
		     char real[PATH_MAX])
{
	struct node_disk *disk = o->disk;
	bool first = disk->layers == 0, writable = first && !o->device->readonly;
	char driver[QCOW2_DRIVER_BYTES];
	struct stat st;
	int fd = -1, err = path_find(o, name, real);

	memcpy(driver, head->driver, sizeof(driver));
	if (!err && disk->layers == NODE_LAYERS_MAX)
		err = refuse(o, -ELOOP, "more than %d images stand on each other", NODE_LAYERS_MAX);
	if (!err)
		err = file_open(o, real, writable, &fd);
	if (err)
		return err;
	disk->layer[disk->layers++].fd = fd;
	err = file_lock(o, real, fd, writable);
	if (!err)
		err = head_read(o, real, fd, head);
	if (!err)
		err = first ? format_take(o, real, head)
			    : backing_format_take(o, real, driver, head);
	disk->layer[disk->layers - 1].qcow2 = head->qcow2;
	if (!err && first && fstat(fd, &st) == 0) {
		disk->uid = st.st_uid;
		disk->gid = st.st_gid;
	}
	return err;
}

int node_disk_open(const struct node_options *opts, const struct control_device *device,
		   struct node_disk *out, char *why)
{
	struct opening o = {.opts = opts, .device = device, .disk = out, .why = why};
	char name[PATH_MAX], real[PATH_MAX];
	struct qcow2_head head = {0};
	int err;

	memset(out, 0, sizeof(*out));
	snprintf(name, sizeof(name), "%s", device->path);
	err = layer_add(&o, name, &head, real);
	while (!err && head.qcow2 && head.backing_offset) {
		err = backing_name(&o, real, out->layer[out->layers - 1].fd, &head, name);
		if (!err)
			err = layer_add(&o, name, &head, real);
	}
	if (err)
		node_disk_close(out);
	return err;
}

int node_seed_open(const struct control_device *device, int contents, struct node_disk *out,
		   char *why)
{
	char path[32];
	int fd, err;

	memset(out, 0, sizeof(*out));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", contents);
	fd = contents < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	err = contents < 0 ? -ENOENT : fd < 0 ? -errno : 0;
	if (err) {
		snprintf(why, CONTROL_WHY_MAX, "%s: what cloud-init is to read: %s", device->id,
			 contents < 0 ? "it has not arrived" : error_text(err));
		return err;
	}
	out->layers = 1;
	out->layer[0].fd = fd;
	return 0;
}

int node_folder_open(const struct node_options *opts, const struct control_device *device,
		     struct node_disk *out, char *why)
{
	struct opening o = {.opts = opts, .device = device, .disk = out, .why = why};
	struct stat st;
	int fd, err;

	memset(out, 0, sizeof(*out));
	err = path_find(&o, device->path, out->real);
	if (err)
		return err;
	fd = open(out->real, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		err = -errno;
		return refuse(&o, err, "%.200s: %s", out->real, error_text(err));
	}
	if (fstat(fd, &st) < 0 || !same_path(fd, out->real)) {
		close(fd);
		return refuse(&o, -EINVAL, "%.200s is no folder", out->real);
	}
	out->layer[out->layers++].fd = fd;
	out->uid = st.st_uid;
	out->gid = st.st_gid;
	return 0;
}

void node_disk_close(struct node_disk *disk)
{
	for (unsigned i = 0; i < disk->layers; i++)
		close(disk->layer[i].fd);
	disk->layers = 0;
}
