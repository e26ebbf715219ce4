/* SPDX-License-Identifier: Apache-2.0 */
/* The machine messages' codecs: round trips, and everything that must be refused. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/limits.h"
#include "vmm/machine/machine_msg.h"

Test(machine_msg, ipi_round_trip)
{
	static const uint8_t modes[] = {IPI_FIXED, IPI_LOWEST, IPI_NMI, IPI_INIT, IPI_SIPI};
	struct ipi in, out;
	struct wire_msg msg;
	unsigned i;

	for (i = 0; i < 20; i++) {
		in = (struct ipi){.dest = 0xfedc0000u + i,
				  .exclude = IPI_NOBODY - i,
				  .vector = (uint8_t)(i * 13),
				  .delivery = modes[i % 5],
				  .logical = i & 1,
				  .level = i & 2};
		ipi_encode(&in, &msg);
		cr_assert_eq(ipi_decode(&msg, &out), 0);
		cr_assert_eq(out.dest, in.dest);
		cr_assert_eq(out.exclude, in.exclude);
		cr_assert_eq(out.vector, in.vector);
		cr_assert_eq(out.delivery, in.delivery);
		cr_assert_eq(out.logical, in.logical);
		cr_assert_eq(out.level, in.level);
	}
}

Test(machine_msg, ipi_refused)
{
	struct ipi ipi = {.dest = 1, .vector = 0x40}, out;
	struct wire_msg good, bad;
	unsigned bit, mode;

	ipi_encode(&ipi, &good);
	for (mode = 0; mode < 8; mode++) {
		bad = good;
		bad.arg |= mode << 8;
		cr_assert_eq(ipi_decode(&bad, &out) == 0, mode < 2 || (mode >= 4 && mode < 7));
	}
	for (bit = 16; bit < 64; bit++) {
		bad = good;
		bad.arg |= UINT64_C(1) << bit;
		cr_assert_eq(ipi_decode(&bad, &out), -PANGEA_EWIRE);
	}
	good.payload_len = 1;
	cr_assert_eq(ipi_decode(&good, &out), -PANGEA_EWIRE);
}

Test(machine_msg, io_round_trip)
{
	struct io_request in = {.addr = 0xfec00010,
				.value = 0x89abcdef,
				.vcpu = VCPUS_MAX - 1,
				.seq = 0xffff,
				.size = 8,
				.mmio = true,
				.write = true};
	struct io_reply reply = {.vcpu = 7, .seq = 0xfffe, .value = 0xdeadbeef}, reply_out;
	struct io_request out;
	struct wire_msg msg;

	io_request_encode(&in, &msg);
	cr_assert_eq(io_request_decode(&msg, &out), 0);
	cr_assert_eq(out.addr, in.addr);
	cr_assert_eq(out.value, in.value);
	cr_assert_eq(out.vcpu, in.vcpu);
	cr_assert_eq(out.seq, in.seq);
	cr_assert_eq(out.size, 8);
	cr_assert(out.mmio && out.write && !out.posted);
	in.posted = true;
	io_request_encode(&in, &msg);
	cr_assert_eq(io_request_decode(&msg, &out), 0);
	cr_assert(out.posted);
	io_reply_encode(&reply, &msg);
	cr_assert_eq(io_reply_decode(&msg, &reply_out), 0);
	cr_assert_eq(reply_out.vcpu, 7);
	cr_assert_eq(reply_out.seq, 0xfffe);
	cr_assert_eq(reply_out.value, 0xdeadbeef);
}

Test(machine_msg, io_refused)
{
	struct io_request out, base = {.addr = 0x3f8, .size = 1}, req;
	struct io_reply reply = {.vcpu = VCPUS_MAX};
	struct wire_msg msg;
	unsigned size;

	for (size = 0; size < 16; size++) {
		req = base;
		req.size = (uint8_t)size;
		io_request_encode(&req, &msg);
		cr_assert_eq(io_request_decode(&msg, &out) == 0,
			     size == 1 || size == 2 || size == 4);
	}
	req = base;
	req.addr = 0x10000;
	io_request_encode(&req, &msg);
	cr_assert_eq(io_request_decode(&msg, &out), -PANGEA_EWIRE, "no such port");
	req = base;
	req.vcpu = VCPUS_MAX;
	io_request_encode(&req, &msg);
	cr_assert_eq(io_request_decode(&msg, &out), -PANGEA_EWIRE);
	io_request_encode(&base, &msg);
	msg.gfn |= UINT64_C(1) << 55;
	cr_assert_eq(io_request_decode(&msg, &out), -PANGEA_EWIRE);
	for (unsigned kind = 0; kind < 3; kind++) {
		req = (struct io_request){.addr = 0x3f8,
					  .size = 4,
					  .posted = true,
					  .mmio = kind & 1,
					  .write = kind & 2};
		io_request_encode(&req, &msg);
		cr_assert_eq(io_request_decode(&msg, &out), -PANGEA_EWIRE,
			     "only writes of memory are posted");
	}
	io_reply_encode(&reply, &msg);
	cr_assert_eq(io_reply_decode(&msg, &reply), -PANGEA_EWIRE);
}

Test(machine_msg, end)
{
	char long_text[MACHINE_SENTENCE_MAX + 20], out[MACHINE_SENTENCE_MAX + 1];
	enum exit_code reason;
	struct wire_msg msg;

	end_encode(EXIT_PANIC, "it \033[31mbroke", &msg);
	cr_assert_eq(end_decode(&msg, "it \033[31mbroke", &reason, out), 0);
	cr_assert_eq(reason, EXIT_PANIC);
	cr_assert_str_eq(out, "it ?[31mbroke", "no control characters for a terminal");
	memset(long_text, 'x', sizeof(long_text));
	long_text[sizeof(long_text) - 1] = '\0';
	end_encode(EXIT_OK, long_text, &msg);
	cr_assert_eq(msg.payload_len, MACHINE_SENTENCE_MAX);
	cr_assert_eq(end_decode(&msg, long_text, &reason, out), 0);
	msg.payload_len++;
	cr_assert_eq(end_decode(&msg, long_text, &reason, out), -PANGEA_EWIRELEN);
	end_encode(EXIT_OK, "", &msg);
	msg.arg = 99;
	cr_assert_eq(end_decode(&msg, "", &reason, out), -PANGEA_EWIRE);
}
