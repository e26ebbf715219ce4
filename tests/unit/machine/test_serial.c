/* SPDX-License-Identifier: Apache-2.0 */
/* The 16550A: what Linux probes for, interrupts, FIFOs, flow control, and the output buffer. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/devices/serial.h"

struct bench {
	struct serial s;
	bool line;
	unsigned edges, taps, outputs, rooms;
	uint64_t now_ns, refill_ns; /* 0: none is asked for */
	char out[2 * SERIAL_OUT_MAX];
	size_t out_len;
};

static void bench_line(void *ctx, bool active)
{
	struct bench *b = ctx;

	cr_assert_neq(b->line, active, "only changes are told");
	b->line = active;
	b->edges += active;
}

static void bench_tap(void *ctx, uint8_t byte)
{
	(void)byte;
	((struct bench *)ctx)->taps++;
}

static void bench_output(void *ctx, const uint8_t *bytes, size_t len)
{
	struct bench *b = ctx;

	cr_assert_leq(b->out_len + len, sizeof(b->out));
	memcpy(b->out + b->out_len, bytes, len);
	b->out_len += len;
	b->outputs++;
}

static void bench_room(void *ctx)
{
	((struct bench *)ctx)->rooms++;
}

static uint64_t bench_now(void *ctx)
{
	return ((struct bench *)ctx)->now_ns;
}

static void bench_refill_at(void *ctx, uint64_t when_ns)
{
	struct bench *b = ctx;

	cr_assert_gt(when_ns, b->now_ns);
	b->refill_ns = when_ns;
}

/* Time goes on, to the moment that the port has asked for. */
static void bench_wait(struct bench *b)
{
	cr_assert_neq(b->refill_ns, 0, "nobody would look again");
	b->now_ns = b->refill_ns;
	b->refill_ns = 0;
	serial_refill(&b->s);
}

static struct bench *bench_new(void)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct serial_config config = {b,	   bench_line, bench_tap,      bench_output,
				       bench_room, bench_now,  bench_refill_at};

	cr_assert(b);
	b->now_ns = 1000000000;
	cr_assert_eq(serial_init(&b->s, &config), 0);
	return b;
}

static void out(struct bench *b, unsigned reg, uint8_t value)
{
	serial_write(&b->s, reg, value);
}

static uint8_t in(struct bench *b, unsigned reg)
{
	return serial_read(&b->s, reg);
}

/* The next byte that comes over the wire. */
static uint8_t next(struct bench *b)
{
	if (!(in(b, SERIAL_LSR) & SERIAL_LSR_DR))
		bench_wait(b);
	cr_assert(in(b, SERIAL_LSR) & SERIAL_LSR_DR);
	return in(b, SERIAL_DATA);
}

/* Linux, 8250_port.c, autoconfig and autoconfig_16550a. */
Test(serial, linux_probe)
{
	struct bench *b = bench_new();

	out(b, SERIAL_IER, 0);
	cr_assert_eq(in(b, SERIAL_IER) & 0x0f, 0);
	out(b, SERIAL_IER, 0x0f);
	cr_assert_eq(in(b, SERIAL_IER), 0x0f, "bits 4..7 do not stick: no XScale UUE");
	out(b, SERIAL_IER, 0);
	out(b, SERIAL_MCR, SERIAL_MCR_LOOP | SERIAL_MCR_OUT2 | SERIAL_MCR_RTS);
	cr_assert_eq(in(b, SERIAL_MSR) & 0xf0, 0x90);
	out(b, SERIAL_MCR, 0);
	out(b, SERIAL_LCR, 0xbf);
	out(b, SERIAL_IIR, 0);
	out(b, SERIAL_LCR, 0);
	out(b, SERIAL_IIR, 1);
	cr_assert_eq(in(b, SERIAL_IIR) >> 6, 3, "a 16550A's FIFO");
	out(b, SERIAL_LCR, SERIAL_LCR_DLAB);
	cr_assert_neq(in(b, SERIAL_IIR), 0, "no EFR: not a 16650");
	out(b, SERIAL_LCR, 0xbf);
	cr_assert_neq(in(b, SERIAL_IIR), 0, "nor a 16850");
	out(b, SERIAL_LCR, 0);
	out(b, SERIAL_IIR, 0x21);
	cr_assert_eq(in(b, SERIAL_IIR) & 0xe0, 0xc0, "nor a 16750 with 64 bytes");
	out(b, SERIAL_SCR, 0x5a);
	cr_assert_eq(in(b, SERIAL_SCR), 0x5a);
	cr_assert_eq(b->edges, 0, "OUT2 was off throughout");
	free(b);
}

