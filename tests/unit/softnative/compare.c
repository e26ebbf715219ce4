/* SPDX-License-Identifier: Apache-2.0 */
/* Compares what the two CPUs made of a case, and prints how they differ. */
#include "tests/unit/softnative/softnative.h"

#include <stdio.h>
#include <string.h>

#define RF 0x10000u

struct report {
	const struct test_case *t;
	bool print, equal;
	int vector;
};

static void differ(struct report *r, const char *what, uint64_t native, uint64_t soft)
{
	if (r->equal && r->print) {
		printf("%s: mode %u case %016lx:", r->t->form->name, r->t->mode,
		       (unsigned long)r->t->seed);
		for (unsigned n = 0; n < r->t->len; n++)
			printf(" %02x", r->t->code[n]);
		printf("\n    rip %lx target %lx rflags %lx mxcsr %x cw %x sw %x tag %x\n",
		       (unsigned long)r->t->in.rip, (unsigned long)r->t->target,
		       (unsigned long)r->t->in.rflags, *(uint32_t *)(r->t->in.fx + FX_MXCSR),
		       *(uint16_t *)(r->t->in.fx + FX_CW), *(uint16_t *)(r->t->in.fx + FX_SW),
		       r->t->in.fx[FX_TAG]);
	}
	if (r->print)
		printf("    %s: native %lx, soft %lx\n", what, (unsigned long)native,
		       (unsigned long)soft);
	r->equal = false;
}

static void check(struct report *r, const char *what, uint64_t native, uint64_t soft)
{
	if (native != soft)
		differ(r, what, native, soft);
}

static void registers_compare(struct report *r, const struct outcome *native,
			      const struct outcome *soft)
{
	static const char *const names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
					      "rsi", "rdi", "r8",  "r9",  "r10", "r11",
					      "r12", "r13", "r14", "r15"};
	/* RF in the saved image differs by how the exception came about, and means nothing here. */
	uint64_t flags = ~(uint64_t)(r->t->undefined | RF);
	uint64_t mask = r->t->mode == 64 ? UINT64_MAX : UINT32_MAX;

	/* Compatibility mode leaves the upper halves and R8 to R15 undefined. */
	for (unsigned n = 0; n < (r->t->mode == 64 ? 16 : 8); n++)
		check(r, names[n], native->image.gpr[n] & mask, soft->image.gpr[n] & mask);
	check(r, "rip", native->image.rip, soft->image.rip);
	check(r, "rflags", native->image.rflags & flags, soft->image.rflags & flags);
}

/* With overflow or underflow unmasked PE tells of rounding without a limit of the exponent; the
 * software CPU tells of the masked result. Only a #XM handler that looks at PE could see it. */
static uint32_t mxcsr_uncertain(uint32_t mxcsr)
{
	return mxcsr & ~(mxcsr >> 7) & 0x18 ? 0x20 : 0;
}

/* Both are NaNs, lane by lane, or the same. */
static bool nans_equal(const struct form *f, uint64_t a, uint64_t b)
{
	const bool doubles = f->opcode == 0x41;
	const unsigned lanes = doubles ? 1 : 2, bits = doubles ? 64 : 32;
	const uint64_t magnitude = doubles ? INT64_MAX : INT32_MAX;
	const uint64_t infinity = doubles ? UINT64_C(0x7ff0000000000000) : 0x7f800000u;

	for (unsigned n = 0; n < lanes; n++) {
		uint64_t x = a >> n * bits, y = b >> n * bits;

		if (((x ^ y) & (magnitude * 2 + 1)) &&
		    ((x & magnitude) <= infinity || (y & magnitude) <= infinity))
			return false;
	}
	return true;
}

