/* SPDX-License-Identifier: Apache-2.0 */
/* Which instruction a decoded record will execute: by its handler's name, from the symbol table. */
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/softdecode/compare.h"

struct symbol {
	uintptr_t address;
	const char *name;
};

struct handlers {
	uint8_t *file;
	struct symbol *symbols; /* sorted by address */
	size_t count;
};

/* ---- The symbol table ------------------------------------------------------------------------ */

static uint8_t *file_read(const char *path, size_t *size)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = NULL;
	long end;

	if (!f)
		return NULL;
	if (fseek(f, 0, SEEK_END) == 0 && (end = ftell(f)) > 0) {
		data = malloc((size_t)end);
		rewind(f);
		*size = (size_t)end;
		if (data && fread(data, 1, *size, f) != *size) {
			free(data);
			data = NULL;
		}
	}
	fclose(f);
	return data;
}

static int symbol_order(const void *a, const void *b)
{
	uintptr_t left = ((const struct symbol *)a)->address;
	uintptr_t right = ((const struct symbol *)b)->address;

	return left < right ? -1 : left > right;
}

/* The program was linked by the same build: its own headers are believed. */
static bool symbols_take(struct handlers *h, const Elf64_Shdr *table, const Elf64_Shdr *strings,
			 uintptr_t bias)
{
	const Elf64_Sym *symbols = (const Elf64_Sym *)(h->file + table->sh_offset);
	size_t count = table->sh_size / sizeof(*symbols);

	h->symbols = calloc(count, sizeof(*h->symbols));
	if (!h->symbols)
		return false;
	for (size_t n = 0; n < count; n++)
		if (ELF64_ST_TYPE(symbols[n].st_info) == STT_FUNC && symbols[n].st_value)
			h->symbols[h->count++] = (struct symbol){
				bias + symbols[n].st_value,
				(const char *)h->file + strings->sh_offset + symbols[n].st_name};
	qsort(h->symbols, h->count, sizeof(*h->symbols), symbol_order);
	return true;
}

static int bias_find(struct dl_phdr_info *info, size_t size, void *out)
{
	(void)size;
	*(uintptr_t *)out = info->dlpi_addr;
	return 1; /* the program itself comes first */
}

struct handlers *handlers_load(void)
{
	struct handlers *h = calloc(1, sizeof(*h));
	uintptr_t bias = 0;
	size_t size = 0;
	bool found = false;

	if (!h)
		return NULL;
	dl_iterate_phdr(bias_find, &bias);
	h->file = file_read("/proc/self/exe", &size);
	if (h->file && size > sizeof(Elf64_Ehdr)) {
		const Elf64_Ehdr *e = (const Elf64_Ehdr *)h->file;
		const Elf64_Shdr *sections = (const Elf64_Shdr *)(h->file + e->e_shoff);

		for (unsigned n = 0; n < e->e_shnum && !found; n++)
			if (sections[n].sh_type == SHT_SYMTAB)
				found = symbols_take(h, &sections[n],
						     &sections[sections[n].sh_link], bias);
	}
	if (found)
		return h;
	handlers_free(h);
	return NULL;
}

void handlers_free(struct handlers *h)
{
	if (!h)
		return;
	free(h->symbols);
	free(h->file);
	free(h);
}

const char *handler_name(const struct handlers *h, insn_fn fn)
{
	size_t low = 0, high = h->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (h->symbols[middle].address < (uintptr_t)fn)
			low = middle + 1;
		else
			high = middle;
	}
	return low < h->count && h->symbols[low].address == (uintptr_t)fn ? h->symbols[low].name
									  : NULL;
}

/* ---- Names and mnemonics --------------------------------------------------------------------- */

