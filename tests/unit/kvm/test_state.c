/* SPDX-License-Identifier: Apache-2.0 */
/* The architectural state through the kvm engine: set and got again, refused, and moved while a
 * guest computes. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/cpu_feature.h"
#include "tests/unit/kvm/kvm_guest.h"

/* ---- round trips ---- */

static void tables_compare(const struct vcpu_state *a, const struct vcpu_state *b)
{
	for (unsigned n = 0; n < SEG_COUNT; n++) {
		cr_expect_eq(a->seg[n].selector, b->seg[n].selector, "segment %u", n);
		cr_expect_eq(a->seg[n].base, b->seg[n].base, "segment %u", n);
		cr_expect_eq(a->seg[n].limit, b->seg[n].limit, "segment %u", n);
		cr_expect_eq(a->seg[n].attr, b->seg[n].attr, "segment %u: %x, %x", n,
			     a->seg[n].attr, b->seg[n].attr);
	}
	cr_expect_eq(a->tr.base, b->tr.base);
	cr_expect_eq(a->tr.attr, b->tr.attr, "%x %x", a->tr.attr, b->tr.attr);
	cr_expect_eq(a->ldtr.base, b->ldtr.base);
	cr_expect_eq(a->ldtr.attr, b->ldtr.attr, "%x %x", a->ldtr.attr, b->ldtr.attr);
	cr_expect_eq(a->gdtr.base, b->gdtr.base);
	cr_expect_eq(a->gdtr.limit, b->gdtr.limit);
	cr_expect_eq(a->idtr.base, b->idtr.base);
	cr_expect_eq(a->idtr.limit, b->idtr.limit);
}

