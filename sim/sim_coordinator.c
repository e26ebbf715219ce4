/* SPDX-License-Identifier: Apache-2.0 */
/* The real coordinator's state machine in the simulation, with daemons and an owner that talk to
 * it. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "coordinator/coordinator_state.h"
#include "sim/sim_parts.h"

#define PEER_OWNER   UINT64_C(10000)
#define PEER_AUDITOR UINT64_C(20000)
/* What a control message takes, and what a slice does for one step of its life. */
#define CONTROL_NS   (2 * NS_PER_MS)
#define LIFE_NS	     (20 * NS_PER_MS)
#define TICK_NS	     (200 * NS_PER_MS)
#define HEARTBEAT_NS NS_PER_S
#define NODE_MEM     HOME_CHUNK_SIZE
/* A node that falls silent is missed after 10 s, and 10 s more its word is waited for. */
#define END_LIMIT_NS  (25 * NS_PER_S)
#define MESSAGES_ROOM 1024u

enum told {
	TOLD_OPEN,
	TOLD_MESSAGE,
	TOLD_CLOSED
};

/* On its way; the queue's event carries its index. */
struct message {
	json_t *msg;
	uint64_t peer;
	bool up; /* to the coordinator */
	bool used;
	enum told told;
	bool with_blob;
};

enum life {
	LIFE_NONE,
	LIFE_STARTED,
	LIFE_EXITED, /* has said so */
	LIFE_GONE
};

struct daemon {
	bool silent, closed;
	enum life life;
	uint64_t up_ns, down_ns; /* the last message each way: they keep their order */
};

struct control {
	struct coordinator *co;
	struct coordinator_actions out;
	struct message *message;
	unsigned room;
	struct daemon *daemon; /* by node; one more: the owner */
	char vm[NAME_MAX_LEN + 1];
	json_t *incarnation; /* the VM's */
	bool stopping, ended;
	int code;
	char lost[NAME_MAX_LEN + 1], reason[256];
};

static struct daemon *daemon_of(struct sim *sim, uint64_t peer)
{
	unsigned n = peer == PEER_OWNER ? sim->config.nodes : (unsigned)peer - 1;
	return &sim->control->daemon[n];
}

static unsigned message_slot(struct control *control)
{
	for (unsigned i = 0; i < control->room; i++) {
		if (!control->message[i].used)
			return i;
	}
	control->message =
		realloc(control->message, 2 * control->room * sizeof(control->message[0]));
	invariant(control->message);
	memset(&control->message[control->room], 0, control->room * sizeof(control->message[0]));
	control->room *= 2;
	return control->room / 2;
}

static void message_add(struct sim *sim, struct message message, uint64_t delay_ns)
{
	struct control *control = sim->control;
	struct daemon *daemon = daemon_of(sim, message.peer);
	uint64_t *last = message.up ? &daemon->up_ns : &daemon->down_ns;
	uint64_t at = sim->now_ns + delay_ns + random_below(&sim->random, CONTROL_NS);
	unsigned slot = message_slot(control);
	*last = at > *last ? at : *last + 1;
	message.used = true;
	control->message[slot] = message;
	sim->result->control_messages++;
	event_add(sim, *last, SIM_EVENT_CONTROL, 0, 0, slot);
}

/* A node, or the owner, says something. Takes the reference. */
static void say(struct sim *sim, uint64_t peer, json_t *msg, uint64_t delay_ns)
{
	struct daemon *daemon = daemon_of(sim, peer);
	invariant(msg);
	if (daemon->silent || daemon->closed) {
		json_decref(msg);
		return;
	}
	message_add(sim,
		    (struct message){.msg = msg, .peer = peer, .up = true, .told = TOLD_MESSAGE},
		    delay_ns);
}

static void vm_say(struct sim *sim, unsigned n, json_t *msg, uint64_t delay_ns)
{
	json_object_set_new(msg, "vm", json_string(sim->control->vm));
	json_object_set(msg, "incarnation", sim->control->incarnation);
	say(sim, n + 1, msg, delay_ns);
}

