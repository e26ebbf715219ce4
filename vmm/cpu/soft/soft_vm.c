/* SPDX-License-Identifier: Apache-2.0 */
/* What the vCPUs of one VM share in this process: which pages hold decoded code. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "vmm/cpu/soft/soft_system.h"

/* One entry a page of RAM, lazily backed: a guest may have terabytes that nobody runs code in. */
static void *table_map(uint64_t ram_end, size_t entry)
{
	void *p = mmap(NULL, (ram_end >> PAGE_SHIFT) * entry, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void table_unmap(void *table, uint64_t ram_end, size_t entry)
{
	if (table)
		munmap(table, (ram_end >> PAGE_SHIFT) * entry);
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
	vm->ram_end = ram_end;
	vm->code_page = table_map(ram_end, sizeof(*vm->code_page));
	vm->code_gen = table_map(ram_end, sizeof(*vm->code_gen));
	if (!vm->code_page || !vm->code_gen) {
		soft_vm_destroy(vm);
		return -ENOMEM;
	}
	*out = vm;
	return 0;
}

void soft_vm_destroy(void *shared)
{
	struct soft_vm *vm = shared;

	if (!vm)
		return;
	table_unmap((void *)vm->code_page, vm->ram_end, sizeof(*vm->code_page));
	table_unmap((void *)vm->code_gen, vm->ram_end, sizeof(*vm->code_gen));
	free(vm);
}