/* Handlers of several instructions, or under names of their own: what begins so executes these. */
static const struct {
	const char *handler, *mnemonics;
} shared[] = {
	{"movs", "movsb movsw movsd movsq"},
	{"cmps", "cmpsb cmpsw cmpsd cmpsq"},
	{"stos", "stosb stosw stosd stosq"},
	{"lods", "lodsb lodsw lodsd lodsq"},
	{"scas", "scasb scasw scasd scasq"},
	{"op_string_io", "insb insw insd outsb outsw outsd"},
	{"movsx_m32_", "movsxd"},
	{"movsx_r32_", "movsxd"},
	{"movsx_m16_16", "movsx movsxd"},
	{"movsx_r16_16", "movsx movsxd"},
	{"convert_acc", "cbw cwde cdqe"},
	{"convert_pair", "cwd cdq cqo"},
	{"pusha", "pusha pushad"},
	{"popa", "popa popad"},
	{"op_pushf", "pushf pushfd pushfq"},
	{"op_popf", "popf popfd popfq"},
	{"op_iret", "iret iretd iretq"},
	{"op_retf", "ret"},
	{"op_wbinvd", "wbinvd invd"},
	{"op_load_far_pointer", "les lds lss lfs lgs"},
	{"pause_insn", "pause"},
	{"nop", "nop prefetch prefetchw prefetchwt1 prefetchnta prefetcht0 prefetcht1 prefetcht2 "
		"prefetchit0 prefetchit1"},
	{"bcd_daa_das", "daa das"},
	{"bcd_aaa_aas", "aaa aas"},
	{"bcd_aam", "aam"},
	{"bcd_aad", "aad"},
	{"x87_wait", "fwait"},
	{"x87_obsolete", "feni8087_nop fdisi8087_nop fsetpm287_nop"},
	{"fp_fence", "lfence mfence sfence"},
	{"sse_mova_load", "movaps movapd movdqa"},
	{"sse_mova_store", "movaps movapd movdqa movntps movntpd movntdq"},
	{"sse_movu_load", "movups movupd movdqu"},
	{"sse_movu_store", "movups movupd movdqu"},
	{"sse_movlp_load", "movlps movlpd"},
	{"sse_movq_store", "movq movlps movlpd"},
	{"sse_movhp_", "movhps movhpd"},
	{"sse_andp", "andps andpd"},
	{"sse_andnp", "andnps andnpd"},
	{"sse_orp", "orps orpd"},
	{"sse_xorp", "xorps xorpd"},
	{"mmx_movq_store", "movq movntq"},
	{"op_xsave", "xsave xsave64"},
	{"op_xsaveopt", "xsaveopt xsaveopt64"},
	{"op_xrstor", "xrstor xrstor64"},
	{"avx_vmova_load", "vmovaps vmovapd vmovdqa"},
	{"avx_vmova_store", "vmovaps vmovapd vmovdqa vmovntps vmovntpd vmovntdq"},
	{"avx_vmovu_load", "vmovups vmovupd vmovdqu vlddqu"},
	{"avx_vmovu_store", "vmovups vmovupd vmovdqu"},
	{"avx_vmovlp_", "vmovlps vmovlpd"},
	{"avx_vmovhp_", "vmovhps vmovhpd"},
	{"avx_vmovq_", "vmovq"},
	{"avx_vandp", "vandps vandpd"},
	{"avx_vandnp", "vandnps vandnpd"},
	{"avx_vorp", "vorps vorpd"},
	{"avx_vxorp", "vxorps vxorpd"},
	{"avx_vmova_load", "vmovntdqa"},
	{"avx_vbroadcast32", "vbroadcastss vpbroadcastd"},
	{"avx_vbroadcast64", "vbroadcastsd vpbroadcastq"},
	{"avx_vbroadcast128", "vbroadcastf128 vbroadcasti128"},
	{"avx_vperm32", "vpermd vpermps"},
	{"avx_vperm64", "vpermq vpermpd"},
	{"avx_vperm2", "vperm2f128 vperm2i128"},
	{"avx_vinsert", "vinsertf128 vinserti128"},
	{"avx_vextract", "vextractf128 vextracti128"},
	{"avx_vmaskmov32", "vmaskmovps vpmaskmovd"},
	{"avx_vmaskmov64", "vmaskmovpd vpmaskmovq"},
	{"avx_vgather_dd", "vgatherdps vpgatherdd"},
	{"avx_vgather_dq", "vgatherdpd vpgatherdq"},
	{"avx_vgather_qd", "vgatherqps vpgatherqd"},
	{"avx_vgather_qq", "vgatherqpd vpgatherqq"},
};

