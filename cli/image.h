/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `pangea image` share. */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/cli.h"

/* Of an image that nobody vouches for: so much is taken from it, and no more. */
#define IMAGE_PARTS_MAX	   128
#define IMAGE_NAME_MAX	   200
#define IMAGE_FILE_MAX	   (UINT64_C(512) << 20) /* as `pangea run` takes */
#define IMAGE_LISTING_MAX  (4u << 20)
#define IMAGE_VIRTUAL_MAX  (UINT64_C(64) << 40)
#define IMAGE_UNPACKED_MAX (UINT64_C(256) << 30) /* of a qcow2 image, which is unpacked first */

/* ---- cli_image_tool.c: programs of other people's, without a shell ---- */

#define TOOL_IN_FD  3
#define TOOL_OUT_FD 4

struct tool {
	const char *const *words; /* null behind the last */
	int in_fd, out_fd;	  /* become TOOL_IN_FD and TOOL_OUT_FD; -1: none */
	int stdout_fd;		  /* -1: what it says is kept, as said */
	uint64_t bytes_max;	  /* no file that it writes becomes longer */
	unsigned timeout_s;
	char *said; /* out, only if it succeeded: zero-terminated; free it */
	size_t said_bytes;
	char complaint[200]; /* out: the last line of its standard error, or "" */
};

/*
 * Runs a program from PATH or from where administrators' programs are, and waits for it. 0; -ENOENT: it is not
 * installed; -ETIMEDOUT: it was killed at its deadline; -EIO: it failed, see complaint; another -errno.
 */
int tool_run(struct tool *tool);
/* Says what went wrong with the package that has it; returns EXIT_ERROR. */
int tool_blame(const struct tool *tool, int err, const char *package);

/* ---- cli_image_names.c: what the tools say; no I/O ---- */

struct image_part {
	unsigned number; /* 0: the image is a file system itself */
	uint64_t start, bytes;
};

struct image_entry {
	uint32_t inode;
	bool directory, regular;
	uint64_t bytes;
	char name[IMAGE_NAME_MAX + 1];
};

/*
 * Takes what `sfdisk --json` says of an image of so many bytes: its partitions that lie within, at most
 * IMAGE_PARTS_MAX. Their number, or -EINVAL: it makes no sense.
 */
int image_parts_parse(const char *text, size_t len, uint64_t image_bytes,
		      struct image_part parts[IMAGE_PARTS_MAX]);
/* A file's name of letters, digits and "._+~-", not beginning with '.' or '-': it leads nowhere else. */
bool image_name_plain(const char *name);
/* Takes one line of debugfs's `ls -p`, without its end; false: it is none, or the name is no plain one. */
bool image_entry_parse(const char *line, size_t len, struct image_entry *out);
/* Takes the next line at *at of a listing and moves it; false: there is none. Lines that are no entries are skipped. */
bool image_entry_next(const char **at, const char *end, struct image_entry *out);
/* "vmlinuz-6.1.0-9-amd64" is newer than "vmlinuz-6.1.0-8-amd64"; best may be null. False if name is no kernel's. */
bool image_kernel_newer(const char *name, const char *best);
/* Whether this is the initrd of that kernel, by any distribution's naming. */
bool image_initrd_fits(const char *name, const char *kernel);
/* What is at the beginning of a partition, by its first bytes (len, up to IMAGE_MAGIC_BYTES): "ext", "xfs", ...; ""
 * if that is not known. Static. */
#define IMAGE_MAGIC_BYTES 65700
const char *image_magic(const uint8_t *head, size_t len);
/* The UUID of an ext file system as text, from its first 2 KiB. */
#define IMAGE_UUID_TEXT 37
void image_ext_uuid(const uint8_t *head, char out[IMAGE_UUID_TEXT]);

/* ---- cli_image_disk.c: the bytes of an image ---- */

struct image_disk {
	const char *path; /* as people wrote it */
	int fd;		  /* of its contents, raw; never written */
	uint64_t bytes;
	unsigned parts;
	struct image_part part[IMAGE_PARTS_MAX];
};

/*
 * Opens a raw or qcow2 image for reading and finds its partitions; a qcow2 image is unpacked into a nameless file in
 * dir. 0 or an exit code, having said why.
 */
int image_disk_open(struct image_disk *disk, const char *path, const char *dir);
void image_disk_close(struct image_disk *disk);

/* ---- the commands ---- */

#define IMAGE_SHA256_TEXT 65

struct image_options {
	const char *file;   /* an image's path or name, or a URL */
	const char *out;    /* for kernel; null: the working directory */
	const char *dir;    /* the folder of disks */
	const char *name;   /* for pull; null: as the URL says */
	const char *sha256; /* for pull; null: whatever comes */
	bool json;
};

/* Each returns an exit code, having said why: cli_image_kernel.c, cli_image_pull.c, cli_image_list.c. */
int image_kernel(const struct image_options *opts);
int image_pull(const struct image_options *opts);
int image_list(const struct image_options *opts);
int image_remove(const struct image_options *opts);
int image_info(const struct image_options *opts);

#endif
