/* SPDX-License-Identifier: Apache-2.0 */
/* One slice of one VM as a process: its life from the daemon's first message to its exit. */
#ifndef VMM_MAIN_SLICE_H
#define VMM_MAIN_SLICE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "control/control.h"
#include "dsm/engine/engine.h"
#include "vmm/cpu/cpu_choice.h"
#include "vmm/boot/loader.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/shape.h"
#include "vmm/main/slice_devices.h"
#include "vmm/main/slice_images.h"

/* The socket to the daemon, given at start. */
#define SLICE_CONTROL_FD 3
/* Statistics go to the daemon this often. */
#define SLICE_STATS_INTERVAL_MS 1000
/* Console bytes in flight to the daemon: half a second of a busy 115200-baud line, many times. */
#define SLICE_CONSOLE_BUFFER 65536
/* A full console buffer delays the guest this long, then bytes are dropped. */
#define SLICE_CONSOLE_WAIT_MS 1000
/* Keyboard bytes that the guest has not taken yet: the windows of as many clients as a coordinator
 * has connections. */
#define SLICE_INPUT_BUFFER (CONTROL_CONNS_MAX * CONTROL_INPUT_WINDOW)
/* The last messages have this long to reach the daemon before the process ends all the same. */
#define SLICE_EXIT_TIMEOUT_MS 3000
/* The daemon must send the configuration, and each next step, within this time. */
#define SLICE_STEP_TIMEOUT_MS 120000
#define SLICE_SENTENCE_MAX    512

/* What the daemon told: slice-config. */
struct slice_config {
	char vm[NAME_MAX_LEN + 1];
	uint64_t vm_incarnation;
	struct pair_keys keys; /* until the engine has them */
	bool plaintext;
	uint32_t epoch;
	unsigned self;
	struct vm_shape shape;
	char node[SLICES_MAX][NAME_MAX_LEN + 1];
	char bind_host[64];
	char kernel[4096], initrd[4096]; /* slice 0 only */
	char append[CMDLINE_MAX];
	enum cpu_wish cpu_wish;
	bool force;		/* kvm even on a host that is not fit for the guest */
	bool micro;		/* the kernel is a micro-guest */
	uint64_t tsc_hz;	/* the guest's, on all slices */
	enum cpu_vendor vendor; /* this too */
	uint64_t features;	/* and the features of the CPU model: mask of enum cpu_feature */
	unsigned connect_timeout_ms;
	enum transport_wish transport;
	struct rdma_option rdma;
	unsigned silence_ms;  /* how long a slice may be silent; 0: not said */
	uint64_t cache_bytes; /* most memory for remote pages, if it is limited */
	bool cache_limited;
	struct slice_devices devices; /* of this slice */
	struct slice_images images;   /* the shape says where they lie */
};

enum slice_state {
	SLICE_WAIT_CONFIG,
	SLICE_LISTENING,  /* port reported; waiting for slice-connect */
	SLICE_CONNECTING, /* engine makes the data connections */
	SLICE_MEASURING,  /* round trips to the others, and slice 0's clock */
	SLICE_CONNECTED,  /* reported; waiting for slice-run */
	SLICE_STARTING,	  /* slice 0 writes the kernel into guest memory */
	SLICE_RUNNING,
	SLICE_ENDING, /* slice-exit sent; waiting for it to be flushed */
};

/* What other threads tell the main thread; under lock. */
struct slice_mailbox {
	pthread_mutex_t lock;
	pthread_cond_t console_room;
	bool ready;
	bool exited;
	enum exit_code exit_reason;
	char exit_sentence[SLICE_SENTENCE_MAX];
	unsigned lost_peer; /* SLICES_MAX: none; the first one counts */
	char lost_why[SLICE_SENTENCE_MAX];
	size_t console_used;
	uint64_t console_lost; /* bytes dropped after those in console, not yet told */
	bool console_closed;   /* nobody reads any more: drop */
	uint8_t console[SLICE_CONSOLE_BUFFER];
};

struct slice {
	/* Main thread. */
	uv_loop_t loop;
	uv_async_t wake;
	uv_timer_t stats_timer, rtt_timer;
	uint64_t rtt_start_ms;
	unsigned rtt_sent[SLICES_MAX];
	uint64_t engine_turns; /* at the last beat */
	unsigned engine_still; /* beats since it last went round */
	struct control_conn *node;
	struct control_deadline *step_deadline;
	enum slice_state state;
	int exit_code;
	struct slice_config config;
	struct cpu_choice cpu;
	struct loader_image *image;
	uv_work_t boot_work;
	int boot_error;			/* written by the worker, read when it is done */
	size_t input_used, input_taken; /* taken: by the guest, not yet told */
	uint8_t input[SLICE_INPUT_BUFFER];
	void *disk[SLICE_DEVICES_MAX]; /* those of config.devices that are disks; else NULL */
	uv_poll_t handover;
	struct virtio_console *hvc; /* what is typed is for it; NULL: for the serial line */

