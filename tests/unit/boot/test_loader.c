/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel loader: a made-up bzImage and ELF placed right, and every bad file refused. */
#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/loader.h"
#include "vmm/boot/loader_internal.h"

#define MIB	    (UINT64_C(1) << 20)
#define KERNEL_SIZE (64 * 1024u)

static char why[256];

static void shape_make(struct vm_shape *s, uint64_t mem_mib)
{
	unsigned vcpus[] = {1};
	uint64_t mem[] = {mem_mib * MIB};

	cr_assert_eq(shape_init(s, 1, vcpus, mem), 0);
}

static void file_make(char *path, const void *data, size_t size)
{
	strcpy(path, "/tmp/pangea-loader-XXXXXX");
	int fd = mkstemp(path);

	cr_assert(fd >= 0);
	cr_assert_eq(write(fd, data, size), (ssize_t)size);
	close(fd);
}

/* A bzImage header that the protocol allows, and a body of 0xab. */
static void bzimage_make(uint8_t *k)
{
	memset(k, 0xab, KERNEL_SIZE);
	memset(k, 0, 0x400);
	k[0x1f1] = 1;
	le16_put(k + 0x1fe, 0xaa55);
	k[0x201] = 0x66;
	memcpy(k + 0x202, "HdrS", 4);
	le16_put(k + 0x206, 0x20f);
	le32_put(k + 0x22c, 0x7fffffff);
	le32_put(k + 0x230, 0x200000);
	k[0x234] = 1;
	le16_put(k + 0x236, 1);
	le32_put(k + 0x238, 2047);
	le64_put(k + 0x258, 0x1000000);
	le32_put(k + 0x260, 0x800000);
}

static int place(const struct loader_image *image, uint8_t *ram, struct vcpu_state *bsp)
{
	return loader_place(image, &image->shape, ram, bsp);
}

static int open_bytes(const void *kernel, size_t size, size_t initrd_size, uint64_t mem_mib,
		      struct loader_image **image)
{
	char kernel_path[64], initrd_path[64] = "";
	struct vm_shape s;
	int err;

	shape_make(&s, mem_mib);
	file_make(kernel_path, kernel, size);
	if (initrd_size) {
		uint8_t *initrd = calloc(1, initrd_size);

		memset(initrd, 0xcd, 16);
		file_make(initrd_path, initrd, initrd_size);
		free(initrd);
	}
	why[0] = 0;
	err = loader_open(&s, kernel_path, initrd_path, "console=ttyS0", image, why, sizeof(why));
	unlink(kernel_path);
	if (initrd_size)
		unlink(initrd_path);
	cr_assert_eq(err != 0, why[0] != 0, "a sentence exactly if it fails");
	return err;
}

static uint8_t *ram_make(uint64_t size)
{
	uint8_t *ram = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	cr_assert(ram != MAP_FAILED);
	return ram;
}

Test(loader, bzimage_is_placed_for_the_64_bit_entry)
{
	static uint8_t k[KERNEL_SIZE];
	struct loader_image *image;
	struct vcpu_state bsp;
	uint8_t *ram = ram_make(64 * MIB);

	bzimage_make(k);
	cr_assert_eq(open_bytes(k, sizeof(k), 10000, 64, &image), 0, "%s", why);
	cr_assert_eq(place(image, ram, &bsp), 0);
	cr_assert_eq(bsp.rip, 0x1000200);
	cr_assert_eq(bsp.efer, 0x500);
	cr_assert_eq(memcmp(ram + 0x1000000, k + 1024, KERNEL_SIZE - 1024), 0);
	const uint8_t *bp = ram + bsp.gpr[RSI];
	cr_assert_eq(le16_get(bp + 0x1fe), 0xaa55);
	cr_assert_eq(memcmp(bp + 0x202, "HdrS", 4), 0);
	cr_assert_str_eq((char *)ram + le32_get(bp + 0x228), "console=ttyS0");
	cr_assert_eq(le32_get(bp + 0x21c), 10000);
	cr_assert_eq(ram[le32_get(bp + 0x218)], 0xcd);
	cr_assert_geq(le32_get(bp + 0x218), 0x1800000);
	cr_assert_eq(memcmp(ram + le64_get(bp + 0x70), "RSD PTR ", 8), 0);
	cr_assert_eq(bp[0x1e8], 4);
	cr_assert_eq(le32_get(bp + 0x2d0 + 3 * 20 + 16), 2,
		     "PCI's configuration space is reserved");
	cr_assert_eq(le64_get(bp + 0x2d0 + 3 * 20), LAYOUT_PCI_ECAM);
	const uint8_t *seed = ram + le64_get(bp + 0x250);
	cr_assert_eq(le64_get(seed), 0, "nothing follows");
	cr_assert_eq(le32_get(seed + 8), 9);
	cr_assert_eq(le32_get(seed + 12), 32);
	cr_assert_eq(ram[0xffff0], 0xb0, "a way to reset where a BIOS would be");
	cr_assert_eq(le64_get(bp + 0x2d0 + 40) + le64_get(bp + 0x2d0 + 48), 64 * MIB);
	loader_close(image);
	munmap(ram, 64 * MIB);
}

