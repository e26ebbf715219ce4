/* SPDX-License-Identifier: Apache-2.0 */
/* One slice's process: a real engine, threads in place of vCPUs, and an end in any case. */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "dsm/engine/engine.h"
#include "tools/tso/tool.h"

/* How often the slice looks at its threads and the parent's wishes. */
#define LOOK_US 2000
/* After a loss, what can still go on does so for this long. */
#define LOSS_GRACE_NS (100 * NS_PER_MS)
/* Beyond any wait of a run that makes progress. */
#define CONNECT_NS (20 * NS_PER_S)
#define QUIT_NS	   (10 * NS_PER_S)
/* Descriptors of a slice: a connection for each peer and some more. */
#define DESCRIPTORS_MAX 128

struct slice {
	const struct tso_options *o;
	struct shared *s;
	struct shared_slice *self;
	unsigned index;
	struct engine *engine;
	struct player players[TSO_THREADS_MAX];
	pthread_t threads[TSO_THREADS_MAX];
	unsigned started;
	bool cut_done;
};

/* ---- the engine ---- */

static void on_ready(void *ctx)
{
	struct slice *slice = ctx;

	atomic_store_explicit(&slice->self->state, SLICE_READY, memory_order_release);
}

static int on_machine_msg(void *ctx, unsigned from, const struct wire_msg *msg, const void *payload)
{
	(void)ctx;
	(void)from;
	(void)msg;
	(void)payload;
	return 0;
}

static void on_peer_lost(void *ctx, unsigned peer, int err, const char *why)
{
	struct slice *slice = ctx;

	(void)err;
	(void)why;
	slice->self->lost_ns = clock_now_ns();
	atomic_fetch_or_explicit(&slice->self->lost, UINT64_C(1) << peer, memory_order_release);
}

static int engine_make(struct slice *slice)
{
	const struct tso_options *o = slice->o;
	struct engine_range ranges[TSO_SLICES_MAX];
	/* A secret that anybody can know: the slices are this program's own. */
	static const uint8_t secret[PAIR_SECRET_SIZE] = "pangea-tso";
	struct pair_keys keys;
	struct engine_config config = {
		.self = slice->index,
		.slices = o->slices,
		.vm = o->seed ^ UINT64_C(0x74736f),
		.keys = &keys,
		.epoch = 1,
		.ram_end = o->slices * HOME_CHUNK_SIZE,
		.ranges = ranges,
		.ranges_count = o->slices,
		.bind_host = o->address,
		.connect_timeout_ms = 15000,
		.transport = o->transport,
		.rdma = {.allowed = o->transport == TRANSPORT_RDMA, .gid_index = -1},
		.faulters_max = o->threads,
		.ahead_max = ENGINE_AHEAD_MAX,
		.hold_ns = slice->s->hold_ns,
		.callbacks = {.ctx = slice,
			      .on_ready = on_ready,
			      .on_machine_msg = on_machine_msg,
			      .on_peer_lost = on_peer_lost},
	};
	int err;

	pair_keys_derive(secret, config.vm, config.epoch, slice->index, o->slices, &keys);
	for (unsigned i = 0; i < o->slices; i++)
		ranges[i] =
			(struct engine_range){i, i * HOME_CHUNK_SIZE, (i + 1) * HOME_CHUNK_SIZE};
	err = engine_create(&config, &slice->self->port, &slice->engine);
	if (!err)
		err = engine_start(slice->engine);
	slice->self->err = err;
	atomic_store_explicit(&slice->self->state, err ? SLICE_FAILED : SLICE_LISTENS,
			      memory_order_release);
	return err;
}

static int engine_join(struct slice *slice)
{
	uint64_t deadline_ns = clock_now_ns() + CONNECT_NS;
	char text[TSO_SLICES_MAX][32];
	const char *addresses[TSO_SLICES_MAX];

	while (!atomic_load_explicit(&slice->s->connect, memory_order_acquire)) {
		if (clock_now_ns() > deadline_ns)
			return -ETIMEDOUT;
		usleep(LOOK_US);
	}
	for (unsigned i = 0; i < slice->o->slices; i++) {
		snprintf(text[i], sizeof(text[i]), "%.15s:%u", slice->o->address,
			 slice->s->slice[i].port);
		addresses[i] = text[i];
	}
	return engine_connect(slice->engine, addresses);
}

static void figures_take(struct slice *slice)
{
	struct engine_stats stats;

	engine_stats(slice->engine, &stats);
	slice->self->faults = stats.faults_read + stats.faults_write;
	slice->self->faults_remote = stats.fault_count_remote;
	slice->self->msgs = stats.msgs_sent;
}

/* ---- the cut: the connection to a peer, whoever made it ---- */

/* Does the address name the slice that listens on this port, by TCP or beside shared memory? */
static bool address_is(const struct slice *slice, const struct sockaddr_storage *address,
		       unsigned port)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)address;
	const struct sockaddr_un *un = (const struct sockaddr_un *)address;
	char name[64];

	if (address->ss_family == AF_INET)
		return ntohs(in->sin_port) == port;
	snprintf(name, sizeof(name), "pangea-data/%.15s:%u", slice->o->address, port);
	return address->ss_family == AF_UNIX && strcmp(un->sun_path + 1, name) == 0;
}

