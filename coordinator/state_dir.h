/* SPDX-License-Identifier: Apache-2.0 */
/* The coordinator's state directory: a file for each record, whole or not there at all. */
#ifndef COORDINATOR_STATE_DIR_H
#define COORDINATOR_STATE_DIR_H

#include <jansson.h>

/*
 * Makes the directory if it is not there, and keeps other coordinators out until the process ends.
 * 0 or -errno, among them -EPERM (it is not this user's alone) and -EBUSY (another one has it).
 */
int state_dir_open(const char *dir);
/* kind is a short word, which the file's name begins with. On disk when it returns. 0 or -errno. */
int state_dir_keep(const char *dir, const char *kind, const char *vm, const json_t *record);
void state_dir_drop(const char *dir, const char *kind, const char *vm);
/* Calls fn for each record of the kind; a file that is none is logged and left alone. 0 or -errno. */
typedef void state_dir_fn(void *arg, const json_t *record);
int state_dir_load(const char *dir, const char *kind, state_dir_fn *fn, void *arg);
/* Has the files of each VM removed for which keeps says no: those whose names are PREFIX, the VM's name, a dot and more. */
typedef int state_dir_keeps(void *arg, const char *vm);
typedef void state_dir_remove(const char *dir, const char *vm);
void state_dir_sweep(const char *dir, const char *prefix, state_dir_keeps *keeps,
		     state_dir_remove *remove, void *arg);
/* What was renamed in it is on disk when it returns. 0 or -errno. */
int state_dir_sync(const char *dir);

#endif
