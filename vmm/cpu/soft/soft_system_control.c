/* SPDX-License-Identifier: Apache-2.0 */
/* Control and debug registers, descriptor table registers, CPUID, time, and what flushes. */
#include <errno.h>

#include "vmm/cpu/soft/soft_system.h"

/* INVPCID's types. */
enum {
	INVPCID_ADDRESS,
	INVPCID_SINGLE,
	INVPCID_ALL,
	INVPCID_ALL_BUT_GLOBAL,
};

/* ---- Control registers ----------------------------------------------------------------------- */

int soft_cr0_write(struct soft_cpu *c, uint64_t value)
{
	bool paging = value & CR0_PG;
	uint64_t changed;

	if (value >> 32 || (paging && !(value & CR0_PE)) || ((value & CR0_NW) && !(value & CR0_CD)))
		return -EINVAL;
	value = (value & CR0_VALID) | CR0_ET;
	changed = c->cr0 ^ value;
	if ((changed & CR0_PG) && paging && (c->efer & EFER_LME) &&
	    (!(c->cr4 & CR4_PAE) || (c->seg[SEG_CS].attr & ATTR_L)))
		return -EINVAL;
	if (!paging && (c->mode == 64 || (c->cr4 & CR4_PCIDE)))
		return -EINVAL;
	c->cr0 = value;
	if (paging && (c->efer & EFER_LME))
		c->efer |= EFER_LMA;
	else
		c->efer &= ~(uint64_t)EFER_LMA;
	if (!(value & CR0_PE))
		c->cpl = 0;
	if (changed & (CR0_PG | CR0_WP | CR0_PE)) {
		soft_tlb_flush(c, true);
		soft_mode_update(c);
	}
	soft_check_alignment(c);
	return 0;
}

static unsigned pcid_of(const struct soft_cpu *c)
{
	return c->cr4 & CR4_PCIDE ? c->cr3 & SOFT_PCID_MASK : 0;
}

/* Global pages stay in the TLB. */
int soft_cr3_write(struct soft_cpu *c, uint64_t value)
{
	bool keep = (c->cr4 & CR4_PCIDE) && (value & CR3_KEEP);

	if (c->cr4 & CR4_PCIDE)
		value &= ~CR3_KEEP;
	if (value & ~SOFT_PHYS_MASK)
		return -EINVAL;
	c->cr3 = value;
	soft_tlb_enter(c, pcid_of(c), keep);
	return 0;
}

bool soft_has_huge_pages(const struct soft_cpu *c)
{
	struct vcpu_cpuid r = {0};

	c->config.cpuid(c->config.cpuid_ctx, c->vcpu.id, 0x80000001, 0, &r);
	return r.edx >> 26 & 1;
}

static bool has(const struct soft_cpu *c, enum cpu_feature feature)
{
	return c->features & CPU_BIT(feature);
}

uint64_t soft_cr4_valid(const struct soft_cpu *c)
{
	return CR4_VALID | (has(c, CPU_FSGSBASE) ? CR4_FSGSBASE : 0) |
	       (has(c, CPU_UMIP) ? CR4_UMIP : 0) | (has(c, CPU_SMEP) ? CR4_SMEP : 0) |
	       (has(c, CPU_SMAP) ? CR4_SMAP : 0) | (has(c, CPU_XSAVE) ? CR4_OSXSAVE : 0) |
	       (has(c, CPU_PCID) ? CR4_PCIDE : 0);
}

int soft_cr4_write(struct soft_cpu *c, uint64_t value)
{
	uint64_t changed = c->cr4 ^ value;

	if (value & ~soft_cr4_valid(c))
		return -EINVAL;
	if (soft_long_mode(c) && !(value & CR4_PAE))
		return -EINVAL;
	if ((changed & value & CR4_PCIDE) && (!soft_long_mode(c) || (c->cr3 & SOFT_PCID_MASK)))
		return -EINVAL;
	c->cr4 = value;
	if (changed & (CR4_PGE | CR4_PAE | CR4_PSE | CR4_SMEP | CR4_SMAP | CR4_PCIDE))
		soft_tlb_flush(c, true);
	if (changed & CR4_PCIDE)
		soft_tlb_enter(c, pcid_of(c), true);
	if (changed & CR4_SMAP)
		soft_tlb_select(c);
	if (changed & CR4_DE)
		soft_debug_update(c);
	return 0;
}

