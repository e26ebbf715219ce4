/* SPDX-License-Identifier: Apache-2.0 */
/* Proofs that a slice has a pair's key: made and checked. No I/O. */
#include "transport/proof.h"

#include <string.h>

#include "transport/wire.h"

void proof_make(const uint8_t key[PAIR_KEY_SIZE], enum prover prover, const uint8_t *caller_hello,
		const uint8_t *callee_hello, uint8_t out[PROOF_SIZE])
{
	static const char *const words[] = {[PROVER_CALLER_TCP] = "pangea proof: caller, tcp\n",
					    [PROVER_CALLEE_TCP] = "pangea proof: callee, tcp\n",
					    [PROVER_CALLER_LOCAL] = "pangea proof: caller, local\n",
					    [PROVER_CALLEE_LOCAL] =
						    "pangea proof: callee, local\n"};
	const struct pair_part parts[] = {{words[prover], strlen(words[prover])},
					  {caller_hello, WIRE_HELLO_SIZE},
					  {callee_hello, WIRE_HELLO_SIZE}};

	pair_hmac(key, parts, 3, out);
}

bool proof_right(const uint8_t key[PAIR_KEY_SIZE], enum prover prover, const uint8_t *caller_hello,
		 const uint8_t *callee_hello, const uint8_t proof[PROOF_SIZE])
{
	uint8_t right[PROOF_SIZE];

	proof_make(key, prover, caller_hello, callee_hello, right);
	return pair_equal(right, proof);
}

void proof_tls_key(const uint8_t key[PAIR_KEY_SIZE], uint8_t out[PAIR_KEY_SIZE])
{
	static const char word[] = "pangea key: tls 1.3 psk\n";
	const struct pair_part part = {word, sizeof(word) - 1};

	pair_hmac(key, &part, 1, out);
}
