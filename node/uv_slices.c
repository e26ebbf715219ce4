/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slices: one pangea-vmm process each, its connection, and its end.
 *
 * A slice is over when its process is reaped and its connection closed (so that its last words are
 * read); then the coordinator gets slice-gone, now or when there is one again, and until it has
 * answered what the slice said is kept (node_inventory.c). Timers, one a slice: SLICE_EXIT_MS after its
 * slice-exit or the end of its connection the process is killed; SLICE_EXIT_MS after the process
 * ended the connection is cut.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "node/node.h"

/* What a slice's process takes besides the guest's memory, generously: the kernel shall stop one that has lost
 * its mind, not one that is busy. */
#define PROCESS_BYTES (UINT64_C(64) << 20)
#define PEER_BYTES    (UINT64_C(1) << 20)
#define VCPU_BYTES    (UINT64_C(40) << 20)
/* Where requests to a disk wait, or frames. */
#define DEVICE_BYTES (UINT64_C(32) << 20)

/* The coordinator hears of it, now or when there is one again. */
static void gone_report(struct node_slice *slice, const char *how)
{
	char clean[CONTROL_WHY_MAX];
	json_t *msg;

	snprintf(clean, sizeof(clean), "%s", how);
	control_text_clean(clean);
	msg = json_pack("{s:s, s:s}", "type", "slice-gone", "how", clean);
	slice_sign(slice, msg);
	slice_report_keep(slice, msg);
	link_send(slice->node, msg, NULL, 0);
}

static bool backends_any(const struct node_slice *slice)
{
	for (unsigned i = 0; i < CONTROL_DEVICES_MAX; i++)
		if (slice->backend[i])
			return true;
	return false;
}

void slice_finish_if_over(struct node_slice *slice)
{
	struct node_daemon *node = slice->node;
	char how[CONTROL_WHY_MAX];

	/* Who starts the VM again shall find its disks free. */
	if (!slice->reaped || slice->conn || slice->over || backends_any(slice))
		return;
	status_describe(slice->status, how, sizeof(how));
	if (confine_release(&node->confine, &slice->hold))
		snprintf(how + strlen(how), sizeof(how) - strlen(how),
			 ": it wanted more than its limit of %llu MiB of memory",
			 (unsigned long long)slice->limit_bytes >> 20);
	log_info("VM %s: slice %u %s", slice->vm, slice->index, how);
	if (slice->index == 0)
		upload_forget(node, slice->incarnation);
	control_deadline_cancel(&slice->deadline);
	console_log_close(slice);
	slice->over = true;
	images_slice_over(slice);
	if (slice->orphan)
		slice_drop(slice);
	else
		gone_report(slice, slice->how[0] ? slice->how : how);
	daemon_slice_over(node);
}

static void slice_late(void *arg)
{
	struct node_slice *slice = arg;

	slice->deadline = NULL;
	if (!slice->reaped) {
		log_warn("VM %s: slice %u does not exit: killing it", slice->vm, slice->index);
		kill(slice->pid, SIGKILL);
	} else if (slice->conn) {
		control_abort(slice->conn);
	}
}

static void slice_hurry(struct node_slice *slice)
{
	control_deadline_cancel(&slice->deadline);
	slice->deadline =
		control_deadline_start(&slice->node->loop, SLICE_EXIT_MS, slice_late, slice);
	if (!slice->deadline && !slice->reaped)
		kill(slice->pid, SIGKILL);
}

/* It has lost its mind, or is somebody else's: this slice ends, and nothing else. */
static void slice_condemn(struct node_slice *slice, const char *why)
{
	snprintf(slice->how, sizeof(slice->how), "it sent a bad report: %.300s", why);
	control_text_clean(slice->how);
	log_warn("VM %s: slice %u is killed: %s", slice->vm, slice->index, slice->how);
	if (!slice->reaped)
		kill(slice->pid, SIGKILL);
	control_abort(slice->conn);
}

