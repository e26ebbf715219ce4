/* SPDX-License-Identifier: Apache-2.0 */
/* COM1, a 16550A: FIFOs, interrupts, loopback; and the bounded buffers between it and the host. */
#ifndef VMM_SERIAL_H
#define VMM_SERIAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Typed ahead: a pasted page of text. What does not fit stays with the caller. */
#define SERIAL_IN_MAX 4096u
/* Printed ahead of the host: some hundred lines of kernel log. Beyond it the guest waits. */
#define SERIAL_OUT_MAX 16384u
#define SERIAL_FIFO    16u

/* Register offsets. */
enum serial_register {
	SERIAL_DATA = 0, /* RBR, THR; DLL with DLAB */
	SERIAL_IER = 1,	 /* DLM with DLAB */
	SERIAL_IIR = 2,	 /* FCR when written */
	SERIAL_LCR = 3,
	SERIAL_MCR = 4,
	SERIAL_LSR = 5,
	SERIAL_MSR = 6,
	SERIAL_SCR = 7
};

#define SERIAL_IER_RDI	0x01u
#define SERIAL_IER_THRI 0x02u
#define SERIAL_IER_RLSI 0x04u
#define SERIAL_IER_MSI	0x08u
#define SERIAL_IIR_NONE 0x01u
#define SERIAL_IIR_MSI	0x00u
#define SERIAL_IIR_THRI 0x02u
#define SERIAL_IIR_RDI	0x04u
#define SERIAL_IIR_RLSI 0x06u
#define SERIAL_IIR_TIME 0x0cu
#define SERIAL_IIR_FIFO 0xc0u
#define SERIAL_LCR_DLAB 0x80u
#define SERIAL_MCR_DTR	0x01u
#define SERIAL_MCR_RTS	0x02u
#define SERIAL_MCR_OUT1 0x04u
#define SERIAL_MCR_OUT2 0x08u
#define SERIAL_MCR_LOOP 0x10u
#define SERIAL_LSR_DR	0x01u
#define SERIAL_LSR_OE	0x02u
#define SERIAL_LSR_THRE 0x20u
#define SERIAL_LSR_TEMT 0x40u

struct serial_config {
	void *ctx;
	/* The interrupt line's level; lock held, must not block or call back. */
	void (*line)(void *ctx, bool active);
	/* Every byte as the guest writes it; lock held, must not block or call back. May be NULL.
	 */
	void (*tap)(void *ctx, uint8_t byte);
	/* Output for the host, in order, one call at a time, no lock of the device held. */
	void (*output)(void *ctx, const uint8_t *bytes, size_t len);
	/* The guest has made room for input after serial_input took less than was offered; lock
	 * held, must not block or call back. May be NULL. */
	void (*input_room)(void *ctx);
	/* CLOCK_MONOTONIC; any thread. */
	uint64_t (*now_ns)(void *ctx);
	/* Call serial_refill at that time; lock held, must not block or call back. */
	void (*refill_at)(void *ctx, uint64_t when_ns);
};

struct serial {
	struct serial_config config; /* constant */
	/* lock */
	pthread_mutex_t lock;
	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm, lsr_errors, msr_delta;
	bool thre_pending; /* a THRE interrupt waits to be seen */
	bool line_active;
	uint8_t fifo[SERIAL_FIFO]; /* received */
	unsigned fifo_first, fifo_count;
	uint8_t in[SERIAL_IN_MAX]; /* typed, not yet received: the far end honours RTS */
	unsigned in_first, in_count;
	bool in_refused;	     /* serial_input did not take all */
	uint64_t filled_ns, fill_ns; /* when the FIFO was filled, and may be again */
	uint8_t out[SERIAL_OUT_MAX];
	unsigned out_first, out_count;
	uint64_t out_lost; /* bytes written although the transmitter was busy */
	bool stopping;
	pthread_cond_t out_more; /* with lock: out_count > 0 or stopping */
	pthread_t thread;
	bool thread_running; /* serial_output_start/stop's caller */
	/* one drain at a time; taken before lock */
	pthread_mutex_t drain_lock;
};

/* 0 or negative errno. No thread yet: output is kept until serial_drain or the thread takes it. */
int serial_init(struct serial *s, const struct serial_config *config);
void serial_destroy(struct serial *s);
/* The guest's accesses, offset 0..7; any thread; never blocks. */
uint8_t serial_read(struct serial *s, unsigned offset);
void serial_write(struct serial *s, unsigned offset, uint8_t value);
/* The host types. Returns how many bytes were taken. Any thread. */
size_t serial_input(struct serial *s, const uint8_t *bytes, size_t len);
/* What config.refill_at asked for: more of what was typed may arrive now. Any thread. */
void serial_refill(struct serial *s);
/* Hands all output to config.output now. Any thread, outside of the callbacks; returns without
 * doing so if another thread's output call has not returned within a second. */
void serial_drain(struct serial *s);
/* The thread that drains; stop joins it after a last drain. */
int serial_output_start(struct serial *s);
void serial_output_stop(struct serial *s);

#endif
