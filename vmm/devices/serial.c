/* SPDX-License-Identifier: Apache-2.0 */
/* The 16550A's registers. Sent characters take no time: the transmitter is busy only when the host
 * is. Received ones come a FIFO at a time, with time between for what the guest does with them. */
#include "vmm/devices/serial.h"

#include <string.h>

#include "vmm/devices/serial_parts.h"

#define FCR_ENABLE   0x01u
#define FCR_CLEAR_RX 0x02u

/* A received byte: a fast line's 1 Mbit/s, about 100 KB a second. */
#define RX_BYTE_NS 10000u
/* The longest pause between two FIFOs, however long the guest took for one. */
#define RX_PAUSE_MAX_NS 10000000u

#define MSR_CTS 0x10u
#define MSR_DSR 0x20u
#define MSR_RI	0x40u
#define MSR_DCD 0x80u

/* ---- interrupts ---- */

static unsigned rx_trigger(const struct serial *s)
{
	static const uint8_t levels[4] = {1, 4, 8, 14};

	return s->fcr & FCR_ENABLE ? levels[s->fcr >> 6] : 1;
}

/* The highest pending interrupt. Below the trigger level the FIFO's time-out is at once. */
static uint8_t irq_source(const struct serial *s)
{
	if ((s->ier & SERIAL_IER_RLSI) && s->lsr_errors)
		return SERIAL_IIR_RLSI;
	if ((s->ier & SERIAL_IER_RDI) && s->fifo_count)
		return s->fifo_count >= rx_trigger(s) ? SERIAL_IIR_RDI : SERIAL_IIR_TIME;
	if ((s->ier & SERIAL_IER_THRI) && s->thre_pending)
		return SERIAL_IIR_THRI;
	if ((s->ier & SERIAL_IER_MSI) && s->msr_delta)
		return SERIAL_IIR_MSI;
	return SERIAL_IIR_NONE;
}

/* On a PC, OUT2 connects the interrupt to its line. */
void serial_line_update(struct serial *s)
{
	bool active = irq_source(s) != SERIAL_IIR_NONE && (s->mcr & SERIAL_MCR_OUT2) &&
		      !(s->mcr & SERIAL_MCR_LOOP);

	if (active == s->line_active)
		return;
	s->line_active = active;
	s->config.line(s->config.ctx, active);
}

/* ---- receiver ---- */

static void fifo_push(struct serial *s, uint8_t byte)
{
	unsigned size = s->fcr & FCR_ENABLE ? SERIAL_FIFO : 1;

	if (s->fifo_count >= size) {
		s->lsr_errors |= SERIAL_LSR_OE;
		return;
	}
	s->fifo[(s->fifo_first + s->fifo_count++) % SERIAL_FIFO] = byte;
}

static void fifo_fill(struct serial *s, uint64_t now_ns)
{
	unsigned size = s->fcr & FCR_ENABLE ? SERIAL_FIFO : 1;

	while (s->in_count && s->fifo_count < size) {
		fifo_push(s, s->in[s->in_first]);
		s->in_first = (s->in_first + 1) % SERIAL_IN_MAX;
		s->in_count--;
	}
	s->filled_ns = now_ns;
	s->fill_ns = now_ns + s->fifo_count * RX_BYTE_NS;
}

/*
 * What was typed comes over the wire only while RTS asks for it, and never overruns. An interrupt
 * handler must find the receiver empty in the end: Linux looks 512 times, then returns, and an
 * edge-triggered line that is still high tells it nothing ever after. And what the handler took
 * must be drained before its buffer (64 KiB in Linux) is full, or nobody takes back RTS in time.
 * So a FIFO comes when the one before has been read, and then not before the guest has had as
 * much time for other work as it took to read it.
 */
static void fifo_refill(struct serial *s)
{
	uint64_t now_ns;

	if (!(s->mcr & SERIAL_MCR_RTS) || (s->mcr & SERIAL_MCR_LOOP))
		return;
	if (!s->in_count || s->fifo_count)
		return;
	now_ns = s->config.now_ns(s->config.ctx);
	if (now_ns < s->fill_ns) {
		s->config.refill_at(s->config.ctx, s->fill_ns);
		return;
	}
	fifo_fill(s, now_ns);
	/* Half of it: a call for every sixteen bytes would be no better than a timer. */
	if (s->in_refused && s->in_count <= SERIAL_IN_MAX / 2) {
		s->in_refused = false;
		if (s->config.input_room)
			s->config.input_room(s->config.ctx);
	}
}

/* The last byte has been read: as long as the guest took for them all, it has until the next. */
static void fifo_emptied(struct serial *s)
{
	uint64_t now_ns = s->config.now_ns(s->config.ctx), took_ns = now_ns - s->filled_ns;
	uint64_t fill_ns = now_ns + (took_ns < RX_PAUSE_MAX_NS ? took_ns : RX_PAUSE_MAX_NS);

	if (fill_ns > s->fill_ns)
		s->fill_ns = fill_ns;
	fifo_refill(s);
}

static uint8_t fifo_pop(struct serial *s)
{
	uint8_t byte = 0;

	if (!s->fifo_count)
		return 0;
	byte = s->fifo[s->fifo_first];
	s->fifo_first = (s->fifo_first + 1) % SERIAL_FIFO;
	if (--s->fifo_count == 0)
		fifo_emptied(s);
	return byte;
}

