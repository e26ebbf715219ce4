/* SPDX-License-Identifier: Apache-2.0 */
/* The block cache: look-up, building, comparing and linking of blocks. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/hash.h"
#include "base/log.h"
#include "vmm/cpu/soft/soft_block.h"
#include "vmm/cpu/soft/soft_code.h"
#include "vmm/cpu/soft/soft_int.h"

/* Room for the records of a whole Linux boot (some 80000 blocks of 5 instructions). */
#define POOL_BYTES ((size_t)32 << 20)
/* One block at most: header, records with terminator, source. */
#define POOL_RESERVE (sizeof(struct soft_block) + (BLOCK_INSNS_MAX + 1) * sizeof(struct insn) + 256)
/* insn.off has 8 bits: no instruction starts beyond this, so that the terminator fits too. */
#define BLOCK_OFF_MAX 240
#define INSN_BYTES    15

static_assert(sizeof(struct soft_block) == 64, "header is one cache line");

/* ---- Life of the cache
 * --------------------------------------------------------------------------- */

/* Code whose CS has a limit has blocks of its own. 16-bit code always has one, or may. */
static bool block_limited(const struct soft_cpu *c)
{
	return c->mode == 32 && c->seg[SEG_CS].limit != UINT32_MAX;
}

/* 0: 16-bit, 1: 32-bit, 2: 64-bit, 3: 32-bit with a limit. */
static unsigned block_kind(const struct soft_cpu *c)
{
	return block_limited(c) ? 3 : c->mode >> 5;
}

static struct soft_block **block_bucket(struct soft_cache *cache, uint64_t key)
{
	return &cache->hash[hash_u64(key) >> (32 - BLOCK_HASH_BITS)];
}

/* Empties everything. No block may be running on: c->block is forgotten. */
static void cache_reset(struct soft_cpu *c)
{
	struct soft_cache *cache = c->cache;

	cache->none = (struct soft_block *)cache->pool;
	memset(cache->none, 0, sizeof(*cache->none));
	cache->none->page_gen = &c->vm->code[0].gen;
	cache->none->gen = CODE_GEN_NONE;
	cache->pool_used = sizeof(*cache->none);
	memset(cache->hash, 0, sizeof(cache->hash));
	for (unsigned k = 0; k < JUMP_COUNT; k++)
		cache->jump[k] = (struct soft_jump){0, cache->none};
	cache->flushes++;
	c->block = cache->none;
}