void slice_refuse(struct node_slice *slice, const char *why)
{
	char clean[CONTROL_WHY_MAX];
	json_t *report;

	if (slice->said == SAID_EXIT)
		return;
	snprintf(clean, sizeof(clean), "%s", why);
	control_text_clean(clean);
	log_error("VM %s cannot start: %s", slice->vm, clean);
	slice->said = SAID_EXIT;
	report = json_pack("{s:s, s:i, s:s}", "type", "slice-exit", "code", EXIT_ERROR, "reason",
			   clean);
	slice_sign(slice, report);
	if (!slice->orphan) {
		slice_report_keep(slice, report);
		link_send(slice->node, json_incref(report), NULL, 0);
	}
	json_decref(report);
	if (!slice->reaped)
		kill(slice->pid, SIGKILL);
}

void slice_device_ended(struct node_slice *slice, const char *id, const char *how)
{
	json_t *list = slice->ended ? json_object_get(slice->ended, "ended") : json_array();

	if (!slice->ended) {
		slice->ended = json_pack("{s:s, s:o}", "type", "slice-devices", "ended", list);
		slice_sign(slice, slice->ended);
	}
	json_array_append_new(list, json_pack("{s:s, s:s}", "id", id, "how", how));
	if (slice->orphan)
		return;
	slice_report_replace(slice, slice->ended);
	link_send(slice->node, json_incref(slice->ended), NULL, 0);
}

static void vmm_msg(struct control_conn *conn, json_t *msg, const uint8_t *blob, size_t len)
{
	struct node_slice *slice = control_user(conn);
	char why[CONTROL_WHY_MAX];
	json_t *report = NULL;
	int err;

	if (control_is(msg, "console-output") && slice->index == 0)
		err = console_relay(slice, msg, blob, len, why);
	else
		err = report_check(slice, msg, &report, why);
	if (err) {
		slice_condemn(slice, why);
		return;
	}
	if (control_is(msg, "slice-exit")) {
		slice_hurry(slice);
		if (!slice->orphan && slice->console_open)
			console_lost_send(slice);
	}
	if (slice->orphan) {
		json_decref(report);
		return;
	}
	if (!report)
		return;
	if (control_is(msg, "slice-beat")) {
		json_decref(report);
		return;
	}
	slice_sign(slice, report);
	if (!control_is(msg, "slice-stats") && !control_is(msg, "console-taken"))
		slice_report_keep(slice, report);
	link_send(slice->node, report, NULL, 0);
}

static void vmm_closed(struct control_conn *conn, int err, const char *why)
{
	struct node_slice *slice = control_user(conn);

	/* Anything but the end of the stream means that it lost its mind. */
	bool bad = err && err != -PANGEA_EPEERLOST;
	/* What it said wrong comes before its status, also when it saw the end of its connection
	 * and exited before we are told of that end; a host's errors of a process that is gone do
	 * not. */
	bool said_wrong = bad && err <= -PANGEA_EPEERMAGIC;

	slice->conn = NULL;
	if ((said_wrong || (bad && !slice->reaped)) && !slice->how[0])
		snprintf(slice->how, sizeof(slice->how), "%s", why);
	if (!slice->reaped) {
		if (bad)
			kill(slice->pid, SIGKILL);
		slice_hurry(slice);
	}
	slice_finish_if_over(slice);
}

static const struct control_ops vmm_ops = {NULL, vmm_msg, vmm_closed};

void slices_reap(struct node_daemon *node)
{
	for (unsigned i = 0; i < NODE_SLICES_MAX; i++) {
		struct node_slice *slice = node->slice[i];
		if (!slice || slice->reaped || waitpid(slice->pid, &slice->status, WNOHANG) <= 0)
			continue;
		slice->reaped = true;
		if (slice->conn)
			slice_hurry(slice);
		backends_end(slice);
		slice_finish_if_over(slice);
	}
	backends_reap(node);
}

void slices_kill(struct node_daemon *node)
{
	for (unsigned i = 0; i < NODE_SLICES_MAX; i++) {
		struct node_slice *slice = node->slice[i];
		if (!slice)
			continue;
		slice->orphan = true;
		if (!slice->reaped)
			kill(slice->pid, SIGKILL);
		else if (slice->over)
			slice_drop(slice);
	}
	for (unsigned i = 0; i < NODE_UPLOADS_MAX; i++)
		if (node->upload[i].vm[0])
			upload_forget(node, node->upload[i].incarnation);
}

