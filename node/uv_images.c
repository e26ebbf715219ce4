/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images that VMs here use, from the coordinator's image-want on: looked for, received, and held open until the VM's
 * last slice here is over. What reads or writes whole files runs beside the loop, on libuv's threads.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "node/node.h"

enum hold_state {
	HOLD_LOOKING, /* a thread looks for it */
	HOLD_FILLING, /* its bytes come */
	HOLD_SAVING,  /* a thread takes it to the disk */
	HOLD_READY,
};

/* An image of a VM. */
struct image_hold {
	struct image_hold *next;
	struct node_daemon *node;
	char vm[NAME_MAX_LEN + 1];
	uint64_t incarnation;
	unsigned index; /* in the VM's list */
	struct control_image what;
	enum hold_state state;
	bool dropped; /* nobody wants it any more: it goes when its thread is done */
	int fd;	      /* filling: for writing; ready: for reading */
	char name[32];
	uint64_t got;
	struct control_digest *digest;
	/* the thread's */
	uv_work_t work;
	struct image_stamp stamp;
	bool damaged;
	int result;
};

struct image_proof {
	struct image_proof *next;
	char digest[CONTROL_DIGEST_TEXT];
	struct image_stamp stamp;
};

static void say(const struct image_hold *hold, json_t *msg)
{
	json_object_set_new(msg, "vm", json_string(hold->vm));
	json_object_set_new(msg, "incarnation", control_id_json(hold->incarnation));
	json_object_set_new(msg, "image", json_integer((json_int_t)hold->index));
	link_send(hold->node, msg, NULL, 0);
}

/* ---- what was read since the start ---- */

static struct image_proof *proof_find(const struct node_images *images, const char *digest)
{
	struct image_proof *proof = images->proofs;

	while (proof && strcmp(proof->digest, digest) != 0)
		proof = proof->next;
	return proof;
}

/* Without memory for it the file is read again. */
static void proof_keep(struct node_images *images, const struct image_hold *hold)
{
	struct image_proof *proof = proof_find(images, hold->what.digest);

	if (!proof) {
		proof = calloc(1, sizeof(*proof));
		if (!proof)
			return;
		memcpy(proof->digest, hold->what.digest, sizeof(proof->digest));
		proof->next = images->proofs;
		images->proofs = proof;
	}
	proof->stamp = hold->stamp;
}

/* ---- holds ---- */

static bool digest_used(void *arg, const char *digest)
{
	const struct node_images *images = arg;

	for (const struct image_hold *hold = images->holds; hold; hold = hold->next)
		if (strcmp(hold->what.digest, digest) == 0)
			return true;
	return false;
}

static struct image_hold *hold_find(const struct node_images *images, uint64_t incarnation,
				    unsigned index)
{
	struct image_hold *hold = images->holds;

	while (hold && (hold->dropped || hold->incarnation != incarnation || hold->index != index))
		hold = hold->next;
	return hold;
}

static void hold_free(struct image_hold *hold)
{
	struct node_images *images = &hold->node->images;
	struct image_hold **at = &images->holds;

	while (*at != hold)
		at = &(*at)->next;
	*at = hold->next;
	control_digest_free(hold->digest);
	if (hold->state == HOLD_FILLING)
		image_cache_drop(&images->cache, hold->fd, hold->name);
	else if (hold->fd >= 0)
		close(hold->fd);
	free(hold);
}

static void hold_drop(struct image_hold *hold)
{
	if (hold->state == HOLD_LOOKING || hold->state == HOLD_SAVING)
		hold->dropped = true;
	else
		hold_free(hold);
}

static void hold_fail(struct image_hold *hold, const char *reason)
{
	char text[CONTROL_WHY_MAX];

	snprintf(text, sizeof(text), "%s", reason);
	control_text_clean(text);
	log_error("VM %s: image %s: %s", hold->vm, hold->what.name, text);
	say(hold, json_pack("{s:s, s:s}", "type", "image-failed", "reason", text));
	hold_drop(hold);
}

static unsigned holds_count(const struct node_images *images)
{
	unsigned count = 0;

	for (const struct image_hold *hold = images->holds; hold; hold = hold->next)
		count++;
	return count;
}

/* ---- looking for it ---- */