int soft_cache_create(struct soft_cpu *c)
{
	struct soft_cache *cache;
	uint8_t *pool;

	cache = mmap(NULL, sizeof(*cache), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (cache == MAP_FAILED)
		return -ENOMEM;
	pool = mmap(NULL, POOL_BYTES, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (pool == MAP_FAILED) {
		munmap(cache, sizeof(*cache));
		return -ENOMEM;
	}
	cache->pool = pool;
	c->cache = cache;
	c->reg[REG_ZERO] = 0;
	c->reg[REG_FAR] = UINT64_C(1) << 32;
	cache_reset(c);
	return 0;
}

void soft_cache_destroy(struct soft_cpu *c)
{
	if (!c->cache)
		return;
	munmap(c->cache->pool, POOL_BYTES);
	munmap(c->cache, sizeof(*c->cache));
	c->cache = NULL;
	c->block = NULL;
}

/* Salts have 15 bits of count: when they have run out the short cuts go, and counting begins anew. */
static uint64_t cache_salt(struct soft_cpu *c)
{
	struct soft_cache *cache = c->cache;

	cache->salts += SALT_STEP;
	if (cache->salts >= SALT_STEP)
		return cache->salts;
	for (unsigned k = 0; k < JUMP_COUNT; k++)
		cache->jump[k] = (struct soft_jump){0, cache->none};
	for (unsigned n = 0; n < SOFT_TLB_CONTEXTS; n++)
		c->tlb_context[n].salt = n * SALT_STEP;
	cache->salts = SOFT_TLB_CONTEXTS * SALT_STEP;
	return cache->salts;
}

void soft_cache_enter_context(struct soft_cpu *c)
{
	c->cache->salt = (c->cache->salt & SALT_USER) | c->context->salt;
}

void soft_cache_flush_context(struct soft_cpu *c, struct soft_tlb_context *t)
{
	if (!c->cache)
		return;
	t->salt = cache_salt(c);
	soft_cache_enter_context(c);
}

void soft_cache_flush_lookup(struct soft_cpu *c)
{
	for (unsigned n = 0; n < SOFT_TLB_CONTEXTS; n++)
		if (c->tlb_context[n].used)
			soft_cache_flush_context(c, &c->tlb_context[n]);
}

void soft_cache_select(struct soft_cpu *c, bool user)
{
	c->cache->salt = (c->cache->salt & ~SALT_USER) | (user ? SALT_USER : 0);
}

/* ---- Coherence
 * ------------------------------------------------------------------------------------- */

static void block_unhash(struct soft_cache *cache, struct soft_block *b)
{
	struct soft_block **at = block_bucket(cache, b->key);

	while (*at && *at != b)
		at = &(*at)->next;
	if (*at)
		*at = b->next;
	b->gen = CODE_GEN_NONE;
}

/* What the records of a block become whose bytes were overwritten while it runs. */
static const struct insn *op_abandoned(struct soft_cpu *c, const struct insn *i)
{
	const uint64_t rip = soft_rip(c, i);

	block_uncount(c, i);
	return SOFT_LEAVE(c, c->mode == 64 ? rip : soft_rip_wrap(c, rip));
}

static void block_abandon(struct soft_cache *cache, struct soft_block *b)
{
	block_unhash(cache, b);
	for (unsigned k = 0; k <= b->count; k++)
		b->insns[k].fn = op_abandoned;
}

void soft_block_stop(struct soft_cpu *c)
{
	if (c->block != c->cache->none)
		block_abandon(c->cache, c->block);
}

void soft_code_written(struct soft_cpu *c, uint64_t gpa, unsigned len)
{
	struct soft_block *b = c->block;
	const uint64_t first = gpa >> PAGE_SHIFT, last = (gpa + len - 1) >> PAGE_SHIFT;
	const uint64_t start = BLOCK_KEY_GPA(b->key);

	for (uint64_t gfn = first; gfn <= last; gfn++)
		soft_code_tell(c, gfn);
	if (gpa < start + b->len && gpa + len > start)
		block_abandon(c->cache, b);
}

/* ---- Building
 * ---------------------------------------------------------------------------------------- */

/* Falls through to what follows the block. */
static const struct insn *op_block_next(struct soft_cpu *c, const struct insn *i)
{
	const uint64_t rip = soft_rip(c, i);

	return soft_chain(c, 1, likely(c->mode == 64) ? rip : soft_rip_wrap(c, rip));
}

/* The same after an instruction that may have changed mapping, mode or interruptibility. */
static const struct insn *op_block_leave(struct soft_cpu *c, const struct insn *i)
{
	const uint64_t rip = soft_rip(c, i);

	return SOFT_LEAVE(c, likely(c->mode == 64) ? rip : soft_rip_wrap(c, rip));
}

/* The bytes a block is decoded from. */
struct block_source {
	uint8_t bytes[256];
	unsigned len; /* valid ones in the first page */
	bool second;  /* bytes of the second page are appended */
};

static uint64_t block_linear(const struct soft_cpu *c, uint64_t rip)
{
	return c->mode == 64 ? rip : (uint32_t)(c->seg[SEG_CS].base + rip);
}

/* By aligned words: of a store to one, all bytes are seen or none. */
static void source_copy(const struct soft_cpu *c, uint8_t *dst, uint64_t gpa, unsigned n)
{
	if (!soft_is_memory(c->vm, gpa)) {
		memset(dst, 0xff, n); /* an empty bus: FF FF is #UD */
		return;
	}
	while (n > 0) {
		const unsigned off = gpa & 7, step = n < 8 - off ? n : 8 - off;
		const uint64_t word = soft_host_load64(c->vm->ram + gpa - off);

		memcpy(dst, (const uint8_t *)&word + off, step);
		dst += step;
		gpa += step;
		n -= step;
	}
}

/* Appends the start of the next page, so that the one straddling instruction is whole. */
static void source_append(struct soft_cpu *c, struct block_source *s, uint64_t linear)
{
	uint64_t next = (linear | ~LINEAR_PAGE_MASK) + 1;

	if (c->mode != 64)
		next = (uint32_t)next;
	source_copy(c, s->bytes + s->len, soft_fetch_translate(c, next), INSN_BYTES - s->len);
	s->second = true;
}

/* Decodes until the block is full or ended; returns whether its last instruction ended it. */
static bool block_decode(struct soft_cpu *c, struct soft_block *b, struct block_source *s,
			 uint64_t linear, unsigned count_max)
{
	unsigned off = 0;
	bool end = false;

	while (b->count < count_max && off <= BLOCK_OFF_MAX && off < s->len && !end) {
		struct insn *i = &b->insns[b->count];

		if (!soft_decode_at(s->bytes + off, s->len - off, c->mode, c->features, off, i,
				    &end)) {
			if (off != 0)
				break;
			source_append(c, s, linear);
			soft_decode_at(s->bytes, INSN_BYTES, c->mode, c->features, 0, i, &end);
			count_max = 1;
		}
		b->count++;
		off += i->len;
	}
	b->len = (uint8_t)off;
	return end;
}

static void block_finish(struct soft_cpu *c, struct soft_block *b, const struct block_source *s,
			 bool leaves)
{
	struct insn *last = &b->insns[b->count];
	uint8_t *bytes = (uint8_t *)(last + 1);

	*last = (struct insn){
		.fn = leaves ? op_block_leave : op_block_next,
		.off = b->len,
		.base = REG_ZERO,
		.index = REG_ZERO,
	};
	memcpy(bytes, s->bytes, b->len);
	b->bytes = bytes;
	b->link[0] = b->link[1] = c->cache->none;
	c->cache->pool_used += ((size_t)(bytes - (uint8_t *)b) + b->len + 63) & ~(size_t)63;
}

static struct soft_block *block_build(struct soft_cpu *c, uint64_t gpa, uint64_t linear,
				      bool single)
{
	struct soft_cache *cache = c->cache;
	struct block_source s = {.len = PANGEA_PAGE_SIZE - (gpa & (PANGEA_PAGE_SIZE - 1))};
	struct soft_block *b, **bucket;
	bool end;

	if (cache->pool_used + POOL_RESERVE > POOL_BYTES)
		cache_reset(c);
	if (s.len > BLOCK_OFF_MAX + INSN_BYTES)
		s.len = BLOCK_OFF_MAX + INSN_BYTES;
	b = (struct soft_block *)(cache->pool + cache->pool_used);
	*b = (struct soft_block){
		.key = BLOCK_KEY(gpa, block_kind(c), single),
		.page_gen = &c->vm->code[gpa >> PAGE_SHIFT].gen,
		.gen = soft_code_watch(c, gpa >> PAGE_SHIFT),
	};
	source_copy(c, s.bytes, gpa, s.len);
	end = block_decode(c, b, &s, linear, single ? 1 : BLOCK_INSNS_MAX);
	b->flags = (single ? BLOCK_SINGLE : 0) | (b->len > s.len ? BLOCK_STRADDLE : 0);
	block_finish(c, b, &s, end || single);
	bucket = block_bucket(cache, b->key);
	b->next = *bucket;
	*bucket = b;
	return b;
}

/* ---- Look-up
 * ------------------------------------------------------------------------------------------- */

/* Compares the block's bytes with memory; if they are unchanged the block is fresh again. */
SOFT_RACY static bool block_compare(struct soft_cpu *c, struct soft_block *b, uint64_t gpa,
				    uint64_t linear)
{
	const uint64_t gen = soft_code_watch(c, gpa >> PAGE_SHIFT);
	uint8_t second[INSN_BYTES];
	unsigned len = b->len;

	if (b->flags & BLOCK_STRADDLE) {
		const uint64_t next = (linear | ~LINEAR_PAGE_MASK) + 1;

		len = PANGEA_PAGE_SIZE - (gpa & (PANGEA_PAGE_SIZE - 1));
		source_copy(c, second,
			    soft_fetch_translate(c, c->mode == 64 ? next : (uint32_t)next),
			    b->len - len);
		if (memcmp(second, b->bytes + len, b->len - len) != 0)
			return false;
	}
	if (memcmp(c->vm->ram + gpa, b->bytes, len) != 0)
		return false;
	b->gen = gen;
	return true;
}

/* The physical address of rip's byte, which must be memory. */
static uint64_t block_fetch(struct soft_cpu *c, uint64_t linear)
{
	const struct soft_tlb_entry *e = int_tlb(c->tlb->exec, linear);
	uint64_t gpa;

	if (c->mode != 64 && c->rip > c->seg[SEG_CS].limit)
		soft_raise_error(c, NULL, VEC_GP, 0);
	gpa = int_tlb_hit(e, linear, 1) ? linear + e->addend : soft_fetch_translate(c, linear);
	if (unlikely(!soft_is_memory(c->vm, gpa)))
		soft_raise(c, NULL, VEC_UD); /* as the all ones of an empty bus would */
	return gpa;
}

static struct soft_block *block_look_up(struct soft_cpu *c, uint64_t gpa, uint64_t linear,
					bool single)
{
	const uint64_t key = BLOCK_KEY(gpa, block_kind(c), single);
	struct soft_block *b = *block_bucket(c->cache, key);

	while (b && b->key != key)
		b = b->next;
	if (!b)
		return NULL;
	if (block_fresh(b) && !(b->flags & BLOCK_STRADDLE))
		return b;
	if (block_compare(c, b, gpa, linear))
		return b;
	block_unhash(c->cache, b);
	return NULL;
}

static struct soft_block *block_get(struct soft_cpu *c, uint64_t gpa, uint64_t linear, bool single)
{
	struct soft_block *b = block_look_up(c, gpa, linear, single);

	return b ? b : block_build(c, gpa, linear, single);
}

/* Do its bytes reach beyond the limit of CS? A block that was entered once under a CS stays within
 * it: code with a limit is not linked, and loading CS drops the short cuts. */
static bool block_beyond(const struct soft_cpu *c, const struct soft_block *b)
{
	return c->mode != 64 && c->rip + b->len - 1 > c->seg[SEG_CS].limit;
}

struct soft_block *soft_block_find(struct soft_cpu *c, bool single)
{
	const uint64_t linear = block_linear(c, c->rip);
	struct soft_block *b;
	uint64_t gpa;

	if (unlikely(c->break_code) && soft_debug_fetch(c, linear))
		single = true;
	gpa = block_fetch(c, linear);
	b = block_get(c, gpa, linear, single);
	if (unlikely(block_beyond(c, b))) {
		b = block_get(c, gpa, linear, true);
		if (block_beyond(c, b))
			soft_raise_error(c, NULL, VEC_GP, 0);
	}
	if (!b->flags)
		*block_jump(c, c->rip) = (struct soft_jump){c->rip ^ c->cache->salt, b};
	return b;
}

/* ---- From block to block
 * --------------------------------------------------------------------------------- */

/* The block at target if the short cut knows it and it may be entered; else NULL. */
static struct soft_block *block_shortcut(struct soft_cpu *c, uint64_t target)
{
	const struct soft_jump *j = block_jump(c, target);

	if (j->tag == (target ^ c->cache->salt) && block_fresh(j->block))
		return j->block;
	return NULL;
}

/* Links never outlive what they assume: within one page the target's mapping is the block's own.
 * In 16-bit code rip may wrap within a page, so that the distance is not fixed. */
static bool block_linkable(const struct soft_cpu *c, const struct soft_block *from,
			   const struct soft_block *to, uint64_t target)
{
	const uint64_t crossed = block_linear(c, c->reg[REG_RIP]) ^ block_linear(c, target);

	return c->mode != 16 && !block_limited(c) && !(from->flags | to->flags) &&
	       !(crossed & LINEAR_PAGE_MASK) && BLOCK_KEY_GFN(from->key) == BLOCK_KEY_GFN(to->key);
}

const struct insn *soft_chain_slow(struct soft_cpu *c, unsigned slot, uint64_t target)
{
	struct soft_block *from = c->block, *to;
	const uint64_t flushes = c->cache->flushes;

	c->rip = target;
	if (block_interrupted(c) || (from->flags & BLOCK_SINGLE))
		return NULL;
	to = block_shortcut(c, target);
	if (!to)
		to = soft_block_find(c, false);
	if (flushes == c->cache->flushes && block_linkable(c, from, to, target))
		from->link[slot] = to;
	return block_run(c, to, target);
}

const struct insn *soft_goto_slow(struct soft_cpu *c, uint64_t target)
{
	c->rip = target;
	if (block_interrupted(c) || (c->block->flags & BLOCK_SINGLE))
		return NULL;
	return block_run(c, soft_block_find(c, false), target);
}
