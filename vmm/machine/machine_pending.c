/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts and EOIs on their way to other slices: bits, which cannot become too many. */
#include "vmm/machine/machine_parts.h"

/*
 * A guest may send interrupts as fast as it can write a register, far faster than a network takes
 * messages. An interrupt that is requested twice before it is served is served once (the IRR is a
 * bit for each vector), so what waits for the engine thread is a bit as well: for each vCPU of
 * another slice 256 of them, and its NMI, INIT and SIPI as its APIC would keep them. The engine
 * thread takes them out as messages, a few at a time, and only for slices whose connection has
 * room; a bit that it has not taken yet costs no memory, however often it is set.
 *
 * Order. A guest that stores and then sends an interrupt must find the store made when it is
 * served: it is, since the store had to take the page from everybody else before it was made
 * (docs/protocol.md), so that no message about memory need come before the interrupt's. INIT comes
 * before the SIPI that follows it. Interrupts of different vectors have no order, nor have those
 * to different CPUs.
 *
 * Each setter stores its bit, then the vCPU's bit in `dirty`, then rings; the engine thread hears
 * the bell, and then looks. It clears a vCPU's bit only when it found nothing there, and looks once
 * more afterwards. All of these are sequentially consistent: either the engine sees the bit, or
 * the setter finds the bell silent and rings.
 */

static uint64_t bit_of(unsigned number)
{
	return UINT64_C(1) << (number & 63);
}

static void dirty_set(struct machine_pending *p, unsigned vcpu)
{
	if (!(atomic_load(&p->dirty[vcpu / 64]) & bit_of(vcpu)))
		atomic_fetch_or(&p->dirty[vcpu / 64], bit_of(vcpu));
}

static void fixed_add(struct pending_vcpu *v, const struct ipi *ipi)
{
	unsigned word = ipi->vector / 64;
	uint64_t bit = bit_of(ipi->vector);

	/* The trigger mode first: whoever takes the request must see its mode. */
	if (ipi->level)
		atomic_fetch_or(&v->level[word], bit);
	else if (atomic_load(&v->level[word]) & bit)
		atomic_fetch_and(&v->level[word], ~bit);
	atomic_fetch_or(&v->fixed[word], bit);
}

void machine_pending_add(struct machine *m, unsigned vcpu, const struct ipi *ipi)
{
	struct pending_vcpu *v = &m->pending->vcpu[vcpu];

	if (ipi->delivery == IPI_FIXED || ipi->delivery == IPI_LOWEST)
		fixed_add(v, ipi);
	else
		apic_events_add(&v->events, ipi);
	dirty_set(m->pending, vcpu);
}

void machine_pending_eoi(struct machine *m, uint8_t vector)
{
	atomic_fetch_or(&m->pending->eois[vector / 64], bit_of(vector));
}

/* ---- taking them out: engine thread ---- */

/* INIT, SIPI or NMI, the first of them that is there. */
static bool event_take(struct pending_vcpu *v, struct ipi *ipi)
{
	uint32_t old = atomic_load(&v->events), left;

	do {
		left = old;
		ipi->vector = 0;
		if (old & APIC_EVENT_INIT) {
			ipi->delivery = IPI_INIT;
			left &= ~APIC_EVENT_INIT;
		} else if (old & APIC_EVENT_SIPI) {
			ipi->delivery = IPI_SIPI;
			ipi->vector = old >> APIC_EVENT_SIPI_SHIFT & 0xff;
			left &= ~(APIC_EVENT_SIPI | 0xffu << APIC_EVENT_SIPI_SHIFT);
		} else if (old & APIC_EVENT_NMI) {
			ipi->delivery = IPI_NMI;
			left &= ~APIC_EVENT_NMI;
		} else {
			return false;
		}
	} while (!atomic_compare_exchange_weak(&v->events, &old, left));
	return true;
}

/* The highest bit of four words, taken out, or -1. */
static int vector_take(_Atomic uint64_t words[4])
{
	for (int i = 3; i >= 0; i--) {
		uint64_t word = atomic_load(&words[i]);
		int bit;

		if (!word)
			continue;
		bit = 63 - __builtin_clzll(word);
		atomic_fetch_and(&words[i], ~bit_of((unsigned)bit));
		return i * 64 + bit;
	}
	return -1;
}

