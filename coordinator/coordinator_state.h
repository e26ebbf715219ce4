/* SPDX-License-Identifier: Apache-2.0 */
/* The coordinator as a pure state machine: (state, event) -> actions. No I/O, clock or libuv. */
#ifndef COORDINATOR_COORDINATOR_STATE_H
#define COORDINATOR_COORDINATOR_STATE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pair_keys.h"
#include "control/control.h"

struct coordinator;

enum coordinator_event_type {
	COORDINATOR_OPENED,  /* a peer said hello: peer, role */
	COORDINATOR_MESSAGE, /* peer, msg, blob, blob_len */
	COORDINATOR_CLOSED,  /* peer, why, ended */
	COORDINATOR_TICK,    /* time passes; deadlines are looked at */
	COORDINATOR_UNKEPT,  /* the files of the detached VM `vm` cannot be kept, or read: why */
};

struct coordinator_event {
	enum coordinator_event_type type;
	uint64_t now_ms; /* monotonic; never goes back from event to event */
	uint64_t unix_s; /* for people alone: nothing is decided by it */
	/* Drawn for this event alone: the secret of the VM that it may make (its data connections'
	 * keys are made of it). */
	uint8_t fresh_secret[PAIR_SECRET_SIZE];
	uint64_t fresh_incarnation, fresh_owner; /* the same for the VM's incarnation and token */
	uint64_t peer; /* a number that is never used again for another connection */
	enum control_role role;
	const json_t *msg;
	const uint8_t *blob;
	size_t blob_len;
	const char *why;
	bool ended; /* the peer closed in good order, as the system does for a process that ends */
	bool lost;  /* it must not come back: its certificate was revoked */
	bool own;   /* the peer is the shell itself, which starts a detached VM again */
	const char *vm;
};

enum coordinator_action_type {
	COORDINATOR_SEND,    /* msg and blob to peer */
	COORDINATOR_CONSOLE, /* the same, but may be dropped if the peer is far behind */
	COORDINATOR_REFUSE,  /* say why and close; the peer is already forgotten */
	COORDINATOR_LOG,     /* put why into the log; of no peer */
	COORDINATOR_KEEP, /* msg is a record of the VM named why: to last before all that follows */
	COORDINATOR_DROP, /* that record of the VM named why is of no use any more */
	/* Of the VM named why: */
	COORDINATOR_STORE,	/* a piece of a file that is kept: msg says "file" and "offset" */
	COORDINATOR_STORED,	/* its files are whole: to last before all that follows */
	COORDINATOR_UNSTORE,	/* its files are of no use any more */
	COORDINATOR_AGAIN,	/* to be started again by an own peer: msg is the run message */
	COORDINATOR_LOG_ADD,	/* console output: msg says "incarnation" and "offset" */
	COORDINATOR_LOG_READ,	/* to peer, msg with what its console log has from "offset" on */
	COORDINATOR_LOG_REMOVE, /* its console log is of no use any more */
};

/* The kinds of records, which outlive this process. */
enum coordinator_record {
	COORDINATOR_RECORD_VM,	  /* a VM that runs */
	COORDINATOR_RECORD_KEPT,  /* what a detached VM is started again with */
	COORDINATOR_RECORD_ENDED, /* a VM that is no more, but listed */
};

struct coordinator_action {
	enum coordinator_action_type type;
	enum coordinator_record record; /* of KEEP and DROP */
	uint64_t peer;
	json_t *msg;   /* owned */
	uint8_t *blob; /* owned */
	size_t blob_len;
	char why[CONTROL_WHY_MAX];
};

struct coordinator_actions {
	struct coordinator_action *list;
	size_t count, room;
};

/* The same events give the same actions. Null: no memory. */
struct coordinator *coordinator_new(void);
/* Its own incarnation (0), and how long a lost link may take to be made again (CONTROL_GRACE_MS). */
void coordinator_set_lease(struct coordinator *co, uint64_t incarnation, uint64_t grace_ms);
/* How long a slice may be silent before its VM ends (CONTROL_DEADLINE_S). */
void coordinator_set_deadline(struct coordinator *co, unsigned deadline_s);
/*
 * Before the first step: a VM of a former coordinator, as COORDINATOR_KEEP gave it. Its slices are
 * expected within the grace time. 0, or -PANGEA_ECONTROL with a sentence in why.
 */
int coordinator_restore(struct coordinator *co, const json_t *record, uint64_t now_ms, char *why);
/* The same, after it, for a detached VM that is started again here, and for one that has ended. */
int coordinator_restore_kept(struct coordinator *co, const json_t *record, uint64_t now_ms,
			     char *why);
int coordinator_restore_ended(struct coordinator *co, const json_t *record, char *why);
/* Whether files that lie there for a VM of this name are of use: its kept ones, its console's log. */
bool coordinator_keeps_files(const struct coordinator *co, const char *vm);
bool coordinator_keeps_log(const struct coordinator *co, const char *vm);
/* The shell has a place for files: detached VMs are taken. Before the first step. */
void coordinator_set_keeping(struct coordinator *co, bool keeps);
void coordinator_free(struct coordinator *co);
struct coordinator_counts {
	unsigned nodes, away; /* nodes that are known, and those of them that are away */
	unsigned vms, running;
	unsigned cpus, cpus_free; /* of all nodes */
	uint64_t mem_bytes, mem_free_bytes;
};
/* What there is now. */
void coordinator_count(const struct coordinator *co, struct coordinator_counts *out);
/* Takes one event and appends to out what is to be done, in order. */
void coordinator_step(struct coordinator *co, const struct coordinator_event *event,
		      struct coordinator_actions *out);
/* Frees the actions' contents and empties the list. */
void coordinator_actions_free(struct coordinator_actions *actions);

#endif
