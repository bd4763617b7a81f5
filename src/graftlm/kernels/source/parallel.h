/* What every kernel of this library stands on: threads and errors.
 *
 * The library knows neither torch nor Python. When it is loaded, Python hands in a function of the runtime that
 * torch itself uses (graft_install), so that there is one pool of threads in the process. Memory belongs to the
 * caller; shapes, types and strides are checked in Python.
 */
#ifndef GRAFT_PARALLEL_H
#define GRAFT_PARALLEL_H

#include <stdint.h>

#define GRAFT_EXPORT __attribute__((visibility("default")))

/* What a kernel returns. */
enum { GRAFT_DONE = 0, GRAFT_OUT_OF_MEMORY = 1 };

typedef void (*graft_body)(void *data, int64_t begin, int64_t end);

/* Calls body(data, begin, end) for the chunks of [0, count): each begins at a multiple of grain and has
 * grain items, the last one fewer. Which thread takes a chunk is left to chance, which chunks there are is
 * not. So results that depend on the chunk alone (one writer for each output; partial sums stored at
 * begin / grain and added in order afterwards) are the same for every number of threads.
 * Not to be called from within a body. */
void graft_parallel_for(int64_t count, int64_t grain, graft_body body, void *data);

/* The most threads that the next graft_parallel_for of the calling thread uses, at least 1. */
int graft_threads(void);

/* Inside a body: the number of the thread, in [0, graft_threads()), to choose a scratch buffer by. */
int graft_thread_number(void);

#endif