static bool word_listed(const char *list, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at += length)
		if ((at == list || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
			return true;
	return false;
}

/* name is word; behind it may come a size, and what goes on with an underscore. */
static bool word_begins(const char *name, const char *word)
{
	size_t length = strlen(word);

	if (strncmp(name, word, length) != 0)
		return false;
	for (name += length; *name >= '0' && *name <= '9';)
		name++;
	return *name == '\0' || *name == '_';
}

static const char *prefix_skip(const char *name)
{
	static const char *const prefixes[] = {"sse_", "avx_", "mmx_",	"x87_",
					       "fp_",  "op_",  "flag_", "soft_"};

	for (unsigned n = 0; n < sizeof(prefixes) / sizeof(prefixes[0]); n++)
		if (strncmp(name, prefixes[n], strlen(prefixes[n])) == 0)
			return name + strlen(prefixes[n]);
	return name;
}

/* Jcc, CMOVcc, SETcc: the condition is in the name or, where it is not, in the opcode. */
static bool condition_matches(const char *name, const char *mnemonic, const struct insn *ours)
{
	static const char *const conditions[16] = {"o", "no", "b", "nb", "z", "nz", "be", "nbe",
						   "s", "ns", "p", "np", "l", "nl", "le", "nle"};
	static const struct {
		const char *handler, *mnemonic;
	} families[] = {{"jcc", "j"}, {"cmov", "cmov"}, {"set", "set"}};

	for (unsigned n = 0; n < sizeof(families) / sizeof(families[0]); n++) {
		size_t length = strlen(families[n].handler);
		unsigned condition = ours->opcode & 15;

		if (strncmp(name, families[n].handler, length) != 0)
			continue;
		if (name[length] >= '0' && name[length] <= '9')
			condition = (unsigned)atoi(name + length);
		length = strlen(families[n].mnemonic);
		return condition < 16 && strncmp(mnemonic, families[n].mnemonic, length) == 0 &&
		       strcmp(mnemonic + length, conditions[condition]) == 0;
	}
	return false;
}

/* Handlers that tell their instructions apart by the opcode. */
static bool opcode_matches(const char *name, const ZydisDecodedInstruction *z,
			   const struct insn *ours, bool *known)
{
	*known = true;
	if (strcmp(name, "bit_scan") == 0)
		return z->mnemonic == (ours->opcode & 1 ? ZYDIS_MNEMONIC_BSR : ZYDIS_MNEMONIC_BSF);
	if (strncmp(name, "shift_double", 12) == 0)
		return z->mnemonic ==
		       (ours->opcode & 8 ? ZYDIS_MNEMONIC_SHRD : ZYDIS_MNEMONIC_SHLD);
	if (strcmp(name, "loop") == 0)
		return z->mnemonic == (ours->opcode == 0xe0   ? ZYDIS_MNEMONIC_LOOPNE
				       : ours->opcode == 0xe1 ? ZYDIS_MNEMONIC_LOOPE
				       : ours->opcode == 0xe2 ? ZYDIS_MNEMONIC_LOOP
				       : ours->adsize == 2    ? ZYDIS_MNEMONIC_JCXZ
				       : ours->adsize == 4    ? ZYDIS_MNEMONIC_JECXZ
							      : ZYDIS_MNEMONIC_JRCXZ);
	/* The host executes the opcode itself: it is in imm. */
	if (strcmp(name, "x87_register") == 0 || strcmp(name, "x87_load") == 0 ||
	    strcmp(name, "x87_store") == 0)
		return z->opcode >= 0xd8 && z->opcode <= 0xdf &&
		       ours->imm == ((z->opcode & 7u) << 8 | (z->raw.modrm.mod << 6) |
				     (z->raw.modrm.reg << 3) | z->raw.modrm.rm);
	*known = false;
	return false;
}

/* A handler that ends in its operand's size must be given that size. */
static bool size_matches(const char *name, const ZydisDecodedInstruction *z)
{
	size_t end = strlen(name), begin;
	int size;

	if (end > 5 && strcmp(name + end - 5, "_slow") == 0)
		end -= 5;
	for (begin = end; begin && name[begin - 1] >= '0' && name[begin - 1] <= '9';)
		begin--;
	size = atoi(name + begin);
	if (strncmp(name, "jcc", 3) == 0 || (size != 8 && size != 16 && size != 32 && size != 64))
		return true;
	/* SSE takes general registers of 32 bits also where the operand size is 16. */
	if (strncmp(name, "sse_", 4) == 0)
		return (size == 64) == (z->operand_width == 64);
	return z->operand_width == size;
}

static bool far_matches(const char *name, const ZydisDecodedInstruction *z)
{
	bool far = strstr(name, "_far_") || strcmp(name, "op_retf") == 0;

	if (strcmp(name, "op_load_far_pointer") == 0)
		return true;
	return far ==
	       (z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR &&
		z->meta.category != ZYDIS_CATEGORY_INTERRUPT &&
		z->mnemonic != ZYDIS_MNEMONIC_IRET && z->mnemonic != ZYDIS_MNEMONIC_IRETD &&
		z->mnemonic != ZYDIS_MNEMONIC_IRETQ && z->meta.category != ZYDIS_CATEGORY_SYSCALL &&
		z->meta.category != ZYDIS_CATEGORY_SYSRET);
}

bool handler_matches(const char *name, const ZydisDecodedInstruction *z, const struct insn *ours)
{
	const char *mnemonic = ZydisMnemonicGetString(z->mnemonic);
	bool known, matches;

	if (!size_matches(name, z) || !far_matches(name, z))
		return false;
	matches = opcode_matches(name, z, ours, &known);
	if (known)
		return matches;
	if (condition_matches(name, mnemonic, ours))
		return true;
	if (word_begins(prefix_skip(name), mnemonic))
		return true;
	for (unsigned n = 0; n < sizeof(shared) / sizeof(shared[0]); n++)
		if (strncmp(name, shared[n].handler, strlen(shared[n].handler)) == 0 &&
		    word_listed(shared[n].mnemonics, mnemonic))
			return true;
	return false;
}
