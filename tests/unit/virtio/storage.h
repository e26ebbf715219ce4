/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's storage daemon as a back end, with its files in a folder that goes when it ends. */
#ifndef TESTS_UNIT_VIRTIO_STORAGE_H
#define TESTS_UNIT_VIRTIO_STORAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct storage {
	char folder[64];
	char disk[96]; /* the file that was made by storage_disk */
	pid_t pid;     /* 0: it does not run */
};

/* A folder; skips the test where there is no storage daemon. */
void storage_open(struct storage *s);
/* Kills the daemon, and removes the folder. */
void storage_close(struct storage *s);
/* A raw file of so many bytes, each of which is `fill`. */
void storage_disk(struct storage *s, uint64_t bytes, uint8_t fill);
/* Starts the daemon on a node of these options ("driver=file,filename=..."), and connects. */
int storage_start(struct storage *s, const char *blockdev, bool writable, unsigned queues);
void storage_kill(struct storage *s, int signal);
/* Waits until it has ended. */
void storage_reap(struct storage *s);

#endif
