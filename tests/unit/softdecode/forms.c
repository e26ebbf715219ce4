/* SPDX-License-Identifier: Apache-2.0 */
/* Every opcode there can be, as bytes: the legacy maps with every modrm, and the newer encodings.
 */
#include <string.h>

#include "tests/unit/softdecode/compare.h"

/* Behind modrm come a SIB byte that has no effect of its own, and small numbers. */
#define FILL 0x24

struct form_visitor {
	void (*visit)(void *ctx, const uint8_t *bytes);
	void *ctx;
};

static void form_visit(const struct form_visitor *v, const uint8_t *head, unsigned n,
		       unsigned opcode, unsigned modrm)
{
	uint8_t bytes[INSN_MAX];

	memset(bytes, FILL, sizeof(bytes));
	memcpy(bytes, head, n);
	bytes[n] = (uint8_t)opcode;
	bytes[n + 1] = (uint8_t)modrm;
	v->visit(v->ctx, bytes);
}

/* All opcodes and modrms behind prefix, REX (0: none) and the map's bytes. */
static void legacy_visit(const struct form_visitor *v, uint8_t prefix, uint8_t rex,
			 const uint8_t map[2])
{
	uint8_t head[4];
	unsigned n = 0;

	if (prefix)
		head[n++] = prefix;
	if (rex)
		head[n++] = rex;
	for (unsigned k = 0; k < 2 && map[k]; k++)
		head[n++] = map[k];
	for (unsigned at = 0; at < 0x10000; at++)
		form_visit(v, head, n, at >> 8, at & 0xff);
}

/* Every opcode with a register and a memory operand. */
static void newer_visit(const struct form_visitor *v, const uint8_t *head, unsigned n)
{
	for (unsigned opcode = 0; opcode < 256; opcode++)
		for (unsigned modrm = 0; modrm < 256; modrm += 8) {
			form_visit(v, head, n, opcode, 0xc0 | modrm);
			form_visit(v, head, n, opcode, modrm & 0x38);
		}
}

/* W, vector length and mandatory prefix in one number of five bits; registers all ones (none). */
static void vex_visit(const struct form_visitor *v, unsigned fields)
{
	const unsigned pp = fields & 3, length = fields >> 2 & 3, wide = fields >> 4;
	const uint8_t two[] = {0xc5, (uint8_t)(0xf8 | (length & 1) << 2 | pp)};

	if (length < 2 && !wide)
		newer_visit(v, two, sizeof(two));
	for (unsigned map = 1; map < 11; map++) {
		const uint8_t last = (uint8_t)(wide << 7 | 0x78 | (length & 1) << 2 | pp);
		const uint8_t three[] = {map < 8 ? 0xc4 : 0x8f, (uint8_t)(0xe0 | map), last};
		const uint8_t evex[] = {0x62, (uint8_t)(0xf0 | map),
					(uint8_t)(wide << 7 | 0x7c | pp),
					(uint8_t)(length << 5 | 8)};

		if (length < 2 && (map < 4 || map > 7))
			newer_visit(v, three, sizeof(three));
		if (map < 4 || map == 5 || map == 6)
			newer_visit(v, evex, sizeof(evex));
	}
}

void forms_visit(unsigned mode, void (*visit)(void *ctx, const uint8_t *bytes), void *ctx)
{
	static const uint8_t maps[][2] = {{0, 0}, {0x0f, 0}, {0x0f, 0x38}, {0x0f, 0x3a}};
	static const uint8_t prefixes[] = {0, 0x66, 0xf3, 0xf2};
	const struct form_visitor v = {visit, ctx};

	for (unsigned p = 0; p < sizeof(prefixes); p++)
		for (unsigned map = 0; map < 4; map++) {
			legacy_visit(&v, prefixes[p], 0, maps[map]);
			if (mode == 64)
				legacy_visit(&v, prefixes[p], 0x48, maps[map]);
		}
	for (unsigned fields = 0; fields < 32; fields++)
		vex_visit(&v, fields);
}
