/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's connection to the coordinator: register with what runs, say that we live, take orders.
 *
 * Timers: the heartbeat every HEARTBEAT_MS, which also notices a coordinator silent for
 * COORDINATOR_SILENCE_MS; after a loss, the retry from BACKOFF_FIRST_MS to BACKOFF_LAST_MS (less if
 * slices wait), and the grace time, after which the slices are killed.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "node/node.h"

static void link_connect(struct node_daemon *node);

void link_send(struct node_daemon *node, json_t *msg, const void *blob, size_t len)
{
	int err = node->conn && node->told ? control_send(node->conn, msg, blob, len) : 0;

	json_decref(msg);
	/* -EINVAL, -PANGEA_EWIRELEN: one message that cannot be said is no reason to end all. */
	if (err && err != -EPIPE)
		log_error("cannot send to the coordinator: %s", error_text(err));
	if (err == -ENOBUFS || err == -ENOMEM) {
		control_abort(node->conn);
	}
}

static void link_open(struct control_conn *conn, enum control_role peer)
{
	struct node_daemon *node = control_user(conn);

	if (peer != CONTROL_ROLE_COORDINATOR) {
		control_refuse(conn, -PANGEA_EPEERMAGIC, "the peer is no coordinator");
		return;
	}
	node->heard_ns = clock_now_ns();
	node->told = true;
	link_send(node,
		  json_pack("{s:s, s:s, s:o, s:i, s:I, s:s, s:O, s:o, s:o}", "type", "register",
			    "name", node->opts.name, "incarnation",
			    control_id_json(node->incarnation), "cpus", (int)node->opts.cpus,
			    "mem_bytes", (json_int_t)node->opts.mem_bytes, "data_address",
			    node->opts.data_address, "host", node->host, "vms",
			    slices_records(node), "slices", slices_inventory(node)),
		  NULL, 0);
}

/* msg: the message that it answers. */
static void upload_report(struct node_daemon *node, const char *type, const json_t *msg,
			  const char *reason)
{
	link_send(node,
		  json_pack("{s:s, s:O*, s:O*, s:s}", "type", type, "vm",
			    json_object_get(msg, "vm"), "incarnation",
			    json_object_get(msg, "incarnation"), "reason", reason),
		  NULL, 0);
}

/* files-begin and file-chunk. */
static void upload_take(struct node_daemon *node, const json_t *msg, const uint8_t *blob,
			size_t len)
{
	bool begin = control_is(msg, "files-begin");
	char why[CONTROL_WHY_MAX];
	uint64_t incarnation;
	int err = begin ? upload_begin(node, msg, blob, len, why)
			: upload_chunk(node, msg, blob, len, why);

	if (err) {
		control_text_clean(why);
		log_error("an upload failed: %s", why);
		upload_report(node, "files-failed", msg, why);
		return;
	}
	if (begin || control_get_id(msg, "incarnation", &incarnation, why))
		return;
	link_send(node,
		  json_pack("{s:s, s:O*, s:O, s:O, s:O, s:i}", "type", "file-ack", "vm",
			    json_object_get(msg, "vm"), "incarnation",
			    json_object_get(msg, "incarnation"), "file",
			    json_object_get(msg, "file"), "offset", json_object_get(msg, "offset"),
			    "bytes", (int)len),
		  NULL, 0);
	if (upload_whole(upload_find(node, incarnation)))
		upload_report(node, "files-stored", msg, "");
}

static void forget_take(struct node_daemon *node, const json_t *msg)
{
	char why[CONTROL_WHY_MAX];
	uint64_t incarnation;

	if (control_get_id(msg, "incarnation", &incarnation, why))
		return;
	upload_forget(node, incarnation);
	images_forget(node, incarnation);
}

static void console_wanted(struct node_daemon *node, const json_t *msg)
{
	struct node_slice *slice = slice_named(node, msg);
	char why[CONTROL_WHY_MAX];
	uint64_t offset;

	if (slice && control_get_u64(msg, "offset", 0, INT64_MAX, &offset, why) == 0)
		console_from(slice, offset);
}

static bool relayed(const json_t *msg)
{
	return control_is(msg, "slice-connect") || control_is(msg, "slice-run") ||
	       control_is(msg, "slice-stop") || control_is(msg, "slice-button") ||
	       control_is(msg, "console-input");
}

static void registered_take(struct node_daemon *node)
{
	node->registered = node->ever_registered = true;
	node->failing = false;
	node->backoff_ms = BACKOFF_FIRST_MS;
	control_deadline_cancel(&node->grace);
	log_info("registered with the coordinator at %s", node->opts.coordinator);
}

/* To a node it is only said about a certificate, which it goes on to ask for. */
static void error_take(const json_t *msg)
{
	char why[CONTROL_WHY_MAX], text[CONTROL_WHY_MAX];
	const char *reason;

	snprintf(text, sizeof(text), "%s",
		 control_get_string(msg, "reason", &reason, why) == 0 ? reason : why);
	control_text_clean(text);
	log_warn("the coordinator could not do it: %s", text);
}

