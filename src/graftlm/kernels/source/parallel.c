/* Threads from the OpenMP runtime of torch. */
#include "parallel.h"

#include <stdatomic.h>
#include <stddef.h>

typedef void (*gomp_parallel)(void (*body)(void *), void *data, unsigned threads, unsigned flags);

/* Written once, before any kernel runs. */
static gomp_parallel open_team = NULL;

/* Of the calling thread, so that two threads of Python never change each other's setting. */
static _Thread_local int threads_wanted = 1;
static _Thread_local int thread_number = 0;

/* team: GOMP_parallel, or NULL for one thread. */
GRAFT_EXPORT void graft_install(gomp_parallel team) { open_team = team; }

/* The fingerprint of the sources that this file was built from, to tell a stale build. */
GRAFT_EXPORT const char *graft_fingerprint(void) { return GRAFT_FINGERPRINT; }

GRAFT_EXPORT void graft_set_threads(int threads) { threads_wanted = threads > 1 ? threads : 1; }

int graft_threads(void) { return open_team == NULL ? 1 : threads_wanted; }

int graft_thread_number(void) { return thread_number; }

struct region {
    graft_body body;
    void *data;
    int64_t count, grain;
    atomic_int_fast64_t next_chunk;
    atomic_int next_thread;
};

static void work(void *argument) {
    struct region *region = argument;
    const int64_t chunks = (region->count + region->grain - 1) / region->grain;
    thread_number = atomic_fetch_add(&region->next_thread, 1);
    for (;;) {
        const int64_t chunk = atomic_fetch_add(&region->next_chunk, 1);
        if (chunk >= chunks) break;
        const int64_t begin = chunk * region->grain;
        const int64_t end = region->count - begin < region->grain ? region->count : begin + region->grain;
        region->body(region->data, begin, end);
    }
}

void graft_parallel_for(int64_t count, int64_t grain, graft_body body, void *data) {
    if (count <= 0) return;
    struct region region = {.body = body, .data = data, .count = count, .grain = grain};
    const int64_t chunks = (count + grain - 1) / grain;
    const int threads = chunks < graft_threads() ? (int)chunks : graft_threads();
    if (threads > 1)
        open_team(work, &region, (unsigned)threads, 0);
    else
        work(&region);
}
