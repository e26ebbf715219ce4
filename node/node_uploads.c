/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels and initrds that travel here: nameless files, so that nothing can be left behind. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "node/node.h"

/* As the coordinator's limit on what a client may send. */
#define UPLOAD_BYTES_MAX (UINT64_C(512) << 20)

struct upload *upload_find(struct node_daemon *node, uint64_t incarnation)
{
	for (unsigned i = 0; i < NODE_UPLOADS_MAX; i++)
		if (node->upload[i].vm[0] && node->upload[i].incarnation == incarnation)
			return &node->upload[i];
	return NULL;
}

static struct upload *upload_free_slot(struct node_daemon *node)
{
	for (unsigned i = 0; i < NODE_UPLOADS_MAX; i++)
		if (!node->upload[i].vm[0])
			return &node->upload[i];
	return NULL;
}

/* A private file in the run directory that loses its name at once. */
static int file_make(const char *dir)
{
	char path[4096];
	int fd;

	if ((size_t)snprintf(path, sizeof(path), "%s/upload-XXXXXX", dir) >= sizeof(path))
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	/* The slice opens it by its descriptor, as another user; without a name nobody else can. */
	if (fchmod(fd, 0444) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

void upload_forget(struct node_daemon *node, uint64_t incarnation)
{
	struct upload *upload = upload_find(node, incarnation);

	if (!upload)
		return;
	for (int i = 0; i < UPLOAD_FILES; i++)
		if (upload->fd[i] >= 0)
			close(upload->fd[i]);
	memset(upload, 0, sizeof(*upload));
}

/* Makes the nameless files that are wanted, and fills the seed. */
static int files_make(struct upload *upload, const char *dir, const uint8_t *seed)
{
	int err;

	for (int i = 0; i < UPLOAD_FILES; i++) {
		if (!upload->want[i])
			continue;
		upload->fd[i] = file_make(dir);
		if (upload->fd[i] < 0)
			return upload->fd[i];
	}
	if (!upload->want[UPLOAD_SEED])
		return 0;
	err = file_write_at(upload->fd[UPLOAD_SEED], seed, upload->want[UPLOAD_SEED], 0);
	upload->got[UPLOAD_SEED] = upload->want[UPLOAD_SEED];
	return err;
}

int upload_begin(struct node_daemon *node, const json_t *msg, const uint8_t *seed, size_t seed_len,
		 char *why)
{
	struct upload *upload = upload_free_slot(node);
	uint64_t kernel, initrd, incarnation;
	const char *vm;
	int err;

	if ((err = control_get_name(msg, "vm", &vm, why)) ||
	    (err = control_get_id(msg, "incarnation", &incarnation, why)) ||
	    (err = control_get_u64(msg, "kernel_bytes", 1, UPLOAD_BYTES_MAX, &kernel, why)) ||
	    (err = control_get_u64(msg, "initrd_bytes", 0, UPLOAD_BYTES_MAX, &initrd, why)))
		return err;
	if (seed_len && seed_len != CONTROL_SEED_BYTES) {
		snprintf(why, CONTROL_WHY_MAX, "a seed of %zu bytes came", seed_len);
		return -PANGEA_ECONTROL;
	}
	upload_forget(node, incarnation);
	if (!upload) {
		snprintf(why, CONTROL_WHY_MAX, "it keeps %d kernels already", NODE_UPLOADS_MAX);
		return -EMFILE;
	}
	snprintf(upload->vm, sizeof(upload->vm), "%s", vm);
	upload->incarnation = incarnation;
	upload->want[UPLOAD_KERNEL] = kernel;
	upload->want[UPLOAD_INITRD] = initrd;
	upload->want[UPLOAD_SEED] = seed_len;
	for (int i = 0; i < UPLOAD_FILES; i++)
		upload->fd[i] = -1;
	err = files_make(upload, node->opts.run_dir, seed);
	if (err) {
		snprintf(why, CONTROL_WHY_MAX, "no file in %.200s: %s", node->opts.run_dir,
			 error_text(err));
		upload_forget(node, incarnation);
	}
	return err;
}

int upload_chunk(struct node_daemon *node, const json_t *msg, const uint8_t *blob, size_t len,
		 char *why)
{
	struct upload *upload;
	uint64_t offset, incarnation;
	const char *name;
	int which, err;

	if ((err = control_get_id(msg, "incarnation", &incarnation, why)) ||
	    (err = control_get_string(msg, "file", &name, why)) ||
	    (err = control_get_u64(msg, "offset", 0, UPLOAD_BYTES_MAX, &offset, why)))
		return err;
	which = strcmp(name, "kernel") == 0 ? UPLOAD_KERNEL : UPLOAD_INITRD;
	upload = upload_find(node, incarnation);
	if (!upload) {
		snprintf(why, CONTROL_WHY_MAX, "a piece came of a file that was not announced");
		return -PANGEA_ECONTROL;
	}
	if (offset != upload->got[which] || len == 0 ||
	    len > upload->want[which] - upload->got[which]) {
		snprintf(why, CONTROL_WHY_MAX, "a piece of the %s came out of place",
			 which == UPLOAD_KERNEL ? "kernel" : "initrd");
		return -PANGEA_ECONTROL;
	}
	err = file_write_at(upload->fd[which], blob, len, offset);
	if (err) {
		snprintf(why, CONTROL_WHY_MAX, "%s", error_text(err));
		return err;
	}
	upload->got[which] += len;
	return 0;
}

bool upload_whole(const struct upload *upload)
{
	for (int i = 0; i < UPLOAD_FILES; i++)
		if (upload->got[i] != upload->want[i])
			return false;
	return true;
}

void uploads_drop_unused(struct node_daemon *node)
{
	for (unsigned i = 0; i < NODE_UPLOADS_MAX; i++) {
		struct upload *upload = &node->upload[i];
		bool used = false;
		for (unsigned s = 0; s < NODE_SLICES_MAX; s++)
			used |= node->slice[s] &&
				node->slice[s]->incarnation == upload->incarnation;
		if (upload->vm[0] && !used)
			upload_forget(node, upload->incarnation);
	}
}
