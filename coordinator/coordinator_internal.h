/* SPDX-License-Identifier: Apache-2.0 */
/* The coordinator's state and what its files share; nobody else includes this. */
#ifndef COORDINATOR_COORDINATOR_INTERNAL_H
#define COORDINATOR_COORDINATOR_INTERNAL_H

#include "base/error.h"
#include "control/devices.h"
#include "control/images.h"
#include "coordinator/coordinator_state.h"

/* Of every VM: its slices are the same from its start to its end. */
#define VM_EPOCH 1

/* Tables are searched linearly; these sizes keep that cheap. */
#define NODES_MAX 128
#define VMS_MAX	  64
#define PEERS_MAX CONTROL_CONNS_MAX

/* A node that says nothing for this long is away; it says something every second. */
#define NODE_SILENCE_MS 10000
/* A client that neither runs nor watches a VM, or a node that does not register, is done by then. */
#define IDLE_PEER_MS 30000
/* Two daemons of one name: the first has this long to be heard. */
#define RIVAL_WAIT_MS 3000
/* An owner whose connection was closed without a word has this long to come back. */
#define OWNER_RETURN_MS 5000
/* After the coordinator's start: by then the daemons that have slices have connected again. */
#define DAEMONS_RETURN_MS 10000
/* VMs that have ended are remembered: for clients that come back, and slices that come too late. */
#define ENDED_MAX 64
/* Slices that a daemon's inventory may name: those that run, and ends that were not acknowledged. */
#define INVENTORY_MAX 512
/* When a slice only reports that a peer of it vanished: how long to wait for the real culprit. */
#define BLAME_WAIT_MS 2000
/* The same when a node is away, which may be the culprit or know him. */
#define BLAME_AWAY_MS 10000
/* How long slices try to reach each other. Below the connecting state's own deadline. */
#define SLICE_CONNECT_TIMEOUT_MS 15000
/* What a console that attaches later gets to see. */
#define CONSOLE_RING_BYTES 65536u
/* VMs that have ended are listed, at most so many: the oldest goes first. */
#define PAST_MAX 64
/* The kernels and initrds of all detached VMs together, and the run message of one. */
#define KEPT_BYTES_MAX (UINT64_C(4) << 30)
#define KEPT_RUN_MAX   (256u << 10)
/* With --overcommit a node is given so many vCPUs for each CPU that it offers. Memory is never promised twice. */
#define OVERCOMMIT_CPUS 4u
/* A detached VM that ends within LIFE_SHORT_MS has had a short life. After so many of them in a row it is not
 * started again; before that, each is followed by a longer pause. */
#define LIFE_SHORT_MS	  60000
#define LIVES_SHORT_MAX	  10
#define AGAIN_PAUSE_S_MAX 32
/* An own peer that shall start one has done so by then. */
#define AGAIN_WAIT_MS 30000
/* Integers a slice may report; a table, not a database. */
#define STATS_MAX 64
/* The same of one of its hottest pages. */
#define PAGE_STATS_MAX 8

/* state, its word, its deadline in ms (0: none), what did not happen in time */
#define VM_STATES(X)                                                                               \
	/* resources are reserved; the kernel travels to the boot node; renewed by each piece */   \
	X(VM_PLACING, "placing", 30000, "the kernel did not arrive")                               \
	/* slice processes start and report the ports they listen on */                            \
	X(VM_STARTING, "starting", 20000, "did not start")                                         \
	/* slices connect to each other and measure round trips */                                 \
	X(VM_CONNECTING, "connecting", 30000, "did not connect to its peers")                      \
	/* every slice was told the distances and to run */                                        \
	X(VM_BOOTING, "booting", 30000, "did not begin to run")                                    \
	/* the guest runs for as long as it likes; the nodes' heartbeats are watched */            \
	X(VM_RUNNING, "running", 0, "")                                                            \
	/* slices were asked to stop */                                                            \
	X(VM_ENDING, "ending", 5000, "did not stop")                                               \
	/* the daemons were told to kill what is left; a daemon that fails at that is cut off */   \
	X(VM_KILLING, "killing", 5000, "was not ended by its daemon")