/* The daemon's own check of what it has promised: the coordinator may be wrong. */
static int budget_check(const struct node_daemon *node, const struct node_slice *want, char *why)
{
	uint64_t mem_bytes = want->mem_bytes;
	unsigned cpus = want->vcpus;

	for (unsigned i = 0; i < NODE_SLICES_MAX; i++) {
		if (!node->slice[i] || node->slice[i]->over)
			continue;
		cpus += node->slice[i]->vcpus;
		mem_bytes += node->slice[i]->mem_bytes;
	}
	if (cpus <= node->opts.cpus && mem_bytes <= node->opts.mem_bytes)
		return 0;
	snprintf(why, CONTROL_WHY_MAX, "it is larger than what its node has left");
	return -PANGEA_ENOFIT;
}

/*
 * The most memory a slice's process may have: its own part of the guest's, its copies of others' pages, and for
 * itself: tables of all pages and of its own (docs/design.md, "What a slice takes"), translated code of each CPU, rings
 * shared with other slices. A slice whose copies are not limited is not limited either.
 */
static int limit_parse(const json_t *msg, const json_t *slices, struct node_slice *slice, char *why)
{
	uint64_t own, all = 0, cache;
	int err = 0;

	slice->slices = (unsigned)json_array_size(slices);
	for (unsigned i = 0; !err && i < slice->slices; i++) {
		err = control_get_u64(json_array_get(slices, i), "mem_bytes", 0, GUEST_MEM_MAX,
				      &own, why);
		all += err ? 0 : own;
	}
	slice->limit_bytes = 0;
	if (err || (slice->slices > 1 && !json_object_get(msg, "cache_bytes")))
		return err;
	cache = 0;
	if (json_object_get(msg, "cache_bytes"))
		err = control_get_u64(msg, "cache_bytes", 0, GUEST_MEM_MAX, &cache, why);
	own = slice->mem_bytes;
	slice->limit_bytes = own + cache + own / 64 + all / 1024 + PROCESS_BYTES +
			     slice->slices * PEER_BYTES + slice->vcpus * VCPU_BYTES;
	return err;
}

static int start_parse(const struct node_daemon *node, const json_t *msg, struct node_slice *slice,
		       char *why)
{
	json_t *slices, *own;
	uint64_t room = 0;
	const char *vm;
	int err;

	if ((err = control_get_name(msg, "vm", &vm, why)) ||
	    (err = control_get_id(msg, "incarnation", &slice->incarnation, why)) ||
	    (err = control_get_array(msg, "slices", SLICES_MAX, &slices, why)) ||
	    (err = control_get_uint(msg, "slice", 0, SLICES_MAX - 1, &slice->index, why)))
		return err;
	own = json_array_get(slices, slice->index);
	if ((err = control_get_uint(own, "vcpus", 0, VCPUS_MAX, &slice->vcpus, why)) ||
	    (err = control_get_u64(own, "mem_bytes", 0, GUEST_MEM_MAX, &slice->mem_bytes, why)) ||
	    (json_object_get(own, "cache_room_bytes") &&
	     (err = control_get_u64(own, "cache_room_bytes", 0, GUEST_MEM_MAX, &room, why))))
		return err;
	if ((err = limit_parse(msg, slices, slice, why)))
		return err;
	/* Its copies of other slices' pages beyond the overhead count as its memory. */
	slice->mem_bytes += room;
	snprintf(slice->vm, sizeof(slice->vm), "%s", vm);
	return budget_check(node, slice, why);
}

/* The slice's images: open files, which it finds behind those of its devices. The limit on its memory lets them be in it: the host
 * counts a file's pages for who reads them first, and takes them back when memory is short. */
