/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded log of each VM's console, in the coordinator's state directory. */
#ifndef COORDINATOR_VM_LOG_H
#define COORDINATOR_VM_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "coordinator/state_dir.h"

/* What is kept of a console: between half of it and all. */
#define VM_LOG_BYTES_MAX (2u << 20)
/* The most that one call reads. */
#define VM_LOG_PIECE (128u << 10)

/* Of all: vm is a valid name, dir the state directory. One thread. Errors are -errno. */

/*
 * Adds output that begins at this offset of the console of this incarnation. What the log has already is left out; where
 * some is missing there is a mark. After an error (a full disk) the log is as it was, and the next call marks the gap.
 */
int vm_log_add(const char *dir, const char *vm, const char *incarnation, uint64_t offset,
	       const void *data, size_t len);
struct vm_log_piece {
	uint64_t offset; /* of the piece, in the log */
	uint64_t lost;	 /* bytes before it that were asked for and are not there any more */
	uint64_t end;	 /* of the log */
	size_t len;
};
/* What the log has from this offset on, at most VM_LOG_PIECE bytes; of a VM without a log nothing. */
int vm_log_read(const char *dir, const char *vm, uint64_t offset, uint8_t data[VM_LOG_PIECE],
		struct vm_log_piece *piece);
void vm_log_remove(const char *dir, const char *vm);
/* Removes the logs of VMs for which keeps says no. */
void vm_log_sweep(const char *dir, state_dir_keeps *keeps, void *arg);

#endif