#define X(name, word, deadline_ms, late) name,
enum vm_state {
	VM_STATES(X)
};
#undef X

enum slice_state {
	SLICE_PLACED, /* resources reserved, no process yet */
	SLICE_STARTING,
	SLICE_LISTENING,
	SLICE_CONNECTED,
	SLICE_STARTED,
	SLICE_EXITED, /* said how it ended; its process may linger */
	SLICE_GONE,   /* no process (any more) */
};

struct node {
	bool used;
	uint64_t peer;	      /* 0: away */
	uint64_t incarnation; /* of its daemon; 0: not heard of yet, only named by a VM's record */
	uint64_t away_until_ms;
	char away_why[CONTROL_WHY_MAX];
	json_t *strays; /* its slices of no VM, being killed: they hold resources; or null */
	char name[NAME_MAX_LEN + 1];
	char data_address[64];
	unsigned cpus, cpus_free;
	uint64_t mem_bytes, mem_free;
	uint64_t heard_ms;
	char leaving[CONTROL_WHY_MAX]; /* its own reason for going, if it gave one */
	json_t *host;		       /* its report (control_host_check); null: it sent none */
};

struct slice {
	enum slice_state state;
	struct node *node; /* null once the node is lost */
	char node_name[NAME_MAX_LEN + 1];
	bool seen; /* in the inventory that is being taken */
	unsigned vcpus;
	unsigned cpus_over; /* of these, beyond what its node offers (--overcommit) */
	uint64_t mem_bytes;
	/* The most memory for copies of the others' pages, and the part of it that the node's offer
	 * pays for. */
	bool cache_limited;
	uint64_t cache_bytes, cache_room_bytes;
	unsigned port;
	const char *cpu;   /* static: its engine, "kvm" or "soft"; null: none yet, or no CPUs */
	char cpu_why[256]; /* why that one */
	unsigned silent_s; /* it has not answered its daemon for so long; 0: it does */
	json_t *rtt_ns;	   /* array or null */
	json_t *links;	   /* what carries its messages, a word for each slice; array or null */
	json_t *stats;	   /* object or null */
};

/* What a node has said of an image; of a VM's slices on one node the first one stands for it. */
enum image_place {
	IMAGE_UNKNOWN,
	IMAGE_LACKS,
	IMAGE_HAS,
};

/* An image on its way from the owner to the nodes that lack it, to all of them at once. */
struct image_way {
	bool asked;	       /* its owner was told to send it */
	uint64_t sent;	       /* came from the owner, and went on */
	uint64_t acknowledged; /* by the slowest node, and the owner was told */
	enum image_place place[SLICES_MAX];
	uint64_t acked[SLICES_MAX]; /* by each */
};

/* Who keeps a VM waiting. */
struct wait {
	unsigned seconds; /* 0: nobody */
	bool node;	  /* the whole node, not only its slice */
	unsigned slice;	  /* the first one of that node */
};

