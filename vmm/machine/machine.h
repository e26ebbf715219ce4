/* SPDX-License-Identifier: Apache-2.0 */
/* The machine of one slice: its vCPUs and their threads, APICs, timers, devices, and messages. */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/locked.h"
#include "transport/wire.h"
#include "vmm/clock/clock.h"
#include "vmm/machine/fault_places.h"
#include "vmm/machine/shape.h"
#include "vmm/cpu/vcpu.h"
#include "vmm/virtio/virtio.h"

/*
 * Life of a machine in pangea-vmm:
 *
 *   engine_create, machine_create      (in this order: the machine needs engine_ram())
 *   engine_start, engine_connect       (machine_msg may be called from now on)
 *   ... on_ready ...
 *   slice 0: load the kernel into RAM, machine_start_bsp(state)
 *   every slice: machine_start
 *   ... on_exit, or machine_end ...
 *   machine_stop: 0 -> engine_destroy, machine_destroy
 *                 -ETIMEDOUT (a vCPU hangs in a page fault) -> just _exit
 *
 * Threads: one a vCPU, one for all timers, one a virtio device, and on slice 0 one that carries console output out.
 * An idle vCPU sleeps; nothing here polls.
 */
struct machine;

struct machine_callbacks {
	void *ctx;
	/*
	 * The VM is over; called exactly once in the life of a machine, on whatever thread found
	 * out (a vCPU's, the caller of machine_end) or, for the engine's, which must not wait for
	 * the console, on the timer's. All vCPUs have been told to
	 * stop. Must not block, nor call machine_stop or machine_destroy: hand it to the main
	 * thread. sentence is valid during the call. Every slice of the VM gets its own call.
	 */
	void (*on_exit)(void *ctx, enum exit_code reason, const char *sentence);
	/*
	 * Bytes that the guest wrote to COM1 (slice 0 only); one call at a time, in order, from
	 * the console thread or, at the end, before on_exit, from the thread that calls that. May
	 * block for a moment: the guest then finds its transmitter busy.
	 */
	void (*on_console)(void *ctx, const uint8_t *bytes, size_t len);
	/*
	 * There is room for input again after machine_console_input took less than it was offered;
	 * on a vCPU's thread with the serial port's lock held: must not block or call back. May be
	 * NULL.
	 */
	void (*on_input_room)(void *ctx);
	/*
	 * Sends a message to another slice: engine_post's contract (any thread, never blocks,
	 * payload copied). May be NULL with one slice.
	 */
	int (*post)(void *ctx, unsigned to, const struct wire_msg *msg, const void *payload);
	/*
	 * machine_next_post has something for another slice: engine_ring's contract (any thread,
	 * device locks held or not; never blocks, cheap). May be NULL with one slice.
	 */
	void (*ring)(void *ctx);
	/* A LOCKed access for a vCPU: engine_locked's contract. May be NULL with one slice. */
	int (*locked)(void *ctx, struct locked_access *access);
};

/* virtio devices of one machine: fewer than a PCI bus has numbers. */
#define MACHINE_DEVICES_MAX 24u

struct machine_config {
	const struct vm_shape *shape; /* copied */
	unsigned self;		      /* this slice */
	const struct vcpu_ops *vcpu_ops;
	uint8_t *ram;	 /* engine_ram(), the shape's images mapped (machine_images_map) */
	uint64_t tsc_hz; /* 1 MHz .. 10 GHz; LAYOUT_TSC_HZ is the choice */
	enum cpu_vendor vendor;
	uint64_t features; /* of the CPU model: mask of enum cpu_feature */
	uint64_t
		tsc_origin_ns; /* slice 0: the host's clock when guest time is 0; others: ignored */
	struct guest_clock_source host_clock; /* zeroes: CLOCK_MONOTONIC */
	bool debug_exit; /* slice 0: the debug-exit port is there (loader_debug_exit) */
	/* Slices with a host bridge (shape.h): at most MACHINE_DEVICES_MAX. They become the machine's, also when it
	 * cannot be made. */
	const struct virtio_device *devices;
	unsigned devices_count;
	struct machine_callbacks callbacks;
};

/* Counters; approximate while the machine runs. */
struct machine_stats {
	uint64_t instructions; /* guest instructions of this slice's vCPUs */
	uint64_t exits_kicked, exits_hlt, exits_irq_window;
	uint64_t interrupts; /* injected into vCPUs, NMIs not counted */
	uint64_t ipis_local, ipis_remote;
	uint64_t timer_fires;
	uint64_t remote_io;	   /* accesses that other slices served for us */
	uint64_t remote_io_served; /* accesses that we served for others */
	unsigned vcpus, vcpus_started, vcpus_idle;
	int64_t clock_offset_ns; /* guest time less this host's CLOCK_MONOTONIC */
	uint64_t clock_error_ns; /* bound on guest time here less guest time on slice 0 */
	int64_t clock_rate_ppb;	 /* by how much guest time runs faster than this host's clock */
	uint64_t clock_bursts;	 /* how often it was measured */
};

/*
 * Makes the vCPUs (in reset state), their APICs and the devices; starts no vCPU. Slices without
 * vCPUs are fine. Errors: -EINVAL (configuration), -ENOMEM, what vcpu_ops or pthread give.
 */
int machine_create(const struct machine_config *config, struct machine **out);

/*
 * Slice 0, after machine_create and before machine_start: the state that vCPU 0 begins with. Does
 * not touch guest memory. Errors: -EINVAL (not slice 0, already started, or an impossible state).
 */
