/* SPDX-License-Identifier: Apache-2.0 */
/* The symbols of a guest's Linux: what lies on a page of its kernel image, and whose code is where.
 */
#ifndef CLI_SYMBOLS_H
#define CLI_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/*
 * Linux on x86-64 maps its image at one virtual address as a whole, so one distance leads from all of its
 * symbols to guest physical addresses. Nothing else is known from outside: pages of the heap, per-CPU
 * areas, stacks and user memory have no names here. Neither have the parts of the image that Linux
 * frees after the boot and uses for other things.
 *
 * One thread. The file is not trusted: it, its lines and its symbols have limits, and lines that are no
 * symbols are left out, so that the log of a console will do.
 */
struct symbols;

/* A kernel with all its modules has some 20 MB and 300,000 lines of them. */
#define SYMBOLS_FILE_MAX  (64u << 20)
#define SYMBOLS_COUNT_MAX (1u << 21)
/* KSYM_NAME_LEN; longer names are left out. */
#define SYMBOLS_NAME_MAX 512u
#define SYMBOLS_WHY_MAX	 320u

/* Where Linux maps its image without KASLR, and where _text lies in it and, without KASLR, in guest
 * physical memory: the loader puts a kernel at its preferred address (vmm/boot/loader_kernel.c) or
 * below, and the kernel itself moves to that address. */
#define SYMBOLS_MAP_START UINT64_C(0xffffffff80000000)
#define SYMBOLS_TEXT_GPA  UINT64_C(0x1000000)
/* For symbols_read: as without KASLR. */
#define SYMBOLS_BASE_UNKNOWN UINT64_MAX

struct symbol {
	const char *name;
	uint64_t offset; /* of the page, or the address asked for, in the symbol; else 0 */
	uint64_t bytes;	 /* of it on the page, with what lies before the next one */
	char type;	 /* as nm(1) and the file have it */
};

/*
 * Reads a System.map or a copy of /proc/kallsyms. text_gpa: where _text lies in guest physical memory. 0;
 * -EINVAL, -EFBIG, -EIO, -ENOMEM and a sentence.
 */
int symbols_read(FILE *in, uint64_t text_gpa, struct symbols **out, char why[SYMBOLS_WHY_MAX]);
void symbols_free(struct symbols *symbols);

/* How many symbols lie on a page of guest memory, wholly or in part, and the n-th of them by
 * address. */
size_t symbols_page_count(const struct symbols *symbols, uint64_t gfn);
struct symbol symbols_page_get(const struct symbols *symbols, uint64_t gfn, size_t n);
/* Fills in the first for a table, of each address one: those that begin on the page, the largest
 * first, then those that reach into it; how many.
 * *more: how many addresses with symbols there are beside these. */
size_t symbols_page_first(const struct symbols *symbols, uint64_t gfn, struct symbol *list,
			  size_t max, size_t *more);
/* The function at a virtual address of the kernel or a module; name is NULL if there is none. */
struct symbol symbols_function(const struct symbols *symbols, uint64_t address);

#endif