Test(loader, images_are_told_as_persistent_memory)
{
	static uint8_t kernel[KERNEL_SIZE];
	struct loader_image *image;
	struct vcpu_state bsp;
	struct vm_shape shape;
	const uint8_t *bp;
	uint8_t *ram;
	char path[64];

	shape_make(&shape, 64);
	cr_assert_eq(shape_image_add(&shape, 3 * MIB), 0);
	cr_assert_eq(shape_image_add(&shape, 1), 0);
	bzimage_make(kernel);
	file_make(path, kernel, sizeof(kernel));
	cr_assert_eq(loader_open(&shape, path, NULL, "", &image, why, sizeof(why)), 0, "%s", why);
	ram = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(ram, MAP_FAILED);
	cr_assert_eq(loader_place(image, &shape, ram, &bsp), 0);
	bp = ram + LAYOUT_BOOT_PARAMS;
	cr_assert_eq(bp[0x1e8], 6);
	for (unsigned i = 0; i < 2; i++) {
		const uint8_t *entry = bp + 0x2d0 + (size_t)(4 + i) * 20;

		cr_expect_eq(le64_get(entry), shape.image[i].start);
		cr_expect_eq(le64_get(entry + 8), shape.image[i].end - shape.image[i].start);
		cr_expect_eq(le32_get(entry + 16), 12);
	}
	loader_close(image);
	munmap(ram, 64 * MIB);
	unlink(path);
}

Test(loader, identity_map_reaches_the_entry)
{
	static uint8_t k[KERNEL_SIZE];
	struct loader_image *image;
	struct vcpu_state bsp;
	uint8_t *ram = ram_make(64 * MIB);

	bzimage_make(k);
	cr_assert_eq(open_bytes(k, sizeof(k), 0, 64, &image), 0, "%s", why);
	cr_assert_eq(place(image, ram, &bsp), 0);
	for (uint64_t va = 0; va < (UINT64_C(4) << 30); va += 0x12345000) {
		uint64_t pml4e = le64_get(ram + bsp.cr3 + (va >> 39) * 8);
		uint64_t pdpte = le64_get(ram + (pml4e & ~0xfffull) + (va >> 30 & 511) * 8);
		uint64_t pde = le64_get(ram + (pdpte & ~0xfffull) + (va >> 21 & 511) * 8);

		cr_assert_eq(pde, (va & ~0x1fffffull) | 0x83);
	}
	loader_close(image);
	munmap(ram, 64 * MIB);
}

static void elf_make(uint8_t *k)
{
	Elf64_Ehdr eh = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1},
			 .e_type = ET_EXEC,
			 .e_machine = EM_X86_64,
			 .e_entry = 0x1000100,
			 .e_phoff = 64,
			 .e_phentsize = sizeof(Elf64_Phdr),
			 .e_phnum = 1};
	Elf64_Phdr ph = {.p_type = PT_LOAD,
			 .p_offset = 0x1000,
			 .p_paddr = 0x1000000,
			 .p_filesz = 0x2000,
			 .p_memsz = 0x4000};

	memset(k, 0xab, KERNEL_SIZE);
	memcpy(k, &eh, sizeof(eh));
	memcpy(k + 64, &ph, sizeof(ph));
}

