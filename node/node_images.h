/* SPDX-License-Identifier: Apache-2.0 */
/* This node's read-only images: a folder of files named by their digests, within a limit, and who uses them. */
#ifndef NODE_NODE_IMAGES_H
#define NODE_NODE_IMAGES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>
#include <uv.h>

#include "control/control.h"
#include "control/images.h"

/* Where they lie if nobody says, and how much of them. */
#define NODE_IMAGE_DIR	     "/var/lib/pangea/images"
#define NODE_IMAGE_CACHE_MAX (UINT64_C(16) << 30)
/* Images of VMs here at a time: those of as many slices as a node has, and rarely more than one each. */
#define NODE_IMAGES_MAX 256u

struct node_daemon;
struct node_slice;

/* ---- node_images.c: the folder; no loop ---- */

struct image_cache {
	const char *dir;
	uint64_t max_bytes;
	int dir_fd;  /* -1: not open yet */
	int lock_fd; /* the folder is this daemon's alone */
};

/* A file as it was when its bytes were compared with its digest: unchanged, it need not be read again. */
struct image_stamp {
	ino_t ino;
	off_t size;
	struct timespec written;
};

/*
 * Opens the folder, makes it if it is not there, takes it for this process alone, and removes what was left of files
 * that did not arrive. 0, or -errno with a sentence in why (CONTROL_WHY_MAX bytes). Repeated calls do nothing.
 */
int image_cache_open(struct image_cache *cache, char *why);
void image_cache_close(struct image_cache *cache);
/*
 * Finds an image's file and makes sure that it is good: by the stamp (of a zero inode: none), or by reading all of it.
 * One that is not good is removed. A descriptor for reading, the stamp being its; or -ENOENT (it is not there, or was
 * removed: *damaged), -ECANCELED (tell said so), other errors. Any thread.
 */
int image_cache_find(const struct image_cache *cache, const struct control_image *image,
		     struct image_stamp *stamp, bool *damaged);
/*
 * Makes room for so many bytes: files that are not in use go, the one that was used longest ago first. 0, -ENOSPC (what
 * is in use leaves too little), or -errno.
 */
int image_cache_room(const struct image_cache *cache, uint64_t bytes,
		     bool (*used)(void *arg, const char *digest), void *arg);
/* A file that is to become an image, of no name that counts: its descriptor, and in name what it is called. -errno:
 * no space for so many bytes, say. */
int image_cache_begin(const struct image_cache *cache, uint64_t bytes, char name[32]);
/*
 * All bytes are there: they reach the disk, and it gets its name. Closes fd. A descriptor for reading with its stamp, or
 * -errno and nothing is left. Slow; any thread.
 */
int image_cache_end(const struct image_cache *cache, int fd, const char *name,
		    const struct control_image *image, struct image_stamp *stamp);
/* It will not be whole: closes and removes it. */
void image_cache_drop(const struct image_cache *cache, int fd, const char *name);

/* ---- uv_images.c: who wants them ---- */

struct image_hold;

struct node_images {
	struct image_cache cache;
	struct image_hold *holds;
	struct image_proof *proofs; /* stamps of files that were read since the start */
};

/* image-want, image-chunk and, each HEARTBEAT_MS, image-busy. */
void images_want(struct node_daemon *node, const json_t *msg);
void images_chunk(struct node_daemon *node, const json_t *msg, const uint8_t *blob, size_t len);
void images_tick(struct node_daemon *node);
/* Nobody of the VM needs them any more. */
void images_forget(struct node_daemon *node, uint64_t incarnation);
/* The slice is over: the same, unless another one of its VM is here. */
void images_slice_over(struct node_slice *slice);
/* Forgets those of VMs that have no slice here: they will not be completed. */
void images_drop_unused(struct node_daemon *node);
/*
 * The open files of slice-start's "images", in their order; they stay the hold's. The count, or negative with a
 * sentence in why: one is not here.
 */
int images_take(struct node_daemon *node, const json_t *msg, uint64_t incarnation,
		int fds[CONTROL_IMAGES_MAX], uint64_t *bytes, char *why);
void images_close(struct node_daemon *node);

#endif
