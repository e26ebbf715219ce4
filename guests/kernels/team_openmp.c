/* SPDX-License-Identifier: Apache-2.0 */
/* The same team by OpenMP, with the threads and barriers of the compiler's library (libgomp). */
#include <stdio.h>
#include <stdlib.h>

#include "kernels.h"

#ifdef _OPENMP

#include <omp.h>

void *__wrap_dlopen(const char *file, int mode);

/* libgomp would load what drives accelerators. A static program has none of it, and the linker, which
 * warns of it, calls this instead (--wrap). */
void *__wrap_dlopen(const char *file, int mode)
{
	(void)file, (void)mode;
	return NULL;
}

bool team_openmp_built(void)
{
	return true;
}

void team_openmp_cpus(cpu_set_t *cpus)
{
	for (int place = 0; place < omp_get_num_places(); place++) {
		int ids[CPU_SETSIZE], count = omp_get_place_num_procs(place);

		if (count > CPU_SETSIZE)
			continue;
		omp_get_place_proc_ids(place, ids);
		for (int i = 0; i < count; i++)
			CPU_SET((unsigned)ids[i], cpus);
	}
}

void team_openmp_run(unsigned threads, void (*work)(void *arg, unsigned self), void *arg)
{
	omp_set_dynamic(0);
#pragma omp parallel num_threads(threads)
	{
		if ((unsigned)omp_get_num_threads() != threads) {
			fprintf(stderr, "pangea-kernels: OpenMP gives %d threads, not %u\n",
				omp_get_num_threads(), threads);
			exit(1);
		}
		work(arg, (unsigned)omp_get_thread_num());
	}
}

void team_openmp_wait(void)
{
#pragma omp barrier
}

#else

bool team_openmp_built(void)
{
	return false;
}

void team_openmp_cpus(cpu_set_t *cpus)
{
	(void)cpus;
}

void team_openmp_run(unsigned threads, void (*work)(void *arg, unsigned self), void *arg)
{
	(void)threads, (void)work, (void)arg;
	abort(); /* main.c refuses --openmp */
}

void team_openmp_wait(void)
{
	abort();
}

#endif
