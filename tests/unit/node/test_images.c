/* SPDX-License-Identifier: Apache-2.0 */
/* The folder of images: what is found, what is found damaged, who must go, and what a full one says. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/node_images.h"

#define BYTES 4096u

static char folder[64], why[CONTROL_WHY_MAX];
static struct image_cache cache, second;
static const char *held; /* the digest in use */

static void setup(void)
{
	strcpy(folder, "/tmp/pangea-images-XXXXXX");
	cr_assert(mkdtemp(folder));
	cache = second = (struct image_cache){
		.dir = folder, .max_bytes = 3 * BYTES, .dir_fd = -1, .lock_fd = -1};
	cr_assert_eq(image_cache_open(&cache, why), 0, "%s", why);
	held = "";
}

static void teardown(void)
{
	char command[128];

	image_cache_close(&cache);
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	cr_expect_eq(system(command), 0);
}

TestSuite(images, .init = setup, .fini = teardown, .timeout = 20);

static bool used(void *arg, const char *digest)
{
	(void)arg;
	return strcmp(digest, held) == 0;
}

/* An image all of whose bytes are this one. */
static struct control_image image_of(uint8_t byte)
{
	struct control_image image = {.name = "test", .bytes = BYTES};
	struct control_digest *digest = control_digest_new();
	uint8_t bytes[BYTES];

	memset(bytes, byte, sizeof(bytes));
	cr_assert(digest);
	cr_assert_eq(control_digest_add(digest, bytes, sizeof(bytes)), 0);
	cr_assert_eq(control_digest_end(digest, image.digest), 0);
	return image;
}

/* Into the cache, whatever is there. */
static int store(uint8_t byte, struct image_stamp *stamp)
{
	const struct control_image image = image_of(byte);
	uint8_t bytes[BYTES];
	char name[32];
	int err = image_cache_room(&cache, BYTES, used, NULL), fd;

	if (err)
		return err;
	memset(bytes, byte, sizeof(bytes));
	fd = image_cache_begin(&cache, BYTES, name);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, bytes, BYTES), (ssize_t)BYTES);
	fd = image_cache_end(&cache, fd, name, &image, stamp);
	cr_assert_geq(fd, 0);
	return fd;
}

static void path_of(uint8_t byte, char *path, size_t size)
{
	snprintf(path, size, "%s/%s", folder, image_of(byte).digest);
}

static int find(uint8_t byte, struct image_stamp *stamp, bool *damaged)
{
	const struct control_image image = image_of(byte);

	return image_cache_find(&cache, &image, stamp, damaged);
}

