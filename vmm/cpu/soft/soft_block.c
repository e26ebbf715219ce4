/* SPDX-License-Identifier: Apache-2.0 */
/* The block cache: look-up, building, code coherence, and linking of blocks. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/hash.h"
#include "base/log.h"
#include "vmm/cpu/soft/soft_block.h"
#include "vmm/cpu/soft/soft_int.h"

/*
 * Code coherence has two layers.
 *
 * Own stores: before a CPU reads a page's bytes to decode or compare them, it sets
 * vm->code_page[gfn] and makes its own write-TLB entries of the page slow ones (code_watch). So a
 * later store of this CPU comes to soft_code_written, which bumps vm->code_gen[gfn]; the block
 * being executed ends at once if its bytes are hit, and all blocks of the page are compared before
 * they are entered again. The generation is read after the flag is set and before the bytes are: a
 * store that comes between is either in the bytes or makes the generation differ.
 *
 * All others (other CPUs' stores by older fast TLB entries, other slices, devices): serialising
 * instructions bump the CPU's epoch, and a block of an older epoch is compared before it is
 * entered. x86 asks other CPUs to serialise before they run code that was modified across CPUs
 * (SDM 3A, 9.1.3), so nothing more is owed.
 *
 * A page that holds both code and data, or code no longer, would make every store to it slow: after
 * MIXED_STORES stores without a look at its code the flag is cleared and the generation bumped
 * after that, so that every CPU compares its blocks of the page, and sets the flag, before it
 * enters one again.
 */
#define MIXED_STORES 16

/* Room for the records of a whole Linux boot (some 80000 blocks of 5 instructions). */
#define POOL_BYTES ((size_t)32 << 20)
/* One block at most: header, records with terminator, source. */
#define POOL_RESERVE (sizeof(struct soft_block) + (BLOCK_INSNS_MAX + 1) * sizeof(struct insn) + 256)
/* insn.off has 8 bits: no instruction starts beyond this, so that the terminator fits too. */
#define BLOCK_OFF_MAX 240
#define INSN_BYTES    15

/* Physical address, mode, single. */
#define BLOCK_KEY(gpa, mode, single)                                                               \
	((uint64_t)(gpa) << 3 | (unsigned)(single) << 2 | (unsigned)((mode) >> 5))
#define BLOCK_KEY_GFN(key) ((key) >> (3 + PAGE_SHIFT))
#define BLOCK_KEY_GPA(key) ((key) >> 3)

_Static_assert(sizeof(struct soft_block) == 64, "header is one cache line");

/* ---- Life of the cache
 * --------------------------------------------------------------------------- */

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
	cache->none->epoch = BLOCK_DEAD;
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

void soft_cache_flush_lookup(struct soft_cpu *c)
{
	struct soft_cache *cache = c->cache;

	if (!cache)
		return;
	cache->salt += SALT_STEP;
	if (cache->salt < SALT_STEP)
		for (unsigned k = 0; k < JUMP_COUNT; k++)
			cache->jump[k] = (struct soft_jump){0, cache->none};
}

void soft_cache_select(struct soft_cpu *c, bool user)
{
	c->cache->salt = (c->cache->salt & ~SALT_USER) | (user ? SALT_USER : 0);
}

/* ---- Coherence
 * ------------------------------------------------------------------------------------- */

static struct soft_mixed *mixed_slot(struct soft_cache *cache, uint64_t gfn)
{
	return &cache->mixed[gfn & (MIXED_COUNT - 1)];
}

/* Must come before the page's bytes are read. Returns the generation they are at least of. */
static uint32_t code_watch(struct soft_cpu *c, uint64_t gfn)
{
	struct soft_mixed *mixed = mixed_slot(c->cache, gfn);

	if (mixed->gfn == gfn)
		mixed->stores = 0;
	if (!atomic_load(&c->vm->code_page[gfn])) {
		atomic_store(&c->vm->code_page[gfn], 1);
		soft_tlb_protect_code(c, gfn);
	}
	return atomic_load(&c->vm->code_gen[gfn]);
}

