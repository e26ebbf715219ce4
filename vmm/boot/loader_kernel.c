/* SPDX-License-Identifier: Apache-2.0 */
/* Parses a kernel: bzImage (boot protocol 2.12 or later) or ELF vmlinux. Trusts no field. */
#include "vmm/boot/loader_internal.h"

#include <elf.h>
#include <string.h>

#include "base/error.h"

/* Offsets in a bzImage's setup header (Documentation/arch/x86/boot.rst). */
#define HDR_SETUP_SECTS	     0x1f1
#define HDR_BOOT_FLAG	     0x1fe
#define HDR_JUMP_LENGTH	     0x201
#define HDR_MAGIC	     0x202
#define HDR_VERSION	     0x206
#define HDR_INITRD_ADDR_MAX  0x22c
#define HDR_KERNEL_ALIGNMENT 0x230
#define HDR_RELOCATABLE	     0x234
#define HDR_XLOADFLAGS	     0x236
#define HDR_CMDLINE_SIZE     0x238
#define HDR_PREF_ADDRESS     0x258
#define HDR_INIT_SIZE	     0x260
#define HDR_MIN_FILE	     0x400

#define BOOT_FLAG	0xaa55
#define VERSION_MIN	0x20c
#define XLF_KERNEL_64	0x1
#define ENTRY_64_OFFSET 0x200
#define SECTOR		512u
#define INITRD_ADDR_MAX 0x7fffffffull
#define VMLINUX_MIN_GPA 0x100000ull

static bool memory_fits(const struct loader_image *image, uint64_t start, uint64_t size)
{
	uint64_t low_end = loader_low_end(&image->shape);

	return start >= VMLINUX_MIN_GPA && size <= low_end && start <= low_end - size;
}

static int memory_check(const struct loader_image *image, uint64_t start, uint64_t size, char *why,
			size_t why_size)
{
	if (memory_fits(image, start, size))
		return 0;
	return loader_fail(why, why_size, -PANGEA_EKERNEL,
			   "the guest's memory is too small for the kernel: it needs %llu MiB "
			   "below 3 GiB, the guest has %llu MiB",
			   (unsigned long long)(start + size + (1u << 20) - 1) >> 20,
			   (unsigned long long)loader_low_end(&image->shape) >> 20);
}

static int bzimage_header_check(const struct loader_file *k, char *why, size_t why_size)
{
	if (k->size < HDR_MIN_FILE || le16_get(k->data + HDR_BOOT_FLAG) != BOOT_FLAG ||
	    memcmp(k->data + HDR_MAGIC, "HdrS", 4) != 0)
		return loader_fail(why, why_size, -PANGEA_EKERNEL,
				   "not a Linux kernel: neither a bzImage nor an ELF file");
	if (le16_get(k->data + HDR_VERSION) < VERSION_MIN ||
	    !(le16_get(k->data + HDR_XLOADFLAGS) & XLF_KERNEL_64))
		return loader_fail(why, why_size, -PANGEA_EKERNEL,
				   "the kernel has no 64-bit entry point (boot protocol %x.%02x)",
				   k->data[HDR_VERSION + 1], k->data[HDR_VERSION]);
	return 0;
}

/* Where the kernel goes: its preferred address, or, if it is relocatable, the lowest it allows. */
static int bzimage_place(struct loader_image *image, uint64_t *gpa, char *why, size_t why_size)
{
	const uint8_t *h = image->kernel.data;
	uint64_t preferred = le64_get(h + HDR_PREF_ADDRESS);
	uint64_t alignment = le32_get(h + HDR_KERNEL_ALIGNMENT);
	uint64_t init_size = le32_get(h + HDR_INIT_SIZE);

	*gpa = preferred;
	if (!memory_fits(image, preferred, init_size) && h[HDR_RELOCATABLE] &&
	    alignment >= PANGEA_PAGE_SIZE && (alignment & (alignment - 1)) == 0)
		*gpa = (VMLINUX_MIN_GPA + alignment - 1) & ~(alignment - 1);
	image->kernel_end = *gpa + init_size;
	return memory_check(image, *gpa, init_size, why, why_size);
}