static void cut_port(const struct slice *slice, unsigned port)
{
	for (int fd = 3; fd < DESCRIPTORS_MAX; fd++) {
		struct sockaddr_storage peer = {0};
		socklen_t size = sizeof(peer);

		if (getpeername(fd, (struct sockaddr *)&peer, &size) ||
		    !address_is(slice, &peer, port))
			continue;
		/* Only one of the two has a socket to the other's listening port. */
		shutdown(fd, SHUT_RDWR);
	}
}

static void cut_if_wanted(struct slice *slice)
{
	unsigned a, b;

	if (slice->cut_done || !atomic_load_explicit(&slice->s->cut_wanted, memory_order_acquire))
		return;
	slice->cut_done = true;
	a = slice->s->cut_a;
	b = slice->s->cut_b;
	if (slice->index == a)
		cut_port(slice, slice->s->slice[b].port);
	if (slice->index == b)
		cut_port(slice, slice->s->slice[a].port);
}

/* ---- threads ---- */

static int players_start(struct slice *slice, uint8_t *private_page)
{
	for (unsigned i = 0; i < slice->o->threads; i++) {
		struct player *p = &slice->players[i];

		*p = (struct player){.o = slice->o,
				     .s = slice->s,
				     .ram = engine_ram(slice->engine),
				     .slice = slice->index,
				     .number = slice->index * slice->o->threads + i,
				     .random = slice->o->seed + slice->index};
		if (slice->o->fault == FAULT_PRIVATE_PAGE && slice->index == 1)
			p->private_page = private_page;
		if (pthread_create(&slice->threads[i], NULL, player_main, p))
			return -EAGAIN;
		slice->started++;
	}
	return 0;
}

static bool players_out(const struct slice *slice)
{
	for (unsigned i = 0; i < slice->started; i++)
		if (!atomic_load_explicit(&slice->players[i].out, memory_order_acquire))
			return false;
	return true;
}

/* Until the parent says quit, or nothing more will come. */
static void players_watch(struct slice *slice)
{
	uint64_t lost_ns = 0;

	while (!players_out(slice)) {
		uint64_t now_ns = clock_now_ns();

		if (!lost_ns && atomic_load_explicit(&slice->self->lost, memory_order_acquire))
			lost_ns = now_ns;
		if ((lost_ns && now_ns - lost_ns > LOSS_GRACE_NS) ||
		    atomic_load_explicit(&slice->s->end, memory_order_acquire))
			return;
		cut_if_wanted(slice);
		figures_take(slice);
		usleep(LOOK_US);
	}
}

/* Each ends by itself, or is torn out of its wait for a page. */
static int players_end(struct slice *slice)
{
	uint64_t deadline_ns = clock_now_ns() + QUIT_NS;

	for (unsigned i = 0; i < slice->started; i++)
		atomic_store_explicit(&slice->players[i].quit, 1, memory_order_release);
	while (!players_out(slice)) {
		if (clock_now_ns() > deadline_ns)
			return -ETIMEDOUT;
		usleep(10000);
		for (unsigned i = 0; i < slice->started; i++)
			if (!atomic_load_explicit(&slice->players[i].out, memory_order_acquire))
				pthread_kill(slice->threads[i], PLAYER_SIGNAL);
	}
	for (unsigned i = 0; i < slice->started; i++) {
		pthread_join(slice->threads[i], NULL);
		slice->self->stuck += slice->players[i].stuck;
	}
	return 0;
}

static int slice_live(struct slice *slice)
{
	uint8_t *private_page = aligned_alloc(PANGEA_PAGE_SIZE, PANGEA_PAGE_SIZE);
	int err;

	if (!private_page)
		return -ENOMEM;
	err = players_start(slice, private_page);
	if (!err)
		players_watch(slice);
	if (players_end(slice))
		return -ETIMEDOUT; /* threads are left: the process ends with them */
	free(private_page);
	return err;
}

int slice_run(const struct tso_options *o, struct shared *s, unsigned self)
{
	struct slice slice = {.o = o, .s = s, .self = &s->slice[self], .index = self};
	char tag[32];
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* In a group of its own: one that loses its last tie to a parent while a member is stopped gets
	 * SIGHUP from the kernel, all of it, and this one would be whatever started the tool. */
	setpgid(0, 0);
	snprintf(tag, sizeof(tag), "pangea-tso slice %u", self);
	/* Losses are wanted here, or the end; the parent judges them. */
	log_init(tag, LOG_ERROR);
	player_signal_install();
	if (engine_make(&slice))
		return TOOL_BROKEN;
	err = engine_join(&slice);
	if (!err)
		err = slice_live(&slice);
	if (err) {
		log_error("slice %u: %s", self, strerror(-err));
		return TOOL_BROKEN;
	}
	figures_take(&slice);
	engine_destroy(slice.engine);
	atomic_store_explicit(&slice.self->state, SLICE_OVER, memory_order_release);
	return 0;
}