static void block_unhash(struct soft_cache *cache, struct soft_block *b)
{
	struct soft_block **at = block_bucket(cache, b->key);

	while (*at && *at != b)
		at = &(*at)->next;
	if (*at)
		*at = b->next;
	b->epoch = BLOCK_DEAD;
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

/* Another store to a watched page; stops watching when its code seems not to be used. */
static void code_stored(struct soft_cpu *c, uint64_t gfn)
{
	struct soft_mixed *mixed = mixed_slot(c->cache, gfn);

	if (mixed->gfn != gfn)
		*mixed = (struct soft_mixed){.gfn = gfn};
	if (++mixed->stores >= MIXED_STORES && BLOCK_KEY_GFN(c->block->key) != gfn) {
		mixed->stores = 0;
		atomic_store(&c->vm->code_page[gfn], 0);
	}
	/* After the flag: who reads this generation sets the flag anew. */
	atomic_fetch_add(&c->vm->code_gen[gfn], 1);
}

void soft_block_stop(struct soft_cpu *c)
{
	if (c->block->epoch != BLOCK_DEAD)
		block_abandon(c->cache, c->block);
}

void soft_code_written(struct soft_cpu *c, uint64_t gpa, unsigned len)
{
	struct soft_block *b = c->block;
	const uint64_t first = gpa >> PAGE_SHIFT, last = (gpa + len - 1) >> PAGE_SHIFT;
	const uint64_t start = BLOCK_KEY_GPA(b->key);

	for (uint64_t gfn = first; gfn <= last; gfn++)
		code_stored(c, gfn);
	if (b->epoch != BLOCK_DEAD && gpa < start + b->len && gpa + len > start)
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

SOFT_RACY static void source_copy(const struct soft_cpu *c, uint8_t *dst, uint64_t gpa, unsigned n)
{
	if (soft_is_ram(c->vm, gpa))
		memcpy(dst, c->vm->ram + gpa, n);
	else
		memset(dst, 0xff, n); /* an empty bus: FF FF is #UD */
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

		if (!soft_decode_at(s->bytes + off, s->len - off, c->mode, off, i, &end)) {
			if (off != 0)
				break;
			source_append(c, s, linear);
			soft_decode_at(s->bytes, INSN_BYTES, c->mode, 0, i, &end);
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
		.key = BLOCK_KEY(gpa, c->mode, single),
		.epoch = c->epoch,
		.page_gen = &c->vm->code_gen[gpa >> PAGE_SHIFT],
		.gen = code_watch(c, gpa >> PAGE_SHIFT),
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
	const uint32_t gen = code_watch(c, gpa >> PAGE_SHIFT);
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
	b->epoch = c->epoch;
	return true;
}

/* The physical address of rip's byte, which must be RAM. */
static uint64_t block_fetch(struct soft_cpu *c, uint64_t linear)
{
	const struct soft_tlb_entry *e = int_tlb(c->tlb->exec, linear);
	uint64_t gpa;

	if (c->mode != 64 && c->rip > c->seg[SEG_CS].limit)
		soft_raise_error(c, NULL, VEC_GP, 0);
	gpa = int_tlb_hit(e, linear, 1) ? linear + e->addend : soft_fetch_translate(c, linear);
	if (unlikely(!soft_is_ram(c->vm, gpa)))
		soft_raise(c, NULL, VEC_UD); /* as the all ones of an empty bus would */
	return gpa;
}

static struct soft_block *block_look_up(struct soft_cpu *c, uint64_t gpa, uint64_t linear,
					bool single)
{
	const uint64_t key = BLOCK_KEY(gpa, c->mode, single);
	struct soft_block *b = *block_bucket(c->cache, key);

	while (b && b->key != key)
		b = b->next;
	if (!b)
		return NULL;
	if (block_fresh(c, b) && !(b->flags & BLOCK_STRADDLE))
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
 * it: a CS with a limit serialises as it is loaded (soft_code_commit). */
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

	if (j->tag == (target ^ c->cache->salt) && block_fresh(c, j->block))
		return j->block;
	return NULL;
}

/* Links never outlive what they assume: within one page the target's mapping is the block's own.
 * In 16-bit code rip may wrap within a page, so that the distance is not fixed. */
static bool block_linkable(const struct soft_cpu *c, const struct soft_block *from,
			   const struct soft_block *to, uint64_t target)
{
	const uint64_t crossed = block_linear(c, c->reg[REG_RIP]) ^ block_linear(c, target);

	return c->mode != 16 && !(from->flags | to->flags) && !(crossed & LINEAR_PAGE_MASK) &&
	       BLOCK_KEY_GFN(from->key) == BLOCK_KEY_GFN(to->key);
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
