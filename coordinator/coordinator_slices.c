/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes report about slices, and what slices are told. */
#include <stdio.h>
#include <string.h>

#include "coordinator/coordinator_internal.h"

void slice_send(struct coordinator *co, struct vm *vm, unsigned index, json_t *msg,
		const void *blob, size_t len)
{
	if (!vm->slice[index].node) {
		json_decref(msg);
		return;
	}
	json_object_set_new(msg, "vm", json_string(vm->name));
	json_object_set_new(msg, "incarnation", control_id_json(vm->incarnation));
	json_object_set_new(msg, "slice", json_integer((json_int_t)index));
	action_send(co, vm->slice[index].node->peer, msg, blob, len);
}

struct report {
	struct coordinator *co;
	struct vm *vm;
	unsigned index;
	struct slice *slice;
	const struct coordinator_event *event;
	bool again; /* from an inventory */
};

typedef int report_fn(struct report *report, char *why);

/* The step that a slice reports must be the next one. */
static int step_take(struct report *report, enum slice_state from, char *why)
{
	if (report->slice->state == from) {
		report->slice->state = from + 1;
		return 0;
	}
	if (report->again && report->slice->state > from)
		return 0;
	snprintf(why, CONTROL_WHY_MAX, "malformed control message: %s out of order",
		 control_type(report->event->msg));
	return -PANGEA_ECONTROL;
}

/* A slice with CPUs says what runs them. */
static int engine_take(struct report *report, char *why)
{
	const json_t *msg = report->event->msg;
	struct slice *slice = report->slice;
	const char *cpu, *cpu_why;
	int err;

	if (!json_object_get(msg, "cpu"))
		return 0;
	if ((err = control_get_string(msg, "cpu", &cpu, why)) ||
	    (err = control_get_string(msg, "cpu_why", &cpu_why, why)))
		return err;
	slice->cpu = strcmp(cpu, "kvm") == 0 ? "kvm" : "soft";
	snprintf(slice->cpu_why, sizeof(slice->cpu_why), "%s", cpu_why);
	control_text_clean(slice->cpu_why);
	return 0;
}

static int listening_take(struct report *report, char *why)
{
	int err = control_get_uint(report->event->msg, "port", 1, 65535, &report->slice->port, why);

	if (!err)
		err = engine_take(report, why);
	if (!err)
		err = step_take(report, SLICE_STARTING, why);
	if (!err)
		vm_advance(report->co, report->vm);
	return err;
}

/* The integers of a list; null if there is anything else in it. */
static json_t *integers_copy(const json_t *list)
{
	json_t *copy = json_array(), *value;
	size_t i;

	json_array_foreach(list, i, value)
	{
		if (json_is_integer(value) && json_array_append(copy, value) == 0)
			continue;
		json_decref(copy);
		return NULL;
	}
	return copy;
}

/* What carries its messages, and how long their round trips took. */
static int connected_take(struct report *report, char *why)
{
	json_t *rtt = NULL, *links = NULL;
	int err = 0;

	if (json_object_get(report->event->msg, "rtt_ns"))
		err = control_get_array(report->event->msg, "rtt_ns", SLICES_MAX, &rtt, why);
	if (!err && json_object_get(report->event->msg, "links"))
		err = control_get_links(report->event->msg, &links, why);
	if (!err)
		err = step_take(report, SLICE_LISTENING, why);
	if (err)
		return err;
	json_decref(report->slice->links);
	report->slice->links = json_incref(links);
	json_decref(report->slice->rtt_ns);
	report->slice->rtt_ns = rtt ? integers_copy(rtt) : NULL;
	if (rtt && !report->slice->rtt_ns) {
		snprintf(why, CONTROL_WHY_MAX,
			 "malformed control message: \"rtt_ns\" has more than integers");
		return -PANGEA_ECONTROL;
	}
	vm_advance(report->co, report->vm);
	return 0;
}

static int started_take(struct report *report, char *why)
{
	int err = step_take(report, SLICE_CONNECTED, why);

	if (!err)
		vm_advance(report->co, report->vm);
	return err;
}

/* Keeps the integers of an object: what they mean is the slice's business. */
static int integers_take(const json_t *from, size_t max, json_t *to, char *why)
{
	json_t *value;
	const char *key;

	json_object_foreach((json_t *)from, key, value)
	{
		if (!json_is_integer(value) || strcmp(key, "slice") == 0 || strlen(key) > 40)
			continue;
		if (json_object_size(to) == max) {
			snprintf(why, CONTROL_WHY_MAX,
				 "malformed control message: more than %zu statistics", max);
			return -PANGEA_ECONTROL;
		}
		json_object_set(to, key, value);
	}
	return 0;
}

/* The hottest pages of the slice's memory, if it names any. */
static int hottest_take(const json_t *msg, json_t *stats, char *why)
{
	json_t *list, *page, *kept;
	size_t i;
	int err;

	if (!json_object_get(msg, "hottest"))
		return 0;
	err = control_get_array(msg, "hottest", HOT_PAGES_MAX, &list, why);
	if (err)
		return err;
	kept = json_array();
	json_object_set_new(stats, "hottest", kept);
	json_array_foreach(list, i, page)
	{
		json_t *one = json_object();

		/* What is no object has no integers: an empty entry, which nobody reads. */
		err = integers_take(page, PAGE_STATS_MAX, one, why);
		json_array_append_new(kept, one);
		if (err)
			return err;
	}
	return 0;
}

