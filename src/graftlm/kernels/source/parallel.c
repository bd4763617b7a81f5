/* Threads from the OpenMP runtime of torch, matrix products from its BLAS. */
#include "parallel.h"

#include <stdatomic.h>
#include <stddef.h>

typedef void (*gomp_parallel)(void (*body)(void *), void *data, unsigned threads, unsigned flags);
typedef void (*fortran_sgemm)(const char *transpose_a, const char *transpose_b, const int *m, const int *n,
                              const int *k, const float *alpha, const float *a, const int *lda, const float *b,
                              const int *ldb, const float *beta, float *c, const int *ldc);
typedef int (*blas_threads_setter)(int threads);

/* Written once, before any kernel runs. */
static gomp_parallel open_team = NULL;
static fortran_sgemm sgemm = NULL;
static blas_threads_setter set_blas_threads = NULL;

/* Of the calling thread, so that two threads of Python never change each other's setting. */
static _Thread_local int threads_wanted = 1;
static _Thread_local int thread_number = 0;

/* team: GOMP_parallel, or NULL for one thread. multiply: sgemm_. blas_threads: MKL_Set_Num_Threads_Local, or
 * NULL where the BLAS has none. */
GRAFT_EXPORT void graft_install(gomp_parallel team, fortran_sgemm multiply, blas_threads_setter blas_threads) {
    open_team = team;
    sgemm = multiply;
    set_blas_threads = blas_threads;
}

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
    /* Inside a team the BLAS stays on one thread by itself; a team of one is no team to it. */
    const int blas_threads = set_blas_threads != NULL ? set_blas_threads(1) : 0;
    for (;;) {
        const int64_t chunk = atomic_fetch_add(&region->next_chunk, 1);
        if (chunk >= chunks) break;
        const int64_t begin = chunk * region->grain;
        const int64_t end = region->count - begin < region->grain ? region->count : begin + region->grain;
        region->body(region->data, begin, end);
    }
    if (set_blas_threads != NULL) set_blas_threads(blas_threads);
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

void graft_multiply(int transpose_a, int transpose_b, int64_t rows, int64_t columns, int64_t inner, float factor,
                    const float *a, int64_t a_stride, const float *b, int64_t b_stride, float keep, float *c,
                    int64_t c_stride) {
    /* A row-major matrix is the column-major transpose: C' = op(B)' op(A)'. */
    const int m = (int)columns, n = (int)rows, k = (int)inner;
    const int lda = (int)b_stride, ldb = (int)a_stride, ldc = (int)c_stride;
    sgemm(transpose_b ? "T" : "N", transpose_a ? "T" : "N", &m, &n, &k, &factor, b, &lda, a, &ldb, &keep, c, &ldc);
}
