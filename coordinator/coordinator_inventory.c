/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a daemon that registers has running, against what the coordinator knows: what is new is taken
 * up, what is missing ends its VM, what belongs to no VM is killed.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/coordinator_internal.h"

/* A message to the daemon about the slice that msg names. */
static void slice_tell(struct coordinator *co, struct node *node, const json_t *msg,
		       const char *type)
{
	action_send(co, node->peer,
		    message_make("{s:s, s:O, s:O, s:O}", "type", type, "vm",
				 json_object_get(msg, "vm"), "incarnation",
				 json_object_get(msg, "incarnation"), "slice",
				 json_object_get(msg, "slice")),
		    NULL, 0);
}

static bool slice_same(const json_t *a, const json_t *b)
{
	return json_equal(json_object_get(a, "incarnation"), json_object_get(b, "incarnation")) &&
	       json_equal(json_object_get(a, "slice"), json_object_get(b, "slice"));
}

void stray_kill(struct coordinator *co, struct node *node, const json_t *msg)
{
	slice_tell(co, node, msg, "slice-kill");
}

/* A running slice of no VM: what it holds is free once it is gone. */
static void stray_add(struct coordinator *co, struct node *node, const json_t *entry)
{
	unsigned cpus = (unsigned)json_integer_value(json_object_get(entry, "vcpus"));
	uint64_t bytes = (uint64_t)json_integer_value(json_object_get(entry, "mem_bytes"));

	if (!node->strays)
		node->strays = json_array();
	invariant(json_array_append(node->strays, (json_t *)entry) == 0);
	node->cpus_free -= cpus < node->cpus_free ? cpus : node->cpus_free;
	node->mem_free -= bytes < node->mem_free ? bytes : node->mem_free;
	stray_kill(co, node, entry);
}

void slice_end_heard(struct coordinator *co, struct node *node, const json_t *msg)
{
	json_t *stray;
	size_t i;

	slice_tell(co, node, msg, "slice-forget");
	json_array_foreach(node->strays, i, stray)
	{
		if (!slice_same(stray, msg))
			continue;
		node->cpus_free += (unsigned)json_integer_value(json_object_get(stray, "vcpus"));
		node->mem_free += (uint64_t)json_integer_value(json_object_get(stray, "mem_bytes"));
		json_array_remove(node->strays, i);
		break;
	}
	if (node->cpus_free > node->cpus)
		node->cpus_free = node->cpus;
	if (node->mem_free > node->mem_bytes)
		node->mem_free = node->mem_bytes;
}

/* VMs of a former coordinator, which the daemon's slices belong to. */
static void records_take(struct coordinator *co, struct node *node, const json_t *list)
{
	char why[CONTROL_WHY_MAX];
	const json_t *record;
	uint64_t incarnation, maker;
	struct vm *vm;
	size_t i;

	json_array_foreach(list, i, record)
	{
		if (vm_of_message(co, record, &vm, why) < 0 ||
		    control_get_id(record, "incarnation", &incarnation, why) < 0 ||
		    control_get_id(record, "coordinator", &maker, why) < 0) {
			log_warn("node %s brings a bad record: %s", node->name, why);
			continue;
		}
		if (vm || maker == co->incarnation || vm_has_ended(co, incarnation))
			continue;
		if (vm_restore(co, record, why) < 0) {
			log_warn("node %s brings a record of no use: %s", node->name, why);
			continue;
		}
		vm = vm_find(co, json_string_value(json_object_get(record, "vm")));
		action_record(co, COORDINATOR_RECORD_VM, vm->name, vm_record(co, vm));
	}
}

/* Is it this node's, and does it not hold more than the node has? */
static struct slice *slice_of_entry(struct coordinator *co, struct node *node, const json_t *entry,
				    struct vm **vm, unsigned *index)
{
	char why[CONTROL_WHY_MAX];
	struct slice *slice;

	if (vm_of_message(co, entry, vm, why) < 0 || !*vm ||
	    control_get_uint(entry, "slice", 0, (*vm)->slices - 1, index, why) < 0)
		return NULL;
	slice = &(*vm)->slice[*index];
	return slice->node == node && slice->state != SLICE_GONE ? slice : NULL;
}

static bool reports_have(const json_t *reports, const char *type)
{
	const json_t *report;
	size_t i;

	json_array_foreach(reports, i, report) if (control_is(report, type)) return true;
	return false;
}

/* What the slice has said, as far as it is news. The VM may end of it, and be freed. */
static int reports_take(struct coordinator *co, struct node *node, const json_t *reports, char *why)
{
	const json_t *report;
	size_t i;
	int err = 0;

	json_array_foreach(reports, i, report)
	{
		struct coordinator_event event = {.now_ms = co->now_ms, .msg = report};
		if (!err)
			err = node_slice_message(co, node, &event, true, why);
	}
	return err;
}

