/* SPDX-License-Identifier: Apache-2.0 */
/* What AES, SHA and carry-less multiplication compute, in C. a is the destination, b the source operand of
 * the instruction of that name (SDM 2A, 2B). Any thread. */
#ifndef VMM_SOFT_SOFT_CRYPTO_H
#define VMM_SOFT_SOFT_CRYPTO_H

#include <emmintrin.h>
#include <stdint.h>

__m128i crypto_aesenc(__m128i a, __m128i b);
__m128i crypto_aesenclast(__m128i a, __m128i b);
__m128i crypto_aesdec(__m128i a, __m128i b);
__m128i crypto_aesdeclast(__m128i a, __m128i b);
__m128i crypto_aesimc(__m128i b);
/* AESKEYGENASSIST with an immediate of 0. */
__m128i crypto_aeskeygen(__m128i b);

__m128i crypto_clmul(uint64_t a, uint64_t b);

/* kind: bits 1:0 of the immediate. */
__m128i crypto_sha1rnds4(__m128i state, __m128i message, unsigned kind);
__m128i crypto_sha1nexte(__m128i a, __m128i b);
__m128i crypto_sha1msg1(__m128i a, __m128i b);
__m128i crypto_sha1msg2(__m128i a, __m128i b);
/* message: XMM0. */
__m128i crypto_sha256rnds2(__m128i cdgh, __m128i abef, __m128i message);
__m128i crypto_sha256msg1(__m128i a, __m128i b);
__m128i crypto_sha256msg2(__m128i a, __m128i b);

#endif
