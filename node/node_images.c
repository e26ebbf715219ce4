/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The folder of images. A file's name is the digest of its bytes, so what is there under a name is the image or is
 * damaged, and no version of it is ever old. What is on its way has another name until it is whole and on the disk.
 */
#include "node/node_images.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

#define NEW_PREFIX ".new-"
#define LOCK_NAME  ".lock"

/* ---- opening ---- */

static int fail(const struct image_cache *cache, int err, char *why, const char *what)
{
	snprintf(why, CONTROL_WHY_MAX, "the image cache %.200s: %s", cache->dir, what);
	return err;
}

/* The folder above must be there: only the last part is made. */
static int folder_open(const struct image_cache *cache, char *why)
{
	struct stat st;
	int fd;

	if (mkdir(cache->dir, 0700) < 0 && errno != EEXIST)
		return fail(cache, -errno, why, error_text(-errno));
	fd = open(cache->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return fail(cache, -errno, why, error_text(-errno));
	if (fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 022)) {
		close(fd);
		return fail(cache, -EPERM, why, "others can write it: make it this user's alone");
	}
	return fd;
}

/* One entry after the other; stops at the first error. */
static int entries_each(int dir_fd, int (*each)(void *arg, const char *name), void *arg)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		return err;
	}
	while (!err && (entry = readdir(dir)))
		err = each(arg, entry->d_name);
	closedir(dir);
	return err;
}

static int leftover_remove(void *arg, const char *name)
{
	const struct image_cache *cache = arg;

	if (strncmp(name, NEW_PREFIX, sizeof(NEW_PREFIX) - 1) == 0)
		unlinkat(cache->dir_fd, name, 0);
	return 0;
}

int image_cache_open(struct image_cache *cache, char *why)
{
	int err = 0;

	if (cache->dir_fd >= 0)
		return 0;
	cache->dir_fd = folder_open(cache, why);
	if (cache->dir_fd < 0)
		return cache->dir_fd;
	cache->lock_fd =
		openat(cache->dir_fd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (cache->lock_fd < 0)
		err = fail(cache, -errno, why, error_text(-errno));
	else if (flock(cache->lock_fd, LOCK_EX | LOCK_NB) < 0)
		err = fail(cache, -EBUSY, why,
			   "another daemon uses it: give each its own by --image-dir");
	if (err) {
		image_cache_close(cache);
		return err;
	}
	entries_each(cache->dir_fd, leftover_remove, cache);
	return 0;
}

void image_cache_close(struct image_cache *cache)
{
	if (cache->dir_fd >= 0)
		close(cache->dir_fd);
	if (cache->lock_fd >= 0)
		close(cache->lock_fd);
	cache->dir_fd = cache->lock_fd = -1;
}

/* ---- finding ---- */

static struct image_stamp stamp_of(const struct stat *st)
{
	return (struct image_stamp){st->st_ino, st->st_size, st->st_mtim};
}

static bool stamp_same(const struct image_stamp *a, const struct image_stamp *b)
{
	return a->ino && a->ino == b->ino && a->size == b->size &&
	       a->written.tv_sec == b->written.tv_sec && a->written.tv_nsec == b->written.tv_nsec;
}

/* When it was used last: the time of access, whatever the file system does by itself. */
static void used_now(int fd)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};

	if (futimens(fd, times) < 0)
		errno = 0; /* it only makes the order of eviction worse */
}

/* 0: its bytes are the image's. */
static int file_check(int fd, const struct control_image *image, struct image_stamp *stamp)
{
	char digest[CONTROL_DIGEST_TEXT];
	struct image_stamp now;
	struct stat st;
	int err;

	if (fstat(fd, &st) < 0)
		return -errno;
	now = stamp_of(&st);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != image->bytes)
		return -EBADMSG;
	if (stamp_same(stamp, &now))
		return 0;
	err = control_digest_file(fd, image->bytes, NULL, NULL, digest);
	if (!err && strcmp(digest, image->digest) != 0)
		err = -EBADMSG;
	*stamp = now;
	return err;
}

