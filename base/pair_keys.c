/* SPDX-License-Identifier: Apache-2.0 */
/* Derives the keys of pairs of slices, and proves with them, by OpenSSL's HMAC. */
#include "base/pair_keys.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <string.h>

#include "base/log.h"

void pair_hmac(const uint8_t key[PAIR_KEY_SIZE], const struct pair_part *parts, unsigned count,
	       uint8_t out[PAIR_KEY_SIZE])
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", digest, 0),
			       OSSL_PARAM_construct_end()};
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;
	size_t len = 0;

	/* It cannot fail but for want of memory: there is no going on with half a proof. */
	invariant(ctx && EVP_MAC_init(ctx, key, PAIR_KEY_SIZE, params) == 1);
	for (unsigned i = 0; i < count; i++)
		invariant(EVP_MAC_update(ctx, parts[i].bytes, parts[i].len) == 1);
	invariant(EVP_MAC_final(ctx, out, &len, PAIR_KEY_SIZE) == 1 && len == PAIR_KEY_SIZE);
	EVP_MAC_CTX_free(ctx);
	EVP_MAC_free(mac);
}

static void put(uint8_t *at, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

void pair_keys_derive(const uint8_t secret[PAIR_SECRET_SIZE], uint64_t vm, uint32_t epoch,
		      unsigned self, unsigned slices, struct pair_keys *out)
{
	static const char label[] = "pangea pair";
	uint8_t numbers[16];
	const struct pair_part parts[2] = {{label, sizeof(label) - 1}, {numbers, sizeof(numbers)}};

	invariant(slices <= SLICES_MAX && self < slices);
	memset(out, 0, sizeof(*out));
	put(numbers, vm, 8);
	put(numbers + 8, epoch, 4);
	for (unsigned i = 0; i < slices; i++) {
		if (i == self)
			continue;
		put(numbers + 12, i < self ? i : self, 2);
		put(numbers + 14, i < self ? self : i, 2);
		pair_hmac(secret, parts, 2, out->key[i]);
	}
}

int pair_equal(const uint8_t a[PAIR_KEY_SIZE], const uint8_t b[PAIR_KEY_SIZE])
{
	return CRYPTO_memcmp(a, b, PAIR_KEY_SIZE) == 0;
}

void pair_wipe(void *bytes, size_t len)
{
	OPENSSL_cleanse(bytes, len);
}