int machine_start_bsp(struct machine *m, const struct vcpu_state *state);

/*
 * Starts the threads. vCPU 0 runs if machine_start_bsp gave it a state; every other vCPU waits for
 * INIT and SIPI. Once. Errors: -EALREADY, -EAGAIN (no more threads; the machine must be stopped).
 */
int machine_start(struct machine *m);

/*
 * engine_callbacks.on_machine_msg: from another slice, on the engine thread; never blocks and
 * never touches guest memory. May be called between machine_create and machine_destroy. Returns 0,
 * or -PANGEA_EWIRE / -PANGEA_EWIRELEN for a message that a correct peer cannot send.
 */
int machine_msg(struct machine *m, unsigned from, const struct wire_msg *msg, const void *payload);

/*
 * engine_callbacks.next_post: takes out one message for one of these slices (a bit set); false if
 * there is none. Interrupts and EOIs go this way, and there can never be more of them than bits in
 * a few tables. Engine thread; like machine_msg.
 */
bool machine_next_post(struct machine *m, uint64_t slices, unsigned *to, struct wire_msg *msg);

/*
 * engine_callbacks.on_page_changed: on the engine thread; never blocks and never touches guest
 * memory. May be called between machine_create and machine_destroy.
 */
void machine_page_changed(struct machine *m, uint64_t gfn);

/*
 * engine_callbacks.on_fault_remote: on the engine thread; the same. Counts where in the guest's code
 * the vCPU is, if the thread is a vCPU's and its engine tells.
 */
void machine_faulted(struct machine *m, uint32_t tid, uint64_t now_ns);

/* The places with the most faults. Any thread; some microseconds. */
void machine_fault_places(const struct machine *m, struct fault_places_list *out);

/*
 * Slice 0: bytes typed at the console; any thread. Returns how many were taken (0..len): the rest
 * finds the receive buffer full; offer it again after on_input_room. Other slices: 0.
 */
size_t machine_console_input(struct machine *m, const uint8_t *bytes, size_t len);

/*
 * Slice 0: bytes that the guest printed on another console than COM1: what it says of a panic there counts, too.
 * Lines of two consoles that come at the same time may be mixed. Any thread but the engine's.
 */
void machine_console_watch(struct machine *m, const uint8_t *bytes, size_t len);

/*
 * Ends the VM from outside (EXIT_STOPPED, EXIT_NODE_LOST, EXIT_ERROR, ...): tells the vCPUs to
 * stop, calls on_exit, and tells the other slices through slice 0. Any thread, any number of
 * times: only the first end counts. sentence NULL: exit_text(reason).
 */
void machine_end(struct machine *m, enum exit_code reason, const char *sentence);

/*
 * Slice 0: presses the power button. The guest's kernel hears of it if it has a driver for ACPI's, and does as it
 * likes. Other slices: nothing. Any thread; never blocks.
 */
void machine_power_button(struct machine *m);

/*
 * Tells the vCPUs to stop for good, and nothing else: for whoever knows that the VM is over, on a
 * thread that is not to do all that machine_end does. Those in a page fault stop when it ends. Any
 * thread, any number of times; never blocks. machine_end is to follow.
 */
void machine_halt(struct machine *m);

/*
 * Stops and joins all threads; not from a callback. Calls on_exit only for an end that came just before. Returns 0, or
 * -ETIMEDOUT when a vCPU thread did not come back within timeout_ms (it is blocked in a page fault
 * that nobody serves any more): the machine must then not be destroyed, end the process instead.
 * May be called again.
 */
int machine_stop(struct machine *m, unsigned timeout_ms);

/* After machine_stop returned 0, or if machine_start was never called. NULL is fine. */
void machine_destroy(struct machine *m);

/* A snapshot; any thread, until machine_destroy. */
void machine_stats(struct machine *m, struct machine_stats *out);

/*
 * Sends a ping to another slice; machine_ping_best tells of the answer. Any thread. 0, -EINVAL (no
 * such slice, or this one), or what post gives.
 */
int machine_ping(struct machine *m, unsigned slice);

/*
 * The shortest round trip to a slice so far in nanoseconds, and in *answers, unless NULL, the
 * number of pings answered; 0 before the first. Any thread.
 */
uint64_t machine_ping_best(struct machine *m, unsigned slice, unsigned *answers);

/*
 * Guest time is slice 0's clock (vmm/clock/clock.h). Every other slice measures it by bursts of pings to
 * slice 0. The answers to machine_ping(m, 0) count too, and with those alone:
 *
 * machine_clock_align ends the first measurement and sets the guest's clock. Before machine_start.
 * 0, or -EAGAIN: slice 0 has not answered yet. Slice 0: 0, nothing to do.
 *
 * machine_clock_burst starts a burst (ends the last one, if an answer is missing) and returns in
 * how many milliseconds the next one is due; 0 on slice 0: never. When the burst is answered, the
 * clock is corrected: by a step before machine_start, by its rate, unnoticed, afterwards. Any
 * thread, one at a time.
 */
int machine_clock_align(struct machine *m);
unsigned machine_clock_burst(struct machine *m);

/*
 * The architectural state of a local vCPU (by its number), for tests and post-mortems: only while
 * its thread does not run (before machine_start, after machine_stop). -EINVAL else.
 */
int machine_vcpu_state(struct machine *m, unsigned vcpu, struct vcpu_state *out);

#endif
