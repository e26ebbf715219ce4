/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels and initrds of detached VMs: DIR/file-NAME.kernel, .initrd and .seed, with ".part" behind until they
 * are whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "coordinator/state_dir.h"
#include "coordinator/vm_files.h"

#define PREFIX "file-"
#define PART   ".part"
/* So much is written before it is sent to the disk: no single wait is long. */
#define SYNC_BYTES (8u << 20)

static const char *const files[] = {"kernel", "initrd", "seed"};
#define FILES (sizeof(files) / sizeof(files[0]))

static int path_make(char path[PATH_MAX], const char *dir, const char *vm, const char *file,
		     const char *end)
{
	int n = snprintf(path, PATH_MAX, "%s/" PREFIX "%s.%s%s", dir, vm, file, end);

	return n > 0 && n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int vm_files_store(const char *dir, const char *vm, const char *file, uint64_t offset,
		   const void *data, size_t len)
{
	char path[PATH_MAX];
	int err = path_make(path, dir, vm, file, PART), fd;

	if (err)
		return err;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	err = file_write_at(fd, data, len, offset);
	if (!err && offset / SYNC_BYTES != (offset + len) / SYNC_BYTES && fdatasync(fd) < 0)
		err = -errno;
	if (close(fd) < 0 && !err)
		err = -errno;
	return err;
}

static int file_seal(const char *dir, const char *vm, const char *file)
{
	char part[PATH_MAX], path[PATH_MAX];
	int err = path_make(part, dir, vm, file, PART), fd;

	if (!err)
		err = path_make(path, dir, vm, file, "");
	if (err)
		return err;
	fd = open(part, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT && strcmp(file, "kernel") != 0 ? 0 : -errno;
	if (fsync(fd) < 0)
		err = -errno;
	close(fd);
	return !err && rename(part, path) < 0 ? -errno : err;
}

int vm_files_seal(const char *dir, const char *vm)
{
	int err = 0;

	for (size_t i = 0; i < FILES && !err; i++)
		err = file_seal(dir, vm, files[i]);
	return err ? err : state_dir_sync(dir);
}

int vm_files_open(const char *dir, const char *vm, const char *file)
{
	char path[PATH_MAX];
	int err = path_make(path, dir, vm, file, ""), fd;

	if (err)
		return err;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

void vm_files_remove(const char *dir, const char *vm)
{
	static const char *const ends[] = {"", PART};
	char path[PATH_MAX];

	for (size_t i = 0; i < FILES; i++)
		for (size_t e = 0; e < 2; e++)
			if (path_make(path, dir, vm, files[i], ends[e]) == 0 && unlink(path) < 0 &&
			    errno != ENOENT)
				log_warn("cannot remove %s: %s", path, error_text(-errno));
}

void vm_files_sweep(const char *dir, state_dir_keeps *keeps, void *arg)
{
	state_dir_sweep(dir, PREFIX, keeps, vm_files_remove, arg);
}
