/* SPDX-License-Identifier: Apache-2.0 */
/* VEX-coded SIMD: whole opcode ranges with each prefix, vector length and W, but for what the model does not have. */
#include "tests/unit/softnative/softnative.h"

#include <stdio.h>
#include <string.h>

#include "base/cpu_feature.h"

struct range {
	uint8_t first, last;
};

static const struct range map_0f[] = {
	{0x10, 0x17}, {0x28, 0x2f}, {0x50, 0x70}, {0x74, 0x77},
	{0x7c, 0x7f}, {0xc2, 0xc2}, {0xc4, 0xc6}, {0xd0, 0xfe},
};
/* VEX has VNNI, IFMA and conversions of newer processors at 50 to 53, B0, B1, B4 and B5; 90 to 93 are gathers, whose
 * index is a vector: below. */
static const struct range map_0f38[] = {
	{0x00, 0x4f}, {0x58, 0x5a}, {0x78, 0x79}, {0x8c, 0x8e},
	{0x96, 0xaf}, {0xb6, 0xbf}, {0xdb, 0xdf},
};
static const struct range map_0f3a[] = {
	{0x00, 0x0f}, {0x14, 0x1d}, {0x20, 0x22}, {0x38, 0x39},
	{0x40, 0x4c}, {0x60, 0x63}, {0xdf, 0xdf},
};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool has_imm8(unsigned map, unsigned opcode)
{
	return map == 3 || (map == 1 && ((opcode >= 0x70 && opcode <= 0x73) || opcode == 0xc2 ||
					 (opcode >= 0xc4 && opcode <= 0xc6)));
}

/* With 256 bits these are VAES and VPCLMULQDQ. */
static bool short_alone(unsigned map, unsigned opcode)
{
	return (map == 2 && opcode >= 0xdc && opcode <= 0xdf) || (map == 3 && opcode == 0x44);
}

static unsigned form_add(struct form *forms, unsigned count, unsigned map, unsigned opcode,
			 unsigned prefix, int ext, uint32_t flags)
{
	struct form *f = &forms[count];
	const bool dot = map == 3 && (opcode == 0x40 || opcode == 0x41);

	memset(f, 0, sizeof(*f));
	snprintf(f->name, sizeof(f->name), "vex%u %02x p%02x%s", map, opcode, prefix,
		 flags & F_NOVVVV ? "" : " v");
	f->class = CLASS_SSE;
	f->prefix = (uint8_t)prefix;
	f->map = (uint8_t)map;
	f->opcode = (uint8_t)opcode;
	f->ext = (int8_t)ext;
	f->imm = has_imm8(map, opcode) ? IMM_8 : IMM_NONE;
	f->flags = F_VEX | F_W | F_ALIGN | flags | (short_alone(map, opcode) ? 0 : F_VEX_L) |
		   (dot ? F_NANS : 0);
	if (map == 1 && opcode == 0xf7)
		f->special = SP_MASKMOV;
	if (map == 3 && opcode >= 0x60 && opcode <= 0x63)
		f->special = SP_COMPARE;
	return count + 1;
}

static unsigned ranges_add(struct form *forms, unsigned count, unsigned map,
			   const struct range *ranges, unsigned n)
{
	static const uint8_t prefixes[] = {0x66, 0, 0xf3, 0xf2};

	for (unsigned r = 0; r < n; r++)
		for (unsigned op = ranges[r].first; op <= ranges[r].last; op++)
			for (unsigned p = 0; p < (map == 1 ? 4 : 1); p++) {
				/* Moves of one half have a form of registers alone. */
				int ext = map == 1 && op == 0x77 ? EXT_NONE : EXT_R;

				count = form_add(forms, count, map, op, prefixes[p], ext, F_NOVVVV);
				if (ext == EXT_R)
					count = form_add(forms, count, map, op, prefixes[p], ext,
							 0);
			}
	return count;
}

unsigned forms_avx(struct form *forms, unsigned count)
{
	const uint64_t needs = CPU_MODEL_V3 | CPU_BIT(CPU_AES) | CPU_BIT(CPU_PCLMULQDQ);

	if (needs & ~cpu_features_host()) {
		char names[200];

		cpu_features_text(needs & ~cpu_features_host(), names, sizeof(names));
		printf("no VEX-coded SIMD is compared, since the host has no %s\n", names);
		return count;
	}
	count = ranges_add(forms, count, 1, map_0f, COUNT(map_0f));
	count = ranges_add(forms, count, 2, map_0f38, COUNT(map_0f38));
	count = ranges_add(forms, count, 3, map_0f3a, COUNT(map_0f3a));
	for (unsigned op = 0x71; op <= 0x73; op++)
		for (int digit = 0; digit < 8; digit++)
			count = form_add(forms, count, 1, op, 0x66, digit, 0);
	count = form_add(forms, count, 1, 0xae, 0, 3, F_NOVVVV | F_MEM);
	for (unsigned op = 0x90; op <= 0x93; op++) {
		count = form_add(forms, count, 2, op, 0x66, EXT_R, F_MEM);
		forms[count - 1].special = SP_GATHER;
	}
	return count;
}