/* Where in the guest's code the slice faults, if it says so. */
static int fault_places_take(const json_t *msg, json_t *stats, char *why)
{
	json_t *list, *kept;
	int err;

	if (!json_object_get(msg, "fault_places"))
		return 0;
	err = control_get_array(msg, "fault_places", (size_t)2 * FAULT_PLACES_MAX, &list, why);
	if (err)
		return err;
	kept = integers_copy(list);
	if (!kept) {
		snprintf(why, CONTROL_WHY_MAX,
			 "malformed control message: \"fault_places\" has more than integers");
		return -PANGEA_ECONTROL;
	}
	json_object_set_new(stats, "fault_places", kept);
	return 0;
}

static int stats_take(struct report *report, char *why)
{
	json_t *stats = json_object();
	int err = integers_take(report->event->msg, STATS_MAX, stats, why);

	if (!err)
		err = hottest_take(report->event->msg, stats, why);
	if (!err)
		err = fault_places_take(report->event->msg, stats, why);
	if (err) {
		json_decref(stats);
		return err;
	}
	json_decref(report->slice->stats);
	report->slice->stats = stats;
	return 0;
}

/* Its daemon does not hear it any more, or again (0). */
static int silent_take(struct report *report, char *why)
{
	return control_get_uint(report->event->msg, "seconds", 0, CONTROL_SILENT_MAX_S,
				&report->slice->silent_s, why);
}

static int exit_take(struct report *report, char *why)
{
	struct vm *vm = report->vm;
	bool asked = vm->state >= VM_ENDING;
	char reason[CONTROL_WHY_MAX];
	const char *said;
	unsigned code;
	int err;

	if ((err = control_get_uint(report->event->msg, "code", 0, 255, &code, why)) ||
	    (err = control_get_string(report->event->msg, "reason", &said, why)))
		return err;
	report->slice->state = SLICE_EXITED;
	if (code == EXIT_NODE_LOST) {
		/* The reporter is the victim: who died will be known in a moment. */
		snprintf(reason, sizeof(reason), "slice %u on node %s reports: %.200s",
			 report->index, report->slice->node_name, said);
		vm_end_hearsay(report->co, vm, reason);
		return 0;
	}
	if (code == EXIT_STOPPED && asked)
		return 0;
	snprintf(reason, sizeof(reason), "%.300s", said[0] ? said : exit_text((int)code));
	vm_end(report->co, vm, (int)code, NULL, reason);
	return 0;
}

/* The process is gone. Without a slice-exit before it, and unless we had it killed, that is why
 * the VM ends. */
static int gone_take(struct report *report, char *why)
{
	struct vm *vm = report->vm;
	bool silent = report->slice->state < SLICE_EXITED && vm->state != VM_KILLING;
	char reason[CONTROL_WHY_MAX], node[NAME_MAX_LEN + 1];
	const char *how;
	int err = control_get_string(report->event->msg, "how", &how, why);

	if (err)
		return err;
	memcpy(node, report->slice->node_name, sizeof(node));
	snprintf(reason, sizeof(reason), "lost slice %u on node %s (%.200s)", report->index, node,
		 how);
	slice_gone(report->slice);
	if (silent)
		vm_end(report->co, vm, EXIT_NODE_LOST, node, reason);
	else
		vm_finish_if_done(report->co, vm);
	return 0;
}

static int console_take(struct report *report, char *why)
{
	const struct coordinator_event *event = report->event;
	uint64_t offset = report->vm->console_bytes, lost = 0;
	int err = 0;

	if (json_object_get(event->msg, "lost"))
		err = control_get_u64(event->msg, "lost", 0, INT64_MAX / 2, &lost, why);
	offset += lost;
	if (!err && json_object_get(event->msg, "offset"))
		err = control_get_u64(event->msg, "offset", 0, INT64_MAX / 2, &offset, why);
	if (!err)
		vm_console(report->co, report->vm, offset, event->blob, event->blob_len);
	return err;
}

/* At most what all clients may have sent. */
static int console_taken(struct report *report, char *why)
{
	uint64_t bytes;
	int err = control_get_u64(report->event->msg, "bytes", 1,
				  (uint64_t)CONTROL_INPUT_WINDOW * PEERS_MAX, &bytes, why);

	if (!err)
		console_input_taken(report->co, report->vm, bytes);
	return err;
}

static int devices_take(struct report *report, char *why)
{
	return vm_devices_ended(report->co, report->vm, report->index, report->event->msg, why);
}

static const struct {
	const char *type;
	report_fn *take;
} reports[] = {
	{"slice-listening", listening_take}, {"slice-connected", connected_take},
	{"slice-started", started_take},     {"slice-stats", stats_take},
	{"slice-exit", exit_take},	     {"slice-gone", gone_take},
	{"console-output", console_take},    {"console-taken", console_taken},
	{"slice-silent", silent_take},	     {"slice-devices", devices_take},
};

