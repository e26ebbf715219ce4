/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a directory of certificates: whole or not there at all, and nobody else's to read. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "pki/pki.h"

int pki_path(const char *dir, const char *name, char path[PKI_PATH_MAX])
{
	int n = snprintf(path, PKI_PATH_MAX, "%s/%s", dir, name);

	return n > 0 && n < PKI_PATH_MAX ? 0 : -ENAMETOOLONG;
}

int pki_dir_default(char dir[PKI_PATH_MAX])
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	const char *named = getenv("PANGEA_PKI");

	if (named && named[0])
		return (size_t)snprintf(dir, PKI_PATH_MAX, "%s", named) < PKI_PATH_MAX
			       ? 0
			       : -ENAMETOOLONG;
	if (geteuid() == 0)
		return snprintf(dir, PKI_PATH_MAX, "/etc/pangea/pki") < 0;
	if (config && config[0] == '/')
		return pki_path(config, "pangea/pki", dir);
	return home && home[0] == '/' ? pki_path(home, ".config/pangea/pki", dir) : -ENOENT;
}

/* Parents are as usual for the system; the directory itself is ours alone. */
static int dirs_make(const char *dir)
{
	char path[PKI_PATH_MAX];

	if ((size_t)snprintf(path, sizeof(path), "%s", dir) >= sizeof(path))
		return -ENAMETOOLONG;
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

int pki_dir_make(const char *dir, char *why)
{
	struct stat st;
	int err = dirs_make(dir);

	if (!err && lstat(dir, &st) < 0)
		err = -errno;
	if (err) {
		snprintf(why, PKI_WHY_MAX, "cannot make the directory %.200s: %s", dir,
			 error_text(err));
		return err;
	}
	if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 077))
		return 0;
	snprintf(why, PKI_WHY_MAX, "%.200s is no directory of this user alone: chmod 700 it", dir);
	return -EPERM;
}

static int bytes_write(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		len -= (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

static int parent_sync(const char *path)
{
	char dir[PKI_PATH_MAX];
	char *slash;
	int fd, err;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (!slash)
		return 0;
	*(slash == dir ? slash + 1 : slash) = 0;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return err;
}

/* The new contents under a name of their own; two writers do not meet in it. */
static int new_write(const char *path, char temp[PKI_PATH_MAX + 16], const void *data, size_t len)
{
	int fd, err;

	if (strlen(path) >= PKI_PATH_MAX)
		return -ENAMETOOLONG;
	snprintf(temp, PKI_PATH_MAX + 16, "%s.new-XXXXXX", path);
	fd = mkostemp(temp, O_CLOEXEC); /* mode 0600 */
	if (fd < 0)
		return -errno;
	err = bytes_write(fd, data, len);
	if (close(fd) < 0 && !err)
		err = -errno;
	if (err)
		unlink(temp);
	return err;
}

int pki_file_write(const char *path, const void *data, size_t len)
{
	char temp[PKI_PATH_MAX + 16];
	int err = new_write(path, temp, data, len);

	if (err)
		return err;
	if (rename(temp, path) < 0) {
		err = -errno;
		unlink(temp);
		return err;
	}
	return parent_sync(path);
}

int pki_file_create(const char *path, const void *data, size_t len)
{
	char temp[PKI_PATH_MAX + 16];
	int err = new_write(path, temp, data, len);

	if (err)
		return err;
	if (link(temp, path) < 0)
		err = -errno;
	unlink(temp);
	return err ? err : parent_sync(path);
}

static int all_read(int fd, char *text, size_t room, size_t *len)
{
	*len = 0;
	for (;;) {
		ssize_t n = read(fd, text + *len, room - *len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		*len += (size_t)n;
		if (*len == room)
			return -EFBIG;
	}
}

int pki_file_read(const char *path, bool secret, char **text, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char *out = NULL;
	struct stat st;
	int err = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		err = -errno;
	else if (!S_ISREG(st.st_mode))
		err = -EINVAL;
	else if (secret && (st.st_mode & 077))
		err = -EPERM;
	else if (st.st_size > (off_t)PKI_FILE_MAX)
		err = -EFBIG;
	else if (!(out = calloc(1, (size_t)st.st_size + 2)))
		err = -ENOMEM;
	/* One that grows meanwhile is not ours: ours are replaced whole. */
	if (!err)
		err = all_read(fd, out, (size_t)st.st_size + 1, len);
	close(fd);
	if (err) {
		free(out);
		return err;
	}
	*text = out;
	return 0;
}

uint64_t pki_dir_stamp(const char *dir, enum pki_role role)
{
	char own[32], path[PKI_PATH_MAX];
	const char *const names[] = {"ca.crt", "crl.pem", own};
	uint64_t stamp = 0;
	struct stat st;

	snprintf(own, sizeof(own), "%s.pem", pki_role_name(role));
	for (unsigned i = 0; i < 3; i++) {
		if (pki_path(dir, names[i], path) < 0 || stat(path, &st) < 0)
			continue;
		/* A file that was replaced has another inode, however coarse the clock is. */
		stamp = stamp * 31 + (uint64_t)st.st_ino * 1000003 +
			(uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec;
	}
	return stamp;
}
