/* SPDX-License-Identifier: Apache-2.0 */
/* Block devices before QEMU's storage daemon: what a driver writes is on the disk, and what it may not is not. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/unit/virtio/blk_rig.h"
#include "tests/unit/virtio/storage.h"

#define MIB	   (UINT64_C(1) << 20)
#define DISK_BYTES (16 * MIB)

static struct blk_rig rig;
static struct storage storage;
static char options[256];

/* The file as it is now. */
static void disk_read(const char *path, uint64_t at, void *out, size_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	cr_assert_eq(pread(fd, out, bytes, (off_t)at), (ssize_t)bytes);
	close(fd);
}

static bool all_are(const uint8_t *bytes, size_t count, uint8_t value)
{
	for (size_t i = 0; i < count; i++)
		if (bytes[i] != value)
			return false;
	return true;
}

static const char *raw(const char *more)
{
	snprintf(options, sizeof(options), "driver=file,filename=%s%s", storage.disk, more);
	return options;
}

static void begin(uint8_t fill, unsigned queues)
{
	storage_open(&storage);
	storage_disk(&storage, DISK_BYTES, fill);
	blk_rig_open(&rig, storage_start(&storage, raw(",discard=unmap"), true, queues), false,
		     queues, UINT64_MAX);
}

static void end(void)
{
	blk_rig_close(&rig);
	storage_close(&storage);
}

static void pattern(uint8_t *bytes, size_t count, uint32_t seed)
{
	for (size_t i = 0; i < count; i++)
		bytes[i] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
}

static uint8_t simple(uint32_t type, uint64_t sector, uint32_t bytes)
{
	struct blk_op op;

	blk_op_make(&rig, &op, type, sector, bytes);
	return blk_op_run(&rig, &op, 0);
}

/* A request for a range, section 5.2.6. */
static uint8_t range(uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	struct blk_op op;

	blk_op_make(&rig, &op, type, 0, 16);
	memcpy(blk_op_data(&rig, &op), &sector, 8);
	memcpy(blk_op_data(&rig, &op) + 8, &sectors, 4);
	memcpy(blk_op_data(&rig, &op) + 12, &flags, 4);
	return blk_op_run(&rig, &op, 0);
}

Test(blk, says_what_it_is)
{
	uint64_t capacity;
	uint32_t sizes[2], block;
	uint16_t queues;

	begin(0, 4);
	cr_assert_eq(rig.device.queues, 4);
	cr_assert_eq(rig.device.features,
		     VIRTIO_BLK_F_SIZE_MAX | VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_BLK_SIZE |
			     VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_TOPOLOGY | VIRTIO_BLK_F_MQ |
			     VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES,
		     "%llx", (unsigned long long)rig.device.features);
	blk_rig_config(&rig, 0, 8, &capacity);
	cr_assert_eq(capacity, DISK_BYTES / 512);
	blk_rig_config(&rig, 8, 8, sizes);
	cr_assert(sizes[0] == VIRTIO_BLK_SEGMENT_BYTES_MAX && sizes[1] == VIRTIO_BLK_SEGMENTS_MAX);
	blk_rig_config(&rig, 20, 4, &block);
	cr_assert_eq(block, 512);
	blk_rig_config(&rig, 34, 2, &queues);
	cr_assert_eq(queues, 4);
	end();
}

