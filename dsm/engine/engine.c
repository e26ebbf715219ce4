/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's life: creation, start, connecting, end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/log.h"
#include "dsm/engine/engine_parts.h"

/* The engine thread answers at once; beyond this it is stuck, and waiting on helps nobody. */
#define ANSWER_TIMEOUT_S 10

/* Zeroed memory that is backed only where it is touched. */
static void *memory_lazy(size_t bytes)
{
	void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (mem == MAP_FAILED)
		return NULL;
	/* A huge page for the first touch of each piece would cost more than all state in use. */
	madvise(mem, bytes, MADV_NOHUGEPAGE);
	return mem;
}

static int protocol_create(struct engine *e)
{
	const struct engine_config *config = &e->config;
	/* One more than threads that fault: duplicates of a fault may come late. */
	unsigned ahead = ENGINE_ZEROES_TIMES * config->ahead_max;
	unsigned requests = config->faulters_max + 1 + ahead;
	unsigned total = config->slices * requests;
	unsigned least = FAULTERS_TOTAL + config->slices * ahead;
	struct protocol_config protocol = {
		.self = config->self,
		.slices = config->slices,
		.epoch = config->epoch,
		.gfns = config->ram_end >> PAGE_SHIFT,
		.home_of_chunk = e->home_of_chunk,
		.hold_ns = config->hold_ns,
		.requests_max = requests,
		.requests_total = total > least ? total : least,
	};

	e->protocol_bytes = protocol_size(&protocol);
	if (e->protocol_bytes == 0)
		return -EINVAL;
	e->protocol_mem = memory_lazy(e->protocol_bytes);
	if (!e->protocol_mem)
		return -ENOMEM;
	e->protocol = protocol_init(e->protocol_mem, &protocol);
	return e->protocol ? 0 : -EINVAL;
}

static int lists_create(struct engine *e)
{
	/* Each thread waits in one fault; its message may come twice. */
	unsigned capacity = 2 * e->config.faulters_max + PAGE_FAULTS_MAX;

	e->waiting.list = calloc(capacity, sizeof(*e->waiting.list));
	e->timing.list = calloc(capacity, sizeof(*e->timing.list));
	e->waiting.capacity = e->timing.capacity = capacity;
	e->posts = calloc(POSTS_MAX, sizeof(*e->posts));
	e->scratch = calloc(e->config.slices, WIRE_PAYLOAD_MAX);
	e->home_touched_bytes = ((e->config.ram_end >> PAGE_SHIFT) + 63) / 64 * 8;
	e->home_touched = memory_lazy(e->home_touched_bytes);
	e->page_counts = page_counts_create(e->config.ram_end >> PAGE_SHIFT, e->config.self);
	if (!e->waiting.list || !e->timing.list || !e->posts || !e->scratch || !e->home_touched ||
	    !e->page_counts)
		return -ENOMEM;
	return 0;
}

static bool config_valid(const struct engine_config *config)
{
	return config->slices >= 1 && config->slices <= SLICES_MAX &&
	       config->self < config->slices && config->ahead_max <= ENGINE_AHEAD_MAX &&
	       config->callbacks.on_ready && config->callbacks.on_machine_msg &&
	       config->callbacks.on_peer_lost;
}

static void addresses_free(struct engine *e)
{
	for (unsigned i = 0; i < e->config.slices; i++)
		free(e->addresses[i]);
}

