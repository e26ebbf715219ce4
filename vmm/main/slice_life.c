/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a slice's life: configure, connect, run, end. All on the main thread. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "confine/confine.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/smbios.h"
#include "vmm/machine/machine_images.h"
#include "vmm/main/slice.h"

/*
 * A page that others want stays this long after it came, once it is being stolen again and again:
 * a few hundred instructions of the software CPU, less than a remote fault.
 */
#define HOLD_NS 20000

void slice_exit(struct slice *s, enum exit_code code, const char *fmt, ...)
{
	char sentence[SLICE_SENTENCE_MAX];
	va_list ap;

	if (s->state == SLICE_ENDING)
		return;
	va_start(ap, fmt);
	vsnprintf(sentence, sizeof(sentence), fmt, ap);
	va_end(ap);
	slice_stats_send(s);
	s->state = SLICE_ENDING;
	s->exit_code = code;
	control_deadline_cancel(&s->step_deadline);
	log_info("exit %d: %s", code, sentence);
	if (!s->node)
		_exit(code);
	control_sendf(s->node, "{sssiss}", "type", "slice-exit", "code", (int)code, "reason",
		      sentence);
	control_close(s->node, "the slice has ended");
	/* The process ends in on_closed (main.c); this is for a daemon that does not read. */
	alarm(SLICE_EXIT_TIMEOUT_MS / 1000);
}

void slice_end(struct slice *s, enum exit_code code, const char *sentence)
{
	if (s->machine && s->state >= SLICE_CONNECTED)
		machine_end(s->machine, code, sentence);
	else
		slice_exit(s, code, "%s", sentence);
}

void slice_button(struct slice *s)
{
	if (s->state == SLICE_RUNNING)
		machine_power_button(s->machine);
}

static void step_late(void *arg)
{
	struct slice *s = arg;

	s->step_deadline = NULL;
	slice_exit(s, EXIT_ERROR, "the daemon did not tell the next step within %d s",
		   SLICE_STEP_TIMEOUT_MS / 1000);
}

void slice_step_deadline(struct slice *s, bool wanted)
{
	control_deadline_cancel(&s->step_deadline);
	if (wanted)
		s->step_deadline =
			control_deadline_start(&s->loop, SLICE_STEP_TIMEOUT_MS, step_late, s);
}

static unsigned ranges_fill(const struct vm_shape *shape, struct engine_range *ranges)
{
	unsigned count = 0;

	for (unsigned i = 0; i < shape->slices; i++)
		for (unsigned j = 0; j < shape->slice[i].ranges_count; j++)
			ranges[count++] = (struct engine_range){i, shape->slice[i].ranges[j].start,
								shape->slice[i].ranges[j].end};
	return count;
}

/* Threads that touch guest memory: vCPUs, the one that writes the kernel, and those of devices. */
static unsigned faulters_of(const struct slice *s)
{
	return s->config.shape.slice[s->config.self].vcpus + 1 + slice_virtio_count(&s->config);
}

/* Is the cache large enough for what faults here? A lone slice has no remote pages. */
static bool cache_take(struct slice *s)
{
	uint64_t min = engine_cache_min_bytes(faulters_of(s));
	const struct slice_config *c = &s->config;

	if (!c->cache_limited || c->cache_bytes >= min || c->shape.slices == 1)
		return true;
	slice_exit(s, EXIT_NOFIT,
		   "slice %u on node %s: a cache of %llu KiB for remote pages is too small, it "
		   "needs at least %llu KiB for %u CPUs",
		   c->self, c->node[c->self], (unsigned long long)c->cache_bytes >> 10,
		   (unsigned long long)min >> 10, c->shape.slice[c->self].vcpus);
	return false;
}

static int engine_make(struct slice *s, unsigned *port)
{
	struct engine_range ranges[SLICES_MAX * SHAPE_RANGES_MAX];
	const struct vm_shape *shape = &s->config.shape;
	struct engine_config config = {
		.self = s->config.self,
		.slices = shape->slices,
		.vm = s->config.vm_incarnation,
		.keys = &s->config.keys,
		.plaintext = s->config.plaintext,
		.epoch = s->config.epoch,
		.ram_end = shape->ram_end,
		.room_end = shape_memory_end(shape),
		.ranges = ranges,
		.ranges_count = ranges_fill(shape, ranges),
		.bind_host = s->config.bind_host,
		.connect_timeout_ms = s->config.connect_timeout_ms,
		.silence_ms = s->config.silence_ms,
		.transport = s->config.transport,
		.rdma = s->config.rdma,
		.faulters_max = faulters_of(s),
		.hold_ns = HOLD_NS,
		.kernel_faults = s->cpu.kernel_faults,
		.ahead_max = ENGINE_AHEAD_MAX,
		.walks_write = s->cpu.walks_write,
		.cache_bytes = s->config.cache_bytes,
		.callbacks = slice_engine_callbacks(s),
	};
	int err;

	err = engine_create(&config, port, &s->engine);
	pair_wipe(&s->config.keys, sizeof(s->config.keys));
	return err;
}

