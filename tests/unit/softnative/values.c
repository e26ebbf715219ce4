/* SPDX-License-Identifier: Apache-2.0 */
/* Random register and memory contents, biased towards the values at which instructions differ. */
#include "base/random.h"
#include "tests/unit/softnative/softnative.h"

#include <string.h>

uint64_t rng_next(struct rng *r)
{
	return random_xorshift_star(&r->state);
}

unsigned rng_below(struct rng *r, unsigned n)
{
	return (unsigned)((rng_next(r) >> 33) % n);
}

uint64_t value_int(struct rng *r)
{
	static const uint64_t edges[] = {
		0,
		1,
		2,
		UINT64_MAX,
		0x7f,
		0x80,
		0xff,
		0x100,
		0x7fff,
		0x8000,
		0xffff,
		0x10000,
		0x7fffffff,
		0x80000000,
		0xffffffff,
		0x100000000,
		UINT64_C(0x7fffffffffffffff),
		UINT64_C(0x8000000000000000),
		UINT64_C(0xffffffff80000000),
		UINT64_C(0xffffffffffffff80),
		0x0f0f0f0f,
		9,
		10,
	};

	switch (rng_below(r, 8)) {
	case 0:
	case 1:
		return edges[rng_below(r, sizeof(edges) / sizeof(edges[0]))];
	case 2:
		return rng_next(r) >> rng_below(r, 64);
	case 3:
		return UINT64_C(1) << rng_below(r, 64);
	case 4:
		return (uint64_t)((int64_t)rng_next(r) >> rng_below(r, 64));
	default:
		return rng_next(r);
	}
}

static uint32_t value_f32(struct rng *r)
{
	static const uint32_t edges[] = {
		0,	    0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000,
		0x7f800001, 0xffc12345, 0x7fa00000, 1,		0x80000001, 0x007fffff, 0x00800000,
		0x7f7fffff, 0xff7fffff, 0x4f000000, 0xcf000000, 0x4effffff, 0x3f000000, 0x34000000,
		0x5f000000, 0xdf000000, 0x40490fdb, 0x00800001, 0x1f800000,
	};
	uint32_t mantissa = (uint32_t)rng_next(r);

	switch (rng_below(r, 4)) {
	case 0:
		return edges[rng_below(r, sizeof(edges) / sizeof(edges[0]))];
	case 1: /* near 1, so that sums and comparisons are close */
		return (mantissa & 0x807fffff) | (124 + rng_below(r, 8)) << 23;
	case 2: /* few mantissa bits: exact results */
		return (mantissa & 0x80700000) | (120 + rng_below(r, 40)) << 23;
	default:
		return mantissa;
	}
}

static uint64_t value_f64(struct rng *r)
{
	static const uint64_t edges[] = {
		0,
		UINT64_C(0x8000000000000000),
		UINT64_C(0x3ff0000000000000),
		UINT64_C(0xbff0000000000000),
		UINT64_C(0x7ff0000000000000),
		UINT64_C(0xfff0000000000000),
		UINT64_C(0x7ff8000000000000),
		UINT64_C(0x7ff0000000000001),
		UINT64_C(0xfff4000000000000),
		1,
		UINT64_C(0x800fffffffffffff),
		UINT64_C(0x0010000000000000),
		UINT64_C(0x7fefffffffffffff),
		UINT64_C(0xffefffffffffffff),
		UINT64_C(0x41e0000000000000),
		UINT64_C(0xc1e0000000000000),
		UINT64_C(0x41dfffffffc00000),
		UINT64_C(0x43e0000000000000),
		UINT64_C(0xc3e0000000000000),
		UINT64_C(0x3fe0000000000000),
		UINT64_C(0x47efffffffffffff),
		UINT64_C(0x3690000000000000),
		UINT64_C(0x380fffffffffffff),
	};
	uint64_t mantissa = rng_next(r);

	switch (rng_below(r, 4)) {
	case 0:
		return edges[rng_below(r, sizeof(edges) / sizeof(edges[0]))];
	case 1:
		return (mantissa & UINT64_C(0x800fffffffffffff)) |
		       (uint64_t)(1020 + rng_below(r, 8)) << 52;
	case 2:
		return (mantissa & UINT64_C(0x800e000000000000)) |
		       (uint64_t)(1010 + rng_below(r, 60)) << 52;
	default:
		return mantissa;
	}
}

uint64_t value_lane(struct rng *r)
{
	switch (rng_below(r, 5)) {
	case 0:
	case 1:
		return (uint64_t)value_f32(r) << 32 | value_f32(r);
	case 2:
	case 3:
		return value_f64(r);
	default:
		return value_int(r);
	}
}