/* A report that makes no sense ends the VM of that slice, and nothing else on its node. */
static void report_take(struct report *report)
{
	char why[CONTROL_WHY_MAX], reason[CONTROL_WHY_MAX], node[NAME_MAX_LEN + 1];
	int err = -PANGEA_ECONTROL;

	snprintf(why, sizeof(why), "malformed control message: unknown type \"%.40s\"",
		 control_type(report->event->msg));
	for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++) {
		if (!control_is(report->event->msg, reports[i].type))
			continue;
		err = reports[i].take(report, why);
		break;
	}
	if (!err)
		return;
	memcpy(node, report->slice->node_name, sizeof(node));
	snprintf(reason, sizeof(reason), "slice %u on node %s sent a bad report (%.250s)",
		 report->index, node, why);
	vm_end(report->co, report->vm, EXIT_NODE_LOST, node, reason);
}

/* A piece has arrived: the owner may send as much again. */
static void ack_take(struct coordinator *co, struct vm *vm, const json_t *msg)
{
	char why[CONTROL_WHY_MAX], reason[CONTROL_WHY_MAX];
	unsigned bytes;

	if (control_get_uint(msg, "bytes", 1, CONTROL_UPLOAD_WINDOW, &bytes, why) < 0) {
		snprintf(reason, sizeof(reason), "node %s: %.200s", vm->slice[0].node_name, why);
		vm_end(co, vm, EXIT_NODE_LOST, vm->slice[0].node_name, reason);
		return;
	}
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		struct peer *peer = &co->peer[i];
		if (!peer->id || peer->vm != vm || !peer->owner)
			continue;
		peer->upload_owed -= bytes < peer->upload_owed ? bytes : peer->upload_owed;
		action_send(co, peer->id,
			    message_make("{s:s, s:s, s:i}", "type", "file-ack", "vm", vm->name,
					 "bytes", (int)bytes),
			    NULL, 0);
	}
}

/* The boot node's news about the uploaded files. */
static void files_take(struct coordinator *co, struct vm *vm, const json_t *msg)
{
	char reason[CONTROL_WHY_MAX], why[CONTROL_WHY_MAX];
	const char *said;

	if (vm->state != VM_PLACING)
		return;
	if (control_is(msg, "files-stored")) {
		vm->files_stored = true;
		vm_start_if_ready(co, vm);
	} else if (control_is(msg, "files-failed")) {
		if (control_get_string(msg, "reason", &said, why) < 0)
			said = "no reason given";
		snprintf(reason, sizeof(reason), "node %s cannot keep the kernel: %.200s",
			 vm->slice[0].node_name, said);
		vm_end(co, vm, EXIT_ERROR, NULL, reason);
	} else {
		ack_take(co, vm, msg);
	}
}

static bool files_news(const json_t *msg)
{
	return control_is(msg, "files-stored") || control_is(msg, "files-failed") ||
	       control_is(msg, "file-ack");
}

/* A slice of a former VM, or one that its VM has given up: nobody wants it to go on. */
static void stray_take(struct coordinator *co, struct node *node, const json_t *msg)
{
	if (control_is(msg, "slice-gone"))
		slice_end_heard(co, node, msg);
	else if (!control_is(msg, "slice-exit"))
		stray_kill(co, node, msg);
}

/* Finds the slice; *stray: it has no VM. */
static int slice_find(struct report *report, const struct node *node, bool *stray, char *why)
{
	const json_t *msg = report->event->msg;
	unsigned last = report->vm ? report->vm->slices - 1 : SLICES_MAX - 1;
	int err = control_get_uint(msg, "slice", 0, last, &report->index, why);

	*stray = !report->vm;
	if (err || *stray)
		return err;
	report->slice = &report->vm->slice[report->index];
	if (report->slice->node == node)
		return 0;
	*stray = strcmp(report->slice->node_name, node->name) == 0;
	if (*stray)
		return 0;
	snprintf(why, CONTROL_WHY_MAX,
		 "malformed control message: slice %u of VM %s is not on node %s", report->index,
		 report->vm->name, node->name);
	return -PANGEA_ECONTROL;
}

int node_slice_message(struct coordinator *co, struct node *node,
		       const struct coordinator_event *event, bool again, char *why)
{
	struct report report = {.co = co, .event = event, .again = again};
	bool gone = control_is(event->msg, "slice-gone"), stray;
	int err = vm_of_message(co, event->msg, &report.vm, why);

	if (err)
		return err;
	if (files_news(event->msg)) {
		if (report.vm && report.vm->slice[0].node == node)
			files_take(co, report.vm, event->msg);
		return 0;
	}
	if (images_news(co, report.vm, node, event->msg))
		return 0;
	err = slice_find(&report, node, &stray, why);
	if (err)
		return err;
	if (stray) {
		stray_take(co, node, event->msg);
		return 0;
	}
	if (report.slice->state != SLICE_GONE)
		report_take(&report);
	if (gone)
		slice_end_heard(co, node, event->msg);
	return 0;
}
