/* SPDX-License-Identifier: Apache-2.0 */
/* The debug-exit port, and the ELF note that asks for it: right ones, others, cut-off ones. */
#include <criterion/criterion.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/devices/debug_exit.h"
#include "vmm/boot/loader.h"

struct end {
	unsigned calls;
	enum exit_code reason;
	char sentence[128];
};

static void end_take(void *ctx, enum exit_code reason, const char *sentence)
{
	struct end *e = ctx;

	e->calls++;
	e->reason = reason;
	snprintf(e->sentence, sizeof(e->sentence), "%s", sentence);
}

static struct end written(bool active, unsigned size, uint64_t value)
{
	struct end e = {0};
	struct debug_exit d;

	debug_exit_init(&d, active, end_take, &e);
	debug_exit_write(&d, size, value);
	return e;
}

Test(debug_exit, zero_ends_well)
{
	struct end e = written(true, 4, 0);

	cr_assert_eq(e.calls, 1);
	cr_assert_eq(e.reason, EXIT_OK);
}

Test(debug_exit, another_value_is_a_failure_that_names_it)
{
	struct end e = written(true, 4, 0x700);

	cr_assert_eq(e.calls, 1);
	cr_assert_eq(e.reason, EXIT_GUEST_FAILED);
	cr_assert(strstr(e.sentence, "1792"), "%s", e.sentence);
}

Test(debug_exit, only_the_written_bytes_count)
{
	cr_assert_eq(written(true, 1, 0xff00).reason, EXIT_OK);
	cr_assert_eq(written(true, 2, 0xff00).reason, EXIT_GUEST_FAILED);
}

Test(debug_exit, is_not_there_unless_wanted)
{
	struct debug_exit d;

	cr_assert_eq(written(false, 4, 0).calls, 0);
	cr_assert_eq(written(false, 4, 1).calls, 0);
	debug_exit_init(&d, true, end_take, NULL);
	cr_assert_eq(debug_exit_read(&d, 1), 0xff);
	cr_assert_eq(debug_exit_read(&d, 4), 0xffffffff);
}

/* ---- the note ---- */

#define NOTE_OFFSET 512
#define CODE_OFFSET 1024
#define FILE_SIZE   2048

struct note {
	uint32_t name_size, desc_size, type;
	char name[8];
};

static const struct note right = {7, 0, 1, "Pangea"};

/* A kernel of one code segment and one PT_NOTE segment of size bytes at offset. */
static void elf_make(uint8_t *file, const struct note *notes, size_t count, uint64_t offset,
		     uint64_t size)
{
	Elf64_Ehdr eh = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
			 .e_type = ET_EXEC,
			 .e_machine = EM_X86_64,
			 .e_version = EV_CURRENT,
			 .e_entry = 0x1000000,
			 .e_phoff = sizeof(Elf64_Ehdr),
			 .e_ehsize = sizeof(Elf64_Ehdr),
			 .e_phentsize = sizeof(Elf64_Phdr),
			 .e_phnum = 2};
	Elf64_Phdr ph[2] = {{.p_type = PT_LOAD,
			     .p_offset = CODE_OFFSET,
			     .p_paddr = 0x1000000,
			     .p_vaddr = 0x1000000,
			     .p_filesz = 16,
			     .p_memsz = 16},
			    {.p_type = PT_NOTE, .p_offset = offset, .p_filesz = size}};

	memset(file, 0, FILE_SIZE);
	memcpy(file, &eh, sizeof(eh));
	memcpy(file + sizeof(eh), ph, sizeof(ph));
	memcpy(file + NOTE_OFFSET, notes, count * sizeof(*notes));
}

/* What the loader makes of the file. */
static bool note_found(const uint8_t *file)
{
	char path[] = "/tmp/pangea-note.XXXXXX", why[256] = "";
	int fd = mkstemp(path), err;
	struct vm_shape shape;
	struct loader_image *image;
	unsigned vcpus = 1;
	uint64_t mem = 64u << 20;
	bool found;

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, file, FILE_SIZE), FILE_SIZE);
	close(fd);
	cr_assert_eq(shape_init(&shape, 1, &vcpus, &mem), 0);
	err = loader_open(&shape, path, "", "", &image, why, sizeof(why));
	unlink(path);
	cr_assert_eq(err, 0, "%s", why);
	found = loader_debug_exit(image);
	loader_close(image);
	return found;
}

static bool notes_found(const struct note *notes, size_t count, uint64_t offset, uint64_t size)
{
	uint8_t file[FILE_SIZE];

	elf_make(file, notes, count, offset, size);
	return note_found(file);
}

Test(note, is_found)
{
	cr_assert(notes_found(&right, 1, NOTE_OFFSET, sizeof(right)));
}

Test(note, is_found_behind_others)
{
	const struct note notes[] = {{4, 4, 1, {'G', 'N', 'U', 0}}, {7, 0, 2, "Pangea"}, right};

	cr_assert(notes_found(notes, 3, NOTE_OFFSET, sizeof(notes)));
	cr_assert_not(notes_found(notes, 2, NOTE_OFFSET, 2 * sizeof(notes[0])));
}

Test(note, of_another_owner_or_type_does_not_count)
{
	const struct note owner = {7, 0, 1, "Pangeo"}, type = {7, 0, 2, "Pangea"};

	cr_assert_not(notes_found(&owner, 1, NOTE_OFFSET, sizeof(owner)));
	cr_assert_not(notes_found(&type, 1, NOTE_OFFSET, sizeof(type)));
}

Test(note, cut_off_or_outside_the_file_is_ignored)
{
	const struct note huge_name = {0xffffffff, 0, 1, "Pangea"};
	const struct note huge_desc = {7, 0xfffffff0, 1, "Pangea"};

	for (uint64_t size = 0; size < sizeof(right); size++)
		cr_assert_not(notes_found(&right, 1, NOTE_OFFSET, size), "%llu bytes",
			      (unsigned long long)size);
	cr_assert_not(notes_found(&huge_name, 1, NOTE_OFFSET, sizeof(huge_name)));
	cr_assert_not(notes_found(&huge_desc, 1, NOTE_OFFSET, sizeof(huge_desc)));
	cr_assert_not(notes_found(&right, 1, FILE_SIZE, sizeof(right)));
	cr_assert_not(notes_found(&right, 1, FILE_SIZE - 4, sizeof(right)));
	cr_assert_not(notes_found(&right, 1, UINT64_MAX - 4, sizeof(right)));
	cr_assert_not(notes_found(&right, 1, NOTE_OFFSET, UINT64_MAX));
}