static void slice_say(struct sim *sim, unsigned n, json_t *msg, uint64_t delay_ns)
{
	json_object_set_new(msg, "slice", json_integer((json_int_t)n));
	vm_say(sim, n, msg, delay_ns);
}

static uint64_t life_ns(struct sim *sim)
{
	return random_below(&sim->random, LIFE_NS);
}

int control_create(struct sim *sim)
{
	struct control *control = calloc(1, sizeof(*control));
	if (!control)
		return -ENOMEM;
	sim->control = control;
	control->co = coordinator_new();
	control->room = MESSAGES_ROOM;
	control->message = calloc(control->room, sizeof(control->message[0]));
	control->daemon = calloc(sim->config.nodes + 1, sizeof(control->daemon[0]));
	return control->co && control->message && control->daemon ? 0 : -ENOMEM;
}

void control_free(struct sim *sim)
{
	struct control *control = sim->control;
	if (!control)
		return;
	for (unsigned i = 0; control->message && i < control->room; i++) {
		if (control->message[i].used)
			json_decref(control->message[i].msg);
	}
	coordinator_actions_free(&control->out);
	if (control->co)
		coordinator_free(control->co);
	json_decref(control->incarnation);
	free(control->message);
	free(control->daemon);
	free(control);
}

static void peer_open(struct sim *sim, uint64_t peer, uint64_t delay_ns)
{
	message_add(sim, (struct message){.peer = peer, .up = true, .told = TOLD_OPEN}, delay_ns);
}

void control_boot(struct sim *sim)
{
	unsigned nodes = sim->config.nodes;
	for (unsigned n = 0; n < nodes; n++) {
		char name[32];
		snprintf(name, sizeof(name), "node%u", n);
		peer_open(sim, n + 1, 0);
		say(sim, n + 1,
		    json_pack("{s:s, s:s, s:o, s:i, s:I, s:s}", "type", "register", "name", name,
			      "incarnation", control_id_json(n + 1), "cpus", (int)sim->config.vcpus,
			      "mem_bytes", (json_int_t)NODE_MEM, "data_address", "127.0.0.1"),
		    0);
		event_add(sim, random_below(&sim->random, HEARTBEAT_NS), SIM_EVENT_HEARTBEAT, n, 0,
			  0);
	}
	event_add(sim, TICK_NS, SIM_EVENT_TICK, 0, 0, 0);
	peer_open(sim, PEER_OWNER, 0);
	say(sim, PEER_OWNER,
	    json_pack("{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i}", "type", "run", "slices",
		      "append", "", "kernel_bytes", 5, "initrd_bytes", 0, "console", 0, "cpus",
		      (int)(nodes * sim->config.vcpus), "mem_bytes", (json_int_t)(nodes * NODE_MEM),
		      "nodes", (int)nodes),
	    4 * CONTROL_NS);
}

void control_stop(struct sim *sim)
{
	sim->control->stopping = true;
	say(sim, PEER_OWNER, json_pack("{s:s, s:s}", "type", "stop", "vm", sim->control->vm), 0);
}

/* --- what daemons and slices do when they are told something --- */

static void slice_exit_say(struct sim *sim, unsigned n, int code, const char *reason)
{
	struct daemon *daemon = &sim->control->daemon[n];
	if (daemon->life != LIFE_STARTED)
		return;
	daemon->life = LIFE_EXITED;
	slice_say(
		sim, n,
		json_pack("{s:s, s:i, s:s}", "type", "slice-exit", "code", code, "reason", reason),
		0);
}

static void slice_gone_say(struct sim *sim, unsigned n, const char *how)
{
	struct daemon *daemon = &sim->control->daemon[n];
	if (daemon->life == LIFE_NONE || daemon->life == LIFE_GONE)
		return;
	daemon->life = LIFE_GONE;
	if (sim->config.fault == SIM_FAULT_DROP_GONE && !sim->result->faulted) {
		sim->result->faulted++;
		return;
	}
	slice_say(sim, n, json_pack("{s:s, s:s}", "type", "slice-gone", "how", how), 0);
}

