/* SPDX-License-Identifier: Apache-2.0 */
/* pangea image kernel: finds the newest kernel, its initrd and the root file system in an image, and copies the two. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/image.h"

#define LIST_S	   60
#define COPY_S	   600
#define ROOT_INODE 2
/* What it may say on its standard error beside it; the same limit is on both. */
#define SPEECH_BYTES 65536

/* What has been found so far. */
struct search {
	const struct image_disk *disk;
	const struct image_part *kernel_part;
	struct image_entry kernel, initrd; /* an initrd's name may be empty: there is none */
	bool root_known;
	char root[IMAGE_UUID_TEXT];
	char others[160]; /* partitions that cannot be read, for the sentence */
};

/* debugfs reads a file system at an offset of a file, and names neither. It says its errors and succeeds. */
static int debugfs_run(const struct search *search, const struct image_part *part,
		       const char *command, uint32_t inode, struct tool *tool)
{
	char request[40], where[64];
	const char *words[] = {"debugfs", "-c", "-R", request, where, NULL};
	int err;

	snprintf(request, sizeof(request), "%s <%u>", command, inode);
	snprintf(where, sizeof(where), "/proc/self/fd/%d?offset=%llu", TOOL_IN_FD,
		 (unsigned long long)part->start);
	tool->words = words;
	tool->in_fd = search->disk->fd;
	tool->out_fd = -1;
	err = tool_run(tool);
	return err ? tool_blame(tool, err, "e2fsprogs") : 0;
}

/* The entries of a folder, as debugfs lists them; free tool's text. */
static int folder_list(const struct search *search, const struct image_part *part, uint32_t inode,
		       struct tool *tool)
{
	*tool = (struct tool){.stdout_fd = -1, .bytes_max = IMAGE_LISTING_MAX, .timeout_s = LIST_S};
	return debugfs_run(search, part, "ls -p", inode, tool);
}

/* The newest kernel of a folder, if it is newer than what is known, with the initrd that fits it. */
static void folder_search(struct search *search, const struct image_part *part,
			  const struct tool *folder)
{
	const char *at = folder->said, *end = at + folder->said_bytes;
	struct image_entry entry;
	bool any = false;

	while (image_entry_next(&at, end, &entry)) {
		if (!entry.regular || !entry.bytes || entry.bytes > IMAGE_FILE_MAX ||
		    !image_kernel_newer(entry.name,
					search->kernel.name[0] ? search->kernel.name : NULL))
			continue;
		search->kernel = entry;
		search->kernel_part = part;
		search->initrd.name[0] = 0;
		any = true;
	}
	at = folder->said;
	while (any && image_entry_next(&at, end, &entry))
		if (entry.regular && entry.bytes && entry.bytes <= IMAGE_FILE_MAX &&
		    image_initrd_fits(entry.name, search->kernel.name))
			search->initrd = entry;
}

/* A file system: its kernels, in its own folder (it is mounted as /boot) or in boot, and whether it is the root. */
static int ext_search(struct search *search, const struct image_part *part, const uint8_t *head)
{
	struct tool top, boot;
	struct image_entry entry;
	const char *at, *end;
	uint32_t boot_inode = 0;
	bool etc = false;
	int code = folder_list(search, part, ROOT_INODE, &top);

	if (code)
		return code;
	at = top.said;
	end = at + top.said_bytes;
	while (image_entry_next(&at, end, &entry)) {
		if (entry.directory && strcmp(entry.name, "boot") == 0)
			boot_inode = entry.inode;
		etc |= entry.directory && strcmp(entry.name, "etc") == 0;
	}
	folder_search(search, part, &top);
	free(top.said);
	if (etc && !search->root_known) {
		search->root_known = true;
		image_ext_uuid(head, search->root);
	}
	if (!boot_inode)
		return 0;
	code = folder_list(search, part, boot_inode, &boot);
	if (code)
		return code;
	folder_search(search, part, &boot);
	free(boot.said);
	return 0;
}

static void other_note(struct search *search, unsigned number, const char *kind)
{
	size_t used = strlen(search->others);

	snprintf(search->others + used, sizeof(search->others) - used, "%spartition %u is %s",
		 used ? ", " : "; ", number, kind);
}