	/* Own locking. */
	struct engine *engine;
	struct machine *machine;
	struct slice_mailbox mailbox;
};

/* slice_config.c: 0, or -PANGEA_ECONTROL / -EINVAL / -E2BIG with a sentence (CONTROL_WHY_MAX). */
int slice_config_parse(const json_t *msg, struct slice_config *config, char *why);
/* slice_rdma.c: the field rdma, what the node allows of it; missing: nothing. After encryption and transport; as above. */
int slice_rdma_parse(const json_t *msg, struct slice_config *config, char *why);
/* Puts the distances and latencies of slice-run into the shape; absent: the defaults stay. As above. */
int slice_distances_parse(const json_t *msg, struct vm_shape *shape, char *why);

/* slice_cpu.c: the fields cpu, force, micro, tsc_hz and vendor; as above. */
int slice_cpu_parse(const json_t *msg, struct slice_config *config, char *why);
/* Main thread, milliseconds. 0, or -ENOTSUP: kvm was asked for and cannot be; the sentence is in
 * out either way. */
int slice_cpu_choose(const struct slice_config *config, struct cpu_choice *out);

/*
 * slice_virtio.c: the devices of this slice's machine, at most MACHINE_DEVICES_MAX.
 * Main thread; waits for back ends, with deadlines. 0, or a negative code: none are left then.
 */
unsigned slice_virtio_count(const struct slice_config *config);
int slice_virtio_make(struct slice *s, struct virtio_device *devices, unsigned *count);

/* slice_handover.c: takes connections to back ends that were started again, where a disk has that. 0 or negative. */
int slice_handover_open(struct slice *s);

/* slice_hvc.c: the console hvc0. Wanted: the kernel's command line names it. */
bool slice_hvc_wanted(const struct slice_config *config);
/* Makes its device, before the machine; 0 or a negative errno. It gets what is typed if it is named last. */
int slice_hvc_make(struct slice *s, struct virtio_device *out);
/* Offers it what was typed; returns how many bytes it took. Only where s->hvc is set. */
size_t slice_hvc_input(struct slice *s, const uint8_t *bytes, size_t len);

/* slice_mailbox.c: callbacks for engine and machine (ctx: struct slice), and the reader. */
int slice_mailbox_init(struct slice *s);
struct engine_callbacks slice_engine_callbacks(struct slice *s);
struct machine_callbacks slice_machine_callbacks(struct slice *s);
/* Output of a console's, in order. Any thread; waits for room, SLICE_CONSOLE_WAIT_MS at most, and then drops. */
void slice_console_output(struct slice *s, const uint8_t *bytes, size_t len);
/* Main thread: takes what is there and acts on it (uv_async callback). */
void slice_mailbox_drain(uv_async_t *wake);

/* slice_life.c, main thread: the steps. */
void slice_configure(struct slice *s, const json_t *msg);
void slice_connect(struct slice *s, const json_t *msg);
void slice_connected(struct slice *s);
void slice_run(struct slice *s, const json_t *msg);
/* Says slice-exit to the daemon, once, and ends the process when that has gone. */
void slice_exit(struct slice *s, enum exit_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Ends the VM on all slices (or just this process, before the machine exists). */
void slice_end(struct slice *s, enum exit_code code, const char *sentence);
/* Presses the guest's power button; before it runs there is none. */
void slice_button(struct slice *s);
/* (Re)starts the deadline of the step that is waited for; what: "the daemon's configuration". */
void slice_step_deadline(struct slice *s, bool wanted);

/* slice_rtt.c: measures, then calls slice_measured, and follows slice 0's clock from then on. */
void slice_rtt_measure(struct slice *s);
/* Nanoseconds by slice, 0 where unknown; the caller's reference, NULL without memory. */
json_t *slice_rtt_list(struct slice *s);
/* What carries the messages, by slice; the same. */
json_t *slice_links_list(struct slice *s);
/* slice_life.c */
void slice_measured(struct slice *s);

/* slice_stats.c: sends slice-stats now. */
void slice_stats_send(struct slice *s);

/* slice_beat.c, each second: tells the daemon that this thread lives, and if the engine's does. */
void slice_beat_send(struct slice *s);

/* slice_console.c, main thread. */
void slice_console_flush(struct slice *s);
void slice_console_input(struct slice *s, const uint8_t *bytes, size_t len);
/* Offers the guest what it has not taken yet. */
void slice_input_offer(struct slice *s);

#endif