static uint64_t cr_read(struct soft_cpu *c, const struct insn *i)
{
	switch (i->reg) {
	case 0:
		return c->cr0;
	case 2:
		return c->cr2;
	case 3:
		return c->cr3;
	case 4:
		return c->cr4;
	case 8:
		return c->config.bus.cr8_read(c->config.bus.ctx, c->vcpu.id);
	default:
		soft_raise(c, i, VEC_UD);
	}
}

static int cr8_write(struct soft_cpu *c, uint64_t value)
{
	if (value > 15)
		return -EINVAL;
	c->config.bus.cr8_write(c->config.bus.ctx, c->vcpu.id, value);
	return 0;
}

static int cr_write(struct soft_cpu *c, const struct insn *i, uint64_t value)
{
	switch (i->reg) {
	case 0:
		return soft_cr0_write(c, value);
	case 2:
		c->cr2 = value;
		return 0;
	case 3:
		return soft_cr3_write(c, value);
	case 4:
		return soft_cr4_write(c, value);
	case 8:
		return cr8_write(c, value);
	default:
		soft_raise(c, i, VEC_UD);
	}
}

static const struct insn *op_mov_from_cr(struct soft_cpu *c, const struct insn *i)
{
	soft_require_cpl0(c, i);
	soft_reg_write(c, i->rm, c->mode == 64 ? 8 : 4, cr_read(c, i));
	return SOFT_NEXT(c, i);
}

static const struct insn *op_mov_to_cr(struct soft_cpu *c, const struct insn *i)
{
	uint64_t value = c->mode == 64 ? c->reg[i->rm] : (uint32_t)c->reg[i->rm];
	uint64_t rip = soft_next_rip(c, i);

	soft_require_cpl0(c, i);
	if (cr_write(c, i, value))
		soft_raise_error(c, i, VEC_GP, 0);
	return SOFT_LEAVE(c, rip);
}

static const struct insn *op_clts(struct soft_cpu *c, const struct insn *i)
{
	soft_require_cpl0(c, i);
	c->cr0 &= ~(uint64_t)CR0_TS;
	return SOFT_NEXT(c, i);
}

static const struct insn *op_smsw(struct soft_cpu *c, const struct insn *i)
{
	soft_require_umip(c, i);
	if (i->flags & INSN_MEM)
		soft_store16(c, i, soft_ea(c, i), (uint16_t)c->cr0);
	else
		soft_reg_write(c, i->rm, i->opsize, c->cr0);
	return SOFT_NEXT(c, i);
}

/* LMSW sets PE, but cannot clear it. */
static const struct insn *op_lmsw(struct soft_cpu *c, const struct insn *i)
{
	uint64_t rip = soft_next_rip(c, i), value;

	soft_require_cpl0(c, i);
	value = (c->cr0 & ~(uint64_t)(CR0_MP | CR0_EM | CR0_TS)) | (soft_rm16(c, i) & 15);
	if (soft_cr0_write(c, value))
		soft_raise_error(c, i, VEC_GP, 0);
	return SOFT_LEAVE(c, rip);
}

/* ---- GDTR, IDTR ------------------------------------------------------------------------------ */

static const struct insn *store_table(struct soft_cpu *c, const struct insn *i,
				      const struct vcpu_table *t)
{
	uint64_t linear = soft_ea(c, i);
	unsigned size = c->mode == 64 ? 8 : 4;

	soft_require_umip(c, i);
	soft_probe(c, i, linear, size + 2, true);
	soft_store16(c, i, linear, t->limit);
	soft_store(c, i, linear + 2, size, t->base);
	return SOFT_NEXT(c, i);
}

static const struct insn *op_sgdt(struct soft_cpu *c, const struct insn *i)
{
	return store_table(c, i, &c->gdtr);
}

static const struct insn *op_sidt(struct soft_cpu *c, const struct insn *i)
{
	return store_table(c, i, &c->idtr);
}

static const struct insn *load_table(struct soft_cpu *c, const struct insn *i, struct vcpu_table *t)
{
	uint64_t linear, base;
	uint16_t limit;

	soft_require_cpl0(c, i);
	linear = soft_ea(c, i);
	limit = soft_load16(c, i, linear);
	base = soft_load(c, i, linear + 2, c->mode == 64 ? 8 : 4);
	if (c->mode != 64 && i->opsize == 2)
		base &= 0xffffff;
	if (!soft_canonical(base))
		soft_raise_error(c, i, VEC_GP, 0);
	t->limit = limit;
	t->base = base;
	return SOFT_LEAVE(c, soft_next_rip(c, i));
}