void control_slice_exits(struct sim *sim, unsigned n, unsigned lost)
{
	char reason[64];
	snprintf(reason, sizeof(reason), "lost slice %u: its connection ended", lost);
	slice_exit_say(sim, n, EXIT_NODE_LOST, reason);
}

void control_crashed(struct sim *sim, unsigned n, bool whole, bool silent)
{
	struct daemon *daemon = &sim->control->daemon[n];
	if (!whole) {
		slice_gone_say(sim, n, "was killed by signal 9");
		return;
	}
	daemon->life = LIFE_GONE;
	if (!silent)
		message_add(sim, (struct message){.peer = n + 1, .up = true, .told = TOLD_CLOSED},
			    0);
	daemon->silent = true;
}

static void slice_told_start(struct sim *sim, unsigned n, const json_t *msg)
{
	if (json_integer_value(json_object_get(msg, "slice")) != (json_int_t)n)
		check_fail(sim, "coordinator", "node %u was given a slice of another number", n);
	sim->control->daemon[n].life = LIFE_STARTED;
	slice_say(sim, n,
		  json_pack("{s:s, s:i, s:s, s:s}", "type", "slice-listening", "port",
			    (int)(5000 + n), "cpu", "soft", "cpu_why", ""),
		  life_ns(sim));
}

static void slice_told_stop(struct sim *sim, unsigned n)
{
	slice_exit_say(sim, n, EXIT_STOPPED, "stopped");
	event_add(sim, sim->now_ns + life_ns(sim), SIM_EVENT_END, n, 0, 0);
}

static void node_told(struct sim *sim, unsigned n, const json_t *msg)
{
	struct control *control = sim->control;
	const char *type = control_type(msg);
	/* A slice that has said its last word hears nothing more. */
	bool hears = control->daemon[n].life == LIFE_STARTED;
	if (control->daemon[n].silent)
		return;
	if (strcmp(type, "file-chunk") == 0) {
		vm_say(sim, n, json_pack("{s:s}", "type", "files-stored"), 0);
	} else if (strcmp(type, "slice-start") == 0) {
		slice_told_start(sim, n, msg);
	} else if (strcmp(type, "slice-connect") == 0 && hears) {
		slice_say(sim, n, json_pack("{s:s}", "type", "slice-connected"), life_ns(sim));
	} else if (strcmp(type, "slice-run") == 0 && hears) {
		node_run(sim, n);
		slice_say(sim, n, json_pack("{s:s}", "type", "slice-started"), 0);
	} else if (strcmp(type, "slice-stop") == 0 && hears) {
		slice_told_stop(sim, n);
	} else if (strcmp(type, "slice-kill") == 0) {
		event_add(sim, sim->now_ns, SIM_EVENT_END, n, 0, 0);
	}
	/* registered, heartbeat, files-begin, vm-forget: nothing to do here */
}

static void owner_told(struct sim *sim, const json_t *msg)
{
	struct control *control = sim->control;
	const char *type = control_type(msg);
	if (strcmp(type, "run-placed") == 0) {
		json_t *chunk = json_pack("{s:s, s:s, s:s, s:i}", "type", "file-chunk", "vm",
					  control->vm, "file", "kernel", "offset", 0);
		snprintf(control->vm, sizeof(control->vm), "%s",
			 json_string_value(json_object_get(msg, "vm")));
		json_object_set_new(chunk, "vm", json_string(control->vm));
		control->incarnation = json_incref(json_object_get(msg, "incarnation"));
		say(sim, PEER_OWNER, chunk, 0);
	} else if (strcmp(type, "vm-ended") == 0) {
		control->ended = true;
		control->code = (int)json_integer_value(json_object_get(msg, "code"));
		snprintf(control->lost, sizeof(control->lost), "%s",
			 json_string_value(json_object_get(msg, "lost")));
		snprintf(control->reason, sizeof(control->reason), "%s",
			 json_string_value(json_object_get(msg, "reason")));
		if (sim->fatal_ns)
			sim->result->vm_end_max_ns = sim->now_ns - sim->fatal_ns;
	} else if (strcmp(type, "error") == 0) {
		check_fail(sim, "coordinator", "the owner was told: %s",
			   json_string_value(json_object_get(msg, "reason")));
	}
}

