/* SPDX-License-Identifier: Apache-2.0 */
/* The slow half of guest memory accesses: TLB misses, page crossings, MMIO, pages with code. */
#include "vmm/cpu/soft/soft_code.h"
#include "vmm/cpu/soft/soft_lock.h"
#include "vmm/cpu/soft/soft_system.h"

/* A cache line of x86 hosts: a LOCKed access across one is a split lock. */
#define HOST_LINE 64u

/* Up to two pages of an access, translated before any byte moves. */
struct span {
	struct {
		uint64_t gpa;
		unsigned bytes;
	} part[2];
	unsigned parts;
};

/* The bank of the privilege is empty: see soft_check.c. */
static bool access_checked(const struct soft_cpu *c)
{
	return c->tlb == &c->tlb_empty;
}

/* What comes before the translation of an access by an instruction's operand. */
static void access_check(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
			 bool write)
{
	if (unlikely(access_checked(c)))
		soft_check_access(c, i, linear, size, write);
}

/* And what comes after it: the access will take place. */
static void access_debug(struct soft_cpu *c, uint64_t linear, unsigned size, bool write)
{
	if (unlikely(c->break_data))
		soft_debug_data(c, linear, size, write);
}

static unsigned page_left(uint64_t linear)
{
	return PANGEA_PAGE_SIZE - (unsigned)(linear & (PANGEA_PAGE_SIZE - 1));
}

/* The page after linear's: outside 64-bit mode addresses wrap at 4 GiB. */
static uint64_t page_next(const struct soft_cpu *c, uint64_t linear)
{
	uint64_t next = (linear & LINEAR_PAGE_MASK) + PANGEA_PAGE_SIZE;

	return c->mode != 64 && linear <= UINT32_MAX ? (uint32_t)next : next;
}

static void span_translate(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned n,
			   bool write, unsigned bank, struct span *s)
{
	unsigned left = page_left(linear);
	uint8_t *host;

	soft_check_canonical(c, i, linear, n);
	s->parts = 1;
	s->part[0].gpa = soft_translate(c, i, linear, write, bank, &host);
	s->part[0].bytes = n < left ? n : left;
	if (n > left) {
		s->parts = 2;
		s->part[1].gpa = soft_translate(c, i, page_next(c, linear), write, bank, &host);
		s->part[1].bytes = n - left;
	}
}

/* ---- One place in physical memory ------------------------------------------------------------ */

static uint64_t host_load(const void *host, unsigned size)
{
	switch (size) {
	case 1:
		return soft_host_load8(host);
	case 2:
		return soft_host_load16(host);
	case 4:
		return soft_host_load32(host);
	default:
		return soft_host_load64(host);
	}
}

static void host_store(void *host, unsigned size, uint64_t value)
{
	switch (size) {
	case 1:
		soft_host_store8(host, (uint8_t)value);
		break;
	case 2:
		soft_host_store16(host, (uint16_t)value);
		break;
	case 4:
		soft_host_store32(host, (uint32_t)value);
		break;
	default:
		soft_host_store64(host, value);
	}
}

/* size 1, 2, 4 or 8, within one page. */
static uint64_t phys_load(struct soft_cpu *c, uint64_t gpa, unsigned size)
{
	uint64_t value = UINT64_MAX;

	if (soft_is_memory(c->vm, gpa))
		return host_load(c->vm->ram + gpa, size);
	c->config.bus.mmio_read(c->config.bus.ctx, c->vcpu.id, gpa, size, &value);
	return value;
}

/* Within a page of RAM. */
static void phys_stored(struct soft_cpu *c, uint64_t gpa, unsigned size)
{
	if (soft_code_heard(c, gpa >> PAGE_SHIFT))
		soft_code_written(c, gpa, size);
}

static void phys_store(struct soft_cpu *c, uint64_t gpa, unsigned size, uint64_t value)
{
	if (!soft_is_ram(c->vm, gpa)) {
		c->config.bus.mmio_write(c->config.bus.ctx, c->vcpu.id, gpa, size, value);
		return;
	}
	host_store(c->vm->ram + gpa, size, value);
	phys_stored(c, gpa, size);
}

