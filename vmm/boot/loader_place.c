/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a loaded image into guest memory and sets up the boot CPU for the 64-bit entry. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/boot/acpi.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/loader_internal.h"

/* Offsets in boot_params (Documentation/arch/x86/zero-page.rst and boot.rst). */
#define BP_ACPI_RSDP_ADDR    0x070
#define BP_EXT_RAMDISK_IMAGE 0x0c0
#define BP_EXT_RAMDISK_SIZE  0x0c4
#define BP_EXT_CMDLINE	     0x0c8
#define BP_E820_ENTRIES	     0x1e8
#define BP_LOADER_TYPE	     0x210
#define BP_RAMDISK_IMAGE     0x218
#define BP_RAMDISK_SIZE	     0x21c
#define BP_CMDLINE	     0x228
#define BP_SETUP_DATA	     0x250
#define BP_E820_TABLE	     0x2d0

/* struct setup_data with entropy for the kernel (since Linux 6.0): next, type, length, bytes. */
#define SETUP_RNG_SEED	 9
#define SETUP_DATA_BYTES 16
#define SEED_BYTES	 32

#define LOADER_UNKNOWN 0xff
#define E820_RAM       1
#define E820_RESERVED  2
#define E820_PRAM      12 /* persistent memory that ACPI does not describe (NVDIMM without NFIT) */
#define E820_ENTRY     20

#define PTE_TABLE      0x3ull  /* present, writable */
#define PTE_LARGE      0x83ull /* and 2 MiB */
#define IDENTITY_GIB   4
#define BOOT_PDPT      (LAYOUT_BOOT_PAGES + 0x1000u)
#define BOOT_PD	       (LAYOUT_BOOT_PAGES + 0x2000u)
#define ACPI_AREA_SIZE (LAYOUT_ACPI_END - LAYOUT_ACPI_START)

static void e820_add(uint8_t *bp, uint64_t start, uint64_t end, uint32_t type)
{
	uint8_t *entry = bp + BP_E820_TABLE + (size_t)bp[BP_E820_ENTRIES] * E820_ENTRY;

	if (start >= end)
		return;
	le64_put(entry, start);
	le64_put(entry + 8, end - start);
	le32_put(entry + 16, type);
	bp[BP_E820_ENTRIES]++;
}

static void e820_fill(uint8_t *bp, const struct vm_shape *shape)
{
	e820_add(bp, 0, LAYOUT_LOW_END, E820_RAM);
	e820_add(bp, LAYOUT_LOW_END, LAYOUT_HIGH_START, E820_RESERVED);
	e820_add(bp, LAYOUT_HIGH_START, loader_low_end(shape), E820_RAM);
	e820_add(bp, LAYOUT_PCI_ECAM, LAYOUT_PCI_ECAM + LAYOUT_PCI_ECAM_SIZE, E820_RESERVED);
	e820_add(bp, GPA_HOLE_END, shape->ram_end, E820_RAM);
	for (unsigned i = 0; i < shape->images; i++)
		e820_add(bp, shape->image[i].start, shape->image[i].end, E820_PRAM);
}

static void boot_params_place(const struct loader_image *image, uint8_t *ram)
{
	uint8_t bp[BOOT_PARAMS_SIZE] = {0};

	memcpy(bp + SETUP_HEADER_OFFSET, image->header, sizeof(image->header));
	bp[BP_LOADER_TYPE] = LOADER_UNKNOWN;
	le32_put(bp + BP_CMDLINE, LAYOUT_CMDLINE);
	le32_put(bp + BP_EXT_CMDLINE, 0);
	le32_put(bp + BP_RAMDISK_IMAGE, (uint32_t)image->initrd_gpa);
	le32_put(bp + BP_EXT_RAMDISK_IMAGE, (uint32_t)(image->initrd_gpa >> 32));
	le32_put(bp + BP_RAMDISK_SIZE, (uint32_t)image->initrd.size);
	le32_put(bp + BP_EXT_RAMDISK_SIZE, (uint32_t)(image->initrd.size >> 32));
	le64_put(bp + BP_ACPI_RSDP_ADDR, LAYOUT_ACPI_START);
	le64_put(bp + BP_SETUP_DATA, LAYOUT_SEED);
	e820_fill(bp, &image->shape);
	memcpy(ram + LAYOUT_BOOT_PARAMS, bp, sizeof(bp));
}