/* --- the coordinator's own steps --- */

static void refuse(struct sim *sim, uint64_t peer, const char *why)
{
	daemon_of(sim, peer)->closed = true;
	/* A node that has fallen silent is cut off, and nobody else. */
	if (peer == PEER_OWNER || (int)(peer - 1) != sim->crashed)
		check_fail(sim, "coordinator", "it cut off %s%u: %s",
			   peer == PEER_OWNER ? "the owner " : "node ", (unsigned)peer - 1, why);
}

static void coordinator_obey(struct sim *sim)
{
	struct coordinator_actions out = sim->control->out;
	memset(&sim->control->out, 0, sizeof(out));
	for (size_t i = 0; i < out.count; i++) {
		struct coordinator_action *action = &out.list[i];
		if (action->type == COORDINATOR_REFUSE)
			refuse(sim, action->peer, action->why);
		else if (action->type == COORDINATOR_SEND || action->type == COORDINATOR_CONSOLE)
			message_add(sim,
				    (struct message){.msg = json_incref(action->msg),
						     .peer = action->peer,
						     .told = TOLD_MESSAGE},
				    0);
	}
	coordinator_actions_free(&out);
}

static void coordinator_hear(struct sim *sim, struct coordinator_event event)
{
	event.now_ms = 1000 + sim->now_ns / NS_PER_MS;
	event.fresh_incarnation =
		sim->config.seed * UINT64_C(0x9e3779b97f4a7c15) + event.now_ms + 1;
	event.fresh_owner = event.fresh_incarnation + 1;
	coordinator_step(sim->control->co, &event, &sim->control->out);
}

static void message_up(struct sim *sim, const struct message *message)
{
	static const uint8_t kernel[5];
	struct coordinator_event event = {.peer = message->peer, .msg = message->msg};
	bool chunk = message->msg && control_is(message->msg, "file-chunk");
	switch (message->told) {
	case TOLD_OPEN:
		event.type = COORDINATOR_OPENED;
		event.role = message->peer == PEER_OWNER ? CONTROL_ROLE_CLI : CONTROL_ROLE_NODE;
		break;
	case TOLD_MESSAGE:
		event.type = COORDINATOR_MESSAGE;
		event.blob = chunk ? kernel : NULL;
		event.blob_len = chunk ? sizeof(kernel) : 0;
		break;
	case TOLD_CLOSED:
		event.type = COORDINATOR_CLOSED;
		event.why = "its connection ended";
		break;
	}
	coordinator_hear(sim, event);
	coordinator_obey(sim);
}

static void message_arrive(struct sim *sim, unsigned slot)
{
	struct message message = sim->control->message[slot];
	unsigned n = message.peer == PEER_OWNER ? RECORD_OWNER : (unsigned)message.peer - 1;
	sim->control->message[slot].used = false;
	if (message.msg && !control_is(message.msg, "heartbeat"))
		trace_text(sim, RECORD_TELL, n, !message.up, control_type(message.msg));
	if (message.up)
		message_up(sim, &message);
	else if (message.peer == PEER_OWNER)
		owner_told(sim, message.msg);
	else
		node_told(sim, n, message.msg);
	json_decref(message.msg);
}