void serial_refill(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	fifo_refill(s);
	serial_line_update(s);
	pthread_mutex_unlock(&s->lock);
}

size_t serial_input(struct serial *s, const uint8_t *bytes, size_t len)
{
	size_t taken;

	pthread_mutex_lock(&s->lock);
	for (taken = 0; taken < len && s->in_count < SERIAL_IN_MAX; taken++)
		s->in[(s->in_first + s->in_count++) % SERIAL_IN_MAX] = bytes[taken];
	s->in_refused = taken < len;
	fifo_refill(s);
	serial_line_update(s);
	pthread_mutex_unlock(&s->lock);
	return taken;
}

/* ---- registers ---- */

static uint8_t msr_read(struct serial *s)
{
	uint8_t delta = s->msr_delta;

	s->msr_delta = 0;
	if (!(s->mcr & SERIAL_MCR_LOOP))
		return delta | MSR_DCD | MSR_DSR | MSR_CTS;
	return delta | (s->mcr & SERIAL_MCR_RTS ? MSR_CTS : 0) |
	       (s->mcr & SERIAL_MCR_DTR ? MSR_DSR : 0) | (s->mcr & SERIAL_MCR_OUT1 ? MSR_RI : 0) |
	       (s->mcr & SERIAL_MCR_OUT2 ? MSR_DCD : 0);
}

static uint8_t iir_read(struct serial *s)
{
	uint8_t source = irq_source(s);

	if (source == SERIAL_IIR_THRI)
		s->thre_pending = false;
	return source | (s->fcr & FCR_ENABLE ? SERIAL_IIR_FIFO : 0);
}

static uint8_t lsr_read(struct serial *s)
{
	uint8_t errors = s->lsr_errors;

	s->lsr_errors = 0;
	return errors | (s->fifo_count ? SERIAL_LSR_DR : 0) |
	       (serial_out_room(s) ? SERIAL_LSR_THRE | SERIAL_LSR_TEMT : 0);
}

static uint8_t register_read(struct serial *s, unsigned offset)
{
	bool dlab = s->lcr & SERIAL_LCR_DLAB;

	switch ((enum serial_register)offset) {
	case SERIAL_DATA:
		return dlab ? s->dll : fifo_pop(s);
	case SERIAL_IER:
		return dlab ? s->dlm : s->ier;
	case SERIAL_IIR:
		return iir_read(s);
	case SERIAL_LCR:
		return s->lcr;
	case SERIAL_MCR:
		return s->mcr;
	case SERIAL_LSR:
		return lsr_read(s);
	case SERIAL_MSR:
		return msr_read(s);
	case SERIAL_SCR:
		return s->scr;
	}
	return 0xff;
}

uint8_t serial_read(struct serial *s, unsigned offset)
{
	uint8_t value;

	pthread_mutex_lock(&s->lock);
	value = register_read(s, offset);
	serial_line_update(s);
	pthread_mutex_unlock(&s->lock);
	return value;
}

static void thr_write(struct serial *s, uint8_t byte)
{
	/* Writing ends the THRE interrupt; for an edge-triggered line that has to be seen. */
	s->thre_pending = false;
	serial_line_update(s);
	if (s->mcr & SERIAL_MCR_LOOP)
		fifo_push(s, byte);
	else
		serial_out_push(s, byte);
	if (serial_out_room(s))
		s->thre_pending = true;
}

static void ier_write(struct serial *s, uint8_t value)
{
	/* Enabling it while the transmitter is empty raises it: Linux probes for that. */
	if ((value & ~s->ier & SERIAL_IER_THRI) && serial_out_room(s))
		s->thre_pending = true;
	s->ier = value & 0x0f;
}

static void fcr_write(struct serial *s, uint8_t value)
{
	bool toggled = (value ^ s->fcr) & FCR_ENABLE;

	s->fcr = value & (FCR_ENABLE | 0xc0);
	if (toggled || (value & FCR_CLEAR_RX))
		s->fifo_count = 0;
	fifo_refill(s);
}

static void register_write(struct serial *s, unsigned offset, uint8_t value)
{
	bool dlab = s->lcr & SERIAL_LCR_DLAB;

	switch ((enum serial_register)offset) {
	case SERIAL_DATA:
		if (dlab)
			s->dll = value;
		else
			thr_write(s, value);
		return;
	case SERIAL_IER:
		if (dlab)
			s->dlm = value;
		else
			ier_write(s, value);
		return;
	case SERIAL_IIR:
		fcr_write(s, value);
		return;
	case SERIAL_LCR:
		s->lcr = value;
		return;
	case SERIAL_MCR:
		s->mcr = value & 0x1f;
		fifo_refill(s);
		return;
	case SERIAL_LSR:
	case SERIAL_MSR:
		return; /* read-only */
	case SERIAL_SCR:
		s->scr = value;
		return;
	}
}

void serial_write(struct serial *s, unsigned offset, uint8_t value)
{
	pthread_mutex_lock(&s->lock);
	register_write(s, offset, value);
	serial_line_update(s);
	pthread_mutex_unlock(&s->lock);
}
