/* SPDX-License-Identifier: Apache-2.0 */
/* Records as files, written by rename so that a crash leaves the old one or the new one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "coordinator/state_dir.h"

#define RECORD_SUFFIX ".json"

static int path_make(char path[PATH_MAX], const char *dir, const char *kind, const char *vm,
		     const char *end)
{
	int n = snprintf(path, PATH_MAX, "%s/%s-%s" RECORD_SUFFIX "%s", dir, kind, vm, end);

	return n > 0 && n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int state_dir_open(const char *dir)
{
	char path[PATH_MAX];
	struct stat st;
	int fd;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (lstat(dir, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return -EPERM;
	if ((size_t)snprintf(path, sizeof(path), "%s/lock", dir) >= sizeof(path))
		return -ENAMETOOLONG;
	/* Open, and so locked, for as long as the process lives. */
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	close(fd);
	return -EBUSY;
}

static int file_write(const char *path, const json_t *record)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	char *text = json_dumps(record, JSON_INDENT(1));
	int err = fd < 0 ? -errno : text ? file_write_at(fd, text, strlen(text), 0) : -ENOMEM;

	free(text);
	if (!err && fsync(fd) < 0)
		err = -errno;
	if (fd >= 0 && close(fd) < 0 && !err)
		err = -errno;
	return err;
}

int state_dir_sync(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 || fsync(fd) < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return err;
}

int state_dir_keep(const char *dir, const char *kind, const char *vm, const json_t *record)
{
	char path[PATH_MAX], fresh[PATH_MAX];
	int err = path_make(path, dir, kind, vm, "");

	if (!err)
		err = path_make(fresh, dir, kind, vm, ".new");
	if (err)
		return err;
	err = file_write(fresh, record);
	if (!err && rename(fresh, path) < 0)
		err = -errno;
	if (!err)
		return state_dir_sync(dir);
	/* On a full disk it would take what others need. */
	unlink(fresh);
	return err;
}

void state_dir_drop(const char *dir, const char *kind, const char *vm)
{
	char path[PATH_MAX];

	/* If the removal is lost in a crash, its slices do not come back, and it goes again. */
	if (path_make(path, dir, kind, vm, "") == 0 && unlink(path) < 0 && errno != ENOENT)
		log_warn("cannot remove %s: %s", path, error_text(-errno));
}

static bool name_is_record(const char *name, const char *kind)
{
	size_t len = strlen(name), end = strlen(RECORD_SUFFIX), begin = strlen(kind);

	return strncmp(name, kind, begin) == 0 && name[begin] == '-' && len > begin + end &&
	       strcmp(name + len - end, RECORD_SUFFIX) == 0;
}

static void file_load(const char *dir, const char *name, state_dir_fn *fn, void *arg)
{
	char path[PATH_MAX];
	json_error_t error;
	json_t *record;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
		return;
	record = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
	if (record)
		fn(arg, record);
	else
		log_warn("%s is no record of a VM: %s", path, error.text);
	json_decref(record);
}

int state_dir_load(const char *dir, const char *kind, state_dir_fn *fn, void *arg)
{
	struct dirent *entry;
	DIR *list = opendir(dir);

	if (!list)
		return -errno;
	while ((entry = readdir(list)) != NULL)
		if (name_is_record(entry->d_name, kind))
			file_load(dir, entry->d_name, fn, arg);
	closedir(list);
	return 0;
}

void state_dir_sweep(const char *dir, const char *prefix, state_dir_keeps *keeps,
		     state_dir_remove *remove, void *arg)
{
	const size_t skip = strlen(prefix);
	DIR *list = opendir(dir);
	char vm[NAME_MAX_LEN + 1];
	struct dirent *entry;

	while (list && (entry = readdir(list)) != NULL) {
		const char *name = entry->d_name + skip;
		size_t len = strncmp(entry->d_name, prefix, skip) == 0 ? strcspn(name, ".") : 0;

		if (len == 0 || len > NAME_MAX_LEN)
			continue;
		memcpy(vm, name, len);
		vm[len] = 0;
		if (!keeps(arg, vm))
			remove(dir, vm);
	}
	if (list)
		closedir(list);
}