static int images_prepare(struct node_slice *slice, const json_t *msg, unsigned devices,
			  int fds[CONTROL_IMAGES_MAX], unsigned *count, char *why)
{
	uint64_t bytes[CONTROL_IMAGES_MAX];
	int found = images_take(slice->node, msg, slice->incarnation, fds, bytes, why);

	*count = found > 0 ? (unsigned)found : 0;
	if (found <= 0)
		return found;
	slice->images = json_array();
	for (unsigned i = 0; i < *count; i++) {
		if (slice->limit_bytes)
			slice->limit_bytes += bytes[i];
		json_array_append_new(slice->images,
				      json_pack("{s:i, s:I}", "fd",
						(int)(NODE_DEVICE_FD_FIRST + devices + i), "bytes",
						(json_int_t)bytes[i]));
	}
	return 0;
}

static int slice_spawn(struct node_slice *slice, const struct upload *upload,
		       const struct node_devices *devices, const int *images, unsigned images_count)
{
	struct node_daemon *node = slice->node;
	struct control_options opts = {
		.loop = &node->loop, .ops = &vmm_ops, .user = slice, .role = CONTROL_ROLE_NODE};
	int fds[2], err;

	/* The slice that boots holds the kernel and its initrd until they are in the guest's memory. */
	for (int i = 0; upload && slice->limit_bytes && i < UPLOAD_FILES; i++)
		slice->limit_bytes += upload->want[i];
	if (slice->limit_bytes)
		slice->limit_bytes += devices->count * DEVICE_BYTES;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	slice->pid =
		vmm_spawn(slice, fds[1], upload ? upload->fd[UPLOAD_KERNEL] : -1,
			  upload ? upload->fd[UPLOAD_INITRD] : -1, devices, images, images_count);
	close(fds[1]);
	if (slice->pid < 0) {
		close(fds[0]);
		return slice->pid;
	}
	err = control_open_fd(&opts, fds[0], &slice->conn);
	if (err) {
		kill(slice->pid, SIGKILL);
		waitpid(slice->pid, NULL, 0);
	}
	return err;
}

/* What the coordinator said, with what only this daemon knows. */
static int config_send(struct node_slice *slice, const json_t *msg, const struct upload *upload)
{
	json_t *config = json_copy((json_t *)msg);
	bool initrd = upload && upload->want[UPLOAD_INITRD];
	int err;

	if (!config)
		return -ENOMEM;
	json_object_del(config, "record");
	json_object_set_new(config, "type", json_string("slice-config"));
	json_object_set_new(config, "bind_host", json_string(slice->node->opts.data_address));
	/* The files have no names; the child finds them by number (see vmm_spawn). */
	json_object_del(config, "rdma");
	json_object_set_new(config, "rdma", node_rdma_json(&slice->node->opts.rdma));
	json_object_set_new(config, "kernel", json_string(upload ? "/proc/self/fd/4" : ""));
	json_object_set_new(config, "initrd", json_string(initrd ? "/proc/self/fd/5" : ""));
	json_object_del(config, "devices");
	if (slice->devices)
		json_object_set(config, "devices", slice->devices);
	json_object_del(config, "images");
	if (slice->images)
		json_object_set(config, "images", slice->images);
	err = control_send(slice->conn, config, NULL, 0);
	json_decref(config);
	return err;
}

static struct node_slice **slice_slot(struct node_daemon *node)
{
	for (unsigned i = 0; i < NODE_SLICES_MAX; i++)
		if (!node->slice[i])
			return &node->slice[i];
	return NULL;
}

/* code: what the VM ends with, if the reason is the user's affair; 0: the slice is lost. */
static void start_failed(struct node_daemon *node, const json_t *msg, int code, char *why)
{
	json_t *vm = json_object_get(msg, "vm"), *slice = json_object_get(msg, "slice");
	json_t *incarnation = json_object_get(msg, "incarnation");

	log_error("a slice cannot start: %s", why);
	control_text_clean(why);
	if (code)
		link_send(node,
			  json_pack("{s:s, s:O*, s:O*, s:O*, s:i, s:s}", "type", "slice-exit", "vm",
				    vm, "incarnation", incarnation, "slice", slice, "code", code,
				    "reason", why),
			  NULL, 0);
	link_send(node,
		  json_pack("{s:s, s:O*, s:O*, s:O*, s:s}", "type", "slice-gone", "vm", vm,
			    "incarnation", incarnation, "slice", slice, "how", why),
		  NULL, 0);
}