/* The largest access size for the next of n bytes. */
static unsigned chunk_size(unsigned n)
{
	return n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
}

static void span_load(struct soft_cpu *c, const struct span *s, uint8_t *dst)
{
	for (unsigned p = 0; p < s->parts; p++) {
		uint64_t gpa = s->part[p].gpa;

		for (unsigned left = s->part[p].bytes, step; left; left -= step) {
			uint64_t value;

			step = chunk_size(left);
			value = phys_load(c, gpa, step);
			memcpy(dst, &value, step);
			gpa += step;
			dst += step;
		}
	}
}

static void span_store(struct soft_cpu *c, const struct span *s, const uint8_t *src)
{
	for (unsigned p = 0; p < s->parts; p++) {
		uint64_t gpa = s->part[p].gpa;

		for (unsigned left = s->part[p].bytes, step; left; left -= step) {
			uint64_t value = 0;

			step = chunk_size(left);
			memcpy(&value, src, step);
			phys_store(c, gpa, step, value);
			gpa += step;
			src += step;
		}
	}
}

/* ---- Accesses by linear address -------------------------------------------------------------- */

uint64_t soft_load_as(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
		      unsigned bank)
{
	uint64_t value = 0;
	struct span s;
	void *host;

	if (!soft_long_mode(c))
		linear = (uint32_t)linear;
	host = soft_tlb_host(c->context->bank[bank].read, linear, size);
	if (host)
		return host_load(host, size);
	span_translate(c, i, linear, size, false, bank, &s);
	access_debug(c, linear, size, false);
	if (s.parts == 1)
		return phys_load(c, s.part[0].gpa, size);
	span_load(c, &s, (uint8_t *)&value);
	return value;
}

void soft_store_as(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
		   uint64_t value, unsigned bank)
{
	struct span s;
	void *host;

	if (!soft_long_mode(c))
		linear = (uint32_t)linear;
	host = soft_tlb_host(c->context->bank[bank].write, linear, size);
	if (host) {
		host_store(host, size, value);
		return;
	}
	span_translate(c, i, linear, size, true, bank, &s);
	access_debug(c, linear, size, true);
	if (s.parts == 1)
		phys_store(c, s.part[0].gpa, size, value);
	else
		span_store(c, &s, (const uint8_t *)&value);
}

uint64_t soft_load_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size)
{
	access_check(c, i, linear, size, false);
	return soft_load_as(c, i, linear, size, soft_data_bank(c));
}

void soft_store_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
		     uint64_t value)
{
	access_check(c, i, linear, size, true);
	soft_store_as(c, i, linear, size, value, soft_data_bank(c));
}

static void stack_check(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size)
{
	if (!soft_canonical_range(c, linear, size))
		soft_raise_error(c, i, VEC_SS, 0);
}

uint64_t soft_stack_load_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear,
			      unsigned size)
{
	stack_check(c, i, linear, size);
	return soft_load_slow(c, i, linear, size);
}

void soft_stack_store_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
			   uint64_t value)
{
	stack_check(c, i, linear, size);
	soft_store_slow(c, i, linear, size, value);
}

void soft_load_bytes_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, void *dst,
			  unsigned n)
{
	struct span s;

	access_check(c, i, linear, n, false);
	span_translate(c, i, linear, n, false, soft_data_bank(c), &s);
	access_debug(c, linear, n, false);
	span_load(c, &s, dst);
}

void soft_store_bytes_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear,
			   const void *src, unsigned n)
{
	struct span s;

	access_check(c, i, linear, n, true);
	span_translate(c, i, linear, n, true, soft_data_bank(c), &s);
	access_debug(c, linear, n, true);
	span_store(c, &s, src);
}

