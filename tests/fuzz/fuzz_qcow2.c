/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the head of a qcow2 image, which a guest may have written. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "node/node_devices.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qcow2_head head;
	uint8_t *copy;

	if (size > QCOW2_HEAD_BYTES)
		return 0;
	/* So that a byte beyond is seen. */
	copy = malloc(size ? size : 1);
	invariant(copy != NULL);
	memcpy(copy, data, size);
	if (qcow2_head_parse(copy, size, &head) == 0 && head.qcow2) {
		invariant(size >= 72);
		invariant(strnlen(head.driver, sizeof(head.driver)) < sizeof(head.driver));
		invariant(!head.backing_offset ||
			  (head.backing_bytes >= 1 && head.backing_bytes <= QCOW2_BACKING_MAX));
	}
	free(copy);
	return 0;
}
