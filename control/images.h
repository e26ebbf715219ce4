/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's read-only images: their limits, how messages carry them, and the digest that names one. */
#ifndef CONTROL_IMAGES_H
#define CONTROL_IMAGES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

#define CONTROL_IMAGES_MAX	4
#define CONTROL_IMAGE_BYTES_MAX (UINT64_C(64) << 30)
/* SHA-256 in hexadecimal digits, with its zero. */
#define CONTROL_DIGEST_TEXT  65
#define CONTROL_DIGEST_BYTES 32
/* What people know it by: its file's name, with its zero. */
#define CONTROL_IMAGE_NAME_MAX 64

/*
 * How images travel. All of it is about a VM that is being placed, and carries "vm" and "incarnation":
 *   run           cli -> coordinator   "images": of each {name, digest, bytes}
 *   image-want    coordinator -> node  "images" as they are: each node that has a slice looks into its cache
 *   image-have    node -> coordinator  "image" (its place in the list), "have": whether it is there and good
 *   image-send    coordinator -> cli   "image": nodes lack it. Then its bytes:
 *   image-chunk   cli -> coordinator -> nodes that lack it   "image", "offset"; as file-chunk
 *   image-ack     node -> coordinator -> cli   "image", "bytes": the slowest node's
 *   image-stored  node -> coordinator  "image": it is there, and its digest is right
 *   image-busy    node -> coordinator  it reads or writes a long file; each second
 *   image-failed  node -> coordinator  "image", "reason"
 * slice-start carries "images" again: a slice gets what its daemon holds open for the VM.
 */
struct control_image {
	char name[CONTROL_IMAGE_NAME_MAX]; /* printable */
	char digest[CONTROL_DIGEST_TEXT];
	uint64_t bytes;
};

struct control_images {
	unsigned count;
	struct control_image list[CONTROL_IMAGES_MAX];
};

/*
 * Takes a message's field "images", which may be missing, trusting nothing. 0, or -PANGEA_ECONTROL with a sentence in
 * why (CONTROL_WHY_MAX bytes). Any thread.
 */
int control_images_get(const json_t *msg, struct control_images *out, char *why);
/* The same backwards; a new reference, null without memory. */
json_t *control_images_json(const struct control_images *images);
/* 64 lower-case hexadecimal digits: also good as a file's name. */
bool control_digest_valid(const char *text);

/* A digest under way; one thread. */
struct control_digest;
/* null: no memory, or a library without SHA-256. */
struct control_digest *control_digest_new(void);
int control_digest_add(struct control_digest *digest, const void *data, size_t len);
/* Gives the text and frees it; 0 or -EIO. */
int control_digest_end(struct control_digest *digest, char out[CONTROL_DIGEST_TEXT]);
void control_digest_free(struct control_digest *digest); /* it may be null */

/*
 * The digest of the first bytes of an open file; tell (it may be null) hears now and then how many were read, and ends it
 * by false. 0, -ECANCELED, -EIO (the file is shorter), -ENOMEM, or what reading gives. Any thread; reads all of it.
 */
int control_digest_file(int fd, uint64_t bytes, bool (*tell)(void *arg, uint64_t done), void *arg,
			char out[CONTROL_DIGEST_TEXT]);

#endif
