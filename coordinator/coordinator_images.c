/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images of a VM that is being placed: which nodes lack them, and their bytes from the owner to all those at once. The
 * owner's window (CONTROL_UPLOAD_WINDOW) is the same as the kernel's, and the slowest node moves it on.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/coordinator_internal.h"

/* Whether the slice is the first of its VM on its node. */
static bool stands_for_node(const struct vm *vm, unsigned index)
{
	for (unsigned i = 0; i < index; i++)
		if (vm->slice[i].node == vm->slice[index].node)
			return false;
	return vm->slice[index].node != NULL;
}

static void node_tell(struct coordinator *co, const struct vm *vm, unsigned index, json_t *msg,
		      const void *blob, size_t len)
{
	json_object_set_new(msg, "vm", json_string(vm->name));
	json_object_set_new(msg, "incarnation", control_id_json(vm->incarnation));
	action_send(co, vm->slice[index].node->peer, msg, blob, len);
}

static struct peer *owner_of(struct coordinator *co, const struct vm *vm)
{
	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (co->peer[i].id && co->peer[i].vm == vm && co->peer[i].owner)
			return &co->peer[i];
	return NULL;
}

void images_ask(struct coordinator *co, struct vm *vm)
{
	for (unsigned i = 0; i < vm->slices && vm->images.count; i++)
		if (stands_for_node(vm, i))
			node_tell(co, vm, i,
				  message_make("{s:s, s:o}", "type", "image-want", "images",
					       control_images_json(&vm->images)),
				  NULL, 0);
}

void vm_files_forget(struct coordinator *co, struct vm *vm)
{
	for (unsigned i = 0; i < vm->slices; i++)
		if (stands_for_node(vm, i) && (i == 0 || vm->images.count))
			node_tell(co, vm, i, message_make("{s:s}", "type", "vm-forget"), NULL, 0);
}

/* How many nodes are at this with the image. */
static unsigned places(const struct vm *vm, const struct image_way *way, enum image_place place)
{
	unsigned count = 0;

	for (unsigned i = 0; i < vm->slices; i++)
		count += stands_for_node(vm, i) && way->place[i] == place;
	return count;
}

void vm_start_if_ready(struct coordinator *co, struct vm *vm)
{
	if (!vm->files_stored)
		return;
	for (unsigned i = 0; i < vm->images.count; i++)
		if (places(vm, &vm->image_way[i], IMAGE_UNKNOWN) ||
		    places(vm, &vm->image_way[i], IMAGE_LACKS))
			return;
	vm_start(co, vm);
}

/* All nodes have answered: the owner sends it if any of them lacks it. */
static void send_ask(struct coordinator *co, struct vm *vm, unsigned image)
{
	struct image_way *way = &vm->image_way[image];
	struct peer *owner = owner_of(co, vm);
	unsigned lacking = places(vm, way, IMAGE_LACKS);

	if (way->asked || !lacking || places(vm, way, IMAGE_UNKNOWN) || !owner)
		return;
	way->asked = true;
	action_log(co, "VM %s: image %s goes to %u nodes", vm->name, vm->images.list[image].name,
		   lacking);
	action_send(co, owner->id,
		    message_make("{s:s, s:s, s:i, s:i}", "type", "image-send", "vm", vm->name,
				 "image", (int)image, "nodes", (int)lacking),
		    NULL, 0);
}

/* As far as all that lack it have come, the owner may go on. */
static void acks_count(struct coordinator *co, struct vm *vm, unsigned image)
{
	struct image_way *way = &vm->image_way[image];
	struct peer *owner = owner_of(co, vm);
	uint64_t least = way->sent;
	unsigned news;

	for (unsigned i = 0; i < vm->slices; i++)
		if (stands_for_node(vm, i) && way->place[i] == IMAGE_LACKS && way->acked[i] < least)
			least = way->acked[i];
	if (least <= way->acknowledged || !owner)
		return;
	news = (unsigned)(least - way->acknowledged);
	way->acknowledged = least;
	owner->upload_owed -= news < owner->upload_owed ? news : owner->upload_owed;
	action_send(co, owner->id,
		    message_make("{s:s, s:s, s:i, s:i}", "type", "image-ack", "vm", vm->name,
				 "image", (int)image, "bytes", (int)news),
		    NULL, 0);
}