static const struct insn *op_lgdt(struct soft_cpu *c, const struct insn *i)
{
	return load_table(c, i, &c->gdtr);
}

static const struct insn *op_lidt(struct soft_cpu *c, const struct insn *i)
{
	return load_table(c, i, &c->idtr);
}

/* ---- Others ---------------------------------------------------------------------------------- */

static const struct insn *op_invlpg(struct soft_cpu *c, const struct insn *i)
{
	soft_require_cpl0(c, i);
	soft_tlb_flush_page(c, soft_ea(c, i));
	return SOFT_LEAVE(c, soft_next_rip(c, i));
}

/* SDM 2A, INVPCID. What names one PCID, or an address, must make sense; the others are not looked at. */
static bool invpcid_possible(const struct soft_cpu *c, uint64_t type, uint64_t pcid,
			     uint64_t linear)
{
	if (type > INVPCID_ALL_BUT_GLOBAL || pcid & ~(uint64_t)SOFT_PCID_MASK)
		return false;
	if (type <= INVPCID_SINGLE && pcid && !(c->cr4 & CR4_PCIDE))
		return false;
	return type != INVPCID_ADDRESS || c->mode != 64 || soft_canonical(linear);
}

static const struct insn *op_invpcid(struct soft_cpu *c, const struct insn *i)
{
	uint64_t type = c->mode == 64 ? c->reg[i->reg] : (uint32_t)c->reg[i->reg];
	uint64_t descriptor, pcid, linear;

	soft_require_cpl0(c, i);
	descriptor = soft_ea(c, i);
	soft_probe(c, i, descriptor, 16, false);
	pcid = soft_load(c, i, descriptor, 8);
	linear = soft_load(c, i, descriptor + 8, 8);
	if (!invpcid_possible(c, type, pcid, linear))
		soft_raise_error(c, i, VEC_GP, 0);
	if (type == INVPCID_ADDRESS)
		soft_tlb_flush_pcid_page(c, (unsigned)pcid, linear);
	else if (type == INVPCID_SINGLE)
		soft_tlb_flush_pcid(c, (unsigned)pcid);
	else
		soft_tlb_flush(c, type == INVPCID_ALL);
	return SOFT_LEAVE(c, soft_next_rip(c, i));
}

/* INVD and WBINVD: guest memory is coherent without caches of ours. */
static const struct insn *op_wbinvd(struct soft_cpu *c, const struct insn *i)
{
	soft_require_cpl0(c, i);
	return SOFT_NEXT(c, i);
}

static const struct insn *op_swapgs(struct soft_cpu *c, const struct insn *i)
{
	uint64_t base = c->seg[SEG_GS].base;

	if (c->mode != 64)
		soft_raise(c, i, VEC_UD);
	soft_require_cpl0(c, i);
	c->seg[SEG_GS].base = c->kernel_gs_base;
	c->kernel_gs_base = base;
	return SOFT_NEXT(c, i);
}

static void read_tsc(struct soft_cpu *c, const struct insn *i)
{
	uint64_t tsc;

	if ((c->cr4 & CR4_TSD) && c->cpl)
		soft_raise_error(c, i, VEC_GP, 0);
	tsc = soft_tsc(c);
	c->reg[RAX] = (uint32_t)tsc;
	c->reg[RDX] = tsc >> 32;
}

static const struct insn *op_rdtsc(struct soft_cpu *c, const struct insn *i)
{
	read_tsc(c, i);
	return SOFT_NEXT(c, i);
}

static const struct insn *op_rdtscp(struct soft_cpu *c, const struct insn *i)
{
	read_tsc(c, i);
	c->reg[RCX] = (uint32_t)c->tsc_aux;
	return SOFT_NEXT(c, i);
}

/* EFLAGS.AC lifts SMAP: another bank of the TLB. At CPL 3 they are #UD, though AC may be changed by POPF. */
static void access_lift(struct soft_cpu *c, const struct insn *i, bool lift)
{
	if (c->cpl)
		soft_raise(c, i, VEC_UD);
	c->rflags = (c->rflags & ~(uint64_t)FLAG_AC) | (lift ? FLAG_AC : 0);
	soft_tlb_select(c);
}

static const struct insn *op_clac(struct soft_cpu *c, const struct insn *i)
{
	access_lift(c, i, false);
	return SOFT_NEXT(c, i);
}

static const struct insn *op_stac(struct soft_cpu *c, const struct insn *i)
{
	access_lift(c, i, true);
	return SOFT_NEXT(c, i);
}

