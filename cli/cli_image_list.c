/* SPDX-License-Identifier: Apache-2.0 */
/* pangea image list, remove and info: the files of the folder of disks. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/image.h"
#include "control/devices.h"

#define LIST_MAX 4096
#define INFO_S	 20

static uint64_t be64(const uint8_t *at)
{
	uint64_t value = 0;

	for (int i = 0; i < 8; i++)
		value = value << 8 | at[i];
	return value;
}

/* Whether a VM holds the file, as far as this machine sees the same locks. */
static bool in_use(int fd)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = CONTROL_DISK_LOCK, .l_len = 1};

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* What there is to say of a file of the folder; null: it is no image of ours to tell of. */
static json_t *entry_look(int folder, const char *name)
{
	int fd = image_name_plain(name)
			 ? openat(folder, name,
				  O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW)
			 : -1;
	uint8_t head[32] = {0};
	struct stat st;
	bool qcow2;
	json_t *out;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || pread(fd, head, sizeof(head), 0) < 0) {
		close(fd);
		return NULL;
	}
	qcow2 = memcmp(head, "QFI\xfb", 4) == 0;
	out = json_pack("{s:s, s:s, s:I, s:I, s:b}", "name", name, "format",
			qcow2 ? "qcow2" : "raw", "virtual_bytes",
			qcow2 ? (json_int_t)(be64(head + 24) & INT64_MAX) : (json_int_t)st.st_size,
			"disk_bytes", (json_int_t)st.st_blocks * 512, "in_use", (int)in_use(fd));
	close(fd);
	return out;
}

static int names_compare(const void *a, const void *b)
{
	const json_t *const *one = a, *const *two = b;

	return strcmp(json_string_value(json_object_get(*one, "name")),
		      json_string_value(json_object_get(*two, "name")));
}

/* All of the folder by name; null without memory. */
static json_t *folder_look(DIR *dir)
{
	json_t **found = calloc(LIST_MAX, sizeof(json_t *)), *list = json_array();
	const struct dirent *entry;
	size_t count = 0;

	while (found && count < LIST_MAX && (entry = readdir(dir))) {
		found[count] = entry_look(dirfd(dir), entry->d_name);
		count += found[count] != NULL;
	}
	if (found)
		qsort(found, count, sizeof(json_t *), names_compare);
	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, found[i]);
	free(found);
	return list;
}

static void list_print(const json_t *list)
{
	const json_t *one;
	char virtual[32], disk[32];
	size_t i;

	printf("%-40s %-6s %12s %12s\n", "NAME", "FORMAT", "SIZE", "ON DISK");
	json_array_foreach(list, i, one)
	{
		uint64_t bytes =
			(uint64_t)json_integer_value(json_object_get(one, "virtual_bytes"));
		uint64_t taken = (uint64_t)json_integer_value(json_object_get(one, "disk_bytes"));

		control_size_format(bytes >> 20 ? bytes >> 20 << 20 : bytes, virtual,
				    sizeof(virtual));
		control_size_format(taken >> 20 ? taken >> 20 << 20 : taken, disk, sizeof(disk));
		printf("%-40s %-6s %12s %12s%s\n", json_string_value(json_object_get(one, "name")),
		       json_string_value(json_object_get(one, "format")), virtual, disk,
		       json_is_true(json_object_get(one, "in_use")) ? "  in use" : "");
	}
}

static int json_print(const json_t *what)
{
	bool bad = json_dumpf(what, stdout, JSON_INDENT(2)) < 0 || putchar('\n') < 0;

	return bad || fflush(stdout) ? EXIT_ERROR : EXIT_OK;
}

int image_list(const struct image_options *opts)
{
	DIR *dir = opendir(opts->dir);
	json_t *list;
	int code = EXIT_OK;

	if (!dir) {
		cli_say("there is no folder %s: %s; name another with --dir", opts->dir,
			error_text(-errno));
		return EXIT_ERROR;
	}
	list = folder_look(dir);
	closedir(dir);
	if (opts->json)
		code = json_print(list);
	else
		list_print(list);
	json_decref(list);
	return fflush(stdout) ? EXIT_ERROR : code;
}

