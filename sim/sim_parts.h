/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the simulator: its world, and what its source files share. */
#ifndef SIM_SIM_PARTS_H
#define SIM_SIM_PARTS_H

#include <jansson.h>

#include "base/clock.h"
#include "dsm/protocol/protocol_parts.h"
#include "sim/sim.h"

#define NS_PER_US 1000ull

/* Words of a page that the vCPUs use: as many as tell a mixed-up page from a whole one. */
#define WORDS 8u
/* In place of bytes that have not all arrived, or that nobody needs any more. */
#define WORD_GARBAGE UINT64_MAX

struct sim_random {
	uint64_t state;
};
uint64_t random_next(struct sim_random *r);
/* 0..limit-1; limit > 0. */
uint64_t random_below(struct sim_random *r, uint64_t limit);
bool random_one_in(struct sim_random *r, uint64_t n);

/* ---- sim_queue.c: what happens when ---- */
enum event_type {
	/* These are work: when none is left, everything is at rest. */
	SIM_EVENT_VCPU,	   /* a: node, b: vCPU: goes on */
	SIM_EVENT_BEGIN,   /* a -> b: the first bytes of the link's first packet arrive */
	SIM_EVENT_DELIVER, /* a -> b: all of it has, and its turn has come */
	SIM_EVENT_TIMER,   /* a: node, arg: page: the hold time is over */
	/* These come by themselves. */
	SIM_EVENT_EVICTION, /* a: node */
	SIM_EVENT_DISTURB,
	SIM_EVENT_WATCH, /* looks for vCPUs that have waited too long */
	SIM_EVENT_LEARN, /* a learns that b is lost */
	SIM_EVENT_END,	 /* a ends itself, since a peer was lost */
	/* The coordinator's side. */
	SIM_EVENT_CONTROL, /* arg: index of a control message */
	SIM_EVENT_TICK,
	SIM_EVENT_HEARTBEAT,
};
#define SIM_EVENT_WORK_LAST SIM_EVENT_TIMER

struct event {
	uint64_t time_ns,
		seq; /* events of one moment happen in the order in which they were made */
	uint32_t type;
	uint32_t a, b, arg;
};

struct event_queue {
	struct event *heap;
	size_t count, room;
	uint64_t seq;
	uint64_t work; /* events up to SIM_EVENT_WORK_LAST in it */
};

struct sim;
void event_add(struct sim *sim, uint64_t time_ns, enum event_type type, unsigned a, unsigned b,
	       uint32_t arg);
bool event_take(struct sim *sim, struct event *out);

/* ---- sim_trace.c: one line an event ---- */
enum record_kind {
	RECORD_READ,
	RECORD_WRITE,
	RECORD_FAULT,
	RECORD_FAULT_AGAIN,
	RECORD_MESSAGE,
	RECORD_TIMER,
	RECORD_EVICT,
	RECORD_TELL,	/* control message to or from a node, or RECORD_OWNER: text */
	RECORD_HAPPENS, /* a disturbance, a loss: text */
};

/* In place of a node's number. */
#define RECORD_OWNER UINT16_MAX

struct record {
	uint64_t time_ns;
	uint8_t kind, message, before, after; /* page states */
	uint8_t flags;
	uint16_t a, b, c; /* node, from or vCPU, requester */
	uint32_t page;
	uint64_t value; /* of an access; of a message the ACKs to expect */
	char text[28];
};

struct trace {
	struct record *ring;
	unsigned room;
	uint64_t count;
	uint64_t hash;
	FILE *file;
};
void trace_add(struct sim *sim, const struct record *record);
void trace_text(struct sim *sim, enum record_kind kind, unsigned a, unsigned b, const char *text);
void trace_print_last(struct sim *sim, FILE *out);

/* ---- the world ---- */
enum mapping {
	MAPPED_NONE,
	MAPPED_READ,
	MAPPED_WRITE
};

struct packet {
	struct wire_msg msg;
	uint64_t words[WORDS];
	uint64_t due_ns;
	uint32_t next; /* index + 1 */
	bool receiving;
	bool into_frame;
};

/* Messages from one node to another, in order. */
struct link {
	uint32_t head, tail; /* packet index + 1 */
	uint32_t count;
	uint64_t blocked_ns; /* until then nothing passes */
	bool closed;	     /* the connection is no more */
};

struct access {
	uint32_t page;
	uint8_t word;
	bool write, clear; /* clear: writes zeroes to the whole page */
};

enum vcpu_state {
	VCPU_OFF,
	VCPU_READY,
	VCPU_WAITING, /* in a fault */
	VCPU_PARKED,  /* has done all that it wants until the next phase */
	VCPU_GIVEN_UP /* its page is lost */
};

struct vcpu {
	enum vcpu_state state;
	bool has_access, has_waited;
	struct access access;
	uint64_t since_ns; /* of the first fault of this access */
	uint32_t at, step; /* the workload's */
	uint64_t done;	   /* accesses */
	struct sim_random random;
};

