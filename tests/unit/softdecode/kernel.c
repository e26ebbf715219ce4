/* SPDX-License-Identifier: Apache-2.0 */
/* Takes a kernel apart: bzImage header, compressed payload, the executable sections of the ELF inside. */
#include "tests/unit/softdecode/kernel.h"

#include <elf.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* No kernel is larger; what a header claims is checked against it. */
#define KERNEL_MAX  (UINT64_C(512) << 20)
#define SETUP_SECTS 0x1f1
#define HDR_MAGIC   0x202
#define PAYLOAD	    0x248 /* offset from the protected-mode part, then length */

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- What it is compressed by ---------------------------------------------------------------- */

static const struct packer {
	uint32_t magic;
	const char *program; /* of the package of that name, but for xz-utils */
} packers[] = {{0x184c2102, "lz4"}, {0xfd2fb528, "zstd"}, {0x587a37fd, "xz"}};

static const char *packer_of(const uint8_t *payload)
{
	for (size_t n = 0; n < sizeof(packers) / sizeof(packers[0]); n++)
		if (get32(payload) == packers[n].magic)
			return packers[n].program;
	return NULL;
}

/* What the program makes of a file: exactly what there is room for. */
static bool program_read(const char *program, const char *path, uint8_t *out, uint64_t size)
{
	char command[128];
	uint64_t got;
	FILE *f;

	snprintf(command, sizeof(command), "%s -dc <%s 2>/dev/null", program, path);
	f = popen(command, "r");
	if (!f)
		return false;
	got = fread(out, 1, size, f);
	return pclose(f) == 0 && got == size;
}

static bool payload_write(const char *path, int fd, const uint8_t *payload, uint64_t size)
{
	FILE *f = fdopen(fd, "wb");
	bool whole = f && fwrite(payload, 1, size, f) == size;

	if (f)
		whole = fclose(f) == 0 && whole;
	else
		close(fd);
	if (!whole)
		unlink(path);
	return whole;
}

/* The payload's last four bytes are the size of what it holds. */
static const char *payload_unpack(struct kernel *k, const uint8_t *payload, uint64_t size)
{
	char path[] = "/tmp/pangea-kernel.XXXXXX";
	const char *program = size < 16 ? NULL : packer_of(payload);
	bool whole;
	int fd;

	if (!program)
		return "the kernel is compressed by none of LZ4, zstd and xz: give an ELF in "
		       "SOFT_ZYDIS_KERNEL";
	k->elf_size = get32(payload + size - 4);
	k->elf = k->elf_size <= KERNEL_MAX ? malloc(k->elf_size) : NULL;
	if (!k->elf)
		return "the kernel's payload is too large";
	fd = mkstemp(path);
	if (fd < 0 || !payload_write(path, fd, payload, size - 4))
		return "the kernel's payload cannot be written to /tmp";
	whole = program_read(program, path, k->elf, k->elf_size);
	unlink(path);
	return whole ? NULL
		     : "the kernel's payload is damaged, or its program (lz4, zstd, xz) is missing";
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
