/* SPDX-License-Identifier: Apache-2.0 */
/* MSI-X: messages, both masks, what is pending, and what a reset leaves. */
#include <criterion/criterion.h>

#include "vmm/pci/msix.h"

#define VECTORS 5u

static struct msix m;
static unsigned sent;
static uint64_t last_address;
static uint32_t last_data;

static void deliver(void *ctx, uint64_t address, uint32_t data)
{
	cr_assert_eq(ctx, &sent);
	sent++;
	last_address = address;
	last_data = data;
}

static void vector_write(unsigned vector, uint32_t address, uint32_t data, uint32_t control)
{
	msix_table_write(&m, vector * MSIX_ENTRY_SIZE, address);
	msix_table_write(&m, vector * MSIX_ENTRY_SIZE + 4, 0);
	msix_table_write(&m, vector * MSIX_ENTRY_SIZE + 8, data);
	msix_table_write(&m, vector * MSIX_ENTRY_SIZE + 12, control);
}

static void setup(void)
{
	cr_assert_eq(msix_init(&m, VECTORS, deliver, &sent), 0);
}

static void teardown(void)
{
	msix_destroy(&m);
}

TestSuite(msix, .init = setup, .fini = teardown);

Test(msix, vectors_are_born_masked)
{
	msix_control_set(&m, MSIX_CONTROL_ENABLE);
	for (unsigned i = 0; i < VECTORS; i++) {
		cr_assert_eq(msix_table_read(&m, i * MSIX_ENTRY_SIZE + 12), 1);
		msix_raise(&m, i);
	}
	cr_assert_eq(sent, 0);
	cr_assert_eq(msix_pending_read(&m, 0), (1u << VECTORS) - 1);
}

Test(msix, a_message_goes_out_when_its_masks_are_gone)
{
	vector_write(2, 0xfee01000, 0x41, 1);
	msix_control_set(&m, MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK);
	msix_raise(&m, 2);
	msix_raise(&m, 2);
	msix_table_write(&m, 2 * MSIX_ENTRY_SIZE + 12, 0);
	cr_assert_eq(sent, 0, "the function is masked");
	msix_control_set(&m, MSIX_CONTROL_ENABLE);
	cr_assert_eq(sent, 1, "once, however often it was raised");
	cr_assert_eq(last_address, 0xfee01000);
	cr_assert_eq(last_data, 0x41);
	cr_assert_eq(msix_pending_read(&m, 0), 0);
	msix_raise(&m, 2);
	cr_assert_eq(sent, 2);
	cr_assert_eq(msix_control(&m), MSIX_CONTROL_ENABLE);
}

Test(msix, off_means_nothing_is_kept)
{
	vector_write(0, 0xfee00000, 0x30, 0);
	msix_raise(&m, 0);
	msix_control_set(&m, MSIX_CONTROL_ENABLE);
	cr_assert_eq(sent, 0);
	msix_control_set(&m, MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK);
	msix_raise(&m, 0);
	msix_control_set(&m, 0);
	msix_control_set(&m, MSIX_CONTROL_ENABLE);
	cr_assert_eq(sent, 0);
}

Test(msix, what_is_not_there)
{
	msix_control_set(&m, MSIX_CONTROL_ENABLE | 0x3fff);
	cr_assert_eq(msix_control(&m), MSIX_CONTROL_ENABLE);
	msix_raise(&m, VECTORS);
	msix_table_write(&m, VECTORS * MSIX_ENTRY_SIZE, 1);
	cr_assert_eq(msix_table_read(&m, VECTORS * MSIX_ENTRY_SIZE), 0);
	cr_assert_eq(msix_table_read(&m, UINT32_MAX & ~3u), 0);
	cr_assert_eq(msix_pending_read(&m, 4), 0);
	cr_assert_eq(sent, 0);
}

Test(msix, a_reset_masks_all)
{
	vector_write(1, 0xfee00000, 0x30, 0);
	msix_control_set(&m, MSIX_CONTROL_ENABLE);
	msix_reset(&m);
	msix_raise(&m, 1);
	cr_assert_eq(sent, 0);
	cr_assert_eq(msix_control(&m), 0);
	cr_assert_eq(msix_table_read(&m, MSIX_ENTRY_SIZE), 0);
	cr_assert_eq(msix_table_read(&m, MSIX_ENTRY_SIZE + 12), 1);
}
