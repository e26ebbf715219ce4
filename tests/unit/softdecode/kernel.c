/* SPDX-License-Identifier: Apache-2.0 */
/* Takes a kernel apart: bzImage header, LZ4 payload, the executable sections of the ELF inside. */
#include "tests/unit/softdecode/kernel.h"

#include <elf.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* No kernel is larger; what a header claims is checked against it. */
#define KERNEL_MAX  (UINT64_C(512) << 20)
#define LZ4_LEGACY  0x184c2102u
#define SETUP_SECTS 0x1f1
#define HDR_MAGIC   0x202
#define PAYLOAD	    0x248 /* offset from the protected-mode part, then length */

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- LZ4 (legacy frames, as the kernel's build writes them) ---------------------------------- */

struct lz4 {
	const uint8_t *in, *in_end;
	uint8_t *out, *out_begin, *out_end;
};

/* A length of 15 goes on in bytes, the last of which is not 255. */
static bool lz4_length(struct lz4 *z, uint64_t *length)
{
	uint8_t byte = 255;

	if (*length != 15)
		return true;
	while (byte == 255) {
		if (z->in == z->in_end)
			return false;
		byte = *z->in++;
		*length += byte;
	}
	return true;
}

static bool lz4_match(struct lz4 *z, uint64_t length)
{
	uint64_t offset;

	if (z->in_end - z->in < 2)
		return false;
	offset = (uint64_t)z->in[0] | (uint64_t)z->in[1] << 8;
	z->in += 2;
	if (!lz4_length(z, &length) || offset == 0)
		return false;
	length += 4;
	if ((uint64_t)(z->out - z->out_begin) < offset || (uint64_t)(z->out_end - z->out) < length)
		return false;
	/* Byte by byte: a match may overlap what it makes. */
	for (; length; length--, z->out++)
		*z->out = z->out[-(int64_t)offset];
	return true;
}

/* Sequences of literals and a match; the last has no match. */
static bool lz4_block(struct lz4 *z)
{
	while (z->in < z->in_end) {
		uint8_t token = *z->in++;
		uint64_t literals = token >> 4;

		if (!lz4_length(z, &literals) || literals > (uint64_t)(z->in_end - z->in) ||
		    literals > (uint64_t)(z->out_end - z->out))
			return false;
		memcpy(z->out, z->in, literals);
		z->in += literals;
		z->out += literals;
		if (z->in == z->in_end)
			return true;
		if (!lz4_match(z, token & 15))
			return false;
	}
	return true;
}

/* The payload's last four bytes are the size of what it holds. */
static const char *payload_unpack(struct kernel *k, const uint8_t *payload, uint64_t size)
{
	const uint8_t *at = payload + 4, *end = payload + size - 4;
	struct lz4 z;

	if (size < 16 || get32(payload) != LZ4_LEGACY)
		return "the kernel is not compressed by LZ4: give an ELF in SOFT_ZYDIS_KERNEL";
	k->elf_size = get32(end);
	k->elf = k->elf_size <= KERNEL_MAX ? malloc(k->elf_size) : NULL;
	if (!k->elf)
		return "the kernel's payload is too large";
	z = (struct lz4){.out = k->elf, .out_begin = k->elf, .out_end = k->elf + k->elf_size};
	while (end - at >= 4) {
		uint32_t block = get32(at);

		at += 4;
		if (block > (uint64_t)(end - at))
			return "the kernel's payload is damaged";
		z.in = at;
		z.in_end = at += block;
		if (!lz4_block(&z))
			return "the kernel's payload is damaged";
	}
	return z.out == z.out_end ? NULL : "the kernel's payload is cut off";
}

/* ---- Files ----------------------------------------------------------------------------------- */

static uint8_t *file_read(const char *path, uint64_t *size)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = NULL;
	long end;

	if (!f)
		return NULL;
	if (fseek(f, 0, SEEK_END) == 0 && (end = ftell(f)) > 0 && (uint64_t)end <= KERNEL_MAX) {
		*size = (uint64_t)end;
		data = malloc(*size);
		rewind(f);
		if (data && fread(data, 1, *size, f) != *size) {
			free(data);
			data = NULL;
		}
	}
	fclose(f);
	return data;
}

/* Sections that are executable and have bytes; each checked to lie in the file. */
static const char *sections_take(struct kernel *k)
{
	const Elf64_Ehdr *e = (const Elf64_Ehdr *)k->elf;
	const Elf64_Shdr *s;

	if (k->elf_size < sizeof(*e) || memcmp(k->elf, ELFMAG, SELFMAG) != 0 ||
	    e->e_ident[EI_CLASS] != ELFCLASS64 || e->e_shoff > k->elf_size ||
	    e->e_shnum * sizeof(*s) > k->elf_size - e->e_shoff || e->e_shstrndx >= e->e_shnum)
		return "the kernel is no 64-bit ELF with sections";
	s = (const Elf64_Shdr *)(k->elf + e->e_shoff);
	for (unsigned n = 0; n < e->e_shnum && k->sections < KERNEL_SECTIONS_MAX; n++) {
		uint64_t name = s[e->e_shstrndx].sh_offset + s[n].sh_name;

		if (s[n].sh_type != SHT_PROGBITS || !(s[n].sh_flags & SHF_EXECINSTR))
			continue;
		if (s[n].sh_offset > k->elf_size || s[n].sh_size > k->elf_size - s[n].sh_offset ||
		    name >= k->elf_size || !memchr(k->elf + name, 0, k->elf_size - name))
			return "the kernel's sections are damaged";
		k->section[k->sections++] = (struct kernel_section){
			(const char *)k->elf + name, k->elf + s[n].sh_offset, s[n].sh_size};
	}
	return k->sections ? NULL : "the kernel has no executable section";
}

static const char *image_unpack(struct kernel *k, uint64_t size)
{
	uint64_t payload, length;

	if (size < 0x1000 || get32(k->file + HDR_MAGIC) != 0x53726448) { /* HdrS */
		k->elf = k->file;
		k->elf_size = size;
		return NULL;
	}
	payload = (k->file[SETUP_SECTS] + UINT64_C(1)) * 512 + get32(k->file + PAYLOAD);
	length = get32(k->file + PAYLOAD + 4);
	if (payload > size || length > size - payload)
		return "the kernel's header is damaged";
	return payload_unpack(k, k->file + payload, length);
}

const char *kernel_open(struct kernel *k, const char *path)
{
	const char *why;
	uint64_t size = 0;

	memset(k, 0, sizeof(*k));
	k->file = file_read(path, &size);
	if (!k->file)
		return "there is no kernel: deploy/fetch brings it";
	why = image_unpack(k, size);
	if (!why)
		why = sections_take(k);
	if (why)
		kernel_close(k);
	return why;
}

void kernel_close(struct kernel *k)
{
	if (k->elf != k->file)
		free(k->elf);
	free(k->file);
	memset(k, 0, sizeof(*k));
}
