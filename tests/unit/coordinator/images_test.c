/* SPDX-License-Identifier: Apache-2.0 */
/* Images of a VM on their way: who is asked, who gets bytes, how fast, and when the VM starts. */
#include <criterion/criterion.h>
#include <string.h>

#include "world.h"
#include "control/images.h"

#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define BYTES  (5 * CONTROL_UPLOAD_PIECE)

static uint8_t piece[CONTROL_UPLOAD_WINDOW];

/* The pair's client asks for a VM over both nodes with one image; its kernel has arrived. */
static struct world *placed(void)
{
	struct world *world = world_pair();

	world_open(world, 10, CONTROL_ROLE_CLI);
	world_say(world, 10, "{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i, s:[{s:s, s:s, s:I}]}",
		  "type", "run", "slices", "append", "", "kernel_bytes", 5, "initrd_bytes", 0,
		  "console", 1, "cpus", 4, "mem_bytes", (json_int_t)(512 * MIB), "nodes", 0,
		  "images", "name", "base", "digest", DIGEST, "bytes", (json_int_t)BYTES);
	world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm1");
	return world;
}

static void have(struct world *world, uint64_t node, bool is)
{
	world_say(world, node, "{s:s, s:s, s:i, s:b}", "type", "image-have", "vm", "vm1", "image",
		  0, "have", (int)is);
}

static void tell(struct world *world, uint64_t node, const char *type)
{
	world_say(world, node, "{s:s, s:s, s:i}", "type", type, "vm", "vm1", "image", 0);
}

static void ack(struct world *world, uint64_t node)
{
	world_say(world, node, "{s:s, s:s, s:i, s:i}", "type", "image-ack", "vm", "vm1", "image", 0,
		  "bytes", (int)CONTROL_UPLOAD_PIECE);
}

/* One piece from the owner. */
static void chunk(struct world *world, uint64_t offset, size_t len)
{
	world_say_with(world, 10,
		       json_pack("{s:s, s:i, s:I}", "type", "image-chunk", "image", 0, "offset",
				 (json_int_t)offset),
		       piece, len);
}

static unsigned started(const struct world *world)
{
	return world_count(world, 1, "slice-start") + world_count(world, 2, "slice-start");
}

Test(images, that_all_nodes_have_are_not_sent)
{
	struct world *world = placed();
	const json_t *list;

	for (uint64_t node = 1; node <= 2; node++) {
		list = json_object_get(world_last(world, node, "image-want")->msg, "images");
		cr_expect_str_eq(
			json_string_value(json_object_get(json_array_get(list, 0), "digest")),
			DIGEST);
	}
	cr_expect_eq(started(world), 0);
	have(world, 1, true);
	cr_expect_eq(started(world), 0, "the other node has not answered");
	have(world, 2, true);
	cr_expect_eq(world_count(world, 10, "image-send"), 0);
	cr_expect_eq(started(world), 2);
	list = json_object_get(world_last(world, 2, "slice-start")->msg, "images");
	cr_expect_eq(json_array_size(list), 1);
	world_free(world);
}

Test(images, go_to_who_lacks_them_alone)
{
	struct world *world = placed();

	have(world, 1, false);
	cr_expect_eq(world_count(world, 10, "image-send"), 0, "before all have answered");
	have(world, 2, true);
	cr_expect_eq(world_int(world, 10, "image-send", "nodes"), 1);
	for (unsigned i = 0; i < 5; i++) {
		chunk(world, (uint64_t)i * CONTROL_UPLOAD_PIECE, CONTROL_UPLOAD_PIECE);
		ack(world, 1);
	}
	cr_expect_eq(world_count(world, 1, "image-chunk"), 5);
	cr_expect_eq(world_count(world, 2, "image-chunk"), 0);
	cr_expect_eq(world_count(world, 10, "image-ack"), 5);
	cr_expect_eq(started(world), 0, "it is not on the disk yet");
	tell(world, 1, "image-stored");
	cr_expect_eq(started(world), 2);
	world_free(world);
}

Test(images, the_slowest_node_moves_the_window_on)
{
	struct world *world = placed();

	have(world, 1, false);
	have(world, 2, false);
	cr_expect_eq(world_int(world, 10, "image-send", "nodes"), 2);
	for (unsigned i = 0; i < 3; i++)
		chunk(world, (uint64_t)i * CONTROL_UPLOAD_PIECE, CONTROL_UPLOAD_PIECE);
	cr_expect_eq(world_count(world, 1, "image-chunk"), 3);
	cr_expect_eq(world_count(world, 2, "image-chunk"), 3);
	for (unsigned i = 0; i < 3; i++)
		ack(world, 1);
	cr_expect_eq(world_count(world, 10, "image-ack"), 0, "the other node is behind");
	ack(world, 2);
	cr_expect_eq(world_int(world, 10, "image-ack", "bytes"), CONTROL_UPLOAD_PIECE);
	chunk(world, 3 * CONTROL_UPLOAD_PIECE, CONTROL_UPLOAD_PIECE);
	cr_expect_eq(world_count(world, 2, "image-chunk"), 4);
	/* One more than the window has room for. */
	chunk(world, 4 * CONTROL_UPLOAD_PIECE, CONTROL_UPLOAD_PIECE);
	cr_expect(strstr(world_refused(world, 10), "not asked for"));
	world_free(world);
}

Test(images, pieces_out_of_place_are_refused)
{
	struct world *world = placed();

	have(world, 1, false);
	have(world, 2, true);
	chunk(world, CONTROL_UPLOAD_PIECE, CONTROL_UPLOAD_PIECE);
	cr_expect(strstr(world_refused(world, 10), "not asked for"));
	world_free(world);
	world = placed();
	have(world, 1, true);
	chunk(world, 0, 1);
	cr_expect(strstr(world_refused(world, 10), "not asked for"), "nobody lacks it");
	world_free(world);
}

Test(images, a_node_that_cannot_ends_the_start)
{
	struct world *world = placed();

	have(world, 1, true);
	world_say(world, 2, "{s:s, s:s, s:i, s:s}", "type", "image-failed", "vm", "vm1", "image", 0,
		  "reason", "No space left on device");
	cr_expect_str_eq(world_text(world, 10, "vm-ended", "reason"),
			 "node node1 cannot keep image base: No space left on device");
	cr_expect_eq(world_int(world, 10, "vm-ended", "code"), EXIT_ERROR);
	cr_expect_eq(world_count(world, 1, "vm-forget"), 1);
	cr_expect_eq(world_count(world, 2, "vm-forget"), 1);
	cr_expect_eq(started(world), 0);
	world_free(world);
}

Test(images, reading_a_long_one_is_no_silence)
{
	struct world *world = placed();

	for (unsigned i = 0; i < 60; i++) {
		world_pass(world, 1000, 2);
		tell(world, 1, "image-busy");
	}
	cr_expect_eq(world_count(world, 10, "vm-ended"), 0);
	have(world, 1, true);
	have(world, 2, true);
	cr_expect_eq(started(world), 2);
	world_free(world);
}

Test(images, nonsense_of_a_node_ends_the_vm)
{
	struct world *world = placed();

	world_say(world, 1, "{s:s, s:s, s:i, s:b}", "type", "image-have", "vm", "vm1", "image", 1,
		  "have", 1);
	cr_expect_eq(world_int(world, 10, "vm-ended", "code"), EXIT_NODE_LOST);
	world_free(world);
}
