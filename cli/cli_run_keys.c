/* SPDX-License-Identifier: Apache-2.0 */
/* What there is to say of some options of `pangea run` when they are keys of a file. */
#include <stddef.h>
#include <string.h>

#include "cli/run_file.h"

const struct run_file_key run_file_keys[] = {
	{.name = "kernel", .path = true},
	{.name = "initrd", .path = true},
	{.name = "console-log", .path = true},
	{.name = "stats-json", .path = true},
	{.name = "state-dir", .path = true},
	{.name = "pki", .path = true},
	{.name = "token-file", .path = true},
	{.name = "cloud-init", .path = true},
	{.name = "ssh-key", .path = true},
	{.name = "disk", .list = true, .head = "file", .head_path = true},
	{.name = "net", .list = true, .head = "type"},
	{.name = "fs", .list = true, .head = "dir", .head_path = true},
	{.name = "image", .path = true, .list = true},
	{.name = "slice", .list = true},
	{0},
};

bool run_file_key_is(const char *name)
{
	return strcmp(name, "help") != 0 && strcmp(name, "version") != 0 &&
	       strcmp(name, "check") != 0;
}