static void link_msg(struct control_conn *conn, json_t *msg, const uint8_t *blob, size_t len)
{
	struct node_daemon *node = control_user(conn);

	node->heard_ns = clock_now_ns();
	if (control_is(msg, "heartbeat"))
		return;
	if (control_is(msg, "registered"))
		registered_take(node);
	else if (control_is(msg, "files-begin") || control_is(msg, "file-chunk"))
		upload_take(node, msg, blob, len);
	else if (control_is(msg, "image-want"))
		images_want(node, msg);
	else if (control_is(msg, "image-chunk"))
		images_chunk(node, msg, blob, len);
	else if (control_is(msg, "vm-forget"))
		forget_take(node, msg);
	else if (control_is(msg, "slice-start"))
		slice_start(node, msg);
	else if (control_is(msg, "slice-kill"))
		slice_kill_one(node, msg);
	else if (control_is(msg, "slice-forget"))
		slice_forget(node, msg);
	else if (control_is(msg, "vm-record"))
		slice_record(node, msg);
	else if (control_is(msg, "console-from"))
		console_wanted(node, msg);
	else if (control_is(msg, "renewed"))
		certificate_renewed(node, msg);
	else if (control_is(msg, "revocations"))
		certificate_revocations(node, msg);
	else if (control_is(msg, "error"))
		error_take(msg);
	else if (relayed(msg))
		slice_relay(node, msg, blob, len);
	else
		log_warn("the coordinator sent an unknown message \"%.40s\"", control_type(msg));
}

static void retry_fired(void *arg)
{
	struct node_daemon *node = arg;

	node->retry = NULL;
	link_connect(node);
}

static void retry_later(struct node_daemon *node)
{
	node->retry = control_deadline_start(&node->loop, node->backoff_ms, retry_fired, node);
	unsigned last_ms = slices_wait(node) ? BACKOFF_SLICES_MS : BACKOFF_LAST_MS;

	node->backoff_ms *= 2;
	if (node->backoff_ms > last_ms)
		node->backoff_ms = last_ms;
}

static void grace_over(void *arg)
{
	struct node_daemon *node = arg;

	node->grace = NULL;
	log_error("no coordinator for %u s: ending the slices here", node->opts.grace_s);
	slices_kill(node);
}

/* The lease: slices go on, for a while. */
static void grace_begin(struct node_daemon *node)
{
	slices_hold(node);
	uploads_drop_unused(node);
	images_drop_unused(node);
	if (!slices_wait(node) || node->grace)
		return;
	log_warn("the slices here go on; waiting %u s for a coordinator", node->opts.grace_s);
	node->grace = control_deadline_start(&node->loop, (uint64_t)node->opts.grace_s * 1000,
					     grace_over, node);
	if (!node->grace)
		slices_kill(node);
}

static void link_closed(struct control_conn *conn, int err, const char *why)
{
	struct node_daemon *node = control_user(conn);

	node->conn = NULL;
	node->told = false;
	if (node->stopping)
		return;
	grace_begin(node);
	if ((err == -EACCES || err == -EKEYREJECTED) && !node->ever_registered) {
		log_error(err == -EACCES ? "the coordinator at %s refused this node: %s"
					 : "the coordinator at %s: %s",
			  node->opts.coordinator, why);
		node->exit_code = EXIT_ERROR;
		uv_stop(&node->loop);
		return;
	}
	if (node->registered || !node->failing)
		log_warn("no coordinator at %s: %s; trying again", node->opts.coordinator, why);
	node->registered = false;
	node->failing = true;
	retry_later(node);
}

static const struct control_ops link_ops = {link_open, link_msg, link_closed};

static void link_connect(struct node_daemon *node)
{
	struct control_options opts = {.loop = &node->loop,
				       .ops = &link_ops,
				       .user = node,
				       .role = CONTROL_ROLE_NODE,
				       .tls = node->tls,
				       .token = node->opts.token_file ? node->token : NULL};

	/* What we offer is not free before slices that nobody wants are gone. */
	if (slices_any(node, true)) {
		retry_later(node);
		return;
	}
	int err = control_connect(&opts, node->opts.coordinator, &node->conn);
	if (err) {
		node->conn = NULL;
		log_warn("cannot connect to %s: %s", node->opts.coordinator, error_text(err));
		retry_later(node);
	}
}

static void heartbeat(uv_timer_t *timer)
{
	struct node_daemon *node = timer->data;

	silence_tick(node);
	certificate_tick(node);
	if (!node->conn || !node->registered)
		return;
	if (clock_now_ns() - node->heard_ns > COORDINATOR_SILENCE_MS * NS_PER_MS) {
		log_error("the coordinator has been silent for %d s",
			  COORDINATOR_SILENCE_MS / 1000);
		control_abort(node->conn);
		return;
	}
	images_tick(node);
	link_send(node, json_pack("{s:s}", "type", "heartbeat"), NULL, 0);
}

void link_start(struct node_daemon *node)
{
	node->backoff_ms = BACKOFF_FIRST_MS;
	uv_timer_init(&node->loop, &node->heartbeat);
	node->heartbeat.data = node;
	uv_timer_start(&node->heartbeat, heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
	link_connect(node);
}

void link_stop(struct node_daemon *node, const char *reason)
{
	uv_close((uv_handle_t *)&node->heartbeat, NULL);
	control_deadline_cancel(&node->retry);
	control_deadline_cancel(&node->grace);
	if (!node->conn)
		return;
	control_sendf(node->conn, "{s:s, s:s}", "type", "leaving", "reason", reason);
	control_close(node->conn, reason);
}