Test(blk, writes_and_reads)
{
	struct blk_op write, read;
	uint8_t seen[8192];

	begin(0x5a, 1);
	blk_op_make(&rig, &write, VIRTIO_BLK_T_OUT, 7, sizeof(seen));
	pattern(blk_op_data(&rig, &write), sizeof(seen), 1);
	cr_assert_eq(blk_op_run(&rig, &write, 0), VIRTIO_BLK_S_OK);
	cr_assert_eq(write.len, 1);
	disk_read(storage.disk, 7 * 512, seen, sizeof(seen));
	cr_assert_arr_eq(seen, blk_op_data(&rig, &write), sizeof(seen));
	disk_read(storage.disk, 0, seen, 7 * 512);
	cr_assert(all_are(seen, 7 * 512, 0x5a));
	blk_op_make(&rig, &read, VIRTIO_BLK_T_IN, 6, 4096);
	cr_assert_eq(blk_op_run(&rig, &read, 0), VIRTIO_BLK_S_OK);
	cr_assert_eq(read.len, 4097);
	cr_assert(all_are(blk_op_data(&rig, &read), 512, 0x5a));
	cr_assert_arr_eq(blk_op_data(&rig, &read) + 512, blk_op_data(&rig, &write), 3584);
	cr_assert_gt(rig.v.interrupts[0], 0);
	cr_assert_eq(simple(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	end();
}

Test(blk, has_a_serial_number)
{
	struct blk_op op;

	begin(0, 1);
	blk_op_make(&rig, &op, VIRTIO_BLK_T_GET_ID, 0, VIRTIO_BLK_ID_BYTES);
	cr_assert_eq(blk_op_run(&rig, &op, 0), VIRTIO_BLK_S_OK);
	cr_assert_arr_eq(blk_op_data(&rig, &op), "disk\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	cr_assert_eq(simple(VIRTIO_BLK_T_GET_ID, 0, 19), VIRTIO_BLK_S_IOERR);
	end();
}

Test(blk, discards_and_writes_zeroes)
{
	struct stat before, after;
	uint8_t seen[65536];

	begin(0x77, 1);
	cr_assert_eq(simple(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	cr_assert_eq(stat(storage.disk, &before), 0);
	cr_assert_eq(range(VIRTIO_BLK_T_DISCARD, 2048, 8192, 0), VIRTIO_BLK_S_OK);
	cr_assert_eq(stat(storage.disk, &after), 0);
	cr_assert_lt(after.st_blocks, before.st_blocks);
	cr_assert_eq(after.st_size, before.st_size);
	disk_read(storage.disk, 2048 * 512, seen, sizeof(seen));
	cr_assert(all_are(seen, sizeof(seen), 0));
	cr_assert_eq(range(VIRTIO_BLK_T_WRITE_ZEROES, 16, 64, 0), VIRTIO_BLK_S_OK);
	disk_read(storage.disk, 0, seen, sizeof(seen));
	cr_assert(all_are(seen, 8192, 0x77));
	cr_assert(all_are(seen + 8192, 32768, 0));
	cr_assert(all_are(seen + 40960, sizeof(seen) - 40960, 0x77));
	/* Beyond the disk; half a range; more ranges than the driver was told. */
	cr_assert_eq(range(VIRTIO_BLK_T_DISCARD, DISK_BYTES / 512, 8, 0), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(simple(VIRTIO_BLK_T_DISCARD, 0, 8), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(simple(VIRTIO_BLK_T_DISCARD, 0, 0), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(simple(VIRTIO_BLK_T_WRITE_ZEROES, 0, 16 * 1000), VIRTIO_BLK_S_IOERR);
	end();
}

static void readonly_holds(bool back_end, bool device)
{
	uint8_t seen[4096];

	storage_open(&storage);
	storage_disk(&storage, DISK_BYTES, 0x11);
	blk_rig_open(&rig, storage_start(&storage, raw(""), !back_end, 1), device, 1, UINT64_MAX);
	cr_assert(rig.device.features & VIRTIO_BLK_F_RO);
	cr_assert_not(rig.device.features & (VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES));
	cr_assert_eq(simple(VIRTIO_BLK_T_OUT, 0, 4096), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(range(VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	cr_assert_eq(range(VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	cr_assert_eq(simple(VIRTIO_BLK_T_IN, 0, 4096), VIRTIO_BLK_S_OK);
	cr_assert_eq(simple(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	disk_read(storage.disk, 0, seen, sizeof(seen));
	cr_assert(all_are(seen, sizeof(seen), 0x11));
	end();
}

Test(blk, is_read_only_where_the_back_end_is)
{
	readonly_holds(true, false);
}

Test(blk, is_read_only_where_it_is_told_to)
{
	readonly_holds(false, true);
}

/* ---- qcow2 ---- */

static void qcow2_make(void)
{
	char command[512];

	if (access("/usr/bin/qemu-img", X_OK) != 0)
		cr_skip_test("no /usr/bin/qemu-img: deploy/setup --tests installs it");
	snprintf(command, sizeof(command),
		 "/usr/bin/qemu-img create -q -f qcow2 -F raw -b %s %s/top </dev/null",
		 storage.disk, storage.folder);
	cr_assert_eq(system(command), 0);
}

Test(blk, keeps_changes_in_a_layer)
{
	struct blk_op write, read;
	uint8_t seen[4096];

	storage_open(&storage);
	storage_disk(&storage, DISK_BYTES, 0x33);
	qcow2_make();
	snprintf(options, sizeof(options), "driver=qcow2,file.driver=file,file.filename=%s/top",
		 storage.folder);
	blk_rig_open(&rig, storage_start(&storage, options, true, 2), false, 2, UINT64_MAX);
	blk_op_make(&rig, &write, VIRTIO_BLK_T_OUT, 100, sizeof(seen));
	pattern(blk_op_data(&rig, &write), sizeof(seen), 9);
	cr_assert_eq(blk_op_run(&rig, &write, 1), VIRTIO_BLK_S_OK);
	cr_assert_eq(simple(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	disk_read(storage.disk, 100 * 512, seen, sizeof(seen));
	cr_assert(all_are(seen, sizeof(seen), 0x33), "the layer below is as it was");
	memcpy(seen, blk_op_data(&rig, &write), sizeof(seen));
	blk_rig_close(&rig);
	/* What was flushed outlives a daemon that is killed. */
	storage_kill(&storage, SIGKILL);
	storage_reap(&storage);
	blk_rig_open(&rig, storage_start(&storage, options, true, 1), false, 1, UINT64_MAX);
	blk_op_make(&rig, &read, VIRTIO_BLK_T_IN, 100, sizeof(seen));
	cr_assert_eq(blk_op_run(&rig, &read, 0), VIRTIO_BLK_S_OK);
	cr_assert_arr_eq(blk_op_data(&rig, &read), seen, sizeof(seen));
	blk_op_make(&rig, &read, VIRTIO_BLK_T_IN, 0, 4096);
	cr_assert_eq(blk_op_run(&rig, &read, 0), VIRTIO_BLK_S_OK);
	cr_assert(all_are(blk_op_data(&rig, &read), 4096, 0x33));
	end();
}

/* ---- many, and large ---- */

#define REGIONS	     32u
#define REGION_BYTES (DISK_BYTES / REGIONS)

static uint32_t draw(uint32_t *seed, uint32_t below)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)*seed * below >> 32);
}

/* Rounds of one request in each region of the disk, by all queues, of any size and any segments; a copy of the disk
 * says what must be read. */
Test(blk, serves_all_queues_at_once, .timeout = 100)
{
	static uint8_t copy[DISK_BYTES];
	struct blk_op op[REGIONS];
	uint32_t seed = 7;

	begin(0, 4);
	for (unsigned round = 0; round < 60; round++) {
		rig.next = DRIVER_DATA;
		for (unsigned i = 0; i < REGIONS; i++) {
			uint32_t bytes = 512 * (1 + draw(&seed, round % 8 ? 64 : 512));
			uint64_t sector =
				(i * REGION_BYTES + draw(&seed, REGION_BYTES - bytes + 1)) / 512;
			bool write = draw(&seed, 2);

			blk_op_make(&rig, &op[i], write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
				    sector, bytes);
			if (write)
				pattern(blk_op_data(&rig, &op[i]), bytes, seed);
			blk_op_send(&rig, &op[i], draw(&seed, 4), 2048 + draw(&seed, 14336));
		}
		for (unsigned i = 0; i < REGIONS; i++) {
			uint8_t *data = blk_op_data(&rig, &op[i]), *at = copy + op[i].sector * 512;

			blk_op_wait(&rig, &op[i]);
			cr_assert_eq(blk_op_status(&rig, &op[i]), VIRTIO_BLK_S_OK);
			if (op[i].type == VIRTIO_BLK_T_OUT)
				memcpy(at, data, op[i].bytes);
			else
				cr_assert_eq(memcmp(at, data, op[i].bytes), 0, "round %u", round);
		}
	}
	for (unsigned i = 0; i < 4; i++)
		cr_assert_gt(rig.v.interrupts[i], 0);
	end();
}

/* More than an arena holds, several times: they wait, and none is lost. */
Test(blk, waits_for_room)
{
	struct blk_op op[12];

	begin(0, 1);
	for (unsigned i = 0; i < 12; i++) {
		blk_op_make(&rig, &op[i], VIRTIO_BLK_T_OUT, i * (MIB / 512), MIB);
		memset(blk_op_data(&rig, &op[i]), (int)i + 1, MIB);
		blk_op_send(&rig, &op[i], 0, 16384);
	}
	for (unsigned i = 0; i < 12; i++) {
		static uint8_t seen[MIB];

		blk_op_wait(&rig, &op[i]);
		cr_assert_eq(blk_op_status(&rig, &op[i]), VIRTIO_BLK_S_OK);
		disk_read(storage.disk, i * MIB, seen, sizeof(seen));
		cr_assert(all_are(seen, sizeof(seen), (uint8_t)(i + 1)));
	}
	end();
}

Test(blk, takes_the_longest_request)
{
	const uint32_t bytes = VIRTIO_BLK_SEGMENTS_MAX * VIRTIO_BLK_SEGMENT_BYTES_MAX;
	struct blk_op write, read;

	begin(0, 1);
	blk_op_make(&rig, &write, VIRTIO_BLK_T_OUT, 0, bytes);
	pattern(blk_op_data(&rig, &write), bytes, 3);
	blk_op_send(&rig, &write, 0, VIRTIO_BLK_SEGMENT_BYTES_MAX);
	blk_op_make(&rig, &read, VIRTIO_BLK_T_IN, 0, bytes);
	blk_op_wait(&rig, &write);
	cr_assert_eq(blk_op_status(&rig, &write), VIRTIO_BLK_S_OK);
	blk_op_send(&rig, &read, 0, VIRTIO_BLK_SEGMENT_BYTES_MAX);
	blk_op_wait(&rig, &read);
	cr_assert_eq(blk_op_status(&rig, &read), VIRTIO_BLK_S_OK);
	cr_assert_eq(memcmp(blk_op_data(&rig, &read), blk_op_data(&rig, &write), bytes), 0);
	/* One that could never fit is answered. */
	cr_assert_eq(simple(VIRTIO_BLK_T_IN, 0, 5 * MIB), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(simple(VIRTIO_BLK_T_IN, 0, 5 * MIB), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(simple(VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	end();
}

/* ---- drivers that do not keep the rules ---- */

Test(blk, answers_what_cannot_be)
{
	begin(0, 1);
	cr_assert_eq(simple(VIRTIO_BLK_T_IN, 0, 511), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(simple(VIRTIO_BLK_T_IN, 0, 0), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(simple(VIRTIO_BLK_T_OUT, 0, 513), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(simple(VIRTIO_BLK_T_OUT, DISK_BYTES / 512, 512), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(simple(VIRTIO_BLK_T_IN, DISK_BYTES / 512 - 1, 1024), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(simple(VIRTIO_BLK_T_IN, DISK_BYTES / 512 - 1, 512), VIRTIO_BLK_S_OK);
	cr_assert_eq(simple(VIRTIO_BLK_T_IN, UINT64_MAX, 512), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(simple(VIRTIO_BLK_T_IN, UINT64_MAX / 512 + 1, 512), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(simple(VIRTIO_BLK_T_FLUSH, 0, 512), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(simple(14, 0, 512), VIRTIO_BLK_S_UNSUPP);
	cr_assert_eq(simple(UINT32_MAX, 0, 0), VIRTIO_BLK_S_UNSUPP);
	cr_assert_eq(rig.failed, 0);
	end();
}

static void breaks(const struct driver_piece *pieces, unsigned count)
{
	begin(0, 1);
	driver_add(&rig.queue[0], pieces, count, false);
	rig.notified = 1;
	blk_rig_step(&rig, 0);
	cr_assert_eq(rig.failed, -PANGEA_EDRIVER);
	/* After a reset it works as before. */
	blk_rig_reset(&rig);
	cr_assert_eq(simple(VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	end();
}

Test(blk, needs_a_reset_without_a_status)
{
	breaks((struct driver_piece[]){{DRIVER_DATA, 16, false}}, 1);
}

Test(blk, needs_a_reset_without_a_header)
{
	breaks((struct driver_piece[]){{DRIVER_DATA, 15, false}, {DRIVER_DATA + 64, 1, true}}, 2);
	breaks((struct driver_piece[]){{DRIVER_DATA + 64, 513, true}}, 1);
}

/* Section 2.7.4: where one segment ends and the next begins means nothing. */
Test(blk, takes_any_framing)
{
	uint64_t at = DRIVER_DATA;
	struct driver_piece pieces[] = {{at, 3, false},
					{at + 3, 13, false},
					{at + 4096, 1, true},
					{at + 4097, 1022, true},
					{at + 5119, 2, true}};
	uint16_t head;
	uint32_t len;

	begin(0x42, 1);
	memset(driver_at(&rig.ram.mem, at), 0, 16);
	memset(driver_at(&rig.ram.mem, at + 4096), 0xee, 1026);
	driver_add(&rig.queue[0], pieces, 5, false);
	rig.notified = 1;
	for (unsigned i = 0; i < 200 && rig.v.queue[0].next_used == 0; i++) {
		/* Not through the rig's collection: the request is none of its own. */
		(void)rig.device.ops->work(rig.device.dev, &rig.v, i == 0);
		usleep(10000);
	}
	cr_assert(driver_used(&rig.queue[0], &head, &len));
	cr_assert_eq(len, 1025);
	cr_assert(all_are(driver_at(&rig.ram.mem, at + 4096), 1024, 0x42));
	cr_assert_eq(*(uint8_t *)driver_at(&rig.ram.mem, at + 5120), VIRTIO_BLK_S_OK);
	cr_assert_eq(*(uint8_t *)driver_at(&rig.ram.mem, at + 5121), 0xee);
	end();
}

/* ---- back ends that stop or die ---- */

Test(blk, fails_requests_of_a_back_end_that_dies)
{
	struct blk_op op[40];

	begin(0, 2);
	cr_assert_eq(simple(VIRTIO_BLK_T_OUT, 0, 4096), VIRTIO_BLK_S_OK);
	storage_kill(&storage, SIGSTOP);
	for (unsigned i = 0; i < 40; i++) {
		blk_op_make(&rig, &op[i], i % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, i * 512,
			    256 * 1024);
		memset(blk_op_data(&rig, &op[i]), 0xcd, op[i].bytes);
		blk_op_send(&rig, &op[i], i % 2, 16384);
	}
	for (unsigned i = 0; i < 5; i++)
		blk_rig_step(&rig, 20);
	for (unsigned i = 0; i < 40; i++)
		cr_assert_not(op[i].done);
	storage_kill(&storage, SIGKILL);
	for (unsigned i = 0; i < 40; i++) {
		blk_op_wait(&rig, &op[i]);
		cr_assert_eq(blk_op_status(&rig, &op[i]), VIRTIO_BLK_S_IOERR);
		cr_assert(all_are(blk_op_data(&rig, &op[i]), op[i].bytes, 0xcd));
	}
	cr_assert_eq(simple(VIRTIO_BLK_T_OUT, 0, 512), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(simple(VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(simple(VIRTIO_BLK_T_GET_ID, 0, 20), VIRTIO_BLK_S_OK);
	blk_rig_reset(&rig);
	cr_assert_eq(simple(VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(rig.failed, 0);
	end();
}

/* What was under way comes before what comes after a reset, and touches no guest memory any more. */
Test(blk, keeps_order_across_a_reset)
{
	struct blk_op old[8], late, read;

	begin(0x10, 2);
	storage_kill(&storage, SIGSTOP);
	for (unsigned i = 0; i < 8; i++) {
		blk_op_make(&rig, &old[i], i % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, 64, 4096);
		memset(blk_op_data(&rig, &old[i]), 0x20, 4096);
		blk_op_send(&rig, &old[i], i % 2, 0);
	}
	blk_rig_step(&rig, 0);
	blk_rig_reset(&rig);
	blk_op_make(&rig, &late, VIRTIO_BLK_T_OUT, 64, 4096);
	memset(blk_op_data(&rig, &late), 0x30, 4096);
	blk_op_send(&rig, &late, 0, 0);
	for (unsigned i = 0; i < 3; i++)
		blk_rig_step(&rig, 20);
	cr_assert_not(late.done);
	cr_assert_eq(rig.v.queue[0].next_available, 0, "it is not even taken up");
	storage_kill(&storage, SIGCONT);
	blk_op_wait(&rig, &late);
	cr_assert_eq(blk_op_status(&rig, &late), VIRTIO_BLK_S_OK);
	blk_op_make(&rig, &read, VIRTIO_BLK_T_IN, 64, 4096);
	cr_assert_eq(blk_op_run(&rig, &read, 1), VIRTIO_BLK_S_OK);
	cr_assert(all_are(blk_op_data(&rig, &read), 4096, 0x30));
	for (unsigned i = 0; i < 8; i++) {
		cr_assert_not(old[i].done);
		cr_assert_eq(blk_op_status(&rig, &old[i]), 0xee);
		cr_assert(all_are(blk_op_data(&rig, &old[i]), 4096, 0x20));
	}
	end();
}

static void count(void *ctx)
{
	++*(unsigned *)ctx;
}

/* Rounds of writes; a daemon is killed among them, and another one takes its place: each write is done, and what was
 * answered before is there. */
Test(blk, goes_on_with_another_back_end, .timeout = 100)
{
	static uint8_t seen[65536];
	struct blk_op op[24];
	unsigned lost = 0, late = 0;

	storage_open(&storage);
	storage_disk(&storage, DISK_BYTES, 0);
	blk_rig_open_replaceable(&rig, storage_start(&storage, raw(""), true, 2), 2, count, &lost);
	for (unsigned round = 1; round <= 6; round++) {
		rig.next = DRIVER_DATA;
		/* In odd rounds nothing is done before it dies, in even ones what it can do. */
		if (round % 2)
			storage_kill(&storage, SIGSTOP);
		for (unsigned i = 0; i < 24; i++) {
			blk_op_make(&rig, &op[i],
				    i % 6 == 5 ? VIRTIO_BLK_T_FLUSH : VIRTIO_BLK_T_OUT, i * 1024,
				    i % 6 == 5 ? 0 : sizeof(seen));
			pattern(blk_op_data(&rig, &op[i]), op[i].bytes, round * 100 + i);
			blk_op_send(&rig, &op[i], i % 2, 8192);
		}
		for (unsigned i = 0; i < round; i++)
			blk_rig_step(&rig, 1);
		storage_kill(&storage, SIGKILL);
		storage_reap(&storage);
		while (lost < round)
			blk_rig_step(&rig, 100);
		blk_rig_step(&rig, 10);
		for (unsigned i = 0; i < 24; i++)
			late += !op[i].done;
		cr_assert_eq(virtio_blk_replace(rig.device.dev,
						storage_start(&storage, raw(""), true, 2)),
			     0);
		for (unsigned i = 0; i < 24; i++) {
			blk_op_wait(&rig, &op[i]);
			cr_assert_eq(blk_op_status(&rig, &op[i]), VIRTIO_BLK_S_OK);
			if (!op[i].bytes)
				continue;
			disk_read(storage.disk, i * 1024 * 512, seen, sizeof(seen));
			cr_assert_eq(memcmp(seen, blk_op_data(&rig, &op[i]), sizeof(seen)), 0,
				     "round %u, write %u", round, i);
		}
		cr_assert_eq(lost, round);
	}
	cr_assert_geq(late, 3 * 24);
	end();
}