#define FIELD(name)                                                                                \
	{#name, offsetof(struct vcpu_state, name), sizeof(((struct vcpu_state *)0)->name)}

/* The fields that are plain numbers. */
static const struct {
	const char *name;
	size_t at, size;
} fields[] = {
	FIELD(rip),	     FIELD(rflags),
	FIELD(cr0),	     FIELD(cr2),
	FIELD(cr3),	     FIELD(cr4),
	FIELD(efer),	     FIELD(dr6),
	FIELD(dr7),	     FIELD(star),
	FIELD(lstar),	     FIELD(cstar),
	FIELD(sfmask),	     FIELD(kernel_gs_base),
	FIELD(sysenter_cs),  FIELD(sysenter_esp),
	FIELD(sysenter_eip), FIELD(pat),
	FIELD(tsc_offset),   FIELD(tsc_aux),
	FIELD(misc_enable),  FIELD(irq_shadow),
	FIELD(nmi_blocked),  FIELD(nmi_pending),
	FIELD(halted),	     FIELD(event),
	FIELD(event_vector), FIELD(event_has_error),
	FIELD(event_error),
};

static uint64_t field_get(const struct vcpu_state *s, size_t n)
{
	uint64_t value = 0;

	memcpy(&value, (const char *)s + fields[n].at, fields[n].size);
	return value;
}

static void states_compare(const struct vcpu_state *a, const struct vcpu_state *b)
{
	for (unsigned n = 0; n < 16; n++)
		cr_expect_eq(a->gpr[n], b->gpr[n], "register %u", n);
	for (unsigned n = 0; n < 4; n++)
		cr_expect_eq(a->dr[n], b->dr[n], "DR%u", n);
	for (size_t n = 0; n < sizeof(fields) / sizeof(fields[0]); n++)
		cr_expect_eq(field_get(a, n), field_get(b, n), "%s: 0x%lx, 0x%lx", fields[n].name,
			     (unsigned long)field_get(a, n), (unsigned long)field_get(b, n));
	tables_compare(a, b);
	cr_expect_eq(a->xcr0, b->xcr0, "XCR0: %lx, %lx", a->xcr0, b->xcr0);
	for (unsigned n = 0; n < 256; n++)
		cr_expect_eq(a->ymm_high[n / 16][n % 16], b->ymm_high[n / 16][n % 16],
			     "byte %u of YMM%u", 16 + n % 16, n / 16);
	for (unsigned n = 0; n < sizeof(a->fxsave); n++)
		cr_expect_eq(a->fxsave[n], b->fxsave[n], "fxsave[%u]: %x, %x", n, a->fxsave[n],
			     b->fxsave[n]);
}

/* The state after reset is what a new vCPU has, and the same as the software CPU's. */
Test(kvm_state, reset)
{
	struct vcpu_state reset;
	struct guest g;

	vcpu_state_reset(&reset);
	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	g.ops->state_get(g.v, &g.s);
	states_compare(&reset, &g.s);
	guest_close(&g);
}

static void state_colour(struct vcpu_state *s)
{
	for (unsigned n = 0; n < 16; n++)
		s->gpr[n] = UINT64_C(0x0123456789abcdef) * (n + 1);
	s->rip = 0x7f1234567890;
	s->rflags = 0xcd7;
	s->cr2 = 0xffff800012345678;
	for (unsigned n = 0; n < 4; n++)
		s->dr[n] = 0x1000 * (n + 1);
	s->lstar = 0xffffffff81000000;
	s->cstar = 0xffffffff82000000;
	s->sfmask = 0x47700;
	s->kernel_gs_base = 0xffff888000000000;
	s->sysenter_cs = 0x10;
	s->sysenter_esp = 0xfffffe0000001000;
	s->sysenter_eip = 0xffffffff81000100;
	if (!kvm_vendor_can(CPU_VENDOR_INTEL)) {
		/* AMD's processors keep 32 bits. */
		s->sysenter_esp = (uint32_t)s->sysenter_esp;
		s->sysenter_eip = (uint32_t)s->sysenter_eip;
	}
	s->pat = 0x0407050600070106;
	s->seg[SEG_FS].base = 0x7fff00001000;
	s->seg[SEG_GS].base = 0xffff888000001000;
	s->tsc_offset = 12345;
	for (unsigned n = 160; n < 416; n++)
		s->fxsave[n] = (uint8_t)(n * 7);
	s->fxsave[24] = 0xa0; /* MXCSR 1fa0 */
	if (!(guest_features() & CPU_BIT(CPU_AVX)))
		return;
	s->xcr0 = 7;
	for (unsigned n = 0; n < 256; n++)
		s->ymm_high[n / 16][n % 16] = (uint8_t)(n * 11 + 1);
}

Test(kvm_state, round_trip)
{
	struct vcpu_state wanted;
	struct guest g;

	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	guest_kernel(&g, 0);
	state_colour(&g.s);
	wanted = g.s;
	guest_put(&g);
	g.ops->state_get(g.v, &g.s);
	states_compare(&wanted, &g.s);
	guest_user(&g, 0x5000);
	state_colour(&g.s);
	wanted = g.s;
	guest_put(&g);
	g.ops->state_get(g.v, &g.s);
	states_compare(&wanted, &g.s);
	guest_close(&g);
}

/* What waits for delivery goes with the state. */
Test(kvm_state, events)
{
	const struct vcpu_ops *engines[] = {&vcpu_kvm_ops, &vcpu_soft_ops};

	for (unsigned i = 0; i < 2; i++) {
		struct vcpu_state wanted;
		struct guest g;

		guest_open(&g, engines[i], NULL, GUEST_RAM);
		guest_kernel(&g, LABEL(halt_loop) + 1);
		g.s.rflags |= 0x200;
		g.s.event = VCPU_EVENT_INTERRUPT;
		g.s.event_vector = 0x50;
		wanted = g.s;
		guest_put(&g);
		cr_expect_not(g.ops->interrupt_ready(g.v));
		g.ops->state_get(g.v, &g.s);
		states_compare(&wanted, &g.s);
		cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
		cr_expect_eq(g.s.gpr[R12], 1, "the interrupt was delivered");
		cr_expect_eq(g.s.event, VCPU_EVENT_NONE);
		/* An injected interrupt that no run has delivered yet. */
		g.ops->interrupt(g.v, 0x50);
		g.ops->state_get(g.v, &g.s);
		cr_expect_eq(g.s.event, VCPU_EVENT_INTERRUPT);
		cr_expect_eq(g.s.event_vector, 0x50);
		/* A #GP with error code 0, whose handler skips two bytes: STI and HLT. */
		guest_kernel(&g, LABEL(halt_loop));
		g.s.event = VCPU_EVENT_EXCEPTION;
		g.s.event_vector = 13;
		g.s.event_has_error = 1;
		guest_put(&g);
		cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
		cr_expect_eq(g.s.gpr[R12], 1, "the exception was delivered");
		cr_expect_eq(g.s.gpr[RBX], 1);
		guest_close(&g);
	}
}

Test(kvm_state, refused)
{
	struct guest g;

	guest_open(&g, &vcpu_kvm_ops, NULL, GUEST_RAM);
	guest_kernel(&g, 0);
	g.s.cr0 = 0x80000010; /* paging without protection */
	cr_expect_eq(g.ops->state_set(g.v, &g.s), -EINVAL);
	guest_kernel(&g, 0);
	g.s.efer = 0x101; /* paging, LME, but not LMA */
	cr_expect_eq(g.ops->state_set(g.v, &g.s), -EINVAL);
	guest_kernel(&g, 0);
	g.s.cr4 |= UINT64_C(1) << 40;
	cr_expect_eq(g.ops->state_set(g.v, &g.s), -EINVAL);
	guest_kernel(&g, 0);
	g.s.event = VCPU_EVENT_EXCEPTION;
	g.s.event_vector = 200;
	cr_expect_eq(g.ops->state_set(g.v, &g.s), -EINVAL);
	g.s.event = VCPU_EVENT_INTERRUPT; /* with interrupts off */
	cr_expect_eq(g.ops->state_set(g.v, &g.s), -EINVAL);
	guest_close(&g);
}

/* ---- moving ---- */

#define ROUNDS 800
#define WORDS  8192

/* What guest_compute does. */
static uint64_t compute_serially(uint64_t *words, uint64_t rounds, uint64_t count)
{
	uint64_t hash = 0;

	while (rounds--)
		for (uint64_t i = 0; i < count; i++) {
			uint64_t old = words[i];

			hash = (hash + old) * UINT64_C(0x9e3779b97f4a7c15);
			hash ^= hash >> 29;
			words[i] = old + hash;
			hash = old;
		}
	return hash;
}

static void array_fill(uint64_t *words)
{
	for (uint64_t i = 0; i < WORDS; i++)
		words[i] = i * i + 1;
}

struct mover {
	const struct vcpu *_Atomic target; /* who is kicked */
	_Atomic bool stop;
};

static void *mover_thread(void *arg)
{
	struct mover *m = arg;

	while (!atomic_load(&m->stop)) {
		struct vcpu *v = (struct vcpu *)(uintptr_t)atomic_load(&m->target);

		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		v->ops->kick(v);
	}
	return NULL;
}

/* Runs the guest's CPU in both engines in turn, an interrupt at every change. */
static void run_moving(struct guest engine[2], unsigned *moves, unsigned *interrupts)
{
	unsigned now = 0;
	struct mover m = {.target = engine[0].v};
	struct guest *g = &engine[0];
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, mover_thread, &m), 0);
	while (guest_run(g) != VCPU_EXIT_HLT) {
		struct guest *next = &engine[!now];

		cr_assert_eq(g->exit.reason, VCPU_EXIT_KICKED, "%s: exit %d", g->ops->name,
			     (int)g->exit.reason);
		/* Injected here, delivered there. */
		if (g->ops->interrupt_ready(g->v)) {
			g->ops->interrupt(g->v, 0x50);
			g->ops->state_get(g->v, &g->s);
			++*interrupts;
		}
		next->s = g->s;
		guest_put(next);
		atomic_store(&m.target, next->v);
		g = next;
		now = !now;
		++*moves;
	}
	atomic_store(&m.stop, true);
	pthread_join(thread, NULL);
	engine[0].s = g->s;
}