/* DIR/NAME of a plain name; a path as it is. 0 or an exit code, having said why. */
static int path_find(const struct image_options *opts, char path[STATE_PATH_MAX])
{
	bool named = !strchr(opts->file, '/');

	if (named && !image_name_plain(opts->file))
		return cli_usage("pangea image", "\"%.60s\" is no name of an image", opts->file);
	if (snprintf(path, STATE_PATH_MAX, "%s%s%s", named ? opts->dir : "", named ? "/" : "",
		     opts->file) >= STATE_PATH_MAX)
		return cli_usage("pangea image", "the path is too long");
	return 0;
}

static int image_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	cli_say("%s: %s", path, fd < 0 ? error_text(-errno) : "it is no regular file");
	if (fd >= 0)
		close(fd);
	return -1;
}

int image_remove(const struct image_options *opts)
{
	char path[STATE_PATH_MAX];
	int fd, code = EXIT_ERROR;

	if (!image_name_plain(opts->file))
		return cli_usage("pangea image", "remove takes a name as list shows it, no path");
	code = path_find(opts, path);
	if (code)
		return code;
	fd = image_open(path);
	if (fd < 0)
		return EXIT_ERROR;
	code = EXIT_ERROR;
	if (in_use(fd))
		cli_say("%s is in use by a VM that runs: stop that VM first", path);
	else if (unlink(path) < 0)
		cli_say("cannot remove %s: %s", path, error_text(-errno));
	else
		code = EXIT_OK;
	close(fd);
	return code;
}

static void info_print(const json_t *info)
{
	static const char *const numbers[] = {"virtual-size", "actual-size", "cluster-size"};
	const char *format = json_string_value(json_object_get(info, "format"));
	const char *below = json_string_value(json_object_get(info, "backing-filename"));
	char size[32], text[256];

	printf("%-14s %s\n", "file", json_string_value(json_object_get(info, "filename")));
	printf("%-14s %s\n", "format", format ? format : "unknown");
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		const json_t *number = json_object_get(info, numbers[i]);
		if (!json_is_integer(number) || json_integer_value(number) < 0)
			continue;
		control_size_format((uint64_t)json_integer_value(number), size, sizeof(size));
		printf("%-14s %s\n", numbers[i], size);
	}
	if (below) {
		snprintf(text, sizeof(text), "%.250s", below);
		control_text_clean(text);
		printf("%-14s %s\n", "stands on", text);
	}
	if (json_array_size(json_object_get(info, "snapshots")))
		printf("%-14s %zu\n", "snapshots",
		       json_array_size(json_object_get(info, "snapshots")));
}

int image_info(const struct image_options *opts)
{
	const char *words[] = {"qemu-img",	  "info", "-U", "--output=json", "-f", "raw",
			       "/proc/self/fd/3", NULL};
	struct tool tool = {.words = words,
			    .out_fd = -1,
			    .stdout_fd = -1,
			    .bytes_max = IMAGE_LISTING_MAX,
			    .timeout_s = INFO_S};
	char path[STATE_PATH_MAX], magic[4] = "";
	json_t *info;
	int err, code = path_find(opts, path);

	if (code)
		return code;
	tool.in_fd = image_open(path);
	if (tool.in_fd < 0)
		return EXIT_ERROR;
	if (pread(tool.in_fd, magic, sizeof(magic), 0) == sizeof(magic) &&
	    memcmp(magic, "QFI\xfb", 4) == 0)
		words[5] = "qcow2";
	err = tool_run(&tool);
	close(tool.in_fd);
	if (err)
		return tool_blame(&tool, err, "qemu-utils");
	info = json_loadb(tool.said, tool.said_bytes, 0, NULL);
	free(tool.said);
	if (!json_is_object(info)) {
		json_decref(info);
		cli_say("qemu-img says of %s what makes no sense", path);
		return EXIT_ERROR;
	}
	json_object_set_new(info, "filename", json_string(path));
	/* Of its own description of files it has no more than the number. */
	json_object_del(info, "children");
	code = EXIT_OK;
	if (opts->json)
		code = json_print(info);
	else
		info_print(info);
	json_decref(info);
	return fflush(stdout) ? EXIT_ERROR : code;
}