/* There is none: a file for it, or why there cannot be one. */
static void fill_begin(struct image_hold *hold)
{
	struct image_cache *cache = &hold->node->images.cache;
	char why[CONTROL_WHY_MAX], size[32];
	int err = image_cache_room(cache, hold->what.bytes, digest_used, &hold->node->images);

	if (err) {
		control_size_format(cache->max_bytes, size, sizeof(size));
		snprintf(why, sizeof(why),
			 err == -ENOSPC
				 ? "the image cache has room for %s, which this image and those "
				   "in use exceed: start pangead there with a larger --image-cache"
				 : "the image cache cannot be tidied up",
			 size);
		hold_fail(hold, why);
		return;
	}
	hold->digest = control_digest_new();
	hold->fd = hold->digest ? image_cache_begin(cache, hold->what.bytes, hold->name) : -ENOMEM;
	if (hold->fd < 0) {
		snprintf(why, sizeof(why), "no file in %.200s: %s", cache->dir,
			 error_text(hold->fd));
		hold_fail(hold, why);
		return;
	}
	hold->state = HOLD_FILLING;
	say(hold, json_pack("{s:s, s:b}", "type", "image-have", "have", 0));
}

static void look_run(uv_work_t *work)
{
	struct image_hold *hold = work->data;

	hold->result = image_cache_find(&hold->node->images.cache, &hold->what, &hold->stamp,
					&hold->damaged);
}

static void look_done(uv_work_t *work, int status)
{
	struct image_hold *hold = work->data;

	(void)status; /* never cancelled */
	hold->fd = hold->result >= 0 ? hold->result : -1;
	hold->state = HOLD_READY;
	if (hold->damaged)
		log_warn("image %s in the cache is damaged (%s): it is fetched again",
			 hold->what.name, hold->what.digest);
	if (hold->dropped) {
		hold_free(hold);
	} else if (hold->fd >= 0) {
		proof_keep(&hold->node->images, hold);
		say(hold, json_pack("{s:s, s:b}", "type", "image-have", "have", 1));
	} else if (hold->result == -ENOENT) {
		fill_begin(hold);
	} else {
		hold_fail(hold, error_text(hold->result));
	}
}

static void hold_begin(struct node_daemon *node, const char *vm, uint64_t incarnation,
		       unsigned index, const struct control_image *what)
{
	struct image_proof *proof = proof_find(&node->images, what->digest);
	struct image_hold *hold = calloc(1, sizeof(*hold));
	char why[CONTROL_WHY_MAX] = "";

	if (!hold)
		return; /* its VM ends at its deadline */
	*hold = (struct image_hold){.next = node->images.holds,
				    .node = node,
				    .incarnation = incarnation,
				    .index = index,
				    .what = *what,
				    .state = HOLD_READY,
				    .fd = -1};
	snprintf(hold->vm, sizeof(hold->vm), "%s", vm);
	node->images.holds = hold;
	if (proof)
		hold->stamp = proof->stamp;
	if (holds_count(&node->images) > NODE_IMAGES_MAX)
		snprintf(why, sizeof(why), "%u images are in use here already", NODE_IMAGES_MAX);
	else if (image_cache_open(&node->images.cache, why) == 0) {
		hold->work.data = hold;
		hold->state = HOLD_LOOKING;
		if (uv_queue_work(&node->loop, &hold->work, look_run, look_done) == 0)
			return;
		hold->state = HOLD_READY;
		snprintf(why, sizeof(why), "out of memory");
	}
	hold_fail(hold, why);
}

void images_want(struct node_daemon *node, const json_t *msg)
{
	struct control_images images;
	char why[CONTROL_WHY_MAX];
	uint64_t incarnation;
	const char *vm;

	if (control_get_name(msg, "vm", &vm, why) ||
	    control_get_id(msg, "incarnation", &incarnation, why) ||
	    control_images_get(msg, &images, why)) {
		log_warn("the coordinator wants images that make no sense: %s", why);
		return;
	}
	images_forget(node, incarnation);
	for (unsigned i = 0; i < images.count; i++)
		hold_begin(node, vm, incarnation, i, &images.list[i]);
}

/* ---- its bytes ---- */

static void save_run(uv_work_t *work)
{
	struct image_hold *hold = work->data;

	hold->result = image_cache_end(&hold->node->images.cache, hold->fd, hold->name, &hold->what,
				       &hold->stamp);
}

static void save_done(uv_work_t *work, int status)
{
	struct image_hold *hold = work->data;

	(void)status;
	hold->fd = hold->result >= 0 ? hold->result : -1;
	hold->state = HOLD_READY;
	if (hold->dropped) {
		hold_free(hold);
	} else if (hold->fd < 0) {
		hold_fail(hold, error_text(hold->result));
	} else {
		proof_keep(&hold->node->images, hold);
		log_info("image %s is in the cache: %llu MiB", hold->what.name,
			 (unsigned long long)hold->what.bytes >> 20);
		say(hold, json_pack("{s:s}", "type", "image-stored"));
	}
}