/* Asks for a page of RAM for writing, before a load of what will be stored asks for reading. */
static void phys_touch(const struct soft_cpu *c, uint64_t gpa)
{
	if (soft_is_ram(c->vm, gpa))
		soft_lock_or8(c->vm->ram + gpa, 0);
}

static void span_touch(const struct soft_cpu *c, const struct span *s)
{
	for (unsigned p = 0; p < s->parts; p++)
		phys_touch(c, s->part[p].gpa);
}

void soft_probe(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
		bool write)
{
	struct span s;

	access_check(c, i, linear, size, write);
	span_translate(c, i, linear, size, write, soft_data_bank(c), &s);
}

/* ---- Host pointers --------------------------------------------------------------------------- */

void *soft_write_ptr_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size)
{
	uint8_t *host = NULL;
	struct span s;

	access_check(c, i, linear, size, true);
	if (size > page_left(linear)) {
		span_translate(c, i, linear, size, true, soft_data_bank(c), &s);
		span_touch(c, &s);
	} else {
		phys_touch(c, soft_translate(c, i, linear, true, soft_data_bank(c), &host));
	}
	return host;
}

void *soft_lock_ptr_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size)
{
	uint8_t *host;
	uint64_t gpa;

	if ((linear & (HOST_LINE - 1)) + size > HOST_LINE)
		return NULL;
	access_check(c, i, linear, size, true);
	gpa = soft_translate(c, i, linear, true, soft_data_bank(c), &host);
	access_debug(c, linear, size, true);
	if (!host && soft_is_ram(c->vm, gpa)) {
		c->lock_gpa = gpa;
		c->lock_size = size;
		host = c->vm->ram + gpa;
	}
	return host;
}

void soft_lock_end_slow(struct soft_cpu *c)
{
	soft_code_written(c, c->lock_gpa, c->lock_size);
	c->lock_size = 0;
}

uint8_t *soft_host_span(struct soft_cpu *c, const struct insn *i, uint64_t linear, bool write,
			unsigned *bytes)
{
	uint8_t *host;

	/* A check needs the size of each element: one by one. */
	if (unlikely(access_checked(c))) {
		*bytes = 0;
		return NULL;
	}
	soft_translate(c, i, linear, write, soft_data_bank(c), &host);
	*bytes = page_left(linear);
	return host;
}

/* ---- LOCKed accesses ------------------------------------------------------------------------- */

static bool span_is_ram(const struct soft_cpu *c, const struct span *s)
{
	for (unsigned p = 0; p < s->parts; p++)
		if (!soft_is_ram(c->vm, s->part[p].gpa))
			return false;
	return true;
}

/* Without LOCK, and on devices: others may come between the load and the store. */
static void span_modify(struct soft_cpu *c, const struct span *s, struct locked_access *access)
{
	uint64_t result[2];

	span_touch(c, s);
	span_load(c, s, (uint8_t *)access->old);
	locked_apply(access, access->old, result);
	span_store(c, s, (const uint8_t *)result);
}

void soft_locked_access(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
			struct locked_access *access)
{
	struct span s;

	access_check(c, i, linear, size, true);
	span_translate(c, i, linear, size, true, soft_data_bank(c), &s);
	access_debug(c, linear, size, true);
	for (unsigned p = 0; p < s.parts; p++)
		access->part[p] = (struct locked_part){s.part[p].gpa, s.part[p].bytes};
	if (!span_is_ram(c, &s) || !((i->flags & INSN_LOCK) || access->type == LOCKED_SET)) {
		span_modify(c, &s, access);
		return;
	}
	if (soft_locked_perform(c, access))
		soft_break_off(c, i);
	for (unsigned p = 0; p < s.parts; p++)
		phys_stored(c, s.part[p].gpa, s.part[p].bytes);
}

uint64_t soft_locked(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
		     enum locked_type type, uint64_t operand, uint64_t expected)
{
	struct locked_access access = {.type = type, .operand = {operand}, .expected = {expected}};

	soft_locked_access(c, i, linear, size, &access);
	return access.old[0];
}