/* The files' descriptors have done their work once they are mapped. */
static int images_map(struct slice *s)
{
	const struct slice_images *images = &s->config.images;
	int err = machine_images_map(engine_ram(s->engine), &s->config.shape, images->fd);

	for (unsigned i = 0; i < images->count; i++)
		close(images->fd[i]);
	if (err)
		log_error("an image cannot be mapped: %s", error_text(err));
	return err;
}

static int machine_make(struct slice *s)
{
	struct virtio_device devices[MACHINE_DEVICES_MAX];
	struct machine_config config = {
		.shape = &s->config.shape,
		.self = s->config.self,
		.vcpu_ops = s->cpu.ops,
		.ram = engine_ram(s->engine),
		.tsc_hz = s->config.tsc_hz,
		.vendor = s->config.vendor,
		.features = s->config.features,
		.tsc_origin_ns = clock_now_ns(),
		.debug_exit = s->image && loader_debug_exit(s->image),
		.devices = devices,
		.callbacks = slice_machine_callbacks(s),
	};
	int err = slice_virtio_make(s, devices, &config.devices_count);

	if (!err)
		err = machine_create(&config, &s->machine);
	return err ? err : slice_handover_open(s);
}

/*
 * Linux believes leaf 0x15 of Intel's processors alone. On AMD's it would calibrate against timers
 * that are not here, and hang; so it is told, as a boot loader may. The user's own word, which
 * comes later, counts instead. False: there is no room for it.
 */
static bool cmdline_make(const struct slice_config *c, char *out, size_t size)
{
	int len;

	if (c->vendor == CPU_VENDOR_AMD && !c->micro)
		len = snprintf(out, size, "tsc_early_khz=%llu %s",
			       (unsigned long long)c->tsc_hz / 1000, c->append);
	else
		len = snprintf(out, size, "%s", c->append);
	return len >= 0 && (size_t)len < size;
}

/* Slice 0 looks at the kernel before anything else exists, so that a bad file is told at once. */
static bool image_open(struct slice *s)
{
	const struct slice_config *c = &s->config;
	char why[SLICE_SENTENCE_MAX], cmdline[CMDLINE_MAX];

	if (c->self != 0)
		return true;
	if (!cmdline_make(c, cmdline, sizeof(cmdline))) {
		slice_exit(s, EXIT_IMAGE,
			   "the kernel command line is too long: AMD's CPU model adds "
			   "tsc_early_khz= to it");
		return false;
	}
	if (loader_open(&c->shape, c->kernel, c->initrd, cmdline, &s->image, why, sizeof(why))) {
		slice_exit(s, EXIT_IMAGE, "%s", why);
		return false;
	}
	return true;
}

/* What runs the vCPUs; the coordinator hears of it unless there are none. */
static bool cpu_take(struct slice *s)
{
	if (slice_cpu_choose(&s->config, &s->cpu) == 0)
		return true;
	slice_exit(s, EXIT_NOFIT, "slice %u on node %s: %s", s->config.self,
		   s->config.node[s->config.self], s->cpu.sentence);
	return false;
}

static void listening_say(struct slice *s, unsigned port)
{
	bool cpus = s->config.shape.slice[s->config.self].vcpus != 0;

	s->state = SLICE_LISTENING;
	slice_step_deadline(s, true);
	control_sendf(s->node, "{sssiss*ss*}", "type", "slice-listening", "port", (int)port, "cpu",
		      cpus ? s->cpu.ops->name : NULL, "cpu_why", cpus ? s->cpu.sentence : NULL);
}

void slice_configure(struct slice *s, const json_t *msg)
{
	char why[CONTROL_WHY_MAX], tag[NAME_MAX_LEN + 32];
	unsigned port;
	int err = slice_config_parse(msg, &s->config, why);

	if (err) {
		slice_exit(s, EXIT_ERROR, "%s", why);
		return;
	}
	snprintf(tag, sizeof(tag), "pangea-vmm %s/%u", s->config.vm, s->config.self);
	log_tag_set(tag);
	if (!image_open(s) || !cpu_take(s) || !cache_take(s))
		return;
	err = engine_make(s, &port);
	if (!err)
		err = images_map(s);
	if (!err)
		err = machine_make(s);
	if (!err)
		err = engine_start(s->engine);
	confine_priority_drop();
	if (err) {
		slice_exit(s, EXIT_ERROR, "cannot make slice %u: %s", s->config.self,
			   error_text(err));
		return;
	}
	listening_say(s, port);
}

