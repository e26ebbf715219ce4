/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `pangea check` share. */
#ifndef CLI_CHECK_H
#define CLI_CHECK_H

#include "cli/cli.h"
#include "host/host.h"

/* The item of the certificates in this directory (null: the usual one). */
void check_certificates(const char *given, struct host_item *item);

#endif
