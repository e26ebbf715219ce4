/* SPDX-License-Identifier: Apache-2.0 */
/* Running blocks: until attention, or one instruction. */
#include "vmm/cpu/soft/soft_block.h"
#include "vmm/cpu/soft/soft_int.h"

/* EIP has 32 bits in 16-bit code too: past FFFFh it meets the limit of CS, or goes on. */
uint64_t soft_rip_wrap(const struct soft_cpu *c, uint64_t rip)
{
	return c->mode == 64 ? rip : (uint32_t)rip;
}

static void exec_block(struct soft_cpu *c, struct soft_block *b)
{
	const struct insn *i = block_enter(c, b, c->rip);

#if SOFT_TAIL_DISPATCH
	i->fn(c, i);
#else
	while (i)
		i = i->fn(c, i);
#endif
}

void soft_exec(struct soft_cpu *c)
{
	while (!block_interrupted(c)) {
		const struct soft_jump *j = block_jump(c, c->rip);

		if (j->tag == (c->rip ^ c->cache->salt) && block_fresh(j->block))
			exec_block(c, j->block);
		else
			exec_block(c, soft_block_find(c, false));
	}
}

void soft_exec_one(struct soft_cpu *c)
{
	struct soft_block *b = soft_block_find(c, true);

	/* Both hold for this instruction, and its fetch looked at them. */
	c->irq_shadow = 0;
	c->rflags &= ~(uint64_t)FLAG_RF;
	exec_block(c, b);
}
