/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console's log: DIR/log-NAME.new is written, DIR/log-NAME.old is what came before it, full, and DIR/log-NAME.at
 * says where in the console's output it stands, so that what a daemon sends twice is not written twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "control/control.h"
#include "coordinator/vm_log.h"

#define PREFIX	   "log-"
#define HALF_BYTES (VM_LOG_BYTES_MAX / 2)
#define AT_FORMAT  "%16s %020" PRIu64 " %020" PRIu64 "\n"
#define AT_BYTES   80

static const char *const ends[] = {"new", "old", "at"};

/* Where a log stands. */
struct place {
	char incarnation[17]; /* "": there is no log */
	uint64_t console;     /* the next byte of that incarnation's output */
	uint64_t begin;	      /* of the file that is written, in the log */
};

struct log_file {
	char path[PATH_MAX];
	int fd; /* -1: none */
	uint64_t bytes;
};

static int path_make(char path[PATH_MAX], const char *dir, const char *vm, const char *end)
{
	int n = snprintf(path, PATH_MAX, "%s/" PREFIX "%s.%s", dir, vm, end);

	return n > 0 && n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* flags without O_CREAT: a file that is not there has fd -1 and no bytes. */
static int file_open(struct log_file *file, const char *dir, const char *vm, const char *end,
		     int flags)
{
	int err = path_make(file->path, dir, vm, end);
	struct stat st;

	file->fd = -1;
	file->bytes = 0;
	if (err)
		return err;
	file->fd = open(file->path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file->fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(file->fd, &st) == 0) {
		file->bytes = (uint64_t)st.st_size;
		return 0;
	}
	err = -errno;
	close(file->fd);
	file->fd = -1;
	return err;
}

static void file_close(struct log_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

static int place_read(const char *dir, const char *vm, struct place *place)
{
	char text[AT_BYTES + 1] = "";
	struct log_file file;
	int err = file_open(&file, dir, vm, "at", O_RDONLY);
	ssize_t n = file.fd < 0 ? 0 : pread(file.fd, text, AT_BYTES, 0);

	*place = (struct place){0};
	file_close(&file);
	if (err || n <= 0)
		return err;
	/* A file that is no such: the log begins anew. */
	if (sscanf(text, "%16[0-9a-f] %" SCNu64 " %" SCNu64, place->incarnation, &place->console,
		   &place->begin) != 3)
		*place = (struct place){0};
	return 0;
}

static int place_write(const char *dir, const char *vm, const struct place *place)
{
	char text[AT_BYTES];
	struct log_file file;
	int n = snprintf(text, sizeof(text), AT_FORMAT, place->incarnation, place->console,
			 place->begin);
	int err = file_open(&file, dir, vm, "at", O_WRONLY | O_CREAT);

	if (!err && pwrite(file.fd, text, (size_t)n, 0) != n)
		err = errno ? -errno : -EIO;
	file_close(&file);
	return err;
}

/* Behind what is there; all of it or nothing. */
static int file_append(struct log_file *file, const void *data, size_t len)
{
	ssize_t n = len ? pwrite(file->fd, data, len, (off_t)file->bytes) : 0;
	int err = n < 0 ? -errno : (size_t)n < len ? -ENOSPC : 0;

	if (!err)
		file->bytes += len;
	return err;
}

/* The mark of what is missing, and the data. */
static int output_append(struct log_file *file, const struct place *place, const char *vm,
			 const char *incarnation, uint64_t lost, const void *data, size_t len)
{
	char mark[CONTROL_MARK_MAX + NAME_MAX_LEN];
	uint64_t before = file->bytes;
	int n, err = 0;

	if (place->incarnation[0] && strcmp(place->incarnation, incarnation) != 0) {
		n = snprintf(mark, sizeof(mark), "\r\n[pangea: VM %s is started again]\r\n", vm);
		err = file_append(file, mark, (size_t)n);
	}
	if (!err && lost)
		err = file_append(file, mark, control_console_mark(lost, mark));
	if (!err)
		err = file_append(file, data, len);
	if (err && ftruncate(file->fd, (off_t)before) < 0)
		err = -errno;
	return err;
}

/* The file is full: it becomes the old one. */
static int files_turn(const struct log_file *file, const char *dir, const char *vm,
		      struct place *place)
{
	char old[PATH_MAX];
	int err = path_make(old, dir, vm, "old");

	if (!err && rename(file->path, old) < 0)
		err = -errno;
	if (!err)
		place->begin += file->bytes;
	return err;
}

int vm_log_add(const char *dir, const char *vm, const char *incarnation, uint64_t offset,
	       const void *data, size_t len)
{
	struct place place;
	struct log_file file;
	uint64_t at, known, lost;
	int err = place_read(dir, vm, &place);

	if (err)
		return err;
	at = strcmp(place.incarnation, incarnation) == 0 ? place.console : 0;
	known = at > offset ? at - offset : 0;
	known = known < len ? known : len;
	lost = offset > at ? offset - at : 0;
	if (known == len && !lost)
		return 0;
	err = file_open(&file, dir, vm, "new", O_RDWR | O_CREAT);
	if (err)
		return err;
	err = output_append(&file, &place, vm, incarnation, lost, (const uint8_t *)data + known,
			    len - known);
	if (!err) {
		snprintf(place.incarnation, sizeof(place.incarnation), "%s", incarnation);
		place.console = offset + len;
		if (file.bytes >= HALF_BYTES)
			err = files_turn(&file, dir, vm, &place);
	}
	file_close(&file);
	return err ? err : place_write(dir, vm, &place);
}

/* At most so much of it from there on. */
static int file_read(const struct log_file *file, uint64_t offset, uint8_t *data, size_t room,
		     size_t *len)
{
	ssize_t n = 0;

	*len = 0;
	if (file->fd < 0 || offset >= file->bytes)
		return 0;
	if (room > file->bytes - offset)
		room = (size_t)(file->bytes - offset);
	n = pread(file->fd, data, room, (off_t)offset);
	*len = n > 0 ? (size_t)n : 0;
	return n < 0 ? -errno : 0;
}

int vm_log_read(const char *dir, const char *vm, uint64_t offset, uint8_t data[VM_LOG_PIECE],
		struct vm_log_piece *piece)
{
	struct place place;
	struct log_file now = {.fd = -1}, old = {.fd = -1};
	uint64_t first;
	int err;

	*piece = (struct vm_log_piece){0};
	if ((err = place_read(dir, vm, &place)) ||
	    (err = file_open(&now, dir, vm, "new", O_RDONLY)) ||
	    (err = file_open(&old, dir, vm, "old", O_RDONLY))) {
		file_close(&now);
		return err;
	}
	first = place.begin > old.bytes ? place.begin - old.bytes : 0;
	piece->end = place.begin + now.bytes;
	piece->lost = offset < first ? first - offset : 0;
	piece->offset = offset < first ? first : offset < piece->end ? offset : piece->end;
	if (piece->offset < place.begin)
		err = file_read(&old, piece->offset - first, data, VM_LOG_PIECE, &piece->len);
	else
		err = file_read(&now, piece->offset - place.begin, data, VM_LOG_PIECE, &piece->len);
	file_close(&now);
	file_close(&old);
	return err;
}

void vm_log_remove(const char *dir, const char *vm)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (path_make(path, dir, vm, ends[i]) == 0 && unlink(path) < 0 && errno != ENOENT)
			log_warn("cannot remove %s: %s", path, error_text(-errno));
}

void vm_log_sweep(const char *dir, state_dir_keeps *keeps, void *arg)
{
	state_dir_sweep(dir, PREFIX, keeps, vm_log_remove, arg);
}