/* The last byte has come. */
static void save_begin(struct image_hold *hold)
{
	char digest[CONTROL_DIGEST_TEXT];
	int err = control_digest_end(hold->digest, digest);

	hold->digest = NULL;
	if (err || strcmp(digest, hold->what.digest) != 0) {
		hold_fail(hold,
			  "its bytes are not those of its digest: was the file changed meanwhile?");
		return;
	}
	hold->work.data = hold;
	hold->state = HOLD_SAVING;
	if (uv_queue_work(&hold->node->loop, &hold->work, save_run, save_done) == 0)
		return;
	hold->state = HOLD_FILLING;
	hold_fail(hold, "out of memory");
}

static void chunk_store(struct image_hold *hold, const uint8_t *blob, size_t len)
{
	int err = file_write_at(hold->fd, blob, len, hold->got);

	if (!err)
		err = control_digest_add(hold->digest, blob, len);
	if (err) {
		hold_fail(hold, error_text(err));
		return;
	}
	hold->got += len;
	say(hold, json_pack("{s:s, s:I}", "type", "image-ack", "bytes", (json_int_t)len));
	if (hold->got == hold->what.bytes)
		save_begin(hold);
}

void images_chunk(struct node_daemon *node, const json_t *msg, const uint8_t *blob, size_t len)
{
	uint64_t incarnation, offset;
	struct image_hold *hold;
	char why[CONTROL_WHY_MAX];
	unsigned index;

	if (control_get_id(msg, "incarnation", &incarnation, why) ||
	    control_get_uint(msg, "image", 0, CONTROL_IMAGES_MAX - 1, &index, why) ||
	    control_get_u64(msg, "offset", 0, CONTROL_IMAGE_BYTES_MAX, &offset, why))
		return;
	hold = hold_find(&node->images, incarnation, index);
	/* What comes after a failure was under way. */
	if (!hold || hold->state != HOLD_FILLING)
		return;
	if (offset != hold->got || !len || len > hold->what.bytes - hold->got)
		hold_fail(hold, "a piece of it came out of place");
	else
		chunk_store(hold, blob, len);
}

void images_tick(struct node_daemon *node)
{
	for (struct image_hold *hold = node->images.holds; hold; hold = hold->next)
		if (!hold->dropped && (hold->state == HOLD_LOOKING || hold->state == HOLD_SAVING))
			say(hold, json_pack("{s:s}", "type", "image-busy"));
}

/* ---- letting go ---- */

void images_forget(struct node_daemon *node, uint64_t incarnation)
{
	struct image_hold *next;

	for (struct image_hold *hold = node->images.holds; hold; hold = next) {
		next = hold->next;
		if (hold->incarnation == incarnation && !hold->dropped)
			hold_drop(hold);
	}
}

static bool vm_here(const struct node_daemon *node, uint64_t incarnation)
{
	for (unsigned i = 0; i < NODE_SLICES_MAX; i++)
		if (node->slice[i] && !node->slice[i]->over &&
		    node->slice[i]->incarnation == incarnation)
			return true;
	return false;
}

void images_slice_over(struct node_slice *slice)
{
	if (!vm_here(slice->node, slice->incarnation))
		images_forget(slice->node, slice->incarnation);
}

void images_drop_unused(struct node_daemon *node)
{
	struct image_hold *next;

	for (struct image_hold *hold = node->images.holds; hold; hold = next) {
		next = hold->next;
		if (!hold->dropped && !vm_here(node, hold->incarnation))
			hold_drop(hold);
	}
}

int images_take(struct node_daemon *node, const json_t *msg, uint64_t incarnation,
		int fds[CONTROL_IMAGES_MAX], uint64_t *bytes, char *why)
{
	struct control_images images;
	int err = control_images_get(msg, &images, why);

	if (err)
		return err;
	for (unsigned i = 0; i < images.count; i++) {
		const struct image_hold *hold = hold_find(&node->images, incarnation, i);

		if (!hold || hold->state != HOLD_READY || hold->fd < 0 ||
		    strcmp(hold->what.digest, images.list[i].digest) != 0) {
			snprintf(why, CONTROL_WHY_MAX, "its image %s is not here",
				 images.list[i].name);
			return -ENOENT;
		}
		fds[i] = hold->fd;
		bytes[i] = hold->what.bytes;
	}
	return (int)images.count;
}

void images_close(struct node_daemon *node)
{
	while (node->images.holds)
		hold_free(node->images.holds);
	while (node->images.proofs) {
		struct image_proof *proof = node->images.proofs;

		node->images.proofs = proof->next;
		free(proof);
	}
	image_cache_close(&node->images.cache);
}