int image_cache_find(const struct image_cache *cache, const struct control_image *image,
		     struct image_stamp *stamp, bool *damaged)
{
	int fd = openat(cache->dir_fd, image->digest, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), err;

	*damaged = false;
	if (fd < 0)
		return -errno;
	err = file_check(fd, image, stamp);
	if (!err) {
		used_now(fd);
		return fd;
	}
	close(fd);
	/* A file that cannot be read is as bad as one with other bytes. */
	if (err != -EBADMSG && err != -EIO)
		return err;
	*damaged = true;
	return unlinkat(cache->dir_fd, image->digest, 0) < 0 ? -errno : -ENOENT;
}

/* ---- making room ---- */

struct survey {
	const struct image_cache *cache;
	bool (*used)(void *arg, const char *digest);
	void *arg;
	uint64_t bytes; /* of all files */
	char oldest[CONTROL_DIGEST_TEXT];
	struct timespec oldest_used;
	uint64_t oldest_bytes;
};

static bool before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static int survey_entry(void *arg, const char *name)
{
	struct survey *survey = arg;
	struct stat st;

	if (fstatat(survey->cache->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode))
		return 0;
	survey->bytes += (uint64_t)st.st_size;
	if (!control_digest_valid(name) || survey->used(survey->arg, name))
		return 0;
	if (survey->oldest[0] && !before(&st.st_atim, &survey->oldest_used))
		return 0;
	memcpy(survey->oldest, name, sizeof(survey->oldest));
	survey->oldest_used = st.st_atim;
	survey->oldest_bytes = (uint64_t)st.st_size;
	return 0;
}

int image_cache_room(const struct image_cache *cache, uint64_t bytes,
		     bool (*used)(void *arg, const char *digest), void *arg)
{
	if (bytes > cache->max_bytes)
		return -ENOSPC;
	for (;;) {
		struct survey survey = {.cache = cache, .used = used, .arg = arg};
		int err = entries_each(cache->dir_fd, survey_entry, &survey);

		if (err)
			return err;
		if (survey.bytes <= cache->max_bytes - bytes)
			return 0;
		if (!survey.oldest[0])
			return -ENOSPC;
		if (unlinkat(cache->dir_fd, survey.oldest, 0) < 0)
			return -errno;
	}
}

/* ---- a new one ---- */

int image_cache_begin(const struct image_cache *cache, uint64_t bytes, char name[32])
{
	uint64_t number;
	int fd;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return -EIO;
	snprintf(name, 32, NEW_PREFIX "%016llx", (unsigned long long)number);
	fd = openat(cache->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	/* A disk that is too full says so now; one that cannot tell says it later. */
	if (fallocate(fd, 0, 0, (off_t)bytes) < 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
		int err = -errno;

		image_cache_drop(cache, fd, name);
		return err;
	}
	return fd;
}

void image_cache_drop(const struct image_cache *cache, int fd, const char *name)
{
	if (fd >= 0)
		close(fd);
	unlinkat(cache->dir_fd, name, 0);
}

/* The bytes first, then the name: after a power cut a name never stands for less. */
static int file_settle(const struct image_cache *cache, int fd, const char *name,
		       const char *digest)
{
	if (fchmod(fd, 0444) < 0 || fsync(fd) < 0 ||
	    renameat(cache->dir_fd, name, cache->dir_fd, digest) < 0 || fsync(cache->dir_fd) < 0)
		return -errno;
	return 0;
}

int image_cache_end(const struct image_cache *cache, int fd, const char *name,
		    const struct control_image *image, struct image_stamp *stamp)
{
	int err = file_settle(cache, fd, name, image->digest), good;
	struct stat st, again;

	if (!err && fstat(fd, &st) < 0)
		err = -errno;
	if (err) {
		image_cache_drop(cache, fd, name);
		return err;
	}
	close(fd);
	/* What slices get cannot be written through. */
	good = openat(cache->dir_fd, image->digest, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (good < 0)
		return -errno;
	if (fstat(good, &again) < 0 || again.st_ino != st.st_ino) {
		close(good);
		return -EBUSY;
	}
	*stamp = stamp_of(&again);
	used_now(good);
	return good;
}