Test(loader, elf_is_placed_by_its_segments)
{
	static uint8_t k[KERNEL_SIZE];
	struct loader_image *image;
	struct vcpu_state bsp;
	uint8_t *ram = ram_make(64 * MIB);

	elf_make(k);
	cr_assert_eq(open_bytes(k, sizeof(k), 0, 64, &image), 0, "%s", why);
	cr_assert_eq(place(image, ram, &bsp), 0);
	cr_assert_eq(bsp.rip, 0x1000100);
	cr_assert_eq(memcmp(ram + 0x1000000, k + 0x1000, 0x2000), 0);
	cr_assert_eq(ram[0x1002000], 0);
	loader_close(image);
	munmap(ram, 64 * MIB);
}

Test(loader, what_is_no_kernel_is_refused)
{
	static uint8_t k[KERNEL_SIZE];
	struct loader_image *image;

	memset(k, 0x5a, sizeof(k));
	cr_assert_eq(open_bytes(k, sizeof(k), 0, 64, &image), -PANGEA_EKERNEL);
	cr_assert_eq(open_bytes("x", 1, 0, 64, &image), -PANGEA_EKERNEL);
	bzimage_make(k);
	le16_put(k + 0x206, 0x20b);
	cr_assert_eq(open_bytes(k, sizeof(k), 0, 64, &image), -PANGEA_EKERNEL);
	bzimage_make(k);
	le16_put(k + 0x236, 0);
	cr_assert_eq(open_bytes(k, sizeof(k), 0, 64, &image), -PANGEA_EKERNEL);
	bzimage_make(k);
	k[0x1f1] = 255;
	cr_assert_eq(open_bytes(k, sizeof(k), 0, 64, &image), -PANGEA_EKERNEL);
	bzimage_make(k);
	le64_put(k + 0x258, UINT64_MAX - 100);
	k[0x234] = 0;
	cr_assert_eq(open_bytes(k, sizeof(k), 0, 64, &image), -PANGEA_EKERNEL);
}

Test(loader, what_does_not_fit_is_refused)
{
	static uint8_t k[KERNEL_SIZE];
	struct loader_image *image;

	bzimage_make(k);
	cr_assert_eq(open_bytes(k, sizeof(k), 0, 8, &image), -PANGEA_EKERNEL);
	cr_assert(strstr(why, "too small"));
	cr_assert_eq(open_bytes(k, sizeof(k), 0, 16, &image), 0, "relocated: %s", why);
	loader_close(image);
	cr_assert_eq(open_bytes(k, sizeof(k), 50 * MIB, 64, &image), -PANGEA_EINITRD);
	cr_assert(strstr(why, "initrd"));
}

Test(loader, missing_files_and_long_command_lines_are_refused)
{
	static uint8_t k[KERNEL_SIZE];
	char path[64], *cmdline = calloc(1, CMDLINE_MAX + 1);
	struct loader_image *image;
	struct vm_shape s;

	shape_make(&s, 64);
	cr_assert_eq(loader_open(&s, "/nonexistent", "", "", &image, why, sizeof(why)), -ENOENT);
	cr_assert(strstr(why, "/nonexistent"));
	cr_assert_eq(loader_open(&s, "/tmp", "", "", &image, why, sizeof(why)), -EINVAL);
	bzimage_make(k);
	file_make(path, k, sizeof(k));
	memset(cmdline, 'a', CMDLINE_MAX);
	cr_assert_eq(loader_open(&s, path, "", cmdline, &image, why, sizeof(why)), -E2BIG);
	cr_assert_eq(loader_open(&s, path, "/nonexistent", "", &image, why, sizeof(why)), -ENOENT);
	unlink(path);
	free(cmdline);
}

/* Every byte of the headers set to other values, one at a time: refused or accepted, no crash. */
Test(loader, mangled_headers_never_crash)
{
	static uint8_t k[KERNEL_SIZE];
	struct loader_image *image;

	for (unsigned at = 0; at < 0x2a0; at++) {
		if (at < 64 + sizeof(Elf64_Phdr))
			elf_make(k);
		else
			bzimage_make(k);
		k[at] = (uint8_t)(k[at] + 1 + at % 255);
		if (open_bytes(k, sizeof(k), 0, 64, &image) == 0)
			loader_close(image);
	}
	for (size_t size = 1; size <= 0x400; size += 13) {
		elf_make(k);
		cr_assert_neq(open_bytes(k, size, 0, 64, &image), 0);
		bzimage_make(k);
		cr_assert_neq(open_bytes(k, size, 0, 64, &image), 0);
	}
}