Test(kvm_state, moved_while_it_computes, .timeout = 100)
{
	static uint64_t expected[WORDS];
	struct guest engine[2];
	unsigned moves = 0, interrupts = 0;
	uint64_t hash;

	guest_open(&engine[0], &vcpu_soft_ops, NULL, GUEST_RAM);
	guest_open(&engine[1], &vcpu_kvm_ops, engine[0].ram, GUEST_RAM);
	array_fill(expected);
	array_fill(guest_u64(&engine[0], ARRAY));
	hash = compute_serially(expected, ROUNDS, WORDS);
	guest_kernel(&engine[0], LABEL(compute));
	engine[0].s.gpr[R9] = ROUNDS;
	engine[0].s.gpr[R10] = WORDS;
	engine[0].s.gpr[R11] = ARRAY;
	engine[0].s.gpr[R12] = 0;
	guest_put(&engine[0]);
	run_moving(engine, &moves, &interrupts);
	printf("moved %u times, %u interrupts\n", moves, interrupts);
	cr_expect_geq(moves, 2, "soft, kvm, soft");
	cr_expect_eq(engine[0].s.gpr[R12], interrupts, "%lu interrupts came, not %u",
		     (unsigned long)engine[0].s.gpr[R12], interrupts);
	cr_expect_eq(*guest_u64(&engine[0], DATA), hash);
	cr_expect_eq(*guest_u64(&engine[0], DATA + 8), ROUNDS * WORDS);
	cr_expect_arr_eq(guest_u64(&engine[0], ARRAY), expected, sizeof(expected));
	guest_close(&engine[1]);
	guest_close(&engine[0]);
}
