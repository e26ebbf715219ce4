/* SPDX-License-Identifier: Apache-2.0 */
/* The ELF note by which a small guest program asks for the debug-exit port. Trusts no field. */
#include <elf.h>
#include <string.h>

#include "vmm/boot/loader_internal.h"

/* Elf64_Nhdr, then the owner's name and the description, each padded to 4 bytes (gABI). */
#define NOTE_OWNER	"Pangea"
#define NOTE_DEBUG_EXIT 1u

static uint64_t padded(uint64_t size)
{
	return (size + 3) & ~UINT64_C(3);
}

static bool notes_have(const uint8_t *p, uint64_t left)
{
	while (left >= sizeof(Elf64_Nhdr)) {
		uint64_t name = le32_get(p), desc = le32_get(p + 4);
		uint64_t size = sizeof(Elf64_Nhdr) + padded(name) + padded(desc);

		if (size > left)
			return false;
		if (le32_get(p + 8) == NOTE_DEBUG_EXIT && name == sizeof(NOTE_OWNER) &&
		    memcmp(p + sizeof(Elf64_Nhdr), NOTE_OWNER, sizeof(NOTE_OWNER)) == 0)
			return true;
		p += size;
		left -= size;
	}
	return false;
}

bool loader_debug_exit(const struct loader_image *image)
{
	const struct loader_file *k = &image->kernel;
	Elf64_Ehdr eh;
	Elf64_Phdr ph;

	if (!loader_is_elf(k)) /* an ELF file was checked by loader_open */
		return false;
	memcpy(&eh, k->data, sizeof(eh));
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		memcpy(&ph, k->data + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type != PT_NOTE || ph.p_offset > k->size ||
		    ph.p_filesz > k->size - ph.p_offset)
			continue;
		if (notes_have(k->data + ph.p_offset, ph.p_filesz))
			return true;
	}
	return false;
}