/* Everything but the loop and what hangs on it. */
static void memory_free(struct engine *e)
{
	if (e->timer_fd >= 0)
		close(e->timer_fd);
	if (e->wake_fd >= 0)
		close(e->wake_fd);
	engine_spin_destroy(e);
	if (e->pages)
		pages_destroy(e->pages);
	engine_cache_destroy(e);
	page_counts_destroy(e->page_counts);
	if (e->home_of_chunk)
		munmap(e->home_of_chunk, e->chunks);
	if (e->protocol_mem)
		munmap(e->protocol_mem, e->protocol_bytes);
	if (e->home_touched)
		munmap(e->home_touched, e->home_touched_bytes);
	free(e->waiting.list);
	free(e->timing.list);
	free(e->posts);
	free(e->scratch);
	addresses_free(e);
	pthread_cond_destroy(&e->answered);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

static void on_walk_close(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

/* The loop of an engine whose creation failed half way. */
static void loop_abandon(struct engine *e)
{
	if (e->transport)
		e->transport->ops->close(e->transport);
	uv_walk(&e->loop, on_walk_close, NULL);
	uv_run(&e->loop, UV_RUN_DEFAULT);
	invariant(uv_loop_close(&e->loop) == 0);
}

static int parts_create(struct engine *e)
{
	int err = engine_homes_create(e);

	if (!err)
		err = protocol_create(e);
	if (!err)
		err = lists_create(e);
	if (!err)
		err = engine_cache_create(e);
	if (!err)
		err = pages_create(e->config.ram_end, e->config.room_end,
				   (e->config.kernel_faults ? PAGES_KERNEL : PAGES_USER) |
					   (e->config.slices == 1 ? PAGES_ALONE : 0),
				   &e->pages);
	return err;
}

static int locks_create(struct engine *e)
{
	int err = lock_init(&e->lock);

	if (err)
		return err;
	err = lock_cond_init(&e->answered);
	if (err)
		pthread_mutex_destroy(&e->lock);
	return err;
}

int engine_create(const struct engine_config *config, unsigned *port_out, struct engine **out)
{
	struct engine *e;
	int err;

	if (!config_valid(config))
		return -EINVAL;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->config = *config;
	e->epoch = config->epoch;
	e->timer_fd = -1;
	e->wake_fd = -1;
	e->spin.load_fd = -1;
	err = locks_create(e);
	if (err) {
		free(e);
		return err;
	}
	err = parts_create(e);
	if (err)
		goto fail_memory;
	err = uv_loop_init(&e->loop);
	if (err)
		goto fail_memory;
	err = engine_transport_create(e, port_out);
	if (!err)
		err = engine_loop_create(e);
	if (err)
		goto fail_loop;
	e->config.ranges = NULL; /* the caller's; the table has replaced them */
	*out = e;
	return 0;
fail_loop:
	loop_abandon(e);
fail_memory:
	log_error("cannot make the memory engine of slice %u: %s", config->self, error_text(err));
	memory_free(e);
	return err;
}

int engine_start(struct engine *e)
{
	int err = pthread_create(&e->thread, NULL, engine_thread_main, e);

	e->started = !err;
	return -err;
}

/* The engine's own copies: its thread may come to them when the caller has given up waiting. */
static int addresses_copy(struct engine *e, const char *const *addresses)
{
	for (unsigned i = 0; i < e->config.slices; i++) {
		e->addresses[i] = addresses[i] ? strdup(addresses[i]) : NULL;
		if (addresses[i] && !e->addresses[i])
			return -ENOMEM;
	}
	return 0;
}

/* Waits until the engine thread has answered. The lock is held. */
static int answer_wait(struct engine *e)
{
	uint64_t deadline_ns = clock_now_ns() + ANSWER_TIMEOUT_S * NS_PER_S;
	struct timespec until = {.tv_sec = (time_t)(deadline_ns / NS_PER_S),
				 .tv_nsec = (long)(deadline_ns % NS_PER_S)};

	while (!e->command.connect_done)
		if (pthread_cond_timedwait(&e->answered, &e->lock, &until) == ETIMEDOUT)
			return -ETIMEDOUT;
	return e->command.result;
}

int engine_connect(struct engine *e, const char *const *addresses)
{
	int err;

	if (!e->started || e->addresses_taken)
		return -EINVAL;
	e->addresses_taken = true;
	err = addresses_copy(e, addresses);
	if (err)
		return err;
	pthread_mutex_lock(&e->lock);
	e->command = (struct command){.connect_wanted = true};
	engine_wake(e);
	err = answer_wait(e);
	e->command.connect_wanted = false;
	pthread_mutex_unlock(&e->lock);
	return err;
}

uint8_t *engine_ram(struct engine *e)
{
	return pages_ram(e->pages);
}

void engine_destroy(struct engine *e)
{
	if (e->started) {
		pthread_mutex_lock(&e->lock);
		e->stop = true;
		pthread_mutex_unlock(&e->lock);
		engine_wake(e);
		pthread_join(e->thread, NULL);
	} else {
		engine_loop_close(e);
	}
	invariant(uv_loop_close(&e->loop) == 0);
	engine_posts_free(e);
	memory_free(e);
}
