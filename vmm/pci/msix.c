/* SPDX-License-Identifier: Apache-2.0 */
/* MSI-X: a message is sent at once, or stays pending while its vector or its function is masked. */
#include "vmm/pci/msix.h"

#include <string.h>

#include "base/lock.h"
#include "base/log.h"

#define ENTRY_MASKED 1u

static void entries_clear(struct msix *m)
{
	memset(m->entry, 0, sizeof(m->entry));
	for (unsigned i = 0; i < m->vectors; i++)
		m->entry[i].control = ENTRY_MASKED;
	m->pending = 0;
	m->control = 0;
}

int msix_init(struct msix *m, unsigned vectors,
	      void (*deliver)(void *ctx, uint64_t address, uint32_t data), void *ctx)
{
	invariant(vectors && vectors <= MSIX_VECTORS_MAX);
	m->vectors = vectors;
	m->deliver = deliver;
	m->ctx = ctx;
	entries_clear(m);
	return lock_init(&m->lock);
}

void msix_destroy(struct msix *m)
{
	pthread_mutex_destroy(&m->lock);
}

void msix_reset(struct msix *m)
{
	pthread_mutex_lock(&m->lock);
	entries_clear(m);
	pthread_mutex_unlock(&m->lock);
}

/* lock held. Sends what is pending for this vector, if it may. */
static void vector_service(struct msix *m, unsigned vector)
{
	const struct msix_entry *e = &m->entry[vector];
	uint32_t bit = 1u << vector;

	if (!(m->pending & bit) || (m->control & MSIX_CONTROL_MASK) || (e->control & ENTRY_MASKED))
		return;
	m->pending &= ~bit;
	m->deliver(m->ctx, e->address_low | (uint64_t)e->address_high << 32, e->data);
}

void msix_raise(struct msix *m, unsigned vector)
{
	if (vector >= m->vectors)
		return;
	pthread_mutex_lock(&m->lock);
	if (m->control & MSIX_CONTROL_ENABLE) {
		m->pending |= 1u << vector;
		vector_service(m, vector);
	}
	pthread_mutex_unlock(&m->lock);
}

void msix_control_set(struct msix *m, uint16_t control)
{
	pthread_mutex_lock(&m->lock);
	m->control = control & (MSIX_CONTROL_MASK | MSIX_CONTROL_ENABLE);
	if (!(m->control & MSIX_CONTROL_ENABLE))
		m->pending = 0;
	for (unsigned i = 0; i < m->vectors; i++)
		vector_service(m, i);
	pthread_mutex_unlock(&m->lock);
}

uint16_t msix_control(struct msix *m)
{
	uint16_t control;

	pthread_mutex_lock(&m->lock);
	control = m->control;
	pthread_mutex_unlock(&m->lock);
	return control;
}

/* The dword of an entry; NULL beyond the table. */
static uint32_t *dword_at(struct msix *m, uint32_t offset)
{
	struct msix_entry *e = &m->entry[offset / MSIX_ENTRY_SIZE % MSIX_VECTORS_MAX];
	uint32_t *const dwords[] = {&e->address_low, &e->address_high, &e->data, &e->control};

	return offset / MSIX_ENTRY_SIZE < m->vectors ? dwords[offset % MSIX_ENTRY_SIZE / 4] : NULL;
}

uint32_t msix_table_read(struct msix *m, uint32_t offset)
{
	uint32_t *dword, value;

	pthread_mutex_lock(&m->lock);
	dword = dword_at(m, offset);
	value = dword ? *dword : 0;
	pthread_mutex_unlock(&m->lock);
	return value;
}

void msix_table_write(struct msix *m, uint32_t offset, uint32_t value)
{
	uint32_t *dword;

	pthread_mutex_lock(&m->lock);
	dword = dword_at(m, offset);
	if (dword) {
		*dword = offset % MSIX_ENTRY_SIZE == 12 ? value & ENTRY_MASKED : value;
		vector_service(m, offset / MSIX_ENTRY_SIZE);
	}
	pthread_mutex_unlock(&m->lock);
}

uint32_t msix_pending_read(struct msix *m, uint32_t offset)
{
	uint32_t pending = 0;

	pthread_mutex_lock(&m->lock);
	if (offset == 0)
		pending = m->pending;
	pthread_mutex_unlock(&m->lock);
	return pending;
}