/* Identity map of the first 4 GiB in 2 MiB pages: kernel, initrd and boot_params lie in it. */
static void page_tables_place(uint8_t *ram)
{
	uint64_t pml4[512] = {BOOT_PDPT | PTE_TABLE}, pdpt[512] = {0}, pd[512];

	for (uint64_t gib = 0; gib < IDENTITY_GIB; gib++) {
		uint64_t pd_gpa = BOOT_PD + gib * PANGEA_PAGE_SIZE;

		pdpt[gib] = pd_gpa | PTE_TABLE;
		for (uint64_t i = 0; i < 512; i++)
			pd[i] = (gib << 30 | i << 21) | PTE_LARGE;
		memcpy(ram + pd_gpa, pd, sizeof(pd));
	}
	memcpy(ram + LAYOUT_BOOT_PAGES, pml4, sizeof(pml4));
	memcpy(ram + BOOT_PDPT, pdpt, sizeof(pdpt));
}

/* CS 0x10 and DS 0x18, flat, as the boot protocol wants them. */
static void gdt_place(uint8_t *ram)
{
	static const uint64_t gdt[4] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff};

	memcpy(ram + LAYOUT_BOOT_GDT, gdt, sizeof(gdt));
}

/* So that the guest's random numbers are good from its first moment on; the kernel wipes it. */
static int seed_place(uint8_t *ram)
{
	uint8_t data[SETUP_DATA_BYTES + SEED_BYTES] = {0};

	le32_put(data + 8, SETUP_RNG_SEED);
	le32_put(data + 12, SEED_BYTES);
	if (getrandom(data + SETUP_DATA_BYTES, SEED_BYTES, 0) != SEED_BYTES)
		return -EIO;
	memcpy(ram + LAYOUT_SEED, data, sizeof(data));
	explicit_bzero(data, sizeof(data));
	return 0;
}

static int acpi_place(const struct vm_shape *shape, uint8_t *ram)
{
	uint8_t *area = malloc(ACPI_AREA_SIZE);
	int err;

	if (!area)
		return -ENOMEM;
	err = acpi_build(shape, area, ACPI_AREA_SIZE, LAYOUT_ACPI_START, NULL);
	if (!err)
		memcpy(ram + LAYOUT_ACPI_START, area, ACPI_AREA_SIZE);
	free(area);
	return err;
}

/*
 * Where a BIOS would begin: Linux jumps there in real mode when it finds no other way to reset
 * (machine_real_restart). mov al, 0xfe; out 0x64, al; hlt; jmp to the hlt.
 */
static void reset_code_place(uint8_t *ram)
{
	static const uint8_t code[] = {
		0xb0, LAYOUT_RESET_KBD_VALUE, 0xe6, LAYOUT_RESET_KBD_PORT, 0xf4, 0xeb, 0xfd};

	memcpy(ram + LAYOUT_RESET_VECTOR, code, sizeof(code));
}

static void bsp_state_set(const struct loader_image *image, struct vcpu_state *bsp)
{
	const struct vcpu_segment code = {0, 0xffffffff, 0x10, 0xa9b};
	const struct vcpu_segment data = {0, 0xffffffff, 0x18, 0xc93};

	vcpu_state_reset(bsp);
	for (int i = 0; i < SEG_COUNT; i++)
		bsp->seg[i] = data;
	bsp->seg[SEG_CS] = code;
	bsp->gdtr = (struct vcpu_table){LAYOUT_BOOT_GDT, 4 * 8 - 1};
	bsp->cr0 = 0x80000031; /* PG, NE, ET, PE */
	bsp->cr3 = LAYOUT_BOOT_PAGES;
	bsp->cr4 = 0x20;   /* PAE */
	bsp->efer = 0x500; /* LME, LMA */
	bsp->rflags = 0x2;
	bsp->rip = image->entry;
	bsp->gpr[RSI] = LAYOUT_BOOT_PARAMS;
	bsp->gpr[RSP] = LAYOUT_BOOT_STACK_TOP;
}

int loader_place(const struct loader_image *image, const struct vm_shape *shape, uint8_t *ram,
		 struct vcpu_state *bsp)
{
	int err = acpi_place(shape, ram);

	if (!err)
		err = seed_place(ram);
	if (err)
		return err;
	for (unsigned i = 0; i < image->segments_count; i++) {
		const struct loader_segment *s = &image->segments[i];

		/* Guest memory is born zero: what lies between file_size and mem_size is. */
		memcpy(ram + s->gpa, image->kernel.data + s->file_offset, s->file_size);
	}
	if (image->initrd.size)
		memcpy(ram + image->initrd_gpa, image->initrd.data, image->initrd.size);
	memcpy(ram + LAYOUT_CMDLINE, image->cmdline, sizeof(image->cmdline));
	page_tables_place(ram);
	gdt_place(ram);
	reset_code_place(ram);
	boot_params_place(image, ram);
	bsp_state_set(image, bsp);
	return 0;
}