Test(serial, divisor_latch)
{
	struct bench *b = bench_new();

	out(b, SERIAL_LCR, SERIAL_LCR_DLAB | 3);
	out(b, SERIAL_DATA, 0x0c);
	out(b, SERIAL_IER, 0x01);
	cr_assert_eq(in(b, SERIAL_DATA), 0x0c);
	cr_assert_eq(in(b, SERIAL_IER), 0x01);
	out(b, SERIAL_LCR, 3);
	cr_assert_eq(in(b, SERIAL_LCR), 3);
	cr_assert_eq(in(b, SERIAL_IER), 0);
	serial_drain(&b->s);
	cr_assert_eq(b->out_len, 0, "the divisor is not output");
	free(b);
}

/* serial8250_do_startup: both of its THRE tests. */
Test(serial, thre_interrupt)
{
	struct bench *b = bench_new();
	unsigned round;

	out(b, SERIAL_MCR, SERIAL_MCR_OUT2);
	for (round = 0; round < 2; round++) {
		out(b, SERIAL_IER, SERIAL_IER_THRI);
		cr_assert(b->line);
		cr_assert_eq(in(b, SERIAL_IIR) & 0x0f, SERIAL_IIR_THRI);
		cr_assert_not(b->line, "reading IIR takes it back");
		cr_assert_eq(in(b, SERIAL_IIR) & 0x0f, SERIAL_IIR_NONE);
		out(b, SERIAL_IER, 0);
	}
	out(b, SERIAL_IER, SERIAL_IER_THRI);
	in(b, SERIAL_IIR);
	b->edges = 0;
	out(b, SERIAL_DATA, 'a');
	cr_assert_eq(b->edges, 1, "sent at once: empty again");
	out(b, SERIAL_DATA, 'b');
	cr_assert_eq(b->edges, 2, "an edge-triggered line sees each");
	out(b, SERIAL_MCR, 0);
	cr_assert_not(b->line, "OUT2 disconnects it");
	serial_drain(&b->s);
	cr_assert_eq(b->out_len, 2);
	cr_assert_arr_eq(b->out, "ab", 2);
	cr_assert_eq(b->taps, 2);
	free(b);
}

Test(serial, receive)
{
	struct bench *b = bench_new();

	out(b, SERIAL_MCR, SERIAL_MCR_OUT2 | SERIAL_MCR_RTS);
	out(b, SERIAL_IIR, 0x81); /* FIFO on, trigger at 8 */
	out(b, SERIAL_IER, SERIAL_IER_RDI);
	cr_assert_not(in(b, SERIAL_LSR) & SERIAL_LSR_DR);
	cr_assert_eq(serial_input(&b->s, (const uint8_t *)"0123456789", 10), 10);
	cr_assert(b->line);
	cr_assert_eq(in(b, SERIAL_IIR), SERIAL_IIR_RDI | SERIAL_IIR_FIFO);
	cr_assert_eq(in(b, SERIAL_DATA), '0');
	cr_assert_eq(in(b, SERIAL_DATA), '1');
	cr_assert_eq(in(b, SERIAL_DATA), '2');
	cr_assert_eq(in(b, SERIAL_IIR), SERIAL_IIR_TIME | SERIAL_IIR_FIFO, "below the trigger");
	cr_assert(in(b, SERIAL_LSR) & SERIAL_LSR_DR);
	while (in(b, SERIAL_LSR) & SERIAL_LSR_DR)
		in(b, SERIAL_DATA);
	cr_assert_not(b->line);
	cr_assert_eq(in(b, SERIAL_DATA), 0, "nothing there");
	free(b);
}

