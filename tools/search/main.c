/* SPDX-License-Identifier: Apache-2.0 */
/* pangea-search: every interleaving of a few slices that run the coherence protocol's core. */
#include <sys/resource.h>

#include "base/clock.h"
#include "tools/search/tool.h"

/* A search that takes longer says how far it is, so often. */
#define PROGRESS_NS (10 * NS_PER_S)

struct watch {
	uint64_t start_ns, told_ns;
	uint32_t told_states;
};

static void progress_print(void *arg, const struct search_progress *progress)
{
	struct watch *watch = arg;
	uint64_t now_ns = clock_now_ns(), elapsed_ns = now_ns - watch->told_ns;
	if (elapsed_ns < PROGRESS_NS)
		return;
	fprintf(stderr,
		"pangea-search: %.0f s: %u states, %u of them not expanded yet, %u events deep, "
		"%.0f states/s\n",
		(double)(now_ns - watch->start_ns) / 1e9, progress->states,
		progress->states - progress->expanded, progress->depth,
		(double)(progress->states - watch->told_states) * 1e9 / (double)elapsed_ns);
	watch->told_ns = now_ns;
	watch->told_states = progress->states;
}

static struct tool_cost cost_of(uint64_t start_ns)
{
	struct rusage usage;
	struct tool_cost cost = {.seconds = (double)(clock_now_ns() - start_ns) / 1e9};
	if (!getrusage(RUSAGE_SELF, &usage))
		cost.memory_mib = (double)usage.ru_maxrss / 1024;
	return cost;
}

int main(int argc, char **argv)
{
	static struct search_result result;
	struct tool_options options;
	int code = tool_options_read(argc, argv, &options);
	if (code >= 0)
		return code;
	struct watch watch = {.start_ns = clock_now_ns()};
	watch.told_ns = watch.start_ns;
	options.search.progress = progress_print;
	options.search.progress_arg = &watch;
	struct search *s = search_new(&options.search);
	if (!s || !search_run(s, &result)) {
		fputs("pangea-search: no memory\n", stderr);
		search_free(s);
		return TOOL_MEMORY;
	}
	struct tool_cost cost = cost_of(watch.start_ns);
	report_print(&options, s, &result, &cost);
	search_free(s);
	return report_exit(&options, &result);
}
