/* SPDX-License-Identifier: Apache-2.0 */
/* A coordinator under test in virtual time, with words for what peers say and get told. */
#ifndef TESTS_UNIT_COORDINATOR_WORLD_H
#define TESTS_UNIT_COORDINATOR_WORLD_H

#include "base/error.h"
#include "coordinator/coordinator_state.h"

struct world {
	struct coordinator *co;
	uint64_t now_ms;
	uint64_t fresh_incarnation;		/* the last one */
	uint8_t fresh_secret[PAIR_SECRET_SIZE]; /* what the next events carry */
	struct coordinator_actions out;		/* all since the last world_clear */
	size_t seen;				/* of out, for what follows */
	json_t *incarnations;			/* of VMs by name: what nodes say carries them */
};

struct world *world_new(void);
void world_free(struct world *world);
void world_clear(struct world *world);
/* Events. world_say takes a json_pack format. */
void world_open(struct world *world, uint64_t peer, enum control_role role);
void world_close(struct world *world, uint64_t peer, const char *why);
/* The same for one that must not come back. */
void world_ban(struct world *world, uint64_t peer, const char *why);
void world_say(struct world *world, uint64_t peer, const char *fmt, ...);
/* Takes the message. */
void world_say_json(struct world *world, uint64_t peer, json_t *msg);
void world_say_json_blob(struct world *world, uint64_t peer, json_t *msg, const void *blob,
			 size_t len);
/* The incarnation of a VM that was made since world_new. */
const char *world_incarnation(const struct world *world, const char *vm);
void world_say_blob(struct world *world, uint64_t peer, const char *type, const void *blob,
		    size_t len);
/* The same of any message, which is taken. */
void world_say_with(struct world *world, uint64_t peer, json_t *msg, const void *blob, size_t len);
/* A piece of the kernel. */
void world_chunk(struct world *world, uint64_t peer, const void *blob, size_t len);
/* Lets time pass in ticks of 200 ms; nodes 1..beating say that they live. */
void world_pass(struct world *world, uint64_t ms, unsigned beating);
/* Nodes are peers 1.. and are called node0.. */
void world_node(struct world *world, uint64_t peer, const char *name, unsigned cpus,
		uint64_t mem_bytes);
/* A daemon's registration: its number is its peer's unless given. */
json_t *world_registration(uint64_t incarnation, const char *name);
/* How many messages of a type went to a peer (0: to anybody). */
unsigned world_count(const struct world *world, uint64_t peer, const char *type);
/* The last one; fails the test if there is none. */
const struct coordinator_action *world_last(const struct world *world, uint64_t peer,
					    const char *type);
const char *world_text(const struct world *world, uint64_t peer, const char *type, const char *key);
json_int_t world_int(const struct world *world, uint64_t peer, const char *type, const char *key);
/* The reason given to a refused peer; fails if it was not. */
const char *world_refused(const struct world *world, uint64_t peer);

/* Two nodes (peers 1 and 2, 4 CPUs and 1 GiB each) and a client (peer 10). */
struct world *world_pair(void);
/* The client asks for a VM of that size; the answer is in out. */
void world_run(struct world *world, uint64_t client, unsigned cpus, uint64_t mem_bytes);
/* Further steps of VM vm1 on the pair, up to the named state. */
enum world_step {
	STEP_PLACED,
	STEP_STARTING,
	STEP_CONNECTING,
	STEP_BOOTING,
	STEP_RUNNING,
};
struct world *world_at(enum world_step step);
/* A report of slice 0 (node peer 1) or 1 (peer 2) of vm1, without further fields. */
void world_slice(struct world *world, unsigned slice, const char *type);
void world_gone(struct world *world, unsigned slice, const char *how);
void world_exit(struct world *world, unsigned slice, int code, const char *reason);

/* Both slices of vm1, which is ending, go; why it ended. */
const char *world_end(struct world *world);

#define MIB UINT64_C(1048576)
#define GIB (1024 * MIB)

#endif
