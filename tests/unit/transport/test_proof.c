/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of pairs and proofs of them: who can make which, and that none serves twice or for another. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/unit/transport/transport_rig.h"

static const uint8_t secret[PAIR_SECRET_SIZE] = "a secret of thirty-two bytes ...";

static void keys(unsigned self, uint64_t vm, uint32_t epoch, struct pair_keys *out)
{
	pair_keys_derive(secret, vm, epoch, self, 4, out);
}

Test(pair_keys, both_slices_of_a_pair_get_the_same_key_and_nobody_else_does)
{
	static const uint8_t zero[PAIR_KEY_SIZE];
	struct pair_keys of[4];

	for (unsigned i = 0; i < 4; i++) {
		keys(i, 99, 1, &of[i]);
		cr_assert_eq(memcmp(of[i].key[i], zero, sizeof(zero)), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		for (unsigned j = i + 1; j < 4; j++) {
			cr_assert(pair_equal(of[i].key[j], of[j].key[i]));
			cr_assert_not(pair_equal(of[i].key[j], zero));
			for (unsigned k = 0; k < 4; k++)
				for (unsigned l = 0; l < 4; l++)
					if (!((k == i && l == j) || (k == j && l == i)))
						cr_assert_not(
							pair_equal(of[i].key[j], of[k].key[l]));
		}
}

Test(pair_keys, another_vm_or_epoch_has_other_keys)
{
	struct pair_keys a, b, c;

	keys(0, 99, 1, &a);
	keys(0, 100, 1, &b);
	keys(0, 99, 2, &c);
	cr_assert_not(pair_equal(a.key[1], b.key[1]));
	cr_assert_not(pair_equal(a.key[1], c.key[1]));
}

/* A value that Python's hmac module computed. */
Test(pair_keys, the_derivation_is_the_one_that_is_written_down)
{
	static const uint8_t expected[PAIR_KEY_SIZE] = {
		0x6c, 0xad, 0x89, 0x4a, 0x80, 0xf4, 0xa4, 0x70, 0x55, 0x79, 0x85,
		0xe0, 0xcb, 0x78, 0xc6, 0x9c, 0x18, 0xfd, 0x93, 0x94, 0x1b, 0x58,
		0xfb, 0x60, 0x08, 0x79, 0xea, 0xa7, 0xae, 0xbf, 0x87, 0x61};
	struct pair_keys of;

	pair_keys_derive(secret, UINT64_C(0x1122334455667788), 3, 2, 4, &of);
	cr_assert(pair_equal(of.key[1], expected));
}

Test(proof, is_good_for_one_prover_and_one_connection)
{
	uint8_t key[PAIR_KEY_SIZE] = {1}, other[PAIR_KEY_SIZE] = {2};
	uint8_t a[WIRE_HELLO_SIZE] = {3}, b[WIRE_HELLO_SIZE] = {4}, proof[PROOF_SIZE];

	proof_make(key, PROVER_CALLER_TCP, a, b, proof);
	cr_assert(proof_right(key, PROVER_CALLER_TCP, a, b, proof));
	cr_assert_not(proof_right(other, PROVER_CALLER_TCP, a, b, proof));
	cr_assert_not(proof_right(key, PROVER_CALLEE_TCP, a, b, proof));
	cr_assert_not(proof_right(key, PROVER_CALLER_LOCAL, a, b, proof));
	cr_assert_not(proof_right(key, PROVER_CALLER_TCP, b, a, proof));
	for (unsigned i = 0; i < PROOF_SIZE; i++) {
		proof[i] ^= 0x80;
		cr_assert_not(proof_right(key, PROVER_CALLER_TCP, a, b, proof));
		proof[i] ^= 0x80;
	}
	for (unsigned i = 0; i < WIRE_HELLO_SIZE; i++) {
		a[i] ^= 1;
		cr_assert_not(proof_right(key, PROVER_CALLER_TCP, a, b, proof));
		a[i] ^= 1;
	}
}

/* --- On connections without TLS. --- */

static void assert_says(const char *why, const char *part)
{
	cr_assert(strstr(why, part), "\"%s\" does not say \"%s\"", why, part);
}

static void callee_rig(struct rig *rig)
{
	rig_init(rig, 2, RIG_TCP);
	rig->timeout_ms = 500;
	rig_create(rig, 0, NULL);
	rig_connect(rig, 0);
}

/* Slice 0 refuses this proof of slice 1, and awaits it further. */
static void proof_is_refused(struct rig *rig, int fd, const uint8_t proof[PROOF_SIZE])
{
	static const uint8_t nothing[PROOF_SIZE];
	uint8_t answer[PROOF_SIZE];

	raw_write(fd, proof, PROOF_SIZE);
	raw_await(rig, fd, sizeof(answer));
	raw_read(fd, answer, sizeof(answer));
	cr_assert_eq(memcmp(answer, nothing, sizeof(nothing)), 0, "a proof for a stranger");
	cr_assert_eq(recv(fd, answer, 1, 0), 0);
	close(fd);
	cr_assert_eq(rig->slice[0].ups + rig->slice[0].lost[1], 0);
	cr_assert_eq(rig->slice[0].transport->ops->stats(rig->slice[0].transport)->refused, 1);
	cr_assert(rig_until(rig, &rig->slice[0].lost[1], 1));
	assert_says(rig->slice[0].lost_why[1], "does not have its key");
	rig_destroy(rig);
}

/* Says slice 1's hello; *ours and *theirs are what went each way. */
static int hello_say(struct rig *rig, uint8_t ours[WIRE_HELLO_SIZE],
		     uint8_t theirs[WIRE_HELLO_SIZE])
{
	struct wire_hello hello = rig_hello(rig, 1);
	int fd = raw_connect(rig->slice[0].port);

	wire_hello_encode(&hello, ours);
	raw_write(fd, ours, WIRE_HELLO_SIZE);
	raw_await(rig, fd, WIRE_HELLO_SIZE);
	raw_read(fd, theirs, WIRE_HELLO_SIZE);
	return fd;
}

Test(proof, a_wrong_key_is_refused)
{
	uint8_t ours[WIRE_HELLO_SIZE], theirs[WIRE_HELLO_SIZE], proof[PROOF_SIZE];
	uint8_t key[PAIR_KEY_SIZE];
	struct rig rig;
	int fd;

	callee_rig(&rig);
	fd = hello_say(&rig, ours, theirs);
	rig_key(&rig, 2, 0, key); /* another slice's with the same callee */
	proof_make(key, PROVER_CALLER_TCP, ours, theirs, proof);
	proof_is_refused(&rig, fd, proof);
}

Test(proof, one_that_was_recorded_is_refused)
{
	uint8_t ours[WIRE_HELLO_SIZE], theirs[WIRE_HELLO_SIZE], then[WIRE_HELLO_SIZE];
	uint8_t key[PAIR_KEY_SIZE], proof[PROOF_SIZE];
	struct rig rig;
	int fd;

	callee_rig(&rig);
	fd = hello_say(&rig, ours, then);
	rig_key(&rig, 1, 0, key);
	proof_make(key, PROVER_CALLER_TCP, ours, then, proof); /* right, there and then */
	close(fd);
	rig_run_ms(&rig, 5);
	fd = hello_say(&rig, ours, theirs);
	cr_assert_neq(memcmp(then, theirs, sizeof(then)), 0, "a nonce came twice");
	proof_is_refused(&rig, fd, proof);
}

/* Its own hello and proof come back to a caller: it does not take them for the other side's. */
Test(proof, an_echo_is_not_believed)
{
	uint8_t theirs[WIRE_HELLO_SIZE], proof[PROOF_SIZE];
	struct wire_hello hello;
	struct rig rig;
	int listener, fd;

	rig_init(&rig, 2, RIG_TCP);
	listener = raw_listen(&rig.slice[0].port);
	rig_create(&rig, 1, NULL);
	rig_connect(&rig, 1);
	fd = accept(listener, NULL, NULL);
	raw_await(&rig, fd, sizeof(theirs));
	raw_read(fd, theirs, sizeof(theirs));
	cr_assert_eq(wire_hello_decode(theirs, sizeof(theirs), &hello), 0);
	hello.slice = 0; /* all else the same, the nonce too */
	raw_hello(fd, &hello);
	raw_await(&rig, fd, sizeof(proof));
	raw_read(fd, proof, sizeof(proof));
	raw_write(fd, proof, sizeof(proof));
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert_eq(rig.slice[1].lost_err[0], -PANGEA_EPEERVM);
	assert_says(rig.slice[1].lost_why[0], "does not have the key");
	cr_assert_eq(rig.slice[1].ups, 0);
	close(fd);
	close(listener);
	rig_destroy(&rig);
}

/* The other side's proof, before a caller has proved anything: it is never said. */
Test(proof, nothing_but_a_hello_is_said_to_who_has_proved_nothing)
{
	uint8_t ours[WIRE_HELLO_SIZE], theirs[WIRE_HELLO_SIZE], more;
	struct rig rig;
	int fd;

	callee_rig(&rig);
	fd = hello_say(&rig, ours, theirs);
	rig_run_ms(&rig, 50);
	cr_assert_eq(recv(fd, &more, 1, MSG_DONTWAIT), -1);
	cr_assert_eq(errno, EAGAIN);
	close(fd);
	rig_destroy(&rig);
}

Test(proof, slices_of_different_secrets_do_not_meet_in_shared_memory_either)
{
	struct rig rig;

	rig_init(&rig, 2, RIG_SHM);
	rig.timeout_ms = 500;
	rig_create(&rig, 0, NULL);
	rig.secret[31] ^= 1;
	rig_create(&rig, 1, NULL);
	rig_connect(&rig, 0);
	rig_connect(&rig, 1);
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert_eq(rig.slice[1].lost_err[0], -PANGEA_EPEERVM);
	cr_assert(rig_until(&rig, &rig.slice[0].lost[1], 1));
	assert_says(rig.slice[0].lost_why[1], "does not have its key");
	cr_assert_eq(rig.slice[0].ups + rig.slice[1].ups, 0);
	rig_destroy(&rig);
}
