/* SPDX-License-Identifier: Apache-2.0 */
/* What a slice shows of a pair's key without saying it: the proof over both hellos, and TLS's key. */
#ifndef TRANSPORT_PROOF_H
#define TRANSPORT_PROOF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/pair_keys.h"

#define PROOF_SIZE PAIR_KEY_SIZE

/* Who proves, and over what the connection goes: neither's proof serves for another. */
enum prover {
	PROVER_CALLER_TCP,
	PROVER_CALLEE_TCP,
	PROVER_CALLER_LOCAL,
	PROVER_CALLEE_LOCAL
};

/*
 * HMAC-SHA256 by the pair's key over a word for the prover and both hellos as they were sent,
 * WIRE_HELLO_SIZE bytes each, the caller's first. Each hello has its sender's nonce, so a proof is of
 * no use on another connection. PROOF_SIZE bytes to out.
 */
void proof_make(const uint8_t key[PAIR_KEY_SIZE], enum prover prover, const uint8_t *caller_hello,
		const uint8_t *callee_hello, uint8_t out[PROOF_SIZE]);
/* Is this the proof? Takes as long for every wrong one. */
bool proof_right(const uint8_t key[PAIR_KEY_SIZE], enum prover prover, const uint8_t *caller_hello,
		 const uint8_t *callee_hello, const uint8_t proof[PROOF_SIZE]);
/* The key that TLS is given: another than that of proofs, so that neither helps with the other. */
void proof_tls_key(const uint8_t key[PAIR_KEY_SIZE], uint8_t out[PAIR_KEY_SIZE]);

#endif