static void image_failed(struct coordinator *co, struct vm *vm, unsigned index, unsigned image,
			 const json_t *msg)
{
	char why[CONTROL_WHY_MAX], reason[CONTROL_WHY_MAX];
	const char *said;

	if (control_get_string(msg, "reason", &said, why) < 0)
		said = "no reason given";
	snprintf(reason, sizeof(reason), "node %s cannot keep image %s: %.220s",
		 vm->slice[index].node_name, vm->images.list[image].name, said);
	vm_end(co, vm, EXIT_ERROR, NULL, reason);
}

/* 0, or negative with a sentence in why: the node has lost its mind. */
static int news_take(struct coordinator *co, struct vm *vm, unsigned index, const json_t *msg,
		     char *why)
{
	struct image_way *way;
	unsigned image, bytes;
	bool have;
	int err = control_get_uint(msg, "image", 0, vm->images.count - 1, &image, why);

	if (err)
		return err;
	way = &vm->image_way[image];
	vm_deadline_renew(co, vm);
	if (control_is(msg, "image-have")) {
		err = control_get_bool(msg, "have", &have, why);
		if (err)
			return err;
		way->place[index] = have ? IMAGE_HAS : IMAGE_LACKS;
		send_ask(co, vm, image);
	} else if (control_is(msg, "image-ack")) {
		err = control_get_uint(msg, "bytes", 1, CONTROL_UPLOAD_WINDOW, &bytes, why);
		if (err)
			return err;
		way->acked[index] += bytes;
		acks_count(co, vm, image);
	} else if (control_is(msg, "image-stored")) {
		way->place[index] = IMAGE_HAS;
	} else if (control_is(msg, "image-failed")) {
		image_failed(co, vm, index, image, msg);
		return 0;
	}
	vm_start_if_ready(co, vm);
	return 0;
}

bool images_news(struct coordinator *co, struct vm *vm, const struct node *node, const json_t *msg)
{
	char why[CONTROL_WHY_MAX], reason[CONTROL_WHY_MAX];

	if (strncmp(control_type(msg), "image-", 6) != 0)
		return false;
	if (!vm || vm->state != VM_PLACING || !vm->images.count)
		return true;
	for (unsigned i = 0; i < vm->slices; i++) {
		if (vm->slice[i].node != node)
			continue;
		if (news_take(co, vm, i, msg, why) < 0) {
			snprintf(reason, sizeof(reason), "node %s: %.200s", node->name, why);
			vm_end(co, vm, EXIT_NODE_LOST, node->name, reason);
		}
		return true;
	}
	return true;
}

void image_chunk_take(struct coordinator *co, struct peer *peer,
		      const struct coordinator_event *event)
{
	struct vm *vm = peer->vm;
	char why[CONTROL_WHY_MAX];
	struct image_way *way;
	uint64_t offset;
	unsigned image;

	if (!vm || !peer->owner || vm->state != VM_PLACING || !vm->images.count)
		return; /* the VM ended while the piece was under way */
	if (control_get_uint(event->msg, "image", 0, vm->images.count - 1, &image, why) < 0 ||
	    control_get_u64(event->msg, "offset", 0, CONTROL_IMAGE_BYTES_MAX, &offset, why) < 0) {
		peer_refuse(co, peer, why);
		return;
	}
	way = &vm->image_way[image];
	if (!way->asked || offset != way->sent || !event->blob_len ||
	    event->blob_len > vm->images.list[image].bytes - way->sent ||
	    event->blob_len > CONTROL_UPLOAD_WINDOW - peer->upload_owed) {
		snprintf(why, sizeof(why), "%zu bytes of an image came that were not asked for",
			 event->blob_len);
		peer_refuse(co, peer, why);
		return;
	}
	peer->upload_owed += (unsigned)event->blob_len;
	way->sent += event->blob_len;
	for (unsigned i = 0; i < vm->slices; i++)
		if (stands_for_node(vm, i) && way->place[i] == IMAGE_LACKS)
			node_tell(co, vm, i,
				  message_make("{s:s, s:i, s:I}", "type", "image-chunk", "image",
					       (int)image, "offset", (json_int_t)offset),
				  event->blob, event->blob_len);
	vm_deadline_renew(co, vm);
}