void slice_configure_go(struct node_slice *slice)
{
	struct upload *upload = slice->index ? NULL : upload_find(slice->node, slice->incarnation);

	if (!slice->config || slice->said == SAID_EXIT)
		return;
	if (slice->conn && config_send(slice, slice->config, upload) < 0)
		kill(slice->pid, SIGKILL);
	json_decref(slice->config);
	slice->config = NULL;
}

/* It has a process: is told what it is, now or when its devices are ready. */
static void slice_begin(struct node_slice *slice, const json_t *msg, struct node_devices *devices)
{
	char why[CONTROL_WHY_MAX];

	console_log_open(slice);
	slice->console_open = true;
	slice_record(slice->node, msg);
	log_info("VM %s: slice %u is process %d", slice->vm, slice->index, (int)slice->pid);
	slice->config = json_incref((json_t *)msg);
	slice->handover_fd = devices->handover[0];
	devices->handover[0] = -1;
	if (devices->count)
		slice->devices = node_devices_json(devices, slice->slices);
	if (backends_start(slice, devices, why))
		slice_refuse(slice, why);
	else if (backends_ready(slice)) /* there are none */
		slice_configure_go(slice);
}

/* What boots has a kernel, and each slice its devices. *code: see start_failed. */
static int start_prepare(struct node_daemon *node, const json_t *msg, struct node_slice *slice,
			 struct upload **upload, struct node_devices *devices, int *code, char *why)
{
	int err;

	if (slice->index == 0)
		*upload = upload_find(node, slice->incarnation);
	if (slice->index == 0 && (!*upload || !upload_whole(*upload))) {
		snprintf(why, CONTROL_WHY_MAX, "its kernel has not arrived");
		return -ENOENT;
	}
	err = node_devices_open(node, msg, *upload ? (*upload)->fd[UPLOAD_SEED] : -1, devices, why);
	*code = err ? EXIT_ERROR : 0;
	return err;
}

void slice_start(struct node_daemon *node, const json_t *msg)
{
	struct node_slice **slot = slice_slot(node), *slice = calloc(1, sizeof(*slice));
	struct node_devices *devices = node_devices_new();
	char why[CONTROL_WHY_MAX] = "no room for one more slice";
	struct upload *upload = NULL;
	int err = -ENOMEM, code = 0, images[CONTROL_IMAGES_MAX];
	unsigned images_count = 0;

	if (slice)
		slice->handover_fd = -1;
	if (slice && slot && devices)
		err = start_parse(node, msg, slice, why);
	if (!err && slice_find(node, slice->incarnation, slice->index)) {
		snprintf(why, sizeof(why), "this slice runs already");
		err = -EEXIST;
	}
	if (!err)
		err = start_prepare(node, msg, slice, &upload, devices, &code, why);
	if (!err) {
		slice->node = node;
		err = images_prepare(slice, msg, node_devices_fds(devices), images, &images_count,
				     why);
	}
	if (!err) {
		err = slice_spawn(slice, upload, devices, images, images_count);
		if (err)
			snprintf(why, sizeof(why), "cannot start: %s", error_text(err));
	}
	if (err) {
		start_failed(node, msg, code, why);
		json_decref(slice ? slice->images : NULL);
		free(slice);
	} else {
		*slot = slice;
		slice_begin(slice, msg, devices);
	}
	if (devices)
		node_devices_close(devices);
	free(devices);
}

void slice_relay(struct node_daemon *node, const json_t *msg, const uint8_t *blob, size_t len)
{
	struct node_slice *slice = slice_named(node, msg);

	if (!slice || !slice->conn)
		return;
	/* -EPIPE: it is ending, which its own reports will tell. */
	int err = control_send(slice->conn, msg, blob, len);
	if (!err && control_is(msg, "console-input"))
		slice->input_owed += len;
	if (err && err != -EPIPE) {
		snprintf(slice->how, sizeof(slice->how), "it cannot be told anything: %s",
			 error_text(err));
		kill(slice->pid, SIGKILL);
	}
}

void slice_kill_one(struct node_daemon *node, const json_t *msg)
{
	struct node_slice *slice = slice_named(node, msg);

	if (slice && !slice->reaped)
		kill(slice->pid, SIGKILL);
}
