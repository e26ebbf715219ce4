/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels, initrds and seeds of detached VMs, in the coordinator's state directory: whole files, or none. */
#ifndef COORDINATOR_VM_FILES_H
#define COORDINATOR_VM_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "coordinator/state_dir.h"

/* Of all: vm is a valid name, file "kernel", "initrd" or "seed". One thread. Errors are -errno. */

/* A piece of a file that is not whole yet. */
int vm_files_store(const char *dir, const char *vm, const char *file, uint64_t offset,
		   const void *data, size_t len);
/* All pieces were stored: on disk, whole, when it returns. */
int vm_files_seal(const char *dir, const char *vm);
/* To be read; -ENOENT: there is none (a VM may have no initrd, and no seed). */
int vm_files_open(const char *dir, const char *vm, const char *file);
/* Whole or not; what is not there is no error. */
void vm_files_remove(const char *dir, const char *vm);
/* Removes what is of VMs for which keeps says no. */
void vm_files_sweep(const char *dir, state_dir_keeps *keeps, void *arg);

#endif