/* What the VM has been told while the node was away. */
static void slice_tell_again(struct coordinator *co, struct vm *vm, unsigned index)
{
	const struct slice *slice = &vm->slice[index];

	if (vm->state == VM_ENDING && slice->state < SLICE_EXITED)
		slice_send(co, vm, index, message_make("{s:s}", "type", "slice-stop"), NULL, 0);
	if (vm->state == VM_KILLING)
		slice_send(co, vm, index, message_make("{s:s}", "type", "slice-kill"), NULL, 0);
	if (index == 0)
		console_inputs_renew(co, vm);
	if (index == 0)
		slice_send(co, vm, 0,
			   message_make("{s:s, s:I}", "type", "console-from", "offset",
					(json_int_t)vm->console_bytes),
			   NULL, 0);
}

static int entry_take(struct coordinator *co, struct node *node, const json_t *entry, char *why)
{
	const json_t *reports = json_object_get(entry, "reports");
	bool gone = reports_have(reports, "slice-gone");
	char reason[CONTROL_WHY_MAX];
	unsigned index = 0;
	struct vm *vm = NULL;
	struct slice *slice = slice_of_entry(co, node, entry, &vm, &index);
	int err;

	if (!slice) {
		if (gone)
			slice_end_heard(co, node, entry);
		else
			stray_add(co, node, entry);
		return 0;
	}
	slice->seen = true;
	slice->silent_s = 0; /* or it is said anew */
	if (!gone && !reports_have(reports, "slice-started") && vm->state == VM_RUNNING) {
		snprintf(reason, sizeof(reason),
			 "slice %u on node %s had not begun to run when its node's link was lost",
			 index, node->name);
		vm_end(co, vm, EXIT_NODE_LOST, node->name, reason);
		return 0;
	}
	err = reports_take(co, node, reports, why);
	/* The VM may have ended of what was said. */
	if (!err && slice_of_entry(co, node, entry, &vm, &index))
		slice_tell_again(co, vm, index);
	return err;
}

/* What the node has left beside the slices that are known to be there. */
static int resources_count(struct coordinator *co, struct node *node, char *why)
{
	unsigned cpus = 0;
	uint64_t mem_bytes = 0;

	for (unsigned i = 0; i < VMS_MAX; i++) {
		for (unsigned s = 0; co->vm[i] && s < co->vm[i]->slices; s++) {
			struct slice *slice = &co->vm[i]->slice[s];
			slice->seen = false;
			if (slice->node != node || slice->state == SLICE_GONE)
				continue;
			cpus += slice->vcpus - slice->cpus_over;
			mem_bytes += slice_taken(slice);
		}
	}
	if (cpus > node->cpus || mem_bytes > node->mem_bytes) {
		snprintf(why, CONTROL_WHY_MAX, "node %s offers less than what its slices hold",
			 node->name);
		return -PANGEA_ECONTROL;
	}
	node->cpus_free = node->cpus - cpus;
	node->mem_free = node->mem_bytes - mem_bytes;
	return 0;
}

/* Slices that should be there and are not. */
static void missing_end(struct coordinator *co, struct node *node)
{
	char reason[CONTROL_WHY_MAX];

	for (unsigned i = 0; i < VMS_MAX; i++) {
		for (unsigned s = 0; co->vm[i] && s < co->vm[i]->slices; s++) {
			struct slice *slice = &co->vm[i]->slice[s];
			if (slice->node != node || slice->state == SLICE_GONE || slice->seen)
				continue;
			snprintf(reason, sizeof(reason),
				 "lost slice %u on node %s (its daemon came back without it)", s,
				 node->name);
			slice_gone(slice);
			vm_end(co, co->vm[i], EXIT_NODE_LOST, node->name, reason);
		}
	}
}

static int inventory_lists(const json_t *msg, json_t **records, json_t **slices, char *why)
{
	int err = 0;

	if (json_object_get(msg, "vms"))
		err = control_get_array(msg, "vms", VMS_MAX * 2, records, why);
	if (!err && json_object_get(msg, "slices"))
		err = control_get_array(msg, "slices", INVENTORY_MAX, slices, why);
	return err;
}

static int entry_check(const json_t *entry, char *why)
{
	uint64_t mem_bytes;
	const char *vm;
	unsigned n;
	json_t *reports;
	uint64_t id;
	int err;

	if ((err = control_get_name(entry, "vm", &vm, why)) ||
	    (err = control_get_id(entry, "incarnation", &id, why)) ||
	    (err = control_get_uint(entry, "slice", 0, SLICES_MAX - 1, &n, why)) ||
	    (err = control_get_uint(entry, "vcpus", 0, VCPUS_MAX, &n, why)) ||
	    (err = control_get_u64(entry, "mem_bytes", 0, GUEST_MEM_MAX, &mem_bytes, why)))
		return err;
	return control_get_array(entry, "reports", 8, &reports, why);
}

int inventory_take(struct coordinator *co, struct node *node, const json_t *msg, char *why)
{
	json_t *records = NULL, *slices = NULL, *entry;
	size_t i;
	int err = inventory_lists(msg, &records, &slices, why);

	json_array_foreach(slices, i, entry) if (!err) err = entry_check(entry, why);
	if (err)
		return err;
	records_take(co, node, records);
	err = resources_count(co, node, why);
	json_array_foreach(slices, i, entry) if (!err) err = entry_take(co, node, entry, why);
	if (!err)
		missing_end(co, node);
	return err;
}