/* A fault that found no free request (as in dsm/engine/engine_step.c). */
struct put_off {
	uint32_t page;
	bool write;
};

struct node {
	struct protocol *protocol;
	void *mem;
	size_t mem_bytes;
	uint64_t (*frame)[WORDS];
	uint8_t *mapping; /* by page: enum mapping */
	uint16_t *flying; /* by page: packets with its bytes that have not arrived */
	/* With a limited cache: the pages of other homes that are mapped, in no order. */
	uint32_t *held, *held_at; /* held_at by page: index + 1 */
	uint32_t held_count;
	uint64_t *used_ns; /* by page: the last access */
	struct vcpu vcpu[SIM_VCPUS_MAX];
	struct put_off put_off[2 * SIM_VCPUS_MAX];
	unsigned put_off_count;
	uint64_t free_ns;   /* its engine is busy until then */
	uint64_t paused_ns; /* and stands still until then */
	unsigned slow;	    /* times slower than the others */
	uint64_t loss_heard[SIM_NODES_MAX / 64];
	bool gone; /* crashed or ended */
	bool runs; /* its vCPUs may */
	bool ending;
};

/* Waits by their length: an exponent and the next five bits. */
#define WAIT_STEPS   32u
#define WAIT_BUCKETS (64u * WAIT_STEPS)

struct control; /* sim_coordinator.c */

struct sim {
	struct sim_config config;
	struct sim_result *result;
	struct sim_random random;
	struct event_queue queue;
	struct trace trace;
	uint64_t now_ns;
	struct node *node;
	struct link *link; /* nodes * nodes */
	struct packet *packet;
	uint32_t packet_room, packet_free, packet_fresh; /* index + 1; index */
	uint8_t *homes;
	uint16_t *homes_wide;
	void *frames;
	size_t frames_bytes;
	uint64_t (*current)[WORDS];  /* by page: what was written last */
	uint64_t (*former)[WORDS];   /* before that, for the fault stale-data */
	uint32_t *readers, *writers; /* by page: live nodes that map it so */
	/* Where the pages lie: page p is the guest's page slot_of[p], and back. */
	uint32_t *slot_of, *page_of;
	/* Who missed what in this epoch: pages * nodes, by page; NULL: nobody asks. */
	uint32_t *misses;
	const uint32_t *plan; /* by epoch, slot_of: to be followed; or NULL */
	uint32_t *counts;     /* by epoch, misses: to be raised to these; or NULL */
	unsigned epoch;	      /* from 0 */
	uint64_t quota;	      /* accesses that a vCPU makes before it parks */
	uint64_t resume_ns;   /* vCPUs start so much later, since pages were moved */
	uint64_t wait[WAIT_BUCKETS];
	uint64_t written;
	bool parking;		     /* vCPUs stop after their access */
	bool lossy;		     /* a slice was lost: nobody need be served any more */
	int crashed;		     /* node; -1: none */
	uint64_t fatal_ns, fatal_at; /* when it came; after how many events it shall */
	uint64_t fault_wait;	     /* eligible moments before a fault is put in */
	struct protocol_actions actions;
	struct control *control;
};

static inline struct link *link_of(struct sim *sim, unsigned from, unsigned to)
{
	return &sim->link[(size_t)from * sim->config.nodes + to];
}

static inline unsigned page_home(const struct sim *sim, unsigned page)
{
	return sim->slot_of[page] % sim->config.nodes;
}

/* The guest's pages go round the nodes, one to each. */
static inline uint64_t slot_gfn(const struct sim *sim, unsigned slot)
{
	return ((uint64_t)(slot % sim->config.nodes) << CHUNK_PAGES_SHIFT) +
	       slot / sim->config.nodes;
}

static inline uint64_t page_gfn(const struct sim *sim, unsigned page)
{
	return slot_gfn(sim, sim->slot_of[page]);
}

static inline unsigned gfn_page(const struct sim *sim, uint64_t gfn)
{
	return sim->page_of[(unsigned)(gfn & (CHUNK_PAGES - 1)) * sim->config.nodes +
			    (unsigned)(gfn >> CHUNK_PAGES_SHIFT)];
}

/* ---- sim.c ---- */
/* A run; with a plan its homes follow it, with counts these take what was missed. */
int sim_run_once(const struct sim_config *config, const uint32_t *plan, uint32_t *counts,
		 struct sim_result *result, FILE *report);

/* ---- sim_net.c ---- */
/* Puts a message on its way; its bytes are those of the sender's frame now. */
void net_send(struct sim *sim, unsigned from, const struct protocol_action *action);
void net_begin(struct sim *sim, unsigned from, unsigned to);
void net_deliver(struct sim *sim, unsigned from, unsigned to);
void net_drop_all(struct sim *sim, unsigned from, unsigned to);
void net_disturb(struct sim *sim);
/* What one page and its answer take, for what is not sent message by message. */
#define NET_PAGE_NS	  (3 * NS_PER_US)
#define NET_ROUND_TRIP_NS (64 * NS_PER_US)