Test(serial, input_waits_for_rts_and_is_bounded)
{
	struct bench *b = bench_new();
	uint8_t text[SERIAL_IN_MAX + 100];
	size_t i, taken;

	for (i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(i * 7);
	out(b, SERIAL_IIR, 1);
	taken = serial_input(&b->s, text, sizeof(text));
	cr_assert_eq(taken, SERIAL_IN_MAX);
	cr_assert_not(in(b, SERIAL_LSR) & SERIAL_LSR_DR, "not asked for yet");
	out(b, SERIAL_IIR, 3); /* Linux clears the FIFO when it opens the port */
	out(b, SERIAL_MCR, SERIAL_MCR_RTS);
	cr_assert_eq(b->rooms, 0);
	for (i = 0; i < taken; i++)
		cr_assert_eq(next(b), (uint8_t)(i * 7));
	cr_assert_eq(in(b, SERIAL_LSR), SERIAL_LSR_THRE | SERIAL_LSR_TEMT, "no overrun");
	free(b);
}

/* Who offered more than there was room for hears of room, once, and no byte is lost or doubled. */
Test(serial, input_room_is_told_once)
{
	static uint8_t text[3 * SERIAL_IN_MAX];
	struct bench *b = bench_new();
	size_t taken, got = 0;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(i * 7 + i / 251);
	out(b, SERIAL_IIR, 0x01);
	out(b, SERIAL_MCR, SERIAL_MCR_RTS | SERIAL_MCR_OUT2);
	cr_assert_eq(serial_input(&b->s, text, 10), 10);
	for (; got < 10; got++)
		cr_assert_eq(next(b), text[got]);
	cr_assert_eq(b->rooms, 0, "all was taken: nobody waits");
	for (taken = 10; taken < sizeof(text);) {
		unsigned rooms = b->rooms;
		taken += serial_input(&b->s, text + taken, sizeof(text) - taken);
		for (; got < taken && b->rooms == rooms; got++)
			cr_assert_eq(next(b), text[got]);
		cr_assert(taken == sizeof(text) || b->rooms == rooms + 1);
	}
	for (; got < taken; got++)
		cr_assert_eq(next(b), text[got]);
	cr_assert_eq(in(b, SERIAL_LSR) & SERIAL_LSR_DR, 0);
	serial_destroy(&b->s);
	free(b);
}

/*
 * serial8250_interrupt on an edge-triggered line: it looks at the port until nothing is pending or
 * it has done so 512 times, and then hears of nothing but a new edge. Whoever types has always
 * more, and each byte takes the guest a time that is longer than a byte's on the wire.
 */
Test(serial, the_handler_finds_the_receiver_empty)
{
	enum {
		BYTE_NS = 50000
	};
	static uint8_t text[350000];
	struct bench *b = bench_new();
	size_t taken = 0, got = 0;
	uint64_t busy_ns = 0, began_ns = b->now_ns;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(i * 7 + i / 251);
	out(b, SERIAL_IIR, 0x81);
	out(b, SERIAL_MCR, SERIAL_MCR_RTS | SERIAL_MCR_OUT2);
	out(b, SERIAL_IER, SERIAL_IER_RDI);
	for (unsigned seen = 0; got < sizeof(text);) {
		taken += serial_input(&b->s, text + taken, sizeof(text) - taken);
		if (b->edges == seen)
			bench_wait(b);
		cr_assert_gt(b->edges, seen, "the handler is never called again");
		seen = b->edges;
		for (unsigned pass = 0; pass < 512 && b->line; pass++) {
			in(b, SERIAL_IIR);
			for (unsigned n = 0; n < 256 && (in(b, SERIAL_LSR) & SERIAL_LSR_DR); n++) {
				b->now_ns += BYTE_NS;
				busy_ns += BYTE_NS;
				cr_assert_eq(in(b, SERIAL_DATA), text[got++]);
			}
		}
	}
	/* The last FIFO has no time after it. */
	cr_assert_geq(b->now_ns - began_ns + SERIAL_FIFO * BYTE_NS, 2 * busy_ns,
		      "half of the time is left for what drains the handler's buffer");
	serial_destroy(&b->s);
	free(b);
}

Test(serial, loopback_and_overrun)
{
	struct bench *b = bench_new();
	unsigned i;

	out(b, SERIAL_IIR, 1);
	out(b, SERIAL_MCR, SERIAL_MCR_LOOP);
	for (i = 0; i < SERIAL_FIFO + 1; i++)
		out(b, SERIAL_DATA, (uint8_t)('A' + i));
	cr_assert(in(b, SERIAL_LSR) & SERIAL_LSR_OE);
	cr_assert_not(in(b, SERIAL_LSR) & SERIAL_LSR_OE, "reading clears it");
	for (i = 0; i < SERIAL_FIFO; i++)
		cr_assert_eq(in(b, SERIAL_DATA), 'A' + i);
	cr_assert_not(in(b, SERIAL_LSR) & SERIAL_LSR_DR);
	serial_drain(&b->s);
	cr_assert_eq(b->out_len, 0, "nothing went out");
	free(b);
}

Test(serial, a_slow_host_makes_the_transmitter_busy)
{
	struct bench *b = bench_new();
	unsigned sent = 0;

	out(b, SERIAL_MCR, SERIAL_MCR_OUT2);
	while (in(b, SERIAL_LSR) & SERIAL_LSR_THRE) {
		out(b, SERIAL_DATA, (uint8_t)sent++);
		cr_assert_leq(sent, SERIAL_OUT_MAX);
	}
	cr_assert_gt(sent, SERIAL_OUT_MAX - SERIAL_FIFO);
	out(b, SERIAL_IER, SERIAL_IER_THRI);
	cr_assert_not(b->line, "not empty");
	serial_drain(&b->s);
	cr_assert(b->line, "the drain makes room");
	cr_assert_eq(b->out_len, sent);
	while (sent-- > 0)
		cr_assert_eq((uint8_t)b->out[sent], (uint8_t)sent);
	free(b);
}

Test(serial, output_thread)
{
	struct bench *b = bench_new();

	cr_assert_eq(serial_output_start(&b->s), 0);
	out(b, SERIAL_DATA, 'x');
	out(b, SERIAL_DATA, 'y');
	serial_output_stop(&b->s);
	cr_assert_eq(b->out_len, 2, "stopping loses nothing");
	serial_destroy(&b->s);
	free(b);
}
