/* SPDX-License-Identifier: Apache-2.0 */
/* A read-only image: loaded, executed and walked as memory; what is stored to it goes to the bus and changes nothing. */
#include <string.h>
#include <sys/mman.h>

#include "tests/unit/softsystem/guest.h"

TestSuite(softsystem_image, .timeout = 20);

/* Linear UNMAPPED on, page by page. */
static void image_show(struct guest *g)
{
	for (unsigned page = 0; page < IMAGE_SIZE / 4096; page++)
		*guest_pte(g, UNMAPPED + 4096 * page) = (IMAGE_GPA + 4096 * page) | ALL;
}

static unsigned bus_stores(const struct guest *g)
{
	unsigned count = 0;

	for (unsigned i = 0; i < g->bus.logged && i < BUS_LOG_MAX; i++) {
		cr_expect_neq(g->bus.log[i].kind, 'r', "a load went to the bus");
		if (g->bus.log[i].kind == 'w')
			cr_expect_eq(g->bus.log[i].address & ~(uint64_t)(IMAGE_SIZE - 1),
				     IMAGE_GPA);
		count += g->bus.log[i].kind == 'w';
	}
	return count;
}

Test(softsystem_image, is_loaded)
{
	struct guest g;

	guest_open_image(&g);
	image_show(&g);
	memcpy(g.image + 0x10, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
	memcpy(g.image + 0xffc, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
	g.s.gpr[RBX] = UNMAPPED + 0x10;
	cr_assert_eq(guest_run_at(&g, LABEL(load)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0x1122334455667788);
	g.s.gpr[RBX] = UNMAPPED + 0xffc;
	cr_assert_eq(guest_run_at(&g, LABEL(load)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0x0807060504030201, "across pages");
	cr_expect_eq(bus_stores(&g), 0);
	guest_close(&g);
}

Test(softsystem_image, stores_are_dropped)
{
	static const uint8_t zero[IMAGE_SIZE];
	struct guest g;

	guest_open_image(&g);
	image_show(&g);
	g.s.gpr[RBX] = UNMAPPED + 0x20;
	g.s.gpr[RAX] = 0x5a5a;
	cr_assert_eq(guest_run_at(&g, LABEL(store)), VCPU_EXIT_HLT);
	cr_expect_eq(bus_stores(&g), 1);
	/* Again, by what the TLB has kept, after a load, and across pages. */
	cr_assert_eq(guest_run_at(&g, LABEL(load)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0);
	g.s.gpr[RAX] = 0x5a5a;
	cr_assert_eq(guest_run_at(&g, LABEL(store)), VCPU_EXIT_HLT);
	cr_expect_eq(bus_stores(&g), 2);
	g.s.gpr[RBX] = UNMAPPED + 0xffd;
	cr_assert_eq(guest_run_at(&g, LABEL(store)), VCPU_EXIT_HLT);
	cr_expect_gt(bus_stores(&g), 2);
	cr_expect_eq(memcmp(g.image, zero, IMAGE_SIZE), 0);
	guest_close(&g);
}

Test(softsystem_image, read_modify_write_loads_and_drops)
{
	struct guest g;

	guest_open_image(&g);
	image_show(&g);
	g.image[0x40] = 7;
	g.s.gpr[RBX] = UNMAPPED + 0x40;
	g.s.gpr[RAX] = 5;
	cr_assert_eq(guest_run_at(&g, LABEL(add_mem)), VCPU_EXIT_HLT);
	cr_assert_eq(guest_run_at(&g, LABEL(xadd_locked)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 7, "the old value");
	g.s.gpr[RBX] = UNMAPPED + 0xffe;
	cr_assert_eq(guest_run_at(&g, LABEL(xadd_locked)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0, "the old value, across pages");
	cr_assert_eq(guest_run_at(&g, LABEL(movups_store)), VCPU_EXIT_HLT);
	cr_expect_eq(g.image[0x40], 7);
	cr_expect_eq(g.image[0xffe], 0);
	cr_expect_gt(bus_stores(&g), 0);
	guest_close(&g);
}

Test(softsystem_image, strings_move_out_and_not_in)
{
	struct guest g;

	guest_open_image(&g);
	image_show(&g);
	for (unsigned i = 0; i < IMAGE_SIZE; i++)
		g.image[i] = (uint8_t)(i * 7 + i / 4096);
	g.s.gpr[RSI] = UNMAPPED + 1;
	g.s.gpr[RDI] = DATA;
	g.s.gpr[RCX] = 0x3000;
	cr_assert_eq(guest_run_at(&g, LABEL(movs)), VCPU_EXIT_HLT);
	cr_expect_eq(memcmp(g.ram + DATA, g.image + 1, 0x3000), 0);
	cr_expect_eq(bus_stores(&g), 0);
	memset(g.ram + DATA, 0xee, 16);
	g.s.gpr[RSI] = DATA;
	g.s.gpr[RDI] = UNMAPPED + 0x1ff8;
	g.s.gpr[RCX] = 16;
	cr_assert_eq(guest_run_at(&g, LABEL(movs)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RCX], 0);
	cr_expect_eq(bus_stores(&g), 16);
	cr_expect_neq(g.image[0x1ff8], 0xee);
	guest_close(&g);
}

Test(softsystem_image, is_executed)
{
	struct guest g;

	guest_open_image(&g);
	image_show(&g);
	/* mov eax, imm32, across two pages; hlt */
	memcpy(g.image + 0xffe, "\xb8\x21\x43\x65\x87\xf4", 6);
	cr_assert_eq(guest_run_at(&g, UNMAPPED + 0xffe), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0x87654321);
	cr_expect_eq(bus_stores(&g), 0);
	guest_close(&g);
}

/* A processor's walk would set accessed bits; those are stores, too. */
Test(softsystem_image, tables_in_it_are_walked)
{
	uint64_t entry = DATA | P | W | U, table = (IMAGE_GPA + 0x1000) | ALL;
	struct guest g;

	guest_open_image(&g);
	memcpy(g.image + 0x1000 + 8 * 3, &entry, 8);
	*guest_u64(&g, PD + 8 * 2) = table;
	*guest_u64(&g, DATA + 8) = 0x77;
	g.s.gpr[RBX] = 0x400000 + 0x3008;
	cr_assert_eq(guest_run_at(&g, LABEL(load)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0x77);
	g.s.gpr[RAX] = 0x99;
	cr_assert_eq(guest_run_at(&g, LABEL(store)), VCPU_EXIT_HLT);
	cr_expect_eq(*guest_u64(&g, DATA + 8), 0x99, "the page itself is RAM");
	cr_expect_eq(memcmp(g.image + 0x1000 + 8 * 3, &entry, 8), 0, "no accessed bit");
	guest_close(&g);
}

Test(softsystem_image, must_lie_behind_memory)
{
	uint8_t *ram = mmap(NULL, 0x1000000, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *shared;

	cr_assert_neq(ram, MAP_FAILED);
	cr_assert_eq(vcpu_soft_ops.shared_create(ram, 0x200000, &shared), 0);
	cr_expect_lt(vcpu_soft_ops.image_add(shared, 0x1ff000, 0x1000), 0);
	cr_expect_lt(vcpu_soft_ops.image_add(shared, 0x400001, 0x1000), 0);
	cr_expect_lt(vcpu_soft_ops.image_add(shared, 0x400000, 0), 0);
	for (unsigned i = 0; i < 4; i++)
		cr_expect_eq(vcpu_soft_ops.image_add(shared, 0x400000 + 0x2000 * i, 0x1000), 0);
	cr_expect_lt(vcpu_soft_ops.image_add(shared, 0x800000, 0x1000), 0, "a fifth");
	vcpu_soft_ops.shared_destroy(shared);
	munmap(ram, 0x1000000);
}