/* ---- sim_node.c: a node's slice, as dsm/engine/engine*.c has it ---- */
int node_init(struct sim *sim, unsigned node);
void node_run(struct sim *sim, unsigned node);
void node_receive(struct sim *sim, unsigned from, unsigned to, const struct wire_msg *msg);
void node_timer(struct sim *sim, unsigned node, unsigned page);
void node_evict_some(struct sim *sim, unsigned node);
void node_evict(struct sim *sim, unsigned node, unsigned page);
void node_fault(struct sim *sim, unsigned node, unsigned page, bool write);
void node_learn(struct sim *sim, unsigned node, unsigned lost);

/* ---- sim_vcpu.c ---- */
void vcpu_go(struct sim *sim, unsigned node, unsigned vcpu);
/* A page was mapped, or its waiters shall look again. */
void vcpus_wake(struct sim *sim, unsigned node, unsigned page);
/* Those that wait will never be served. */
void vcpus_give_up(struct sim *sim, unsigned node);

/* ---- sim_homes.c: where the pages lie ---- */
int homes_create(struct sim *sim);
void homes_free(struct sim *sim);
/*
 * Three times the same work: twice to learn who misses what where it is not the home, which is what
 * one look does not tell of the first homes, and once with the pages where they are missed most.
 */
int homes_run_moved(const struct sim_config *config, struct sim_result *result, FILE *report);
void homes_missed(struct sim *sim, unsigned node, unsigned page);
/* At rest: pages move as the configuration says, or as is to be known of the epoch that ended. */
void homes_epoch_begin(struct sim *sim);
void homes_epoch_end(struct sim *sim);
/*
 * The map for the next epoch by who missed what (misses: pages * nodes), from the one that is in
 * force: the most missed first, as long as there is room at who missed it. A page that `stays`
 * more than it saves is not worth its move.
 */
void homes_assign(unsigned pages, unsigned nodes, const uint32_t *misses, const uint32_t *slot_of,
		  bool online, uint32_t *out);

/* ---- sim_slots.c: the protocol's state of pages that change their places, at rest ---- */
/* Page p becomes the guest's page slot_of[p]. */
void slots_permute(struct sim *sim, const uint32_t *slot_of);

/* ---- sim_cache.c: a limit on pages of other homes ---- */
int cache_create(struct sim *sim, unsigned node);
void cache_free(struct sim *sim, unsigned node);
/* The mapping has changed. */
void cache_note(struct sim *sim, unsigned node, unsigned page);
/* A page will be asked for: the coldest go until there is room for it. */
void cache_make_room(struct sim *sim, unsigned node, unsigned page);
/* After homes have moved. */
void cache_count_again(struct sim *sim, unsigned node);

/* ---- sim_workload.c ---- */
struct access access_next(struct sim *sim, unsigned node, unsigned vcpu);

/* ---- sim_check.c: none of it is used by the code under test ---- */
__attribute__((format(printf, 3, 4))) void check_fail(struct sim *sim, const char *checker,
						      const char *fmt, ...);
void check_map(struct sim *sim, unsigned node, unsigned page, enum mapping after);
void check_read(struct sim *sim, unsigned node, const struct access *access);
void check_write(struct sim *sim, unsigned node, const struct access *access);
/* The bytes of a frame are about to change. */
void check_frame(struct sim *sim, unsigned node, unsigned page);
void check_waiting(struct sim *sim);
void check_rest(struct sim *sim);
/* A node is gone: what it maps counts no more. */
void check_forget(struct sim *sim, unsigned node);
bool check_failed(const struct sim *sim);

/* ---- sim_fault.c ---- */
/* Is this the moment for the fault of this run? */
bool fault_now(struct sim *sim, enum sim_fault fault);
/* A packet is about to be put on its way: false if the fault swallows it. */
bool fault_send(struct sim *sim, unsigned from, unsigned to, struct packet *packet);
/* Sharers are forgotten in the directory of this node. */
void fault_directory(struct sim *sim, unsigned node, uint64_t gfn);

/* ---- sim_fatal.c ---- */
void fatal_happen(struct sim *sim);
/* A slice is gone; its peers will see. */
void node_gone(struct sim *sim, unsigned node);
/* A slice has seen a peer go: what its process does about it. */
void node_ending(struct sim *sim, unsigned node, unsigned lost);

/* ---- sim_coordinator.c ---- */
int control_create(struct sim *sim);
void control_free(struct sim *sim);
/* Nodes register, and somebody asks for a VM; its slices run some time later. */
void control_boot(struct sim *sim);
void control_stop(struct sim *sim);
void control_event(struct sim *sim, const struct event *event);
/* The slice's process is gone without a word; with its node if `whole`, heard by nobody if
 * `silent`. */
void control_crashed(struct sim *sim, unsigned node, bool whole, bool silent);
void control_slice_exits(struct sim *sim, unsigned node, unsigned lost);
/* Has the VM ended, as its owner was told? */
bool control_ended(const struct sim *sim);
void control_check(struct sim *sim);

#endif
