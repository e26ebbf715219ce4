/* SPDX-License-Identifier: Apache-2.0 */
/* pangea-search: every interleaving of a few slices that run the coherence protocol's core. */
#include "tools/search/tool.h"

int main(int argc, char **argv)
{
	static struct search_result result;
	struct tool_options options;
	int code = tool_options_read(argc, argv, &options);
	if (code >= 0)
		return code;
	struct search *s = search_new(&options.search);
	if (!s || !search_run(s, &result)) {
		fputs("pangea-search: no memory\n", stderr);
		search_free(s);
		return TOOL_MEMORY;
	}
	report_print(&options, s, &result);
	search_free(s);
	return report_exit(&options, &result);
}