/* Normal numbers of all sizes, and every other encoding: pseudo-denormals, unnormals, MMX's. */
void value_f80(struct rng *r, uint8_t out[10])
{
	static const uint16_t exponents[] = {0,	     1,	     0x3fff, 0x4000, 0x3ffe,
					     0x7ffe, 0x7fff, 0x403e, 0x401e, 0x3fbf};
	uint64_t mantissa = rng_next(r) | UINT64_C(1) << 63;
	uint16_t exponent = (uint16_t)(0x3fff - 40 + rng_below(r, 80));

	switch (rng_below(r, 8)) {
	case 0:
		exponent = exponents[rng_below(r, 10)];
		break;
	case 1:
		exponent = exponents[rng_below(r, 10)];
		mantissa = value_int(r);
		break;
	case 2:
		exponent = rng_next(r) & 0x7fff;
		break;
	case 3: /* small integers */
		exponent = (uint16_t)(0x3fff + rng_below(r, 12));
		mantissa &= UINT64_C(0xffe0000000000000);
		break;
	case 4:
		exponent = 0;
		mantissa = 0;
		break;
	default:
		break;
	}
	exponent |= (uint16_t)(rng_below(r, 2) << 15);
	memcpy(out, &mantissa, 8);
	memcpy(out + 8, &exponent, 2);
}

void value_bcd(struct rng *r, uint8_t out[10])
{
	for (unsigned n = 0; n < 9; n++)
		out[n] = (uint8_t)(rng_below(r, 10) << 4 | rng_below(r, 10));
	out[9] = rng_below(r, 2) ? 0x80 : 0;
}

/* Mostly the default masks; any rounding, FTZ, DAZ, sticky flags. */
uint32_t value_mxcsr(struct rng *r)
{
	uint32_t v = 0x1f80;

	if (rng_below(r, 3))
		v |= rng_next(r) & 0x3f;
	if (rng_below(r, 2))
		v |= rng_next(r) & 0xe040;
	if (!rng_below(r, 6))
		v = (v & ~0x1f80u) | (rng_next(r) & 0x1f80);
	return v;
}

uint16_t value_cw(struct rng *r)
{
	uint16_t v = 0x37f;

	if (rng_below(r, 2))
		v = (uint16_t)((v & ~0xf00u) | (rng_next(r) & 0xf00));
	if (!rng_below(r, 8))
		v = (uint16_t)((v & ~0x3fu) | (rng_next(r) & 0x3f));
	return v;
}

static uint8_t tags_random(struct rng *r)
{
	switch (rng_below(r, 4)) {
	case 0:
		return (uint8_t)rng_next(r);
	case 1:
		return 0;
	default:
		return 0xff;
	}
}

/* An FXSAVE image. An unmasked x87 exception is pending in few cases. */
void fx_random(struct rng *r, uint8_t fx[512])
{
	uint16_t cw = value_cw(r), sw = (uint16_t)(rng_next(r) & 0x7f7f);
	uint32_t mxcsr = value_mxcsr(r), mask = 0xffff;

	memset(fx, 0, 512);
	if (rng_below(r, 16))
		sw &= (uint16_t)~(~cw & 0x3f);
	memcpy(fx + FX_CW, &cw, 2);
	memcpy(fx + FX_SW, &sw, 2);
	fx[FX_TAG] = tags_random(r);
	memcpy(fx + FX_MXCSR, &mxcsr, 4);
	memcpy(fx + FX_MXCSR + 4, &mask, 4);
	for (unsigned n = 0; n < 8; n++)
		value_f80(r, fx + FX_ST + 16 * n);
	for (unsigned n = 0; n < 32; n++) {
		uint64_t lane = value_lane(r);

		memcpy(fx + FX_XMM + 8 * n, &lane, 8);
	}
}

void image_random(struct rng *r, struct image *image)
{
	for (unsigned n = 0; n < 16; n++)
		image->gpr[n] = value_int(r);
	/* The stack lies in the data, so that a push never leaves the region. */
	image->gpr[RSP] = target_random(r, rng_below(r, 2));
	image->rflags = (rng_next(r) & (CF | PF | AF | ZF | SF | DF | OF)) | 0x202;
	if (!rng_below(r, 16))
		image->rflags |= 0x4000;
	fx_random(r, image->fx);
	memset(image->ymm, 0, sizeof(image->ymm));
	for (unsigned n = 0; n < 32 && __builtin_cpu_supports("avx"); n++) {
		uint64_t lane = value_lane(r);

		memcpy(image->ymm[n / 2] + n % 2 * 8, &lane, 8);
	}
}

void data_random(struct rng *r, uint8_t *data, size_t bytes)
{
	for (size_t n = 0; n < bytes; n += 8) {
		uint64_t lane = value_lane(r);

		memcpy(data + n, &lane, 8);
	}
}