struct vm {
	char name[NAME_MAX_LEN + 1];
	enum vm_state state;
	uint64_t deadline_ms; /* of the state; 0: none */
	uint64_t created_ms;
	uint64_t incarnation;
	/* Of the keys of its data connections; zero once its slices have theirs, or were started
	 * before this coordinator. */
	uint8_t secret[PAIR_SECRET_SIZE];
	uint64_t
		started_s; /* of the world's time, as ran_ms of ours: since when it runs; 0: never */
	uint64_t ran_ms;
	bool unlisted;	/* it is forgotten when it ends */
	uint64_t owner; /* the token of who runs it */
	bool owned;	/* it ends with its owner */
	uint64_t
		owner_until_ms; /* its owner is away: until then; 0: it is there, or there is none */
	char append[CMDLINE_MAX];
	const char *cpu;	/* static: "auto", "kvm" or "soft" */
	bool force;		/* kvm even on a host that is not fit for the guest */
	bool micro;		/* the kernel is a micro-guest */
	uint64_t tsc_hz;	/* the guest's; 0: the slices' own choice */
	const char *transport;	/* static: as the client said it; null: it was started before */
	const char *encryption; /* static: "on", "required" or "off"; of its data connections */
	const char *vendor;	/* of the CPU model, static: "intel" or "amd"; null: to be chosen */
	uint64_t features;	/* of the CPU model: mask of enum cpu_feature */
	bool features_open;	/* they are to be cut to what all hosts can give */
	unsigned distance;	/* between any two slices, as its owner says; 0: as measured */
	uint64_t file_bytes[2]; /* kernel, initrd */
	struct control_images images;
	struct image_way image_way[CONTROL_IMAGES_MAX]; /* how each gets to the nodes */
	bool files_stored;				/* kernel and initrd have arrived */
	struct control_devices devices;
	/* How each one's back end ended; "": it did not. */
	char ended[CONTROL_DEVICES_MAX][CONTROL_ENDED_MAX];
	unsigned slices;
	struct slice slice[SLICES_MAX];
	bool again; /* it ends by a reset from outside: its owner shall start it again */
	/* how it ended; code is meaningless before VM_ENDING */
	int code;
	char reason[CONTROL_WHY_MAX];
	char lost[NAME_MAX_LEN + 1];
	uint64_t blame_ms; /* until then a better reason may come; 0: the reason is final */
	/* the newest ring_used bytes of console output, ending before ring_at; of console_bytes */
	uint64_t console_bytes;
	size_t ring_exact; /* so many of the ring's newest bytes are output without a gap */
	uint8_t ring[CONSOLE_RING_BYTES];
	size_t ring_at, ring_used;
	struct wait wait;     /* as its watchers were told last */
	unsigned wait_next_s; /* when they are told again */
	unsigned input_turn;  /* whose input is taken to be the next that the guest took */
};

struct peer {
	uint64_t id; /* 0: free */
	enum control_role role;
	uint64_t heard_ms;
	struct node *node; /* of a registered node */
	struct vm *vm;	   /* a CLI waits for this VM's end */
	bool own;	   /* no connection: it starts a detached VM again */
	bool owner;	   /* the VM ends when this peer goes */
	bool console;	   /* wants its output */
	bool watches;	   /* and types nothing */
	/* Console input in bytes: what it may still send, and what the slice has not yet taken; together
	 * CONTROL_INPUT_WINDOW once the VM runs. */
	unsigned input_credit, input_owed;
	/* What was typed while slice 0's node is away, of what is owed; or null. */
	uint8_t *held;
	unsigned held_len;
	unsigned upload_owed; /* bytes of its kernel that the boot node has not acknowledged */
	json_t *waits; /* its registration, while another daemon of its name may live; or null */
	uint64_t waits_from_ms;
};

/* A VM that is no more. */
struct ended {
	uint64_t incarnation, owner;
	json_t *msg; /* its vm-ended; null: a free slot */
};

/* A detached VM, which is started again here: from its first start on, also while there is no VM. */
struct kept {
	char name[NAME_MAX_LEN + 1]; /* "": a free slot */
	json_t *run;		     /* its run message */
	uint64_t bytes;		     /* of its files */
	bool on_reboot, on_crash, unlisted;
	bool stored;	 /* its files are whole */
	bool pending;	 /* it is to run again, and does not yet */
	uint64_t due_ms; /* when it is started again, if there is no VM */
	unsigned restarts, short_lives;
	int code; /* how its last life ended, while pending */
	char reason[CONTROL_WHY_MAX];
	json_t *last; /* as lists show it while there is no VM; or null */
};

/* A VM that has ended, as inspect shows it. */
struct past {
	char name[NAME_MAX_LEN + 1];
	json_t *entry;
};

struct coordinator {
	struct node node[NODES_MAX];
	struct peer peer[PEERS_MAX];
	struct vm *vm[VMS_MAX];
	struct ended ended[ENDED_MAX];
	struct kept kept[VMS_MAX];
	struct past past[PAST_MAX]; /* the oldest first */
	unsigned pasts;
	bool keeps; /* the shell has a place for files */
	unsigned ended_next;
	uint64_t incarnation;
	uint64_t grace_ms;
	unsigned deadline_s; /* of a slice that does not answer */
	unsigned vm_number;  /* of the last name we invented */
	/* of the step under way */
	uint64_t first_ms; /* when we began; 0: not yet */
	uint64_t now_ms, unix_s, fresh_incarnation, fresh_owner;
	const uint8_t *fresh_secret; /* the event's */
	struct coordinator_actions *out;
};

