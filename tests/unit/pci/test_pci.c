/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI bus: headers, sizing and moving a BAR, both ways into configuration space, absent functions. */
#include <criterion/criterion.h>

#include "vmm/pci/pci.h"

#define BAR_SIZE 0x4000u
#define BAR_GPA	 0xd0000000u
#define NUMBER	 3u
#define FUNCTION (NUMBER << 15)

static struct pci_bus bus;
static struct pci_function function;
static uint32_t last_offset, last_value;
static unsigned last_size, reads, writes;

static uint32_t bar_read(struct pci_function *f, uint32_t offset, unsigned size)
{
	cr_assert_eq(f, &function);
	last_offset = offset;
	last_size = size;
	reads++;
	return 0x11223344;
}

static void bar_write(struct pci_function *f, uint32_t offset, unsigned size, uint32_t value)
{
	cr_assert_eq(f, &function);
	last_offset = offset;
	last_size = size;
	last_value = value;
	writes++;
}

static void setup(void)
{
	static const struct pci_ops ops = {bar_read, bar_write, NULL};

	cr_assert_eq(pci_bus_init(&bus), 0);
	pci_function_init(&function, &ops, 0x1af4, 0x1042, 0x010000);
	function.bar_size = BAR_SIZE;
	pci_add(&bus, NUMBER, &function, BAR_GPA);
}

static void teardown(void)
{
	pci_bus_destroy(&bus);
}

TestSuite(pci, .init = setup, .fini = teardown);

Test(pci, a_header_is_found_by_both_ways)
{
	uint32_t at;

	cr_assert_eq(pci_ecam_read(&bus, FUNCTION, 4), 0x10421af4);
	cr_assert_eq(pci_ecam_read(&bus, FUNCTION + 2, 2), 0x1042);
	cr_assert_eq(pci_ecam_read(&bus, FUNCTION + 8, 4), 0x01000001, "class, revision");
	cr_assert_eq(pci_ecam_read(&bus, FUNCTION + 0x3d, 1), 0, "no interrupt pin");
	pci_address_write(&bus, 4, 0x80010000u | NUMBER << 11);
	cr_assert_eq(pci_address_read(&bus, 4), 0x80010000u | NUMBER << 11);
	cr_assert(pci_address_leads(0x80000000u | NUMBER << 11, 0, &at));
	cr_assert_eq(pci_ecam_read(&bus, at, 4), 0x10421af4);
	cr_assert(pci_address_leads(0x80000000u | NUMBER << 11, 2, &at));
	cr_assert_eq(pci_ecam_read(&bus, at, 2), 0x1042);
	cr_assert_not(pci_address_leads(NUMBER << 11, 0, &at), "not enabled");
	cr_assert(pci_address_leads(0x80030000u | NUMBER << 11 | 0x3d, 1, &at));
	cr_assert_eq(at, 3 * PCI_ECAM_BUS + FUNCTION + 0x3d, "another bus, a register's dword");
	pci_address_write(&bus, 2, 0);
	cr_assert_eq(pci_address_read(&bus, 4), 0x80010000u | NUMBER << 11, "only as a dword");
}

Test(pci, what_is_not_there_reads_as_ones)
{
	cr_assert_eq(pci_ecam_read(&bus, 0, 4), UINT32_MAX, "no device 0 here");
	cr_assert_eq(pci_ecam_read(&bus, FUNCTION + 0x1000, 2), 0xffff, "function 1");
	cr_assert_eq(pci_ecam_read(&bus, PCI_ECAM_BUS - 4, 4), UINT32_MAX);
	cr_assert_eq(pci_ecam_read(&bus, FUNCTION + 2, 4), UINT32_MAX, "across a dword");
	cr_assert_eq(pci_ecam_read(&bus, FUNCTION + 0x100, 4), 0, "no extended capabilities");
	pci_ecam_write(&bus, FUNCTION + 0x1000, 4, 1);
	pci_ecam_write(&bus, FUNCTION + 0x100, 4, 1);
	cr_assert_eq(pci_ecam_read(&bus, FUNCTION + 0x100, 4), 0);
}