/* There are no performance counters. */
static const struct insn *op_rdpmc(struct soft_cpu *c, const struct insn *i)
{
	soft_raise_error(c, i, VEC_GP, 0);
}

/* Two answers follow the CPU's state: OSXSAVE, and the size of an XSAVE image with what XCR0 enables. */
static void cpuid_state(const struct soft_cpu *c, uint32_t leaf, uint32_t subleaf,
			struct vcpu_cpuid *r)
{
	if (leaf == 1 && (c->cr4 & CR4_OSXSAVE))
		r->ecx |= 1u << 27;
	if (leaf == 0xd && subleaf == 0 && r->ebx)
		r->ebx = c->xcr0 & 4 ? 832 : 576;
}

static const struct insn *op_cpuid(struct soft_cpu *c, const struct insn *i)
{
	const uint32_t leaf = (uint32_t)c->reg[RAX], subleaf = (uint32_t)c->reg[RCX];
	struct vcpu_cpuid r = {0};

	c->config.cpuid(c->config.cpuid_ctx, c->vcpu.id, leaf, subleaf, &r);
	cpuid_state(c, leaf, subleaf, &r);
	c->reg[RAX] = r.eax;
	c->reg[RBX] = r.ebx;
	c->reg[RCX] = r.ecx;
	c->reg[RDX] = r.edx;
	return SOFT_LEAVE(c, soft_next_rip(c, i));
}

/* ---- Selection ------------------------------------------------------------------------------- */

/* 0F 01 CA and CB, without a mandatory prefix. */
static insn_fn select_smap(const struct soft_decode *d)
{
	if (!soft_decode_has(d, CPU_SMAP) || d->prefix_rep || d->prefix_66)
		return NULL;
	return d->rm3 == 2 ? op_clac : d->rm3 == 3 ? op_stac : NULL;
}

static insn_fn select_group7(struct soft_decode *d)
{
	static const insn_fn mem[8] = {op_sgdt, op_sidt, op_lgdt, op_lidt,
				       op_smsw, NULL,	 op_lmsw, op_invlpg};

	d->out->opsize = soft_operand_size(d);
	d->end_block = d->reg3 == 2 || d->reg3 == 3 || d->reg3 >= 6;
	if (d->mod != 3)
		return mem[d->reg3];
	switch (d->reg3) {
	case 1:
		return select_smap(d);
	case 2:
		d->end_block = false;
		return soft_select_xcr(d);
	case 4:
		return op_smsw;
	case 6:
		return op_lmsw;
	case 7:
		d->end_block = false;
		if (d->rm3 == 1 && soft_decode_has(d, CPU_RDTSCP))
			return op_rdtscp;
		return d->rm3 == 0 ? op_swapgs : NULL;
	default: /* VMX, MONITOR, XGETBV, ...: not of this model */
		return NULL;
	}
}

/* MOV CR and MOV DR are register forms whatever mod says. */
static insn_fn select_mov_control(struct soft_decode *d)
{
	static const insn_fn move[4] = {op_mov_from_cr, op_mov_from_dr, op_mov_to_cr, op_mov_to_dr};

	d->out->reg = d->reg3 | (d->rex & 4 ? 8 : 0);
	d->out->rm = d->rm3 | (d->rex & 1 ? 8 : 0);
	/* CR1, CR5.. do not exist: #UD goes before the check of the privilege. */
	if (!(d->opcode & 1) && !(0x11du >> d->out->reg & 1))
		return NULL;
	d->end_block = d->opcode >= 0x22;
	return move[d->opcode & 3];
}

/* 66 0F 38 82, with memory. */
insn_fn soft_select_invpcid(struct soft_decode *d)
{
	if (!soft_decode_has(d, CPU_INVPCID) || d->mod == 3 || !d->prefix_66 || d->prefix_rep)
		return NULL;
	d->end_block = true;
	d->out->opsize = d->mode == 64 ? 8 : 4;
	return op_invpcid;
}

insn_fn soft_select_control(struct soft_decode *d)
{
	switch (d->opcode) {
	case 0x01:
		return select_group7(d);
	case 0x06:
		return op_clts;
	case 0x08:
	case 0x09:
		return op_wbinvd;
	case 0x20 ... 0x23:
		return select_mov_control(d);
	case 0x30:
		d->end_block = true;
		return soft_wrmsr;
	case 0x31:
		return op_rdtsc;
	case 0x32:
		return soft_rdmsr;
	case 0x33:
		return op_rdpmc;
	case 0xa2:
		d->end_block = true;
		return op_cpuid;
	default:
		return NULL;
	}
}
