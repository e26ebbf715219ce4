/* SPDX-License-Identifier: Apache-2.0 */
/* What the vCPUs of one VM share in this process: which pages hold decoded code. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "vmm/cpu/soft/soft_system.h"

static size_t table_bytes(uint64_t memory_end)
{
	return (memory_end >> PAGE_SHIFT) * sizeof(struct soft_code_page);
}

/* One entry a page of memory, lazily backed: a guest may have terabytes that nobody runs code in. */
static struct soft_code_page *table_map(uint64_t memory_end)
{
	void *p = mmap(NULL, table_bytes(memory_end), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int soft_vm_create(uint8_t *ram, uint64_t ram_end, void **out)
{
	struct soft_vm *vm;

	if (!ram || !ram_end || ram_end % PANGEA_PAGE_SIZE)
		return -EINVAL;
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return -ENOMEM;
	vm->ram = ram;
	vm->ram_end = vm->memory_end = ram_end;
	vm->code = table_map(ram_end);
	if (!vm->code) {
		free(vm);
		return -ENOMEM;
	}
	*out = vm;
	return 0;
}

int soft_vm_image_add(void *shared, uint64_t gpa, uint64_t bytes)
{
	struct soft_vm *vm = shared;
	struct soft_code_page *code;

	if (!bytes || (gpa | bytes) % PANGEA_PAGE_SIZE || gpa < vm->memory_end ||
	    gpa + bytes < gpa || gpa + bytes > SOFT_PHYS_MASK)
		return -EINVAL;
	if (vm->images == SOFT_IMAGES_MAX)
		return -ENOSPC;
	/* Nobody has marked a page in the table yet. */
	code = table_map(gpa + bytes);
	if (!code)
		return -ENOMEM;
	munmap(vm->code, table_bytes(vm->memory_end));
	vm->code = code;
	vm->image[vm->images++] = (struct soft_image){gpa, gpa + bytes};
	vm->memory_end = gpa + bytes;
	return 0;
}

void soft_vm_destroy(void *shared)
{
	struct soft_vm *vm = shared;

	if (!vm)
		return;
	munmap(vm->code, table_bytes(vm->memory_end));
	free(vm);
}