Test(pci, ids_stay_as_they_are)
{
	pci_ecam_write(&bus, FUNCTION, 4, 0);
	pci_ecam_write(&bus, FUNCTION + 8, 4, 0);
	pci_ecam_write(&bus, FUNCTION + 0x2c, 4, 0);
	cr_assert_eq(pci_ecam_read(&bus, FUNCTION, 4), 0x10421af4);
	cr_assert_eq(pci_ecam_read(&bus, FUNCTION + 8, 4), 0x01000001);
	cr_assert_eq(pci_ecam_read(&bus, FUNCTION + 0x2c, 4), 0x1af4);
	pci_ecam_write(&bus, FUNCTION + 0x3c, 1, 11);
	cr_assert_eq(pci_ecam_read(&bus, FUNCTION + 0x3c, 1), 11,
		     "the interrupt line is the guest's note");
}

Test(pci, a_bar_is_sized_and_decoded_only_when_enabled)
{
	pci_ecam_write(&bus, FUNCTION + PCI_BAR0, 4, UINT32_MAX);
	cr_assert_eq(pci_ecam_read(&bus, FUNCTION + PCI_BAR0, 4), ~(BAR_SIZE - 1));
	pci_ecam_write(&bus, FUNCTION + PCI_BAR0 + 4, 4, UINT32_MAX);
	cr_assert_eq(pci_ecam_read(&bus, FUNCTION + PCI_BAR0 + 4, 4), 0, "there is no second one");
	pci_ecam_write(&bus, FUNCTION + PCI_BAR0, 4, BAR_GPA);
	cr_assert_eq(pci_memory_read(&bus, BAR_GPA, 4), UINT32_MAX);
	cr_assert_eq(reads, 0);
	pci_ecam_write(&bus, FUNCTION + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	cr_assert_eq(pci_memory_read(&bus, BAR_GPA + 0x10, 4), 0x11223344);
	cr_assert_eq(last_offset, 0x10);
	pci_ecam_write(&bus, FUNCTION + PCI_COMMAND, 2, 0);
	cr_assert_eq(pci_memory_read(&bus, BAR_GPA, 4), UINT32_MAX);
	cr_assert_eq(reads, 1);
}

Test(pci, a_bar_moves)
{
	pci_ecam_write(&bus, FUNCTION + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	pci_ecam_write(&bus, FUNCTION + PCI_BAR0, 4, BAR_GPA + 2 * BAR_SIZE + 0x123);
	cr_assert_eq(pci_memory_read(&bus, BAR_GPA, 4), UINT32_MAX);
	pci_memory_write(&bus, BAR_GPA + 3 * BAR_SIZE - 1, 1, 7);
	cr_assert_eq(writes, 1);
	cr_assert_eq(last_offset, BAR_SIZE - 1);
	pci_memory_write(&bus, BAR_GPA + 3 * BAR_SIZE - 1, 4, 7);
	cr_assert_eq(writes, 1, "half of it lies behind");
}

Test(pci, eight_bytes_are_two_dwords)
{
	pci_ecam_write(&bus, FUNCTION + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	cr_assert_eq(pci_memory_read(&bus, BAR_GPA, 8), 0x1122334411223344);
	cr_assert_eq(reads, 2);
	pci_memory_write(&bus, BAR_GPA + 8, 8, 0xaabbccdd99887766);
	cr_assert_eq(writes, 2);
	cr_assert_eq(last_size, 4);
	cr_assert_eq(last_offset, 12);
	cr_assert_eq(last_value, 0xaabbccdd);
}

Test(pci, capabilities_are_a_list)
{
	static struct pci_function f;
	uint8_t first, second;

	pci_function_init(&f, function.ops, 1, 2, 3);
	cr_assert_eq(f.config[PCI_CAPS], 0);
	first = pci_capability_add(&f, PCI_CAP_VENDOR, 17);
	second = pci_capability_add(&f, PCI_CAP_MSIX, 12);
	cr_assert_eq(f.config[PCI_CAPS], first);
	cr_assert_eq(f.config[first], PCI_CAP_VENDOR);
	cr_assert_eq(f.config[first + 1], second);
	cr_assert_eq(second, first + 20);
	cr_assert_eq(f.config[second + 1], 0);
	cr_assert(f.config[PCI_STATUS] & PCI_STATUS_CAPS);
}
