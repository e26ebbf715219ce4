/* SPDX-License-Identifier: Apache-2.0 */
/* pangea-tso: do threads on several slices see the memory that x86-TSO promises? */
#include "tools/tso/tool.h"

int main(int argc, char **argv)
{
	struct tso_options options;
	int code = options_read(argc, argv, &options);

	return code >= 0 ? code : run_all(&options);
}