int loader_parse_bzimage(struct loader_image *image, char *why, size_t why_size)
{
	const struct loader_file *k = &image->kernel;
	uint64_t gpa, offset, header_end;
	int err = bzimage_header_check(k, why, why_size);

	if (err)
		return err;
	offset = ((k->data[HDR_SETUP_SECTS] ? k->data[HDR_SETUP_SECTS] : 4) + 1u) * SECTOR;
	if (offset >= k->size || k->size - offset > le32_get(k->data + HDR_INIT_SIZE))
		return loader_fail(why, why_size, -PANGEA_EKERNEL,
				   "the kernel file is truncated or its header is wrong");
	if (strlen(image->cmdline) > le32_get(k->data + HDR_CMDLINE_SIZE))
		return loader_fail(why, why_size, -E2BIG,
				   "the command line is longer than the kernel takes (%u bytes)",
				   le32_get(k->data + HDR_CMDLINE_SIZE));
	err = bzimage_place(image, &gpa, why, why_size);
	if (err)
		return err;
	image->segments_count = 1;
	image->segments[0] =
		(struct loader_segment){gpa, offset, k->size - offset, k->size - offset};
	image->entry = gpa + ENTRY_64_OFFSET;
	image->initrd_end_max = (uint64_t)le32_get(k->data + HDR_INITRD_ADDR_MAX) + 1;
	header_end = HDR_MAGIC + k->data[HDR_JUMP_LENGTH];
	if (header_end > SETUP_HEADER_END)
		header_end = SETUP_HEADER_END;
	memcpy(image->header, k->data + SETUP_HEADER_OFFSET, header_end - SETUP_HEADER_OFFSET);
	return 0;
}

bool loader_is_elf(const struct loader_file *kernel)
{
	return kernel->size >= sizeof(Elf64_Ehdr) && memcmp(kernel->data, ELFMAG, SELFMAG) == 0;
}

static int elf_header_check(const struct loader_file *k, const Elf64_Ehdr *eh, char *why,
			    size_t why_size)
{
	if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_ident[EI_DATA] != ELFDATA2LSB ||
	    eh->e_machine != EM_X86_64 || eh->e_phentsize != sizeof(Elf64_Phdr) ||
	    eh->e_phnum == 0 || eh->e_phnum > LOADER_SEGMENTS_MAX)
		return loader_fail(why, why_size, -PANGEA_EKERNEL,
				   "the ELF file is not an x86-64 kernel");
	if (eh->e_phoff > k->size || k->size - eh->e_phoff < eh->e_phnum * sizeof(Elf64_Phdr))
		return loader_fail(why, why_size, -PANGEA_EKERNEL, "the ELF file is truncated");
	return 0;
}

static int elf_segment_add(struct loader_image *image, const Elf64_Phdr *ph, char *why,
			   size_t why_size)
{
	if (ph->p_offset > image->kernel.size || ph->p_filesz > image->kernel.size - ph->p_offset ||
	    ph->p_filesz > ph->p_memsz)
		return loader_fail(why, why_size, -PANGEA_EKERNEL, "the ELF file is truncated");
	int err = memory_check(image, ph->p_paddr, ph->p_memsz, why, why_size);
	if (err)
		return err;
	image->segments[image->segments_count++] =
		(struct loader_segment){ph->p_paddr, ph->p_offset, ph->p_filesz, ph->p_memsz};
	if (ph->p_paddr + ph->p_memsz > image->kernel_end)
		image->kernel_end = ph->p_paddr + ph->p_memsz;
	return 0;
}

/* The fields of a setup header that the kernel itself reads, made up: an ELF file has none. */
static void elf_header_make(struct loader_image *image)
{
	le16_put(image->header + (HDR_BOOT_FLAG - SETUP_HEADER_OFFSET), BOOT_FLAG);
	memcpy(image->header + (HDR_MAGIC - SETUP_HEADER_OFFSET), "HdrS", 4);
	le16_put(image->header + (HDR_VERSION - SETUP_HEADER_OFFSET), VERSION_MIN);
	le32_put(image->header + (HDR_KERNEL_ALIGNMENT - SETUP_HEADER_OFFSET), 0x1000000);
}

int loader_parse_elf(struct loader_image *image, char *why, size_t why_size)
{
	const struct loader_file *k = &image->kernel;
	bool entry_inside = false;
	Elf64_Ehdr eh;

	memcpy(&eh, k->data, sizeof(eh));
	int err = elf_header_check(k, &eh, why, why_size);
	for (unsigned i = 0; !err && i < eh.e_phnum; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, k->data + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type != PT_LOAD || ph.p_memsz == 0)
			continue;
		err = elf_segment_add(image, &ph, why, why_size);
		entry_inside |= eh.e_entry >= ph.p_paddr && eh.e_entry - ph.p_paddr < ph.p_filesz;
	}
	if (err)
		return err;
	if (!entry_inside)
		return loader_fail(why, why_size, -PANGEA_EKERNEL,
				   "the ELF file's entry point lies in none of its segments");
	image->entry = eh.e_entry;
	image->initrd_end_max = INITRD_ADDR_MAX + 1;
	elf_header_make(image);
	return 0;
}