void control_event(struct sim *sim, const struct event *event)
{
	switch (event->type) {
	case SIM_EVENT_CONTROL:
		message_arrive(sim, event->arg);
		break;
	case SIM_EVENT_TICK:
		coordinator_hear(sim, (struct coordinator_event){.type = COORDINATOR_TICK});
		coordinator_obey(sim);
		event_add(sim, sim->now_ns + TICK_NS, SIM_EVENT_TICK, 0, 0, 0);
		break;
	case SIM_EVENT_HEARTBEAT:
		say(sim, event->a + 1, json_pack("{s:s}", "type", "heartbeat"), 0);
		event_add(sim, sim->now_ns + HEARTBEAT_NS, SIM_EVENT_HEARTBEAT, event->a, 0, 0);
		break;
	default: /* END: the process of a slice has ended */
		slice_gone_say(sim, event->a, "exited");
		break;
	}
}

bool control_ended(const struct sim *sim)
{
	return sim->control->ended;
}

/* --- the audit: by what anybody may ask --- */

static json_t *ask(struct sim *sim, const char *type, const char *answer)
{
	json_t *msg = json_pack("{s:s}", "type", type), *found = NULL;
	struct control *control = sim->control;
	coordinator_hear(sim, (struct coordinator_event){.type = COORDINATOR_MESSAGE,
							 .peer = PEER_AUDITOR,
							 .msg = msg});
	for (size_t i = 0; i < control->out.count; i++) {
		if (control_is(control->out.list[i].msg, answer))
			found = json_incref(control->out.list[i].msg);
	}
	coordinator_actions_free(&control->out);
	json_decref(msg);
	return found;
}

static void audit_nodes(struct sim *sim, const json_t *nodes)
{
	size_t i, live = 0;
	const json_t *node;
	for (unsigned n = 0; n < sim->config.nodes; n++)
		live += !sim->control->daemon[n].silent;
	if (json_array_size(nodes) != live)
		check_fail(sim, "coordinator", "%zu nodes are registered, and %zu live",
			   json_array_size(nodes), live);
	json_array_foreach(nodes, i, node)
	{
		json_int_t cpus = json_integer_value(json_object_get(node, "cpus_free"));
		json_int_t mem = json_integer_value(json_object_get(node, "mem_free_bytes"));
		if (cpus != (json_int_t)sim->config.vcpus || mem != (json_int_t)NODE_MEM)
			check_fail(sim, "coordinator", "after the VM's end %s is not free",
				   json_string_value(json_object_get(node, "name")));
	}
}

static void audit(struct sim *sim)
{
	coordinator_hear(sim, (struct coordinator_event){.type = COORDINATOR_OPENED,
							 .peer = PEER_AUDITOR,
							 .role = CONTROL_ROLE_CLI});
	json_t *nodes = ask(sim, "nodes", "nodes-list"), *vms = ask(sim, "vms", "vms-list");
	audit_nodes(sim, json_object_get(nodes, "nodes"));
	if (!vms || json_array_size(json_object_get(vms, "vms")))
		check_fail(sim, "coordinator", "a VM is left after its end");
	json_decref(nodes);
	json_decref(vms);
}

void control_check(struct sim *sim)
{
	struct control *control = sim->control;
	char lost[32] = "";
	int code = sim->fatal_ns ? EXIT_NODE_LOST : EXIT_STOPPED;
	sim->result->vm_code = control->ended ? control->code : -1;
	if (check_failed(sim))
		return;
	if (sim->crashed >= 0)
		snprintf(lost, sizeof(lost), "node%d", sim->crashed);
	if (!control->ended)
		check_fail(sim, "coordinator", "the VM has not ended");
	else if (control->code != code || strcmp(control->lost, lost) != 0)
		check_fail(sim, "coordinator",
			   "the VM ended with code %d and lost \"%s\", not %d and \"%s\": %s",
			   control->code, control->lost, code, lost, control->reason);
	else if (sim->result->vm_end_max_ns > END_LIMIT_NS)
		check_fail(sim, "coordinator", "the VM took %llu ms to end",
			   (unsigned long long)(sim->result->vm_end_max_ns / NS_PER_MS));
	else
		audit(sim);
}
