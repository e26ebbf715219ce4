/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --cloud-init, --hostname and --ssh-key of `pangea run`: a small disk with the label cidata, where cloud-init's NoCloud
 * finds user-data and meta-data. mtools make its file system.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/image.h"
#include "cli/run.h"

/* What fits onto the disk beside each other and the file system's own. */
#define USER_DATA_MAX (48u << 10)
#define KEYS_MAX      (8u << 10)
#define TOOL_S	      20

static const char default_user_data[] = "#cloud-config\n{}\n";

/* A small file whole, zero-terminated; null, having said why. */
static char *file_read(const char *path, size_t max, size_t *bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char *text = fd < 0 ? NULL : malloc(max + 2);
	ssize_t n = text ? read(fd, text, max + 1) : -1;
	struct stat st;

	if (n < 0)
		cli_say("cannot read %s: %s", path, error_text(-errno));
	else if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		cli_say("%s is no regular file", path);
	else if ((size_t)n > max || n != st.st_size)
		cli_say("%s is longer than %zu bytes", path, max);
	if (fd >= 0)
		close(fd);
	if (n < 0 || !S_ISREG(st.st_mode) || (size_t)n > max || n != st.st_size) {
		free(text);
		return NULL;
	}
	text[n] = 0;
	*bytes = (size_t)n;
	return text;
}

/* The public keys of a file, one a line, as JSON; null, having said why. */
static json_t *keys_read(const char *path)
{
	size_t bytes;
	char *text = file_read(path, KEYS_MAX, &bytes), *rest = text, *line;
	json_t *keys = text ? json_array() : NULL;

	if (text && strstr(text, "PRIVATE KEY")) {
		cli_say("%s is a private key: name the public one, which mostly ends in .pub",
			path);
		json_decref(keys);
		keys = NULL;
	}
	while (keys && (line = strsep(&rest, "\r\n")))
		if (line[0] && line[0] != '#')
			json_array_append_new(keys, json_string(line));
	free(text);
	if (keys && json_array_size(keys) == 0) {
		cli_say("%s has no public key", path);
		json_decref(keys);
		return NULL;
	}
	return keys;
}

/* FNV-1a: another seed is another instance to cloud-init, which then does again what it does once. */
static uint64_t mixed(uint64_t hash, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
	return hash;
}

/* JSON, which is YAML, too. */
static char *meta_data_make(const struct run_seed *seed, const char *user_data, size_t len)
{
	json_t *meta = json_object(), *keys = NULL;
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	char id[32], *text;

	if (seed->ssh_key) {
		keys = keys_read(seed->ssh_key);
		if (!keys) {
			json_decref(meta);
			return NULL;
		}
		json_object_set_new(meta, "public-keys", keys);
	}
	if (seed->hostname)
		json_object_set_new(meta, "local-hostname", json_string(seed->hostname));
	text = json_dumps(meta, JSON_SORT_KEYS);
	hash = mixed(mixed(hash, user_data, len), text ? text : "", text ? strlen(text) : 0);
	free(text);
	snprintf(id, sizeof(id), "pangea-%016llx", (unsigned long long)hash);
	json_object_set_new(meta, "instance-id", json_string(id));
	text = json_dumps(meta, JSON_SORT_KEYS | JSON_INDENT(1));
	json_decref(meta);
	if (!text)
		cli_say("out of memory");
	return text;
}

static int tool_go(const char *const *words, int in, int disk)
{
	struct tool tool = {.words = words,
			    .in_fd = in,
			    .out_fd = disk,
			    .stdout_fd = -1,
			    .bytes_max = CONTROL_SEED_BYTES,
			    .timeout_s = TOOL_S};
	int err = tool_run(&tool);

	free(tool.said);
	return err ? tool_blame(&tool, err, "mtools") : 0;
}

static int file_put(int disk, const char *name, const char *data, size_t len)
{
	const char *const words[] = {"mcopy",		"-i", "/proc/self/fd/4",
				     "/proc/self/fd/3", name, NULL};
	int fd = memfd_create("seed-file", MFD_CLOEXEC), code = EXIT_ERROR;

	if (fd < 0 || write(fd, data, len) != (ssize_t)len || lseek(fd, 0, SEEK_SET) < 0)
		cli_say("no memory for the seed: %s", error_text(-errno));
	else
		code = tool_go(words, fd, disk);
	if (fd >= 0)
		close(fd);
	return code;
}

/* mformat describes the file system as the one partition, too, in the boot sector's last bytes; Linux would find it twice. */
static int partition_clear(int disk)
{
	static const uint8_t none[64];
	int err = file_write_at(disk, none, sizeof(none), 446);

	if (!err)
		return 0;
	cli_say("cannot write the seed: %s", error_text(err));
	return EXIT_ERROR;
}

/* 64 KiB of FAT, the whole in memory. */
static int disk_make(int disk, const char *user_data, size_t len, const char *meta_data)
{
	static const char *const format[] = {"mformat", "-i",	    "/proc/self/fd/4",
					     "-T",	"128",	    "-h",
					     "1",	"-s",	    "1",
					     "-c",	"1",	    "-r",
					     "2",	"-v",	    "cidata",
					     "-N",	"70616e67", "::",
					     NULL};
	int code;

	static_assert(CONTROL_SEED_BYTES == 128 * 512, "the number of sectors above");
	if (ftruncate(disk, CONTROL_SEED_BYTES) < 0) {
		cli_say("no memory for the seed: %s", error_text(-errno));
		return EXIT_ERROR;
	}
	code = tool_go(format, -1, disk);
	if (!code)
		code = partition_clear(disk);
	if (!code)
		code = file_put(disk, "::user-data", user_data, len);
	return code ? code : file_put(disk, "::meta-data", meta_data, strlen(meta_data));
}

static int bytes_make(struct run_seed *seed, const char *user_data, size_t len)
{
	char *meta = meta_data_make(seed, user_data, len);
	int disk = memfd_create("seed", MFD_CLOEXEC);
	int code = meta && disk >= 0 ? disk_make(disk, user_data, len, meta) : EXIT_ERROR;

	free(meta);
	seed->bytes = code ? NULL : malloc(CONTROL_SEED_BYTES);
	if (!code && (!seed->bytes ||
		      pread(disk, seed->bytes, CONTROL_SEED_BYTES, 0) != CONTROL_SEED_BYTES)) {
		cli_say("no memory for the seed");
		code = EXIT_ERROR;
	}
	if (disk >= 0)
		close(disk);
	return code;
}

int run_seed_option(struct run_options *opts, const char **place, const char *value,
		    const char *command)
{
	if (place == &opts->seed.hostname && !control_name_valid(value))
		return cli_usage(command,
				 "--hostname is 1 to 63 of a-z, 0-9 and '-', not first '-'");
	*place = value;
	return -1;
}

int run_seed_make(struct run_options *opts, const char *command)
{
	struct run_seed *seed = &opts->seed;
	struct control_devices *devices = &opts->devices;
	char why[CONTROL_WHY_MAX], *text = NULL;
	size_t len = strlen(default_user_data);
	int code;

	if (!seed->user_data && !seed->hostname && !seed->ssh_key)
		return -1;
	if (control_seed_add(devices, why))
		return cli_usage(command, "%s", why);
	if (seed->user_data) {
		text = file_read(seed->user_data, USER_DATA_MAX, &len);
		if (!text)
			return EXIT_ERROR;
	}
	code = bytes_make(seed, text ? text : default_user_data, len);
	free(text);
	return code ? code : -1;
}