void slice_connect(struct slice *s, const json_t *msg)
{
	const char *addresses[SLICES_MAX] = {0};
	char why[CONTROL_WHY_MAX];
	json_t *list;
	int err = control_get_array(msg, "addresses", SLICES_MAX, &list, why);

	if (!err && json_array_size(list) != s->config.shape.slices) {
		snprintf(why, sizeof(why), "slice-connect: addresses has the wrong length");
		err = -PANGEA_ECONTROL;
	}
	for (unsigned i = 0; !err && i < s->config.shape.slices; i++) {
		addresses[i] = json_string_value(json_array_get(list, i));
		if (!addresses[i]) {
			snprintf(why, sizeof(why), "slice-connect: an address is not a string");
			err = -PANGEA_ECONTROL;
		}
	}
	if (!err) {
		s->state = SLICE_CONNECTING;
		err = engine_connect(s->engine, addresses);
		snprintf(why, sizeof(why), "cannot connect to the other slices: %s",
			 error_text(err));
	}
	if (err)
		slice_exit(s, EXIT_ERROR, "%s", why);
}

/*
 * All data connections are up. With one slice this comes already after engine_start; the daemon
 * hears of it only once it asked for it.
 */
void slice_connected(struct slice *s)
{
	if (s->state == SLICE_LISTENING) {
		pthread_mutex_lock(&s->mailbox.lock);
		s->mailbox.ready = true; /* one slice: again when slice-connect has come */
		pthread_mutex_unlock(&s->mailbox.lock);
		return;
	}
	if (s->state != SLICE_CONNECTING)
		return;
	s->state = SLICE_MEASURING;
	slice_rtt_measure(s);
}

void slice_measured(struct slice *s)
{
	if (s->state != SLICE_MEASURING)
		return;
	int err = confine_settle();
	if (err) {
		slice_exit(s, EXIT_ERROR, "the slice cannot be confined: its system calls: %s",
			   error_text(err));
		return;
	}
	s->state = SLICE_CONNECTED;
	slice_step_deadline(s, true);
	control_sendf(s->node, "{ssso*so*}", "type", "slice-connected", "rtt_ns", slice_rtt_list(s),
		      "links", slice_links_list(s));
}

/* Worker thread: the pages of the kernel come into being here, some of them on other slices. */
static void boot_place(uv_work_t *work)
{
	struct slice *s = work->data;
	struct vcpu_state bsp;

	s->boot_error = loader_place(s->image, &s->config.shape, engine_ram(s->engine), &bsp);
	if (!s->boot_error && !s->config.micro)
		s->boot_error = smbios_place(&s->config.shape, s->config.vm, engine_ram(s->engine));
	if (!s->boot_error)
		s->boot_error = machine_start_bsp(s->machine, &bsp);
}

static void machine_go(struct slice *s)
{
	int err = machine_start(s->machine);

	if (err) {
		slice_exit(s, EXIT_ERROR, "cannot start the vCPU threads: %s", error_text(err));
		return;
	}
	s->state = SLICE_RUNNING;
	control_sendf(s->node, "{ss}", "type", "slice-started");
}

static void boot_placed(uv_work_t *work, int status)
{
	struct slice *s = work->data;

	(void)status; /* never cancelled */
	if (s->state != SLICE_STARTING)
		return;
	loader_close(s->image);
	s->image = NULL;
	if (s->boot_error)
		slice_exit(s, EXIT_ERROR, "cannot place the kernel: %s", error_text(s->boot_error));
	else
		machine_go(s);
}

void slice_run(struct slice *s, const json_t *msg)
{
	char why[CONTROL_WHY_MAX];

	if (slice_distances_parse(msg, &s->config.shape, why)) {
		slice_exit(s, EXIT_ERROR, "%s", why);
		return;
	}
	slice_step_deadline(s, false);
	s->state = SLICE_STARTING;
	if (s->config.self != 0) {
		machine_go(s);
		return;
	}
	s->boot_work.data = s;
	if (uv_queue_work(&s->loop, &s->boot_work, boot_place, boot_placed))
		slice_exit(s, EXIT_ERROR, "cannot place the kernel: out of memory");
}
