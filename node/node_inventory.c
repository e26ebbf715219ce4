/* SPDX-License-Identifier: Apache-2.0 */
/* What runs here and what it has said, so that any coordinator can take it up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "node/node.h"

bool slices_any(const struct node_daemon *node, bool orphans)
{
	for (unsigned i = 0; i < NODE_SLICES_MAX; i++)
		if (node->slice[i] && !node->slice[i]->over && (!orphans || node->slice[i]->orphan))
			return true;
	return false;
}

bool slices_wait(const struct node_daemon *node)
{
	for (unsigned i = 0; i < NODE_SLICES_MAX; i++)
		if (node->slice[i] && !node->slice[i]->orphan)
			return true;
	return false;
}

void slices_hold(struct node_daemon *node)
{
	for (unsigned i = 0; i < NODE_SLICES_MAX; i++)
		if (node->slice[i])
			node->slice[i]->console_open = false;
}

struct node_slice *slice_find(struct node_daemon *node, uint64_t incarnation, unsigned index)
{
	for (unsigned i = 0; i < NODE_SLICES_MAX; i++) {
		struct node_slice *slice = node->slice[i];
		if (slice && slice->index == index && slice->incarnation == incarnation)
			return slice;
	}
	return NULL;
}

struct node_slice *slice_named(struct node_daemon *node, const json_t *msg)
{
	char why[CONTROL_WHY_MAX];
	uint64_t incarnation;
	unsigned index;

	if (control_get_id(msg, "incarnation", &incarnation, why) < 0 ||
	    control_get_uint(msg, "slice", 0, SLICES_MAX - 1, &index, why) < 0) {
		log_warn("%s", why);
		return NULL;
	}
	return slice_find(node, incarnation, index);
}

void slice_sign(const struct node_slice *slice, json_t *msg)
{
	json_object_set_new(msg, "vm", json_string(slice->vm));
	json_object_set_new(msg, "incarnation", control_id_json(slice->incarnation));
	json_object_set_new(msg, "slice", json_integer((json_int_t)slice->index));
}

void slice_report_keep(struct node_slice *slice, json_t *msg)
{
	const json_t *kept;
	size_t i;

	if (!slice->reports)
		slice->reports = json_array();
	json_array_foreach(slice->reports, i, kept) if (control_is(kept, control_type(msg))) return;
	json_array_append(slice->reports, msg);
}

void slice_report_replace(struct node_slice *slice, json_t *msg)
{
	const json_t *kept;
	size_t i;

	json_array_foreach(slice->reports, i, kept)
	{
		if (!control_is(kept, control_type(msg)))
			continue;
		json_array_set(slice->reports, i, msg);
		return;
	}
	slice_report_keep(slice, msg);
}

/* The VM's record goes with its last slice. */
static void record_drop_unused(struct node_daemon *node, uint64_t incarnation)
{
	json_t *key = control_id_json(incarnation);

	for (unsigned i = 0; i < NODE_SLICES_MAX; i++)
		if (node->slice[i] && node->slice[i]->incarnation == incarnation)
			goto out;
	json_object_del(node->records, json_string_value(key));
out:
	json_decref(key);
}

void slice_drop(struct node_slice *slice)
{
	struct node_daemon *node = slice->node;
	uint64_t incarnation = slice->incarnation;

	for (unsigned i = 0; i < NODE_SLICES_MAX; i++)
		if (node->slice[i] == slice)
			node->slice[i] = NULL;
	json_decref(slice->reports);
	json_decref(slice->devices);
	json_decref(slice->images);
	json_decref(slice->config);
	json_decref(slice->ended);
	free(slice->console);
	if (slice->handover_fd >= 0)
		close(slice->handover_fd);
	free(slice);
	record_drop_unused(node, incarnation);
}

void slice_forget(struct node_daemon *node, const json_t *msg)
{
	struct node_slice *slice = slice_named(node, msg);

	if (slice && slice->over)
		slice_drop(slice);
}

void slice_record(struct node_daemon *node, const json_t *msg)
{
	json_t *record = json_object_get(msg, "record");
	const char *key = json_string_value(json_object_get(msg, "incarnation"));

	if (record && key)
		json_object_set(node->records, key, record);
}

json_t *slices_records(const struct node_daemon *node)
{
	json_t *list = json_array(), *record;
	const char *key;

	json_object_foreach(node->records, key, record) json_array_append(list, record);
	return list;
}

json_t *slices_inventory(const struct node_daemon *node)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < NODE_SLICES_MAX; i++) {
		const struct node_slice *slice = node->slice[i];
		json_t *entry;
		if (!slice || slice->orphan)
			continue;
		entry = json_pack("{s:i, s:I}", "vcpus", (int)slice->vcpus, "mem_bytes",
				  (json_int_t)slice->mem_bytes);
		slice_sign(slice, entry);
		json_object_set_new(entry, "reports",
				    slice->reports ? json_incref(slice->reports) : json_array());
		json_array_append_new(list, entry);
	}
	return list;
}