/* ---- coordinator_state.c ---- */
/* Queues msg (the reference is taken) and a copy of the blob for a peer; 0: a node that is away. */
void action_send(struct coordinator *co, uint64_t peer, json_t *msg, const void *blob, size_t len);
void action_console(struct coordinator *co, uint64_t peer, json_t *msg, const void *blob,
		    size_t len);
/* One line for the log. */
void action_log(struct coordinator *co, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* json_pack that cannot fail: control messages are small; without memory there is no going on. */
json_t *message_make(const char *fmt, ...);
/* Has the shell keep or drop (record: null) a record of a VM; the reference is taken. */
void action_record(struct coordinator *co, enum coordinator_record kind, const char *vm,
		   json_t *record);
/* Has the shell answer a peer with msg (the reference is taken) and a piece of a VM's log. */
void action_log_read(struct coordinator *co, uint64_t peer, const char *vm, json_t *msg);
/* Has the shell do something with a VM's files or log; msg (the reference is taken) may be null. */
void action_files(struct coordinator *co, enum coordinator_action_type type, const char *vm,
		  json_t *msg, const void *blob, size_t len);
/* Forgets the peer with all that hangs on it, and has the shell tell it why. */
void peer_refuse(struct coordinator *co, struct peer *peer, const char *why);
/* The same for a connection that is no good any more: what hangs on it may come back. */
void peer_give_up(struct coordinator *co, struct peer *peer, const char *why);
struct vm *vm_find(struct coordinator *co, const char *name);
/* The VM that a message names if it is of this incarnation, else null. -PANGEA_ECONTROL and a
 * sentence: the message names none. */
int vm_of_message(struct coordinator *co, const json_t *msg, struct vm **vm, char *why);

/* ---- coordinator_nodes.c ---- */
void node_message(struct coordinator *co, struct peer *peer, const struct coordinator_event *event);
void nodes_tick(struct coordinator *co);
struct node *node_find(struct coordinator *co, const char *name);
struct node *node_free_slot(struct coordinator *co);

/* ---- coordinator_away.c ---- */
/* Its connection is gone: it may come back. */
void node_away(struct coordinator *co, struct node *node, const char *why);
/* It does not come back: its VMs end. */
void node_lost(struct coordinator *co, struct node *node, const char *why);
/* Forgets the slices of a VM on a node, or on all that are away (node: null). Were there any? */
bool vm_forget_node(struct vm *vm, const struct node *node);
/* A node that is away and has no slices is nothing to wait for. */
void node_drop_if_idle(struct coordinator *co, struct node *node);

/* ---- coordinator_silence.c ---- */
/* Who keeps the VM waiting longest, for at least CONTROL_WAIT_S. */
struct wait vm_wait_find(const struct coordinator *co, const struct vm *vm);
/* "slice 1 on node x", "node x". */
void vm_wait_whom(const struct vm *vm, const struct wait *wait, char *out, size_t size);
/* Tells of waits, and ends the VM at the deadline. */
void silence_tick(struct coordinator *co, struct vm *vm);
/* For a list: "waits" of the VM, if it does. */
void vm_wait_json(const struct coordinator *co, const struct vm *vm, json_t *out);

/* ---- coordinator_inventory.c ---- */
/* What a daemon that registers has running. 0, or -PANGEA_ECONTROL with a sentence. */
int inventory_take(struct coordinator *co, struct node *node, const json_t *msg, char *why);
/* A slice of no VM is running on the node: has it killed. */
void stray_kill(struct coordinator *co, struct node *node, const json_t *msg);
/* The end of a slice was heard: what it held as a stray is free, and the daemon may forget it. */
void slice_end_heard(struct coordinator *co, struct node *node, const json_t *msg);

/* ---- coordinator_keys.c ---- */
/* The keys that slice self shares with each other slice, as slice-start carries them: hex digits. */
json_t *vm_keys_json(const struct vm *vm, unsigned self);

/* ---- coordinator_record.c ---- */
/* All that must last of a VM that runs; a new reference. */
json_t *vm_record(struct coordinator *co, const struct vm *vm);
/* Makes a VM of its record, with all its nodes away. As coordinator_restore. */
int vm_restore(struct coordinator *co, const json_t *record, char *why);
/* Keeps the record, and has the VM's nodes keep it. */
void vm_record_keep(struct coordinator *co, struct vm *vm);
bool vm_has_ended(const struct coordinator *co, uint64_t incarnation);

/* ---- coordinator_kept.c ---- */
struct kept *kept_find(struct coordinator *co, const char *name);
/* Whether one more detached VM with files of so many bytes can be kept. 0, or -PANGEA_ENOFIT and a sentence. */
int kept_room(const struct coordinator *co, const json_t *run, uint64_t bytes, char *why);
/* Keeps what a client's VM was run with. */
void kept_add(struct coordinator *co, const struct vm *vm, const json_t *run, uint64_t bytes);
/* A piece of its kernel comes by. */
void kept_store(struct coordinator *co, const struct vm *vm, const char *file, uint64_t offset,
		const void *blob, size_t len);
/* Its seed for cloud-init, which came with the request. */
void kept_store_seed(struct coordinator *co, const struct vm *vm, const uint8_t *seed);
/* Its files are on the boot node, all of them. */
void kept_stored(struct coordinator *co, const struct vm *vm);
/* It runs. */
void kept_running(struct coordinator *co, const struct vm *vm);
/* It has ended: true if it is to be started again. Else why not may be added to its reason. */
bool kept_ended(struct coordinator *co, struct vm *vm);
/* Nothing is to start it again any more. */
void kept_forget(struct coordinator *co, const char *name);
/* It could not be started. */
void kept_failed(struct coordinator *co, struct kept *kept, int code, const char *why);
/* stop and button of one that waits to be started again; true: so it was. */
bool kept_stop(struct coordinator *co, struct peer *peer, const json_t *msg);
void kept_unkept(struct coordinator *co, const char *name, const char *why);
void kept_tick(struct coordinator *co);
void kept_free(struct coordinator *co);
/* For lists: a VM that waits to be started again. */
json_t *kept_json(const struct kept *kept);

/* ---- coordinator_past.c ---- */
/* Lists an ended VM; takes the entry. */
void past_add(struct coordinator *co, const char *name, json_t *entry);
/* Its entry, or null; borrowed. */
const json_t *past_find(const struct coordinator *co, const char *name);
/* Takes it off the list, and its console's log with it. False: it was not there. */
bool past_remove(struct coordinator *co, const char *name);
void past_free(struct coordinator *co);
/* All of them, short, as lists show them. */
void past_list(const struct coordinator *co, json_t *list);
/* rm: answers "vm-removed". */
void rm_take(struct coordinator *co, struct peer *peer, const struct coordinator_event *event);

/* ---- coordinator_inspect.c ---- */
/* A VM as lists show it. */
json_t *vm_json(struct coordinator *co, const struct vm *vm, bool with_stats);
/* All that is known of a VM. */
json_t *vm_inspect_json(struct coordinator *co, const struct vm *vm, bool with_stats);
/* inspect: answers "vm-inspected". */
void inspect_take(struct coordinator *co, struct peer *peer, const struct coordinator_event *event);
/* logs: answers "log" with a piece. */
void logs_take(struct coordinator *co, struct peer *peer, const struct coordinator_event *event);

/* ---- coordinator_placement.c ---- */
struct placement {
	unsigned slices;
	bool overcommit; /* of CPUs */
	struct {
		struct node *node;
		unsigned vcpus;
		uint64_t mem_bytes;
		/* See cache_plan. */
		bool cache_limited;
		uint64_t cache_bytes, cache_room_bytes;
	} slice[SLICES_MAX];
};
/*
 * Finds nodes for a `run` message. 0, -PANGEA_ENOFIT, -EINVAL or -PANGEA_ECONTROL, with a sentence
 * in why. Reserves nothing.
 */
int placement_find(struct coordinator *co, const json_t *run, struct placement *out, char *why);

/* ---- coordinator_cache.c ---- */
/* What the user wants each slice's copies of other slices' pages limited to: one of these, or none:
 * the default. */
struct cache_wish {
	uint64_t bytes;
	unsigned percent; /* of the slice's own memory */
	bool none;	  /* no limit */
};
/*
 * Gives each slice of a placement its limit and what its node gives for it. 0, or -PANGEA_ENOFIT
 * with a sentence in why: a node has no room for what was asked for.
 */
int cache_plan(const struct cache_wish *wish, struct placement *placement, char *why);

/* ---- coordinator_vm.c ---- */
/* Makes a VM from a placement and reserves the resources; null without room for one more. */
struct vm *vm_create(struct coordinator *co, const char *name, const struct placement *placement);
const char *vm_state_word(enum vm_state state);
void vm_state_set(struct coordinator *co, struct vm *vm, enum vm_state state);
/* The state's deadline counts from now again. */
void vm_deadline_renew(struct coordinator *co, struct vm *vm);
/* The files are on the boot node: starts the slices. */
void vm_start(struct coordinator *co, struct vm *vm);
/* A slice went a step on: if all have, so does the VM. */
void vm_advance(struct coordinator *co, struct vm *vm);
/* Ends the VM for this reason unless it is ending already; lost names a node or is null. */
void vm_end(struct coordinator *co, struct vm *vm, int code, const char *lost, const char *reason);
/* The same for a reason that may only be a consequence: a better one may replace it. */
void vm_end_hearsay(struct coordinator *co, struct vm *vm, const char *reason);
/* Finishes the VM (tells everybody, frees it) once nothing is left of it. */
void vm_finish_if_done(struct coordinator *co, struct vm *vm);
void vms_tick(struct coordinator *co);
/* The memory that a slice takes of its node's offer. */
uint64_t slice_taken(const struct slice *slice);
/* Counts a slice's resources as free again. */
void slice_gone(struct slice *slice);
json_t *vm_slices_json(const struct vm *vm, bool with_stats);
void vm_free(struct vm *vm);
/* The rate of a guest's TSC that the VM's nodes can give under KVM; 0: any. */
uint64_t vm_tsc_choose(const struct vm *vm);
/* The vendor of its CPU model; static. */
const char *vm_vendor_choose(const struct vm *vm);
/* The features of its CPU model: as its owner named it, or what each slice's host can give. */
uint64_t vm_features_choose(const struct vm *vm);
/* Whether each host of a placement can give the CPU model that the user named, by an engine of those that cpu
 * names. 0, or -PANGEA_ENOFIT with a sentence in why. A null name, and "max", ask for nothing. */
int features_plan(const char *model, const char *cpu, const struct placement *placement, char *why);
/* Console output from this offset on (what lies between was dropped on its way): what is new into the
 * ring and to all who watch. */
void vm_console(struct coordinator *co, struct vm *vm, uint64_t offset, const uint8_t *data,
		size_t len);
/* The newest bytes of the ring, at most so many; the caller frees them. */
uint8_t *vm_console_past(const struct vm *vm, size_t most, size_t *len);

/* ---- coordinator_console.c ---- */
/* The peer, who watches a VM that runs, may type. */
void console_input_allow(struct coordinator *co, struct peer *peer);
/* Everybody who watches the VM may type: it runs now. */
void console_inputs_allow(struct coordinator *co, struct vm *vm);
/* The link to slice 0 was made again: what was typed meanwhile goes on, and what was on its way is forgotten. */
void console_inputs_renew(struct coordinator *co, struct vm *vm);
/* The peer has let go of its VM's console. */
void console_leave(struct peer *peer);
/* Bytes that a client typed. */
void console_input_take(struct coordinator *co, struct peer *peer,
			const struct coordinator_event *event);
/* The guest has taken this many of them. */
void console_input_taken(struct coordinator *co, struct vm *vm, uint64_t bytes);

/* ---- coordinator_slices.c ---- */
/* A message of a node about one of its slices or VMs; again: from an inventory, where steps that
 * were heard already are no news. */
int node_slice_message(struct coordinator *co, struct node *node,
		       const struct coordinator_event *event, bool again, char *why);
void slice_send(struct coordinator *co, struct vm *vm, unsigned index, json_t *msg,
		const void *blob, size_t len);

/* ---- coordinator_images.c ---- */
/* The VM is placed: its nodes are asked which of its images they have. */
void images_ask(struct coordinator *co, struct vm *vm);
/* What a node says of them, if it is that: false. While the VM is not being placed it is no news. */
bool images_news(struct coordinator *co, struct vm *vm, const struct node *node, const json_t *msg);
/* A piece of one, from the owner. */
void image_chunk_take(struct coordinator *co, struct peer *peer,
		      const struct coordinator_event *event);
/* Starts the VM if its kernel and all images are where they belong. */
void vm_start_if_ready(struct coordinator *co, struct vm *vm);
/* The VM is over: its nodes may forget what they got for it. */
void vm_files_forget(struct coordinator *co, struct vm *vm);

/* ---- coordinator_devices.c ---- */
/*
 * Finds the slice of each device that names a node. 0, or -EINVAL with a sentence in why: the VM has no such slice, none
 * on that node, or several.
 */
int devices_place(struct control_devices *devices, const struct placement *placement, char *why);
/* Those of one slice: how many, and for its daemon; a new reference. */
unsigned vm_devices_count(const struct vm *vm, unsigned slice);
json_t *vm_devices_of(const struct vm *vm, unsigned slice);
/* For lists: the VM's devices, and how those ended that did; a new reference. */
json_t *vm_devices_json(const struct vm *vm);
/* slice-devices of a slice: who watches the VM is told what is news. 0, or -PANGEA_ECONTROL with a sentence. */
int vm_devices_ended(struct coordinator *co, struct vm *vm, unsigned slice, const json_t *msg,
		     char *why);

/* ---- coordinator_distance.c ---- */
/* The distances between slices, from their measured round trips or as the owner says, as rows of a
 * JSON array. */
json_t *distances_make(const struct vm *vm);
/* Nanoseconds of an access from slice to slice, in the same form; 0: not measured, or itself. */
json_t *latencies_make(const struct vm *vm);

/* ---- coordinator_profile.c ---- */
struct profile_cmdline {
	enum control_profile profile; /* which it was at last */
	char text[CMDLINE_MAX];
	json_t *words; /* array of {word, why}: the caller's */
};

/* The whole command line, the profile's words first: what comes later counts for Linux. 0, or -EINVAL when it
 * is too long; then there are no words. */
int profile_apply(enum control_profile profile, const struct placement *placement,
		  const char *append, struct profile_cmdline *out, char *why);

/* ---- coordinator_owner.c ---- */
/* The VM ends with its owner: unless it is detached, and once its kernel has arrived. */
bool owner_bound(const struct vm *vm);
/* The owner of a VM has gone: it may come back. */
void owner_away(struct coordinator *co, struct vm *vm, bool ended);
/* attach: it is back, or somebody who watched. */
void attach_take(struct coordinator *co, struct peer *peer, const struct coordinator_event *event);
void owner_tick(struct coordinator *co, struct vm *vm);
/* Remembers how the VM ended, for those who are away; takes the message. */
void ended_note(struct coordinator *co, const struct vm *vm, json_t *msg);

/* ---- coordinator_clients.c ---- */
void client_error(struct coordinator *co, struct peer *peer, int code, const char *reason);
void client_message(struct coordinator *co, struct peer *peer,
		    const struct coordinator_event *event);
/* The VM that a message names; tells the client if there is none: null. */
struct vm *client_vm_named(struct coordinator *co, struct peer *peer, const json_t *msg);

/* ---- coordinator_power.c ---- */
/* stop: ends the VM as pulling its plug would; the client is told of its end. */
void stop_take(struct coordinator *co, struct peer *peer, const struct coordinator_event *event);
/* button: has slice 0 press the guest's power button, and answers "button-pressed"; a VM that does not run yet is
 * stopped. The client is told of its end, whenever that comes. */
void button_take(struct coordinator *co, struct peer *peer, const struct coordinator_event *event);
/* reset: ends the VM with EXIT_RESET; its owner is told to start it again. One without an owner is refused. */
void reset_take(struct coordinator *co, struct peer *peer, const struct coordinator_event *event);

#endif
