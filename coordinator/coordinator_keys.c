/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of a VM's data connections: a row for each slice, made of a secret that nobody is given. */
#include "base/log.h"
#include "base/pair_keys.h"
#include "coordinator/coordinator_internal.h"

static json_t *key_json(const uint8_t key[PAIR_KEY_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	char text[2 * PAIR_KEY_SIZE + 1] = "";
	json_t *json;

	for (unsigned i = 0; i < PAIR_KEY_SIZE; i++) {
		text[2 * i] = digits[key[i] >> 4];
		text[2 * i + 1] = digits[key[i] & 15];
	}
	json = json_string(text);
	pair_wipe(text, sizeof(text));
	return json;
}

json_t *vm_keys_json(const struct vm *vm, unsigned self)
{
	struct pair_keys keys;
	json_t *list = json_array();

	pair_keys_derive(vm->secret, vm->incarnation, VM_EPOCH, self, vm->slices, &keys);
	for (unsigned i = 0; i < vm->slices; i++)
		invariant(json_array_append_new(list, i == self ? json_string("")
								: key_json(keys.key[i])) == 0);
	pair_wipe(&keys, sizeof(keys));
	return list;
}
