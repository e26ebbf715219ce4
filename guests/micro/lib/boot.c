/* SPDX-License-Identifier: Apache-2.0 */
/* CPU 0's way from the loader to CPL3: learns the machine, lays out memory, makes the CPUs. */
#include "guests/micro/lib/kernel.h"

#define LOW_END 0x100000ul /* loader's tables, trampoline, ACPI */

void boot_main(const uint8_t *boot_params)
{
	acpi_read(boot_params);
	machine_features_read();
	regions_reserve(0, LOW_END);
	regions_reserve((uint64_t)image_start, (uint64_t)image_end);
	/* Until the first of ours are in use, the loader's tables reach no further than 4 GiB. */
	for (unsigned i = 0; i < machine.nodes; i++) {
		node_cr3[i] = page_tables_build(i);
		if (i == 0)
			__asm__ volatile("movq %0, %%cr3" ::"r"(node_cr3[0]) : "memory");
	}
	if (node_cr3[0] >> 32)
		panic("node 0 has no memory below 4 GiB for its page tables");
	idt_make();
	for (unsigned i = 0; i < machine.cpus; i++)
		cpu_make(i);
	cpu_enter(cpus[0], user_main);
}