/* As if it had been used at this second. */
static void age(uint8_t byte, time_t second_used)
{
	const struct timespec times[2] = {{.tv_sec = second_used}, {.tv_nsec = UTIME_OMIT}};
	char path[256];

	path_of(byte, path, sizeof(path));
	cr_assert_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool there(uint8_t byte)
{
	char path[256];

	path_of(byte, path, sizeof(path));
	return access(path, F_OK) == 0;
}

Test(images, are_found_by_their_digest)
{
	struct image_stamp stamp = {0}, none = {0};
	bool damaged = true;
	uint8_t byte = 0;
	int fd;

	cr_expect_eq(find(1, &none, &damaged), -ENOENT);
	cr_expect_not(damaged);
	close(store(1, &stamp));
	fd = find(1, &none, &damaged);
	cr_assert_geq(fd, 0);
	cr_expect_eq(none.ino, stamp.ino, "the stamp of what was read");
	cr_expect_eq(pread(fd, &byte, 1, BYTES - 1), 1);
	cr_expect_eq(byte, 1);
	cr_expect_lt(write(fd, &byte, 1), 0, "it is open for reading alone");
	close(fd);
	cr_expect_eq(find(2, &none, &damaged), -ENOENT);
}

Test(images, damaged_ones_are_removed)
{
	struct image_stamp stamp = {0}, none = {0};
	bool damaged;
	char path[256];
	int fd;

	close(store(1, &stamp));
	path_of(1, path, sizeof(path));
	cr_assert_eq(chmod(path, 0600), 0);
	fd = open(path, O_WRONLY);
	cr_assert_eq(pwrite(fd, "x", 1, 100), 1);
	close(fd);
	/* The stamp tells that it was written since. */
	cr_expect_eq(find(1, &stamp, &damaged), -ENOENT);
	cr_expect(damaged);
	cr_expect_not(there(1));
	/* One that was cut; and without any stamp, as after a restart. */
	close(store(1, &stamp));
	cr_assert_eq(truncate(path, BYTES - 1), 0);
	cr_expect_eq(find(1, &none, &damaged), -ENOENT);
	cr_expect(damaged);
	cr_expect_eq(find(1, &none, &damaged), -ENOENT);
	cr_expect_not(damaged, "now there is none");
}

Test(images, unchanged_ones_are_not_read_again)
{
	struct image_stamp stamp = {0};
	char path[256];
	struct stat st;
	bool damaged;
	int fd;

	close(store(1, &stamp));
	/* Other bytes at the same times: only the stamp can have said that they are good. */
	path_of(1, path, sizeof(path));
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(chmod(path, 0600), 0);
	fd = open(path, O_WRONLY);
	cr_assert_eq(pwrite(fd, "x", 1, 0), 1);
	cr_assert_eq(futimens(fd, (struct timespec[]){st.st_atim, st.st_mtim}), 0);
	close(fd);
	fd = find(1, &stamp, &damaged);
	cr_expect_geq(fd, 0);
	close(fd);
}

Test(images, the_least_recently_used_goes)
{
	struct image_stamp stamp = {0};
	bool damaged;

	for (uint8_t i = 1; i <= 3; i++) {
		close(store(i, &stamp));
		age(i, 1000 + i);
	}
	stamp = (struct image_stamp){0};
	close(find(1, &stamp, &damaged)); /* now it is the newest */
	close(store(4, &stamp));
	cr_expect(there(1));
	cr_expect_not(there(2));
	cr_expect(there(3));
	cr_expect(there(4));
	/* One in use stays, however old. */
	age(3, 1);
	age(1, 2);
	held = strdup(image_of(3).digest);
	close(store(5, &stamp));
	cr_expect(there(3));
	cr_expect_not(there(1));
	free((void *)(uintptr_t)held);
}

Test(images, more_than_fits_is_refused)
{
	struct image_stamp stamp = {0};

	cr_expect_eq(image_cache_room(&cache, 3 * BYTES + 1, used, NULL), -ENOSPC);
	cr_expect_eq(image_cache_room(&cache, 3 * BYTES, used, NULL), 0);
	close(store(1, &stamp));
	held = strdup(image_of(1).digest);
	cr_expect_eq(image_cache_room(&cache, 2 * BYTES, used, NULL), 0);
	cr_expect_eq(image_cache_room(&cache, 2 * BYTES + 1, used, NULL), -ENOSPC);
	cr_expect(there(1));
	free((void *)(uintptr_t)held);
}

Test(images, unfinished_ones_leave_nothing)
{
	char name[32], path[256];
	int fd = image_cache_begin(&cache, BYTES, name);

	cr_assert_geq(fd, 0);
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	cr_expect_eq(access(path, F_OK), 0);
	image_cache_drop(&cache, fd, name);
	cr_expect_lt(access(path, F_OK), 0);
	/* A daemon that was killed. */
	fd = image_cache_begin(&cache, BYTES, name);
	close(fd);
	image_cache_close(&cache);
	cr_assert_eq(image_cache_open(&cache, why), 0);
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	cr_expect_lt(access(path, F_OK), 0);
}

Test(images, a_folder_is_one_daemons)
{
	cr_expect_eq(image_cache_open(&second, why), -EBUSY);
	cr_expect(strstr(why, "--image-dir"), "%s", why);
	cr_expect_eq(second.dir_fd, -1);
	second.dir = "/nonexistent/images";
	cr_expect_eq(image_cache_open(&second, why), -ENOENT);
	cr_expect(strstr(why, "/nonexistent/images"), "%s", why);
	image_cache_close(&cache);
	cr_assert_eq(chmod(folder, 0777), 0);
	cr_expect_eq(image_cache_open(&cache, why), -EPERM);
}

Test(images, messages_are_not_believed)
{
	static const char *const bad[] = {
		"{\"images\":7}",
		"{\"images\":[{}]}",
		"{\"images\":[{\"name\":\"a\",\"digest\":\"../../etc/passwd\",\"bytes\":5}]}",
		"{\"images\":[{\"name\":\"a\",\"digest\":\"\",\"bytes\":5}]}",
		"{\"images\":[1,2,3,4,5]}",
	};
	struct control_images images, again;
	json_t *msg, *list;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		msg = json_loads(bad[i], 0, NULL);
		cr_assert(msg);
		cr_expect_lt(control_images_get(msg, &images, why), 0, "%s", bad[i]);
		json_decref(msg);
	}
	images = (struct control_images){.count = 2, .list = {image_of(1), image_of(2)}};
	snprintf(images.list[1].name, sizeof(images.list[1].name), "second");
	list = control_images_json(&images);
	msg = json_pack("{s:o}", "images", list);
	cr_assert_eq(control_images_get(msg, &again, why), 0, "%s", why);
	cr_expect_eq(memcmp(&images, &again, sizeof(images)), 0);
	json_object_set_new(json_array_get(list, 0), "bytes", json_integer(0));
	cr_expect_lt(control_images_get(msg, &again, why), 0);
	json_decref(msg);
}

/* FIPS 180-4's example. */
Test(images, the_digest_is_sha_256)
{
	struct control_digest *digest = control_digest_new();
	char text[CONTROL_DIGEST_TEXT];

	cr_assert(digest);
	cr_assert_eq(control_digest_add(digest, "a", 1), 0);
	cr_assert_eq(control_digest_add(digest, "bc", 2), 0);
	cr_assert_eq(control_digest_end(digest, text), 0);
	cr_expect_str_eq(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	cr_expect(control_digest_valid(text));
	text[3] = 'A';
	cr_expect_not(control_digest_valid(text));
}