/* FOP, FIP and FDP are left out: hosts differ in when they keep them. */
static void fx_compare(struct report *r, const uint8_t *native, const uint8_t *soft)
{
	static const struct {
		const char *name;
		unsigned at, bytes;
	} words[] = {
		{"cw", FX_CW, 2}, {"sw", FX_SW, 2}, {"tag", FX_TAG, 1}, {"mxcsr", FX_MXCSR, 4}};
	char name[16];

	for (unsigned n = 0; n < sizeof(words) / sizeof(words[0]); n++) {
		uint32_t a = 0, b = 0;

		memcpy(&a, native + words[n].at, words[n].bytes);
		memcpy(&b, soft + words[n].at, words[n].bytes);
		if (words[n].at == FX_MXCSR && r->vector == 19)
			a &= ~mxcsr_uncertain(a), b &= ~mxcsr_uncertain(a);
		check(r, words[n].name, a, b);
	}
	for (unsigned n = 0; n < 8 + 16; n++) {
		uint64_t a[2] = {0, 0}, b[2] = {0, 0};

		memcpy(a, native + FX_ST + 16 * n, n < 8 ? 10 : 16);
		memcpy(b, soft + FX_ST + 16 * n, n < 8 ? 10 : 16);
		for (unsigned half = 0; half < 2; half++) {
			snprintf(name, sizeof(name), n < 8 ? "st%u.%u" : "xmm%u.%u",
				 n < 8 ? n : n - 8, half);
			if (n < 8 || !(r->t->form->flags & F_NANS) ||
			    !nans_equal(r->t->form, a[half], b[half]))
				check(r, name, a[half], b[half]);
		}
	}
}

/* Upper halves; of lanes that are NaNs in both as above. */
static void ymm_compare(struct report *r, const struct outcome *native, const struct outcome *soft)
{
	char name[16];

	for (unsigned n = 0; n < 32; n++) {
		uint64_t a, b;

		memcpy(&a, native->image.ymm[n / 2] + n % 2 * 8, 8);
		memcpy(&b, soft->image.ymm[n / 2] + n % 2 * 8, 8);
		snprintf(name, sizeof(name), "ymm%u.%u", n / 2, 2 + n % 2);
		if (!(r->t->form->flags & F_NANS) || !nans_equal(r->t->form, a, b))
			check(r, name, a, b);
	}
}

static bool blanked(const struct test_case *t, unsigned offset)
{
	for (unsigned n = 0; n < t->blanks; n++)
		if (offset >= t->blank[n].offset && offset < t->blank[n].offset + t->blank[n].bytes)
			return true;
	return false;
}

static void data_compare(struct report *r, const struct outcome *out, const uint8_t *native,
			 const uint8_t *soft)
{
	char name[24];
	unsigned shown = 0;

	if (memcmp(native, soft, DATA_BYTES + PAGE_BYTES) == 0)
		return;
	for (unsigned n = 0; n < DATA_BYTES + PAGE_BYTES && shown < 8; n++) {
		if (native[n] == soft[n] || blanked(r->t, n) ||
		    vendor_stored(r->t, out, DATA_VA + n))
			continue;
		snprintf(name, sizeof(name), "data[%x]", n);
		differ(r, name, native[n], soft[n]);
		shown++;
	}
}

static void fault_compare(struct report *r, const struct outcome *native,
			  const struct outcome *soft)
{
	if (native->vector >= 10 && native->vector <= 14)
		check(r, "error", native->error, soft->error);
	if (native->vector == 14)
		check(r, "cr2", native->cr2, soft->cr2);
	data_compare(r, soft, (const uint8_t *)DATA_VA, soft_data());
}

bool outcome_equal(const struct test_case *t, const struct outcome *native,
		   const struct outcome *soft_made, bool print)
{
	struct outcome settled = *soft_made;
	const struct outcome *soft = &settled;
	struct report r = {.t = t, .print = print, .equal = true, .vector = native->vector};
	bool same = native->vector == soft->vector && native->error == soft->error &&
		    native->cr2 == soft->cr2;
	bool order = !same && fault_order_free(t, native, soft);

	if ((native->vector != soft->vector || native->image.rip != soft->image.rip) &&
	    vendor_vector_free(t, native, soft))
		return true;
	vendor_settle(t, native, &settled);
	if (!order)
		check(&r, "vector", (uint64_t)native->vector, (uint64_t)soft->vector);
	if (r.equal) {
		registers_compare(&r, native, soft);
		if (memcmp(native->image.fx, soft->image.fx, 512) != 0)
			fx_compare(&r, native->image.fx, soft->image.fx);
		if (memcmp(native->image.ymm, soft->image.ymm, sizeof(native->image.ymm)) != 0)
			ymm_compare(&r, native, soft);
		if (!order && (native->vector == 3 || !t->wide))
			fault_compare(&r, native, soft);
	} else if (print) {
		printf("    native rip %lx error %x cr2 %lx; soft rip %lx error %x cr2 %lx\n",
		       (unsigned long)native->image.rip, native->error, (unsigned long)native->cr2,
		       (unsigned long)soft->image.rip, soft->error, (unsigned long)soft->cr2);
	}
	return r.equal;
}
