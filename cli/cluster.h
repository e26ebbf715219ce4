/* SPDX-License-Identifier: Apache-2.0 */
/* What a loopback cluster leaves in its state directory, and how it is stopped. */
#ifndef CLI_CLUSTER_H
#define CLI_CLUSTER_H

#include "cli/cli.h"

/* More daemons than slices a VM can have are of no use. */
#define CLUSTER_NODES_MAX SLICES_MAX

/* Holds off other `cluster` commands until the descriptor is closed; negative after a sentence. */
int cluster_lock(const char *dir);
/* Makes the cluster's certificates: an authority, and one for each member and for us. 0 or an exit code,
 * having said why. */
int cluster_certificates(const char *dir, unsigned nodes);
/* The directory of a daemon's: DIR/pki/NAME. */
void cluster_pki_path(const char *dir, const char *name, char out[STATE_PATH_MAX + 64]);
/* Removes them. */
void cluster_pki_clean(const char *dir);
bool cluster_running(const char *dir);
/* Ends all processes (TERM, after a deadline KILL) and removes the files and the directory. Returns
 * how many ended, or -ETIMEDOUT if one is still there. */
int cluster_stop(const char *dir);
/* Removes the files but not the directory. */
void cluster_clean(const char *dir);

#endif