static int parts_search(struct search *search)
{
	uint8_t *head = malloc(IMAGE_MAGIC_BYTES);
	int code = head ? 0 : EXIT_ERROR;

	for (unsigned i = 0; !code && i < search->disk->parts; i++) {
		const struct image_part *part = &search->disk->part[i];
		ssize_t n = pread(search->disk->fd, head, IMAGE_MAGIC_BYTES, (off_t)part->start);
		const char *kind = n < 2048 ? "" : image_magic(head, (size_t)n);

		if (strcmp(kind, "ext") == 0)
			code = ext_search(search, part, head);
		else if (*kind)
			other_note(search, part->number, kind);
	}
	free(head);
	if (!code && !search->kernel.name[0]) {
		cli_say("%s has no kernel in /boot of an ext4 file system%s%s", search->disk->path,
			search->others, search->others[0] ? ", which cannot be read" : "");
		code = EXIT_IMAGE;
	}
	return code;
}

/* The file's bytes into fd, all of them. */
static int entry_copy(const struct search *search, const struct image_entry *entry, int fd)
{
	struct tool tool = {
		.stdout_fd = fd, .bytes_max = entry->bytes + SPEECH_BYTES, .timeout_s = COPY_S};
	struct stat st;
	int code = debugfs_run(search, search->kernel_part, "cat", entry->inode, &tool);

	if (code)
		return code;
	if (fstat(fd, &st) == 0 && (uint64_t)st.st_size == entry->bytes) {
		if (fsync(fd) == 0)
			return 0;
		cli_say("cannot write %s: %s", entry->name, error_text(-errno));
		return EXIT_ERROR;
	}
	cli_say("%s of %s cannot be read whole: %s", entry->name, search->disk->path,
		tool.complaint);
	return EXIT_IMAGE;
}

/* Into a file of another name first; what is there already is replaced by the whole. */
static int entry_take(const struct search *search, const struct image_entry *entry, const char *dir,
		      char path[STATE_PATH_MAX])
{
	char temporary[STATE_PATH_MAX];
	int fd, code;

	if (snprintf(path, STATE_PATH_MAX, "%s/%s", dir, entry->name) >= STATE_PATH_MAX ||
	    snprintf(temporary, sizeof(temporary), "%s/.%s.XXXXXX", dir, entry->name) >=
		    (int)sizeof(temporary))
		return cli_usage("pangea image", "the name of the folder is too long");
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0) {
		cli_say("cannot write in %s: %s", dir, error_text(-errno));
		return EXIT_ERROR;
	}
	code = entry_copy(search, entry, fd);
	close(fd);
	if (!code && rename(temporary, path) < 0) {
		cli_say("cannot write %s: %s", path, error_text(-errno));
		code = EXIT_ERROR;
	}
	if (code)
		unlink(temporary);
	return code;
}

static int result_say(const struct search *search, const char *kernel, const char *initrd,
		      bool json)
{
	char root[IMAGE_UUID_TEXT + 16] = "";
	json_t *out;
	int bad;

	if (search->root_known)
		snprintf(root, sizeof(root), "root=UUID=%s", search->root);
	else
		cli_say("no ext4 file system of %s has /etc: say root= yourself%s",
			search->disk->path, search->others);
	if (!json) {
		printf("kernel: %s\n", kernel);
		if (*initrd)
			printf("initrd: %s\n", initrd);
		if (*root)
			printf("append: %s\n", root);
		return fflush(stdout) ? EXIT_ERROR : EXIT_OK;
	}
	out = json_pack("{s:s, s:s*, s:s*}", "kernel", kernel, "initrd", *initrd ? initrd : NULL,
			"append", *root ? root : NULL);
	bad = !out || json_dumpf(out, stdout, JSON_INDENT(2)) < 0 || putchar('\n') < 0;
	json_decref(out);
	return bad || fflush(stdout) ? EXIT_ERROR : EXIT_OK;
}

int image_kernel(const struct image_options *opts)
{
	const char *dir = opts->out ? opts->out : ".";
	char kernel[STATE_PATH_MAX], initrd[STATE_PATH_MAX] = "";
	struct image_disk *disk = malloc(sizeof(*disk));
	struct search search = {.disk = disk};
	int code = disk ? image_disk_open(disk, opts->file, dir) : EXIT_ERROR;

	if (code) {
		free(disk);
		return code;
	}
	code = parts_search(&search);
	if (!code)
		code = entry_take(&search, &search.kernel, dir, kernel);
	if (!code && search.initrd.name[0])
		code = entry_take(&search, &search.initrd, dir, initrd);
	if (!code)
		code = result_say(&search, kernel, initrd, opts->json);
	image_disk_close(disk);
	free(disk);
	return code;
}