/*
 * The same vector to others of the cluster on that slice is one message, by logical address: a
 * broadcast or a list of CPUs was spelled out when it was sent.
 */
static void siblings_take(struct machine *m, unsigned vcpu, struct ipi *ipi)
{
	const struct shape_slice *slice = &m->shape.slice[m->slice_of[vcpu]];
	unsigned word = ipi->vector / 64;
	uint64_t bit = bit_of(ipi->vector);
	uint32_t own = apic_logical_id(m->apic_id[vcpu]), dest = own;

	for (unsigned id = slice->first_vcpu; id < slice->first_vcpu + slice->vcpus; id++) {
		struct pending_vcpu *v = &m->pending->vcpu[id];

		if (id == vcpu || m->apic_id[id] >> 4 != m->apic_id[vcpu] >> 4)
			continue;
		if (!(atomic_load(&v->fixed[word]) & bit) || (atomic_load(&v->level[word]) & bit))
			continue;
		if (atomic_fetch_and(&v->fixed[word], ~bit) & bit)
			dest |= apic_logical_id(m->apic_id[id]);
	}
	if (dest == own)
		return;
	ipi->dest = dest;
	ipi->logical = true;
}

static bool fixed_take(struct machine *m, unsigned vcpu, struct ipi *ipi)
{
	struct pending_vcpu *v = &m->pending->vcpu[vcpu];
	int vector = vector_take(v->fixed);

	if (vector < 0)
		return false;
	ipi->delivery = IPI_FIXED;
	ipi->vector = (uint8_t)vector;
	ipi->level = atomic_load(&v->level[vector / 64]) & bit_of((unsigned)vector);
	if (!ipi->level)
		siblings_take(m, vcpu, ipi);
	return true;
}

/* One message of what waits for this vCPU; false: nothing did. */
static bool vcpu_take(struct machine *m, unsigned vcpu, struct ipi *ipi)
{
	struct machine_pending *p = m->pending;

	*ipi = (struct ipi){.dest = m->apic_id[vcpu], .exclude = IPI_NOBODY};
	if (event_take(&p->vcpu[vcpu], ipi) || fixed_take(m, vcpu, ipi))
		return true;
	atomic_fetch_and(&p->dirty[vcpu / 64], ~bit_of(vcpu));
	if (!event_take(&p->vcpu[vcpu], ipi) && !fixed_take(m, vcpu, ipi))
		return false;
	dirty_set(p, vcpu);
	return true;
}

static bool ipi_take(struct machine *m, uint64_t slices, unsigned *to, struct wire_msg *msg)
{
	struct machine_pending *p = m->pending;
	struct ipi ipi;

	for (unsigned i = 0; i < m->shape.vcpus; i++) {
		unsigned vcpu = (p->next_vcpu + i) % m->shape.vcpus;

		if (!(atomic_load(&p->dirty[vcpu / 64]) & bit_of(vcpu)) ||
		    !(slices >> m->slice_of[vcpu] & 1) || !vcpu_take(m, vcpu, &ipi))
			continue;
		p->next_vcpu = vcpu + 1; /* the others come first now */
		ipi_encode(&ipi, msg);
		*to = m->slice_of[vcpu];
		return true;
	}
	return false;
}

static bool eoi_take(struct machine *m, uint64_t slices, unsigned *to, struct wire_msg *msg)
{
	int vector = slices & 1 ? vector_take(m->pending->eois) : -1;

	if (vector < 0)
		return false;
	*msg = (struct wire_msg){.type = MSG_MACHINE_EOI, .arg = (uint64_t)vector};
	*to = 0;
	return true;
}

bool machine_next_post(struct machine *m, uint64_t slices, unsigned *to, struct wire_msg *msg)
{
	if (!m->pending || atomic_load(&m->ended))
		return false;
	return eoi_take(m, slices, to, msg) || ipi_take(m, slices, to, msg);
}
